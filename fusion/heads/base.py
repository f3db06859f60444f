"""What every head shares: data entering, fitting, answering, and how a head is taken apart for keeping."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import _safe_indexing, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from ..data.blocks import WHOLE, FloatArray, checked_widths, slices
from ..data.entering import check_labelled, entered_table, in_memory, in_order
from ..data.joined import JoinedRows, Matrix, each_piece, rows_at
from ..data.moments import Moments
from ..errors import BlockError, HeadConfigError, HeadDataError
from .basics import BasicRows
from .labels import Floats as Floats
from .labels import entered_groups, entered_labels, entered_targets, entered_time, entered_weights
from .settings import check_kinds, check_threads, libraries_limited, library_threads

Proba: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class RowInfo:
    """What is known of training rows beside their columns and classes."""

    groups: NDArray[np.int64] | None = None
    """(n,) a number a group: rows of one group (a video, a person) stay together in every choice that a head makes."""

    weights: Floats | None = None
    """(n,) how much each row counts; None is one each."""

    soft: Floats | None = None
    """(n, k) share of each class in each row, of unit sum; None: a row is of its class alone."""

    classes: NDArray[Any] | None = None
    """(k,) what the columns of `soft` are labelled, sorted."""

    targets: Mapping[str, Floats] | None = None
    """Further targets by task, each (n, t), NaN where a row has none; for heads of several tasks (`learns_targets`)."""

    labelled: NDArray[np.bool_] | None = None
    """(n,) whether a row has a class at all; None: all have. Others stand in `soft` with the mean of those that do."""

    moments: Moments | None = None
    """Where rows stand in time; for heads over time (`learns_in_time`)."""

    basic: BasicRows | None = None
    """Rows of basic expressions, which are no part of the n; for heads that learn from them (`learns_basic`)."""

    def at(self, rows: NDArray[Any]) -> RowInfo:
        """Return what is known of some of the rows."""
        return RowInfo(
            groups=None if self.groups is None else self.groups[rows],
            weights=None if self.weights is None else self.weights[rows],
            soft=None if self.soft is None else self.soft[rows],
            classes=self.classes,
            targets=None if self.targets is None else {name: one[rows] for name, one in self.targets.items()},
            labelled=None if self.labelled is None else self.labelled[rows],
            moments=None if self.moments is None else self.moments.at(rows),
            basic=self.basic,
        )

    def weighed(self, factors: Floats) -> Floats:
        """Return what each row counts (n,) under factors (n,) of its own."""
        return factors if self.weights is None else factors * self.weights

    def shares(self, codes: Codes, k: int) -> Floats:
        """Return the share of each class in each row (n, k), of unit sum."""
        return np.eye(k)[codes] if self.soft is None else self.soft

    def apart(self, codes: Codes, factors: Floats) -> tuple[NDArray[np.int64], Codes, Floats]:
        """Return rows (r,), their classes (r,) and what they count (r,), for learners that know one class a row.

        A row of several classes stands there once for each, and counts by its share: the sum of log losses is the same.
        """
        if self.soft is None:
            return np.arange(len(codes)), codes, self.weighed(factors[codes])
        rows, classes = np.nonzero(self.soft)
        counted = self.soft[rows, classes] * factors[classes]
        return rows, classes.astype(np.int64), counted if self.weights is None else counted * self.weights[rows]


NOTHING: Final = RowInfo()
EPOCHS: ContextVar[Callable[[int, int], None] | None] = ContextVar("epochs", default=None)
"""What networks tell their epochs to: called as (epoch from 1, epochs at most) in the thread that fits."""

_AS_ROWS: Final[dict[str, Any]] = {"dtype": np.float32, "order": "C", "ensure_all_finite": False}
logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
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

    weighs_rows: ClassVar[bool] = False
    """Whether rows can count more or less than others (`sample_weight`)."""

    learns_soft_labels: ClassVar[bool] = False
    """Whether rows can be of several classes in part (`y` of shape (n, k))."""

    learns_targets: ClassVar[bool] = False
    """Whether it learns further tasks beside the classes (`targets`), and from rows that have these alone."""

    learns_in_time: ClassVar[bool] = False
    """Whether its answer about a row depends on the rows around it in its video: it is asked with groups and times."""

    learns_basic: ClassVar[bool] = False
    """Whether it can learn from rows of basic expressions beside the compounds' (`basic`)."""

    scales_matter: ClassVar[bool] = True
    """Whether scaling a block could change the answers where nothing standardises it: not in trees."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Libraries that not every installation has, and that are asked for when the head is fitted or opened."""

    computes_with: ClassVar[tuple[str, ...]] = ()
    """Libraries beside NumPy, SciPy and scikit-learn whose versions a fit depends on; a kept head names them."""

    blocks: Mapping[str, int] | None = field(default=None, kw_only=False)
    """Block name to width in column order; None is one block."""

    threads: int | None = None
    """CPU threads while fitting and answering. None: as many as the libraries beneath are set to, but no more than this
    process may use cores; the heads of trees grow them with fewer. The numbers used are kept in `fit_threads_`."""

    random_state: Any = 0
    """Seed of whatever the head draws; some draw nothing."""

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        return in_order(self, N_CHAR_MAX)

    @property
    def by_chance(self) -> bool:
        """Whether another `random_state` could change the answers, with the settings as they are; heads that draw
        nothing say so."""
        return True

    def fit(
        self,
        X: Any,
        y: Any,
        groups: Any = None,
        sample_weight: Any = None,
        classes: Any = None,
        targets: Mapping[str, Any] | None = None,
        times: Any = None,
        videos: Any = None,
        basic: BasicRows | None = None,
    ) -> Self:
        """Learn from rows `X` (n, D), read as float32, and labels `y` (n,), integers or texts, or soft ones (n, k).

        `linear` and `mlp` learn from `JoinedRows` too, in bounded memory.

        Parameters
        ----------
        X : array or JoinedRows of shape (n, D)
        y : array of shape (n,) or (n, k)
            A label a row; or, for heads that learn from soft labels (`learns_soft_labels`), the share of each class in
            each row, such as annotators' votes over their number. Where such a row must be of one class, as folds are
            stratified, it is that of the largest share, the first of equal ones.
        groups : array of shape (n,), optional
            The group of each row, numbers or texts. Whatever the head chooses on rows kept aside (weights of blocks,
            temperatures, penalties, when to stop), it keeps whole groups aside: of rows of one video, those kept
            aside would be known already.
        sample_weight : array of shape (n,), optional
            How much each row counts, not negative; for heads that can weigh rows (`weighs_rows`).
        classes : array of shape (k,), optional
            What the columns of soft labels are labelled; needed beside these only. A class that has no share in any row
            is left out of `classes_`, as one without rows is.
        targets : dict of task to array of shape (n, t), optional
            What else is known of the rows, NaN where it is not; for heads of several tasks (`learns_targets`), which
            say what tasks they know.
        times : array of shape (n,), optional
            Seconds or frame numbers of the rows within their videos, NaN where not known; for heads over time
            (`learns_in_time`). Without, rows of a video stand in the order of their times.
        videos : array of shape (n,), optional
            The video of each row, an empty text for none; without, `groups` are the videos. Rows in any order.
        basic : BasicRows, optional
            Rows of basic expressions to learn from beside these; for heads that can (`learns_basic`).

        Raises
        ------
        BlockError
            If the blocks' widths do not sum to D.
        HeadConfigError
            If a setting is none that this head can have.
        HeadDataError
            If X holds NaN or infinity, or y one class only; if X stays on the disk and this head needs it in memory;
            if it cannot weigh rows, or not learn from soft labels, or these are no shares; if a class has rows of one
            group only, where the head chooses on groups kept aside.
        """
        X, y = entered_table(X, self.blocks), in_memory(y, "y")
        check_labelled(y)
        y, soft, classes, labelled = entered_labels(self, y, classes, X)
        basic = self._entered_basic(basic, groups)
        moments, groups = entered_time(self, groups, times, videos, X)
        groups, weights = entered_groups(groups, X), entered_weights(self, sample_weight, X)
        known = entered_targets(self, targets, X)
        info = RowInfo(
            groups=groups, weights=weights, soft=soft, classes=classes, targets=known, labelled=labelled,
            moments=moments, basic=basic,
        )  # fmt: skip
        if info.weights is not None and not info.weights.all():  # a row that counts nothing is as good as not there
            counted = np.flatnonzero(info.weights)
            X = rows_at(X, counted) if isinstance(X, JoinedRows) else _safe_indexing(X, counted)  # frames keep names
            y, info = _safe_indexing(y, counted), info.at(counted)
        return self._learn(X, y, info, alone=True)

    def _entered_basic(self, basic: BasicRows | None, groups: Any) -> BasicRows | None:
        """Return rows of basic expressions, refusing heads that have no use for them."""
        if basic is None:
            return None
        if not self.learns_basic or not self._wants_basic():
            raise HeadDataError(
                f"the head {self.name!r} has no use for rows of basic expressions, however: some were given\n"
                "  leave them out, or give 'mlp' or 'sequence' a curriculum, or mixed_compounds"
            )
        return basic.beside(groups)

    def _wants_basic(self) -> bool:
        """Whether the settings have a use for rows of basic expressions."""
        return False

    def _learn(self, X: Any, y: Any, info: RowInfo = NOTHING, *, alone: bool = False) -> Self:
        """Fit; `alone` unless another head asks for it, whose parts of the rows may lack what all of them have."""
        check_threads(self.threads)
        check_kinds(self)
        X, y = entered_with_labels(self, X, y)
        self.blocks_ = checked_widths(self.blocks, X.shape[1])
        refuse_unfinite(self, X)
        check_classification_targets(y)
        if info.soft is None or info.classes is None:
            self.classes_, codes = np.unique(y, return_inverse=True)
        else:
            held = info.soft.any(axis=0)
            self.classes_, info = info.classes[held], replace(info, soft=info.soft[:, held], classes=info.classes[held])
            codes = np.asarray(info.soft).argmax(axis=1)
        if len(self.classes_) < 2:
            raise HeadDataError(
                f"{type(self).__name__} needs rows of at least two classes, got one class only: "
                f"{self.classes_.tolist()[0]!r} in all {len(y)} rows (n_samples={len(y)})\n"
                "  check the split and the label set"
            )
        state = self.random_state
        self.seed_ = int(state) if isinstance(state, (int, np.integer)) else int(_drawn(state))
        if alone and info.groups is not None and self._keeps_aside():
            _refuse_classes_of_one_group(self, codes, info.groups)
        with libraries_limited(self.threads):
            threads = library_threads()
            try:
                self._fit(X, codes.astype(np.int64), info)
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

    def computed_with(self) -> tuple[str, ...]:
        """Return `computes_with` of this head and of the heads inside it."""
        inside = [getattr(self, "head_", None), *getattr(self, "members_", {}).values()]
        found = [
            *self.computes_with,
            *(library for one in inside if one is not None for library in one.computed_with()),
        ]
        return tuple(dict.fromkeys(found))

    def _own_threads(self) -> dict[str, int]:
        """Return the threads of libraries that this head tells their number, by library."""
        return {}

    def _keeps_aside(self) -> bool:
        """Whether the fit, under these settings, chooses anything on rows kept aside."""
        return False

    @abstractmethod
    def _fit(self, X: FloatArray, codes: Codes, info: RowInfo) -> None:
        """Learn from finite rows (n, D), class codes 0..k-1 (n,), and what else is known of the rows."""

    @abstractmethod
    def _proba(self, X: FloatArray) -> Proba:
        """Return probabilities (n, k) for finite rows (n, D)."""

    @abstractmethod
    def _state(self) -> HeadState:
        """Return what the fit left behind."""

    @abstractmethod
    def _restore(self, state: HeadState) -> None:
        """Take back what `_state` returned, refusing shapes that do not belong to `blocks_` and `classes_`."""


