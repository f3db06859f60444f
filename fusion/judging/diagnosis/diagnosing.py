"""Diagnosing: one job that fits a head on every subset of the blocks and reads everything else off its answers."""

from __future__ import annotations

from typing import Literal

import numpy as np
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.comparison import check_same_task
from cer_fusion.fusion.judging.diagnosis.agreement import Agreement, agreement
from cer_fusion.fusion.judging.diagnosis.calibration import BINS, calibration, losses
from cer_fusion.fusion.judging.diagnosis.cka import similarity
from cer_fusion.fusion.judging.diagnosis.mistakes import confused_pairs, hardest
from cer_fusion.fusion.judging.diagnosis.near_duplicates import THRESHOLD, near_duplicates
from cer_fusion.fusion.judging.diagnosis.result import Contribution, Diagnosis, SubsetValue
from cer_fusion.fusion.judging.diagnosis.shapley import left_out, shapley
from cer_fusion.fusion.judging.diagnosis.subsets import Progress, Subsets, answer_subsets
from cer_fusion.fusion.judging.metrics import Scores, scores
from cer_fusion.fusion.judging.report import plain_params
from cer_fusion.fusion.judging.statistics.intervals import LEVEL, bootstrap, percentile
from cer_fusion.fusion.keeping.answers import Classifier
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_ROWS_A_BIN = 20  # with fewer the calibration error is mostly noise


def diagnose(
    train: Rows,
    test: Rows | None = None,
    *,
    head: Classifier | None = None,
    players: Literal["blocks", "features"] = "blocks",
    folds: int = 5,
    threshold: float = THRESHOLD,
    most: int = 20,
    resamples: int = 2000,
    level: float = LEVEL,
    seed: int = 0,
    progress: Progress | None = None,
) -> Diagnosis:
    """Say which blocks carry a head, how alike the backbones are, how far it can be believed, and where it fails.

    Parameters
    ----------
    train, test : Rows
        As for `compare`. Without test rows every training row is judged out of fold: nothing here then touches rows
        that are kept for the final figure.
    head : unfitted classifier, optional
        Fitted once a subset (and fold), 2^p - 1 times for p players; ``make_head("linear")`` when left out.
    players : {"blocks", "features"}
        What subsets are of: single blocks, or all blocks of a feature together. At most 8.
    folds : int
        Folds where there are no test rows.
    threshold : float
        Smallest cosine of a near-duplicate, see `near_duplicates`.
    most : int
        Confused pairs and hardest samples to list.
    resamples, level, seed, progress
        Bootstrap of the intervals; seed of folds, heads and bootstrap; a callback after each fit.

    Raises
    ------
    ReportError
        If the rows do not belong together or the players are too many.
    HeadDataError
        If there are too few rows for so many folds.
    """
    if players not in ("blocks", "features"):
        raise ReportError(f"players must be 'blocks' or 'features', however: {players!r}")
    if test is not None:
        check_same_task(train, test)
    judged, features = (train if test is None else test), train.by_feature()
    who = features if players == "features" else {block: (block,) for block in train.blocks}
    chosen = _linear() if head is None else head
    answers = answer_subsets(chosen, who, train, test, folds=folds, seed=seed, progress=progress)
    y_pred = answers.proba.argmax(axis=2)  # (2^p, n, k) -> (2^p, n)
    whole = scores(judged.y, y_pred[-1], judged.classes)
    singles = {
        feature: y_pred[answers.number([feature] if players == "features" else blocks)]
        for feature, blocks in features.items()
    }
    near, alike = near_duplicates(judged, None if test is None else train, threshold=threshold)
    clean = None if alike.all() else scores(judged.y[~alike], y_pred[-1][~alike], judged.classes)
    values = _values(answers, y_pred, judged)
    return Diagnosis(
        classes=judged.classes,
        n=judged.n,
        head=type(chosen).__name__,
        params=plain_params(chosen.get_params(deep=False)),
        folds=folds if test is None else 0,
        players=dict(who),
        subsets=values,
        contributions=_contributions(answers, values, y_pred, judged, resamples, level, seed),
        agreement=_agreement(judged, singles),
        similarity=similarity(train.blocks),
        calibration=calibration(judged.y, answers.proba[-1], bins=min(BINS, max(1, judged.n // _ROWS_A_BIN))),
        confused=confused_pairs(whole, most),
        hardest=hardest(judged.names, judged.classes, judged.y, answers.proba[-1], list(singles.values()), most),
        near=near,
        clean_accuracy=None if clean is None else clean.accuracy,
        clean_macro_f1=None if clean is None else clean.macro_f1,
        level=level,
        resamples=resamples,
        seed=seed,
        fingerprints=dict(judged.fingerprints or {}),
        notes=_notes(whole, clean, judged, test is None, folds),
    )


def _linear() -> Classifier:
    from cer_fusion.fusion.heads import make_head

    return make_head("linear")


def _values(answers: Subsets, y_pred: IntArray, rows: Rows) -> tuple[SubsetValue, ...]:
    log_loss = losses(rows.y, answers.proba).mean(axis=1)
    found = [scores(rows.y, called, rows.classes) for called in y_pred]
    return tuple(
        SubsetValue(
            members=answers.members(m), accuracy=one.accuracy, macro_f1=one.macro_f1, log_loss=float(log_loss[m])
        )
        for m, one in enumerate(found)
    )


def _contributions(
    answers: Subsets,
    values: tuple[SubsetValue, ...],
    y_pred: IntArray,
    rows: Rows,
    resamples: int,
    level: float,
    seed: int,
) -> tuple[Contribution, ...]:
    """All subsets are scored on the same resamples, so that the intervals are of paired differences."""
    macro_f1, gain = np.array([[v.macro_f1, -v.log_loss] for v in values]).T
    draws = bootstrap(rows.y, y_pred, len(rows.classes), groups=rows.clusters, resamples=resamples, seed=seed).macro_f1
    share, loss = (shapley(draws), left_out(draws))
    return tuple(
        Contribution(
            name=name,
            shapley_macro_f1=float(shapley(macro_f1)[i]),
            shapley_interval=percentile(share[:, i], level),
            shapley_log_loss=float(shapley(gain)[i]),
            left_out_macro_f1=float(left_out(macro_f1)[i]),
            left_out_interval=percentile(loss[:, i], level),
            left_out_log_loss=float(left_out(gain)[i]),
        )
        for i, name in enumerate(answers.players)
    )


def _agreement(rows: Rows, singles: dict[str, IntArray]) -> Agreement | None:
    return agreement(rows.y, singles, len(rows.classes)) if len(singles) > 1 else None


def _notes(whole: Scores, clean: Scores | None, rows: Rows, out_of_fold: bool, folds: int) -> tuple[str, ...]:
    notes = []
    if out_of_fold:
        notes.append(f"Judged on the {rows.n:,} training rows, each by a head of {folds} folds that did not learn it.")
    if whole.unsupported:
        notes.append(f"No row of {', '.join(whole.unsupported)}: F1 counted as 0 in macro F1.")
    if clean is not None and set(clean.unsupported) - set(whole.unsupported):
        lost = ", ".join(name for name in clean.unsupported if name not in whole.unsupported)
        notes.append(f"Without near-duplicates no row of {lost} is left: macro F1 without them counts 0 there.")
    if rows.clusters is not None:
        notes.append("Rows share groups: intervals resample whole groups.")
    return tuple(notes)
