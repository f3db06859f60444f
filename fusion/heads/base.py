"""What every head shares: fitting, answering, and how a head is taken apart for keeping."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray, checked_widths
from cer_fusion.fusion.data.joined import each_piece
from cer_fusion.fusion.errors import HeadConfigError, HeadDataError
from cer_fusion.fusion.heads.entering import entered, entered_with_labels, refuse_unfinite, refuse_unfinite_piece
from cer_fusion.fusion.heads.ranges import check_kinds
from cer_fusion.fusion.heads.state import HeadState
from cer_fusion.fusion.heads.thread_counts import check_threads, libraries_limited, library_threads
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

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
    fit_threads_ : dict of library to number
        Threads that the fit computed with; empty where a kept head does not say.
    """

    name: ClassVar[str]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named settings, each complete enough to be advice: `make_head(name, preset=...)`."""

    learns_in_pieces: ClassVar[bool] = False
    """Whether `_fit` takes `JoinedRows` too; all heads are asked about them in pieces."""

    blocks: Mapping[str, int] | None
    threads: int | None
    """CPU threads while fitting and answering. None: as many as the libraries beneath are set to, but no more than this
    process may use cores; the heads of trees grow them with fewer. The numbers used are kept in `fit_threads_`."""

    random_state: Any

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from rows `X` (n, D), read as float32, and labels `y` (n,), integers or texts.

        `linear` and `mlp` learn from `JoinedRows` too, in bounded memory.

        Raises
        ------
        BlockError
            If the blocks' widths do not sum to D.
        HeadConfigError
            If a setting is none that this head can have.
        HeadDataError
            If X holds NaN or infinity, or y one class only; if X stays on the disk and this head needs it in memory.
        """
        check_threads(self.threads)
        check_kinds(self)
        X, y = entered_with_labels(self, X, y)
        self.blocks_ = checked_widths(self.blocks, X.shape[1])
        refuse_unfinite(self, X)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise HeadDataError(
                f"{type(self).__name__} needs rows of at least two classes, got one class only: "
                f"{self.classes_[0]!r} in all {len(y)} rows (n_samples={len(y)})\n  check the split and the label set"
            )
        state = self.random_state
        self.seed_ = int(state) if isinstance(state, (int, np.integer)) else int(_drawn(state))
        with libraries_limited(self.threads):
            threads = library_threads()
            try:
                self._fit(X, codes.astype(np.int64))
            except InvalidParameterError as error:  # scikit-learn's own check of a setting that was handed on to it
                raise HeadConfigError(f"a setting of head {self.name!r} is out of its range: {error}") from error
        self.fit_threads_ = threads | self._own_threads()
        return self

    def predict_proba(self, X: Any) -> Proba:
        """Return probabilities (n, k), float64, rows summing to one, columns in the order of `classes_`.

        `JoinedRows` are read piece by piece.
        """
        return self._answered(X, self._proba, axis=0)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable label a row (n,); of equally probable ones the first in `classes_`."""
        proba = self.predict_proba(X)
        return np.asarray(self.classes_[proba.argmax(axis=1)])

    def state(self) -> HeadState:
        """Return what a fitted head must remember beside its parameters, blocks and classes."""
        check_is_fitted(self)
        return self._state()

    def restore(
        self,
        state: HeadState,
        *,
        classes: NDArray[Any],
        widths: Mapping[str, int],
        seed: int,
        threads: Mapping[str, int] | None = None,
    ) -> Self:
        """Make this unfitted head the one that `state` was taken from.

        Raises
        ------
        KeyError, ValueError, TypeError
            If the state is not one of this kind of head.
        """
        check_threads(self.threads)
        self.classes_ = classes
        self.blocks_ = dict(widths)
        self.n_features_in_ = sum(self.blocks_.values())
        self.seed_ = seed
        self.fit_threads_ = dict(threads or {})
        self._restore(state)
        return self

    def _answered(self, X: Any, answer: Callable[[FloatArray], Proba], axis: int) -> Proba:
        """Return `answer` about all rows: about an array at once, about lazy rows in pieces, joined along `axis`."""
        check_is_fitted(self)
        rows = entered(self, X)

        def checked(start: int, piece: FloatArray) -> FloatArray:
            return refuse_unfinite_piece(self, start, piece)

        with libraries_limited(self.threads):
            parts = [answer(piece) for piece in each_piece(rows, checked)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)

    def _own_threads(self) -> dict[str, int]:
        """Return the threads of libraries that this head tells their number, by library."""
        return {}

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


def expect_positive(name: str, value: Any) -> float:
    """Return a kept number if it is finite and positive, else say so."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"value {name!r} must be finite and positive, however: {value!r}")
    return float(value)


def expect_shape(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return `array` if it has `shape`, else say so: a kept head whose parts do not fit is not used."""
    if array.shape != shape:
        raise ValueError(f"array {name!r} must have shape {shape}, however its shape is {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"array {name!r} holds NaN or infinity")
    return array


def _drawn(random_state: Any) -> int:
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
