"""Accuracy, macro F1, confusion and agreement of decisions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...kit.errors import nearest
from ..errors import ReportError

if TYPE_CHECKING:
    from collections.abc import Mapping


FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
OwnMetric: TypeAlias = Callable[[IntArray, IntArray], float]
"""A metric of the user's own: true and predicted class positions, (n,) each, to a number; scikit-learn's are such."""
Metrics: TypeAlias = Sequence[str | OwnMetric]
"""Further metrics: names of `METRICS`, and functions, whose names their rows bear."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores:
    """What a set of predictions is worth; every array is in the order of ``classes``."""

    classes: tuple[str, ...]
    """The declared classes, in order."""
    confusion: IntArray
    """(k, k) counts: row = truth, column = prediction."""

    def __repr__(self) -> str:
        """Return the figures; the counts are left to whoever asks for them."""
        figures = f"accuracy {100 * self.accuracy:.2f} %  macro F1 {100 * self.macro_f1:.2f} %" if self.n else "none"
        return f"<Scores: {self.n:,} rows, {len(self.classes)} classes; {figures}>"

    @property
    def n(self) -> int:
        """Rows that were scored."""
        return int(self.confusion.sum())

    @property
    def supports(self) -> IntArray:
        """(k,) rows whose truth is the class."""
        supports: IntArray = self.confusion.sum(axis=1)
        return supports

    @property
    def correct(self) -> IntArray:
        """(k,) rows of the class that were predicted right."""
        return np.diagonal(self.confusion).copy()

    @property
    def accuracy(self) -> float:
        """Share of the rows that were predicted right, 0-1."""
        return int(np.trace(self.confusion)) / self.n

    @property
    def recall(self) -> FloatArray:
        """(k,) per-class accuracy (the paper's word for recall), 0-1; NaN for a class without rows."""
        return _ratio(self.correct, self.supports, empty=np.nan)

    @property
    def precision(self) -> FloatArray:
        """(k,) 0-1; NaN for a class that was never predicted."""
        return _ratio(self.correct, self.confusion.sum(axis=0), empty=np.nan)

    @property
    def f1(self) -> FloatArray:
        """(k,) per-class F1 = 2 tp / (support + predicted), 0-1; 0 for a class in neither truth nor prediction."""
        return _ratio(2 * self.correct, self.supports + self.confusion.sum(axis=0), empty=0.0)

    @property
    def macro_f1(self) -> float:
        """Mean of the F1 of **all** declared classes (the paper's equation 3), 0-1.

        A class without rows counts as 0, as an unlucky one would; ``absent`` and ``unsupported`` tell them apart.
        """
        return float(self.f1.mean())

    @property
    def macro_f1_supported(self) -> float:
        """Mean of the F1 of the classes that have rows, 0-1: what macro F1 is without those that nothing can win."""
        return float(self.f1[self.supports > 0].mean())

    @property
    def mean_recall(self) -> float:
        """Mean per-class accuracy over the classes that have rows, 0-1."""
        return float(np.nanmean(self.recall))

    @property
    def weighted_f1(self) -> float:
        """Mean of the per-class F1 weighted by the classes' rows, 0-1."""
        return float(weighted_f1(self.confusion))

    @property
    def unsupported(self) -> tuple[str, ...]:
        """Classes without a row in the truth: they have no per-class accuracy and pull macro F1 down."""
        return _named(self.classes, self.supports == 0)

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes in neither truth nor prediction: their F1 is 0/0, counted as 0."""
        return _named(self.classes, self.supports + self.confusion.sum(axis=0) == 0)

    def to_dict(self) -> dict[str, Any]:
        """Every figure as plain JSON values; an undefined ratio is None."""
        return {
            "n": self.n,
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "classes": list(self.classes),
            "supports": self.supports.tolist(),
            "correct": self.correct.tolist(),
            "per_class_accuracy": _plain(self.recall),
            "per_class_precision": _plain(self.precision),
            "per_class_f1": _plain(self.f1),
            "confusion": self.confusion.tolist(),
            "unsupported": list(self.unsupported),
            "absent": list(self.absent),
        }


def uar(confusion: NDArray[Any]) -> FloatArray:
    """Unweighted average recall of (..., k, k) counts, over the classes that have rows: (...), 0-1."""
    right, rows = np.diagonal(confusion, axis1=-2, axis2=-1), confusion.sum(axis=-1)
    found: FloatArray = (right / np.maximum(rows, 1)).sum(axis=-1) / np.maximum((rows > 0).sum(axis=-1), 1)
    return found


def weighted_f1(confusion: NDArray[Any]) -> FloatArray:
    """Mean of the per-class F1 of (..., k, k) counts, weighted by the rows of the classes: (...), 0-1."""
    rows = confusion.sum(axis=-1)
    found: FloatArray = (class_f1(confusion) * rows).sum(axis=-1) / np.maximum(rows.sum(axis=-1), 1)
    return found


def class_f1(confusion: NDArray[Any]) -> FloatArray:
    """F1 of each class from (..., k, k) counts: (..., k), 0-1; 0 for a class in neither truth nor prediction."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    found: FloatArray = 2 * right / np.maximum(confusion.sum(axis=-1) + confusion.sum(axis=-2), 1)
    return found


