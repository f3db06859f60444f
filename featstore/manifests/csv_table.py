"""CSV files as people and spreadsheets write them, read as they mean them; what cannot be is refused with its line.

Taken: a byte-order mark, UTF-16 with one, any line ends, the separators `,` `;` tab and `|` (and the line `sep=;`),
blank lines, rows and columns of nothing, and column names in other letter case. Refused: bytes that are no UTF-8 unless
their encoding is named, ragged rows, quotes that never close, unknown columns.

So are the cells: no label, one split in three spellings, a class number with a decimal. Every reading but the literal
one is told as a note. Ids are never changed: a person may be called Null. Tables of annotators' votes are read the same
way, as the share of each class in each sample.
"""

from __future__ import annotations

import codecs
import csv
import math
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...kit.text import (
    AROUND,
    SEPARATORS,
    Opened,
    decoded,
    find_separator,
    is_utf8_data,
    many_objects,
    meant_titles,
    number_of,
    plain_title,
    read_cells,
    rows_of,
    stream_cells,
)
from ..errors import ManifestError, listing, nearest
from .class_sets import ClassSet
from .columns import Column, IntArray, Kinds, Letters, Numbers, Texts, Words, begins_or_ends_blank
from .targets import meaning_of, typed_titles

ADVICE = "cer-feat manifest reads such lists with --encoding {0}"
"""What else to do about a list in another encoding."""
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
_PIECE = 1 << 18
"""Bytes that are parted into cells together, which stay in the processor's cache."""
_LINE_END, _RETURN, _QUOTE = ord("\n"), ord("\r"), ord('"')
_CONTROLS = bytes({*range(32)} - {ord("\n"), ord("\t")})
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
    typed: bool = False,
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
    typed : bool
        Know columns of numbers by their titles (`typed_titles`) too.
    encoding : str, optional
        What the bytes are, where they are neither UTF-8 nor UTF-16 with a byte-order mark.

    Raises
    ------
    ManifestError
        With file and line; also for columns that are not known, unless `others` allows them.
    """
    text = decoded(data, path, encoding=encoding, advice=ADVICE, error=ManifestError)
    known = (*required, *optional)
    with many_objects():
        found = list(rows_of(text, path, find_separator(text, known), error=ManifestError))
    lines, rows = [line for line, _ in found], [row for _, row in found]
    if not rows:
        raise ManifestError(f"{path} is empty: expected a header with {', '.join(required)}")
    rows = _without_blank_columns(rows, lines, path)
    titles = [cell.strip(AROUND) for cell in rows[0]]
    if typed:
        titles, numbers = typed_titles(titles, f"{path}:1")
        known = (*known, *numbers)
    header = meant_titles(titles, known, f"{path}:1", error=ManifestError)
    _check_header(header, path, required, known, others)
    return Table(header=header, rows=rows[1:], lines=lines[1:])


def plain_columns(data: bytes, known: Kinds, required: Sequence[str]) -> dict[str, Column] | None:
    """The columns of a CSV file such as programs write most, without a Python object a row; numbers by their titles.

    Taken: a byte-order mark, any of the separators, line ends of Windows, cells in quotes, blanks around them.

    Returns
    -------
    dict or None
        What `parse_table` finds, in a tenth of its time and memory, each row on the line after the one before. None of
        a file that takes more to read: other columns, a quote or a line end in a cell, rows of nothing, any fault.
    """
    begin = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    end = len(data)
    while end > begin and data[end - 1] in b"\r\n":
        end -= 1
    stop = data.find(b"\n", begin, end)
    found = None if stop < 0 else _plain_header(data[begin:stop].removesuffix(b"\r"), tuple(known), required)
    if found is None:
        return None
    separator, names, numbers = found
    known = {**known, **dict.fromkeys(numbers, Numbers)}
    parts: dict[str, list[Any]] = {name: [] for name in names}
    begin = stop + 1
    while begin < end:
        stop = data.find(b"\n", min(begin + _PIECE, end), end)
        piece = data[begin : stop if stop >= 0 else end]
        begin += len(piece) + 1
        if (cells := _plain_cells(piece, ord(separator), len(names))) is None:
            return None
        letters, starts, ends = cells
        for k, name in enumerate(names):
            try:
                parts[name].append(known[name].between(letters, starts[:, k], ends[:, k]))
            except ValueError:  # no number
                return None
    return {name: known[name].joined(found) for name, found in parts.items()}


def _plain_header(
    line: bytes, known: Sequence[str], required: Sequence[str]
) -> tuple[str, list[str], tuple[str, ...]] | None:
    """What separates the cells of a header of known columns alone, these, those of numbers; None of any other."""
    for separator in SEPARATORS:
        try:
            [cells] = csv.reader([line.decode()], delimiter=separator, strict=True)
            titles, numbers = typed_titles([cell.strip(AROUND) for cell in cells], "")
            all_known = (*known, *numbers)
            names = meant_titles(titles, all_known, "", error=ManifestError)
        except (UnicodeDecodeError, ValueError, csv.Error, ManifestError):
            continue
        if set(required) <= set(names) <= set(all_known) and len(set(names)) == len(names):
            return separator, names, numbers
    return None


def _plain_cells(piece: bytes, separator: int, width: int) -> tuple[Letters, IntArray, IntArray] | None:
    """The bytes of some rows, and where in them each cell begins and ends, (n, width); None unless all is plain."""
    returns = piece.count(b"\r")
    if len(piece.translate(None, _CONTROLS)) + returns != len(piece) or not (piece.isascii() or is_utf8_data(piece)):
        return None
    letters = np.frombuffer(piece + b"\n", np.uint8)
    breaks = np.flatnonzero((letters == separator) | (letters == _LINE_END))
    quotes = np.flatnonzero(letters == _QUOTE) if b'"' in piece else breaks[:0]
    if len(quotes):
        inside = np.searchsorted(quotes, breaks) % 2 == 1
        before, behind = letters[quotes[::2] - 1], letters[quotes[1::2] + 1]
        whole = len(quotes) % 2 == 0 and np.isin(before, [separator, _LINE_END]).all()
        if not whole or not np.isin(behind, [separator, _LINE_END, _RETURN]).all():
            return None
        if (letters[breaks[inside]] == _LINE_END).any():
            return None
        breaks = breaks[~inside]
    if len(breaks) % width:
        return None
    ends = breaks.reshape(-1, width)  # (n, width)
    starts = np.concatenate([[0], breaks[:-1] + 1]).reshape(-1, width)
    is_last = letters[ends] == _LINE_END
    if not is_last[:, -1].all() or is_last[:, :-1].any():
        return None
    if returns:
        returned = (letters[ends[:, -1] - 1] == _RETURN) & (ends[:, -1] > starts[:, -1])
        if returned.sum() != returns:
            return None
        ends[:, -1] -= returned
    if len(quotes):
        quoted = letters[starts] == _QUOTE
        starts, ends = starts + quoted, ends - quoted
    first, last = _without_blanks(letters, starts.ravel(), ends.ravel())
    sizes = (last - first).reshape(-1, width)
    if not sizes.any(axis=1).all() or int(sizes.max()) >= csv.field_size_limit():
        return None
    if not piece.isascii() and begins_or_ends_blank(letters, first, last).any():
        return None
    return letters, first.reshape(-1, width), last.reshape(-1, width)


def _without_blanks(letters: Letters, starts: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
    """Cells without the blanks and tabs around them."""
    blank = np.isin(np.arange(256), [ord(" "), ord("\t")])
    while (before := blank[letters[starts]] & (starts < ends)).any():
        starts = starts + before
    while (behind := blank[letters[ends - 1]] & (starts < ends)).any():
        ends = ends - behind
    return starts, ends


def stream_table(
    opened: Opened,
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
    places = [columns.index(name) for name in wanted] if headless else []
    width, header = len(columns), list[str]()
    official = len(columns) if headless else 0
    found = stream_cells(
        opened, path, known=columns, width=official, encoding=encoding, advice=ADVICE, error=ManifestError
    )
    for line, row in found:
        cells = [cell.strip() for cell in row]
        if cells == header:  # lists that were joined repeat it
            continue
        if not header:
            if names := _header(cells, columns, wanted, headless, path, line):
                places, width, header = [names.index(name) for name in wanted], len(names), cells
                continue
            header = [""]
        while len(cells) > width and not cells[-1]:
            cells.pop()
        if len(cells) != width:
            expected = fields if fields and width == len(columns) else f"{width} fields"
            raise ManifestError(f"{path}:{line}: expected {expected}, however: {len(cells)} fields")
        yield line, [cells[place] for place in places]


def table_bytes(path: Path) -> bytes:
    """Bytes of a CSV file, with an error for people where it is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"no manifest {path}\n  make one with: cer-feat manifest KIND ROOT -o {path}") from None
    except IsADirectoryError:
        raise ManifestError(f"{path} is a folder, a manifest is a CSV file: cer-feat manifest folder {path}") from None


