"""Class prior of unlabelled rows from a confusion matrix: black box shift estimation (Lipton et al., ICML 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cer_fusion.fusion.errors import PriorShiftError
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

WORST_CONDITION = 1e4
"""Beyond this condition number the confusion matrix says nothing of the prior."""
SMALLEST_WEIGHT = 1e-3
"""What a negative weight is raised to: the class becomes rare, never impossible."""


def bbse_prior(confusion: IntArray, y_pred: IntArray, classes: Sequence[str]) -> tuple[FloatArray, tuple[str, ...]]:
    """Estimate the class prior under which the head would decide as often for each class as it does.

    Solves C w = mu: C the joint frequencies of decision and truth on validation rows, mu the frequencies of the
    decisions on the new rows, w the ratio of new to old prior. The head need not be calibrated.

    Parameters
    ----------
    confusion : int64 array of shape (k, k)
        Counts on validation rows, row = truth, column = decision.
    y_pred : int64 array of shape (n,)
        Decisions on the new rows.
    classes : sequence of str
        Class names, for messages.

    Returns
    -------
    prior : float64 array of shape (k,)
        Sums to 1.
    raised : tuple of str
        Classes whose weight came out below `SMALLEST_WEIGHT` and was raised to it.

    Raises
    ------
    PriorShiftError
        If a class has no validation row or is never decided for, or decisions tell too little about the truth.
    """
    for counts, what in ((confusion.sum(axis=1), "has no validation row"), (confusion.sum(axis=0), "is never decided")):
        lost = np.flatnonzero(counts == 0)
        if lost.size:
            raise PriorShiftError(
                f"class {classes[int(lost[0])]!r} {what}: a confusion matrix cannot tell its new frequency\n"
                "  validate on rows of every class, or use em"
            )
    joint = confusion.T / confusion.sum()  # row = decision, column = truth
    condition = float(np.linalg.cond(joint))
    if condition > WORST_CONDITION:
        raise PriorShiftError(
            f"decisions tell too little about the truth on the validation rows: the condition number of their "
            f"confusion matrix is {condition:.0f}, at most {WORST_CONDITION:.0f} can be used\n"
            "  use em, or no correction"
        )
    called = np.bincount(y_pred, minlength=len(classes)) / y_pred.size
    weights = np.linalg.solve(joint, called)
    raised = tuple(name for name, weight in zip(classes, weights.tolist(), strict=True) if weight < SMALLEST_WEIGHT)
    prior = np.maximum(weights, SMALLEST_WEIGHT) * confusion.sum(axis=1) / confusion.sum()
    return prior / prior.sum(), raised
