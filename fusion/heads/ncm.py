"""The nearest class mean on the unit sphere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.heads.base import Codes, Head, Proba, expect_positive, expect_shape, softmax
from cer_fusion.fusion.heads.normalizing import BlockNormalizer, Normalize
from cer_fusion.fusion.heads.state import HeadState
from cer_fusion.fusion.heads.temperature import fitted_temperature
from numpy.typing import NDArray


class NCMHead(Head):
    """A row belongs to the class whose mean it is nearest to in angle (Mensink et al., 2013, "Distance-based image
    classification: generalizing to new classes at near-zero cost", §3.1, here with unit lengths).

    Every class counts alike, however many rows it has. Probabilities are a softmax of the cosines over a temperature,
    fitted on leave-one-out answers: a row is taken out of its own class's mean before it is asked about.

    Parameters
    ----------
    blocks : dict of block name to width, optional
        In column order; None is one block.
    normalize : {"power", "l2", "none"}
        What happens to each block first (`cer_fusion.fusion.heads.normalizing`); then whole rows get unit length.
    threads : int, optional
        CPU threads while fitting and answering; None takes what the libraries are set to, but no more than a core each.
    random_state : int, RandomState or None
        Not used. Here so that every head takes it.

    Attributes
    ----------
    means_ : ndarray of shape (k, D), float64
        Of unit length.
    temperature_ : float
    """

    name: ClassVar[str] = "ncm"

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        *,
        normalize: Normalize = "power",
        threads: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.blocks = blocks
        self.normalize = normalize
        self.threads = threads
        self.random_state = random_state

    def _fit(self, X: FloatArray, codes: Codes) -> None:
        self.normalizer_ = BlockNormalizer(self.normalize, self.blocks_).fit(X)
        rows, k = unit_rows(self.normalizer_, X), len(self.classes_)
        sums = np.eye(k)[codes].T @ rows  # (k, D)
        self.means_ = _unit(sums)
        cosines = rows @ self.means_.T
        without = sums[codes] - rows
        here = np.arange(len(rows))
        cosines[here, codes] = np.einsum("nd,nd->n", _unit(without), rows)
        others = np.bincount(codes, minlength=k)[codes] > 1  # the mean of a class of one row is gone with that row
        self.temperature_ = fitted_temperature(cosines[others], codes[others]) if others.any() else 1.0

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
