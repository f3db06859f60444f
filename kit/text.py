"""Reading text and tables that people may have edited or exported, in encodings that tell themselves."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SNIFFED = 1 << 16


def read_text(path: Path, error: type[Exception]) -> str:
    """Return the text of a file, UTF-8 or what its byte order mark says, or raise ``error`` naming it."""
    try:
        data = Path(path).read_bytes()
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}") from None
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as problem:
        line = len(re.findall(rb"\r\n|\r|\n", data[: problem.start])) + 1
        raise error(
            f"{path} is not UTF-8 text (line {line})\n"
            f"  save it as CSV UTF-8, or convert it: iconv -f CP1252 -t UTF-8 FILE > NEW"
        ) from None


def read_cells(
    path: Path, error: type[Exception], *, known: Sequence[str] = (), strip: bool = True
) -> list[tuple[int, list[str]]]:
    """Return (line, cells) of each row that is not blank, from a CSV file separated by ``,``, ``;``, tabs or ``|``.

    The separator is what a first line ``sep=;`` says, else the one under which the first row holds most of the `known`
    titles; of equals the one that gives all rows equally many cells, and most. Columns without a title and without a
    cell are left out. Titles that differ from a known one in letter case, blanks, `_` or `-` alone are taken for it.
    """
    text = read_text(path, error)
    told = re.match(r'"?sep=(.)"?[ \t]*(\r\n|\r|\n)', text, re.IGNORECASE)
    start, separator = (told.end(), told[1]) if told else (0, max(",;\t|", key=lambda one: _fit(text, one, known)))
    reader = csv.reader(StringIO(text[start:], newline=""), delimiter=separator, strict=True)
    try:
        rows = [
            (reader.line_num + (1 if told else 0), [cell.strip() for cell in row] if strip else row)
            for row in reader
            if any(map(str.strip, row))
        ]
    except csv.Error as problem:
        raise error(f"{path}:{reader.line_num + (1 if told else 0)}: {problem}") from None
    spelled = Counter(map(_plain, known))  # a title that two of them may be is left as it is
    meant = {_plain(name): name for name in known if spelled[_plain(name)] == 1}
    rows[:1] = [(line, [meant.get(_plain(cell), cell) for cell in cells]) for line, cells in rows[:1]]
    width = max((len(cells) for _, cells in rows), default=0)
    empty = {at for at in range(width) if not any(cells[at : at + 1] not in ([], [""]) for _, cells in rows)}
    return [(line, [cell for at, cell in enumerate(cells) if at not in empty]) for line, cells in rows]


def _fit(text: str, separator: str, known: Sequence[str]) -> tuple[int, bool, int]:
    try:
        rows = csv.reader(StringIO(text[:_SNIFFED], newline=""), delimiter=separator)
        filled = [row for row in rows if any(map(str.strip, row))]
    except csv.Error:
        return 0, False, 0
    widths = [len(row) for row in filled]
    found = len({_plain(cell) for cell in (filled or [[]])[0]} & {_plain(name) for name in known})
    if len(text) > _SNIFFED:
        widths = widths[:-1]  # cut off
    return found, len(set(widths)) == 1 and widths[0] > 1, widths[0] if widths else 0


def _plain(title: str) -> str:
    return re.sub(r"[\s_\-]+", "", title).casefold()