def read_labels(
    cells: Words, declared: ClassSet | None, lines: Sequence[int] = (), *, ours: bool = False
) -> tuple[Words, list[str]]:
    """The labels that cells mean, and notes on what was read otherwise than it stands there.

    Words for nothing are no label, and `3.0` is `3` where all labels are numbers, unless `declared` names them as
    classes. What is no class of `declared` stays as it is, to be refused with its line.

    Parameters
    ----------
    cells : Words
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
    labels = cells.renamed(words)
    if declared is None:
        notes += alike_notes(labels.counts(), "label", "classes")
    return labels, list(filter(None, notes))


def read_splits(cells: Words, lines: Sequence[int] = (), *, others: bool) -> tuple[Words, list[str]]:
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
    splits = cells.renamed(words)
    return splits, [*filter(None, notes), *alike_notes(splits.counts(), "split", "splits")]


def read_groups(cells: Words, lines: Sequence[int] = ()) -> tuple[Words, list[str]]:
    """The groups that cells mean, and notes; `NA` stays, as it may be somebody's initials, and is pointed at."""
    words, nothing = _words(cells, lambda text: text.casefold() in _NO_GROUP)
    groups = cells.renamed(words)
    notes = [_told(cells, lines, nothing, "group", "no group")]
    odd = [text for text in dict.fromkeys(words.values()) if text.casefold() in NO_VALUE]
    if odd:
        notes.append(_told(groups, lines, odd, "group", "a group of that name; where it means none, leave cells empty"))
    return groups, list(filter(None, notes))


