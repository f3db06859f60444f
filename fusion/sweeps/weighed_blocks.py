"""The columns that a head on weighed blocks sees, as a block each and a factor each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from cer_fusion.fusion.data.grid import Grid
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import SweepError
from cer_fusion.fusion.keeping.answers import Classifier
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cer_fusion.fusion.heads.normalizing import BlockNormalizer

FloatArray = NDArray[np.float32]


class WeighedBlocks:
    """What the `weighted` head in `concat` mode does to blocks before the head on top, parted from their weights.

    Parameters
    ----------
    head : `weighted` head
        Unfitted.
    train : Rows
        For the blocks' names and widths.
    """

    def __init__(self, head: Classifier, train: Rows) -> None:
        params: Any = head.get_params(deep=False)
        if "standardize" in (params["head_params"] or {}):
            raise SweepError("the head on weighed blocks must not standardise them: that would undo the weights")
        self.normalize = params["normalize"]
        self.widths = train.widths

    def scales(self, grid: Grid) -> NDArray[np.float64]:
        """Return what each vector multiplies each normalised block by (w, m).

        Weights of unit mean square; times what gives joined rows of unit-length blocks a mean square of one a column;
        over sqrt(D), by which linear heads divide columns so that one C serves all widths.
        """
        weights = grid.weights / np.sqrt(np.mean(grid.weights**2, axis=1, keepdims=True))
        terms = sum(self.widths.values()) if self.normalize == "none" else len(self.widths)
        return np.asarray(weights / np.sqrt(terms))

    def normalizer(self, learn: Rows) -> BlockNormalizer:
        """Return the normaliser fitted on the rows that are learned from."""
        from cer_fusion.fusion.heads.normalizing import BlockNormalizer

        return BlockNormalizer(self.normalize, self.widths).fit(self._entered(learn))

    def parts(self, normalizer: BlockNormalizer, rows: Rows) -> list[FloatArray]:
        """Return the normalised blocks (n, d_b) of rows."""
        return list(normalizer.transform(self._entered(rows)).values())

    def _entered(self, rows: Rows) -> FloatArray:
        """Return the joined rows, checked as the head itself checks them."""
        from cer_fusion.fusion.heads import make_head
        from cer_fusion.fusion.heads.entering import entered_with_labels, refuse_unfinite

        head = make_head("weighted", blocks=self.widths)
        matrix, _ = entered_with_labels(head, rows.x(), rows.y)
        head.blocks_ = dict(self.widths)
        refuse_unfinite(head, matrix)
        return np.asarray(matrix)
