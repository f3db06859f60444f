"""Sweeping block or decision weights: one job, every weight vector scored, the choice made on inner folds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusion.answers import Classifier, aligned
from fusion.comparison import check_same_task
from fusion.curve import curve
from fusion.errors import SweepError
from fusion.folds import folds_of
from fusion.grid import PAPER_MARK, Grid, parse_grid, parse_simplex
from fusion.identifiability import caveat, unidentifiable
from fusion.intervals import LEVEL, accuracy_interval, bootstrap
from fusion.mixing import counted, decisions
from fusion.rows import Rows
from fusion.sweep_result import Curve, Sweep

__all__ = ["Grid", "Rows", "Sweep", "parse_grid", "parse_simplex", "sweep"]

log = logging.getLogger(__name__)

Decisions: TypeAlias = NDArray[np.int16]
Progress: TypeAlias = Callable[[int, int], None]
"""Called as (done, all) after each fit."""


def sweep(
    head: Classifier,
    grid: Grid,
    train: Rows,
    test: Rows,
    *,
    select: Literal["inner", "test"] = "inner",
    folds: int = 5,
    mark: Mapping[str, float] = PAPER_MARK,
    resamples: int = 500,
    level: float = LEVEL,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sweep:
    """Score a head under every weight vector of a grid.

    A head with ``member_proba`` (`late`) is fitted once (and once a fold) and its members are mixed in one contraction;
    a head with block ``weights`` (`weighted`) is fitted for every vector (and fold). Blocks outside the grid are left
    out.

    Parameters
    ----------
    head : unfitted `late` or `weighted` head
        It is cloned; its ``blocks`` and ``weights`` are set from the grid, a missing ``random_state`` from ``seed``.
    grid : Grid
        Weight vectors by block, from `parse_grid` or `parse_simplex`.
    train, test : Rows
        As for `compare`.
    select : {"inner", "test"}
        Choose the vector of the best macro F1 out of fold on the training rows and score it on the test rows; or choose
        on the test rows, which is biased upward and says so.
    folds : int
        Inner folds, stratified, groups kept whole.
    mark : dict of float
        A reference point, kept if the grid holds it.
    resamples, level, seed, progress
        Bootstrap of the bands; seed of folds and bootstrap; a callback after each fit.

    Raises
    ------
    SweepError
        If the weights could not matter for this head, or the grid names unknown blocks.
    """
    started = perf_counter()
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
    check_same_task(train, test)
    train, test = train.only(grid.blocks), test.only(grid.blocks)
    decide = _decide_by_members if hasattr(head, "member_proba") else _decide_by_refits
    parts = list(folds_of(train, folds, seed)) if select == "inner" else []
    step = _Steps(progress, (1 + len(parts)) * (1 if decide is _decide_by_members else len(grid)))
    inner = _inner(head, grid, train, parts, decide, step, seed, resamples, level) if parts else None
    y_pred = decide(_prepared(head, train, seed), grid, train, test, step)
    options: dict[str, Any] = {"groups": test.clusters, "level": level, "seed": seed}
    outer = curve(test.y, y_pred, len(test.classes), grid.weights, resamples=resamples, **options)
    chosen = outer.best if inner is None else inner.best
    confusion = counted(test.y, y_pred[[chosen]], len(test.classes))[0]
    draws = bootstrap(
        test.y, y_pred[[chosen]], len(test.classes), groups=test.clusters, resamples=4 * resamples, seed=seed
    )
    right = int(np.trace(confusion))
    return Sweep(
        head=_words(head),
        kind="decision" if decide is _decide_by_members else "block",
        blocks=grid.blocks,
        classes=test.classes,
        weights=grid.weights,
        select=select,
        folds=len(parts),
        inner=inner,
        test=outer,
        chosen=chosen,
        chosen_confusion=confusion,
        chosen_accuracy=accuracy_interval(right, test.n, draws, 0, independent=test.clusters is None, level=level),
        chosen_macro_f1=draws.interval("macro_f1", 0, level),
        marked=grid.find(mark),
        mark=dict(mark),
        level=level,
        resamples=resamples,
        seed=seed,
        elapsed_s=round(perf_counter() - started, 3),
        notes=_notes(head, inner, outer, grid, folds, train, test),
    )


def _inner(
    head: Classifier,
    grid: Grid,
    train: Rows,
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    decide: Callable[..., Decisions],
    step: _Steps,
    seed: int,
    resamples: int,
    level: float,
) -> Curve:
    """Score every vector on the training rows, each row by a head that did not learn from it."""
    y_pred = np.empty((len(grid), train.n), dtype=np.int16)
    for learn, held in parts:
        part = train.take(learn)
        y_pred[:, held] = decide(_prepared(head, part, seed), grid, part, train.take(held), step)
    return curve(
        train.y,
        y_pred,
        len(train.classes),
        grid.weights,
        groups=train.clusters,
        resamples=resamples,
        level=level,
        seed=seed,
    )


def _decide_by_members(head: Any, grid: Grid, learn: Rows, ask: Rows, step: _Steps) -> Decisions:
    """Fit the members once and mix their answers for every vector: (w, n)."""
    head.set_params(weights=dict.fromkeys(grid.blocks, 1.0))
    head.fit(learn.x(), learn.y)
    members = aligned(head.member_proba(ask.x()), head.classes_, len(ask.classes), "a member")
    if members.shape[0] != len(grid.blocks):
        raise SweepError(
            f"the head has {members.shape[0]} members for {len(grid.blocks)} blocks: {', '.join(grid.blocks)}"
        )
    step()
    return decisions(members, grid.weights, head.get_params(deep=False).get("mix", "arithmetic"))


def _decide_by_refits(head: Any, grid: Grid, learn: Rows, ask: Rows, step: _Steps) -> Decisions:
    """Fit the head for every vector: (w, n)."""
    x_learn, x_ask = learn.x(), ask.x()
    y_pred = np.empty((len(grid), ask.n), dtype=np.int16)
    for i in range(len(grid)):
        head.set_params(weights=grid.vector(i))
        head.fit(x_learn, learn.y)
        y_pred[i] = aligned(head.predict_proba(x_ask), head.classes_, len(ask.classes), "the head").argmax(axis=1)
        step()
    return y_pred


def _prepared(head: Classifier, rows: Rows, seed: int) -> Any:
    from sklearn.base import clone

    mine: Any = clone(head)
    known = mine.get_params(deep=False)
    mine.set_params(blocks=rows.widths)
    if "random_state" in known and known["random_state"] is None:
        mine.set_params(random_state=seed)
    return mine


def _words(head: Classifier) -> str:
    params = head.get_params(deep=False)
    known = [
        f"{name}={params[name]}" for name in ("mode", "mix", "member", "head") if isinstance(params.get(name), str)
    ]
    return f"{type(head).__name__}({', '.join(known)})"


def _notes(
    head: Classifier, inner: Curve | None, outer: Curve, grid: Grid, folds: int, train: Rows, test: Rows
) -> tuple[str, ...]:
    warning = caveat(head)
    notes = [] if warning is None else [warning]
    if inner is None:
        notes.append("Chosen on the test rows themselves: the chosen vector's scores are biased upward.")
    else:
        short = [name for name, n in zip(train.classes, train.supports.tolist(), strict=True) if 0 < n < folds]
        if short:
            notes.append(f"Fewer training rows than inner folds in {', '.join(short)}: the choice hardly sees them.")
    for rows, what in ((train, "training"), (test, "test")):
        lacking = [name for name, n in zip(rows.classes, rows.supports.tolist(), strict=True) if not n]
        if lacking:
            notes.append(f"No {what} row of {', '.join(lacking)}: F1 counted as 0 in macro F1.")
    curve_used = outer if inner is None else inner
    count = int(curve_used.alike.sum())
    if len(grid) > 1:
        notes.append(f"{count} of {len(grid)} weight vectors cannot be told from the best by a paired bootstrap.")
    return tuple(notes)


class _Steps:
    """Counts fits for whoever watches."""

    def __init__(self, watch: Progress | None, total: int) -> None:
        self._watch, self._total, self._done = watch, total, 0

    def __call__(self) -> None:
        self._done += 1
        log.debug("sweep: fit %d of %d", self._done, self._total)
        if self._watch is not None:
            self._watch(self._done, self._total)