def read_numbers(cells: Words, title: str, path: Path, lines: Sequence[int]) -> tuple[Numbers, str]:
    """The numbers that the cells of a column mean, and a note where words for nothing are read as not known.

    Raises
    ------
    ManifestError
        With the line, for what is no number.
    """
    words, nothing = _words(cells, lambda text: text.casefold() in NO_VALUE)
    for word, text in words.items():
        try:
            number_of(text)
        except ValueError:
            line = lines[int(cells.where({word})[0])]
            raise ManifestError(f"{path}:{line}: {title} must {meaning_of(title)}, however: {text!r}") from None
    return Numbers.of(cells.renamed(words)), _told(cells, lines, nothing, title, "not known")


def alike_notes(counts: Mapping[str, int], what: str, whats: str) -> list[str]:
    """A note on each set of words that only spelling parts; `counts` says how often each word stands there."""
    by_spelling: dict[str, list[str]] = {}
    for word in filter(None, counts):
        by_spelling.setdefault(_spelling(word), []).append(word)
    notes = []
    for words in by_spelling.values():
        if len(words) > 1:
            told = " and ".join(f"{word!r} ({counts[word]:,})" for word in words)
            notes.append(f"{what}s {told} differ in spelling alone, but are {len(words)} {whats}: write them alike")
    return notes


