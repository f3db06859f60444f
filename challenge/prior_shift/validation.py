"""What labelled rows say of a head: how often it decides for which class when which is true, and what it believes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cer_fusion.fusion.errors import PriorShiftError
from cer_fusion.fusion.judging.metrics import confusion_matrix
from cer_fusion.fusion.keeping.predictions import Predictions
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

UNCALIBRATED = 0.02
"""A difference between average probability and frequency of a class that is worth a word."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """A head on labelled rows; arrays are in the order of ``classes``."""

    classes: tuple[str, ...]
    """Class names in order."""
    confusion: IntArray
    """(k, k) counts, row = truth, column = decision."""
    average: FloatArray
    """(k,) average probability of each class."""

    @classmethod
    def of(cls, predictions: Predictions) -> Validation:
        """Take the labelled rows of predictions.

        Raises
        ------
        PriorShiftError
            If no row has a label.
        """
        y = predictions.y_true
        labelled = y >= 0
        if not labelled.any():
            raise PriorShiftError("no validation row has a label\n  give predictions of a labelled split")
        return cls(
            classes=predictions.classes,
            confusion=confusion_matrix(y[labelled], predictions.y_pred[labelled], len(predictions.classes)),
            average=predictions.proba[labelled].mean(axis=0),
        )

    @property
    def supports(self) -> IntArray:
        """(k,) rows whose truth is the class."""
        supports: IntArray = self.confusion.sum(axis=1)
        return supports

    @property
    def notes(self) -> tuple[str, ...]:
        """Say so when the probabilities are visibly not calibrated."""
        shares = self.supports / self.supports.sum()
        worst = int(np.abs(self.average - shares).argmax())
        if abs(self.average[worst] - shares[worst]) <= UNCALIBRATED:
            return ()
        return (
            f"On the validation rows {self.classes[worst]} has {self.average[worst]:.1%} of the probability and "
            f"{shares[worst]:.1%} of the rows: the head is not calibrated, and what is estimated from its "
            "probabilities will be off",
        )
