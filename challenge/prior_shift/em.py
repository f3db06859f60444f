"""Class prior of unlabelled rows by EM over the prior alone (Saerens, Latinne & Decaestecker, 2002, section 2.3)."""

from __future__ import annotations

import numpy as np
from cer_fusion.fusion.errors import PriorShiftError
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MOST_ROUNDS = 10_000
CLOSE = 1e-9
"""EM has settled when no share changes by more than this in a round."""


def em_prior(proba: FloatArray, source: FloatArray) -> tuple[FloatArray, int]:
    """Estimate the class prior that makes the probabilities most likely.

    Probabilities are re-weighed by new prior over old prior and averaged; the average is the next new prior. Right for
    a calibrated head under label shift; probabilities that are too sure leave it where the decisions are, too unsure
    ones carry it too far. Where the old prior is what the probabilities average to, it is the answer.

    Parameters
    ----------
    proba : float64 array of shape (n, k)
        Calibrated probabilities under ``source``; rows sum to 1.
    source : float64 array of shape (k,)
        Class prior the head learned, positive, sums to 1.

    Returns
    -------
    prior : float64 array of shape (k,)
        Sums to 1.
    rounds : int
        How many it took.

    Raises
    ------
    PriorShiftError
        If it has not settled after `MOST_ROUNDS`.
    """
    ratios = proba / source
    prior = source.copy()
    for done in range(1, MOST_ROUNDS + 1):
        whole = ratios @ prior
        found = prior * (ratios / whole[:, None]).mean(axis=0)
        found /= found.sum()
        if np.abs(found - prior).max() <= CLOSE:
            return found, done
        prior = found
    raise PriorShiftError(
        f"EM over the class prior has not settled after {MOST_ROUNDS:,} rounds\n"
        "  these probabilities do not tell the classes apart well enough; use bbse, or no correction"
    )
