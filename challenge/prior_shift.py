"""Other class frequencies than the head learned from: estimated without labels or known, and corrected for.

`correct` re-weighs probabilities by the ratio of the new class prior to the old one. All of it rests on label shift:
the pictures of a class look the same in both places, only how many there are of each has changed. Every
`PriorCorrection` says what else it assumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..fusion.errors import PriorShiftError
from ..fusion.judging.metrics import confusion_matrix
from ..fusion.keeping.answers import Predictions
from ..kit.errors import nearest

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Kind: TypeAlias = Literal["em", "bbse", "known"]
CORRECTIONS: tuple[str, ...] = get_args(Kind)

NEARLY_GONE = 0.1
"""A ratio of new to old share below which a note warns of a class that vanishes."""

_SHIFT = "the pictures of a class look the same here as where the head learned, only their numbers differ (label shift)"
_ASSUMES = {
    "em": f"{_SHIFT}; the head's probabilities are calibrated; the stated source prior is the one it learned",
    "bbse": f"{_SHIFT}; its validation rows are like its training rows, and there are enough of every class",
    "known": f"{_SHIFT}; the head's probabilities are calibrated; the stated prior is that of these very rows",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class PriorCorrection:
    """A change of class prior; arrays are in the order of ``classes``."""

    kind: Kind
    """Where the new prior is from: EM, a confusion matrix (BBSE), or known beforehand."""
    classes: tuple[str, ...]
    """Class names in order."""
    source: FloatArray
    """(k,) class prior the head learned, sums to 1."""
    target: FloatArray
    """(k,) class prior corrected to, sums to 1."""
    notes: tuple[str, ...]
    """What a reader must know, one sentence each, without its full stop."""

    @property
    def assumes(self) -> str:
        """What must hold for the corrected probabilities to be better than the plain ones."""
        return _ASSUMES[self.kind]

    @property
    def text(self) -> str:
        """The change of each class's share in words."""
        return f"Class prior corrected ({self.kind}): " + ", ".join(
            f"{name} {old:.1%} to {new:.1%}"
            for name, old, new in zip(self.classes, self.source, self.target, strict=True)
        )

    def apply(self, proba: FloatArray) -> FloatArray:
        """Return (n, k) probabilities under the new prior: each times new over old prior, scaled to sum to 1."""
        if np.array_equal(self.target, self.source):
            return proba.copy()
        weighed = proba * (self.target / self.source)
        shares: FloatArray = weighed / weighed.sum(axis=1, keepdims=True)
        return shares

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "kind": self.kind,
            "source": dict(zip(self.classes, self.source.tolist(), strict=True)),
            "target": dict(zip(self.classes, self.target.tolist(), strict=True)),
            "assumes": self.assumes,
            "notes": list(self.notes),
        }


def correct(
    kind: str,
    proba: FloatArray,
    classes: Sequence[str],
    *,
    validation: Validation | None = None,
    source: FloatArray | None = None,
    known: FloatArray | None = None,
) -> PriorCorrection:
    """Work out a correction for unlabelled rows.

    Parameters
    ----------
    kind : {"em", "bbse", "known"}
        Estimate the new prior by EM or from a confusion matrix, or take one that is known.
    proba : float64 array of shape (n, k)
        The rows to be corrected.
    classes : sequence of str
        Class names in the order of the columns.
    validation : Validation, optional
        The same head on labelled rows like those it learned from: their class frequencies are the old prior. What
        "bbse" needs.
    source : float64 array of shape (k,), optional
        Class frequencies the head learned from, any scale, instead of ``validation``.
    known : float64 array of shape (k,), optional
        The new prior, any scale; what "known" needs.

    Raises
    ------
    PriorShiftError
        If something needed is not given or given twice, or a class has no prior.
    """
    names = tuple(classes)
    if kind not in CORRECTIONS:
        raise PriorShiftError(f"there is no correction {kind!r}; {nearest(kind, CORRECTIONS)}")
    if not len(proba):
        raise PriorShiftError("there are no rows to correct")
    if (validation is None) == (source is None) or (kind == "bbse" and validation is None):
        raise PriorShiftError(
            f"{kind} needs to know the class prior that the head learned, once\n"
            "  give labelled validation rows" + ("" if kind == "bbse" else ", or state a prior (uniform)")
        )
    learned = _prior(source if validation is None else validation.supports, names, "learned")
    notes = () if validation is None or kind == "bbse" else validation.notes
    if kind == "known":
        return _made("known", names, learned, _prior(known, names, "known"), notes)
    if kind == "bbse" and validation is not None:
        target, raised = bbse_prior(validation.confusion, proba.argmax(axis=1), names)
        return _made(
            "bbse", names, learned, target, tuple(f"The weight of {name} came out near 0 or below" for name in raised)
        )
    target, rounds = em_prior(proba, learned)
    return _made("em", names, learned, target, (*notes, f"EM settled after {rounds:,} rounds"))


def _made(
    kind: Kind, names: tuple[str, ...], source: FloatArray, target: FloatArray, notes: tuple[str, ...]
) -> PriorCorrection:
    gone = [name for name, share in zip(names, (target / source).tolist(), strict=True) if share < NEARLY_GONE]
    if gone:
        notes = (*notes, f"Less than a tenth of its old share is left of {', '.join(gone)}: do not trust this unseen")
    return PriorCorrection(kind=kind, classes=names, source=source, target=target, notes=notes)


def _prior(counts: NDArray[Any] | None, names: tuple[str, ...], which: str) -> FloatArray:
    values = np.asarray([] if counts is None else counts, dtype=np.float64)
    if values.shape != (len(names),) or not np.isfinite(values).all() or (values <= 0).any():
        zero = [name for name, value in zip(names, values.tolist(), strict=False) if not value > 0]
        raise PriorShiftError(
            f"the {which} class prior must be {len(names)} positive numbers, however: {values.tolist()}"
            + (f"\n  without a share: {', '.join(zero)}" if zero else "")
        )
    shares: FloatArray = values / values.sum()
    return shares


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
