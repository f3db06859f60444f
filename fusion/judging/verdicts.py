"""From answers to a report: figures with intervals, tests against a baseline, letters, and what a reader must know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...kit.errors import nearest
from ..errors import ReportError
from ..keeping.answers import Truth
from .entries import Answer, Entry
from .metrics import METRICS, Metrics, metric_name, scores
from .report import Column, Figure, Report, Versus, run_of
from .resampling import Bootstrap, accuracy_interval, bootstrap, figure_interval, figures_on, thin
from .significance import (
    POWER,
    Exchange,
    bootstrap_p,
    exchange,
    holm,
    letters_of,
    mcnemar,
    optimism,
    smallest_difference,
    smallest_shift,
)

IntArray = NDArray[np.int64]

_EXCHANGES = 2000  # for letters: their correction has no need of more


class Judgeable(Protocol):
    """What a column is about: an `Entry`, or a run that was kept."""

    @property
    def title(self) -> str:
        """Column title, unique."""

    @property
    def kind(self) -> Literal["head", "single"]:
        """A head on all blocks, or a head on the blocks of one backbone."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks it saw, in order."""

    @property
    def head_name(self) -> str:
        """The estimator's class name."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Its parameters, as JSON values."""


Judged = TypeVar("Judged", bound=Judgeable)


def judged(
    answers: Mapping[Judged, Sequence[Answer]],
    test: Truth,
    *,
    train_supports: tuple[int, ...],
    fingerprints: Mapping[str, str],
    baseline: str | None,
    resamples: int,
    level: float,
    seed: int,
    folds: int = 0,
    notes: Sequence[str] = (),
    train_split: str = "",
    metrics: Metrics = (),
) -> Report:
    """Judge what entries answered about the same test rows.

    Parameters
    ----------
    answers : dict of entry to answers
        An answer a run, as many for every entry.
    test : Truth
        The rows that the answers are about.
    train_supports : tuple of int
        Rows a class that the heads learned from.
    fingerprints : dict of feature to fingerprint
        Of the features, where known.
    baseline, resamples, level, seed
        As for `compare`.
    folds, notes, train_split
        As in the report.
    metrics : sequence of str or function
        Further metrics, see `compare`.
    """
    y_pred = np.stack([[run.proba.argmax(axis=1) for run in runs] for runs in answers.values()])  # (h, s, n)
    h, s, n = y_pred.shape
    draws = bootstrap(
        test.y, y_pred.reshape(h * s, n), len(test.classes), groups=test.clusters, resamples=resamples, seed=seed
    ).averaged(s)
    columns = [
        _column(test, entry, runs, y_pred[i], draws, i, level) for i, (entry, runs) in enumerate(answers.items())
    ]
    base = None if baseline is None else [column.name for column in columns].index(baseline)
    if base is not None:
        columns = _tested(columns, base, test, y_pred, draws, level, seed)
    columns, told = _lettered(columns, test, y_pred, min(resamples, _EXCHANGES), level, seed)
    columns = _measured(columns, test, y_pred, metrics, resamples, level, seed)
    few = thin(test.y, test.clusters, test.classes)
    return Report(
        classes=test.classes,
        ids=test.names,
        y_true=test.y,
        columns=tuple(columns),
        baseline=baseline,
        train_supports=train_supports,
        clustered=test.clusters is not None,
        level=level,
        resamples=resamples,
        seed=seed,
        fingerprints=dict(fingerprints),
        notes=(
            *_missing_classes(test, train_supports),
            *([] if few is None else [few]),
            *notes,
            *told,
            *cautions(columns, base, test, draws, level),
        ),
        folds=folds,
        split=test.split,
        train_split=train_split,
    )


def check_baseline(baseline: str | None, titles: Sequence[str]) -> None:
    """Refuse a baseline that is no column, before anything is fitted."""
    if baseline is not None and baseline not in titles:
        raise ReportError(f"there is no column {baseline!r} to test against; {nearest(baseline, titles)}")


def singles_note(entries: Sequence[Entry], head: str) -> tuple[str, ...]:
    """Say what the columns of single backbones are, where there are any: ``head '...'`` in words."""
    names = ", ".join(entry.title for entry in entries if entry.kind == "single")
    return (f"Single backbones ({names}): {head} on that backbone's blocks alone.",) if names else ()


