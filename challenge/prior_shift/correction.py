"""Probabilities under another class prior, and what that correction assumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from cer_fusion.challenge.prior_shift.bbse import bbse_prior
from cer_fusion.challenge.prior_shift.em import em_prior
from cer_fusion.challenge.prior_shift.validation import Validation
from cer_fusion.fusion.errors import PriorShiftError, nearest
from numpy.typing import NDArray

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
class Correction:
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
) -> Correction:
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
) -> Correction:
    gone = [name for name, share in zip(names, (target / source).tolist(), strict=True) if share < NEARLY_GONE]
    if gone:
        notes = (*notes, f"Less than a tenth of its old share is left of {', '.join(gone)}: do not trust this unseen")
    return Correction(kind=kind, classes=names, source=source, target=target, notes=notes)


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