@dataclass(frozen=True, kw_only=True)
class HeadState:
    """Everything beyond its parameters that a fitted head needs to predict."""

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Named arrays; names may hold dots and slashes."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Small facts: temperatures, numbers of trees, seeds of members."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    """Whole files in a library's own format, by file name."""

    def under(self, prefix: str) -> HeadState:
        """Return the same state with `prefix` before every name, as a head keeps one of its members."""
        return HeadState(
            arrays={f"{prefix}/{name}": array for name, array in self.arrays.items()},
            values={prefix: dict(self.values)},
            files={f"{prefix}-{name}": data for name, data in self.files.items()},
        )

    def member(self, prefix: str) -> HeadState:
        """Undo `under`: the part of this state kept for one member."""
        return HeadState(
            arrays={n[len(prefix) + 1 :]: a for n, a in self.arrays.items() if n.startswith(f"{prefix}/")},
            values=self.values[prefix],
            files={n[len(prefix) + 1 :]: d for n, d in self.files.items() if n.startswith(f"{prefix}-")},
        )

    def __or__(self, other: HeadState) -> HeadState:
        """Join two states whose names differ."""
        return HeadState(
            arrays={**self.arrays, **other.arrays},
            values={**self.values, **other.values},
            files={**self.files, **other.files},
        )


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


