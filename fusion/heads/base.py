"""What every head shares: how data enters, what a fit leaves behind, how a head is taken apart for keeping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from fusion.blocks import FloatArray, checked_widths, slices
from fusion.errors import HeadDataError
from fusion.heads.state import HeadState

Proba: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = NDArray[np.int64]


class Head(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """A scikit-learn classifier over named blocks joined along the columns.

    A head implements four methods: `_fit` and `_proba` on data already checked, `_state` and `_restore` for keeping.

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
        The labels in the order of `predict_proba`'s columns: sorted, as `numpy.unique` gives them.
    blocks_ : dict of block name to width
        In column order; one block `x` when none were named.
    seed_ : int
        The seed that the fit used; `random_state` itself when that is an integer.
    """

    name: ClassVar[str]
    blocks: Mapping[str, int] | None
    random_state: Any

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows `X` (n, D), read as float32, and labels `y` (n,), integers or texts.

        Raises
        ------
        BlockError
            If the blocks' widths do not sum to D.
        HeadDataError
            If X holds NaN or infinity, or y one class only.
        """
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity, which is refused below by place
            X, y = validate_data(self, X, y, dtype=np.float32, order="C", ensure_all_finite=False)
        self.blocks_ = checked_widths(self.blocks, X.shape[1])
        self._refuse_unfinite(X)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise HeadDataError(
                f"{type(self).__name__} needs rows of at least two classes, got one class only: "
                f"{self.classes_[0]!r} in all {len(y)} rows (n_samples={len(y)})\n  check the split and the label set"
            )
        state = self.random_state
        self.seed_ = int(state) if isinstance(state, (int, np.integer)) else int(_drawn(state))
        self._fit(X, codes.astype(np.int64))
        return self

    def predict_proba(self, X: Any) -> Proba:
        """Return probabilities (n, k), float64, rows summing to one, columns in the order of `classes_`."""
        return self._proba(self._entered(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label a row (n,); of equally probable ones the first in `classes_`."""
        proba = self.predict_proba(X)
        return np.asarray(self.classes_[proba.argmax(axis=1)])

    def state(self) -> HeadState:
        """Return what a fitted head must remember beside its parameters, blocks and classes."""
        check_is_fitted(self)
        return self._state()

    def restore(self, state: HeadState, *, classes: NDArray[Any], widths: Mapping[str, int], seed: int) -> Self:
        """Make this unfitted head the one that `state` was taken from.

        Raises
        ------
        KeyError, ValueError, TypeError
            If the state is not one of this kind of head.
        """
        self.classes_ = classes
        self.blocks_ = dict(widths)
        self.n_features_in_ = sum(self.blocks_.values())
        self.seed_ = seed
        self._restore(state)
        return self

    def _entered(self, X: Any) -> FloatArray:
        check_is_fitted(self)
        with np.errstate(over="ignore"):
            X = validate_data(self, X, reset=False, dtype=np.float32, order="C", ensure_all_finite=False)
        self._refuse_unfinite(X)
        return np.asarray(X)

    def _refuse_unfinite(self, X: FloatArray) -> None:
        # The sum is finite only if every value is, unless large finite values overflow: then look value by value.
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(X.sum(dtype=np.float64)):
                return
        rows, columns = np.nonzero(~np.isfinite(X))
        if len(rows) == 0:
            return
        row, column = int(rows[0]), int(columns[0])
        where = next((n, column - s.start) for n, s in slices(self.blocks_).items() if s.start <= column < s.stop)
        raise HeadDataError(
            f"X holds NaN or infinity (inf): {len(rows)} of {X.size} values, in {len(np.unique(rows))} of {len(X)} "
            "rows\n"
            f"  first: row {row}, block {where[0]!r}, column {where[1]} of it: {X[row, column]}\n"
            f"  {type(self).__name__} takes none as 'missing': embed those samples again or leave them out"
        )

    @abstractmethod
    def _fit(self, X: FloatArray, codes: Codes) -> None:
        """Learn from finite rows (n, D) and class codes 0..k-1 (n,)."""

    @abstractmethod
    def _proba(self, X: FloatArray) -> Proba:
        """Return probabilities (n, k) for finite rows (n, D)."""

    @abstractmethod
    def _state(self) -> HeadState:
        """Return what the fit left behind."""

    @abstractmethod
    def _restore(self, state: HeadState) -> None:
        """Take back what `_state` returned, refusing shapes that do not belong to `blocks_` and `classes_`."""


def softmax(logits: NDArray[Any]) -> Proba:
    """Return exp(z) / sum(exp(z)) along the last axis, without overflow."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def expect_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return `array` if it has `shape`, else say so: a kept head whose parts do not fit is not used."""
    if array.shape != shape:
        raise ValueError(f"array {name!r} must have shape {shape}, however its shape is {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"array {name!r} holds NaN or infinity")
    return array


def _drawn(random_state: Any) -> int:
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