def id_notes(ids: Texts, lines: Sequence[int] = ()) -> list[str]:
    """Notes on ids that a spreadsheet has turned into rounded numbers, and that only Unicode's forms part.

    All are taken as they stand.
    """
    notes, whole = [], ids.whole()
    rounded = [i for i, one in enumerate(ids) if looks_rounded(one)] if "E+" in whole else []
    if rounded:
        text = "they stand; a spreadsheet rounded them: import the column as text there, or take the original file"
        notes.append(_told_at(rounded, [ids[i] for i in rounded], lines, "id", text))
    odd = [] if whole.isascii() else [one for one in ids if not unicodedata.is_normalized("NFC", one)]
    if odd:
        composed: dict[str, list[int]] = {unicodedata.normalize("NFC", one): [] for one in odd}
        for i, one in enumerate(ids):
            if (found := composed.get(unicodedata.normalize("NFC", one))) is not None:
                found.append(i)
        twice = [at for at in composed.values() if len(at) > 1]
        if twice:
            first = [f"{ids[i]!a} in line {lines[i]}" if lines else ascii(ids[i]) for i in twice[0]]
            counted = f"{len(twice):,} ids are" if len(twice) > 1 else "one id is"
            notes.append(
                f"{counted} there in several forms of Unicode, which look alike ({listing(first)}): "
                f"taken for different samples; write them alike where they are one"
            )
    return notes


def looks_rounded(text: str) -> bool:
    """Whether a text is a number as spreadsheets shorten it, `1.23E+11`."""
    return _ROUNDED.fullmatch(text) is not None


def _header(
    cells: list[str], columns: Sequence[str], wanted: Sequence[str], headless: bool, path: Path, line: int
) -> list[str]:
    """The columns' names that a first row gives; none where it is one of cells already, as it may be."""
    names = [cell.strip(AROUND) for cell in cells]
    while names and not names[-1]:
        names.pop()
    if headless and not {plain_title(name) for name in names} & {plain_title(name) for name in wanted}:
        return []
    names = meant_titles(names, columns, f"{path}:1", error=ManifestError)
    for name in wanted:
        if names.count(name) != 1:
            wrong = "stands twice" if name in names else f"no column {name!r}"
            raise ManifestError(
                f"{path}:{line}: {wrong} in the header: expected the columns {','.join(columns)}, "
                f"however: {', '.join(names)}"
            )
    return names