def fit_part(
    head: Any,
    X: Any,
    y: Any,
    groups: Any = None,
    soft: Floats | None = None,
    targets: Mapping[str, Floats] | None = None,
    *,
    in_time: tuple[Sequence[str], Floats] | None = None,
    basic: BasicRows | None = None,
) -> Any:
    """Fit any classifier on a part of the rows, with their groups, soft labels and further targets where it takes them.

    A part, such as a fold, may have a class in one group only. Nothing of it is then kept aside, where `fit` refuses.

    Parameters
    ----------
    head : classifier
    X, y, groups
        As `Head.fit` takes them; `y` are labels always.
    soft : float64 array of shape (n, k), optional
        Share of each class in each row, where the labels are 0..k-1.
    targets : dict of task to array of shape (n, t), optional
        As `Head.fit` takes them.
    in_time : videos and times of the rows, optional
    basic : BasicRows, optional
    """
    if isinstance(head, Head):
        known = entered_targets(head, targets, X) if head.learns_targets else None
        beside = head._entered_basic(basic, groups) if head.learns_basic and head._wants_basic() else None
        moments = None
        if head.learns_in_time and in_time is not None:
            moments, groups = entered_time(head, groups, in_time[1], in_time[0], X)
        info = RowInfo(groups=entered_groups(groups, X), targets=known, moments=moments, basic=beside)
        if soft is not None and head.learns_soft_labels:
            info = replace(info, soft=soft, classes=np.arange(soft.shape[1]))
        if info.groups is not None and (few := _of_one_group(*np.unique(y, return_inverse=True), info.groups)):
            logger.info("all rows of %s are of one group: none of them is kept aside", ", ".join(few))
        return head._learn(X, y, info)
    taken = {} if groups is None or not has_fit_parameter(head, "groups") else {"groups": np.asarray(groups)}
    return head.fit(X, y, **taken)


