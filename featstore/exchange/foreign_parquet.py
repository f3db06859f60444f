"""Parquet files, by the optional library pyarrow: exports of ours, read one row group at a time."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cer_fusion.featstore.errors import FeatstoreError, FormatError

MAGIC = b"PAR1"


def pyarrow() -> tuple[Any, Any]:
    """`pyarrow` and `pyarrow.parquet`.

    Raises
    ------
    FeatstoreError
        If it is not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise FeatstoreError(
            f"Parquet files need the library pyarrow, which cannot be imported: {error}\n"
            f"  install it with: pip install 'cer-fusion[parquet]'"
        ) from None


class ParquetFile:
    """A Parquet file whose columns are read when asked for.

    Raises
    ------
    FormatError
        If it is damaged.
    FeatstoreError
        Without pyarrow.
    """

    def __init__(self, path: Path) -> None:
        arrow, parquet = pyarrow()
        self.path = path
        try:
            self._file = parquet.ParquetFile(path)
            metadata = self._file.schema_arrow.metadata or {}
        except (OSError, arrow.ArrowException) as error:
            raise FormatError(f"{path} cannot be read as Parquet: {error}") from None
        self.metadata = {key.decode(errors="replace"): text.decode(errors="replace") for key, text in metadata.items()}
        """Texts that were written beside the columns."""

    def names(self) -> list[str]:
        """The sample ids."""
        return [str(text) for text in self._read(list(range(self._file.num_row_groups)), "sample_id").to_pylist()]

    def rows(self, column: str) -> ParquetRows:
        """The rows of one block.

        Raises
        ------
        FormatError
            If there is no such column of equally long lists of floats.
        """
        arrow, _ = pyarrow()
        at = self._file.schema_arrow.get_field_index(column)
        kind = self._file.schema_arrow.field(at).type if at >= 0 else None
        if kind is None or not arrow.types.is_fixed_size_list(kind) or kind.value_type != arrow.float32():
            raise FormatError(f"{self.path} has no column {column!r} of float32 lists, though its note names one")
        return ParquetRows(self, column, kind.list_size)

    def starts(self) -> npt.NDArray[np.int64]:
        """First row of each row group, and the number of rows at the end."""
        metadata = self._file.metadata
        counts = [metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        return np.cumsum([0, *counts], dtype=np.int64)

    def group(self, number: int, column: str, width: int) -> npt.NDArray[np.float32]:
        """The rows of one row group, (rows of the group, width)."""
        found = self._read([number], column)
        if found.null_count:
            raise FormatError(f"{self.path} has empty cells in its column {column!r}")
        flat: npt.NDArray[np.float32] = found.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, width)

    def _read(self, groups: list[int], column: str) -> Any:
        arrow, _ = pyarrow()
        try:
            chunks = self._file.read_row_groups(groups, columns=[column]).column(column).chunks
        except (OSError, KeyError, arrow.ArrowException) as error:
            raise FormatError(f"{self.path} cannot be read: column {column!r}: {error}") from None
        return arrow.concat_arrays(chunks)


class ParquetRows:
    """One block, read like an array; the row group read last stays in memory."""

    dtype: np.dtype[Any] = np.dtype(np.float32)

    def __init__(self, file: ParquetFile, column: str, width: int) -> None:
        self._file = file
        self._column = column
        self._starts = file.starts()
        self._last: tuple[int, npt.NDArray[np.float32]] | None = None
        self.shape = (int(self._starts[-1]), width)

    def __getitem__(self, key: slice | Sequence[int]) -> npt.NDArray[Any]:
        chosen = np.arange(self.shape[0])[key]
        out = np.empty((len(chosen), self.shape[1]), dtype=np.float32)
        groups = np.searchsorted(self._starts, chosen, side="right") - 1
        for number in np.unique(groups).tolist():
            if self._last is None or self._last[0] != number:
                self._last = (number, self._file.group(number, self._column, self.shape[1]))
            at = np.flatnonzero(groups == number)
            out[at] = self._last[1][chosen[at] - self._starts[number]]
        return out