def _without_blank_columns(rows: list[list[str]], lines: list[int], path: Path) -> list[list[str]]:
    """Rows as long as the header; a column without a name is left out if it is empty or merely numbers the rows."""
    width = len(rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise ManifestError(f"{path}:{line}: expected {width} fields, however: {len(row)}")
    drop: set[int] = set()
    for at, name in enumerate(rows[0]):
        if name.strip(AROUND) and not (at == 0 and name.strip() == "Unnamed: 0"):
            continue
        cells = [row[at].strip() for row in rows[1:]]
        numbers = at == 0 and any(cells == [str(i) for i in range(k, k + len(cells))] for k in (0, 1))
        filled = next((line for cell, line in zip(cells, lines[1:], strict=True) if cell), None)
        if filled is not None and not numbers:
            if name.strip(AROUND):
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


def _words(cells: Words, is_nothing: Callable[[str], bool]) -> tuple[dict[str, str], list[str]]:
    """Each word among the cells and what it is without what nobody sees; and those that mean nothing, now empty."""
    words = {word: word.strip(_INVISIBLE).strip() for word in cells.counts()}
    nothing = [word for word, text in words.items() if is_nothing(text)]
    return words | dict.fromkeys(nothing, ""), nothing


def _told(cells: Words, lines: Sequence[int], words: Collection[str], what: str, read_as: str) -> str:
    return _told_at(cells.where(set(words)).tolist(), words, lines, what, read_as) if words else ""


def _told_at(at: Sequence[int], words: Iterable[str], lines: Sequence[int], what: str, read_as: str) -> str:
    first = f", first in line {lines[at[0]]}" if lines else ""
    counted = f"{len(at):,} {what}s are" if len(at) > 1 else f"one {what} is"
    return f"{counted} {listing(map(repr, dict.fromkeys(words)))}{first}: read as {read_as}"


def _spelling(word: str) -> str:
    plain = re.sub(rf"[\s_\-{_INVISIBLE}]+", "", unicodedata.normalize("NFKC", word)).casefold()
    match = _WHOLE.fullmatch(word) or re.fullmatch(r"([+-]?\d+)", word)
    if match and len(match[1]) < 4000:  # int() takes no more digits
        return str(int(match[1]))
    return plain or word


def _is_whole(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", text) is not None and text.isascii()


def read_soft_labels(path: Path | str, classes: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Read votes and turn each line into shares that sum to one.

    Parameters
    ----------
    path : Path
        CSV with a header. A class without a column has no votes; a column that is no class is refused. Of a manifest
        with columns `votes.<class>` these are read, where a sample has any.
    classes : sequence of str
        In the order of the result.

    Returns
    -------
    dict
        sample_id -> float32 (k,), summing to 1. A line without any vote is refused.

    Raises
    ------
    ManifestError
        With file and line.
    """
    path = Path(path)
    (_, header), *rows = read_cells(path, known=("sample_id", *classes), error=ManifestError) or [(1, [])]
    columns = _columns(header, classes, path)
    of_a_manifest = any(title.startswith("votes.") for title in header)
    found: dict[str, NDArray[np.float32]] = {}
    for line, row in rows:
        where = f"{path}:{line}"
        if len(row) != len(header):
            raise ManifestError(f"{where}: expected {len(header)} fields, however: {len(row)}")
        if row[0] in found:
            raise ManifestError(f"{where}: sample_id {row[0]!r} stands twice")
        if not of_a_manifest or any(row[column] for column in columns):
            found[row[0]] = _shares(row, columns, len(classes), where)
    return found


def _columns(header: Sequence[str], classes: Sequence[str], path: Path) -> dict[int, int]:
    """Column of the file -> position of its class."""
    if header[:1] != ["sample_id"]:
        raise ManifestError(f"{path}: the first column must be sample_id, however: {header[:1]}")
    of_a_manifest = [title for title in header if title.startswith("votes.")]
    named = {column: name for column, name in enumerate(header) if name in (of_a_manifest or header[1:])}
    places = {column: name[6:] if of_a_manifest else name for column, name in named.items()}
    for column, name in places.items():
        if name not in classes:
            raise ManifestError(f"{path}: column {header[column]!r} is none of the classes: {nearest(name, classes)}")
    if len(set(header)) != len(header):
        raise ManifestError(f"{path}: a column stands twice: {', '.join(header)}")
    return {column: list(classes).index(name) for column, name in places.items()}


def _shares(row: Sequence[str], columns: dict[int, int], k: int, where: str) -> NDArray[np.float32]:
    votes = np.zeros(k, dtype=np.float64)
    for column, position in columns.items():
        try:
            votes[position] = float(row[column].replace(",", ".") or 0)
        except ValueError:
            raise ManifestError(f"{where}: votes must be numbers, however: {row[column]!r}") from None
    total = float(votes.sum())
    if not math.isfinite(total) or total <= 0 or (votes < 0).any():
        raise ManifestError(f"{where}: votes must not be negative, and at least one positive, however: {row[1:]}")
    return (votes / total).astype(np.float32)
