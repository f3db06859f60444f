"""Verdicts: from the answers of entries to the columns of a report, with intervals and paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from cer_fusion.fusion.errors import ReportError, nearest
from cer_fusion.fusion.judging.entries import Answer, Entry
from cer_fusion.fusion.judging.metrics import scores
from cer_fusion.fusion.judging.report import Column, Report, Versus, run_of
from cer_fusion.fusion.judging.statistics.cautions import cautions
from cer_fusion.fusion.judging.statistics.intervals import Bootstrap, accuracy_interval, bootstrap
from cer_fusion.fusion.judging.statistics.letters import enough, letters_of
from cer_fusion.fusion.judging.statistics.paired import bootstrap_p, holm, mcnemar
from cer_fusion.fusion.keeping.answers import Truth
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


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
    folds, notes
        As in the report.
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
        columns = _tested(columns, base, test, draws, level)
    columns, told = _lettered(columns, draws, level)
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
        notes=(*_missing_classes(test, train_supports), *notes, *told, *cautions(columns, base, test, draws, level)),
        folds=folds,
    )


def check_baseline(baseline: str | None, titles: Sequence[str]) -> None:
    """Refuse a baseline that is no column, before anything is fitted."""
    if baseline is not None and baseline not in titles:
        raise ReportError(f"there is no column {baseline!r} to test against; {nearest(baseline, titles)}")


def singles_note(entries: Sequence[Entry], single_head: str) -> tuple[str, ...]:
    """Say what the columns of single backbones are, where there are any."""
    names = ", ".join(entry.title for entry in entries if entry.kind == "single")
    return (f"Single backbones ({names}): head '{single_head}' on that backbone's blocks alone.",) if names else ()


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


def _tested(columns: Sequence[Column], base: int, test: Truth, draws: Bootstrap, level: float) -> list[Column]:
    """Test every column but the baseline against it."""
    others = [i for i in range(len(columns)) if i != base]
    exact = [mcnemar(test.y, columns[i].y_pred, columns[base].y_pred) for i in others]
    p_f1 = [bootstrap_p(draws.macro_f1[:, i] - draws.macro_f1[:, base]) for i in others]
    independent = test.clusters is None
    found = list(columns)
    for i, mc, p, adjusted, adjusted_f1 in zip(
        others, exact, p_f1, holm([one.p for one in exact]), holm(p_f1), strict=True
    ):
        versus = Versus(
            accuracy=columns[i].mean("accuracy") - columns[base].mean("accuracy"),
            accuracy_interval=draws.difference("accuracy", i, base, level),
            macro_f1=columns[i].mean("macro_f1") - columns[base].mean("macro_f1"),
            macro_f1_interval=draws.difference("macro_f1", i, base, level),
            only_head=mc.only_first,
            only_baseline=mc.only_second,
            p=mc.p if independent else None,
            p_holm=adjusted if independent else None,
            p_macro_f1=p,
            p_macro_f1_holm=adjusted_f1,
        )
        found[i] = replace(columns[i], versus=versus)
    return found


def _lettered(columns: list[Column], draws: Bootstrap, level: float) -> tuple[list[Column], list[str]]:
    """Give letters to columns by macro F1, where there are several and the resamples are enough to tell any apart."""
    if len(columns) < 2:
        return columns, []
    if not enough(len(draws.macro_f1), len(columns), 1 - level):
        return columns, [f"No groups: {len(draws.macro_f1)} resamples cannot tell {len(columns)} columns apart."]
    letters = letters_of(draws.macro_f1, [column.mean("macro_f1") for column in columns], 1 - level)
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
            f"No test row of {', '.join(untested)}: per-class accuracy undefined, F1 counted as 0 in macro F1."
        )
    return notes
