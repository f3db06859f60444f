"""A feature's rows while a run adds to them: those of before, its own, and what other runs commit meanwhile."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..rows.feature import Feature, shard_names
from ..rows.files import going_away
from ..rows.index import RowIndex, knows_pictures
from ..rows.keys import KeyedNumbers, Keys, WantedKeys, keys_of, keys_of_texts
from ..rows.shard import RowReader, Rows, ShardHeader, read_texts
from .model import Row

_MOST_ROWS = 1 << 32
"""More than a shard can hold."""


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What another run's shard says about a sample."""

    digest: str
    """sha256 of the picture that it used; empty where it could not read it."""
    header: ShardHeader
    row: int | None
    """Row in that shard; None if the sample is in quarantine."""
    reason: str = ""
    """Why it is in quarantine."""


class StoredRows:
    """A feature's rows while they are added to: those of before, ours, and what other runs commit meanwhile.

    Looking for others' shards is cheap, so that it can be done before and after every shard.

    Parameters
    ----------
    feature : Feature
        What is there now counts as there before.
    only : sequence of str, optional
        The samples that this run is about, if those are not all; no others are remembered.
    """

    def __init__(self, feature: Feature, *, only: Sequence[str] | None = None) -> None:
        self.feature = feature
        self._only = None if only is None else WantedKeys(keys_of(only))
        self._listing = _Listing(feature)
        self._seen = set(self._listing.names())
        self.before: RowIndex = feature.index(only=only)  # in this order: no shard may escape both
        self._settled: dict[str, Settled] = {}
        self._places: dict[str, tuple[ShardHeader, int]] = {}
        """Digest of a picture that several samples have, or had, to its row."""
        self._places_of_new = KeyedNumbers()
        """Of pictures that were new: the place in `_headers` times `_MOST_ROWS`, plus the row."""
        self._headers: list[ShardHeader] = []
        self._reader = RowReader()

    def look(self) -> None:
        """Take note of the shards that others committed since the last time."""
        new = self._listing.names_if_changed() - self._seen
        for header in self.feature.headers_of(new):
            try:
                with going_away(header.path):
                    own = self._own(header)
            except FileNotFoundError:  # compacted away already, and what took its place is new as well
                continue
            self._seen.add(header.path.name)
            for row, sample_id, digest in own:
                self._settled[sample_id] = Settled(digest=digest, header=header, row=row)
            for sample_id, digest, reason in header.quarantined:
                if self._only is None or len(self._only.positions(keys_of([sample_id]))):
                    self._settled[sample_id] = Settled(digest=digest, header=header, row=None, reason=reason)

    def _own(self, header: ShardHeader) -> list[tuple[int, str, str]]:
        """Row, id and digest of the picture of those samples of a shard that this run is about."""
        ids = read_texts(header, "ids")
        rows = np.arange(len(ids)) if self._only is None else self._only.positions(keys_of_texts(ids))
        if not len(rows):
            return []
        digests = read_texts(header, "image_digest")[rows].tolist()
        return [
            (row, sample_id.decode(), digest.decode())
            for row, sample_id, digest in zip(rows.tolist(), ids[rows].tolist(), digests, strict=True)
        ]

    def settled(self, sample_id: str, digest: str) -> Settled | None:
        """What another run made of this sample from the same picture, if it did.

        Without a digest the picture could not be read here: then a row counts that another run made, from whatever.
        """
        found = self._settled.get(sample_id)
        if found is None:
            return None
        return found if found.digest == digest or (not digest and found.row is not None) else None

    def settled_meanwhile(self, sample_id: str) -> Settled | None:
        """What another run made of this sample, from whatever picture."""
        return self._settled.get(sample_id)

    def are_newer(self, sample_ids: Iterable[str]) -> set[str]:
        """Those of the samples of which another run has committed something meanwhile."""
        return self._settled.keys() & set(sample_ids)

    def generation_after(self, ids: Sequence[str]) -> int:
        """Generation of a new shard that holds `ids`: above every shard whose entries it replaces."""
        theirs = [entry.header.generation + 1 for i in ids if (entry := self._settled.get(i)) is not None]
        return max(self.before.generation_after(ids), *theirs, 0)

    def of_pictures(self, digests: Iterable[str], stored: Mapping[str, int]) -> dict[str, Row]:
        """The rows of the pictures that were noted, or that a row of before (by its number in `stored`) was made from.

        What went away meanwhile, since its shard was compacted, is left out.
        """
        wanted: dict[Path, list[tuple[str, ShardHeader, int]]] = {}
        for digest in digests:
            if digest not in self._places and digest in stored:
                shard, row = self.before.locate(np.array([stored[digest]]))
                self.note(digest, self.before.headers[int(shard[0])], int(row[0]))
            if digest in self._places:
                header, at = self._places[digest]
                wanted.setdefault(header.path, []).append((digest, header, at))
        found: dict[str, Row] = {}
        for asked in wanted.values():
            header, rows = asked[0][1], [at for _, _, at in asked]
            with contextlib.suppress(FileNotFoundError):
                blocks = {name: self._reader.read(header, f"blocks/{name}", rows) for name in self.feature.spec.blocks}
                for i, (digest, _, _) in enumerate(asked):
                    found[digest] = {name: block[i] for name, block in blocks.items()}
        return found

    def note_new(self, digests: Sequence[str], header: ShardHeader) -> None:
        """Remember in a few bytes where the rows of all of a shard's pictures are."""
        self._places_of_new.add(keys_of(digests), len(self._headers) * _MOST_ROWS + np.arange(len(digests)))
        self._headers.append(header)

    def look_for(self, digests: Collection[str]) -> None:
        """Note where the rows of these pictures are, if there are any: of before, or of a shard of `note_new`.

        The first look is at the rows of all samples, of each of which 8 bytes stay in memory.
        """
        asked = [digest for digest in digests if digest not in self._places]
        self._places |= self._rows_of_before.find(asked)
        asked = [digest for digest in asked if digest not in self._places]
        for digest, number in zip(asked, self._places_of_new.find(keys_of(asked)).tolist(), strict=True):
            if number >= 0:
                self.note(digest, self._headers[number // _MOST_ROWS], number % _MOST_ROWS)

    @functools.cached_property
    def _rows_of_before(self) -> RowsByPicture:
        return RowsByPicture(self.before, self._reader)

    def note(self, digest: str, header: ShardHeader, row: int) -> None:
        """Remember where a picture's row is."""
        self._places[digest] = (header, row)

    def commit(self, rows: Rows, *, number: int, generation: int) -> Path:
        """Commit a shard as ours."""
        with self._listing.changing():
            path = self.feature.commit(rows, index=number, generation=generation)
        self._seen.add(path.name)
        return path


class RowsByPicture:
    """Rows by the pictures that they were made from, as `RowIndex.rows_made_from` looks at them; 8 bytes a row.

    Of each row 32 bits of its picture's hash stay in memory; whether it is that picture's, its shard tells.

    Parameters
    ----------
    index : RowIndex
        Shards of it that were compacted away meanwhile are passed over.
    reader : RowReader
    """

    def __init__(self, index: RowIndex, reader: RowReader) -> None:
        self._index, self._reader = index, reader
        known = [at for at, header in enumerate(index.headers) if knows_pictures(header)]
        n = sum(index.headers[at].rows for at in known)
        total = int(index.starts[-1]) + index.headers[-1].rows if index.headers else 0
        marks, rows, done = np.empty(n, np.uint32), np.empty(n, np.uint32 if total < 2**32 else np.int64), 0
        for at in known:
            try:
                found = _marks(keys_of_texts(read_texts(index.headers[at], "image_digest")))
            except FileNotFoundError:
                continue
            counts = np.flatnonzero(index.may_count(index.starts[at] + np.arange(len(found))))
            marks[done : done + len(counts)], rows[done : done + len(counts)] = found[counts], index.starts[at] + counts
            done += len(counts)
        order = np.argsort(marks[:done])
        self._marks, self._rows = marks[order], rows[order]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return self._marks.nbytes + self._rows.nbytes

    def find(self, digests: Sequence[str]) -> dict[str, tuple[ShardHeader, int]]:
        """The shard and the row in it of each picture that a row was made from, by its digest."""
        marks = _marks(keys_of(digests))
        first, last = (np.searchsorted(self._marks, marks, side=side) for side in ("left", "right"))
        which = np.repeat(np.arange(len(digests)), last - first)
        rows = np.concatenate([np.empty(0, np.int64), *map(np.arange, first, last)]).astype(np.int64)
        shard, row = self._index.locate(self._rows[rows].astype(np.int64))
        found: dict[str, tuple[ShardHeader, int]] = {}
        for number in np.unique(shard).tolist():
            header, at = self._index.headers[number], np.flatnonzero(shard == number)
            with contextlib.suppress(FileNotFoundError):
                texts = self._reader.read(header, "image_digest", row[at].tolist()).tolist()
                for digest, text, place in zip(which[at].tolist(), texts, row[at].tolist(), strict=True):
                    if text == digests[digest].encode():
                        found[digests[digest]] = header, place
        return found


def _marks(keys: Keys) -> npt.NDArray[np.uint32]:
    marks: npt.NDArray[np.uint32] = (keys[0] >> np.uint64(32)).astype(np.uint32)
    return marks


_LISTING_S, _LISTING_SHARE = 3e-4, 1e-3
"""A listing that takes no longer is made whenever it is asked for; of a longer one, the rest may take this share of the
time of a run in which the folder seems to be as it was."""


class _Listing:
    """The names of a feature's shards, listed again when the folder may have changed.

    A folder's time tells of others' commits, but not of one within the same tick of the file system's clock, nor of one
    beside our own, which change it too. So it is listed in any case where that costs next to nothing (up to a thousand
    shards), else as often as the time since the last listing makes the cost small.
    """

    def __init__(self, feature: Feature) -> None:
        self._feature = feature
        self._names: frozenset[str] = frozenset()
        self._changed_ns: int | None = None
        """The folder's time when it was as we know it; None while we change it."""
        self._again_at = 0.0

    def names(self) -> frozenset[str]:
        """The names of all shards, listed now."""
        began = time.monotonic()
        self._changed_ns = self._time_ns()
        self._names = frozenset(shard_names(self._feature.folder))
        ended = time.monotonic()
        self._again_at = ended + max(0.0, ended - began - _LISTING_S) / _LISTING_SHARE
        return self._names

    def names_if_changed(self) -> frozenset[str]:
        """The names of all shards, as far as they are known without listing a folder that seems to be as it was."""
        known = self._changed_ns
        if time.monotonic() >= self._again_at or (known is not None and known != self._time_ns()):
            return self.names()
        return self._names

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """While we commit; the folder's time afterwards is known to be ours."""
        self._changed_ns = None
        try:
            yield
        finally:
            self._changed_ns = self._time_ns()

    def _time_ns(self) -> int:
        return os.stat(self._feature.folder).st_mtime_ns
