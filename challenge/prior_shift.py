"""Other class frequencies than the head learned from: estimated without labels or known, and corrected for.

`correct` re-weighs probabilities by the ratio of the new class prior to the old one. All of it rests on label shift:
the pictures of a class look the same in both places, only how many there are of each has changed. It also needs
calibrated probabilities, which heads seldom give: a temperature and a bias a class are fitted on labelled rows first
(bias-corrected temperature scaling: Alexandari, Kundaje and Shrikumar 2020, *Maximum Likelihood with Bias-Corrected
Calibration is Hard-To-Beat at Label Shift Adaptation*). Every `PriorCorrection` says what it assumes, and how it does
on folds of those rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ..fusion.errors import PriorShiftError, TimelineError
from ..fusion.heads.base import softmax
from ..fusion.heads.settings import libraries_limited
from ..fusion.heads.weights import SMALLEST, WIDEST, log_loss, stratified_folds
from ..fusion.judging.metrics import confusion_matrix
from ..fusion.keeping.answers import Predictions
from ..kit.errors import nearest
from .timeline import parse_frame

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Kind: TypeAlias = Literal["em", "bbse", "known", "auto"]
CORRECTIONS: tuple[str, ...] = get_args(Kind)

NEARLY_GONE = 0.1
"""A ratio of new to old share below which a note warns of a class that vanishes."""

_SHIFT = "the pictures of a class look the same here as where the head learned, only their numbers differ (label shift)"
_ASSUMES = {
    "auto": f"{_SHIFT}; the head is calibrated on labelled rows like its training rows",
    "em": f"{_SHIFT}; the head is calibrated on labelled rows like its training rows",
    "bbse": f"{_SHIFT}; its validation rows are like its training rows, and there are enough of every class",
    "known": f"{_SHIFT}; the head's probabilities are calibrated; the stated prior is that of these very rows",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class PriorCorrection:
    """A change of class prior; arrays are in the order of ``classes``."""

    kind: Kind
    """Where the new prior is from: EM, a confusion matrix (BBSE), known, or EM only where it helps (auto)."""
    classes: tuple[str, ...]
    """Class names in order."""
    source: FloatArray
    """(k,) class prior the head learned, sums to 1."""
    target: FloatArray
    """(k,) class prior corrected to, sums to 1."""
    notes: tuple[str, ...]
    """What a reader must know, one sentence each, without its full stop."""
    calibration: Calibration | None = None
    """What made the probabilities calibrated before; None without labelled rows."""
    judged: Judged | None = None
    """How correcting does on folds of the labelled rows; None where that cannot be told."""
    applied: bool = True
    """False: the answers stay as they are, because correcting does not help ("auto")."""

    @property
    def assumes(self) -> str:
        """What must hold for the corrected probabilities to be better than the plain ones."""
        return _ASSUMES[self.kind]

    @property
    def text(self) -> str:
        """The change of each class's share in words."""
        done = "corrected" if self.applied else "NOT corrected, as this would not help"
        return f"Class prior {done} ({self.kind}): " + ", ".join(
            f"{name} {old:.1%} to {new:.1%}"
            for name, old, new in zip(self.classes, self.source, self.target, strict=True)
        )

    def apply(self, proba: FloatArray) -> FloatArray:
        """Return (n, k) probabilities under the new prior: calibrated, times new over old prior, scaled to sum to 1."""
        if not self.applied:
            return proba.copy()
        if self.calibration is not None:
            proba = self.calibration.apply(proba)
        if np.array_equal(self.target, self.source):
            return proba.copy()
        weighed = proba * (self.target / self.source)
        shares: FloatArray = weighed / weighed.sum(axis=1, keepdims=True)
        return shares

    @property
    def present(self) -> FloatArray:
        """(k,) class prior of what `apply` answers."""
        return self.target if self.applied else self.source

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "kind": self.kind,
            "source": dict(zip(self.classes, self.source.tolist(), strict=True)),
            "target": dict(zip(self.classes, self.target.tolist(), strict=True)),
            "assumes": self.assumes,
            "notes": list(self.notes),
            "applied": self.applied,
            "calibration": None if self.calibration is None else self.calibration.to_dict(self.classes),
            "judged": None if self.judged is None else self.judged.to_dict(),
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
    kind : {"em", "bbse", "known", "auto"}
        Estimate the new prior by EM or from a confusion matrix, or take one that is known. "auto" is EM where it helps
        by the judgement on folds, and leaves the answers as they are where it does not.
    proba : float64 array of shape (n, k)
        The rows to be corrected.
    classes : sequence of str
        Class names in the order of the columns.
    validation : Validation, optional
        The same head on labelled rows like those it learned from: their class frequencies are the old prior, and
        probabilities are calibrated on them first. Only "known" does without.
    source : float64 array of shape (k,), optional
        Class frequencies the head learned from, any scale, instead of ``validation``: "known" only, uncalibrated.
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
    if (validation is None) == (source is None) or (kind != "known" and validation is None):
        raise PriorShiftError(
            f"{kind} needs to know the class prior that the head learned, once"
            + ("" if kind == "known" else ", and labelled rows to calibrate its probabilities on")
            + "\n  give labelled validation rows"
            + (", or state a prior (uniform)" if kind == "known" else " (--validation: a CSV of the same head)")
        )
    if validation is None:
        learned = _prior(source, names, "learned")
        doubt = "WARNING: without labelled rows nobody knows whether the head is calibrated, nor whether this helps"
        return _made("known", names, learned, _prior(known, names, "known"), (doubt,))
    learned = validation.prior
    target, told, calibration = _estimated(kind, proba, validation, known)
    judged = _judged(kind, validation, known, target / learned)
    words = "WARNING: on so few labelled rows or groups it cannot be judged by folds whether correcting helps"
    made = _made(kind, names, learned, target, (*validation.notes, *told, words if judged is None else judged.text))
    helps = judged is not None and judged.helps
    return replace(made, calibration=calibration, judged=judged, applied=helps or kind != "auto")


