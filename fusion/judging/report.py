"""The result of a comparison: what each head answered, what that is worth, how long it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from cer_fusion.fusion.errors import ReportError, nearest
from cer_fusion.fusion.files.sealed import known_keys, read_sealed, write_sealed
from cer_fusion.fusion.judging.metrics import Scores, scores
from cer_fusion.fusion.judging.statistics.intervals import Interval, Metric
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

FORMAT, FORMAT_VERSION = "cer-report", 1


@dataclass(frozen=True, kw_only=True)
class Versus:
    """A head against the baseline, on the same rows; differences are head minus baseline, 0-1, of means over runs."""

    accuracy: float
    """Difference of the accuracies."""
    accuracy_interval: Interval
    """Its paired bootstrap interval."""
    macro_f1: float
    """Difference of the macro F1."""
    macro_f1_interval: Interval
    """Its paired bootstrap interval."""
    only_head: int
    """Rows that only this head got right, in the first run."""
    only_baseline: int
    """Rows that only the baseline got right, in the first run."""
    p: float | None
    """Exact McNemar, two-sided, uncorrected; None when rows share groups (the test needs independent rows)."""
    p_holm: float | None
    """The same, Holm-corrected over all columns that were tested."""
    p_macro_f1: float | None = None
    """Two-sided p-value of the difference of the macro F1, from the paired bootstrap, uncorrected."""
    p_macro_f1_holm: float | None = None
    """The same, Holm-corrected over all columns that were tested."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One more set of answers of a head to the same rows: fitted with another seed, or on other folds."""

    y_pred: IntArray
    """(n,) predicted class positions."""
    scores: Scores
    """What the predictions are worth."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One head (or single backbone) of a comparison."""

    name: str
    """Column title, unique in the report."""
    kind: Literal["head", "single"]
    """A head on all blocks, or a head on the blocks of one backbone."""
    head: str
    """The estimator's class name."""
    blocks: tuple[str, ...]
    """The blocks it saw, in order."""
    params: Mapping[str, Any]
    """Its parameters, as JSON values."""
    fit_s: float
    """Training time, seconds of wall clock; the mean of all fits."""
    predict_s: float
    """Time to predict all test rows, seconds of wall clock; the mean of all runs."""
    y_pred: IntArray
    """(n,) predicted class positions of the first run."""
    proba: FloatArray
    """(n, k) class probabilities of the first run, in the order of the report's classes."""
    scores: Scores
    """What the predictions of the first run are worth."""
    accuracy: Interval
    """Interval of the accuracy (of its mean over the runs)."""
    macro_f1: Interval
    """Interval of the macro F1 (of its mean over the runs)."""
    versus: Versus | None
    """Against the baseline; None for the baseline itself and when there is none."""
    other_runs: tuple[Run, ...] = ()
    """What it answered in other runs: with other seeds, or other folds."""
    letters: str = ""
    """Columns that share a letter cannot be told apart by macro F1; empty where nobody asked."""
    fitted: Any = None
    """The fitted head itself; not kept in a report's file, so None when read back or fitted fold by fold."""

    @property
    def recall(self) -> FloatArray:
        """(k,) per-class accuracy, 0-1, the mean over all runs; NaN for a class without rows."""
        return np.mean([run.recall for run in self._all_scores], axis=0)  # type: ignore[no-any-return]

    def mean(self, metric: Metric) -> float:
        """Return the mean of a score over all runs, 0-1: what the intervals and the differences are about."""
        return float(np.mean([getattr(run, metric) for run in self._all_scores]))

    def spread(self, metric: Metric) -> float | None:
        """Return the standard deviation of a score over the runs, 0-1; None for a single run."""
        values = [getattr(run, metric) for run in self._all_scores]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    @property
    def _all_scores(self) -> list[Scores]:
        return [self.scores, *(run.scores for run in self.other_runs)]


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """A comparison of heads on the same test rows."""

    classes: tuple[str, ...]
    """The declared classes in order."""
    ids: tuple[str, ...]
    """Sample ids of the test rows."""
    y_true: IntArray
    """(n,) true class positions."""
    columns: tuple[Column, ...]
    """Heads first, then single backbones."""
    baseline: str | None
    """The column the others are tested against."""
    train_supports: tuple[int, ...]
    """Training rows per class."""
    clustered: bool
    """Whether test rows share groups, so that whole groups were resampled."""
    level: float
    """Nominal coverage of the intervals, 0-1."""
    resamples: int
    """Bootstrap resamples."""
    seed: int
    """Seed of the bootstrap, and of heads that had none."""
    fingerprints: Mapping[str, str]
    """Feature -> fingerprint, where known."""
    notes: tuple[str, ...]
    """What a reader must know, one sentence each."""
    folds: int = 0
    """0: heads learned from the training rows and were judged on others. Else the folds of a cross-validation: every
    row was answered by a head that had not learned from it, and the training rows are the test rows."""

    def column(self, name: str) -> Column:
        """Return the column of that name."""
        for column in self.columns:
            if column.name == name:
                return column
        raise ReportError(f"there is no column {name!r}; {nearest(name, [c.name for c in self.columns])}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {
            "classes": list(self.classes),
            "ids": list(self.ids),
            "y_true": self.y_true.tolist(),
            "columns": [_column_to_dict(column) for column in self.columns],
            "train_supports": list(self.train_supports),
            "fingerprints": dict(self.fingerprints),
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Report:
        """Rebuild a report; unknown keys, and figures that do not follow from the stored answers, are refused.

        A report from before there were folds, runs and letters has none.
        """
        plain = {"folds": 0} | plain
        known_keys(plain, {field.name for field in fields(cls)}, "the report")
        try:
            classes, y_true = tuple(plain["classes"]), np.asarray(plain["y_true"], np.int64)
            if len(plain["ids"]) != y_true.size:
                raise ReportError(f"a report needs one id a row, however: {len(plain['ids'])} ids, {y_true.size} rows")
            return cls(
                **plain
                | {
                    "classes": classes,
                    "ids": tuple(plain["ids"]),
                    "y_true": y_true,
                    "columns": tuple(_column_from_dict(column, y_true, classes) for column in plain["columns"]),
                    "train_supports": tuple(plain["train_supports"]),
                    "notes": tuple(plain["notes"]),
                }
            )
        except ReportError:
            raise
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
            raise ReportError(f"the report holds a value of the wrong kind: {error}") from None

    def save(self, path: Path, *, overwrite: bool = True) -> Path:
        """Write the report as JSON that carries its own digest, whole or not at all; see `write_atomic`."""
        return write_sealed(path, self.to_dict(), kind=FORMAT, version=FORMAT_VERSION, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a report written by `save`."""
        return cls.from_dict(read_sealed(path, kind=FORMAT, version=FORMAT_VERSION))


def run_of(y_true: IntArray, y_pred: IntArray, classes: tuple[str, ...]) -> Run:
    """Return predictions (n,) with what they are worth."""
    return Run(y_pred=y_pred, scores=scores(y_true, y_pred, classes))


def plain_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return estimator parameters as JSON values; what JSON cannot say is given as its repr."""
    return {str(name): _plain(value) for name, value in params.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else repr(value)
    if is_dataclass(value) and not isinstance(value, type):
        return plain_params(asdict(value))
    if isinstance(value, Mapping):
        return plain_params(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return repr(value)


_COLUMN_KEYS = tuple(field.name for field in fields(Column) if field.name != "fitted")


def _column_to_dict(column: Column) -> dict[str, Any]:
    plain = {name: getattr(column, name) for name in _COLUMN_KEYS}
    return plain | {
        "blocks": list(column.blocks),
        "params": dict(column.params),
        "y_pred": column.y_pred.tolist(),
        "proba": column.proba.tolist(),
        "scores": column.scores.to_dict(),
        "accuracy": asdict(column.accuracy),
        "macro_f1": asdict(column.macro_f1),
        "versus": None if column.versus is None else asdict(column.versus),
        "other_runs": [run.y_pred.tolist() for run in column.other_runs],
    }


def _column_from_dict(plain: dict[str, Any], y_true: IntArray, classes: tuple[str, ...]) -> Column:
    plain = {"other_runs": [], "letters": ""} | plain
    known_keys(plain, set(_COLUMN_KEYS), "a column of the report")
    y_pred = np.asarray(plain["y_pred"], np.int64)
    proba = np.asarray(plain["proba"], np.float64)
    if proba.shape != (y_true.size, len(classes)):
        raise ReportError(
            f"probabilities must have shape {(y_true.size, len(classes))}, however: {proba.shape}\n"
            f"  in column: {plain['name']}"
        )
    found = scores(y_true, y_pred, classes)
    if found.to_dict() != plain["scores"]:
        raise ReportError(f"the figures of column {plain['name']!r} do not follow from its predictions")
    return Column(
        **plain
        | {
            "blocks": tuple(plain["blocks"]),
            "y_pred": y_pred,
            "proba": proba,
            "scores": found,
            "accuracy": Interval(**plain["accuracy"]),
            "macro_f1": Interval(**plain["macro_f1"]),
            "versus": None if plain["versus"] is None else _versus_from_dict(plain["versus"]),
            "other_runs": tuple(run_of(y_true, np.asarray(run, np.int64), classes) for run in plain["other_runs"]),
        }
    )


def _versus_from_dict(plain: dict[str, Any]) -> Versus:
    plain = {"p_macro_f1": None, "p_macro_f1_holm": None} | plain
    known_keys(plain, {field.name for field in fields(Versus)}, "a paired test of the report")
    intervals = {name: Interval(**plain[name]) for name in ("accuracy_interval", "macro_f1_interval")}
    return Versus(**plain | intervals)
