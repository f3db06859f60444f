"""Blocks brought to equal length a row, so that weights on them mean something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray, slices
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import expect_shape
from cer_fusion.fusion.heads.scaling import row_lengths
from cer_fusion.kit.errors import nearest
from numpy.typing import NDArray

Normalize: TypeAlias = Literal["none", "l2", "power"]


class BlockNormalizer:
    """Centre each block on its training mean and give every row of it unit length.

    - ``none``: blocks as they are; a block of larger numbers then weighs more.
    - ``l2``: centred, then unit length.
    - ``power``: signed square root first, then as ``l2``.
    """

    def __init__(self, kind: Normalize, widths: Mapping[str, int]) -> None:
        if kind not in get_args(Normalize):
            raise HeadConfigError(f"normalize must be a known word, got {kind!r}; {nearest(kind, get_args(Normalize))}")
        self.kind = kind
        self.widths = dict(widths)
        self.mean: FloatArray = np.zeros(sum(self.widths.values()), np.float32)

    def fit(self, X: FloatArray) -> Self:
        """Learn the mean (D,) of training rows (n, D)."""
        if self.kind != "none":
            self.mean = self._rooted(X).mean(axis=0, dtype=np.float64).astype(np.float32)
        return self

    def transform(self, X: FloatArray) -> dict[str, FloatArray]:
        """Return one array (n, d_i) a block."""
        rows = X if self.kind == "none" else self._rooted(X) - self.mean
        parts = {name: rows[:, where] for name, where in slices(self.widths).items()}
        if self.kind == "none":
            return parts
        return {name: part / row_lengths(part) for name, part in parts.items()}

    def state(self) -> dict[str, NDArray[Any]]:
        """Return what was learned, as arrays."""
        return {"mean": self.mean}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Take back what `state` returned."""
        self.mean = expect_shape("mean", arrays["mean"], (len(self.mean),))
        return self

    def _rooted(self, X: FloatArray) -> FloatArray:
        if self.kind == "power":
            return np.copysign(np.sqrt(np.abs(X)), X)
        return X
