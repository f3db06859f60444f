"""CSV files as people write them: BOM, CRLF and blank lines are handled, ragged rows and unknown columns refused."""

from __future__ import annotations

import contextlib
import csv
import gc
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from featstore.errors import ManifestError, nearest


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


def read_table(path: Path, *, required: Sequence[str], optional: Sequence[str] = (), others: bool = False) -> Table:
    """Read a CSV file with a header; see `parse_table`."""
    return parse_table(read_csv(path), path, required=required, optional=optional, others=others)


def parse_table(
    data: bytes, path: Path, *, required: Sequence[str], optional: Sequence[str] = (), others: bool = False
) -> Table:
    """Take the rows of a CSV file with a header from its bytes; `path` is for messages.

    Raises
    ------
    ManifestError
        With file and line; also for columns that are not known, unless `others` allows them.
    """
    reader = csv.reader(io.StringIO(_decoded(data, path), newline=""))
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with many_objects():
            for row in reader:
                if row and any(map(str.strip, row)):
                    rows.append(row)
                    lines.append(reader.line_num)
    except csv.Error as error:
        raise ManifestError(f"{path}:{reader.line_num}: not valid CSV: {error}") from None
    if not rows:
        raise ManifestError(f"{path} is empty: expected a header with {', '.join(required)}")
    header = [cell.strip() for cell in rows[0]]
    _check_header(header, path, required, (*required, *optional), others)
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise ManifestError(f"{path}:{line}: expected {len(header)} fields, however: {len(row)}")
    return Table(header=header, rows=rows[1:], lines=lines[1:])


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


def read_csv(path: Path) -> bytes:
    """Bytes of a CSV file, with an error for people where it is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ManifestError(f"no manifest {path}\n  make one with: cer-feat manifest KIND ROOT -o {path}") from None
    except IsADirectoryError:
        raise ManifestError(f"{path} is a folder, a manifest is a CSV file: cer-feat manifest folder {path}") from None


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8") from None


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
