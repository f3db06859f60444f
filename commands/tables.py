"""Tables for people, whole at every width: no name and no number is cut or broken, and no line is too long.

A table that is wider than the terminal is laid out in the way that takes the fewest lines: its titles and its columns
of words broken between words; turned, where the columns are named things (a row a head); in groups of columns, each
with the labels of the rows; or as records, a value a line. Only what is itself wider than the terminal stands out.

A pipe has no width: there a table is one piece on as long lines as it needs, unless ``COLUMNS`` says a width.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

from .console import console, out, plain, shown

_KEPT = "\0"
"""Stands for a space that no line is broken at; no text holds it once its controls are shown."""
_TOGETHER = re.compile(r"(?<=[\d.]) (?=%|\[)|(?<=,) (?=[^\[\]\s]*\])|(?<=[=<>≤≥±]) (?=[\d−-])|(?<=\S) (?=[=<>≤≥±] )")
"""Spaces inside a figure: before its unit, its interval and between the interval's ends; around a sign of relation."""
_COUNTED = re.compile(r"[A-Z][\w-]*(?: [A-Z][\w-]*)* \d[^\s,;]*")
"""A name with its number, such as a class with its rows."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table as it is to be printed: text in cells, and what the columns are."""

    header: tuple[str, ...]
    """A title a column."""
    rows: tuple[tuple[str, ...], ...]
    """As many cells as there are titles."""
    labels: int = 1
    """Columns from the left that say what a row is: they stand with every group of columns."""
    left: int = 1
    """Columns from the left that are set to the left, the others to the right."""
    words: frozenset[int] = frozenset()
    """Columns of words or lists, which may be broken between two words; no others are."""
    named: str = ""
    """What the columns beyond the labels are, if they are named things: titles that are never broken, and it may be
    turned, with this title above them. Empty if they are not."""
    rules: frozenset[int] = frozenset()
    """Rows before which a line is drawn."""
    seams: frozenset[int] = frozenset()
    """Columns before which a group of columns had best end."""
    bold: frozenset[tuple[int, int]] = frozenset()
    """Cells, row and column, that stand out."""

    @property
    def columns(self) -> range:
        """Positions of the columns."""
        return range(len(self.header))

    @cached_property
    def natural(self) -> tuple[int, ...]:
        """Cells of the terminal that each column takes with nothing broken."""
        return tuple(max(_widest([title]), inside) for title, inside in zip(self.header, self._inside, strict=True))

    @cached_property
    def least(self) -> tuple[int, ...]:
        """Cells of the terminal that each column needs with all broken that may be."""
        return tuple(
            max(
                _longest_word(row[c] for row in self.rows) if c in self.words else self._inside[c],
                _widest([title]) if self.named and c >= self.labels else _longest_word([title]),
            )
            for c, title in enumerate(self.header)
        )

    @cached_property
    def _inside(self) -> tuple[int, ...]:
        return tuple(_widest(row[c] for row in self.rows) for c in self.columns)

    def turned(self) -> Grid:
        """Return the same cells with rows for columns; its titles are those of the rows, and may be broken."""
        header, *rows = zip(self.header, *self.rows, strict=True)
        return Grid(
            header=(self.named, *header[1:]), rows=tuple(rows), seams=frozenset(row + 1 for row in self.rules),
            bold=frozenset((column - 1, row + 1) for row, column in self.bold),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """Some columns of a grid side by side, with the width of each."""

    grid: Grid
    columns: tuple[int, ...]
    widths: tuple[int, ...]

    @cached_property
    def titles(self) -> list[list[str]]:
        """Lines of each title."""
        return [broken(self.grid.header[c], w) for c, w in zip(self.columns, self.widths, strict=True)]

    @cached_property
    def cells(self) -> list[list[list[str]]]:
        """Lines of each cell, row by row."""
        return [
            [broken(row[c], w) if c in self.grid.words else row[c].split("\n")
             for c, w in zip(self.columns, self.widths, strict=True)]
            for row in self.grid.rows
        ]  # fmt: skip

    @property
    def lines(self) -> int:
        """How many lines it takes."""
        return 4 + max(map(len, self.titles)) - 1 + len(self.grid.rules) + sum(max(map(len, row)) for row in self.cells)

    @property
    def is_folded(self) -> bool:
        """Whether a cell stands on several lines that is one line of text."""
        return any(len(cell) > 1 for row in self.cells for cell in row)

    def drawn(self) -> Any:
        """Return it as rich's table."""
        from rich.table import Table

        table = Table()
        for c, title, width in zip(self.columns, self.titles, self.widths, strict=True):
            side = "left" if c < self.grid.left or c in self.grid.words else "right"
            table.add_column(plain("\n".join(title)), justify=side, width=width, no_wrap=True)  # type: ignore[arg-type]
        for r, row in enumerate(self.cells):
            if r in self.grid.rules:
                table.add_section()
            styles = ["bold" if (r, c) in self.grid.bold else "" for c in self.columns]
            table.add_row(*(plain("\n".join(cell), style) for cell, style in zip(row, styles, strict=True)))
        return table


def screen_width() -> int | None:
    """Return the width to lay out for, in cells: the terminal's, or what ``COLUMNS`` says; None where there is none."""
    stdout, asked = console(), os.environ.get("COLUMNS", "")
    if stdout.is_terminal or (asked.isdecimal() and int(asked)):
        return max(1, int(stdout.width))
    return None


def out_table(
    header: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    title: str = "",
    notes: Sequence[str] = (),
    labels: int = 1,
    left: int | None = None,
    words: Collection[int] = (),
    named: str = "",
    rules: Collection[int] = (),
    bold: Collection[tuple[int, int]] = (),
) -> None:
    """Print a table to stdout, with a title above and sentences below; for the other parameters see `Grid`.

    Cells of type int are parted by thousands.

    Columns that are set to the left are the labels, if nothing else is said.
    """
    grid = Grid(
        header=tuple(map(shown, header)), rows=tuple(tuple(map(_cell, row)) for row in rows), labels=labels,
        left=labels if left is None else left, words=frozenset(words), named=named, rules=frozenset(rules),
        bold=frozenset(bold),
    )  # fmt: skip
    width = screen_width()
    if title:
        out_words(title, style="bold")
    pieces = laid_out(grid, width)
    if pieces is None:
        for line, style in records(grid, width or 0):
            _line(line, style)
    for piece in pieces or ():
        stdout = console(width=sum(piece.widths) + 3 * len(piece.widths) + 1)
        stdout.print(piece.drawn())
    for note in notes:
        out_words(note, style="dim")


def _cell(value: object) -> str:
    """A cell as it is shown; whole numbers with their thousands parted, as in every sentence."""
    return f"{value:,}" if type(value) is int else shown(value)


def out_words(text: object, *, indent: int = 0, style: str = "") -> None:
    """Print sentences to stdout; in a terminal broken between words, with further lines set in by `indent`."""
    width = screen_width()
    lines = shown(text).split("\n") if width is None else broken(shown(text), width, indent)
    for number, line in enumerate(lines):
        _line(line if width is None or not number else " " * indent + line, style)


def out_facts(facts: Iterable[tuple[str, object]], *, pad: int, indent: int = 0) -> None:
    """Print a named value a line; in a terminal they are broken between words, and stand below their name if long."""
    width = screen_width()
    for name, value in facts:
        if width is None:
            out(f"{' ' * indent}{name:<{pad}} {value}")
            continue
        for line in _fact(name, shown(value), pad=pad, indent=indent, width=width, words=True):
            out(line)


def laid_out(grid: Grid, width: int | None) -> list[_Piece] | None:
    """Cut a grid into pieces of at most so many cells; None where nothing fits, or records are shorter and no worse."""
    if width is None:
        return [_Piece(grid=grid, columns=tuple(grid.columns), widths=grid.natural)]
    whole = _piece(grid, tuple(grid.columns), width)
    if whole is not None and not whole.is_folded:
        return [whole]
    ways = [[whole] if whole else None, _grouped(grid, width)]
    if grid.named and grid.rows:
        ways.append(_grouped(grid.turned(), width))
    found = [way for way in ways if way]
    best = min(found, key=lambda way: sum(piece.lines for piece in way), default=None)
    shorter = best is not None and not grid.named and sum(piece.lines for piece in best) > len(records(grid, width))
    return None if shorter else best


def records(grid: Grid, width: int) -> list[tuple[str, str]]:
    """Lay a grid out without columns: the labels of a row, and below them each value with its title; (line, style)."""
    found = [(line, "bold") for line in _side_by_side(grid.header[: grid.labels], width, words=True)]
    pad = max(_widest([title]) for title in ("", *grid.header[grid.labels :])) + 1
    for r, row in enumerate(grid.rows):
        words = grid.words.issuperset(range(grid.labels))
        found += [(line, "") for line in _side_by_side(row[: grid.labels], width, words=words)]
        for c in grid.columns[grid.labels :]:
            style = "bold" if (r, c) in grid.bold else ""
            if row[c]:
                lines = _fact(grid.header[c], row[c], pad=pad, indent=2, width=width, words=c in grid.words)
                found += [(line, style) for line in lines]
    return found


def broken(text: str, width: int, indent: int = 0) -> list[str]:
    """Break a text between words into lines of so many cells, less `indent` from the second on."""
    lines: list[str] = []
    for part in text.split("\n"):
        line: str | None = None
        for word in _kept_together(part).split(" "):
            room = width - (indent if lines else 0)
            longer = word if line is None else f"{line} {word}"
            if line is None or _cells(longer) <= room:
                line = longer
            else:
                lines.append(line)
                line = word
        lines.append(line or "")
    return [line.replace(_KEPT, " ").rstrip(" ") for line in lines]


def _longest_word(texts: Iterable[str]) -> int:
    """Cells of the longest piece of some texts that is never broken."""
    words = (word for text in texts for word in re.split(r"[ \n]", _kept_together(text)))
    return max(map(_cells, words), default=0)


@lru_cache(maxsize=1024)
def _kept_together(text: str) -> str:
    return _COUNTED.sub(lambda found: found[0].replace(" ", _KEPT), _TOGETHER.sub(_KEPT, text))


def _piece(grid: Grid, columns: tuple[int, ...], width: int) -> _Piece | None:
    """Columns side by side with titles of as few lines as fit; columns of words share the rest; None if too wide."""
    least = [grid.least[c] for c in columns]
    room = width - 3 * len(columns) - 1
    if sum(least) > room:
        return None
    tallest = max(len(re.split(r"[ \n]", grid.header[c])) for c in columns)
    widths = least
    for height in range(1, tallest + 1):
        widths = [max(n, _narrowest(grid.header[c], height)) for c, n in zip(columns, least, strict=True)]
        if sum(widths) <= room:
            break
    else:
        widths = least
    for _ in range(room - sum(widths)):  # a cell at a time to the column of words that lacks most
        lacking = {i: grid.natural[c] - widths[i] for i, c in enumerate(columns) if c in grid.words}
        if max(lacking.values(), default=0) <= 0:
            break
        widths[max(lacking, key=lacking.__getitem__)] += 1
    return _Piece(grid=grid, columns=columns, widths=tuple(widths))


def _grouped(grid: Grid, width: int) -> list[_Piece] | None:
    """As few groups of neighbouring columns as fit, each behind the labels; None where a column does not fit at all."""
    labels = tuple(grid.columns[: grid.labels])
    rest = list(grid.columns[grid.labels :])

    def fits(columns: Sequence[int]) -> bool:
        return sum(grid.least[c] + 3 for c in (*labels, *columns)) + 1 <= width

    groups: list[list[int]] = []
    ends = sorted({*(c for c in grid.seams if c in rest), len(grid.header)})
    together = {c: [one for one in rest if c <= one < end] for c, end in pairwise([grid.labels, *ends])}
    for c in rest:
        if not fits([c]):
            return None
        opens = len(together.get(c, [])) > 1 and fits(together[c])  # a group that a page of its own can hold
        if groups and fits([*groups[-1], *(together[c] if opens else [c])]):
            groups[-1].append(c)
        else:
            groups.append([c])
    pieces = [_piece(grid, (*labels, *group), width) for group in groups]
    return [piece for piece in pieces if piece is not None] or None


def _fact(name: str, value: str, *, pad: int, indent: int, width: int, words: bool) -> list[str]:
    """A named value: behind its name where it fits, below it where it does not; broken only where it is words."""
    before = " " * indent + name + " " * max(1, pad + 1 - _cells(name))
    beside, below = width - _cells(before), " " * (indent + 2)
    if (_longest_word([value]) if words else _widest([value])) <= beside:
        lines = broken(value, beside) if words else value.split("\n")
        return [(before if not number else " " * _cells(before)) + line for number, line in enumerate(lines)]
    lines = broken(value, width - len(below)) if words else value.split("\n")
    return [before.rstrip(" "), *(below + line for line in lines)]


def _side_by_side(labels: Sequence[str], width: int, *, words: bool) -> list[str]:
    """The labels of a record on one line, or on one each; broken only where they are words."""
    joined = "  ".join(filter(None, labels))
    if _cells(joined) <= width and "\n" not in joined:
        return [joined] if joined else []
    return [line for text in labels for line in (broken(text, width) if words else text.split("\n"))]


def _narrowest(title: str, height: int) -> int:
    """Cells that a title needs to stand on so many lines."""
    for width in range(_longest_word([title]), _widest([title])):
        if len(broken(title, width)) <= height:
            return width
    return _widest([title])


def _widest(texts: Iterable[str]) -> int:
    return max((_cells(line) for text in texts for line in text.split("\n")), default=0)


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text.replace(_KEPT, " "))


def _line(text: str, style: str) -> None:
    console().print(plain(text, style), soft_wrap=True, highlight=False)
