"""The result of a comparison: every column's figures, intervals and verdicts, as sealed JSON and as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...kit.documents import read_sealed, write_sealed
from ...kit.errors import nearest, needed
from ...kit.plain import NOT_KEPT, from_plain, to_plain
from ...kit.table import EN_DASH, LE, MINUS, Cell, Table, first_sentence, points, render, rounded, shortened, to_html
from ..errors import ReportError
from .metrics import METRICS, Scores, scores
from .resampling import Interval, Metric, wilson

if TYPE_CHECKING:
    import pandas

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

FORMAT, FORMAT_VERSION = "cer-report", 2

_SHOWN = 20
"""Columns that a report's `repr` lists."""


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

    def __repr__(self) -> str:
        """Return one line; the answers are left to whoever asks for them."""
        return f"<Column {self.name}: {self.head} on {shortened(self.blocks)}; {self._in_short}>"

    @property
    def _in_short(self) -> str:
        return f"accuracy {100 * self.mean('accuracy'):.2f} %  macro F1 {100 * self.mean('macro_f1'):.2f} %"

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

    def save(self, path: Path | str, *, overwrite: bool = True) -> Path:
        """Write the report as JSON that carries its own digest, whole or not at all; see `write_whole`."""
        return write_sealed(path, self.to_dict(), kind=FORMAT, version=FORMAT_VERSION, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path | str) -> Report:
        """Read a report written by `save`."""
        return cls.from_dict(read_sealed(path, kind=FORMAT, version=FORMAT_VERSION, error=ReportError))

    def to_frame(self) -> pandas.DataFrame:
        """Return the figures as a pandas DataFrame: a row a column of the table, unrounded.

        Its columns are ``kind``, ``accuracy`` and ``macro_f1`` (0-1) with ``_low`` and ``_high``, ``recall.<class>``
        and ``f1.<class>`` (0-1, means over the runs; NaN for the recall of a class without rows), ``fit_s``,
        ``predict_s``, and with a baseline ``delta_accuracy``, ``delta_macro_f1``, ``p`` and ``p_macro_f1``
        (Holm-corrected). Further metrics are columns of their own.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        frames = needed("pandas", "a DataFrame of a report", extra="frames")
        rows = [_figures_of(column, self.classes) for column in self.columns]
        names = [column.name for column in self.columns]
        made: pandas.DataFrame = frames.DataFrame(rows, index=frames.Index(names, name="column"))
        return made

    def figures(self, name: str) -> dict[str, float]:
        """Return the figures of the column of that name by name, as `to_frame` has them: shares 0-1, and seconds."""
        found = _figures_of(self.column(name), self.classes)
        return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}

    def to_latex(self, *, class_intervals: bool = False) -> str:
        r"""Return the table as LaTeX with booktabs rules, as ``cer-fuse compare --format latex`` prints it."""
        return render(report_table(self, class_intervals=class_intervals), "latex")

    def __repr__(self) -> str:
        """Return one line a column; every array is left to whoever asks for it."""
        lines = [f"<Report: {len(self.columns)} columns on {self.rows}, {len(self.classes)} classes>"]
        width = max((len(column.name) for column in self.columns), default=0)
        lines += [f"  {column.name:<{width}}  {column._in_short}" for column in self.columns[:_SHOWN]]
        lines += [f"  … and {len(self.columns) - _SHOWN} more"] if len(self.columns) > _SHOWN else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return to_html(report_table(self))


def _figures_of(column: Column, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return a column's figures by name, shares 0-1."""
    found: dict[str, Any] = {"kind": column.kind}
    for metric in ("accuracy", "macro_f1"):
        interval: Interval = getattr(column, metric)
        found |= {metric: column.mean(metric), f"{metric}_low": interval.low, f"{metric}_high": interval.high}
    f1 = np.mean([run.f1 for run in column._all_scores], axis=0)
    found |= {f"recall.{name}": float(value) for name, value in zip(classes, column.recall, strict=True)}
    found |= {f"f1.{name}": float(value) for name, value in zip(classes, f1, strict=True)}
    for one in column.figures:
        if one.metric != "f1":  # of each class, it stands there already
            found |= {
                one.metric: one.value,
                f"{one.metric}_low": one.interval.low,
                f"{one.metric}_high": one.interval.high,
            }
    found |= {"fit_s": column.fit_s, "predict_s": column.predict_s}
    if (versus := column.versus) is not None:
        found |= {
            "delta_accuracy": versus.accuracy,
            "delta_macro_f1": versus.macro_f1,
            "p": versus.p_holm,
            "p_macro_f1": versus.p_macro_f1_holm,
        }
    return found


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


