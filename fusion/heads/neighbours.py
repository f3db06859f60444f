"""The nearest training rows, or the nearest class mean, in angle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ..data.blocks import FloatArray
from .base import Codes, Head, HeadState, Proba, RowInfo, expect_positive, expect_shape, softmax
from .ridge import members_of
from .scaling import BlockNormalizer, Normalize
from .settings import positive, whole
from .weights import fitted_temperature

CHUNK: Final = 512
"""Rows that are asked about at a time."""


@dataclass(kw_only=True, eq=False, repr=False)
class KNNHead(Head):
    """Votes of the nearest training rows by cosine, each of weight exp(cosine / temperature).

    The rule of Wu et al. (2018, "Unsupervised feature learning via non-parametric instance discrimination", §3.4), in
    wide use for judging features. One more voter stands for all training rows, so that no class has probability zero:
    it votes as the classes are distributed, with the weight of the furthest neighbour.

    A kept head holds all its training rows.

    Parameters
    ----------
    neighbours : int
        Training rows that vote; all of them where there are fewer.
    temperature : float
        Cosines less than this apart count about alike.
    normalize : {"power", "l2", "none"}
        What happens to each block first (`cer_fusion.fusion.heads.scaling`); then whole rows get unit length.

    Attributes
    ----------
    rows_ : ndarray of shape (n, D), float32
        Training rows of unit length.
    codes_ : ndarray of shape (n,), int64
        Their classes, positions in `classes_`.
    """

    name: ClassVar[str] = "knn"

    neighbours: int = 50
    temperature: float = 0.07
    normalize: Normalize = "power"

    def _fit(self, X: FloatArray, codes: Codes, info: RowInfo) -> None:
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
        whole("neighbours", self.neighbours)
        positive(self, "temperature")

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


@dataclass(kw_only=True, eq=False, repr=False)
class NCMHead(Head):
    """A row belongs to the class whose mean it is nearest to in angle (Mensink et al., 2013, "Distance-based image
    classification: generalizing to new classes at near-zero cost", §3.1, here with unit lengths).

    Every class counts alike, however many rows it has. Probabilities are a softmax of the cosines over a temperature,
    fitted on leave-one-out answers: a row is taken out of its own class's mean before it is asked about, with groups a
    whole group out of all means.

    Parameters
    ----------
    normalize : {"power", "l2", "none"}
        What happens to each block first (`cer_fusion.fusion.heads.scaling`); then whole rows get unit length.

    Attributes
    ----------
    means_ : ndarray of shape (k, D), float64
        Of unit length.
    temperature_ : float
    """

    name: ClassVar[str] = "ncm"

    normalize: Normalize = "power"

    def _fit(self, X: FloatArray, codes: Codes, info: RowInfo) -> None:
        self.normalizer_ = BlockNormalizer(self.normalize, self.blocks_).fit(X)
        rows, k = unit_rows(self.normalizer_, X), len(self.classes_)
        sums = np.eye(k)[codes].T @ rows  # (k, D)
        self.means_ = _unit(sums)
        cosines = rows @ self.means_.T
        without = sums[codes] - rows
        here = np.arange(len(rows))
        cosines[here, codes] = np.einsum("nd,nd->n", _unit(without), rows)
        left = np.bincount(codes, minlength=k)[codes] - 1  # rows of the class beside this one, or beside its group
        for group in () if info.groups is None else members_of(info.groups):
            own = np.eye(k)[codes[group]]
            cosines[group] = rows[group] @ _unit(sums - own.T @ rows[group]).T
            left[group] = (np.bincount(codes, minlength=k) - own.sum(axis=0))[codes[group]]
        others = left > 0  # the mean of a class of one row, or of one group, is gone with it
        self.temperature_ = fitted_temperature(cosines[others], codes[others]) if others.any() else 1.0

    def _keeps_aside(self) -> bool:
        return True

    def _proba(self, X: FloatArray) -> Proba:
        return softmax(unit_rows(self.normalizer_, X) @ self.means_.T / self.temperature_)

    def _state(self) -> HeadState:
        return HeadState(
            arrays={"means": self.means_, "normalizer.mean": self.normalizer_.mean},
            values={"temperature": self.temperature_},
        )

    def _restore(self, state: HeadState) -> None:
        normalizer_mean = {"mean": state.arrays["normalizer.mean"]}
        self.normalizer_ = BlockNormalizer(self.normalize, self.blocks_).restore(normalizer_mean)
        self.means_ = expect_shape("means", state.arrays["means"], (len(self.classes_), self.n_features_in_))
        self.temperature_ = expect_positive("temperature", state.values["temperature"])


def unit_rows(normalizer: BlockNormalizer, X: FloatArray) -> NDArray[np.float64]:
    """Return normalised blocks joined, rows (n, D) of unit length: their products are the mean of blocks' cosines."""
    return _unit(np.concatenate(list(normalizer.transform(X).values()), axis=1).astype(np.float64))


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows over their lengths; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1.0))