def _refuse_classes_of_one_group(head: Head, codes: Codes, groups: NDArray[np.int64]) -> None:
    if few := _of_one_group(head.classes_, codes, groups):
        raise HeadDataError(
            f"{head.name} chooses on groups kept aside, however: all rows of {', '.join(few)} are of one group\n"
            "  give the class rows of another group, leave the class out, or set what the head would choose"
        )


def _of_one_group(classes: NDArray[Any], codes: NDArray[Any], groups: NDArray[np.int64]) -> list[str]:
    pairs = np.unique(np.stack([codes, groups]), axis=1)
    return [repr(str(classes[code])) for code in np.flatnonzero(np.bincount(pairs[0]) == 1)]


def _drawn(random_state: Any) -> int:
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def entered_with_labels(head: Head, X: Any, y: Any) -> tuple[Matrix, NDArray[Any]]:
    """Return rows (n, D) and labels (n,) to fit on: an array as float32, lazy rows as they are.

    Raises
    ------
    HeadDataError
        If the rows are lazy and the head cannot learn in pieces.
    ValueError
        As scikit-learn's own checks do.
    """
    if not isinstance(X, JoinedRows):
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity, which is refused later by place
            found: tuple[FloatArray, NDArray[Any]] = validate_data(head, X, y, **_AS_ROWS)
        return found
    _refuse_what_needs_memory(head, X)
    labels: NDArray[Any] = column_or_1d(y, warn=True)
    check_consistent_length(X, labels)
    if not len(X):
        raise HeadDataError("there are no rows to learn from\n  check the split and the label set")
    _refuse_other_blocks(head.blocks, X)
    head.n_features_in_ = X.shape[1]
    return X, labels


