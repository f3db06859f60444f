"""A plain table and its written forms; the command line draws its own from the same cells."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal, TypeAlias

from cer_fusion.fusion.errors import ReportError, nearest

EN_DASH, MINUS, TIMES, CROSS = "\u2013", "\u2212", "\u00d7", "\u2717"

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