def _estimated(
    kind: str, proba: FloatArray, validation: Validation, known: FloatArray | None
) -> tuple[FloatArray, tuple[str, ...], Calibration]:
    """The new prior (k,), what to tell of how it was found, and the calibration fitted on the labelled rows."""
    names = validation.classes
    calibration = calibrate(validation.proba, validation.y)
    if kind == "known":
        return _prior(known, names, "known"), (), calibration
    rows = calibration.apply(proba)
    if kind == "bbse":
        decided = calibration.apply(validation.proba).argmax(axis=1)
        target, raised = bbse_prior(confusion_matrix(validation.y, decided, len(names)), rows.argmax(axis=1), names)
        return target, tuple(f"The weight of {name} came out near 0 or below" for name in raised), calibration
    target, rounds = em_prior(rows, validation.prior)
    return target, (f"EM settled after {rounds:,} rounds",), calibration


def _made(
    kind: str, names: tuple[str, ...], source: FloatArray, target: FloatArray, notes: tuple[str, ...]
) -> PriorCorrection:
    gone = [name for name, share in zip(names, (target / source).tolist(), strict=True) if share < NEARLY_GONE]
    if gone:
        notes = (*notes, f"Less than a tenth of its old share is left of {', '.join(gone)}: do not trust this unseen")
    return PriorCorrection(kind=cast(Kind, kind), classes=names, source=source, target=target, notes=notes)


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
class Calibration:
    """A temperature and a bias a class: softmax(log p / temperature + bias)."""

    temperature: float
    """Above 1 where the head is too sure."""
    bias: FloatArray
    """(k,) added to the tempered logarithms; their mean is 0."""

    def apply(self, proba: FloatArray) -> FloatArray:
        """Return calibrated probabilities (n, k)."""
        return softmax(np.log(np.maximum(proba, SMALLEST)) / self.temperature + self.bias)

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"temperature": self.temperature, "bias": dict(zip(classes, self.bias.tolist(), strict=True))}


def calibrate(proba: FloatArray, y: IntArray) -> Calibration:
    """Fit temperature and class biases that make labelled rows most likely (Alexandari et al. 2020).

    The loss is convex in 1 / temperature and the biases. At its minimum the probabilities average to the frequencies
    of the classes, which is why EM stays where it is when nothing has shifted.

    Parameters
    ----------
    proba : float64 array of shape (n, k)
        Of rows that the head did not learn from.
    y : int64 array of shape (n,)
        Their classes, 0 to k - 1.
    """
    logs = np.log(np.maximum(proba, SMALLEST))
    truth = np.eye(proba.shape[1])[y]

    def loss(at: FloatArray) -> tuple[float, FloatArray]:
        shares = softmax(at[0] * logs + at[1:])
        over = (shares - truth) / len(y)
        slope = np.concatenate([[(over * logs).sum()], over.sum(axis=0)])
        return log_loss(shares, y), slope

    start = np.concatenate([[1.0], np.zeros(proba.shape[1])])
    bounds = [(np.exp(-WIDEST), np.exp(WIDEST))] + [(-MOST_BIAS, MOST_BIAS)] * proba.shape[1]
    with libraries_limited(1):  # threads that wait for each other take longer than a problem of k + 1 numbers
        at = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000}).x
    return Calibration(temperature=float(1 / at[0]), bias=at[1:] - at[1:].mean())


