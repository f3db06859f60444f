"""Tables of results laid out once, and written as markdown, LaTeX, CSV, JSON or HTML."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Any, Literal, TypeAlias

from .errors import CerError, nearest

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


def rounded(value: float, *, digits: int = 4, decimals: int = 2) -> str:
    """Return a number for people: four digits or all of a whole number's, two decimals at most; files keep all."""
    if not math.isfinite(value):
        return str(value)
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:,.{max(0, min(decimals, digits - whole))}f}"


def points(share: float, low: float, high: float) -> Cell:
    """Return the cell of a difference of shares, 0-1, with its interval: signed points of a hundred."""
    value, low, high = 100 * share, 100 * low, 100 * high
    return Cell(f"{_signed(value, 2)} [{_signed(low, 1)}, {_signed(high, 1)}]", value, low, high)


def render(table: Table, format: Format) -> str:
    """Write a table as markdown, LaTeX (booktabs), CSV or JSON; the text ends with a line feed."""
    if format not in _WRITERS:
        raise CerError(f"there is no table format {format!r}; {nearest(format, _WRITERS)}")
    return _WRITERS[format](table)


def to_markdown(table: Table) -> str:
    """Write a pipe table with the notes under it."""
    lines = [f"**{markdown_text(table.title)}**", "", _piped([markdown_text(title) for title in table.header])]
    lines.append(_piped(["---"] + ["---:"] * (len(table.header) - 1)))
    for row in table.rows:
        lines.append(
            _piped([f"**{markdown_text(cell.text)}**" if cell.best else markdown_text(cell.text) for cell in row])
        )
    return "\n".join([*lines, "", *(f"- {markdown_text(note)}" for note in table.notes)]).rstrip() + "\n"


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


def to_html(table: Table) -> str:
    """Write a ``<table>`` as notebooks show it, every text escaped; the notes stand under it, in brief."""
    rows = []
    for i, row in enumerate(table.rows):
        line = ' style="border-top:1px solid"' if i in table.rules else ""
        cells = [f"<strong>{_html(cell.text)}</strong>" if cell.best else _html(cell.text) for cell in row]
        rows.append(f"<tr{line}><th>{cells[0]}</th>{''.join(f'<td>{cell}</td>' for cell in cells[1:])}</tr>")
    head = "".join(f"<th>{_html(title)}</th>" for title in table.header)
    notes = "".join(f"<div><small>{_html(note)}</small></div>" for note in table.in_brief())
    return (
        f"<div><table><caption>{_html(table.title)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>{notes}</div>"
    )


def facts_html(title: str, facts: Mapping[str, object], more: Table | None = None) -> str:
    """Return what an object is, for a notebook: a title, a row a fact, and perhaps a table; all escaped."""
    rows = tuple((Cell(name), Cell(str(value))) for name, value in facts.items())
    own = to_html(Table(title=title, header=("", ""), rows=rows, notes=())).replace(_NO_HEAD, "")
    return own if more is None else own + to_html(more)


def shortened(names: Iterable[object], limit: int = 8) -> str:
    """Return names joined by commas; of many the first, and how many there are."""
    found = [str(name) for name in names]
    return ", ".join(found) if len(found) <= limit else f"{', '.join(found[:limit])}, … ({len(found):,})"


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


_NO_HEAD = "<thead><tr><th></th><th></th></tr></thead>"


def _html(text: str) -> str:
    return escape(text, quote=True)


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


def markdown_text(text: str) -> str:
    """Write a text on one line of markdown, which reads nothing of it as markup."""
    return re.sub(r"([\\`*|<]|(?<!\w)_|_(?!\w))", r"\\\1", text.replace("\n", " "))


def _piped(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
