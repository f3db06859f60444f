"""Limited-memory BFGS for many problems at once: each keeps its own curvature, all share every array operation."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[Any]
"""float32, or float64 where problems are polished."""

Scalars = NDArray[np.float64]

MEMORY: Final = 8
"""Pairs remembered; more saved no iteration on the real features of `benchmarks/simplex_sweep.py`."""


class Curvature:
    """What the last steps of p problems say about their Hessians.

    The two-loop recursion of Nocedal and Wright (2006, "Numerical optimization", algorithm 7.4) around an initial
    inverse Hessian H0, whose scale follows the last pair (their eq. 7.20 in the metric of H0). Problems are the first
    axis: all arrays are (p, j).
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[FloatArray, FloatArray, Scalars]] = []

    def direction(self, gradient: FloatArray, initial: Initial) -> FloatArray:
        """Return the descent direction (p, j) of each problem at its gradient (p, j)."""
        found = -gradient
        taken: list[Scalars] = []
        for step, change, inverse in reversed(self._pairs):
            share = inverse * dots(step, found)
            _add(found, -share, change)
            taken.append(share)
        found = initial(found)
        if self._pairs:
            _, change, inverse = self._pairs[-1]
            size = inverse * dots(change, initial(change))
            found *= np.where(size > 0, 1 / np.where(size > 0, size, 1.0), 1.0).astype(found.dtype)[:, None]
        for (step, change, inverse), share in zip(self._pairs, reversed(taken), strict=True):
            _add(found, share - inverse * dots(change, found), step)
        return found

    def learn(self, step: FloatArray, change: FloatArray) -> None:
        """Remember steps (p, j) and how the gradients changed along them; a pair without curvature is passed over."""
        bend = dots(step, change)
        known = bend > 1e-10 * np.sqrt(dots(step, step) * dots(change, change))
        inverse = np.where(known, 1 / np.where(known, bend, 1.0), 0.0)
        self._pairs = [*self._pairs[-MEMORY + 1 :], (step, change, inverse)]

    def keep(self, which: NDArray[np.intp]) -> None:
        """Go on with these problems only."""
        self._pairs = [(step[which], change[which], inverse[which]) for step, change, inverse in self._pairs]

    def forget(self) -> None:
        """Start anew, from the initial inverse Hessian."""
        self._pairs = []


class Initial:
    """An initial inverse Hessian for classes whose weights sum to zero: a diagonal, then less the mean over classes.

    Parameters
    ----------
    inverse : array of shape (p, k, d)
        Positive reciprocals of the Hessians' diagonals.
    """

    def __init__(self, inverse: FloatArray) -> None:
        self.inverse = inverse

    def __call__(self, vector: FloatArray) -> FloatArray:
        """Apply it to (p, k * d)."""
        shaped = vector.reshape(self.inverse.shape) * self.inverse
        shaped -= shaped.mean(axis=1, keepdims=True)
        return shaped.reshape(vector.shape)

    def keep(self, which: NDArray[np.intp]) -> None:
        """Go on with these problems only."""
        self.inverse = self.inverse[which]


def dots(a: FloatArray, b: FloatArray) -> Scalars:
    """Return the inner product of each problem's two lines: (p, j), (p, j) -> (p,)."""
    return np.array([np.dot(x, y) for x, y in zip(a, b, strict=True)], dtype=np.float64)


def _add(to: FloatArray, factors: Scalars, lines: FloatArray) -> None:
    """Add a multiple of a line to each line in place, without an array of all of them."""
    for one, factor, line in zip(to, factors.astype(to.dtype), lines, strict=True):
        one += factor * line
