"""What an export is made of: blocks of rows and columns of text, handed out in pieces."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

import numpy as np
import numpy.typing as npt
from cer_fusion.featstore.errors import FeatstoreError
from cer_fusion.featstore.rows.view import BlockRows, View

PIECE_BYTES = 32 * 1024 * 1024
"""Rows are handed out in pieces of about this size, so that memory does not grow with the store."""
SAMPLE_COLUMNS = ("sample_id", "label", "split", "group")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A view as it is written: blocks, and what is known about the samples as text."""

    blocks: Mapping[str, BlockRows | Joined] = field(repr=False)
    """Block name to rows of shape (n, d)."""
    ids: Sequence[str] = field(repr=False)
    labels: Sequence[str] = field(repr=False)
    """Class name of each sample; empty where it has none."""
    y: npt.NDArray[np.int64] = field(repr=False)
    splits: Sequence[str] = field(repr=False)
    groups: Sequence[str] = field(repr=False)
    classes: Sequence[str]
    """Class names in order."""
    progress: Callable[[str, int, int], None] = field(repr=False)

    def refuse_names(self, taken: Iterable[str]) -> None:
        """Refuse blocks that are called like something else in the same file."""
        if clash := sorted(set(taken) & set(self.blocks)):
            raise FeatstoreError(
                f"a block is called {clash[0]!r}, which this form uses for something else\n"
                f"  export it in another form, for instance --format npy"
            )


class Joined:
    """All blocks side by side, read in pieces like one (n, sum of widths) array."""

    def __init__(self, view: View) -> None:
        self._blocks = list(view.blocks.values())
        self.shape = (len(view), sum(view.widths.values()))

    def __getitem__(self, key: slice) -> npt.NDArray[np.float32]:
        return np.concatenate([rows[key] for rows in self._blocks], axis=1)  # n x (b, d_i) -> (b, sum of d_i)


def pieces(exported: Exported, *names: str) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Rows of one block, or of several side by side, as (number of the first row, rows); tells the progress."""
    blocks = [exported.blocks[name] for name in names]
    n = len(exported.ids)
    position = list(exported.blocks).index(names[0])
    step = max(1, PIECE_BYTES // (4 * sum(rows.shape[1] for rows in blocks)))
    for start in range(0, n, step):
        found = [rows[start : start + step] for rows in blocks]
        yield start, found[0] if len(found) == 1 else np.concatenate(found, axis=1)
        done = min(start + step, n) * len(names) + position * n
        exported.progress("export", done, n * len(exported.blocks))


def write_samples(
    exported: Exported, file: IO[str], *, header: Sequence[str] | None = None, paths: Sequence[str] | None = None
) -> None:
    """A CSV of the samples; with paths it is a manifest."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header or SAMPLE_COLUMNS)
    between = [] if paths is None else [paths]
    writer.writerows(zip(exported.ids, *between, exported.labels, exported.splits, exported.groups, strict=True))
