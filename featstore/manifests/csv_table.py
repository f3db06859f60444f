"""CSV files as people and spreadsheets write them, read as they mean them; what cannot be is refused with its line.

Taken: a byte-order mark, UTF-16 with one, any line ends, the separators `,` `;` tab and `|` (and the line `sep=;`),
blank lines, rows and columns of nothing, and column names in other letter case. Refused: bytes that are no UTF-8 unless
their encoding is named, ragged rows, quotes that never close, unknown columns.

So are the cells: no label, one split in three spellings, a class number with a decimal. Every reading but the literal
one is told as a note. Ids are never changed: a person may be called Null.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gc
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..errors import ManifestError, listing, nearest
from .class_sets import ClassSet

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CONVERT = (
    "save it as CSV UTF-8, or convert it with iconv -f {0} -t UTF-8; cer-feat manifest reads such lists with "
    "--encoding {0}"
)
_SEPARATORS = ",;\t|"
_SNIFFED = 1 << 16
"""Bytes or letters at the beginning that tell what a file is."""
_LINE_END = re.compile(rb"\r\n|\r|\n")
_AROUND = " \t\xa0\ufeff\u200b\"'"
"""What stands around a column's name without belonging to it."""
_TOLD = re.compile(r"\"?sep=(.)\"?[ \t]*(\r\n|\r|\n)", re.IGNORECASE)
NO_VALUE = frozenset({
    "nan", "none", "null", "nil", "na", "n/a", "n.a.", "#n/a", "#na", "nat", "<na>", "(null)", "-", "--", "–", "—", "?",
    "#null!", "#ref!", "#value!", "#name?", "#num!", "#div/0!",
})  # fmt: skip
"""How programs and people write that a cell holds nothing, in lower case (pandas, R, SQL, Excel and its errors)."""
_NO_GROUP = frozenset({"nan", "nat", "<na>", "#n/a", "#na", "#null!", "#ref!", "#value!", "#name?", "#num!", "#div/0!"})
"""Those of them that are nobody's initials: rows of a subject called NA must stay together."""
SPLIT_WORDS = {
    "train": "train", "training": "train", "trn": "train",
    "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid", "development": "valid",
    "test": "test", "testing": "test", "tst": "test",
}  # fmt: skip
"""What datasets call their splits, in lower case, to our words."""
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"
_WHOLE = re.compile(r"([+-]?\d+)[.,]0*")
_ROUNDED = re.compile(r"\d([.,]\d+)?E\+\d+")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A CSV file's rows of equal length, and the line that each ends on."""

    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str] | None:
        """The cells of a column; None if there is no such column."""
        if name not in self.header:
            return None
        at = self.header.index(name)
        return [row[at].strip() for row in self.rows]


