"""Manifests as other programs' Parquet files: their columns as the texts that a CSV file of them would hold.

Taken: texts of every kind (plain, large, coded as by a pandas Categorical, bytes that are UTF-8), whole numbers, true
and false, and nulls, which are empty cells. A column of whole numbers with gaps, which pandas keeps as decimals, is
read as whole numbers, and that is told. Refused: all that is no cell, such as lists, dates, and ids with decimals.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...kit.text import meant_titles
from ..errors import FormatError, ManifestError, nearest
from ..exchange.foreign_formats import PARQUET_MAGIC, pyarrow

_BATCH = 65536
_INDEX = re.compile(r"__index_level_\d+__")
"""How pandas writes an index without a name."""
log = logging.getLogger(__name__)


def is_parquet(data: bytes) -> bool:
    """Whether these are the bytes of a Parquet file."""
    return data.startswith(PARQUET_MAGIC)


def stream_parquet(
    data: bytes, path: Path, *, required: Sequence[str], optional: Sequence[str]
) -> Iterator[dict[str, list[str]]]:
    """Take the cells of a Parquet file from its bytes, a batch of rows at a time; `path` is for messages.

    Columns whose names differ from those that are known in letter case, blanks, `_` or `-` alone are taken for them.

    Raises
    ------
    FeatstoreError
        If pyarrow is not installed.
    FormatError
        If the file is damaged.
    ManifestError
        For columns that are missing, not known, or hold what no cell can.
    """
    arrow, parquet = pyarrow()
    known = (*required, *optional)
    try:
        file = parquet.ParquetFile(arrow.BufferReader(data))
        schema = file.schema_arrow
        names = [name for name in schema.names if not _INDEX.fullmatch(name)]
        titles = meant_titles(names, known, str(path), error=ManifestError)
        _check_titles(titles, path, required, known)
        readers = {
            title: _reader(arrow, schema.field(schema.get_field_index(name)).type, title, path)
            for title, name in zip(titles, names, strict=True)
        }
        told: set[str] = set()
        for batch in file.iter_batches(_BATCH, columns=names):
            columns = {}
            for title, name in zip(titles, names, strict=True):
                cells, decimals = readers[title](batch.column(name).to_pylist())
                columns[title] = cells
                if decimals and title not in told:
                    told.add(title)
                    log.warning("%s: column %s has whole numbers kept as decimals: 3.0 is read as 3", path, title)
            yield columns
    except (OSError, UnicodeDecodeError, arrow.ArrowException) as error:
        raise FormatError(f"{path} cannot be read as Parquet: {error}") from None


def _check_titles(titles: Sequence[str], path: Path, required: Sequence[str], known: Sequence[str]) -> None:
    if len(set(titles)) != len(titles):
        raise ManifestError(f"{path}: a column stands twice: {', '.join(titles)}")
    for name in required:
        if name not in titles:
            raise ManifestError(
                f"{path}: no column {name!r} among {', '.join(titles) or 'none'}\n"
                f"  map other names with: cer-feat manifest parquet {path} --columns path=…,label=…"
            )
    for name in titles:
        if name not in known:
            raise ManifestError(f"{path}: unknown column {name!r}; {nearest(name, known)}")


Cells = Callable[[list[Any]], tuple[list[str], bool]]
"""The texts of a column's values, and whether some were whole numbers kept as decimals."""


def _reader(arrow: Any, kind: Any, title: str, path: Path) -> Cells:
    """What makes cells of a column's values."""
    types = arrow.types
    value = kind.value_type if types.is_dictionary(kind) else kind
    is_text = types.is_string(value) or types.is_large_string(value) or str(value) == "string_view"
    if is_text or types.is_null(value):
        return lambda values: (["" if cell is None else cell.strip() for cell in values], False)
    if types.is_integer(value) or types.is_boolean(value):
        return lambda values: (["" if cell is None else str(cell) for cell in values], False)
    if types.is_binary(value) or types.is_large_binary(value):
        return lambda values: (["" if cell is None else cell.decode().strip() for cell in values], False)
    if types.is_floating(value) and title not in ("sample_id", "path"):
        return lambda values: _whole(values, title, path)
    raise ManifestError(
        f"{path}: column {title!r} has the type {kind}, which is no cell of a manifest\n"
        f"  expected texts or whole numbers: convert the column where the file is written"
    )


def _whole(values: list[Any], title: str, path: Path) -> tuple[list[str], bool]:
    cells = []
    for cell in values:
        if cell is None or math.isnan(cell):
            cells.append("")
        elif math.isfinite(cell) and cell == int(cell) and abs(cell) < 2**53:
            cells.append(str(int(cell)))
        else:
            raise ManifestError(
                f"{path}: column {title!r} holds the number {cell}, expected texts or whole numbers\n"
                f"  convert the column where the file is written"
            )
    return cells, any(cells)
