"""The result of a comparison: every column's figures, intervals and verdicts, kept as sealed JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ...kit.documents import read_sealed, write_sealed
from ...kit.errors import nearest
from ...kit.plain import NOT_KEPT, from_plain, to_plain
from ..errors import ReportError
from ..keeping.answers import Truth
from .entries import Answer, Entry
from .metrics import METRICS, Metrics, Scores, metric_name, scores
from .resampling import (
    Bootstrap,
    Interval,
    Metric,
    accuracy_interval,
    bootstrap,
    figure_interval,
    figures_on,
    thin,
)
from .significance import (
    POWER,
    Exchange,
    bootstrap_p,
    exchange,
    holm,
    letters_of,
    mcnemar,
    optimism,
    smallest_difference,
    smallest_shift,
)

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

FORMAT, FORMAT_VERSION = "cer-report", 2

_EXCHANGES = 2000  # for letters: their correction has no need of more


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
    p_macro_f1: float
    """Two-sided p-value of the difference of the macro F1, uncorrected: from the paired bootstrap; where rows share
    groups, from exchanging the answers to whole groups."""
    p_macro_f1_holm: float
    """The same, Holm-corrected over all columns that were tested."""
    p_is_bound: bool
    """Whether ``p_macro_f1`` is the smallest that so many draws can give: it and its correction are upper bounds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One more set of answers of a head to the same rows: fitted with another seed, or on other folds."""

    y_pred: IntArray
    """(n,) predicted class positions."""
    scores: Scores
    """What the predictions are worth."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A further metric of one column."""

    metric: str
    """A name of `METRICS`, or of the user's own function."""
    of_class: str | None
    """The class it is about; None for all."""
    value: float
    """The figure (its mean over the runs): 0-1 for a metric of `METRICS`."""
    interval: Interval
    """Its interval: percentiles, or the jackknife's where rows share groups."""


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
    figures: tuple[Figure, ...] = ()
    """Further metrics, where asked for."""
    fitted: Any = field(default=None, metadata=NOT_KEPT)
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
    """Whether test rows share groups, so that whole groups were left out, resampled and exchanged."""
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
    split: str = ""
    """The split that was judged; empty where it is not known."""
    train_split: str = ""
    """The split that the heads learned from; empty where it is not known."""

    @property
    def rows(self) -> str:
        """The judged rows in words: ``355 valid rows``; those of an unknown split are called test rows."""
        known = self.split or ("" if self.folds else "test")
        return f"{len(self.ids):,} {known} rows" if known else f"{len(self.ids):,} rows"

    def column(self, name: str) -> Column:
        """Return the column of that name."""
        for column in self.columns:
            if column.name == name:
                return column
        raise ReportError(f"there is no column {name!r}; {nearest(name, [c.name for c in self.columns])}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        plain: dict[str, Any] = to_plain(self)
        return plain | {"columns": [_column_to_dict(column) for column in self.columns]}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Report:
        """Rebuild a report; unknown keys, and figures that do not follow from the stored answers, are refused."""
        plain = {"split": "", "train_split": ""} | plain  # files of before the splits were kept have neither
        bare = from_plain(cls, plain, "the report", error=ReportError, instead={"columns": ()})
        if len(bare.ids) != bare.y_true.size:
            raise ReportError(f"a report needs one id a row, however: {len(bare.ids)} ids, {bare.y_true.size} rows")
        if not isinstance(plain["columns"], list):
            raise ReportError(f"a report needs a list of columns, however: {type(plain['columns']).__name__}")
        return replace(
            bare, columns=tuple(_column_from_dict(one, bare.y_true, bare.classes) for one in plain["columns"])
        )

    def save(self, path: Path, *, overwrite: bool = True) -> Path:
        """Write the report as JSON that carries its own digest, whole or not at all; see `write_whole`."""
        return write_sealed(path, self.to_dict(), kind=FORMAT, version=FORMAT_VERSION, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a report written by `save`."""
        return cls.from_dict(read_sealed(path, kind=FORMAT, version=FORMAT_VERSION, error=ReportError))


def run_of(y_true: IntArray, y_pred: IntArray, classes: tuple[str, ...]) -> Run:
    """Return predictions (n,) with what they are worth."""
    return Run(y_pred=y_pred, scores=scores(y_true, y_pred, classes))


def _column_to_dict(column: Column) -> dict[str, Any]:
    runs = [run.y_pred.tolist() for run in column.other_runs]
    plain: dict[str, Any] = to_plain(column)
    return plain | {"scores": column.scores.to_dict(), "other_runs": runs}


def _column_from_dict(plain: Any, y_true: IntArray, classes: tuple[str, ...]) -> Column:
    plain = {"figures": []} | plain if isinstance(plain, dict) else plain  # older files have none
    bare = from_plain(
        Column, plain, "a column of the report", error=ReportError, instead={"scores": None, "other_runs": ()}
    )
    if bare.proba.shape != (y_true.size, len(classes)):
        raise ReportError(
            f"probabilities must have shape {(y_true.size, len(classes))}, however: {bare.proba.shape}\n"
            f"  in column: {bare.name}"
        )
    try:
        found = scores(y_true, bare.y_pred, classes)
        runs = tuple(run_of(y_true, np.asarray(run, np.int64), classes) for run in plain["other_runs"])
    except (TypeError, ValueError, OverflowError) as error:
        raise ReportError(f"column {bare.name!r} holds answers of the wrong kind: {error}") from None
    if found.to_dict() != plain["scores"]:
        raise ReportError(f"the figures of column {bare.name!r} do not follow from its predictions")
    for one in bare.figures:
        if one.metric in METRICS and not np.isclose(
            one.value, _again(one, classes, [found, *(r.scores for r in runs)])
        ):
            raise ReportError(f"the {one.metric} of column {bare.name!r} does not follow from its predictions")
    return replace(bare, scores=found, other_runs=runs)


def _again(one: Figure, classes: tuple[str, ...], runs: Sequence[Scores]) -> float:
    found = METRICS[one.metric](np.stack([run.confusion for run in runs])).mean(axis=0)
    return float(found[classes.index(one.of_class)] if one.of_class in classes else found.mean())


class Judgeable(Protocol):
    """What a column is about: an `Entry`, or a run that was kept."""

    @property
    def title(self) -> str:
        """Column title, unique."""

    @property
    def kind(self) -> Literal["head", "single"]:
        """A head on all blocks, or a head on the blocks of one backbone."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks it saw, in order."""

    @property
    def head_name(self) -> str:
        """The estimator's class name."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Its parameters, as JSON values."""


Judged = TypeVar("Judged", bound=Judgeable)


def judged(
    answers: Mapping[Judged, Sequence[Answer]],
    test: Truth,
    *,
    train_supports: tuple[int, ...],
    fingerprints: Mapping[str, str],
    baseline: str | None,
    resamples: int,
    level: float,
    seed: int,
    folds: int = 0,
    notes: Sequence[str] = (),
    train_split: str = "",
    metrics: Metrics = (),
) -> Report:
    """Judge what entries answered about the same test rows.

    Parameters
    ----------
    answers : dict of entry to answers
        An answer a run, as many for every entry.
    test : Truth
        The rows that the answers are about.
    train_supports : tuple of int
        Rows a class that the heads learned from.
    fingerprints : dict of feature to fingerprint
        Of the features, where known.
    baseline, resamples, level, seed
        As for `compare`.
    folds, notes, train_split
        As in the report.
    metrics : sequence of str or function
        Further metrics, see `compare`.
    """
    y_pred = np.stack([[run.proba.argmax(axis=1) for run in runs] for runs in answers.values()])  # (h, s, n)
    h, s, n = y_pred.shape
    draws = bootstrap(
        test.y, y_pred.reshape(h * s, n), len(test.classes), groups=test.clusters, resamples=resamples, seed=seed
    ).averaged(s)
    columns = [
        _column(test, entry, runs, y_pred[i], draws, i, level) for i, (entry, runs) in enumerate(answers.items())
    ]
    base = None if baseline is None else [column.name for column in columns].index(baseline)
    if base is not None:
        columns = _tested(columns, base, test, y_pred, draws, level, seed)
    columns, told = _lettered(columns, test, y_pred, min(resamples, _EXCHANGES), level, seed)
    columns = _measured(columns, test, y_pred, metrics, resamples, level, seed)
    few = thin(test.y, test.clusters, test.classes)
    return Report(
        classes=test.classes,
        ids=test.names,
        y_true=test.y,
        columns=tuple(columns),
        baseline=baseline,
        train_supports=train_supports,
        clustered=test.clusters is not None,
        level=level,
        resamples=resamples,
        seed=seed,
        fingerprints=dict(fingerprints),
        notes=(
            *_missing_classes(test, train_supports),
            *([] if few is None else [few]),
            *notes,
            *told,
            *cautions(columns, base, test, draws, level),
        ),
        folds=folds,
        split=test.split,
        train_split=train_split,
    )


def check_baseline(baseline: str | None, titles: Sequence[str]) -> None:
    """Refuse a baseline that is no column, before anything is fitted."""
    if baseline is not None and baseline not in titles:
        raise ReportError(f"there is no column {baseline!r} to test against; {nearest(baseline, titles)}")


def singles_note(entries: Sequence[Entry], head: str) -> tuple[str, ...]:
    """Say what the columns of single backbones are, where there are any: ``head '...'`` in words."""
    names = ", ".join(entry.title for entry in entries if entry.kind == "single")
    return (f"Single backbones ({names}): {head} on that backbone's blocks alone.",) if names else ()


def _column(
    test: Truth, entry: Judgeable, runs: Sequence[Answer], y_pred: IntArray, draws: Bootstrap, i: int, level: float
) -> Column:
    found = scores(test.y, y_pred[0], test.classes)
    alone = accuracy_interval(
        int(found.correct.sum()), found.n, draws, i, independent=test.clusters is None, level=level
    )
    return Column(
        name=entry.title,
        kind=entry.kind,
        head=entry.head_name,
        blocks=entry.blocks,
        params=entry.params,
        fit_s=round(float(np.mean([run.fit_s for run in runs])), 4),
        predict_s=round(float(np.mean([run.predict_s for run in runs])), 4),
        y_pred=y_pred[0],
        proba=runs[0].proba,
        scores=found,
        accuracy=alone if len(runs) == 1 else draws.interval("accuracy", i, level),
        macro_f1=draws.interval("macro_f1", i, level),
        versus=None,
        other_runs=tuple(run_of(test.y, other, test.classes) for other in y_pred[1:]),
        fitted=runs[0].head,
    )


def _measured(
    columns: list[Column], test: Truth, y_pred: IntArray, metrics: Metrics, resamples: int, level: float, seed: int
) -> list[Column]:
    """Give columns further metrics of their answers, (h, s, n): means over the runs, with intervals."""
    h, s, n = y_pred.shape
    found: list[tuple[Figure, ...]] = [()] * h
    for metric in metrics:
        whole, others = figures_on(
            test.y, y_pred.reshape(h * s, n), METRICS[metric] if isinstance(metric, str) else None,
            None if isinstance(metric, str) else metric, len(test.classes), groups=test.clusters,
            resamples=min(resamples, _EXCHANGES), seed=seed,
        )  # fmt: skip
        if whole.ndim != 2 or others.ndim != 3 or not (np.isfinite(whole).all() and np.isfinite(others).all()):
            raise ReportError(
                f"the metric {metric_name(metric)!r} must give one finite number, also on part of the rows"
            )
        whole = whole.reshape(h, s, -1).mean(axis=1)  # (h s, m) -> (h, m)
        others = others.reshape(len(others), h, s, -1).mean(axis=2)  # (r, h s, m) -> (r, h, m)
        names = test.classes if whole.shape[1] > 1 or metric == "f1" else (None,)
        for i in range(h):
            found[i] += tuple(
                Figure(
                    metric=metric_name(metric), of_class=name, value=float(whole[i, m]),
                    interval=figure_interval(float(whole[i, m]), others[:, i, m], level,
                                             clustered=test.clusters is not None, share=isinstance(metric, str)),
                )
                for m, name in enumerate(names)
            )  # fmt: skip
    return [replace(column, figures=figures) for column, figures in zip(columns, found, strict=True)]


def _tested(
    columns: Sequence[Column], base: int, test: Truth, y_pred: IntArray, draws: Bootstrap, level: float, seed: int
) -> list[Column]:
    """Test every column but the baseline against it; answers of shape (h, s, n)."""
    others = [i for i in range(len(columns)) if i != base]
    exact = [mcnemar(test.y, columns[i].y_pred, columns[base].y_pred) for i in others]
    independent, r = test.clusters is None, len(draws.macro_f1)
    if independent:
        floor, p_f1 = 2 / (r + 1), [bootstrap_p(draws.macro_f1[:, i] - draws.macro_f1[:, base]) for i in others]
    else:
        found = _exchanged(test, y_pred, [(i, base) for i in others], r, seed)
        floor, p_f1 = found.floor, found.p().tolist()
    tested = list(columns)
    for i, mc, p, adjusted, adjusted_f1 in zip(
        others, exact, p_f1, holm([one.p for one in exact]), holm(p_f1), strict=True
    ):
        versus = Versus(
            accuracy=columns[i].mean("accuracy") - columns[base].mean("accuracy"),
            accuracy_interval=draws.difference("accuracy", i, base, level),
            macro_f1=columns[i].mean("macro_f1") - columns[base].mean("macro_f1"),
            macro_f1_interval=draws.difference("macro_f1", i, base, level),
            only_head=mc.only_first,
            only_baseline=mc.only_second,
            p=mc.p if independent else None,
            p_holm=adjusted if independent else None,
            p_macro_f1=p,
            p_macro_f1_holm=adjusted_f1,
            p_is_bound=p <= floor * (1 + 1e-9),
        )
        tested[i] = replace(columns[i], versus=versus)
    return tested


def _exchanged(test: Truth, y_pred: IntArray, pairs: Sequence[tuple[int, int]], draws: int, seed: int) -> Exchange:
    return exchange(test.y, y_pred, len(test.classes), pairs, groups=test.clusters, draws=draws, seed=seed)


def _lettered(
    columns: list[Column], test: Truth, y_pred: IntArray, draws: int, level: float, seed: int
) -> tuple[list[Column], list[str]]:
    """Give letters to columns by macro F1, where there are several and the draws are enough to tell any apart."""
    if len(columns) < 2:
        return columns, []
    if 1 / (draws + 1) > 1 - level:
        return columns, [f"No letters: {draws} draws cannot show any difference at {100 * (1 - level):.2g} %."]
    pairs = [(i, j) for i in range(len(columns)) for j in range(i + 1, len(columns))]
    adjusted = _exchanged(test, y_pred, pairs, draws, seed).adjusted().tolist()
    letters = letters_of(
        dict(zip(pairs, adjusted, strict=True)), [column.mean("macro_f1") for column in columns], 1 - level
    )
    return [replace(column, letters=text) for column, text in zip(columns, letters, strict=True)], []


def _missing_classes(test: Truth, train_supports: tuple[int, ...]) -> list[str]:
    notes = []
    unseen = [name for name, count in zip(test.classes, train_supports, strict=True) if not count]
    if unseen:
        notes.append(f"No training row of {', '.join(unseen)}: no head can answer it.")
    supports = np.bincount(test.y, minlength=len(test.classes)).tolist()
    untested = [name for name, count in zip(test.classes, supports, strict=True) if not count]
    if untested:
        notes.append(
            f"No {test.split or 'test'} row of {', '.join(untested)}: per-class accuracy undefined, F1 counted as 0 in "
            "macro F1."
        )
    return notes


def cautions(columns: Sequence[Column], base: int | None, test: Truth, draws: Bootstrap, level: float) -> list[str]:
    """Return sentences for the report's notes; none where there is nothing to compare.

    Parameters
    ----------
    columns : sequence of Column
        In the order of the draws' columns.
    base : int or None
        The column that the others are tested against; None takes that of the best macro F1.
    test, draws, level
        The rows, their bootstrap (r, h), and the level of the intervals.
    """
    if len(columns) < 2:
        return []
    macro_f1 = [column.mean("macro_f1") for column in columns]
    best = int(np.argmax(macro_f1))
    flattery = optimism(draws.noise("macro_f1"), macro_f1)
    return [
        _power(columns, best if base is None else base, test, draws, 1 - level),
        f"The best of {len(columns)} columns is chosen on the rows it is judged on: its macro F1 is expected to "
        f"flatter by about {100 * flattery:.1f} points (bootstrap of the choice). "
        "Judge it on rows that had no part in the choice.",
    ]


def _power(columns: Sequence[Column], base: int, test: Truth, draws: Bootstrap, alpha: float) -> str:
    others = [i for i in range(len(columns)) if i != base]
    f1 = [smallest_difference(draws.deviation("macro_f1", i, base), alpha=alpha) for i in others]
    accuracy = [_of_accuracy(columns[i], columns[base], test, draws, (i, base), alpha) for i in others]
    return (
        f"Smallest true differences to '{columns[base].name}' that {len(test.y)} such rows show in {100 * POWER:g} of "
        f"100 cases (two-sided {100 * alpha:.2g} %, one test): accuracy {_range(accuracy)}, macro F1 {_range(f1)}. "
        "Smaller ones are often missed: no difference found is not the same as none there."
    )


def _of_accuracy(
    one: Column, other: Column, test: Truth, draws: Bootstrap, pair: tuple[int, int], alpha: float
) -> float | None:
    """By McNemar's test where rows are independent and each head answered once; else by the bootstrap."""
    if test.clusters is None and not one.other_runs:
        apart = float(np.mean((one.y_pred == test.y) != (other.y_pred == test.y)))
        return smallest_shift(len(test.y), apart, alpha=alpha)
    return smallest_difference(draws.deviation("accuracy", *pair), alpha=alpha)


def _range(shares: Sequence[float | None]) -> str:
    """Write the smallest and largest in points; a pair that nothing could tell apart says so."""
    known = sorted(100 * share for share in shares if share is not None)
    if not known:
        return "none (the answers are too alike)"
    low, high = f"{known[0]:.1f}", f"{known[-1]:.1f}"
    return f"{low} points" if low == high else f"{low} to {high} points"