def _column(
    test: Truth, entry: Judgeable, runs: Sequence[Answer], y_pred: IntArray, draws: Bootstrap, i: int, level: float
) -> Column:
    found = scores(test.y, y_pred[0], test.classes)
    alone = accuracy_interval(
        int(found.correct.sum()), found.n, draws, i, independent=test.clusters is None, level=level
    )
    return Column(
        name=entry.title,
        kind=entry.kind,
        head=entry.head_name,
        blocks=entry.blocks,
        params=entry.params,
        fit_s=round(float(np.mean([run.fit_s for run in runs])), 4),
        predict_s=round(float(np.mean([run.predict_s for run in runs])), 4),
        y_pred=y_pred[0],
        proba=runs[0].proba,
        scores=found,
        accuracy=alone if len(runs) == 1 else draws.interval("accuracy", i, level),
        macro_f1=draws.interval("macro_f1", i, level),
        versus=None,
        other_runs=tuple(run_of(test.y, other, test.classes) for other in y_pred[1:]),
        fitted=runs[0].head,
    )


def _measured(
    columns: list[Column], test: Truth, y_pred: IntArray, metrics: Metrics, resamples: int, level: float, seed: int
) -> list[Column]:
    """Give columns further metrics of their answers, (h, s, n): means over the runs, with intervals."""
    h, s, n = y_pred.shape
    found: list[tuple[Figure, ...]] = [()] * h
    for metric in metrics:
        whole, others = figures_on(
            test.y, y_pred.reshape(h * s, n), METRICS[metric] if isinstance(metric, str) else None,
            None if isinstance(metric, str) else metric, len(test.classes), groups=test.clusters,
            resamples=min(resamples, _EXCHANGES), seed=seed,
        )  # fmt: skip
        if whole.ndim != 2 or others.ndim != 3 or not (np.isfinite(whole).all() and np.isfinite(others).all()):
            raise ReportError(
                f"the metric {metric_name(metric)!r} must give one finite number, also on part of the rows"
            )
        whole = whole.reshape(h, s, -1).mean(axis=1)  # (h s, m) -> (h, m)
        others = others.reshape(len(others), h, s, -1).mean(axis=2)  # (r, h s, m) -> (r, h, m)
        names = test.classes if whole.shape[1] > 1 or metric == "f1" else (None,)
        for i in range(h):
            found[i] += tuple(
                Figure(
                    metric=metric_name(metric), of_class=name, value=float(whole[i, m]),
                    interval=figure_interval(float(whole[i, m]), others[:, i, m], level,
                                             clustered=test.clusters is not None, share=isinstance(metric, str)),
                )
                for m, name in enumerate(names)
            )  # fmt: skip
    return [replace(column, figures=figures) for column, figures in zip(columns, found, strict=True)]


def _tested(
    columns: Sequence[Column], base: int, test: Truth, y_pred: IntArray, draws: Bootstrap, level: float, seed: int
) -> list[Column]:
    """Test every column but the baseline against it; answers of shape (h, s, n)."""
    found = versus_of(test, y_pred, base, draws, level, seed)
    return [replace(column, versus=one) for column, one in zip(columns, found, strict=True)]


def versus_of(
    test: Truth, y_pred: NDArray[np.integer], base: int, draws: Bootstrap, level: float, seed: int
) -> list[Versus | None]:
    """Test all answers (h, s, n), of s runs each, against those at `base`, which has None.

    Parameters
    ----------
    draws : Bootstrap
        Of the answers' means over the runs.
    """
    h = len(y_pred)
    others = [i for i in range(h) if i != base]
    exact = [mcnemar(test.y, y_pred[i, 0], y_pred[base, 0]) for i in others]
    found = [[scores(test.y, run, test.classes) for run in of_head] for of_head in y_pred]
    accuracy = [float(np.mean([run.accuracy for run in runs])) for runs in found]
    macro_f1 = [float(np.mean([run.macro_f1 for run in runs])) for runs in found]
    independent, r = test.clusters is None, len(draws.macro_f1)
    if independent:
        floor, p_f1 = 2 / (r + 1), [bootstrap_p(draws.macro_f1[:, i] - draws.macro_f1[:, base]) for i in others]
    else:
        swapped = _exchanged(test, y_pred, [(i, base) for i in others], r, seed)
        floor, p_f1 = swapped.floor, swapped.p().tolist()
    tested: list[Versus | None] = [None] * h
    for i, mc, p, adjusted, adjusted_f1 in zip(
        others, exact, p_f1, holm([one.p for one in exact]), holm(p_f1), strict=True
    ):
        tested[i] = Versus(
            accuracy=accuracy[i] - accuracy[base],
            accuracy_interval=draws.difference("accuracy", i, base, level),
            macro_f1=macro_f1[i] - macro_f1[base],
            macro_f1_interval=draws.difference("macro_f1", i, base, level),
            only_head=mc.only_first,
            only_baseline=mc.only_second,
            p=mc.p if independent else None,
            p_holm=adjusted if independent else None,
            p_macro_f1=p,
            p_macro_f1_holm=adjusted_f1,
            p_is_bound=p <= floor * (1 + 1e-9),
        )
    return tested


