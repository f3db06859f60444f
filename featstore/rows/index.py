"""Which shard and row holds each sample: hashes of ids in arrays, so that ten million rows take what a few pictures do.

A row costs 16 bytes (`keys.py`), and 16 more once samples are looked up in another order than the rows lie in. Python
objects are made only of what is rare: quarantine entries and disputes.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from .keys import IntArray, Keys, WantedKeys, WantedTexts, keys_of, keys_of_texts, positions_in, with_first_hash
from .shard import ShardHeader, read_strings, read_texts, read_texts_of

_DIGEST_BYTES = 32
_AT_A_TIME = 1 << 16
"""Rows whose ids are read and hashed together."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RowIndex:
    """Which shard and row holds each sample, and which samples could not be embedded.

    An index that was made for some samples (`Feature.index(only=…)`) knows of those alone.
    """

    headers: tuple[ShardHeader, ...]
    """Of all shards: what counts comes first, the highest generation, of one generation the lexically first name."""
    starts: IntArray = field(repr=False)
    """First row of each header's shard, counting through all shards."""
    keys: Keys = field(repr=False)
    """(2, m) hashes of the ids of the rows that count, by row."""
    rows: npt.NDArray[np.integer] | None = field(repr=False)
    """The row of each key, counting through all shards; None where key number i is that of row i."""
    quarantined: dict[str, tuple[str, str]] = field(repr=False)
    """sample_id to (sha256 of the picture or empty, reason)."""
    quarantined_by: dict[str, int] = field(repr=False)
    """sample_id to the position in `headers` of the shard whose quarantine entry counts."""
    disputed: dict[str, tuple[int, int]] = field(repr=False)
    """sample_id to two positions in `headers`, of shards of one generation that hold rows made from different pictures.
    No run writes such shards; one was copied here. The sample has no row until an `extract` settles it."""
    whole: bool = True
    """Whether it knows of all samples."""

    def __len__(self) -> int:
        """Number of samples that have a row."""
        return len(self.keys[0])

    def __contains__(self, sample_id: object) -> bool:
        """Whether a sample has a row. Of many samples ask `rows_of`."""
        return isinstance(sample_id, str) and bool(self.rows_of([sample_id])[0] >= 0)

    @functools.cached_property
    def _sorted(self) -> tuple[Keys, IntArray]:
        """The keys in the order of their first hash, and the position in `keys` of each."""
        order = np.argsort(self.keys[0])
        return self.keys[:, order], order.astype(np.int64 if len(order) > 2**31 else np.int32)

    def rows_of(self, ids: Sequence[str]) -> IntArray:
        """Row of each sample, counting through all shards; -1 where it has none."""
        return self.rows_of_keys(keys_of(ids))

    def rows_of_keys(self, keys: Keys) -> IntArray:
        """Row of each sample whose id has these hashes (`keys_of`); -1 where it has none."""
        n = keys.shape[1]
        if n <= len(self) and np.array_equal(keys, self.keys[:, :n]):  # as one run wrote them
            return self._row_at(np.arange(n, dtype=np.int64))
        ordered, order = self._sorted
        at = positions_in(ordered, keys)
        found = np.full(n, -1, dtype=np.int64)
        there = at >= 0
        found[there] = self._row_at(order[at[there]])
        return found

    def _row_at(self, positions: npt.NDArray[np.integer]) -> IntArray:
        rows = positions if self.rows is None else self.rows[positions]
        return rows.astype(np.int64, copy=False)

    def positions_of(self, ids: Sequence[str]) -> IntArray:
        """Position of each sample in `keys`; -1 where it has no row."""
        rows = self.rows_of(ids)
        if self.rows is None:
            return rows
        return np.where(rows >= 0, np.searchsorted(self.rows, rows), -1)

    def locate(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Position in `headers`, and row in that shard, of rows counted through all shards."""
        shard = np.searchsorted(self.starts, rows, side="right").astype(np.int64) - 1
        return shard, rows - self.starts[shard]

    def counting_rows(self) -> IntArray:
        """The rows that count, ascending, counting through all shards."""
        return self._row_at(np.arange(len(self), dtype=np.int64))

    def owners_of(self, ids: Sequence[str]) -> IntArray:
        """Position in `headers` of the shard whose entry, row or quarantine, counts for each sample; -1 for none."""
        keys = keys_of(ids)
        rows = self.rows_of_keys(keys)
        found = np.where(rows >= 0, self.locate(np.maximum(rows, 0))[0], -1) if len(self.starts) else rows
        for at in self._refused(keys):
            found[at] = self.quarantined_by[ids[at]]
        return found

    def counts_of(self, ids: Sequence[str]) -> tuple[int, int]:
        """How many of the samples have a row, and how many stand in quarantine."""
        return self.counts_of_keys(keys_of(ids))

    def counts_of_keys(self, keys: Keys) -> tuple[int, int]:
        """As `counts_of`, of the samples whose ids have these hashes."""
        return int((self.rows_of_keys(keys) >= 0).sum()), len(self._refused(keys))

    def _refused(self, keys: Keys) -> list[int]:
        """Positions of the samples that stand in quarantine."""
        return WantedKeys(keys_of(list(self.quarantined))).positions(keys).tolist() if self.quarantined else []

    def ids(self) -> Iterator[str]:
        """The samples that have a row, by row; read from the shards."""
        return self._ids(self.counting_rows())

    def ids_at(self, positions: Sequence[int]) -> dict[int, str]:
        """The samples at some positions in `keys`; only the shards that they are in are read."""
        ordered = np.unique(np.asarray(positions, dtype=np.int64))
        return dict(zip(ordered.tolist(), self._ids(self._row_at(ordered)), strict=True))

    def _ids(self, rows: IntArray) -> Iterator[str]:
        for number, of_shard in self._by_shard(rows):
            texts = read_strings(self.headers[number], "ids")
            yield from (texts[row] for row in of_shard.tolist())

    def image_digests(self) -> PictureDigests:
        """What picture each row was made from, 32 bytes a row; empty for imported rows."""
        digests = np.zeros((len(self), _DIGEST_BYTES), dtype=np.uint8)
        strange: dict[int, str] = {}
        done = 0
        for number, rows in self._by_shard(self.counting_rows()):
            texts = read_texts(self.headers[number], "image_digest")
            _parse_digests(texts if len(texts) == len(rows) else texts[rows], digests, done, strange)
            done += len(rows)
        return PictureDigests(self, digests, strange)

    def pictures_of(self, ids: Sequence[str]) -> Keys:
        """Hashes of the digest of the picture that each sample's row was made from; 0 where none is known.

        (2, n), equal where the pictures are: for comparing millions (`same_pictures`), where `image_digests` is for
        knowing each.
        """
        rows = self.rows_of(ids)
        there = np.flatnonzero(rows >= 0)
        there = there[np.argsort(rows[there], kind="stable")]
        pictures = np.zeros((2, len(ids)), dtype=np.uint64)
        pictures[:, there] = self._pictures(rows[there])
        return pictures

    def pictures(self) -> Keys:
        """As `pictures_of` gives them, (2, m), of each row that counts."""
        return self._pictures(self.counting_rows())

    def _pictures(self, rows: IntArray) -> Keys:
        pictures = np.zeros((2, len(rows)), dtype=np.uint64)
        done = 0
        for number, wanted in self._by_shard(rows):
            header = self.headers[number]
            if knows_pictures(header):
                texts = read_texts(header, "image_digest")
                part = texts if np.array_equal(wanted, np.arange(len(texts))) else texts[wanted]
                pictures[:, done : done + len(wanted)] = keys_of_texts(part)
            done += len(wanted)
        return pictures

    def rows_made_from(self, digests: Collection[str]) -> dict[str, int]:
        """Digest of a picture to a row that was made from it, counting through all shards, if there is one.

        The rows of all samples are looked at, also by an index for some. Such an index does not know whether a row of
        another sample counts: it takes any, for equal pictures have equal rows.
        """
        found: dict[str, int] = {}
        if not digests:
            return found
        asked = WantedTexts(digests)
        for header, start in zip(self.headers, self.starts.tolist(), strict=True):
            if not knows_pictures(header):
                continue
            texts = read_texts(header, "image_digest")
            at = np.array(asked.positions(texts), dtype=np.int64)
            for row in at[self.may_count(start + at)].tolist():
                found.setdefault(texts[row].decode(), start + row)
        return found

    def may_count(self, rows: IntArray) -> npt.NDArray[np.bool_]:
        """Whether rows count, as far as the index knows."""
        if not self.whole or self.rows is None:
            return np.ones(len(rows), dtype=bool)
        first, last = (np.searchsorted(self.rows, rows, side=side) for side in ("left", "right"))
        counts: npt.NDArray[np.bool_] = last > first
        return counts

    def generation_after(self, ids: Sequence[str]) -> int:
        """Generation of a new shard that holds `ids`: above every shard whose entries it replaces."""
        rows = self.rows_of(ids)
        placed = np.unique(self.locate(rows[rows >= 0])[0]).tolist()
        newest = max((self.headers[shard].generation for shard in placed), default=-1)
        disputed = [self.headers[shard].generation for i in ids for shard in self.disputed.get(i, ())]
        refused = (self._quarantine_generations.get(sample_id, -1) for sample_id in ids)
        return max(newest, *disputed, *(refused if self._quarantine_generations else ()), -1) + 1

    @functools.cached_property
    def _quarantine_generations(self) -> dict[str, int]:
        """The highest generation of any quarantine entry of a sample, also of one that counts no more."""
        found: dict[str, int] = {}
        for header in self.headers:
            for sample_id, _, _ in header.quarantined:
                found[sample_id] = max(found.get(sample_id, -1), header.generation)
        return found

    def _by_shard(self, rows: IntArray) -> Iterator[tuple[int, IntArray]]:
        """Position in `headers` and rows in that shard, of ascending rows counted through all shards."""
        ends = np.searchsorted(rows, [*self.starts[1:].tolist(), np.iinfo(np.int64).max])
        for number, (first, last) in enumerate(itertools.pairwise([0, *ends.tolist()])):
            if last > first:
                yield number, rows[first:last] - self.starts[number]


class PictureDigests(Mapping[str, str]):
    """sample_id to the sha256, in hex, of the picture its row was made from; empty for imported rows.

    Parameters
    ----------
    index : RowIndex
    digests : uint8 array of shape (m, 32)
        Of each row that counts; zeros where no picture is known.
    strange : dict of int to str
        Position to what a shard says that is no sha256 in hex.
    """

    def __init__(self, index: RowIndex, digests: npt.NDArray[np.uint8], strange: Mapping[int, str]) -> None:
        self._index, self._digests, self._strange = index, digests, strange

    def __len__(self) -> int:
        return len(self._digests)

    def __iter__(self) -> Iterator[str]:
        return self._index.ids()

    def __getitem__(self, sample_id: str) -> str:
        at = int(self._index.positions_of([sample_id])[0])
        if at < 0:
            raise KeyError(sample_id)
        return self._text(at)

    def of(self, ids: Sequence[str]) -> list[str | None]:
        """What `get` gives of each sample, in one go."""
        return [None if at < 0 else self._text(at) for at in self._index.positions_of(ids).tolist()]

    def items(self) -> Iterator[tuple[str, str]]:  # type: ignore[override]
        """Each sample with its digest, by row."""
        return zip(self, map(self._text, range(len(self))), strict=True)

    def values(self) -> Iterator[str]:  # type: ignore[override]
        """The digests, by row."""
        return map(self._text, range(len(self)))

    def _text(self, at: int) -> str:
        if self._strange and at in self._strange:
            return self._strange[at]
        digest = self._digests[at].tobytes()
        return digest.hex() if any(digest) else ""


def knows_pictures(header: ShardHeader) -> bool:
    """Whether some row of a shard says what picture it was made from; those of an import may say none."""
    return bool(header.rows) and np.dtype(header.segments["image_digest"].dtype).itemsize > 1


def _parse_digests(
    texts: npt.NDArray[np.bytes_], out: npt.NDArray[np.uint8], first: int, strange: dict[int, str]
) -> None:
    """Put digests in hex into rows of `out` as bytes, from row `first` on, and what is none into `strange`."""
    n, width = len(texts), 2 * _DIGEST_BYTES
    if texts.dtype.itemsize == width:
        letters = texts.view(np.uint8).reshape(n, width)
        empty = np.flatnonzero(letters[:, 0] == 0)
        if len(empty):
            letters = letters.copy()
            letters[empty] = ord("0")
        data = letters.tobytes()
        try:
            parsed = bytes.fromhex(data.decode("ascii"))
        except ValueError:
            parsed = b""
        if parsed.hex().encode() == data:
            out[first : first + n] = np.frombuffer(parsed, dtype=np.uint8).reshape(n, _DIGEST_BYTES)
            return
    for at, text in enumerate(texts.tolist(), first):
        if text:
            strange[at] = text.decode(errors="replace")


class _Claim(NamedTuple):
    """What one shard says of one sample."""

    shard: int
    row: int | None
    """Counting through all shards."""
    entry: tuple[str, str] | None
    """Digest and reason of a quarantine entry."""


def make_index(headers: Iterable[ShardHeader], *, only: Sequence[str] | None = None) -> RowIndex:
    """Find every sample's row; of two shards that hold it, the higher generation counts, then the lower name.

    Parameters
    ----------
    headers : iterable of ShardHeader
        Of all shards of a feature, in any order.
    only : sequence of str, optional
        The samples that are of interest: memory is needed for these alone.

    Raises
    ------
    DamagedShardError
        If the ids of a shard are not what was written.
    FileNotFoundError
        If a shard went away since its header was read.
    """
    shards = tuple(sorted(headers, key=lambda header: (-header.generation, header.path.name)))
    starts = np.cumsum([0, *(header.rows for header in shards)])[:-1].astype(np.int64)
    asked = None if only is None else WantedKeys(keys_of(only))
    keys, rows = _read_keys(shards, starts, asked)
    entries = _entries(shards, asked)
    index = RowIndex(
        headers=shards,
        starts=starts,
        keys=keys,
        rows=rows,
        quarantined={},
        quarantined_by={},
        disputed={},
        whole=only is None,
    )
    return _settled(index, entries)


def _entries(headers: Sequence[ShardHeader], asked: WantedKeys | None) -> dict[str, list[_Claim]]:
    """What stands in quarantine, by sample: of all, or of those that are asked for."""
    claims = [
        (sample_id, _Claim(number, None, (digest, reason)))
        for number, header in enumerate(headers)
        for sample_id, digest, reason in header.quarantined
    ]
    if asked is not None and claims:
        claims = [claims[at] for at in asked.positions(keys_of([sample_id for sample_id, _ in claims])).tolist()]
    entries: dict[str, list[_Claim]] = {}
    for sample_id, claim in claims:
        entries.setdefault(sample_id, []).append(claim)
    return entries


def _read_keys(
    headers: Sequence[ShardHeader], starts: IntArray, asked: WantedKeys | None
) -> tuple[Keys, npt.NDArray[np.integer] | None]:
    """Hashes of the ids of all rows, or of those that are asked for and their rows."""
    if asked is None:
        keys = np.empty((2, sum(header.rows for header in headers)), dtype=np.uint64)

        def keep(shards: range, of_shards: Keys) -> None:
            start = int(starts[shards.start])
            keys[:, start : start + of_shards.shape[1]] = of_shards

        keys_of_shards(headers, keep)
        return keys, None
    wanted = asked

    def find(shards: range, of_shards: Keys) -> tuple[Keys, IntArray]:
        at = wanted.positions(of_shards)
        return of_shards[:, at], starts[shards.start] + at

    found = keys_of_shards(headers, find)
    keys = np.concatenate([np.empty((2, 0), dtype=np.uint64), *(part for part, _ in found)], axis=1)
    return keys, np.concatenate([np.empty(0, dtype=np.int64), *(rows for _, rows in found)])


def keys_of_shards(headers: Sequence[ShardHeader], work: Callable[[range, Keys], T]) -> list[T]:
    """Read and verify the ids of shards, and do something with their hashes, some shards at a time, in threads.

    Parameters
    ----------
    headers : sequence of ShardHeader
    work : callable (range, (2, m) Keys)
        Given the positions in `headers` of some shards, and the hashes of the ids of all of their rows.

    Returns
    -------
    list
        What `work` gave, in the order of the shards.

    Raises
    ------
    DamagedShardError, FileNotFoundError
        As `make_index`.
    """
    batches = list(_batches(headers))

    def of_batch(batch: range) -> T:
        return work(batch, keys_of_texts(read_texts_of([headers[number] for number in batch], "ids")))

    if len(batches) < 2:
        return [of_batch(batch) for batch in batches]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(of_batch, batches))


def _batches(headers: Sequence[ShardHeader]) -> Iterator[range]:
    """Positions of shards that are read together: neighbours whose ids have one width, up to `_AT_A_TIME` rows."""
    start = rows = 0
    for number, header in enumerate(headers):
        alike = header.segments["ids"].dtype == headers[start].segments["ids"].dtype
        if number > start and (not alike or rows + header.rows > _AT_A_TIME):
            yield range(start, number)
            start, rows = number, 0
        rows += header.rows
    if headers:
        yield range(start, len(headers))


def _settled(index: RowIndex, entries: Mapping[str, list[_Claim]]) -> RowIndex:
    """The index without rows that count no more, and with the quarantine entries that do, and what is disputed."""
    ordered = np.sort(index.keys[0])
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    refused = keys_of(list(entries))
    if not len(twice) and not entries:
        return index
    at = with_first_hash(index.keys[0], np.concatenate([twice, refused[0]]))
    all_rows = index._row_at(at)
    order = np.lexsort((all_rows, index.keys[1, at], index.keys[0, at]))
    at, rows = at[order], all_rows[order]
    keys = index.keys[:, at]
    new = np.ones(len(at), dtype=bool)  # begins the rows of another sample
    new[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    shard, _ = index.locate(rows)
    run = np.cumsum(new) - 1
    begins = np.flatnonzero(new)
    counts = new.copy()  # the first row of a sample is that of the highest generation and the lowest name
    strange = _runs_in_doubt(index, rows, shard, run)
    runs_of_refused = positions_in(keys[:, begins], refused) if len(begins) else np.full(len(entries), -1)
    known = dict(zip(runs_of_refused.tolist(), entries, strict=True))
    quarantined: dict[str, tuple[str, str]] = {}
    quarantined_by: dict[str, int] = {}
    disputed: dict[str, tuple[int, int]] = {}
    digest_of = _Texts(index, "image_digest")
    ids = _Texts(index, "ids")
    ends = np.append(begins[1:], len(at))
    for number in sorted({*strange, *(run for run in known if run >= 0)}):
        members = range(int(begins[number]), int(ends[number]))
        sample_id = known.get(number) or ids[int(rows[members[0]])]
        claims = [_Claim(int(shard[i]), int(rows[i]), None) for i in members]
        outcome = _outcome(index, [*claims, *entries.get(sample_id, ())], digest_of)
        counts[members.start : members.stop] = [int(rows[i]) == outcome.row for i in members]
        _note(sample_id, outcome, quarantined, quarantined_by, disputed)
    for number, (sample_id, claims) in zip(runs_of_refused.tolist(), entries.items(), strict=True):
        if number < 0:
            _note(sample_id, _outcome(index, claims, digest_of), quarantined, quarantined_by, disputed)
    keep = np.ones(len(index), dtype=bool)
    keep[at[~counts]] = False
    changed = not keep.all()
    left = index.counting_rows()[keep] if changed else index.rows
    if changed and left is not None and (not len(left) or left[-1] < 2**32):
        left = left.astype(np.uint32)
    return RowIndex(
        headers=index.headers,
        starts=index.starts,
        keys=index.keys[:, keep] if changed else index.keys,
        rows=left,
        quarantined=quarantined,
        quarantined_by=quarantined_by,
        disputed=disputed,
        whole=index.whole,
    )


def _runs_in_doubt(index: RowIndex, rows: IntArray, shard: IntArray, run: IntArray) -> set[int]:
    """Samples of which one shard has two rows, or two shards of one generation have rows from different pictures."""
    generation = np.array([header.generation for header in index.headers], dtype=object)
    pairs = np.flatnonzero((run[1:] == run[:-1]) & (generation[shard[1:]] == generation[shard[:-1]]))
    digest_of = _Texts(index, "image_digest")
    found = set()
    for i in pairs.tolist():
        a, b = digest_of[int(rows[i])], digest_of[int(rows[i + 1])]
        if shard[i] == shard[i + 1] or (a != b and a and b):
            found.add(int(run[i]))
    return found


class _Texts:
    """The ids, or the digests, of rows counted through all shards, a shard's at a time."""

    def __init__(self, index: RowIndex, name: str) -> None:
        self._index, self._name = index, name
        self._read: dict[int, list[str]] = {}

    def __getitem__(self, row: int) -> str:
        shard = int(np.searchsorted(self._index.starts, row, side="right")) - 1
        if shard not in self._read:
            self._read[shard] = read_strings(self._index.headers[shard], self._name)
        return self._read[shard][row - int(self._index.starts[shard])]


class _Outcome(NamedTuple):
    """What counts of a sample: a row, a quarantine entry with its shard, or neither where two shards dispute it."""

    row: int | None
    entry: tuple[str, str] | None
    shard: int
    dispute: tuple[int, int] | None


def _outcome(index: RowIndex, claims: Sequence[_Claim], digest_of: _Texts) -> _Outcome:
    """Go through what the shards say of one sample, from the oldest to the newest."""
    row: int | None = None
    row_shard = entry_shard = -1
    entry: tuple[str, str] | None = None
    dispute: tuple[int, int] | None = None
    # in a shard a later row counts, and an entry before any row
    for claim in sorted(claims, key=lambda c: (-c.shard, c.row is None, c.row or 0)):
        generation = index.headers[claim.shard].generation
        if claim.row is None:
            entry, entry_shard, row, dispute = claim.entry, claim.shard, None, None
            continue
        in_dispute = None
        if row is not None and row_shard != claim.shard and index.headers[row_shard].generation == generation:
            mine, theirs = digest_of[claim.row], digest_of[row]
            if mine != theirs and mine and theirs:
                in_dispute = (row_shard, claim.shard)
        row, row_shard, entry = claim.row, claim.shard, None
        if dispute is not None and index.headers[dispute[0]].generation < generation:
            dispute = None  # a newer row settles it
        dispute = in_dispute or dispute
        if dispute is not None:
            row = None
    return _Outcome(row, entry, entry_shard, dispute)


def _note(
    sample_id: str,
    outcome: _Outcome,
    quarantined: dict[str, tuple[str, str]],
    quarantined_by: dict[str, int],
    disputed: dict[str, tuple[int, int]],
) -> None:
    if outcome.entry is not None:
        quarantined[sample_id], quarantined_by[sample_id] = outcome.entry, outcome.shard
    if outcome.dispute is not None:
        disputed[sample_id] = outcome.dispute
