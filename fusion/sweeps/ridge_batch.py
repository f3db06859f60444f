"""Ridge heads on weighed blocks: every weight vector and penalty from the same Gram matrices, left-out rows exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cer_fusion.fusion.data.grid import Grid
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import SweepError, nearest
from cer_fusion.fusion.heads.weighted import RIDGE
from cer_fusion.fusion.keeping.answers import Classifier
from cer_fusion.fusion.sweeps.gram import BlockGrams, class_targets
from cer_fusion.fusion.sweeps.weighed_blocks import WeighedBlocks
from numpy.typing import NDArray

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
