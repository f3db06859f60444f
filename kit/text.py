"""Text and tables as people and spreadsheets write them, read as they mean them; what cannot be is refused by line.

Taken: a byte-order mark, UTF-16 and UTF-32 with one, any line ends, the separators `,` `;` tab and `|` (and the line
`sep=;` of Excel), blank lines, and titles in other spelling. Refused: bytes that are no UTF-8 unless their encoding is
named, and quotes that never close.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gc
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, NamedTuple

from .errors import TextError

AROUND = " \t\xa0\ufeff\u200b\"'"
"""What stands around a column's title without belonging to it."""
SEPARATORS = ",;\t|"
"""What may part the cells of a table."""
SNIFFED = 1 << 16
"""Bytes or letters at the beginning that tell what a file is."""

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CONVERT = "save it as CSV UTF-8, or convert it: iconv -f {0} -t UTF-8 FILE > NEW"
_LINE_END = re.compile(rb"\r\n|\r|\n")
_TOLD = re.compile(r"\"?sep=(.)\"?[ \t]*(\r\n|\r|\n)", re.IGNORECASE)

Opened = Callable[[], AbstractContextManager[IO[bytes]]]
"""Opens a file at its beginning."""


class Separator(NamedTuple):
    """What parts the cells of a table, and where it begins."""

    letter: str
    start: int
    """Letters before the table."""
    lines_before: int
    """Lines before it: 1 where `sep=;` stands there."""


def read_text(path: Path, *, encoding: str | None = None, advice: str = "", error: type[Exception] = TextError) -> str:
    """Return the text of a file, or of what a pipe gives; see `decoded`."""
    try:
        data = Path(path).read_bytes()
    except OSError as fault:
        raise error(f"cannot read {path}: {fault.strerror or fault}") from None
    return decoded(data, path, encoding=encoding, advice=advice, error=error)


def read_cells(
    path: Path,
    *,
    known: Sequence[str] = (),
    strip: bool = True,
    encoding: str | None = None,
    error: type[Exception] = TextError,
) -> list[tuple[int, list[str]]]:
    """Return (line, cells) of each row of a small CSV file that is not blank, the titles in front.

    Columns without a title and without a cell are left out. The line is the one that a row ends on.

    Parameters
    ----------
    path : Path
    known : sequence of str
        Titles; they tell the separator, and one that differs in letter case, blanks, `_` or `-` alone is taken for it.
    strip : bool
        Without the blanks around cells.
    encoding, error
        As `decoded`.
    """
    text = read_text(path, encoding=encoding, error=error)
    rows = list(rows_of(text, path, find_separator(text, known), error=error))
    if strip:
        rows = [(line, [cell.strip() for cell in cells]) for line, cells in rows]
    rows[:1] = [(line, meant_titles(cells, known, f"{path}:{line}", error=error)) for line, cells in rows[:1]]
    width = max((len(cells) for _, cells in rows), default=0)
    empty = {at for at in range(width) if not any(cells[at].strip() for _, cells in rows if at < len(cells))}
    if empty:
        rows = [(line, [cell for at, cell in enumerate(cells) if at not in empty]) for line, cells in rows]
    return rows


def stream_cells(
    opened: Opened,
    path: Path,
    *,
    known: Sequence[str] = (),
    width: int = 0,
    encoding: str | None = None,
    advice: str = "",
    error: type[Exception] = TextError,
) -> Iterator[tuple[int, list[str]]]:
    """Give (line, cells) of each row of a CSV file of any size that is not blank, as it stands, one at a time.

    Parameters
    ----------
    opened : callable
        Opens the file at its beginning; called up to four times.
    path : Path
        For messages.
    known, width
        As `find_separator`.
    encoding : str, optional
        What the bytes are, where they are neither UTF-8 nor have a byte-order mark.
    advice, error
        As `decoded`.
    """
    with opened() as file:
        head = file.read(SNIFFED)
    codec = marked_encoding(head)
    if codec is None:
        codec = encoding if encoding and not _is_utf8(opened) else "utf-8"
    if codec == "utf-8":
        _refuse_utf16(head, path, advice, error)
    _check_encoding(codec, error)
    sniffed = codecs.getincrementaldecoder(codec)("ignore").decode(head).removeprefix("\ufeff")
    separator = find_separator(sniffed, known, width)
    with opened() as file, io.TextIOWrapper(file, encoding=codec, newline="") as text:
        try:
            text.read(separator.start + head.startswith(codecs.BOM_UTF8))
            for i, (line, cells) in enumerate(_csv_rows(text, path, separator, error)):
                if i == 0:
                    cells[0] = cells[0].removeprefix("\ufeff")
                yield line, cells
        except UnicodeDecodeError:
            raise _first_undecodable(opened, codec, path, advice, error) from None