def report_table(report: Report, *, class_intervals: bool = False) -> Table:
    """Lay a report out as the paper does: per-class accuracy in percent, then the totals with their intervals.

    The best figure of a row is marked where larger is better: several when they tie, none when all are equal. Where
    rows are independent the cells of the classes hold Wilson intervals, as CSV and JSON write them; `class_intervals`
    puts them into the text too.
    """
    columns = report.columns
    supports = columns[0].scores.supports.tolist()
    rows = [
        (
            Cell(f"{name.replace('_', ' ')} (%)"),
            *_best([_of_class(report, column, c, class_intervals) for column in columns]),
        )
        for c, name in enumerate(report.classes)
    ]
    rules = [len(rows)]
    rows.append((Cell("Accuracy (%)"), *_best([_percent(c.mean("accuracy"), c.accuracy) for c in columns])))
    rows.append((Cell("Macro F1 (%)"), *_best([_percent(c.mean("macro_f1"), c.macro_f1) for c in columns])))
    rows += _figure_rows(columns)
    if columns[0].other_runs:
        rows += _spread_rows(columns)
    if report.baseline is not None:
        rules.append(len(rows))
        rows += _versus_rows(columns)
    if any(column.letters for column in columns):
        rows.append((Cell("Letters (macro F1)"), *(Cell(column.letters) for column in columns)))
    rules.append(len(rows))
    rows.append((Cell("Training (s)"), *(Cell(_seconds(column.fit_s), column.fit_s) for column in columns)))
    return Table(
        title=_title(report),
        header=("Class", *(column.name for column in columns)),
        rows=tuple(rows),
        notes=_notes(report, columns, supports, class_intervals),
        rules=tuple(rules),
        named="Head",
        brief=_brief(report, columns, supports),
    )


def _of_class(report: Report, column: Column, c: int, written: bool) -> Cell:
    """The per-class accuracy of one class; Wilson at the mean count where there are several runs."""
    share, support = float(column.recall[c]), int(column.scores.supports[c])
    if report.clustered or not support:
        return _percent(share)
    cell = _percent(share, wilson(share * support, support, report.level))
    return cell if written else replace(cell, text=f"{100 * share:.2f}")


def _seconds(fit_s: float) -> str:
    return rounded(fit_s) if fit_s >= 0.005 or not fit_s else "< 0.01"


def _title(report: Report) -> str:
    what = "Heads compared" if len(report.columns) > 1 else report.columns[0].name
    return f"{what} on {report.rows}" + (f", {report.folds} folds" if report.folds else "")


_TITLES = {"uar": "UAR (%)", "weighted_f1": "Weighted F1 (%)"}


def _figure_rows(columns: Sequence[Column]) -> list[tuple[Cell, ...]]:
    """A row a further metric: in percent, those of classes without intervals in the text; own ones as they are."""
    rows = []
    for i, one in enumerate(columns[0].figures):
        own = one.metric not in METRICS
        cells = [column.figures[i] for column in columns]
        if own:
            found = [_own(figure.value, figure.interval) for figure in cells]
        else:
            found = _best([_percent(figure.value, figure.interval) for figure in cells])
        if one.of_class is not None:
            found = [replace(cell, text=cell.text.partition(" [")[0]) for cell in found]
        title = _TITLES.get(one.metric, one.metric) if one.of_class is None else f"F1 {_words(one.of_class)} (%)"
        rows.append((Cell(title), *found))
    return rows


def _own(value: float, interval: Interval) -> Cell:
    low, high = interval.low, interval.high
    return Cell(f"{value:.4g} [{low:.3g}, {high:.3g}]".replace("-", MINUS), value, low, high)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _spread_rows(columns: Sequence[Column]) -> list[tuple[Cell, ...]]:
    def row(label: str, metric: Metric) -> tuple[Cell, ...]:
        spreads = [100 * (column.spread(metric) or 0.0) for column in columns]
        return (Cell(label), *(Cell(f"{spread:.2f}", spread) for spread in spreads))

    return [row("Accuracy, ± (points)", "accuracy"), row("Macro F1, ± (points)", "macro_f1")]


def _versus_rows(columns: Sequence[Column]) -> list[tuple[Cell, ...]]:
    def row(label: str, cell: Callable[[Versus], Cell]) -> tuple[Cell, ...]:
        return (Cell(label), *(Cell(EN_DASH) if c.versus is None else cell(c.versus) for c in columns))

    return [
        row("Δ accuracy (points)", lambda v: points(v.accuracy, v.accuracy_interval.low, v.accuracy_interval.high)),
        row("Δ macro F1 (points)", lambda v: points(v.macro_f1, v.macro_f1_interval.low, v.macro_f1_interval.high)),
        row("p (McNemar, Holm)", lambda v: _p(v.p_holm)),
        row("p (macro F1, Holm)", lambda v: _p(v.p_macro_f1_holm, bound=v.p_is_bound)),
    ]


def _p(p: float | None, *, bound: bool = False) -> Cell:
    return Cell(EN_DASH) if p is None else Cell(p_text(p, bound=bound), p)


def p_text(p: float, *, bound: bool = False) -> str:
    """Write a p-value: three decimals, ``<0.001`` below; an upper bound is rounded up and says what it is."""
    if p < 0.001:
        return "<0.001"
    return f"{LE}{np.ceil(1000 * p - 1e-9) / 1000:.3f}" if bound else f"{p:.3f}"


