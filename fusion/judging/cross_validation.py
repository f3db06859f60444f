"""Comparing heads by cross-validation: every row is answered by heads that did not learn from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from cer_fusion.fusion.data.folds import folds_of
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.entries import Answer, Entry, answered, entries_of
from cer_fusion.fusion.judging.report import Report
from cer_fusion.fusion.judging.statistics.intervals import LEVEL, RESAMPLES
from cer_fusion.fusion.judging.verdicts import Judgeable, judged, singles_note
from cer_fusion.fusion.judging.zero_shot.columns import ZeroShotColumns, check_columns
from cer_fusion.fusion.keeping.answers import Classifier

Progress: TypeAlias = Callable[[int, int], None]
"""Called as (done, all) after each fit."""


def cross_compare(
    heads: Mapping[str, Classifier],
    rows: Rows,
    *,
    folds: int = 5,
    repeats: int = 1,
    singles: bool = True,
    single_head: str = "linear",
    baseline: str | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    progress: Progress | None = None,
    zero_shot: ZeroShotColumns | None = None,
) -> Report:
    """Compare heads as `compare` does, on out-of-fold answers for every row.

    Folds are stratified by class and never cut a group; every head sees the same folds. Each repeat cuts other folds
    and fits with other seeds. Scores are computed on all out-of-fold answers of a repeat at once, not averaged over
    folds (which biases F1 where classes are rare: Forman and Scholz 2010, *Apples-to-Apples in Cross-Validation
    Studies*), then averaged over the repeats. Answers are not: heads that vote would be judged, not one head. The
    intervals resample rows (whole groups), with all repeats' answers to a drawn row drawn together.

    Parameters
    ----------
    heads : dict of column title to unfitted classifier
        As for `compare`; cloned for every fold.
    rows : Rows
        All rows that are to be learned from and judged on. Samples that belong together beyond their groups, such as a
        picture that is there twice, are to be `cer_fusion.fusion.data.ties.tied` first.
    folds, repeats : int
        Folds, at least 2; and how often all rows are cut into folds anew.
    singles, single_head, baseline, resamples, level, seed
        As for `compare`.
    progress : callable, optional
        Called after each fit.
    zero_shot : ZeroShotColumns, optional
        Columns that learned basic expressions only, from rows of their own: fitted once a repeat, not once a fold.

    Raises
    ------
    HeadDataError
        If there are too few rows, or groups, for so many folds.
    ReportError
        As for `compare`, or if there is no repeat.
    """
    if repeats < 1:
        raise ReportError(f"cross-validation needs at least one repeat, however: {repeats}")
    entries = entries_of(heads, rows, singles=singles, single_head=single_head, seed=seed)
    check_columns(entries, zero_shot, rows, baseline)
    done, total = 0, repeats * folds * len(entries)
    answers: dict[Judgeable, list[Answer]] = {entry: [] for entry in entries}
    for repeat in range(repeats):
        parts: dict[Entry, list[Answer]] = {entry: [] for entry in entries}
        held_out = []
        for learn, held in folds_of(rows, folds, seed + repeat):
            learning, asking = rows.take(learn), rows.take(held)
            held_out.append(held)
            for entry in entries:
                parts[entry].append(answered(entry, repeat, learning, asking))
                done += 1
                if progress is not None:
                    progress(done, total)
        for entry in entries:
            answers[entry].append(_whole(parts[entry], held_out))
    if zero_shot is not None:
        answers |= zero_shot.answers(rows, runs=repeats, seed=seed)
    return judged(
        answers,
        rows,
        train_supports=tuple(rows.supports.tolist()),
        fingerprints=dict(rows.fingerprints or {}),
        baseline=baseline,
        resamples=resamples,
        level=level,
        seed=seed,
        folds=folds,
        notes=(
            *singles_note(entries, single_head),
            *(() if zero_shot is None else (zero_shot.note,)),
            *_notes(rows, folds, repeats),
        ),
    )


def _whole(parts: list[Answer], held_out: list[Any]) -> Answer:
    """Put the folds' answers where their rows stand. No one head gave them, so there is none to keep."""
    order = np.argsort(np.concatenate(held_out))
    return Answer(
        proba=np.concatenate([part.proba for part in parts])[order],
        head=None,
        fit_s=float(np.mean([part.fit_s for part in parts])),
        predict_s=sum(part.predict_s for part in parts),
    )


def _notes(rows: Rows, folds: int, repeats: int) -> tuple[str, ...]:
    units = "rows" if rows.clusters is None else f"rows in {len(set(rows.clusters)):,} groups, none of them cut"
    again = f", cut {repeats} times" if repeats > 1 else ""
    notes = [
        f"Cross-validation: {rows.n:,} {units}, {folds} folds stratified by class{again}; each row is answered by a "
        f"head that learned from the other {folds - 1} folds. Heads of different folds share most of their rows, so "
        "intervals and p-values are somewhat optimistic (Dietterich 1998; Bengio and Grandvalet 2004)."
    ]
    if repeats > 1:
        notes.append(
            f"Figures are means of {repeats} repeats with other folds and seeds; ±: their standard deviation. Counts, "
            "probabilities and McNemar's test are those of the first repeat."
        )
    short = [name for name, n in zip(rows.classes, rows.supports.tolist(), strict=True) if 0 < n < folds]
    if short:
        notes.append(f"Fewer rows than folds in {', '.join(short)}: some folds have none of them.")
    return tuple(notes)
