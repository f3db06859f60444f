"""Whole grids of weights, or of settings: every point scored, one chosen, and what choosing cost."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...kit.plain import to_plain
from ..data.blocks import PAPER_MARK, Grid, parse_grid, parse_simplex
from ..data.rows import Rows, folds_of
from ..errors import SweepError
from ..heads.weights import counted, dirichlet_weights, totals
from ..judging.comparison import check_same_task
from ..judging.entries import check_heads, check_rows, plain_params
from ..judging.fits import Progress, Step, do_all
from ..judging.report import Versus
from ..judging.resampling import LEVEL, accuracy_interval, bootstrap, thin
from ..judging.verdicts import versus_of
from ..keeping.answers import Classifier
from .axes import Axes, PointFits
from .block_axes import caveat, unidentifiable
from .curve import Scoring
from .deciders import Decider, Decisions, decider_of
from .result import Curve, Sweep
from .ridge import RidgeBatch

__all__ = ["Axes", "Grid", "Rows", "Sweep", "parse_grid", "parse_simplex", "sweep"]

log = logging.getLogger(__name__)


def sweep(
    head: Classifier,
    grid: Grid | Axes,
    train: Rows,
    test: Rows,
    *,
    C: Sequence[float] = (),
    per_class: int = 0,
    seeds: int = 1,
    select: Literal["inner", "test"] = "inner",
    folds: int = 5,
    mark: Mapping[str, float] = PAPER_MARK,
    resamples: int = 500,
    level: float = LEVEL,
    seed: int = 0,
    progress: Progress | None = None,
    n_jobs: int | None = None,
) -> Sweep:
    """Score a head under every weight vector of a grid, and under every C of a list; or at every point of its settings.

    Whatever the way, the decisions are those of the head fitted for every vector (`deciders`): the members of
    a head with ``member_proba`` (`late`) are fitted once (and once a fold) and mixed in one contraction; linear heads
    on weighed blocks (`weighted`) are trained together; other heads with block ``weights`` are fitted one after the
    other. Blocks outside the grid are left out. At the points of `Axes` any head is fitted, one after the other, on all
    blocks, and each point is tested against the one where the head stands itself, else the first: paired, on the test
    rows, by Holm's correction over the points.

    Parameters
    ----------
    head : unfitted `late` or `weighted` head
        It is cloned; its ``blocks`` and ``weights`` are set from the grid. With `Axes` any classifier.
    grid : Grid or Axes
        Weight vectors by block, from `parse_grid` or `parse_simplex`; or settings, ``Axes({"locality": [0, 0.1, 1]})``.
    train, test : Rows
        As for `compare`.
    C : sequence of float
        Inverse strengths of the penalty, crossed with the weights. Each vector keeps the one that the deciding rows
        (see `select`) like best. Empty leaves the head's own.
    per_class : int
        So many weights a block and class stand beside the grid, drawn with `seed` from a flat Dirichlet distribution a
        class: for heads that mix decisions. Choosing among them is choosing k times as many numbers, so the notes say
        what the best of them is on the deciding rows and on the test rows beside the best that all classes share.
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
        Bootstrap of the bands; seed of folds, bootstrap and a head without one; a callback (done, all) after each fit,
        or each batch of fits trained together.
    n_jobs : int, optional
        Folds, and slices of the grid where each vector is a fit, that are learned at once, by joblib: None for one,
        unless `joblib.parallel_config` says otherwise.

    Raises
    ------
    SweepError
        If the weights could not matter for this head, the grid names unknown blocks, or the axes settings that it has
        not, or cannot have so on these rows.
    """
    planned = sweep_plan(
        head, grid, train, test, C=C, per_class=per_class, seeds=seeds, select=select, folds=folds, mark=mark,
        resamples=resamples, level=level, seed=seed, pieces=_pieces(n_jobs),
    )  # fmt: skip
    return planned.run(n_jobs=n_jobs, progress=progress)


def _pieces(n_jobs: int | None) -> int:
    """Fits that keep so many jobs busy to the end."""
    from joblib import effective_n_jobs

    jobs = int(effective_n_jobs(n_jobs))
    return 1 if jobs == 1 else 4 * jobs


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """Decisions of one learning about a slice of the grid."""

    kind: Literal["fold", "test", "left out"]
    seed: int
    learn: NDArray[np.int64] | None = None
    """Positions of the training rows that are learned from; None for all."""
    held: NDArray[np.int64] | None = None
    """Positions of those that are decided about."""
    vectors: tuple[int, int] | None = None
    """First vector of the slice, and the first one after it; None for all."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepPlan:
    """A sweep before its fits, which can be done anywhere (`cer_fusion.fusion.judging.fits.Fits`)."""

    head: Classifier
    grid: Grid | Axes
    train: Rows
    test: Rows
    C: tuple[float, ...]
    select: Literal["inner", "test"]
    folds: int
    seeds: tuple[int, ...]
    mark: Mapping[str, float]
    resamples: int
    level: float
    decider: Decider
    fits: Sequence[Fit]
    started_s: float = field(default_factory=perf_counter)

    def __len__(self) -> int:
        return len(self.fits)

    def steps(self, i: int) -> int:
        """Return how many fits, or batches of fits trained together, there are in it."""
        fit = self.fits[i]
        every = self.decider.fits(self.train.n if fit.learn is None else fit.learn.size)
        return every if fit.vectors is None else every * (fit.vectors[1] - fit.vectors[0]) // len(self.grid)

    def do(self, i: int, step: Step) -> Decisions:
        """Return decisions (c, w, n): a line for each penalty and vector of the slice."""
        fit, decider = self.fits[i], self.decider
        if fit.vectors is not None:
            decider = _decider(self.head, self.grid, self.C, self.train, len(self.seeds) > 1, slice(*fit.vectors))
        if fit.kind == "left out" and isinstance(decider, RidgeBatch):
            return decider.left_out(self.train, step)
        if fit.learn is None or fit.held is None:
            return decider.decide(self.train, self.test, fit.seed, step)
        return decider.decide(self.train.take(fit.learn), self.train.take(fit.held), fit.seed, step)

    def run(self, *, n_jobs: int | None = None, progress: Progress | None = None) -> Sweep:
        """Do all fits here, or wherever joblib does them, and judge by their decisions."""
        return self.report(do_all(self, n_jobs=n_jobs, progress=progress))

    def report(self, found: Sequence[Decisions]) -> Sweep:
        """Choose and judge by the decisions of all fits, in their order."""
        head, grid, train, test, C = self.head, self.grid, self.train, self.test, self.C
        scoring = Scoring(grid.weights, len(train.classes), self.resamples, self.level, self.seeds[0])
        inner = None
        plain = self._joined(found, "fold")
        if alone := self._joined(found, "left out"):
            inner = scoring.penalised(train, next(iter(alone.values()))[:, :, None])
        elif plain:
            inner = scoring.penalised(train, np.stack([plain[seed] for seed in self.seeds], axis=2))
        tests = self._joined(found, "test")
        answers = np.stack([tests[seed] for seed in self.seeds if seed in tests], axis=2)  # (c, w, s, n)
        taken = scoring.penalised(test, answers) if inner is None else inner
        y_pred = np.take_along_axis(answers, taken.penalty[None, :, None, None], axis=0)[0]  # (w, s, n)
        outer = scoring.curve(test, y_pred)
        chosen = outer.best if inner is None else inner.curve.best
        draws, independent = scoring.draws(test, y_pred[[chosen]])
        confusions = counted(test.y, y_pred[chosen], len(test.classes))  # (s, k, k)
        right = int(np.trace(confusions[0]))
        at_points: dict[str, Any] = {}
        marked = None
        if isinstance(grid, Axes):
            marked = grid.reference(head)
            at_points = {
                "settings": tuple(to_plain(point) for point in grid.points),
                "versus": tuple(self._against(y_pred, marked)),
                "params": plain_params(head.get_params(deep=False)),
            }
        return Sweep(
            head=_words(head),
            kind="setting" if at_points else "decision" if hasattr(head, "member_proba") else "block",
            blocks=grid.blocks,
            classes=test.classes,
            weights=grid.weights,
            C=C,
            penalty=None if not C else np.asarray(C, np.float64)[taken.penalty],
            penalty_macro_f1=None if not C else taken.macro_f1,
            select=self.select,
            folds=0 if inner is None else self.folds if plain else train.n,
            inner=None if inner is None else inner.curve,
            test=outer,
            chosen=chosen,
            chosen_confusion=confusions.sum(axis=0),
            chosen_accuracy=accuracy_interval(right, test.n, draws, 0, independent=independent, level=self.level),
            chosen_macro_f1=draws.interval("macro_f1", 0, self.level),
            chosen_by_seed=tuple(totals(confusions)[1].tolist()),
            marked=grid.find(self.mark) if isinstance(grid, Grid) else marked,
            mark=dict(self.mark) if isinstance(grid, Grid) else {},
            level=self.level,
            resamples=self.resamples,
            seeds=self.seeds,
            elapsed_s=round(perf_counter() - self.started_s, 3),
            notes=notes_of(
                head, self.decider, inner is None, outer if inner is None else inner.curve, self.folds, train, test
            ),
            split=test.split or "test",
            per_class=grid.per_class,
            **at_points,
        )

    def _against(self, y_pred: Decisions, base: int) -> list[Versus | None]:
        """Test the answers (w, s, n) of every point against those at one, on the test rows."""
        (w, s, n), test, k = y_pred.shape, self.test, len(self.test.classes)
        draws = bootstrap(
            test.y, y_pred.reshape(w * s, n), k, groups=test.clusters, resamples=4 * self.resamples, seed=self.seeds[0]
        ).averaged(s)
        return versus_of(test, y_pred, base, draws, self.level, self.seeds[0])

    def _joined(self, found: Sequence[Decisions], kind: str) -> dict[int, Decisions]:
        """Decisions (c, w, n) of one kind by seed, each where its vectors and rows stand."""
        joined: dict[int, Decisions] = {}
        for fit, decided in zip(self.fits, found, strict=True):
            if fit.kind == kind:
                n = self.test.n if kind == "test" else self.train.n
                shape = (decided.shape[0], len(self.grid), n)
                into = joined.setdefault(fit.seed, np.empty(shape, dtype=np.int16))
                rows = slice(None) if fit.held is None else fit.held
                into[:, slice(*fit.vectors or (None,)), rows] = decided
        return joined


