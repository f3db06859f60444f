"""Calibration: whether a head that says 80 % is right four times in five."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cer_fusion.fusion.errors import ReportError
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BINS = 15
"""As in Guo et al. 2017."""
_SMALLEST = float(np.finfo(np.float64).eps)  # a truth that was given probability 0 costs 36 nats, not infinity


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Rows of like confidence."""

    low: float
    """Smallest confidence in the bin, 0-1."""
    high: float
    """Largest."""
    n: int
    """Rows."""
    confidence: float
    """Mean confidence, 0-1."""
    accuracy: float
    """Share of them that were right, 0-1."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How far probabilities can be believed; confidence is the probability of the answer that was given."""

    ece: float
    """Expected calibration error over bins of equal width (Guo et al. 2017, equation 3), 0-1."""
    ece_equal_mass: float
    """The same over bins of equally many rows (Nguyen and O'Connor 2015), which no empty bin disturbs."""
    brier: float
    """Mean squared distance of probabilities from the truth, summed over the classes (Brier 1950), 0-2."""
    nll: float
    """Mean negative log-probability of the truth, nats."""
    confidence: float
    """Mean confidence: above the accuracy the head is overconfident."""
    accuracy: float
    """Share of rows that were right."""
    bins: tuple[Bin, ...]
    """The reliability table: bins of equally many rows."""


def calibration(y: IntArray, proba: FloatArray, *, bins: int = BINS) -> Calibration:
    """Judge probabilities (n, k) of rows whose class positions are y (n,)."""
    if bins < 1:
        raise ReportError(f"calibration needs at least one bin, however: {bins}")
    confidence, right = proba.max(axis=1), proba.argmax(axis=1) == y
    width = [part for part in _of_equal_width(confidence, bins) if part.size]
    mass = [part for part in np.array_split(np.argsort(confidence, kind="stable"), bins) if part.size]
    return Calibration(
        ece=_error(confidence, right, width),
        ece_equal_mass=_error(confidence, right, mass),
        brier=float(((proba - np.eye(proba.shape[1])[y]) ** 2).sum(axis=1).mean()),
        nll=float(losses(y, proba).mean()),
        confidence=float(confidence.mean()),
        accuracy=float(right.mean()),
        bins=tuple(_bin(confidence[part], right[part]) for part in mass),
    )


def losses(y: IntArray, proba: FloatArray) -> FloatArray:
    """Return the negative log-probability of the truth: (n,), (…, n, k) -> (…, n), nats; at most 36."""
    of_truth = np.take_along_axis(proba, np.broadcast_to(y[:, None], (*proba.shape[:-1], 1)), axis=-1)[..., 0]
    return np.asarray(-np.log(np.clip(of_truth, _SMALLEST, 1.0)))


def _of_equal_width(confidence: FloatArray, bins: int) -> list[IntArray]:
    """Bins (0, 1/b], (1/b, 2/b], …"""
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return [np.flatnonzero(place == i) for i in range(bins)]


def _error(confidence: FloatArray, right: NDArray[np.bool_], parts: list[IntArray]) -> float:
    gaps = [part.size * abs(right[part].mean() - confidence[part].mean()) for part in parts]
    return float(sum(gaps) / confidence.size)


def _bin(confidence: FloatArray, right: NDArray[np.bool_]) -> Bin:
    return Bin(
        low=float(confidence.min()),
        high=float(confidence.max()),
        n=confidence.size,
        confidence=float(confidence.mean()),
        accuracy=float(right.mean()),
    )
