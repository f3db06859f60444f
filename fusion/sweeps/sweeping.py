"""Whole grids of weights: every vector scored, one chosen, and what choosing cost."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data.blocks import PAPER_MARK, Grid, parse_grid, parse_simplex
from ..data.rows import Rows, folds_of
from ..errors import SweepError
from ..heads.weights import counted, totals
from ..judging.comparison import check_same_task
from ..judging.resampling import LEVEL, accuracy_interval, thin
from ..keeping.answers import Classifier
from .block_axes import caveat, unidentifiable
from .curve import Scoring
from .deciders import Decider, Decisions, decider_of
from .result import Curve, Sweep
from .ridge import RidgeBatch

__all__ = ["Grid", "Rows", "Sweep", "parse_grid", "parse_simplex", "sweep"]

log = logging.getLogger(__name__)

Parted: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]
Progress: TypeAlias = Callable[[int, int], None]
"""Called as (done, all) after each fit, or each batch of fits trained together."""


def sweep(
    head: Classifier,
    grid: Grid,
    train: Rows,
    test: Rows,
    *,
    C: Sequence[float] = (),
    seeds: int = 1,
    select: Literal["inner", "test"] = "inner",
    folds: int = 5,
    mark: Mapping[str, float] = PAPER_MARK,
    resamples: int = 500,
    level: float = LEVEL,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sweep:
    """Score a head under every weight vector of a grid, and under every C of a list.

    Whatever the way, the decisions are those of the head fitted for every vector (`deciders`): the members of
    a head with ``member_proba`` (`late`) are fitted once (and once a fold) and mixed in one contraction; linear heads
    on weighed blocks (`weighted`) are trained together; other heads with block ``weights`` are fitted one after the
    other. Blocks outside the grid are left out.

    Parameters
    ----------
    head : unfitted `late` or `weighted` head
        It is cloned; its ``blocks`` and ``weights`` are set from the grid.
    grid : Grid
        Weight vectors by block, from `parse_grid` or `parse_simplex`.
    train, test : Rows
        As for `compare`.
    C : sequence of float
        Inverse strengths of the penalty, crossed with the weights. Each vector keeps the one that the deciding rows
        (see `select`) like best. Empty leaves the head's own.
    seeds : int
        How many seeds: ``seed``, ``seed + 1``, … With several, every seed has inner folds of its own and the head gets
        each in turn; a row then counts once a seed, and intervals draw its repeats together.
    select : {"inner", "test"}
        Choose the vector of the best macro F1 out of fold on the training rows and score it on the test rows; or choose
        on the test rows, which is biased upward and says so.
    folds : int
        Inner folds, stratified, groups kept whole. Ridge heads need none where rows are independent: each row is left
        out by itself, exactly.
    mark : dict of float
        A reference point, kept if the grid holds it.
    resamples, level, seed, progress
        Bootstrap of the bands; seed of folds, bootstrap and a head without one; a callback after each step.

    Raises
    ------
    SweepError
        If the weights could not matter for this head, or the grid names unknown blocks.
    """
    started = perf_counter()
    _check(head, grid, select, C, seeds)
    check_same_task(train, test)
    train, test = train.only(grid.blocks), test.only(grid.blocks)
    decider = decider_of(head, grid, C, train, reseed=seeds > 1)
    all_seeds = tuple(range(seed, seed + seeds))
    asked = all_seeds if decider.seeded else all_seeds[:1]
    # A row cannot be left out alone where others share its group.
    exact = decider if isinstance(decider, RidgeBatch) and train.clusters is None and select == "inner" else None
    plan = [(one, list(folds_of(train, folds, one))) for one in all_seeds] if select == "inner" and not exact else []
    learned = [learn.size for _, parts in plan for learn, _ in parts] + [train.n] * (len(asked) + bool(exact))
    step = _Steps(progress, sum(decider.fits(n) for n in learned))
    scoring = Scoring(grid.weights, len(train.classes), resamples, level, seed)
    inner = None
    if exact:
        inner = scoring.penalised(train, exact.left_out(train, step)[:, :, None])
    elif plan:
        inner = scoring.penalised(train, _out_of_fold(decider, train, plan, step, len(grid), max(1, len(C))))
    answers = np.stack([decider.decide(train, test, one, step) for one in asked], axis=2)  # (c, w, s, n)
    taken = scoring.penalised(test, answers) if inner is None else inner
    y_pred = np.take_along_axis(answers, taken.penalty[None, :, None, None], axis=0)[0]  # (w, s, n)
    outer = scoring.curve(test, y_pred)
    chosen = outer.best if inner is None else inner.curve.best
    draws, independent = scoring.draws(test, y_pred[[chosen]])
    confusions = counted(test.y, y_pred[chosen], len(test.classes))  # (s, k, k)
    right = int(np.trace(confusions[0]))
    return Sweep(
        head=_words(head),
        kind="decision" if hasattr(head, "member_proba") else "block",
        blocks=grid.blocks,
        classes=test.classes,
        weights=grid.weights,
        C=tuple(C),
        penalty=None if not C else np.asarray(C, np.float64)[taken.penalty],
        penalty_macro_f1=None if not C else taken.macro_f1,
        select=select,
        folds=0 if inner is None else folds if plan else train.n,
        inner=None if inner is None else inner.curve,
        test=outer,
        chosen=chosen,
        chosen_confusion=confusions.sum(axis=0),
        chosen_accuracy=accuracy_interval(right, test.n, draws, 0, independent=independent, level=level),
        chosen_macro_f1=draws.interval("macro_f1", 0, level),
        chosen_by_seed=tuple(totals(confusions)[1].tolist()),
        marked=grid.find(mark),
        mark=dict(mark),
        level=level,
        resamples=resamples,
        seeds=all_seeds,
        elapsed_s=round(perf_counter() - started, 3),
        notes=notes_of(head, decider, inner is None, outer if inner is None else inner.curve, folds, train, test),
        split=test.split or "test",
    )


def _check(head: Classifier, grid: Grid, select: str, C: Sequence[float], seeds: int) -> None:
    reason = unidentifiable(head)
    if reason:
        raise SweepError(reason)
    if select not in ("inner", "test"):
        raise SweepError(f"select must be 'inner' or 'test', however: {select!r}")
    if len(grid) > 1 and np.ptp(grid.weights / grid.weights.sum(axis=1, keepdims=True), axis=0).max() < 1e-12:
        raise SweepError(
            "every weight vector of the grid has the same proportions, and only proportions matter\n"
            "  weigh at least two blocks, and let one weight be 1- (what is left of 1)"
        )
    if any(not np.isfinite(one) or one <= 0 for one in C) or len(set(C)) < len(C):
        raise SweepError(f"every C must be finite, positive and there once, however: {', '.join(map(str, C))}")
    if seeds < 1:
        raise SweepError(f"a sweep needs at least one seed, however: {seeds}")


def _out_of_fold(
    decider: Decider, train: Rows, plan: list[tuple[int, list[Parted]]], step: _Steps, w: int, c: int
) -> Decisions:
    """Decide about every training row by heads that did not learn from it: (c, w, s, n)."""
    y_pred = np.empty((c, w, len(plan), train.n), dtype=np.int16)
    for number, (seed, parts) in enumerate(plan):
        for learn, held in parts:
            y_pred[:, :, number, held] = decider.decide(train.take(learn), train.take(held), seed, step)
    return y_pred


def _words(head: Classifier) -> str:
    params = head.get_params(deep=False)
    known = [
        f"{name}={params[name]}" for name in ("mode", "mix", "member", "head") if isinstance(params.get(name), str)
    ]
    return f"{type(head).__name__}({', '.join(known)})"


class _Steps:
    """Counts for whoever watches."""

    def __init__(self, watch: Progress | None, total: int) -> None:
        self._watch, self._total, self._done = watch, total, 0

    def __call__(self) -> None:
        self._done += 1
        log.debug("sweep: step %d of %d", self._done, self._total)
        if self._watch is not None:
            self._watch(self._done, self._total)


def notes_of(
    head: Classifier, decider: Decider, on_test: bool, deciding: Curve, folds: int, train: Rows, test: Rows
) -> tuple[str, ...]:
    """Say where the choice was made, what it could not see, how sharp it is, and how the heads were trained."""
    warning = caveat(head)
    notes = [] if warning is None else [warning]
    if on_test:
        notes.append(
            f"Chosen on the {test.split or 'test'} rows themselves: the chosen vector's scores are biased upward."
        )
    else:
        short = [name for name, n in zip(train.classes, train.supports.tolist(), strict=True) if 0 < n < folds]
        if short:
            notes.append(f"Fewer training rows than inner folds in {', '.join(short)}: the choice hardly sees them.")
    for rows, what in ((train, "training"), (test, test.split or "test")):
        lacking = [name for name, n in zip(rows.classes, rows.supports.tolist(), strict=True) if not n]
        if lacking:
            notes.append(f"No {what} row of {', '.join(lacking)}: F1 counted as 0 in macro F1.")
    if deciding.alike.size > 1:
        count = int(deciding.alike.sum())
        notes.append(
            f"{count} of {deciding.alike.size} weight vectors cannot be told from the best (model confidence set)."
        )
    few = thin(test.y, test.clusters, test.classes)
    notes += [] if few is None else [few]
    return (*notes, *decider.notes)