def sweep_plan(
    head: Classifier,
    grid: Grid | Axes,
    train: Rows,
    test: Rows,
    *,
    C: Sequence[float] = (),
    per_class: int = 0,
    seeds: int = 1,
    select: Literal["inner", "test"] = "inner",
    folds: int = 5,
    mark: Mapping[str, float] = PAPER_MARK,
    resamples: int = 500,
    level: float = LEVEL,
    seed: int = 0,
    pieces: int = 1,
) -> SweepPlan:
    """Return what `sweep` does, with its parameters, before any fit.

    There is a fit a fold and seed, and one a seed for the test rows; heads that are fitted for every vector have as
    many slices of the grid each as make `pieces` fits together.
    """
    check_rows(train=train, test=test)
    check_heads({"swept": head})
    _check(head, grid, select, C, seeds)
    check_same_task(train, test)
    if isinstance(grid, Axes):
        if C or per_class:
            raise SweepError("C and per_class go with weights: of settings C is an axis, Axes({'C': [0.1, 1, 10]})")
        grid.check(head, train)
    elif per_class:
        _check_per_class(head, per_class)
        grid = grid.with_per_class(dirichlet_weights(len(grid.blocks), len(train.classes), per_class, seed))
    if isinstance(grid, Grid):
        train, test = train.only(grid.blocks), test.only(grid.blocks)
    decider = _decider(head, grid, C, train, seeds > 1)
    all_seeds = tuple(range(seed, seed + seeds))
    asked = all_seeds if decider.seeded else all_seeds[:1]
    # A row cannot be left out alone where others share its group.
    exact = isinstance(decider, RidgeBatch) and train.clusters is None and select == "inner"
    fits = [Fit(kind="left out", seed=seed)] if exact else []
    if select == "inner" and not exact:
        fits += [
            Fit(kind="fold", seed=one, learn=learn, held=held)
            for one in all_seeds
            for learn, held in folds_of(train, folds, one)
        ]
    fits += [Fit(kind="test", seed=one) for one in asked]
    if decider.by_vector:
        count = min(len(grid), -(-pieces // len(fits)))
        ends = np.linspace(0, len(grid), count + 1).astype(int).tolist()
        if count > 1:
            fits = [replace(fit, vectors=vectors) for fit in fits for vectors in pairwise(ends)]
    return SweepPlan(
        head=head,
        grid=grid,
        train=train,
        test=test,
        C=tuple(C),
        select=select,
        folds=folds,
        seeds=all_seeds,
        mark=mark,
        resamples=resamples,
        level=level,
        decider=decider,
        fits=fits,
    )


def _decider(
    head: Classifier, grid: Grid | Axes, C: Sequence[float], train: Rows, reseed: bool, where: slice = slice(None)
) -> Decider:
    """Return what decides at the points of a grid, or at some of them."""
    if isinstance(grid, Axes):
        return PointFits(head, grid.points[where], reseed=reseed)
    some = grid if where == slice(None) else replace(grid, weights=grid.weights[where])
    return decider_of(head, some, C, train, reseed=reseed)


def _check(head: Classifier, grid: Grid | Axes, select: str, C: Sequence[float], seeds: int) -> None:
    if not isinstance(grid, Grid | Axes):
        raise SweepError(
            f"grid must be a Grid, or Axes of settings, however: {type(grid).__name__}\n  of a simplex: "
            "cer_fusion.fusion.parse_simplex('vit,manet:0.1', rows.by_feature()); of ranges: parse_grid(["
            "'vit=0:1:0.1', 'manet=1-'], rows.widths); of settings: Axes({'dropout': [0, 0.2]})"
        )
    if isinstance(grid, Grid) and (reason := unidentifiable(head)):
        raise SweepError(reason)
    if select not in ("inner", "test"):
        raise SweepError(f"select must be 'inner' or 'test', however: {select!r}")
    if (
        isinstance(grid, Grid)
        and len(grid) > 1
        and np.ptp(grid.weights / grid.weights.sum(axis=1, keepdims=True), axis=0).max() < 1e-12
    ):
        raise SweepError(
            "every weight vector of the grid has the same proportions, and only proportions matter\n"
            "  weigh at least two blocks, and let one weight be 1- (what is left of 1)"
        )
    if any(not np.isfinite(one) or one <= 0 for one in C) or len(set(C)) < len(C):
        raise SweepError(f"every C must be finite, positive and there once, however: {', '.join(map(str, C))}")
    if seeds < 1:
        raise SweepError(f"a sweep needs at least one seed, however: {seeds}")


def _check_per_class(head: Classifier, draws: int) -> None:
    if draws < 0:
        raise SweepError(f"weights a class are drawn so many times, a positive number, however: {draws}")
    if not hasattr(head, "member_proba"):
        raise SweepError(
            f"{type(head).__name__} weighs blocks before there are classes: weights a class mix decisions\n"
            "  sweep them with head 'late'"
        )


def _words(head: Classifier) -> str:
    params = head.get_params(deep=False)
    known = [
        f"{name}={params[name]}" for name in ("mode", "mix", "member", "head") if isinstance(params.get(name), str)
    ]
    return f"{type(head).__name__}({', '.join(known)})"


def notes_of(
    head: Classifier, decider: Decider, on_test: bool, deciding: Curve, folds: int, train: Rows, test: Rows
) -> tuple[str, ...]:
    """Say where the choice was made, what it could not see, how sharp it is, and how the heads were trained."""
    points = isinstance(decider, PointFits)
    warning, one, many = (None, "point", "points") if points else (caveat(head), "vector", "weight vectors")
    notes = [] if warning is None else [warning]
    if on_test:
        notes.append(
            f"Chosen on the {test.split or 'test'} rows themselves: the chosen {one}'s scores are biased upward."
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
        notes.append(f"{count} of {deciding.alike.size} {many} cannot be told from the best (model confidence set).")
    few = thin(test.y, test.clusters, test.classes)
    notes += [] if few is None else [few]
    return (*notes, *decider.notes)
