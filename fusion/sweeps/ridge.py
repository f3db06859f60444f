"""Ridge regression on weighed blocks from their Gram matrices, and both linear heads under many weights at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kit.errors import nearest
from ..data.blocks import Grid, split
from ..data.rows import Rows
from ..errors import SweepError
from ..heads.ridge import BlockGrams, class_targets
from ..heads.settings import check_threads, libraries_limited
from ..heads.weighted import RIDGE
from ..keeping.answers import Classifier
from .block_axes import BlockAxes, WeighedBlocks
from .logistic import TOLERANCE, Solved, batch_size, fit_batch

FloatArray = NDArray[np.float64]


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
    by_vector = False
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
    by_vector = False
    notes: tuple[str, ...] = (
        f"All heads were trained together, each to a gradient norm of its mean loss under {TOLERANCE:g}.",
    )

    def __init__(self, head: Classifier, grid: Grid, penalties: Sequence[float | None], train: Rows) -> None:
        from ..heads import make_head

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
        from ..heads.settings import factors

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
