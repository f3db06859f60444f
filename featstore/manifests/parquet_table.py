"""Manifests as other programs' Parquet files: their columns as the texts that a CSV file of them would hold.

Taken: texts of every kind (plain, large, coded as by a pandas Categorical, bytes that are UTF-8), whole numbers, true
and false, and nulls, which are empty cells. A column of whole numbers with gaps, which pandas keeps as decimals, is
read as whole numbers, and that is told. Refused: all that is no cell, such as lists, dates, and ids with decimals.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...kit.text import is_utf8_data, meant_titles
from ..errors import FormatError, ManifestError, nearest
from ..exchange.foreign_formats import PARQUET_MAGIC, pyarrow
from .columns import Column, IntArray, Kinds, Letters, Numbers, Texts, Words
from .targets import meaning_of, typed_titles

_BATCH = 65536
_INDEX = re.compile(r"__index_level_\d+__")
"""How pandas writes an index without a name."""
log = logging.getLogger(__name__)


def is_parquet(data: bytes) -> bool:
    """Whether these are the bytes of a Parquet file."""
    return data.startswith(PARQUET_MAGIC)


def parquet_columns(
    source: bytes | Path, path: Path, known: Kinds, *, required: Sequence[str], others: bool = False
) -> tuple[dict[str, Column], list[str]]:
    """Take the cells of a Parquet file, a batch of rows at a time, as Arrow holds them.

    Columns whose names differ from those that are known in letter case, blanks, `_` or `-` alone are taken for them.
    Columns of numbers are known by their titles (`typed_titles`) too, unless `others` are passed over.

    Parameters
    ----------
    source : bytes or Path
        The file, or all of its bytes.
    path : Path
        For messages.
    known : dict
        What keeps each column.
    required : sequence of str
        Those of them that must be there.
    others : bool
        Pass over columns that are not known, whatever they hold.

    Returns
    -------
    dict
        The known columns that are there, each as long as the file has rows.
    list of str
        Names of all columns, those that are known as they are known.

    Raises
    ------
    FeatstoreError
        If pyarrow is not installed.
    FormatError
        If the file is damaged, or texts in it are no UTF-8.
    ManifestError
        For columns that are missing, not known, or hold what no cell can.
    """
    arrow, parquet = pyarrow()
    try:
        file = parquet.ParquetFile(arrow.BufferReader(source) if isinstance(source, bytes) else source)
        names = [name for name in file.schema_arrow.names if not _INDEX.fullmatch(name)]
        titles, numbers = (names, ()) if others else typed_titles(names, str(path))
        known = {**known, **dict.fromkeys(numbers, Numbers)}
        titles = meant_titles(titles, tuple(known), str(path), error=ManifestError)
        _check_titles(titles, path, required, known, others)
        wanted = {title: name for title, name in zip(titles, names, strict=True) if title in known}
        cells = {title: _Cells(arrow, known[title], title, path) for title in wanted}
        parts: dict[str, list[Any]] = {title: [] for title in wanted}
        for batch in file.iter_batches(_BATCH, columns=list(wanted.values())):
            for title, name in wanted.items():
                parts[title].append(cells[title].of(batch.column(name)))
    except (OSError, UnicodeDecodeError, arrow.ArrowException) as error:
        raise FormatError(f"{path} cannot be read as Parquet: {error}") from None
    for title, column in cells.items():
        if column.decimals:
            log.warning("%s: column %s has whole numbers kept as decimals: 3.0 is read as 3", path, title)
    return {title: known[title].joined(found) for title, found in parts.items()}, titles


def _check_titles(titles: Sequence[str], path: Path, required: Sequence[str], known: Kinds, others: bool) -> None:
    twice = [name for name in dict.fromkeys(titles) if titles.count(name) > 1 and (name in known or not others)]
    if twice:
        raise ManifestError(f"{path}: a column stands twice: {', '.join(titles)}")
    for name in required:
        if name not in titles:
            hint = f"; {nearest(name, titles)}" if others else ""
            raise ManifestError(
                f"{path}: no column {name!r} among {', '.join(titles) or 'none'}{hint}\n"
                f"  map other names with: cer-feat manifest parquet {path} --columns path=…,label=…"
            )
    for name in titles:
        if name not in known and not others:
            raise ManifestError(f"{path}: unknown column {name!r}; {nearest(name, tuple(known))}")


class _Cells:
    """Makes the cells of a column from Arrow's arrays, one after the other.

    Attributes
    ----------
    decimals : bool
        Whether some were whole numbers kept as decimals.
    """

    def __init__(self, arrow: Any, keeps: type[Column], title: str, path: Path) -> None:
        self._arrow, self._types, self._keeps = arrow, arrow.types, keeps
        self._title, self._path = title, path
        self._rows_before = 0
        self.decimals = False

    def of(self, values: Any) -> Column:
        """The cells of the next array; a null is an empty one.

        Raises
        ------
        ManifestError, FormatError
            With the sample, for what is no cell, or no text.
        """
        is_coded = self._types.is_dictionary(values.type)
        self._check(values.type.value_type if is_coded else values.type)
        if is_coded and (self._keeps is Texts or len(values.dictionary) > len(values)):
            values, is_coded = values.dictionary_decode(), False
        if not is_coded:
            values = self._usual(values)
        found: Column
        if self._keeps is Numbers:
            found = self._numbers(values.dictionary_decode() if is_coded else values)
        elif self._types.is_null(values.type):
            found = Words.blank(len(values))
        elif self._keeps is Texts and not self._types.is_boolean(values.type):
            found = self._texts(values, np.arange(len(values)))
        else:
            found = self._words(values if is_coded else values.dictionary_encode())
        self._rows_before += len(values)
        return Texts.of(found) if self._keeps is Texts and isinstance(found, Words) else found

    def _check(self, kind: Any) -> None:
        types = self._types
        is_cell = self._is_text(kind) or types.is_null(kind) or types.is_integer(kind) or types.is_boolean(kind)
        if not is_cell and not (types.is_floating(kind) and self._keeps is not Texts):
            expected = "numbers" if self._keeps is Numbers else "texts or whole numbers"
            raise ManifestError(
                f"{self._path}: column {self._title!r} has the type {kind}, which is no cell of a manifest\n"
                f"  expected {expected}: convert the column where the file is written"
            )

    def _is_text(self, kind: Any) -> bool:
        types = self._types
        is_kind = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
        return any(is_one(kind) for is_one in is_kind) or str(kind) == "string_view"

    def _usual(self, values: Any) -> Any:
        """The same values as Arrow keeps most of their kind."""
        if str(values.type) == "string_view":
            return self._arrow.array(values.to_pylist(), self._arrow.large_string())
        if str(values.type) == "halffloat":
            return self._arrow.array(
                map(float, np.asarray(values.to_numpy(zero_copy_only=False))), self._arrow.float64()
            )
        return values

    def _texts(self, values: Any, row_of: IntArray) -> Texts:
        """Texts or whole numbers of an array, from its memory; `row_of` says where each stands in the column."""
        if self._types.is_integer(values.type):
            values = values.cast(self._arrow.string())
        is_large = self._types.is_large_string(values.type) or self._types.is_large_binary(values.type)
        _, places, data = values.buffers()
        if not len(values) or data is None:
            return Texts.of([""] * len(values))
        bounds = np.frombuffer(places, np.int64 if is_large else np.int32)[values.offset :][: len(values) + 1]
        letters = np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]]
        ends = bounds[1:].astype(np.int64) - bounds[0]
        starts = np.concatenate([[0], ends[:-1]])
        ends = np.where(_is_null(values), starts, ends)
        if (at := _first_no_utf8(letters, starts, ends)) is not None:
            raise FormatError(
                f"{self._path}, sample {self._rows_before + int(row_of[at])}: column {self._title!r} cannot be read as "
                f"Parquet: {letters[starts[at] : ends[at]].tobytes()!r} is no UTF-8 text"
            )
        return Texts.between(letters, starts, ends).stripped()

    def _words(self, coded: Any) -> Words:
        """Texts or numbers of a coded array, each different one looked at once."""
        if not len(coded):
            return Words.blank(0)
        known, indices = self._usual(coded.dictionary), coded.indices
        places = np.frombuffer(indices.buffers()[1], str(indices.type))[indices.offset :][: len(indices)]
        numbers = np.where(_is_null(indices), len(known), places).astype(np.int32)
        used, first = np.unique(numbers, return_index=True)
        row_of = np.full(len(known) + 1, -1)
        row_of[used] = first
        if self._is_text(known.type):
            return Words((*self._texts(known, row_of), ""), numbers)
        cells = [
            "" if row < 0 else self._number(one, row)
            for one, row in zip(known.to_pylist(), row_of.tolist()[:-1], strict=True)
        ]
        return Words((*cells, ""), numbers)

    def _numbers(self, values: Any) -> Numbers:
        """Numbers of an array, or those that its texts are; a null is not known, and neither is NaN."""
        kind = values.type
        if self._is_text(kind) or self._types.is_null(kind):
            words = Words.blank(len(values)) if self._types.is_null(kind) else self._words(values.dictionary_encode())
            try:
                return Numbers.of(words)
            except ValueError as error:
                wrong = str(error)
            row = self._rows_before + int(words.where({wrong})[0])
            raise ManifestError(
                f"{self._path}, sample {row}: {self._title} must {meaning_of(self._title)}, however: {wrong!r}"
            )
        short = {"halffloat": np.float16, "float": np.float32}.get(str(kind))
        values = self._usual(values).cast(self._arrow.float64())
        numbers = np.frombuffer(values.buffers()[1], np.float64)[values.offset :][: len(values)]
        numbers = np.where(_is_null(values), np.nan, numbers)
        if short is not None:  # the decimals that were meant: 0.1, and not 0.10000000149
            different, at = np.unique(numbers.astype(short), return_inverse=True)
            numbers = np.array([float(str(one)) for one in different])[at]
        return Numbers(numbers + 0.0)

    def _number(self, cell: int | float | None, row: int) -> str:
        if cell is None or cell != cell:  # NaN
            return ""
        if not isinstance(cell, float):
            return str(cell)
        self.decimals = True
        if math.isfinite(cell) and cell == int(cell) and abs(cell) < 2**53:
            return str(int(cell))
        raise ManifestError(
            f"{self._path}, sample {self._rows_before + row}: column {self._title!r} holds the number {cell}, expected "
            f"texts or whole numbers\n  convert the column where the file is written"
        )


def _is_null(values: Any) -> npt.NDArray[np.bool_]:
    """(n,) where an array of Arrow's has nothing; from its memory, as its `to_numpy` would import pandas."""
    bits = values.buffers()[0]
    if bits is None:
        return np.zeros(len(values), bool)
    known = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return np.equal(known[values.offset :][: len(values)], 0)


def _first_no_utf8(data: Letters, starts: IntArray, ends: IntArray) -> int | None:
    """The first of some texts, one behind the other, that is no UTF-8; None if all are. Lone surrogates are none."""
    begun = data[starts[starts < ends]]
    if is_utf8_data(data.tobytes()) and not ((begun & 0xC0) == 0x80).any():
        return None
    wrong = (i for i, (a, b) in enumerate(zip(starts, ends, strict=True)) if not is_utf8_data(data[a:b].tobytes()))
    return next(wrong, None)
