"""Shapley values: how much each block brings, averaged over all orders in which blocks could be added."""

from __future__ import annotations

from math import factorial
from typing import Any

import numpy as np
from cer_fusion.fusion.errors import ReportError
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def shapley(values: FloatArray) -> FloatArray:
    """Return the exact Shapley values of p players from the values of all subsets: (…, 2^p) -> (…, p).

    Shapley 1953, *A value for n-person games*: player i gets the mean of ``v(S + i) - v(S)`` over all orders, which
    weighs a subset S of size s by ``s! (p - s - 1)! / p!``. The values of all players sum to v(all) - v(none), equal
    players get equal values, and one that changes nothing gets nothing.

    Parameters
    ----------
    values : array of shape (…, 2^p)
        Value of each subset; bit i of the last index says whether player i is in it.
    """
    p = _players(values)
    sizes = np.array([number.bit_count() for number in range(1 << p)])
    found = np.empty((*values.shape[:-1], p))
    for i in range(p):
        without = np.flatnonzero(~np.arange(1 << p) >> i & 1)
        weight = np.array([factorial(s) * factorial(p - s - 1) / factorial(p) for s in sizes[without].tolist()])
        found[..., i] = (values[..., without | 1 << i] - values[..., without]) @ weight
    return found


def left_out(values: FloatArray) -> FloatArray:
    """Return what all players together lose without each of them, v(all) - v(all - i): (…, 2^p) -> (…, p)."""
    whole = (1 << _players(values)) - 1
    return np.stack([values[..., whole] - values[..., whole ^ 1 << i] for i in range(whole.bit_length())], axis=-1)


def _players(values: NDArray[Any]) -> int:
    count = int(values.shape[-1])
    p = count.bit_length() - 1
    if p < 1 or count != 1 << p:
        raise ReportError(f"Shapley values need the value of all 2, 4, 8, … subsets, however: {count} values")
    return p