def rows_of(
    text: str, path: Path, separator: Separator, *, error: type[Exception] = TextError
) -> Iterator[tuple[int, list[str]]]:
    """Give (line, cells) of each row of a table's text that is not blank; the line is the one that a row ends on."""
    return _csv_rows(io.StringIO(text[separator.start :], newline=""), path, separator, error)


def decoded(
    data: bytes, path: Path, *, encoding: str | None = None, advice: str = "", error: type[Exception] = TextError
) -> str:
    """Return the text of a file's bytes, without its byte-order mark.

    Parameters
    ----------
    data : bytes
        UTF-8, or UTF-16 or UTF-32 with a byte-order mark.
    path : Path
        For messages.
    encoding : str, optional
        What the bytes are instead.
    advice : str
        What else to do about another encoding, ``{0}``.
    error : type
        What is raised: with the line that cannot be read, and how to convert the file.
    """
    if encoding is None:
        encoding = marked_encoding(data) or "utf-8"
    if encoding == "utf-8":
        _refuse_utf16(data, path, advice, error)
    _check_encoding(encoding, error)
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as fault:
        line = len(_LINE_END.findall(data[: fault.start])) + 1
        raise error(_undecodable(data, fault.start, encoding, f"{path}:{line}", fault.start, advice)) from None


def find_separator(text: str, known: Sequence[str] = (), width: int = 0) -> Separator:
    """Tell what parts the cells of a table.

    It is what a first line ``sep=;`` says; else that under which most of the known titles stand in the first row; of
    equals the one that gives that row `width` cells, then one that gives all rows equally many, then one that gives
    more.
    """
    if match := _TOLD.match(text):
        return Separator(match[1], match.end(), 1)
    return Separator(max(SEPARATORS, key=lambda letter: _fit(text, letter, known, width)), 0, 0)


def meant_titles(
    titles: Iterable[str], known: Sequence[str], where: str, *, error: type[Exception] = TextError
) -> list[str]:
    """Return the titles, known ones in place of those that differ in spelling alone; two for one are refused."""
    found = list(titles)
    for name in known:
        if name in found:
            continue
        alike = [i for i, title in enumerate(found) if title not in known and plain_title(title) == plain_title(name)]
        if len(alike) > 1:
            shown = " and ".join(repr(found[i]) for i in alike)
            raise error(f"{where}: columns {shown} both look like {name!r}: rename one")
        for i in alike:
            found[i] = name
    return found


def plain_title(title: str) -> str:
    """Return what titles have in common that differ in letter case, blanks, quotes around, `_` or `-` alone."""
    return re.sub(r"[\s_\-]+", "", title.strip(AROUND)).casefold()


def first_line(head: bytes) -> str:
    """Return the first line of a file, as far as it is among these bytes, whatever it is; `sep=;` is none."""
    text = head.decode(marked_encoding(head) or "utf-8", "replace").replace("\0", "").removeprefix("\ufeff")
    if match := _TOLD.match(text):
        text = text[match.end() :]
    return lines_of(text)[0]


def lines_of(text: str) -> list[str]:
    """Return the lines of a text: not `splitlines`, which would part one at U+2028 and U+0085 too."""
    return re.split(r"\r\n|\r|\n", text)


def is_told_separator(line: str) -> bool:
    """Return whether a line is Excel's `sep=;`, which is no row."""
    return _TOLD.fullmatch(line + "\n") is not None


def marked_encoding(data: bytes) -> str | None:
    """Return the encoding that a byte-order mark tells; None where there is none."""
    return next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)


