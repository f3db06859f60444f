"""What a mix of decisions averages: probabilities, their logarithms, their reciprocals, or ranks."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Mix: TypeAlias = Literal["arithmetic", "geometric", "harmonic", "rank"]

MIXES: Final[tuple[str, ...]] = get_args(Mix)

SMALLEST: Final = 1e-12
"""The least probability that is believed before a logarithm or a reciprocal, so that no member can veto alone."""

TIE_BREAK: Final = 1e-6
"""What a probability counts beside a rank."""


def mixed(proba: FloatArray, weights: FloatArray, mix: str) -> FloatArray:
    """Mix members' probabilities (m, n, k) with weights (m,) of unit sum into (n, k)."""
    return probabilities(np.tensordot(weights, terms(proba, mix), axes=1), mix)


def terms(proba: FloatArray, mix: str) -> FloatArray:
    """Return what `mix` takes the weighted mean of; the class of the largest mean is the class that it decides for.

    Parameters
    ----------
    proba : float64 array of shape (..., k)
        Class probabilities; those below `SMALLEST` count as that under a logarithm or a reciprocal.
    mix : {"arithmetic", "geometric", "harmonic", "rank"}
        The rules of Kittler et al. (1998, "On combining classifiers", §2) and Borda's: ``p``; ``log p``; ``-1 / p``;
        or the share of all pairs of classes that a class wins, half a win for equals. Sums of ranks tie often, and
        rounding must not decide: a millionth of the probability is added to them.

    Returns
    -------
    float64 array of shape (..., k)
    """
    if mix == "geometric":
        return np.asarray(np.log(np.maximum(proba, SMALLEST)))
    if mix == "harmonic":
        return np.asarray(-1.0 / np.maximum(proba, SMALLEST))
    return _wins(proba) + TIE_BREAK * proba if mix == "rank" else proba


def probabilities(means: FloatArray, mix: str) -> FloatArray:
    """Turn weighted means of `terms` (..., k) into probabilities: undo what was done to them, and divide by the sum."""
    if mix == "geometric":
        means = np.exp(means - means.max(axis=-1, keepdims=True))
    elif mix == "harmonic":
        means = -1.0 / means
    return np.asarray(means / means.sum(axis=-1, keepdims=True))


def _wins(proba: FloatArray) -> FloatArray:
    k = proba.shape[-1]
    wins = np.empty(proba.shape)
    for c in range(k):
        mine = proba[..., c, None]
        # A class ties with itself: half a win too many.
        wins[..., c] = (mine > proba).sum(axis=-1) + 0.5 * (mine == proba).sum(axis=-1) - 0.5
    return np.asarray(wins / (k * (k - 1) / 2))