def parse_table(
    data: bytes,
    path: Path,
    *,
    required: Sequence[str],
    optional: Sequence[str] = (),
    others: bool = False,
    encoding: str | None = None,
) -> Table:
    """Take the rows of a CSV file with a header from its bytes; `path` is for messages.

    Parameters
    ----------
    data : bytes
    path : Path
    required, optional : sequence of str
        Columns that are known; one whose name differs in letter case, blanks, `_` or `-` alone is taken for it.
    others : bool
        Allow columns that are not known.
    encoding : str, optional
        What the bytes are, where they are neither UTF-8 nor UTF-16 with a byte-order mark.

    Raises
    ------
    ManifestError
        With file and line; also for columns that are not known, unless `others` allows them.
    """
    text = decoded(data, path, encoding)
    known = (*required, *optional)
    separator, start, before = _separator(text, known)
    reader = csv.reader(io.StringIO(text[start:], newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    begun = 1
    try:
        with many_objects():
            for row in reader:
                if row and any(map(str.strip, row)):
                    rows.append(row)
                    lines.append(reader.line_num + before)
                begun = reader.line_num + 1
    except csv.Error as error:
        raise ManifestError(f"{path}:{begun + before}: {_wrong(error)}") from None
    if not rows:
        raise ManifestError(f"{path} is empty: expected a header with {', '.join(required)}")
    rows = _without_blank_columns(rows, lines, path)
    header = _meant([cell.strip(_AROUND) for cell in rows[0]], known, path)
    _check_header(header, path, required, known, others)
    return Table(header=header, rows=rows[1:], lines=lines[1:])


def stream_table(
    opened: Callable[[], AbstractContextManager[IO[bytes]]],
    path: Path,
    *,
    columns: Sequence[str],
    wanted: Sequence[str],
    headless: bool = False,
    fields: str = "",
    encoding: str | None = None,
) -> Iterator[tuple[int, list[str]]]:
    """Read a CSV file of any size as `parse_table` would, one row at a time.

    Parameters
    ----------
    opened : callable
        Opens the file at its beginning.
    path : Path
        For messages.
    columns : sequence of str
        Those of the official file, in its order.
    wanted : sequence of str
        The columns whose cells are given, in this order; others may be there or not.
    headless : bool
        The header may be missing; then the columns are the official ones.
    fields : str
        What messages call the fields of an official row.
    encoding : str, optional
        What the bytes are, where they are neither UTF-8 nor UTF-16 with a byte-order mark.

    Yields
    ------
    (line, cells)
        Of each row that is not blank.

    Raises
    ------
    ManifestError
        With file and line.
    """
    with opened() as file:
        head = file.read(_SNIFFED)
    codec = _marked(head)
    if codec is None:
        codec = encoding if encoding and not _is_utf8(opened) else "utf-8-sig"
    if codec == "utf-8-sig":
        _refuse_utf16(head, path)
    separator, _, before = _separator(
        head.decode(codec, "ignore").removeprefix("\ufeff"), columns, len(columns) if headless else 0
    )
    places = [columns.index(name) for name in wanted] if headless else []
    width, header, begun = len(columns), list[str](), 1
    with opened() as file, io.TextIOWrapper(file, encoding=codec, newline="") as text:
        if before:
            text.readline()
        reader = csv.reader(text, delimiter=separator, strict=True)
        try:
            for row in reader:
                begun, line = reader.line_num + 1, reader.line_num + before
                cells = [cell.strip() for cell in row]
                if not any(cells) or cells == header:  # lists that were joined repeat it
                    continue
                if not header:
                    if names := _header(cells, columns, wanted, headless, path, line):
                        places, width, header = [names.index(name) for name in wanted], len(names), cells
                        continue
                    header, cells[0] = [""], cells[0].removeprefix("\ufeff")
                while len(cells) > width and not cells[-1]:
                    cells.pop()
                if len(cells) != width:
                    expected = fields if fields and width == len(columns) else f"{width} fields"
                    raise ManifestError(f"{path}:{line}: expected {expected}, however: {len(cells)} fields")
                yield line, [cells[place] for place in places]
        except UnicodeDecodeError:
            raise _first_undecodable(opened, codec, path) from None
        except csv.Error as error:
            raise ManifestError(f"{path}:{begun + before}: {_wrong(error)}") from None


def table_bytes(path: Path) -> bytes:
    """Bytes of a CSV file, with an error for people where it is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"no manifest {path}\n  make one with: cer-feat manifest KIND ROOT -o {path}") from None
    except IsADirectoryError:
        raise ManifestError(f"{path} is a folder, a manifest is a CSV file: cer-feat manifest folder {path}") from None


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


def decoded(data: bytes, path: Path, encoding: str | None = None) -> str:
    """The text of a file: UTF-8, UTF-16 or UTF-32 with a byte-order mark, or in the encoding that is named.

    Raises
    ------
    ManifestError
        With the line that cannot be read, and how to convert the file.
    """
    if encoding is None:
        encoding = _marked(data) or "utf-8"
    if encoding == "utf-8":
        _refuse_utf16(data, path)
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise ManifestError(f"there is no encoding {encoding!r}; usual ones are cp1252, mac_roman, utf-16-le") from None
    except UnicodeDecodeError as error:
        at = error.start
        line = len(_LINE_END.findall(data[:at])) + 1
        raise _undecodable(data, at, encoding, f"{path}:{line}", at) from None


def first_line(head: bytes) -> str:
    """The first line of a file, as far as it is among these bytes, whatever it is; for a look at what the file is."""
    text = head.decode(_marked(head) or "utf-8", "replace").replace("\0", "").removeprefix("\ufeff")
    if match := _TOLD.match(text):
        text = text[match.end() :]
    return lines_of(text)[0]


def lines_of(text: str) -> list[str]:
    """The lines of a text: not `splitlines`, which would part one at letters such as U+2028 and U+0085 too."""
    return re.split(r"\r\n|\r|\n", text)


def is_told_separator(line: str) -> bool:
    """True for Excel's line `sep=;`, which is no row."""
    return _TOLD.fullmatch(line + "\n") is not None


def read_labels(
    cells: Sequence[str], declared: ClassSet | None, lines: Sequence[int] = (), *, ours: bool = False
) -> tuple[list[str], list[str]]:
    """The labels that cells mean, and notes on what was read otherwise than it stands there.

    Words for nothing are no label, and `3.0` is `3` where all labels are numbers, unless `declared` names them as
    classes. What is no class of `declared` stays as it is, to be refused with its line.

    Parameters
    ----------
    cells : sequence of str
        Without blanks around them.
    declared : ClassSet or None
        The classes, where they are known; None if the cells say them.
    lines : sequence of int
        Where each stands, for the notes.
    ours : bool
        The class list lies beside the table, so labels are its names and no official ids, and words for nothing are
        refused.
    """

    def is_class(text: str) -> bool:
        if declared is None or ours:
            return declared is not None and text in declared.labels
        return declared.match_or_id(text) is not None

    words, nothing = _words(cells, lambda text: text.casefold() in NO_VALUE and not is_class(text) and not ours)
    whole = {word: match[1] for word, text in words.items() if (match := _WHOLE.fullmatch(text))}
    if declared is not None:
        whole = {word: number for word, number in whole.items() if is_class(number) and not is_class(word)}
    elif not all(_is_whole(text) or text in whole for text in words.values() if text):
        whole = {}
    words.update(whole)
    notes = [_told(cells, lines, nothing, "label", "no label; where that is a class, declare the classes")]
    notes.append(_told(cells, lines, list(whole), "label", "the number of a class, without its decimals"))
    labels = [words[cell] for cell in cells]
    if declared is None:
        notes += alike_notes(labels, "label", "classes")
    return labels, list(filter(None, notes))


def read_splits(cells: Sequence[str], lines: Sequence[int] = (), *, others: bool) -> tuple[list[str], list[str]]:
    """The splits that cells mean, and notes: `Train` is train, and with `others` so is `training`, and `dev` is valid.

    Two different words for one split in one file stay two.
    """
    words, nothing = _words(cells, lambda text: text.casefold() in NO_VALUE)
    meant: dict[str, dict[str, None]] = {}
    for text in words.values():
        if (folded := text.casefold()) in SPLIT_WORDS:
            meant.setdefault(SPLIT_WORDS[folded], {})[folded] = None
    for word, text in list(words.items()):
        folded = text.casefold()
        split = SPLIT_WORDS.get(folded, "")
        if folded == split or (others and split and len(meant[split]) == 1):
            words[word] = split
    notes = [_told(cells, lines, nothing, "split", "no split")]
    for split in meant:
        changed = [word for word, text in words.items() if text == split != word]
        notes.append(_told(cells, lines, changed, "split", split))
    splits = [words[cell] for cell in cells]
    return splits, [*filter(None, notes), *alike_notes(splits, "split", "splits")]


def read_groups(cells: Sequence[str], lines: Sequence[int] = ()) -> tuple[list[str], list[str]]:
    """The groups that cells mean, and notes; `NA` stays, as it may be somebody's initials, and is pointed at."""
    words, nothing = _words(cells, lambda text: text.casefold() in _NO_GROUP)
    groups = [words[cell] for cell in cells]
    notes = [_told(cells, lines, nothing, "group", "no group")]
    odd = [text for text in dict.fromkeys(words.values()) if text.casefold() in NO_VALUE]
    if odd:
        notes.append(_told(groups, lines, odd, "group", "a group of that name; where it means none, leave cells empty"))
    return groups, list(filter(None, notes))


def alike_notes(cells: Sequence[str], what: str, whats: str) -> list[str]:
    """A note on each set of words that only spelling parts."""
    counts = Counter(cell for cell in cells if cell)
    by_spelling: dict[str, list[str]] = {}
    for word in counts:
        by_spelling.setdefault(_spelling(word), []).append(word)
    notes = []
    for words in by_spelling.values():
        if len(words) > 1:
            told = " and ".join(f"{word!r} ({counts[word]:,})" for word in words)
            notes.append(f"{what}s {told} differ in spelling alone, but are {len(words)} {whats}: write them alike")
    return notes


def id_notes(ids: Sequence[str], lines: Sequence[int] = ()) -> list[str]:
    """A note on ids that a spreadsheet has turned into rounded numbers; they are taken as they stand."""
    rounded = [one for one in ids if looks_rounded(one)]
    text = "they stand; a spreadsheet rounded them: import the column as text there, or take the original file"
    return [_told(ids, lines, rounded, "id", text)] if rounded else []


def looks_rounded(text: str) -> bool:
    """Whether a text is a number as spreadsheets shorten it, `1.23E+11`."""
    return _ROUNDED.fullmatch(text) is not None


def _header(
    cells: list[str], columns: Sequence[str], wanted: Sequence[str], headless: bool, path: Path, line: int
) -> list[str]:
    """The columns' names that a first row gives; none where it is one of cells already, as it may be."""
    names = [cell.strip(_AROUND) for cell in cells]
    while names and not names[-1]:
        names.pop()
    if headless and not {_plain(name) for name in names} & {_plain(name) for name in wanted}:
        return []
    names = _meant(names, columns, path)
    for name in wanted:
        if names.count(name) != 1:
            wrong = "stands twice" if name in names else f"no column {name!r}"
            raise ManifestError(
                f"{path}:{line}: {wrong} in the header: expected the columns {','.join(columns)}, "
                f"however: {', '.join(names)}"
            )
    return names


def _wrong(error: csv.Error) -> str:
    if "end of data" in str(error):
        return "a quote is never closed"
    if "field limit" in str(error):
        return f"a cell of more than {csv.field_size_limit():,} letters begins here: is a quote never closed?"
    return f"not valid CSV: {error}"


def _marked(data: bytes) -> str | None:
    return next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)


def _refuse_utf16(data: bytes, path: Path) -> None:
    if 4 * data.count(b"\0", 0, _SNIFFED) > min(len(data), _SNIFFED):
        raise ManifestError(
            f"{path} is not UTF-8 text: {_CONVERT.format('utf-16-le')}\n  it holds many NUL bytes, as UTF-16 does"
        )


def _is_utf8(opened: Callable[[], AbstractContextManager[IO[bytes]]]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with opened() as file:
            while piece := file.read(_SNIFFED):
                decoder.decode(piece)
            decoder.decode(b"", True)
    except UnicodeDecodeError:
        return False
    return True


def _first_undecodable(
    opened: Callable[[], AbstractContextManager[IO[bytes]]], codec: str, path: Path
) -> ManifestError:
    """The error of a file that is read piece by piece, with the line and byte that the pieces do not tell."""
    decoder, line, before, last = codecs.getincrementaldecoder(codec)(), 1, 0, b""
    with opened() as file:
        while True:
            piece = file.read(_SNIFFED)
            try:
                decoder.decode(piece, not piece)
            except UnicodeDecodeError as error:
                data, at = error.object, error.start
                joined = last.endswith(b"\r") and data.startswith(b"\n")
                line += len(_LINE_END.findall(data[:at])) - joined
                byte = before + len(piece) - len(data) + at
                return _undecodable(data, at, codec.removesuffix("-sig"), f"{path}:{line}", byte)
            assert piece, "what cannot be decoded comes before the end"
            line += len(_LINE_END.findall(piece)) - (last.endswith(b"\r") and piece.startswith(b"\n"))
            before, last = before + len(piece), piece


def _undecodable(data: bytes, at: int, encoding: str, where: str, byte: int) -> ManifestError:
    begin = max(data.rfind(b"\n", 0, at), data.rfind(b"\r", 0, at)) + 1
    shown = _LINE_END.split(data[begin : at + 40])[0][-60:]
    name, hint = encoding, ""
    if encoding == "utf-8":
        name = "UTF-8"
        windows, mac = shown.decode("cp1252", "replace"), shown.decode("mac_roman")
        hint = f"\n  there Windows' cp1252 reads {windows!r}, an old Mac's mac_roman {mac!r}"
    return ManifestError(f"{where}: not {name} text (byte {byte}): {_CONVERT.format('cp1252')}{hint}")


def _separator(text: str, known: Sequence[str], width: int = 0) -> tuple[str, int, int]:
    """What parts the cells, where the table begins, and how many lines stand before it (`sep=;` is Excel's).

    It is the one under which most of the known columns stand in the header; of equals the one that gives as many
    columns as a row without a header should have, then the one that gives more.
    """
    if match := _TOLD.match(text):
        return match[1], match.end(), 1
    best, most = ",", (-1, False, 0)
    for candidate in _SEPARATORS:
        header: list[str] = []
        with contextlib.suppress(csv.Error):
            rows = csv.reader(io.StringIO(text[:_SNIFFED], newline=""), delimiter=candidate)
            header = next((row for row in rows if any(cell.strip(_AROUND) for cell in row)), [])
        found = {_plain(cell) for cell in header} & {_plain(name) for name in known}
        fit = (len(found), len(header) == width, len(header))
        if fit > most:
            best, most = candidate, fit
    return best, 0, 0


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name.strip(_AROUND)).casefold()


def _meant(header: list[str], known: Sequence[str], path: Path) -> list[str]:
    """The header with known names for those that differ in spelling alone; two for one name are refused."""
    for name in known:
        if name in header:
            continue
        alike = [i for i, cell in enumerate(header) if cell not in known and _plain(cell) == _plain(name)]
        if len(alike) > 1:
            shown = " and ".join(repr(header[i]) for i in alike)
            raise ManifestError(f"{path}:1: columns {shown} both look like {name!r}: rename one")
        for i in alike:
            header[i] = name
    return header


def _without_blank_columns(rows: list[list[str]], lines: list[int], path: Path) -> list[list[str]]:
    """Rows as long as the header; a column without a name is left out if it is empty or merely numbers the rows."""
    width = len(rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise ManifestError(f"{path}:{line}: expected {width} fields, however: {len(row)}")
    drop: set[int] = set()
    for at, name in enumerate(rows[0]):
        if name.strip(_AROUND) and not (at == 0 and name.strip() == "Unnamed: 0"):
            continue
        cells = [row[at].strip() for row in rows[1:]]
        numbers = at == 0 and any(cells == [str(i) for i in range(k, k + len(cells))] for k in (0, 1))
        filled = next((line for cell, line in zip(cells, lines[1:], strict=True) if cell), None)
        if filled is not None and not numbers:
            if name.strip(_AROUND):
                continue
            raise ManifestError(f"{path}:{filled}: column {at + 1} has a cell here, but no name in the header")
        drop.add(at)
    if not drop:
        return rows
    return [[cell for at, cell in enumerate(row) if at not in drop] for row in rows]


def _check_header(header: list[str], path: Path, required: Sequence[str], known: Sequence[str], others: bool) -> None:
    if len(set(header)) != len(header):
        raise ManifestError(f"{path}:1: a column stands twice: {', '.join(header)}")
    for name in required:
        if name not in header:
            raise ManifestError(
                f"{path}:1: no column {name!r} in the header ({', '.join(header)})\n"
                f"  map other names with: cer-feat manifest csv {path} --id-column … --path-column …"
            )
    if not others:
        for name in header:
            if name not in known:
                raise ManifestError(f"{path}:1: unknown column {name!r}; {nearest(name, known)}")


def _words(cells: Sequence[str], is_nothing: Callable[[str], bool]) -> tuple[dict[str, str], list[str]]:
    """Each word among the cells and what it is without what nobody sees; and those that mean nothing, now empty."""
    words = {word: word.strip(_INVISIBLE).strip() for word in dict.fromkeys(cells)}
    nothing = [word for word, text in words.items() if is_nothing(text)]
    return words | dict.fromkeys(nothing, ""), nothing


def _told(cells: Sequence[str], lines: Sequence[int], words: Sequence[str], what: str, read_as: str) -> str:
    if not words:
        return ""
    chosen = set(words)
    found = [i for i, cell in enumerate(cells) if cell in chosen]
    first = f", first in line {lines[found[0]]}" if lines else ""
    counted = f"{len(found):,} {what}s are" if len(found) > 1 else f"one {what} is"
    return f"{counted} {listing(map(repr, dict.fromkeys(words)))}{first}: read as {read_as}"


def _spelling(word: str) -> str:
    plain = re.sub(rf"[\s_\-{_INVISIBLE}]+", "", unicodedata.normalize("NFKC", word)).casefold()
    if match := _WHOLE.fullmatch(word) or re.fullmatch(r"([+-]?\d+)", word):
        return str(int(match[1]))
    return plain or word


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", text) is not None and text.isascii()
