"""Comparing kept runs: the table of `compare` from the answers in their folders, without fitting anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ReportError
from ..judging.entries import Answer, Described
from ..judging.metrics import Metrics, check_metrics
from ..judging.report import Report
from ..judging.resampling import LEVEL, RESAMPLES
from ..judging.verdicts import check_baseline, judged
from .runs import Run, RunConfig


def compare_runs(
    runs: Mapping[str, Run],
    *,
    baseline: str | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    metrics: Metrics = (),
) -> Report:
    """Set runs that were judged on the same rows side by side.

    Parameters
    ----------
    runs : dict of column title to run
        Their rows may be in any order; the first run's is taken.
    baseline, resamples, level, seed, metrics
        As for `compare`.

    Raises
    ------
    ReportError
        If two runs have another class order, test split, test rows, labels or groups, naming both runs.
    """
    if not runs:
        raise ReportError("there is no run to compare: give at least one")
    check_baseline(baseline, list(runs))
    check_metrics(metrics)
    (first_name, first), *others = runs.items()
    for name, run in others:
        _check_same_test(first_name, first, name, run)
    at = {name: _positions(run.predictions.ids, first.predictions.ids) for name, run in runs.items()}
    return judged(
        {_described(name, run): [_answer(run, at[name])] for name, run in runs.items()},
        _Kept(first.config.classes, first.y_true, first.predictions.ids, first.groups, first.config.test_split),
        baseline=baseline,
        train_supports=first.config.train_supports,
        train_split=first.config.train_split,
        metrics=metrics,
        fingerprints=_fingerprints(runs),
        notes=_notes(runs),
        resamples=resamples,
        level=level,
        seed=seed,
    )


@dataclass(frozen=True)
class _Kept:
    """The rows that kept answers are about, as `judged` asks for them."""

    classes: tuple[str, ...]
    y: NDArray[np.int64]
    names: tuple[str, ...]
    clusters: tuple[str, ...] | None
    split: str


def _described(title: str, run: Run) -> Described:
    return Described(
        title=title,
        kind="single" if len(run.config.features) == 1 else "head",
        blocks=tuple(block for block, _ in run.config.blocks),
        head_name=run.config.estimator,
        params=run.config.params,
    )


def _check_same_test(first_name: str, first: Run, name: str, run: Run) -> None:
    both = f"{first_name} and {name}"
    if run.config.classes != first.config.classes:
        raise ReportError(
            f"{both} have different classes or another class order, however: {', '.join(first.config.classes)} "
            f"and {', '.join(run.config.classes)}\n  compare runs of one class set"
        )
    if run.config.test_split != first.config.test_split:
        raise ReportError(
            f"{both} were judged on different splits: {first.config.test_split!r} and {run.config.test_split!r}\n"
            "  train one of them again with the other's --test-split"
        )
    mine, its = set(first.predictions.ids), set(run.predictions.ids)
    if mine != its:
        raise ReportError(
            f"{both} were judged on different samples: {_some(mine - its)} only in {first_name}, "
            f"{_some(its - mine)} only in {name}\n  train them on the same manifest, with the same --missing"
        )
    at = _positions(run.predictions.ids, first.predictions.ids)
    moved = [first.predictions.ids[i] for i in np.flatnonzero(run.y_true[at] != first.y_true)]
    if moved:
        raise ReportError(f"{both} know different labels of {_some(moved)}\n  train the older one again")
    if _partition(run, at) != _partition(first, np.arange(len(at))):
        raise ReportError(f"{both} know different groups of the same samples\n  train the older one again")


def _partition(run: Run, at: NDArray[np.int64]) -> list[str] | None:
    """The groups in the first run's order; a row without a group is alone, whatever its place in the file was."""
    return None if run.groups is None else ["" if run.groups[i].startswith("\0") else run.groups[i] for i in at]


def _positions(ids: Sequence[str], wanted: Sequence[str]) -> NDArray[np.int64]:
    position = {name: i for i, name in enumerate(ids)}
    return np.array([position[name] for name in wanted], dtype=np.int64)


def _some(ids: set[str] | list[str]) -> str:
    names = sorted(ids)
    return f"{len(names)} ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})" if names else "none"


def _answer(run: Run, at: NDArray[np.int64]) -> Answer:
    return Answer(proba=run.predictions.proba[at], head=None, fit_s=run.fit_s, predict_s=run.predict_s)


def _fingerprints(runs: Mapping[str, Run]) -> dict[str, str]:
    """Feature -> fingerprint; a feature that two runs know by different fingerprints is named with each."""
    found: dict[str, set[str]] = {}
    for run in runs.values():
        for feature, fingerprint in run.config.fingerprints.items():
            found.setdefault(feature, set()).add(fingerprint)
    return {
        feature if len(prints) == 1 else f"{feature}@{fingerprint[:12]}": fingerprint
        for feature, prints in found.items()
        for fingerprint in sorted(prints)
    }


def _learned_beside(config: RunConfig) -> str:
    """Say what it learned from beside labels, or instead of them."""
    targets = () if config.targets is None else (f"targets {' and '.join(config.targets)}, ",)
    return "".join((*(("soft labels, ",) if config.soft_labels else ()), *targets))


def _notes(runs: Mapping[str, Run]) -> tuple[str, ...]:
    notes = [
        f"{name}: {run.config.estimator} on {', '.join(run.config.features)} of {run.config.dataset!r}, "
        f"seed {run.config.seed}, {_learned_beside(run.config)}run {run.digest[:12]}."
        for name, run in runs.items()
    ]
    first_name, first = next(iter(runs.items()))
    other = [
        name
        for name, run in runs.items()
        if (run.config.train_supports, run.config.train_split)
        != (first.config.train_supports, first.config.train_split)
    ]
    if other:
        notes.append(f"{', '.join(other)} learned from other training rows than {first_name}, whose numbers are shown.")
    return tuple(notes)
