"""Tables of results laid out, and a report as one."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any, Literal, TypeAlias

import numpy as np

from ...kit.errors import nearest
from ..errors import ReportError
from ..judging.metrics import METRICS
from ..judging.report import Column, Report, Versus
from ..judging.resampling import Interval, Metric, wilson

EN_DASH, MINUS, TIMES, CROSS, LE = "\u2013", "\u2212", "\u00d7", "\u2717", "\u2264"

Format: TypeAlias = Literal["markdown", "latex", "csv", "json"]


@dataclass(frozen=True)
class Cell:
    """One cell: text for readers, numbers for machines."""

    text: str
    """What a reader sees, rounded."""
    value: float | None = None
    """The figure itself, unrounded, in the unit its row or column states."""
    low: float | None = None
    """Lower end of its interval."""
    high: float | None = None
    """Upper end of its interval."""
    best: bool = False
    """Whether it is the best of its row (or column): bold in markdown and LaTeX."""


@dataclass(frozen=True)
class Table:
    """A titled table whose first column labels the rows."""

    title: str
    """One line."""
    header: tuple[str, ...]
    """Column titles, with units where the whole column has one."""
    rows: tuple[tuple[Cell, ...], ...]
    """As many cells as the header has titles."""
    notes: tuple[str, ...]
    """Sentences that belong under the table: numbers of rows, class order, how the intervals were made."""
    rules: tuple[int, ...] = ()
    """Rows before which a line is drawn."""
    labels: int = 1
    """Columns from the left that together say what a row is."""
    words: tuple[int, ...] = ()
    """Columns of lists or words, which a narrow screen may break between two of them."""
    named: str = ""
    """What the columns beyond the first are, where they are named things: a narrow screen may turn the table then."""
    brief: tuple[str, ...] | None = None
    """What a screen shows of the notes; None for the first sentence of each."""

    def in_brief(self, more: str = "") -> tuple[str, ...]:
        """Return the notes in brief; where that leaves something out, with a last sentence that says where it is."""
        short = tuple(map(first_sentence, self.notes)) if self.brief is None else self.brief
        return short if short == self.notes or not more else (*short, more)


def first_sentence(note: str) -> str:
    """Return what a note begins with: all up to the first full stop that ends a sentence."""
    return re.split(r"(?<=[^.A-Z].\.)\s(?=[A-Z'\"])", note, maxsplit=1)[0]


def points(share: float, low: float, high: float) -> Cell:
    """Return the cell of a difference of shares, 0-1, with its interval: signed points of a hundred."""
    value, low, high = 100 * share, 100 * low, 100 * high
    return Cell(f"{_signed(value, 2)} [{_signed(low, 1)}, {_signed(high, 1)}]", value, low, high)


def render(table: Table, format: Format) -> str:
    """Write a table as markdown, LaTeX (booktabs), CSV or JSON; the text ends with a line feed."""
    if format not in _WRITERS:
        raise ReportError(f"there is no table format {format!r}; {nearest(format, _WRITERS)}")
    return _WRITERS[format](table)


def to_markdown(table: Table) -> str:
    """Write a pipe table with the notes under it."""
    lines = [f"**{_md(table.title)}**", "", _piped([_md(title) for title in table.header])]
    lines.append(_piped(["---"] + ["---:"] * (len(table.header) - 1)))
    for row in table.rows:
        lines.append(_piped([f"**{_md(cell.text)}**" if cell.best else _md(cell.text) for cell in row]))
    return "\n".join([*lines, "", *(f"- {_md(note)}" for note in table.notes)]).rstrip() + "\n"


def to_latex(table: Table) -> str:
    r"""Write a ``table`` environment with booktabs rules; needs ``\usepackage{booktabs}``."""
    body = []
    for i, row in enumerate(table.rows):
        body += [r"\midrule"] if i in table.rules else []
        cells = [rf"\textbf{{{_tex(cell.text)}}}" if cell.best else _tex(cell.text) for cell in row]
        body.append(_tex_row(cells))
    notes = [r"\par\smallskip\footnotesize " + " ".join(_tex(note) for note in table.notes)] if table.notes else []
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(table.title)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        _tex_row([_tex(title) for title in table.header]),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        *notes,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_csv(table: Table) -> str:
    """Write unrounded figures; a row with intervals is followed by a row of lower and a row of upper ends."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.header)
    for row in table.rows:
        writer.writerow([cell.text if cell.value is None else repr(cell.value) for cell in row])
        if any(cell.low is not None for cell in row):
            writer.writerow([f"{row[0].text}, low", *("" if c.low is None else repr(c.low) for c in row[1:])])
            writer.writerow([f"{row[0].text}, high", *("" if c.high is None else repr(c.high) for c in row[1:])])
    return out.getvalue()


def to_json(table: Table) -> str:
    """Write the cells as objects of text, value, low, high, best."""
    rows: list[list[dict[str, Any]]] = [
        [{"text": c.text, "value": c.value, "low": c.low, "high": c.high, "best": c.best} for c in row]
        for row in table.rows
    ]
    plain = {"title": table.title, "header": list(table.header), "rows": rows, "notes": list(table.notes)}
    return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


_WRITERS: dict[str, Callable[[Table], str]] = {
    "markdown": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
    "json": to_json,
}


def _signed(value: float, digits: int) -> str:
    rounded = round(value, digits) + 0.0  # -0.0 -> 0.0
    return f"{'+' if rounded > 0 else MINUS if rounded < 0 else ''}{abs(rounded):.{digits}f}"


_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    EN_DASH: "--",
    MINUS: "$-$",
    "Δ": r"$\Delta$",
    "≥": r"$\geq$",
    LE: r"$\leq$",
    TIMES: r"$\times$",
    "→": r"$\rightarrow$",
    CROSS: r"$\times$",
    "…": r"\dots{}",
    "<": r"$<$",
    ">": r"$>$",
}


def _tex_row(cells: list[str]) -> str:
    """Join cells; a first bracket or star would be taken for an option of the rule or the line break before it."""
    return ("{}" if cells[0][:1] in ("[", "*") else "") + " & ".join(cells) + r" \\"


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text.replace("\n", " "))


def _md(text: str) -> str:
    return re.sub(r"([\\`*|<]|(?<!\w)_|_(?!\w))", r"\\\1", text.replace("\n", " "))


def _piped(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


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
    rows.append((Cell("Training (s)"), *(Cell(f"{column.fit_s:.2f}", column.fit_s) for column in columns)))
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


def _title(report: Report) -> str:
    return f"Heads compared on {report.rows}" + (f", {report.folds} folds" if report.folds else "")


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