def _exchanged(
    test: Truth, y_pred: NDArray[np.integer], pairs: Sequence[tuple[int, int]], draws: int, seed: int
) -> Exchange:
    return exchange(test.y, y_pred, len(test.classes), pairs, groups=test.clusters, draws=draws, seed=seed)


def _lettered(
    columns: list[Column], test: Truth, y_pred: IntArray, draws: int, level: float, seed: int
) -> tuple[list[Column], list[str]]:
    """Give letters to columns by macro F1, where there are several and the draws are enough to tell any apart."""
    if len(columns) < 2:
        return columns, []
    if 1 / (draws + 1) > 1 - level:
        return columns, [f"No letters: {draws} draws cannot show any difference at {100 * (1 - level):.2g} %."]
    pairs = [(i, j) for i in range(len(columns)) for j in range(i + 1, len(columns))]
    adjusted = _exchanged(test, y_pred, pairs, draws, seed).adjusted().tolist()
    letters = letters_of(
        dict(zip(pairs, adjusted, strict=True)), [column.mean("macro_f1") for column in columns], 1 - level
    )
    return [replace(column, letters=text) for column, text in zip(columns, letters, strict=True)], []


def _missing_classes(test: Truth, train_supports: tuple[int, ...]) -> list[str]:
    notes = []
    unseen = [name for name, count in zip(test.classes, train_supports, strict=True) if not count]
    if unseen:
        notes.append(f"No training row of {', '.join(unseen)}: no head can answer it.")
    supports = np.bincount(test.y, minlength=len(test.classes)).tolist()
    untested = [name for name, count in zip(test.classes, supports, strict=True) if not count]
    if untested:
        notes.append(
            f"No {test.split or 'test'} row of {', '.join(untested)}: per-class accuracy undefined, F1 counted as 0 in "
            "macro F1."
        )
    return notes


def cautions(columns: Sequence[Column], base: int | None, test: Truth, draws: Bootstrap, level: float) -> list[str]:
    """Return sentences for the report's notes; none where there is nothing to compare.

    Parameters
    ----------
    columns : sequence of Column
        In the order of the draws' columns.
    base : int or None
        The column that the others are tested against; None takes that of the best macro F1.
    test, draws, level
        The rows, their bootstrap (r, h), and the level of the intervals.
    """
    if len(columns) < 2:
        return []
    macro_f1 = [column.mean("macro_f1") for column in columns]
    best = int(np.argmax(macro_f1))
    flattery = optimism(draws.noise("macro_f1"), macro_f1)
    return [
        _power(columns, best if base is None else base, test, draws, 1 - level),
        f"The best of {len(columns)} columns is chosen on the rows it is judged on: its macro F1 is expected to "
        f"flatter by about {100 * flattery:.1f} points (bootstrap of the choice). "
        "Judge it on rows that had no part in the choice.",
    ]


def _power(columns: Sequence[Column], base: int, test: Truth, draws: Bootstrap, alpha: float) -> str:
    others = [i for i in range(len(columns)) if i != base]
    f1 = [smallest_difference(draws.deviation("macro_f1", i, base), alpha=alpha) for i in others]
    accuracy = [_of_accuracy(columns[i], columns[base], test, draws, (i, base), alpha) for i in others]
    return (
        f"Smallest true differences to '{columns[base].name}' that {len(test.y)} such rows show in {100 * POWER:g} of "
        f"100 cases (two-sided {100 * alpha:.2g} %, one test): accuracy {_range(accuracy)}, macro F1 {_range(f1)}. "
        "Smaller ones are often missed: no difference found is not the same as none there."
    )


def _of_accuracy(
    one: Column, other: Column, test: Truth, draws: Bootstrap, pair: tuple[int, int], alpha: float
) -> float | None:
    """By McNemar's test where rows are independent and each head answered once; else by the bootstrap."""
    if test.clusters is None and not one.other_runs:
        apart = float(np.mean((one.y_pred == test.y) != (other.y_pred == test.y)))
        return smallest_shift(len(test.y), apart, alpha=alpha)
    return smallest_difference(draws.deviation("accuracy", *pair), alpha=alpha)


def _range(shares: Sequence[float | None]) -> str:
    """Write the smallest and largest in points; a pair that nothing could tell apart says so."""
    known = sorted(100 * share for share in shares if share is not None)
    if not known:
        return "none (the answers are too alike)"
    low, high = f"{known[0]:.1f}", f"{known[-1]:.1f}"
    return f"{low} points" if low == high else f"{low} to {high} points"
