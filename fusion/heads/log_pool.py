"""The logarithmic opinion pool: members' log probabilities added up, each with a factor of its own."""

from __future__ import annotations

from typing import Final

import numpy as np
from cer_fusion.fusion.heads.base import Codes, Proba, softmax
from cer_fusion.fusion.heads.mixes import SMALLEST
from numpy.typing import NDArray
from scipy.optimize import minimize

FloatArray = NDArray[np.float64]

NOTHING: Final = 1e-3
"""A sum of factors under this says that no member knows anything; then all count alike."""


def pooled(planes: FloatArray, factors: FloatArray) -> Proba:
    """Return the pool (n, k) of members' probabilities (m, n, k), p proportional to the product of p_i ** factor_i.

    The externally Bayesian pool (Genest and Zidek, 1986, "Combining probability distributions", §3.1), a product of
    experts (Hinton, 2002). Factors (m,) are not negative. They need not sum to one: members that err independently are
    together surer than each of them.
    """
    return softmax(np.tensordot(factors, _logs(planes), axes=1))


def learned_factors(planes: FloatArray, codes: Codes) -> FloatArray:
    """Return the factors (m,) under which the pool makes the true classes most likely.

    The problem is convex, and a normal prior of variance one about equal factors, worth less than a row, makes it
    strictly so: members that are never wrong on few rows do not get factors without bounds.

    Parameters
    ----------
    planes : float64 array of shape (m, n, k)
        Probabilities of rows that the members did not learn from.
    codes : int64 array of shape (n,)
        Their classes.
    """
    logs, m, n = _logs(planes), len(planes), len(codes)
    rows, even = np.arange(n), np.full(m, 1 / m)
    of_truth = logs[:, rows, codes].mean(axis=1)

    def loss(factors: FloatArray) -> tuple[float, FloatArray]:
        proba = softmax(np.tensordot(factors, logs, axes=1))
        expected = np.einsum("nk,mnk->m", proba, logs) / n
        apart = factors - even
        value = -np.log(np.maximum(proba[rows, codes], SMALLEST)).mean() + apart @ apart / (2 * n)
        return float(value), expected - of_truth + apart / n

    found = minimize(loss, even, jac=True, method="L-BFGS-B", bounds=[(0, None)] * m).x
    return even if found.sum() < NOTHING else np.asarray(found)


def _logs(planes: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(planes, SMALLEST)))
