"""Ridge regression on weighed blocks from their Gram matrices, and both linear heads under many weights at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from cer_fusion.fusion.data.blocks import Grid, split
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import SweepError, nearest
from cer_fusion.fusion.heads.thread_counts import check_threads, libraries_limited
from cer_fusion.fusion.heads.weighted import RIDGE
from cer_fusion.fusion.keeping.answers import Classifier
from cer_fusion.fusion.sweeps.block_axes import BlockAxes, WeighedBlocks
from cer_fusion.fusion.sweeps.logistic import TOLERANCE, Solved, batch_size, fit_batch
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.linalg.lapack import dpotri

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class RidgeFit:
    """Ridge regression under one weight vector and one penalty."""

    left_out: FloatArray
    """(n, k) the scores of each training row by the fit to all others, exact."""
    coef: tuple[FloatArray, ...]
    """(d_b, k) a block: weights on its columns as given."""
    intercept: FloatArray
    """(k,)."""

    def scores(self, parts: Sequence[NDArray[np.floating]]) -> FloatArray:
        """Return the scores (n', k) of other rows, blocks in the same order."""
        return sum((part @ coef for part, coef in zip(parts, self.coef, strict=True)), self.intercept[None, :])


class BlockGrams:
    """Training rows in the only form that ridge regression needs, computed once for all weights and penalties.

    With fewer rows than columns that is one Gram matrix ``K_b = X_b X_b'`` (n, n) a block: under weights v the kernel
    is ``sum_b v_b^2 K_b``. Else it is the one matrix ``X'X`` (D, D) of the joined, centred blocks, whose rows and
    columns the weights scale. What is minimised is ``|y - X w - b|^2 + alpha |w|^2`` with free intercepts, as in
    scikit-learn's `Ridge`.

    Parameters
    ----------
    parts : sequence of arrays of shape (n, d_b)
        Unweighed blocks.
    targets : array of shape (n, k)
        What is regressed on: for classes, +1 for the row's own and -1 for all others.
    """

    def __init__(self, parts: Sequence[NDArray[np.floating]], targets: NDArray[np.floating]) -> None:
        self.centres = [part.mean(axis=0, dtype=np.float64) for part in parts]
        self.parts = [part - centre for part, centre in zip(parts, self.centres, strict=True)]
        self.n = len(targets)
        self.middle = targets.mean(axis=0, dtype=np.float64)
        self.targets = targets - self.middle
        self.widths = [part.shape[1] for part in parts]
        self.kernels: list[FloatArray] | None = None
        if self.n <= sum(self.widths):
            self.kernels = [part @ part.T for part in self.parts]
        else:
            self.joined = np.concatenate(self.parts, axis=1)
            self.gram = self.joined.T @ self.joined

    def fit(self, scales: FloatArray, alpha: float) -> RidgeFit:
        """Solve for blocks times ``scales`` (number of blocks,) under the penalty ``alpha`` > 0.

        Leaving row i out changes its residual r_i to ``r_i / (1 - h_i)`` with h_i its own weight in its fitted value
        (Allen, 1974, "The relationship between variable selection and data augmentation and a method for prediction",
        §3); the intercept, being free, adds 1 / n to h_i.
        """
        residuals, own, coef = (self._dual if self.kernels is not None else self._primal)(scales, alpha)
        left_out = self.targets - residuals / (1 - own - 1 / self.n)[:, None]
        shift = sum((c @ w for c, w in zip(self.centres, coef, strict=True)), np.zeros(self.targets.shape[1]))
        return RidgeFit(left_out=left_out + self.middle, coef=coef, intercept=self.middle - shift)

    def _dual(self, scales: FloatArray, alpha: float) -> tuple[FloatArray, FloatArray, tuple[FloatArray, ...]]:
        """Residuals (n, k), own weights (n,) and weights (d_b, k), through the (n, n) kernel.

        With A the regularised kernel, residuals are ``alpha A^-1 y`` and own weights ``1 - alpha (A^-1)_ii``.
        """
        assert self.kernels is not None
        regular = np.diag(np.full(self.n, alpha))
        for scale, kernel in zip(scales, self.kernels, strict=True):
            if scale:
                regular += scale**2 * kernel
        factor, _ = cho_factor(regular, lower=True, overwrite_a=True, check_finite=False)
        dual = cho_solve((factor, True), self.targets, check_finite=False)
        inverse, info = dpotri(factor, lower=True, overwrite_c=True)
        assert info == 0  # the factor exists
        coef = tuple(scale**2 * (part.T @ dual) for scale, part in zip(scales, self.parts, strict=True))
        return alpha * dual, 1 - alpha * np.diag(inverse), coef

    def _primal(self, scales: FloatArray, alpha: float) -> tuple[FloatArray, FloatArray, tuple[FloatArray, ...]]:
        """The same through the (D, D) matrix: own weights are squared lengths of ``L^-1 v x``."""
        by_column = np.repeat(scales, self.widths)
        regular = by_column[:, None] * self.gram * by_column
        regular[np.diag_indices_from(regular)] += alpha
        factor, _ = cho_factor(regular, lower=True, overwrite_a=True, check_finite=False)
        half = solve_triangular(factor, by_column[:, None] * self.joined.T, lower=True, check_finite=False)  # (D, n)
        joined = by_column[:, None] * solve_triangular(factor, half @ self.targets, lower=True, trans=1)
        coef = tuple(np.split(joined, np.cumsum(self.widths)[:-1]))
        return self.targets - self.joined @ joined, np.square(half).sum(axis=0), coef


def class_targets(codes: NDArray[np.int64], k: int) -> FloatArray:
    """Return +1 for each row's class and -1 for all others (n, k)."""
    return np.where(codes[:, None] == np.arange(k), 1.0, -1.0)


Decisions = NDArray[np.int16]


class RidgeBatch:
    """Decides by ridge regression on targets of +1 and -1 a class, as scikit-learn's `RidgeClassifier` does.

    Left-out decisions need no folds (`left_out`): they are exact, but for the blocks' centres, to which each row has
    given its share.

    Parameters
    ----------
    head : `weighted` head
        Unfitted, with ``head="ridge"``.
    grid : Grid
    penalties : sequence of float or None
        Values of C; None is the head's own.
    train : Rows
        For the blocks' names and widths.
    """

    seeded = False
    notes: tuple[str, ...] = ("Ridge regression was solved exactly for every vector, from shared Gram matrices.",)

    def __init__(self, head: Classifier, grid: Grid, penalties: Sequence[float | None], train: Rows) -> None:
        params: Any = head.get_params(deep=False)
        settings = dict(params["head_params"] or {})
        own = settings.pop("C", RIDGE["C"])  # alpha of scikit-learn's `RidgeClassifier` is 1 / C
        for name in settings:
            raise SweepError(f"a sweep of ridge heads has no setting {name!r}; {nearest(name, ['C'])}")
        self.blocks = WeighedBlocks(head, train)
        self.scales = self.blocks.scales(grid)
        self.C = [own if penalty is None else penalty for penalty in penalties]

    def fits(self, n: int) -> int:
        return len(self.C) * len(self.scales)

    def decide(self, learn: Rows, ask: Rows, seed: int, step: Callable[[], None]) -> Decisions:
        asked = self.blocks.parts(self.blocks.normalizer(learn), ask)
        return self._decided(learn, lambda fit: fit.scores(asked), ask.n, step)

    def left_out(self, learn: Rows, step: Callable[[], None]) -> Decisions:
        """Return decisions (c, w, n) about each row by the fit to all others."""
        return self._decided(learn, lambda fit: fit.left_out, learn.n, step)

    def _decided(self, learn: Rows, scores: Callable[[Any], Any], n: int, step: Callable[[], None]) -> Decisions:
        seen, codes = np.unique(learn.y, return_inverse=True)
        parts = self.blocks.parts(self.blocks.normalizer(learn), learn)
        grams = BlockGrams(parts, class_targets(codes, len(seen)))
        y_pred = np.empty((len(self.C), len(self.scales), n), dtype=np.int16)
        for i, scales in enumerate(self.scales):
            for number, C in enumerate(self.C):
                y_pred[number, i] = seen[scores(grams.fit(scales, 1 / C)).argmax(axis=1)]
                step()
        return y_pred


Float32Array = NDArray[np.float32]
Scalars = NDArray[np.float64]


class BlockBatch:
    """Decides as the `weighted` head does, refitted for every penalty and vector, at a fraction of the time.

    Weighing block b by v_b under a penalty is penalising that block's weights 1 / v_b^2 times as much on unweighed
    columns, so all heads share one matrix. They are solved to a gradient norm of `logistic_batch.TOLERANCE`,
    tighter than the head's own.

    Parameters
    ----------
    head : `weighted` head
        Unfitted; its weights and C are the sweep's, all else is its own.
    grid : Grid
    penalties : sequence of float or None
        Values of C; None is the head's own.
    train : Rows
        All training rows: their blocks' principal axes serve every fold.
    """

    seeded = False
    notes: tuple[str, ...] = (
        f"All heads were trained together, each to a gradient norm of its mean loss under {TOLERANCE:g}.",
    )

    def __init__(self, head: Classifier, grid: Grid, penalties: Sequence[float | None], train: Rows) -> None:
        from cer_fusion.fusion.heads import make_head

        params: Any = head.get_params(deep=False)
        self.threads: int | None = params["threads"]
        check_threads(self.threads)
        self.top: Any = make_head("linear", **(params["head_params"] or {}))
        self.blocks = WeighedBlocks(head, train)
        strengths = np.array([self.top.C if penalty is None else penalty for penalty in penalties], dtype=np.float64)
        self.shape = (len(strengths), len(grid))
        self.scales = np.tile(self.blocks.scales(grid), (len(strengths), 1))
        self.C = np.repeat(strengths, len(grid))
        self.k = len(train.classes)
        normalizer = self.blocks.normalizer(train)
        centres = list(split(normalizer.mean[None], self.blocks.widths).values())
        self.axes = BlockAxes(self.blocks.parts(normalizer, train), [centre[0] for centre in centres])

    def fits(self, n: int) -> int:
        return len(self._batches(n))

    def decide(self, learn: Rows, ask: Rows, seed: int, step: Callable[[], None]) -> Decisions:
        with libraries_limited(self.threads):
            return self._decided(learn, ask, step)

    def _decided(self, learn: Rows, ask: Rows, step: Callable[[], None]) -> Decisions:
        seen, codes = np.unique(learn.y, return_inverse=True)
        normalizer = self.blocks.normalizer(learn)
        asked = np.concatenate(self.axes.turned(self.blocks.parts(normalizer, ask)), axis=1)
        y_pred = np.empty((len(self.C), ask.n), dtype=np.int16)
        parts = self.axes.turned(self.blocks.parts(normalizer, learn))
        for where in self._batches(learn.n):
            solved = self._solved(parts, codes, where)
            p, k, width = solved.coef.shape
            logits = (solved.coef.reshape(p * k, width) @ asked.T).reshape(p, k, -1) + solved.intercept[:, :, None]
            y_pred[where] = seen[logits.argmax(axis=1)]
            step()
        return y_pred.reshape(*self.shape, ask.n)

    def solve(self, learn: Rows) -> Solved:
        """Return all heads, penalties outermost; weights are on the normalised columns of the blocks as they are.

        Raises
        ------
        SweepError
            If they do not fit in one batch's memory.
        """
        if self.fits(learn.n) > 1:
            raise SweepError(f"{len(self.C)} heads do not fit in memory at once; take fewer weight vectors")
        codes = np.unique(learn.y, return_inverse=True)[1]
        parts = self.axes.turned(self.blocks.parts(self.blocks.normalizer(learn), learn))
        solved = self._solved(parts, codes, slice(None))
        ends = np.cumsum([0, *(part.shape[1] for part in parts)])
        turned = [
            self.axes.back(solved.coef[:, :, start:stop], number) for number, (start, stop) in enumerate(pairwise(ends))
        ]
        return replace(solved, coef=np.concatenate(turned, axis=2))

    def _solved(self, parts: Sequence[Float32Array], codes: NDArray[np.int64], where: slice) -> Solved:
        from cer_fusion.fusion.heads.class_weights import factors

        k = int(codes.max()) + 1
        class_weights = factors(self.top.class_weight, np.arange(k), codes)
        return fit_batch(
            parts,
            codes,
            self.scales[where],
            self.C[where],
            class_weights,
            tol=TOLERANCE,
            max_iter=self.top.max_iter,
        )

    def _batches(self, n: int) -> list[slice]:
        """Deal the heads evenly over as few batches as memory allows."""
        most = batch_size(n, sum(self.blocks.widths.values()), self.k)
        count = -(-len(self.C) // most)
        ends = np.linspace(0, len(self.C), count + 1).astype(int).tolist()
        return [slice(start, stop) for start, stop in pairwise(ends)]