METRICS: dict[str, Callable[[NDArray[Any]], FloatArray]] = {"uar": uar, "weighted_f1": weighted_f1, "f1": class_f1}
"""Metrics beside accuracy, per-class accuracy and macro F1: of (..., k, k) counts; `f1` is a figure a class."""


def check_metrics(metrics: Metrics) -> None:
    """Refuse metrics that are not known, have no name of their own, or are there twice."""
    if isinstance(metrics, str | Mapping) or not isinstance(metrics, Sequence):
        raise ReportError(
            f"metrics must be a list, however: {metrics!r}\n  for instance ['uar', sklearn.metrics.cohen_kappa_score]; "
            "a function's name is what it is called"
        )
    for one in metrics:
        if not isinstance(one, str) and hasattr(one, "_score_func"):
            raise ReportError(
                f"{one!r} is a scorer of scikit-learn, which asks the estimator itself\n"
                f"  give the function that it was made of: {getattr(one._score_func, '__name__', 'score_func')}"
            )
        if isinstance(one, str) and one not in METRICS:
            raise ReportError(f"there is no metric {one!r}; {nearest(one, METRICS)}")
        if not isinstance(one, str) and not metric_name(one).isidentifier():
            raise ReportError(
                f"a metric of your own is a function, told by its name, however: {one!r}\n"
                "  give it one with def, not lambda or functools.partial"
            )
    names = [metric_name(one) for one in metrics]
    if len(set(names)) < len(names):
        raise ReportError(f"a metric is there twice: {', '.join(names)}")


def metric_name(metric: str | OwnMetric) -> str:
    """Return what a metric is called."""
    return metric if isinstance(metric, str) else getattr(metric, "__name__", "")


def scores(y_true: ArrayLike, y_pred: ArrayLike, classes: Sequence[str]) -> Scores:
    """Score predictions against the truth.

    Parameters
    ----------
    y_true, y_pred : array of shape (n,)
        Class names, or integer positions in ``classes``.
    classes : sequence of str
        The declared classes in order; macro F1 averages over all of them.

    Raises
    ------
    ReportError
        If there are no rows, the lengths differ, or a value is no declared class.
    """
    declared = tuple(classes)
    return Scores(
        classes=declared,
        confusion=confusion_matrix(indices(y_true, declared), indices(y_pred, declared), len(declared)),
    )


def confusion_matrix(y_true: IntArray, y_pred: IntArray, k: int) -> IntArray:
    """Count (truth, prediction) pairs of class positions: (n,), (n,) -> (k, k), row = truth."""
    if y_true.shape != y_pred.shape or y_true.ndim != 1:
        raise ReportError(
            f"truth and prediction must be two vectors of one length, however: {y_true.shape} and {y_pred.shape}"
        )
    if not y_true.size:
        raise ReportError("there are no rows to score\n  give at least one row with a known label")
    return np.bincount(y_true * k + y_pred, minlength=k * k).reshape(k, k).astype(np.int64)


def indices(labels: ArrayLike, classes: Sequence[str]) -> IntArray:
    """Turn labels (class names, or already positions in ``classes``) into positions, refusing all others."""
    values = np.asarray(labels)
    if values.ndim != 1:
        raise ReportError(f"labels must be a vector, however: shape {values.shape}")
    if len(set(classes)) != len(classes) or not classes:
        raise ReportError(f"classes must be a non-empty list of different names, however: {list(classes)}")
    if values.size and np.issubdtype(values.dtype, np.integer):
        outside = (values < 0) | (values >= len(classes))
        if outside.any():
            first = int(np.flatnonzero(outside)[0])
            raise ReportError(
                f"{int(outside.sum())} of {values.size} labels lie outside 0..{len(classes) - 1} "
                f"(first: {values[first]} in row {first})\n  classes: {', '.join(classes)}"
            )
        return values.astype(np.int64)
    position: Mapping[str, int] = {name: i for i, name in enumerate(classes)}
    unknown = sorted({str(value) for value in values.tolist() if value not in position})
    if unknown:
        raise ReportError(
            f"labels that are no declared class: {', '.join(unknown[:5])}\n  classes: {', '.join(classes)}"
        )
    return np.array([position[value] for value in values.tolist()], dtype=np.int64)


def _ratio(numerator: IntArray, denominator: IntArray, *, empty: float) -> FloatArray:
    out = np.full(numerator.shape, empty, dtype=np.float64)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def _named(classes: tuple[str, ...], mask: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(name for name, hit in zip(classes, mask.tolist(), strict=True) if hit)


def _plain(values: FloatArray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def cohen_kappa(confusion: NDArray[Any]) -> float | None:
    """Agreement beyond chance (Cohen 1960) of a (k, k) table: 1 full, 0 as by chance; None if chance alone is full."""
    from sklearn.metrics import cohen_kappa_score

    if np.diagonal(confusion).max() == confusion.sum():  # both always say the same one class
        return None
    rows, columns = np.indices(confusion.shape).reshape(2, -1)
    return float(cohen_kappa_score(rows, columns, sample_weight=confusion.ravel()))
