"""Examples: what a classifier is to learn from, as plain arrays and a function that reads a picture's bytes.

Soft labels come from a table of votes: ``sample_id,<class>,<class>,…``, one line a sample.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from cer_fusion.backbones.errors import ExamplesError, listed, nearest
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Labelled pictures in order.

    Raises
    ------
    ExamplesError
        If the arrays do not fit each other, an id is repeated, or a label is missing.
    """

    ids: Sequence[str]
    """Unique names, for messages and the data's digest."""
    y: NDArray[np.int64]
    """Class index of each, shape (n,), int64, none of them negative."""
    read: Callable[[int], bytes] = field(repr=False)
    """Position -> bytes of the picture file; raises OSError where it cannot be read. Called from several threads."""
    soft: NDArray[np.float32] | None = None
    """Label distribution of each, shape (n, k), float32, rows that sum to 1; takes the place of `y` in the loss."""
    groups: Sequence[str] | None = None
    """Video or subject of each: none may stand in both parts."""

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.y.shape != (n,) or self.y.dtype != np.int64:
            raise ExamplesError(f"y must be int64 of shape ({n},) for {n} ids, however: {self.y.dtype} {self.y.shape}")
        if self.groups is not None and len(self.groups) != n:
            raise ExamplesError(f"groups must be {n} for {n} ids, however: {len(self.groups)}")
        if len(set(self.ids)) != n:
            seen: set[str] = set()
            again = [name for name in self.ids if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
            raise ExamplesError(f"ids must be unique, however: {listed(again)} stand more than once")
        if (self.y < 0).any():
            without = [self.ids[i] for i in np.flatnonzero(self.y < 0).tolist()]
            raise ExamplesError(f"{len(without)} examples have no label: {listed(without)}\n  leave them out first")
        if self.soft is not None:
            _check_soft(self.soft, self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, positions: NDArray[np.intp]) -> Examples:
        """Return some of the examples, in the order given."""
        chosen = positions.tolist()
        return replace(
            self,
            ids=[self.ids[i] for i in chosen],
            y=self.y[positions],
            read=lambda i: self.read(chosen[i]),
            soft=None if self.soft is None else self.soft[positions],
            groups=None if self.groups is None else [self.groups[i] for i in chosen],
        )


def check_parts(train: Examples, valid: Examples, classes: Sequence[str]) -> None:
    """Refuse a task that nothing can be learnt from, or that would be judged on what was learnt.

    Raises
    ------
    ExamplesError
        For fewer than two classes, labels outside them, a class without training examples, an empty validation part,
        and examples or groups in both parts.
    """
    k = len(classes)
    if k < 2:
        raise ExamplesError(f"a classifier needs at least 2 classes, however: {list(classes)}")
    if len(set(classes)) != k:
        raise ExamplesError(f"classes must be distinct, however: {list(classes)}")
    for part, name in ((train, "training"), (valid, "validation")):
        if not len(part):
            raise ExamplesError(f"the {name} part has no examples")
        outside = [part.ids[i] for i in np.flatnonzero(part.y >= k).tolist()]
        if outside:
            raise ExamplesError(
                f"{len(outside)} labels of the {name} part are outside 0..{k - 1}: {listed(outside)}\n"
                f"  the classes are {', '.join(classes)}"
            )
        if part.soft is not None and part.soft.shape[1] != k:
            raise ExamplesError(f"soft labels must have {k} columns for {k} classes, however: {part.soft.shape}")
    missing = [classes[c] for c in np.flatnonzero(np.bincount(train.y, minlength=k) == 0).tolist()]
    if missing:
        raise ExamplesError(
            f"{len(missing)} of {k} classes have no training example: {', '.join(missing)}\n"
            f"  add data that has them, or choose a class set without them"
        )
    both = set(train.ids) & set(valid.ids)
    if both:
        raise ExamplesError(f"{len(both)} examples stand in training and validation: {listed(sorted(both))}")
    groups = set(train.groups or ()) & set(valid.groups or ())
    if groups:
        raise ExamplesError(
            f"{len(groups)} groups stand in training and validation: {listed(sorted(groups))}\n"
            f"  a video or subject in both leaks; give all its examples one part"
        )


def read_soft_labels(path: Path, classes: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Read votes and turn each line into shares.

    Parameters
    ----------
    path : Path
        CSV with a header. A class without a column has no votes; a column that is no class is refused.
    classes : sequence of str
        In the order of the result.

    Returns
    -------
    dict
        sample_id -> float32 (k,), summing to 1. A line without any vote is refused.

    Raises
    ------
    ExamplesError
        With file and line.
    """
    text = _text(path)
    told = re.match(r'"?sep=(.)"?[ \t]*(\r\n|\r|\n)', text, re.IGNORECASE)  # Excel's first line
    start, before = (told.end(), 1) if told else (0, 0)
    separator = told[1] if told else max(",;\t|", key=lambda one: _known(text, one, classes))
    rows = csv.reader(io.StringIO(text[start:], newline=""), delimiter=separator, strict=True)
    try:
        header = _filled(next(rows, []), 0)
        columns = _columns(header, classes, path)
        found: dict[str, NDArray[np.float32]] = {}
        for cells in rows:
            if not any(map(str.strip, cells)):
                continue
            row, where = _filled(cells, len(header)), f"{path}:{rows.line_num + before}"
            if len(row) != len(header):
                raise ExamplesError(f"{where}: expected {len(header)} fields, however: {len(row)}")
            if row[0] in found:
                raise ExamplesError(f"{where}: sample_id {row[0]!r} stands twice")
            found[row[0]] = _shares(row, columns, len(classes), where)
    except csv.Error as error:
        raise ExamplesError(f"{path}:{rows.line_num + before}: not valid CSV: {error}") from None
    return found


def _check_soft(soft: NDArray[np.float32], ids: Sequence[str]) -> None:
    if soft.ndim != 2 or len(soft) != len(ids) or soft.dtype != np.float32:
        raise ExamplesError(f"soft labels must be float32 of shape ({len(ids)}, k), however: {soft.dtype} {soft.shape}")
    good = np.isfinite(soft).all(1) & (soft >= 0).all(1) & (np.abs(soft.sum(1) - 1) < 1e-3)
    if not good.all():
        bad = [ids[i] for i in np.flatnonzero(~good).tolist()]
        raise ExamplesError(f"soft labels must be shares that sum to 1, however not for {listed(bad)}")


def _text(path: Path) -> str:
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ExamplesError(f"{path} is not UTF-8 text (byte {error.start}): save it as CSV UTF-8") from None


def _known(text: str, separator: str, classes: Sequence[str]) -> int:
    """How many of the columns that may be there a separator finds in the first line."""
    first = re.split("\r\n|\r|\n", text.lstrip(), maxsplit=1)[0]
    cells = next(csv.reader([first], delimiter=separator), [])
    return len({_plain(cell) for cell in cells} & {_plain(name) for name in ("sample_id", *classes)})


def _filled(row: Sequence[str], width: int) -> list[str]:
    """Cells without blanks around them, and without those of empty columns beyond the last title."""
    cells = [cell.strip() for cell in row]
    while len(cells) > width and not cells[-1]:
        cells.pop()
    return cells


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name).casefold()


def _columns(header: Sequence[str], classes: Sequence[str], path: Path) -> dict[int, int]:
    """Column of the file -> position of its class."""
    meant = {_plain(name): name for name in classes}
    if len(meant) == len(classes):  # else classes differ in spelling alone
        header = [header[0] if header else "", *(meant.get(_plain(name), name) for name in header[1:])]
    if _plain(header[0] if header else "") != "sampleid":
        raise ExamplesError(f"{path}: the first column must be sample_id, however: {header[:1]}")
    for name in header[1:]:
        if name not in classes:
            raise ExamplesError(
                f"{path}: column {name!r} is none of the classes {listed(classes, count=len(classes))}"
                f"{nearest(name, classes)}"
            )
    if len(set(header)) != len(header):
        raise ExamplesError(f"{path}: a column stands twice: {', '.join(header)}")
    return {column: list(classes).index(name) for column, name in enumerate(header[1:], 1)}


def _shares(row: Sequence[str], columns: dict[int, int], k: int, where: str) -> NDArray[np.float32]:
    votes = np.zeros(k, dtype=np.float64)
    for column, position in columns.items():
        try:
            votes[position] = float(row[column].replace(",", ".") or 0)
        except ValueError:
            raise ExamplesError(f"{where}: votes must be numbers, however: {row[column]!r}") from None
    total = float(votes.sum())
    if not math.isfinite(total) or total <= 0 or (votes < 0).any():
        raise ExamplesError(f"{where}: votes must not be negative, and at least one positive, however: {row[1:]}")
    return (votes / total).astype(np.float32)
