"""How many samples of a large manifest have a row: by sums of hashes, without an index and without the samples.

Two sets of ids are one where they have as many members, and both hashes of these (`keys.py`) add up to the same: the
odds that other ids do so are 2^-128. A sealed manifest says what the ids up to every `SUMMED` samples add up to. The
ids of a shard, which are read and verified for this, are those of a range of samples if the sums agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .index import RowIndex, keys_of_shards, make_index
from .keys import SUMMED, IntArray, Keys, WantedKeys, keys_of, sums_from_text
from .shard import ShardHeader

_AT_A_TIME = 1 << 19
"""Samples of the manifest that are read together."""
_MOST_APART = 1 << 21
"""Samples that are looked up shard by shard; where there are more, an index is as quick."""
_Sums = npt.NDArray[np.uint64]


class Counts(NamedTuple):
    """What a feature has of the samples of a manifest."""

    rows: int
    """Samples that have a row."""
    quarantined: int
    """Samples that could not be embedded."""


class SummedManifest(Protocol):
    """A sealed manifest, whose samples can be read range by range."""

    @property
    def ids_sums(self) -> str:
        """As `sums_to_text` has it; empty where it is not known."""

    def __len__(self) -> int: ...

    def keys(self, samples: range) -> Keys:
        """Hashes of the ids of some samples, verified."""


def counts_by_sums(headers: Sequence[ShardHeader], manifest: SummedManifest) -> Counts | None:
    """Count what the shards of a feature have of the samples of a manifest.

    Shard i of a run holds samples i·r to (i+1)·r. Where shards are missing, what there is is compared with the sum of
    its samples, for which the manifest's ids are read if r is no multiple of `SUMMED`; the ids of shards that are not
    whole, or hold other samples than the manifest has there, are looked up one by one.

    Returns
    -------
    Counts or None
        None where the manifest has no sums, or its samples stand in another order than when the shards were made.
        `counts_by_index` counts then.

    Raises
    ------
    DamagedShardError, FileNotFoundError
        As `make_index`.
    FormatError
        If samples of the manifest are not those that were sealed.
    """
    if not headers:
        return Counts(0, 0)
    sums = sums_from_text(manifest.ids_sums, len(manifest))
    if sums is None:
        return None
    groups = _groups_of(headers)
    if int(groups.size.sum()) == len(manifest) and np.array_equal(groups.sums.sum(axis=0), sums[:, -1]):
        return Counts(int(groups.rows.sum()), int(groups.refused.sum()))
    try:
        return _Partial(groups, manifest, sums).counts()
    except _DoesNotTellError:
        return None


def counts_by_index(index: RowIndex, manifest: SummedManifest) -> Counts:
    """Count what an index of all rows has of the samples of a manifest, whose ids are all read."""
    found = np.zeros(2, dtype=np.int64)
    for samples in _pieces(len(manifest)):
        found += index.counts_of_keys(manifest.keys(samples))
    return Counts(*found.tolist())


def _pieces(samples: int) -> Iterator[range]:
    for start in range(0, samples, _AT_A_TIME):
        yield range(start, min(start + _AT_A_TIME, samples))


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """What the shards of each index have together, (g,) each, by index: those that a run committed for some samples."""

    index: IntArray
    shards: list[list[ShardHeader]]
    rows: IntArray
    refused: IntArray
    size: IntArray
    """How many samples have a row, stand in quarantine or are in dispute."""
    sums: _Sums
    """(g, 2) what the hashes of the ids of these add up to."""


def _groups_of(headers: Sequence[ShardHeader]) -> _Groups:
    shards: dict[int, list[ShardHeader]] = {}
    for header in sorted(headers, key=lambda header: header.index):
        shards.setdefault(header.index, []).append(header)
    place = {index: g for g, index in enumerate(shards)}
    rows, refused, size = np.zeros((3, len(shards)), dtype=np.int64)
    sums = np.zeros((len(shards), 2), dtype=np.uint64)

    def add(ids: Sequence[str], at: Sequence[int], counted: IntArray | None) -> None:
        np.add.at(sums, np.asarray(at, dtype=np.int64), keys_of(ids).T)
        for counts in (size, *(() if counted is None else (counted,))):
            np.add.at(counts, np.asarray(at, dtype=np.int64), 1)

    alone = [one for one, *others in shards.values() if not others]
    for header, found in zip(alone, _sums_of(alone), strict=True):
        g = place[header.index]
        sums[g] = found
        rows[g] = size[g] = header.rows
    refused_ids = [(entry[0], place[header.index]) for header in alone for entry in header.quarantined]
    add([one for one, _ in refused_ids], [g for _, g in refused_ids], refused)
    several = [header for group in shards.values() if len(group) > 1 for header in group]
    if several:
        index = make_index(several)
        group_of = np.array([place[header.index] for header in index.headers], dtype=np.int64)
        of_row = group_of[index.locate(index.counting_rows())[0]]
        np.add.at(sums, of_row, index.keys.T)
        rows += np.bincount(of_row, minlength=len(shards))
        size += np.bincount(of_row, minlength=len(shards))
        add(list(index.quarantined), [group_of[index.quarantined_by[one]] for one in index.quarantined], refused)
        add(list(index.disputed), [group_of[pair[0]] for pair in index.disputed.values()], None)
    return _Groups(
        index=np.array(list(shards), dtype=np.int64),
        shards=list(shards.values()),
        rows=rows,
        refused=refused,
        size=size,
        sums=sums,
    )


def _sums_of(headers: Sequence[ShardHeader]) -> _Sums:
    """(s, 2) what the hashes of the ids of the rows of each shard add up to."""
    found = np.zeros((len(headers), 2), dtype=np.uint64)
    ends = np.cumsum([0, *(header.rows for header in headers)])

    def add(shards: range, keys: npt.NDArray[np.uint64]) -> None:
        upto = np.zeros((2, keys.shape[1] + 1), dtype=np.uint64)
        np.cumsum(keys, axis=1, out=upto[:, 1:])
        places = ends[shards.start : shards.stop + 1] - ends[shards.start]
        found[shards.start : shards.stop] = np.diff(upto[:, places], axis=1).T

    keys_of_shards(headers, add)
    return found


class _DoesNotTellError(Exception):
    """Some shard has samples that its place in the manifest does not, or too many shards would have to be looked at."""


class _Partial:
    """Counts what some shards have, each with the range of samples that its index stands for.

    Parameters
    ----------
    groups : _Groups
    manifest : SummedManifest
    sums : uint64 array of shape (2, m)
        What the hashes of the first 0, `SUMMED`, 2 · `SUMMED` … and of all samples add up to.
    """

    def __init__(self, groups: _Groups, manifest: SummedManifest, sums: _Sums) -> None:
        self._groups, self._manifest = groups, manifest
        self._left = _MOST_APART
        self._shard_rows = int(groups.size.max())
        self._starts = groups.index * self._shard_rows
        self._ends = np.minimum(self._starts + self._shard_rows, len(manifest))
        if (self._starts >= len(manifest)).any():
            raise _DoesNotTellError
        step, over = divmod(self._shard_rows, SUMMED)
        shards = -(-len(manifest) // self._shard_rows)
        known = np.minimum(np.arange(shards + 1) * step, sums.shape[1] - 1)
        self._upto = self._read_sums(shards) if over else sums[:, known]
        """(2, shards + 1) what the hashes of the samples before each shard add up to, and those of all."""

    def counts(self) -> Counts:
        """Of all shards."""
        whole = self._groups.size == self._ends - self._starts
        follows = np.diff(self._groups.index, prepend=-2) == 1
        begins = np.flatnonzero(~(whole & follows & np.roll(whole, 1)))
        found = np.zeros(2, dtype=np.int64)
        for first, last in zip(begins, [*begins[1:], len(whole)], strict=True):
            found += self._counts(int(first), int(last))
        return Counts(*found.tolist())

    def _counts(self, first: int, last: int) -> IntArray:
        """Of shards that lie side by side: those whose sum is that of their samples, halves of others."""
        groups, start, end = self._groups, int(self._starts[first]), int(self._ends[last - 1])
        is_whole = int(groups.size[first:last].sum()) == end - start
        of_samples = self._upto[:, groups.index[last - 1] + 1] - self._upto[:, groups.index[first]]
        if is_whole and np.array_equal(groups.sums[first:last].sum(axis=0), of_samples):
            return np.array([groups.rows[first:last].sum(), groups.refused[first:last].sum()])
        if last - first > 1:
            middle = (first + last) // 2
            return self._counts(first, middle) + self._counts(middle, last)
        return self._one_by_one(first)

    def _one_by_one(self, g: int) -> IntArray:
        samples = range(int(self._starts[g]), int(self._ends[g]))
        self._left -= len(samples)
        if self._left < 0:
            raise _DoesNotTellError
        keys = self._manifest.keys(samples)
        index = make_index(self._groups.shards[g])
        found = np.array(index.counts_of_keys(keys), dtype=np.int64)
        disputed = WantedKeys(keys_of(list(index.disputed))).positions(keys) if index.disputed else ()
        if found.sum() + len(disputed) != self._groups.size[g]:
            raise _DoesNotTellError
        return found

    def _read_sums(self, shards: int) -> _Sums:
        """What the hashes of the samples of shards of any size add up to: their ids are read."""
        sums = np.zeros((2, shards + 1), dtype=np.uint64)
        for samples in _pieces(len(self._manifest)):
            shard = np.arange(samples.start, samples.stop) // self._shard_rows
            begins = np.flatnonzero(np.diff(shard, prepend=-1))
            sums[:, shard[begins] + 1] += np.add.reduceat(self._manifest.keys(samples), begins, axis=1)
        return np.cumsum(sums, axis=1, dtype=np.uint64)