@contextlib.contextmanager
def many_objects() -> Iterator[None]:
    """Keep the garbage collector from walking over a growing million of objects again and again; none is garbage."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _csv_rows(
    lines: Iterable[str], path: Path, separator: Separator, error: type[Exception]
) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, delimiter=separator.letter, strict=True)
    begun, before = 1, separator.lines_before
    try:
        for row in reader:
            begun = reader.line_num + 1
            if any(map(str.strip, row)):
                yield reader.line_num + before, row
    except csv.Error as fault:
        raise error(f"{path}:{begun + before}: {_wrong(fault)}") from None


def _wrong(fault: csv.Error) -> str:
    if "end of data" in str(fault):
        return "a quote is never closed"
    if "field limit" in str(fault):
        return f"a cell of more than {csv.field_size_limit():,} letters begins here: is a quote never closed?"
    return f"not valid CSV: {fault}"


def _fit(text: str, letter: str, known: Sequence[str], width: int) -> tuple[int, bool, bool, int]:
    filled: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        for row in csv.reader(io.StringIO(text[:SNIFFED], newline=""), delimiter=letter):
            if any(cell.strip(AROUND) for cell in row):
                filled.append(row)
    header = filled[0] if filled else []
    rows = filled[:-1] if len(text) > SNIFFED and len(filled) > 1 else filled  # the last one is cut off
    even = len(header) > 1 and len(set(map(len, rows))) == 1
    found = {plain_title(cell) for cell in header} & {plain_title(name) for name in known}
    return len(found), len(header) == width, even, len(header)


def _check_encoding(encoding: str, error: type[Exception]) -> None:
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise error(f"there is no encoding {encoding!r}; usual ones are cp1252, mac_roman, utf-16-le") from None


def _refuse_utf16(data: bytes, path: Path, advice: str, error: type[Exception]) -> None:
    if 4 * data.count(b"\0", 0, SNIFFED) > min(len(data), SNIFFED):
        raise error(
            f"{path} is not UTF-8 text: {_remedy('utf-16-le', advice)}\n  it holds many NUL bytes, as UTF-16 does"
        )


def _is_utf8(opened: Opened) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with opened() as file:
            while piece := file.read(SNIFFED):
                decoder.decode(piece)
            decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def _first_undecodable(opened: Opened, codec: str, path: Path, advice: str, error: type[Exception]) -> Exception:
    """The error of a file that is read piece by piece, with the line and byte that the pieces do not tell."""
    decoder, line, before, last = codecs.getincrementaldecoder(codec)(), 1, 0, b""
    with opened() as file:
        while True:
            piece = file.read(SNIFFED)
            try:
                decoder.decode(piece, not piece)
            except UnicodeDecodeError as fault:
                data, at = fault.object, fault.start
                joined = last.endswith(b"\r") and data.startswith(b"\n")
                line += len(_LINE_END.findall(data[:at])) - joined
                byte = before + len(piece) - len(data) + at
                return error(_undecodable(data, at, codec, f"{path}:{line}", byte, advice))
            assert piece, "what cannot be decoded comes before the end"
            line += len(_LINE_END.findall(piece)) - (last.endswith(b"\r") and piece.startswith(b"\n"))
            before, last = before + len(piece), piece


_NO_TEXTS = {
    b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"GIF8": "a GIF picture",
    b"PK\x03\x04": "a zip file, as .xlsx and .npz are", b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"\x89HDF": "an HDF5 file", b"\x93NUMPY": "a .npy file", b"PAR1": "a Parquet file", b"\x1f\x8b": "a gzip file",
    b"%PDF": "a PDF", b"SQLite": "an SQLite database",
}  # fmt: skip
"""What files begin with that are taken for texts by mistake."""


def _undecodable(data: bytes, at: int, encoding: str, where: str, byte: int, advice: str) -> str:
    if byte == at and (kind := next((kind for mark, kind in _NO_TEXTS.items() if data.startswith(mark)), None)):
        return f"{where.removesuffix(':1')}: {kind}, where a text is expected"
    begin = max(data.rfind(b"\n", 0, at), data.rfind(b"\r", 0, at)) + 1
    shown = _LINE_END.split(data[begin : at + 40])[0][-60:]
    name, hint = encoding, ""
    if encoding == "utf-8":
        name = "UTF-8"
        windows, mac = shown.decode("cp1252", "replace"), shown.decode("mac_roman")
        hint = f"\n  there Windows' cp1252 reads {windows!r}, an old Mac's mac_roman {mac!r}"
    return f"{where}: not {name} text (byte {byte}): {_remedy('cp1252', advice)}{hint}"


def _remedy(encoding: str, advice: str) -> str:
    return (_CONVERT + (f"; {advice}" if advice else "")).format(encoding)


def is_utf8_data(data: bytes) -> bool:
    """Whether these bytes are UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_utf8(text: str) -> bool:
    """False for bytes of a file's name that are no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_NUMBER = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]+)?")


def number_of(cell: str) -> float:
    """Return the number in a cell, decimals behind a point or comma; NaN of an empty one.

    Raises
    ------
    ValueError
        For all else: `nan` and `inf`, which are words, and Python's own spellings such as `1_0`.
    """
    if cell and _NUMBER.fullmatch(cell) is None:
        raise ValueError(cell)
    return float(cell.replace(",", ".") or "nan") + 0.0  # there is no -0


def number_text(number: float) -> str:
    """Return the shortest decimals that `number_of` reads as this number; nothing for NaN."""
    return "" if number != number else repr(number).removesuffix(".0")