def _percent(share: float, interval: Interval | None = None) -> Cell:
    if np.isnan(share):
        return Cell(EN_DASH)
    text = f"{100 * share:.2f}"
    if interval is None:
        return Cell(text, 100 * float(share))
    low, high = 100 * interval.low, 100 * interval.high
    return Cell(f"{text} [{low:.1f}, {high:.1f}]", 100 * float(share), low, high)


def _best(cells: list[Cell]) -> list[Cell]:
    values = [cell.value for cell in cells if cell.value is not None]
    if len(values) < 2 or max(values) - min(values) < 1e-9:
        return cells
    top = max(values)
    return [Cell(c.text, c.value, c.low, c.high, best=c.value is not None and abs(c.value - top) < 1e-9) for c in cells]


def _notes(report: Report, columns: Sequence[Column], supports: list[int], class_intervals: bool) -> tuple[str, ...]:
    percent = f"{100 * report.level:g} %"
    of_class = ", with Wilson's intervals" if class_intervals and not report.clustered else ""
    several = len(columns[0].other_runs) > 0
    for_accuracy = "" if report.clustered or several else "Wilson for accuracy, "
    of_f1 = " for macro F1" if for_accuracy else ""
    way = (
        "jackknife over whole groups, Student's t"
        if report.clustered
        else f"{for_accuracy}percentiles of {report.resamples} stratified resamples{of_f1}, seed {report.seed}"
    )
    notes = [
        f"Classes in their declared order, {_counts(report, supports)}.",
        f"Class rows: per-class accuracy (recall){of_class}. Macro F1: mean of the F1 of all declared classes.",
        f"In brackets: {percent} intervals ({way}); they do not cover the variation from training.",
    ]
    lacking = columns[0].scores.unsupported
    if lacking:
        shown = ", ".join(f"{column.name} {100 * column.scores.macro_f1_supported:.2f}" for column in columns)
        notes.append(
            f"No row of {', '.join(lacking)} to judge on: each counts as 0 in macro F1. Over the "
            f"{len(report.classes) - len(lacking)} classes with rows it is {shown} (%)."
        )
    if report.baseline is not None:
        test = (
            "no McNemar test, because rows share groups"
            if report.clustered
            else "p: exact McNemar on accuracy, Holm-corrected over the columns"
        )
        notes.append(
            f"Δ: difference to '{report.baseline}' on the same rows, paired; p of macro F1 from "
            + (
                f"{report.resamples} exchanges of the answers to whole groups"
                if report.clustered
                else f"{report.resamples} paired resamples"
            )
            + f" ({LE}: so many cannot show less); {test}."
        )
    if columns[0].figures:
        notes.append(_figures_note(report, columns))
    if any(column.letters for column in columns):
        notes.append(
            "Letters: columns that share one cannot be told apart by macro F1 (answers exchanged "
            f"{'by group' if report.clustered else 'row by row'}, all pairs corrected together, "
            f"{100 * (1 - report.level):.2g} %)."
        )
    return (*notes, *report.notes)


def _figures_note(report: Report, columns: Sequence[Column]) -> str:
    names = list(dict.fromkeys(one.metric for one in columns[0].figures))
    way = "jackknife over whole groups" if report.clustered else "percentiles of resamples within the classes"
    known = {
        "uar": "UAR: mean per-class accuracy (recall) of the classes that have rows",
        "weighted_f1": "Weighted F1: mean of the per-class F1 weighted by the classes' rows",
        "f1": "F1: of each class",
    }
    said = [known.get(name, f"{name}: as the function given says") for name in names]
    return f"{'; '.join(said)}. Intervals: {way}."


def _brief(report: Report, columns: Sequence[Column], supports: list[int]) -> tuple[str, ...]:
    """The notes as a screen shows them: what the figures are of, what must not be overlooked, how to read the signs."""
    paired = "" if report.baseline is None else f" \u0394: to '{report.baseline}', on the same rows."
    letters = " Those that share a letter cannot be told apart." if any(c.letters for c in columns) else ""
    lacking = columns[0].scores.unsupported
    return (
        f"R{_counts(report, supports)[1:]}.",
        f"[ ]: {100 * report.level:g} % intervals, not over trainings.{paired}{letters}",
        *([f"No row of {', '.join(lacking)} to judge on: each counts as 0 in macro F1."] if lacking else []),
        *map(first_sentence, report.notes),
    )


def _counts(report: Report, supports: list[int]) -> str:
    names = [name.replace("_", " ") for name in report.classes]
    if report.folds:
        return f"rows: {', '.join(f'{name} {n}' for name, n in zip(names, supports, strict=True))}; n = {sum(supports)}"
    counts = zip(names, report.train_supports, supports, strict=True)
    learned, judged = report.train_split or "train", report.split or "test"
    return (
        f"rows {learned}/{judged}: {', '.join(f'{name} {train}/{test}' for name, train, test in counts)}; "
        f"n = {sum(report.train_supports)} {learned}, {sum(supports)} {judged}"
    )
