"""The nearest training rows in angle, the nearer ones counting more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import Codes, Head, Proba, expect_shape
from cer_fusion.fusion.heads.ncm import unit_rows
from cer_fusion.fusion.heads.normalizing import BlockNormalizer, Normalize
from cer_fusion.fusion.heads.state import HeadState
from numpy.typing import NDArray

CHUNK: Final = 512
"""Rows that are asked about at a time."""


class KNNHead(Head):
    """Votes of the nearest training rows by cosine, each of weight exp(cosine / temperature).

    The rule of Wu et al. (2018, "Unsupervised feature learning via non-parametric instance discrimination", §3.4), in
    wide use for judging features. One more voter stands for all training rows, so that no class has probability zero:
    it votes as the classes are distributed, with the weight of the furthest neighbour.

    A kept head holds all its training rows.

    Parameters
    ----------
    blocks : dict of block name to width, optional
        In column order; None is one block.
    neighbours : int
        Training rows that vote; all of them where there are fewer.
    temperature : float
        Cosines less than this apart count about alike.
    normalize : {"power", "l2", "none"}
        What happens to each block first (`cer_fusion.fusion.heads.normalizing`); then whole rows get unit length.
    threads : int, optional
        CPU threads while fitting and answering; None takes what the libraries are set to, but no more than a core each.
    random_state : int, RandomState or None
        Not used. Here so that every head takes it.

    Attributes
    ----------
    rows_ : ndarray of shape (n, D), float32
        Training rows of unit length.
    codes_ : ndarray of shape (n,), int64
        Their classes, positions in `classes_`.
    """

    name: ClassVar[str] = "knn"

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        *,
        neighbours: int = 50,
        temperature: float = 0.07,
        normalize: Normalize = "power",
        threads: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.blocks = blocks
        self.neighbours = neighbours
        self.temperature = temperature
        self.normalize = normalize
        self.threads = threads
        self.random_state = random_state

    def _fit(self, X: FloatArray, codes: Codes) -> None:
        self._check()
        self.normalizer_ = BlockNormalizer(self.normalize, self.blocks_).fit(X)
        self.rows_ = unit_rows(self.normalizer_, X).astype(np.float32)
        self.codes_ = codes

    def _proba(self, X: FloatArray) -> Proba:
        k, count = len(self.classes_), min(self.neighbours, len(self.rows_))
        known = self.rows_.astype(np.float64).T
        share = np.bincount(self.codes_, minlength=k) / len(self.codes_)
        found = np.empty((len(X), k))
        for start in range(0, len(X), CHUNK):
            cosines = unit_rows(self.normalizer_, X[start : start + CHUNK]) @ known
            nearest = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
            near = np.take_along_axis(cosines, nearest, axis=1)
            votes = np.exp((near - near.max(axis=1, keepdims=True)) / self.temperature)
            here = np.repeat(np.arange(len(near))[:, None], count, axis=1)
            total = votes.min(axis=1, keepdims=True) * share
            np.add.at(total, (here, self.codes_[nearest]), votes)
            found[start : start + CHUNK] = total / total.sum(axis=1, keepdims=True)
        return found

    def _check(self) -> None:
        if isinstance(self.neighbours, bool) or not isinstance(self.neighbours, int) or self.neighbours < 1:
            raise HeadConfigError(f"neighbours must be a whole number of at least 1, got {self.neighbours!r}")
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise HeadConfigError(f"temperature must be finite and positive, got {self.temperature!r}")

    def _state(self) -> HeadState:
        arrays: dict[str, NDArray[Any]] = {"rows": self.rows_, "codes": self.codes_}
        return HeadState(arrays={**arrays, "normalizer.mean": self.normalizer_.mean})

    def _restore(self, state: HeadState) -> None:
        self._check()
        normalizer_mean = {"mean": state.arrays["normalizer.mean"]}
        self.normalizer_ = BlockNormalizer(self.normalize, self.blocks_).restore(normalizer_mean)
        codes = state.arrays["codes"]
        self.rows_ = expect_shape("rows", state.arrays["rows"], (len(codes), self.n_features_in_))
        if codes.dtype != np.int64 or codes.ndim != 1 or not len(codes):
            raise ValueError(f"array 'codes' must be int64 of shape (n,), however: {codes.dtype} of {codes.shape}")
        if codes.min() < 0 or codes.max() >= len(self.classes_):
            raise ValueError(f"array 'codes' must hold numbers from 0 to {len(self.classes_) - 1}")
        self.codes_ = codes