def entered(head: Head, X: Any) -> Matrix:
    """Return rows (n, D) to answer about: an array as float32, lazy rows as they are.

    Raises
    ------
    BlockError
        If lazy rows are joined from other blocks than those the head learned from.
    ValueError
        As scikit-learn's own checks do.
    """
    if not isinstance(X, JoinedRows):
        with np.errstate(over="ignore"):
            return np.asarray(validate_data(head, entered_table(X, head.blocks_), reset=False, **_AS_ROWS))
    if X.shape[1] != head.n_features_in_:
        raise BlockError(
            f"X has {X.shape[1]} features, but {type(head).__name__} is expecting {head.n_features_in_} features"
        )
    if not len(X):
        raise HeadDataError("there are no rows to answer about")
    _refuse_other_blocks(head.blocks_, X)
    return X


def refuse_unfinite(head: Head, X: Matrix) -> None:
    """Refuse rows with NaN or infinity, naming the first one's place; lazy rows are read through once."""

    def look(start: int, piece: FloatArray) -> None:
        refuse_unfinite_piece(head, start, piece)

    deque(each_piece(X, look), maxlen=0)


def refuse_unfinite_piece(head: Head, start: int, piece: FloatArray) -> FloatArray:
    """Return rows (m, D), the first of which is row `start`, if all of them are finite.

    Raises
    ------
    HeadDataError
        Naming row, block and column of the first value that is not.
    """
    # The sum is finite only if every value is, unless large finite values overflow: then look value by value.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(piece.sum(dtype=np.float64)):
            return piece
    rows, columns = np.nonzero(~np.isfinite(piece))
    if len(rows) == 0:
        return piece
    row, column = int(rows[0]), int(columns[0])
    where = next((n, column - s.start) for n, s in slices(head.blocks_).items() if s.start <= column < s.stop)
    span = f" looked at from row {start} on" if start else ""
    raise HeadDataError(
        f"X holds NaN or infinity (inf): {len(rows)} of {piece.size} values, in {len(np.unique(rows))} of {len(piece)} "
        f"rows{span}\n"
        f"  first: row {start + row}, block {where[0]!r}, column {where[1]} of it: {piece[row, column]}\n"
        f"  {type(head).__name__} takes none as 'missing': embed those samples again or leave them out"
    )


def _refuse_what_needs_memory(head: Head, X: JoinedRows) -> None:
    if head.learns_in_pieces:
        return
    raise HeadDataError(
        f"the head {head.name!r} learns from rows in memory only, at least {X.nbytes:,} bytes for {len(X):,} rows of "
        f"{X.shape[1]:,} columns, however: these rows stay on the disk\n"
        "  load them (Rows.of(view), numpy.asarray(X)), or use one of cer_fusion.fusion.heads.heads_in_pieces()"
    )


def _refuse_other_blocks(blocks: Any, X: JoinedRows) -> None:
    """Lazy rows know their blocks by name: of equal widths in another order they must not pass."""
    if not isinstance(blocks, Mapping) or list(blocks) == [WHOLE] or list(blocks.items()) == list(X.widths.items()):
        return
    expected, found = (", ".join(f"{name}={width}" for name, width in one.items()) for one in (blocks, X.widths))
    raise BlockError(
        f"X must join the head's blocks in the head's order, however: expected {expected}, found {found}\n"
        "  join the same blocks in the same order: JoinedRows(view.blocks)"
    )