MOST_BIAS = 10.0
FOLDS = 5
COST = 0.005
"""Accuracy that correcting may cost where nothing has shifted."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Corrected against plain answers on held-out labelled rows; shares of 1."""

    gain: float
    """Accuracy gained, rows weighted to the new class prior."""
    error: float
    """Standard error of the gain; groups are the units."""
    unshifted: float
    """Accuracy gained (below 0: lost) on the labelled rows as they are, the prior estimated on each fold."""
    folds: int
    """How many."""
    groups: int
    """Units that folds keep whole: videos, or rows."""

    @property
    def helps(self) -> bool:
        """Whether the gain is more than its standard error, and little is lost where nothing has shifted."""
        return self.gain > self.error and self.unshifted >= -COST

    @property
    def text(self) -> str:
        """The judgement in words, without its full stop."""
        return (
            f"{'' if self.helps else 'WARNING: '}On {self.folds} folds of the labelled rows ({self.groups:,} groups) "
            f"correcting {'helps' if self.helps else 'does not clearly help'}: {100 * self.gain:+.1f} points of "
            f"accuracy (standard error {100 * self.error:.1f}) under the new class prior, "
            f"{100 * self.unshifted:+.1f} where nothing has shifted"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"helps": self.helps, "text": self.text}


def _judged(kind: str, rows: Validation, known: FloatArray | None, ratio: FloatArray) -> Judged | None:
    """Correct each fold by what the others say; None where too few rows of a class are left to do so."""
    groups = rows.groups
    units = len(np.unique(groups))
    count = min(FOLDS, units, int(rows.supports.min()))
    if count < 2:
        return None
    shifted, still = np.zeros(len(rows.y)), np.zeros(len(rows.y))
    fold_of = stratified_folds(rows.y, count, seed=0, groups=None if units == len(rows.y) else groups)
    for number in range(count):
        others, held = np.flatnonzero(fold_of != number), np.flatnonzero(fold_of == number)
        fold = rows.proba[held]
        try:
            prior, _, calibration = _estimated(kind, fold, rows.part(others), known)
        except PriorShiftError:
            return None
        plain = fold.argmax(axis=1) == rows.y[held]
        fine = calibration.apply(fold)
        supports = rows.part(others).supports
        shifted[held] = ((fine * ratio).argmax(axis=1) == rows.y[held]) * 1.0 - plain
        still[held] = ((fine * prior * supports.sum() / supports).argmax(axis=1) == rows.y[held]) * 1.0 - plain
    weights = ratio[rows.y]
    gain = float(np.average(shifted, weights=weights))
    sums = np.bincount(groups, weights=weights * (shifted - gain))
    error = float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / weights.sum())
    unshifted = 0.0 if kind == "known" else float(still.mean())
    return Judged(gain=gain, error=error, unshifted=unshifted, folds=count, groups=len(sums))


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """A head on labelled rows; arrays are in the order of ``classes``."""

    classes: tuple[str, ...]
    """Class names in order."""
    proba: FloatArray
    """(n, k) probabilities."""
    y: IntArray
    """(n,) true classes."""
    groups: IntArray
    """(n,) number of the video of each row, 0 upwards; of the row itself where ids name no frame of a video."""

    @classmethod
    def of(cls, predictions: Predictions) -> Validation:
        """Take the labelled rows of predictions; rows of a video are one group.

        Raises
        ------
        PriorShiftError
            If no row has a label.
        """
        labelled = np.flatnonzero(predictions.y_true >= 0)
        if not labelled.size:
            raise PriorShiftError("no validation row has a label\n  give predictions of a labelled split")
        units = [_unit(predictions.ids[i]) for i in labelled.tolist()]
        groups = np.unique(units, return_inverse=True)[1].astype(np.int64)
        return cls(
            classes=predictions.classes,
            proba=predictions.proba[labelled],
            y=predictions.y_true[labelled],
            groups=groups,
        )

    def part(self, rows: IntArray) -> Validation:
        """Return these rows alone."""
        return replace(self, proba=self.proba[rows], y=self.y[rows], groups=self.groups[rows])

    @property
    def supports(self) -> IntArray:
        """(k,) rows whose truth is the class."""
        return np.bincount(self.y, minlength=len(self.classes)).astype(np.int64)

    @property
    def prior(self) -> FloatArray:
        """(k,) their shares; raises PriorShiftError where a class has no row."""
        return _prior(self.supports, self.classes, "learned")

    @property
    def notes(self) -> tuple[str, ...]:
        """Say so when the probabilities are visibly not calibrated."""
        shares, average = self.supports / self.supports.sum(), self.proba.mean(axis=0)
        worst = int(np.abs(average - shares).argmax())
        if abs(average[worst] - shares[worst]) <= UNCALIBRATED:
            return ()
        return (
            f"On the validation rows {self.classes[worst]} has {average[worst]:.1%} of the probability and "
            f"{shares[worst]:.1%} of the rows: the head is not calibrated, and is calibrated on them first",
        )


def _unit(sample_id: str) -> str:
    """The video of a frame; the id itself of anything else."""
    try:
        return parse_frame(sample_id).video
    except TimelineError:
        return sample_id


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
