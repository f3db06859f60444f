"""The writer side of a run: one feature's rows are gathered shard by shard, and committed behind the model's back.

A shard is written while pictures of the next one are read and decoded. The model waits until it is written, so that a
kill loses one unfinished shard and no more (`docs/reliability.md`, P1).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

import numpy as np

from ...kit.errors import Masked
from ..errors import TooManyErrors
from ..manifests.manifest import Manifest
from ..rows.shard import Rows, read_header
from .model import Batch, Model, Row
from .plan import FeaturePlan
from .reading import Picture, Remarked, Unusable
from .stored import StoredRows

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class FeatureWriter:
    """One feature's side of a run: what it has, what it lacks, and the counts; `begin` gives it shard by shard."""

    manifest: Manifest
    model: Model
    stored: StoredRows
    plan: FeaturePlan
    samples: int
    """Samples of this run's part."""
    allowed: int
    """Unusable pictures that do not stop the run."""
    committer: Committer
    advance: Callable[[int], None]
    """Told how many samples were dealt with."""
    embedded: int = 0
    shared: int = 0
    by_others: int = 0

    def __post_init__(self) -> None:
        self.failed = dict(self.plan.failed)
        self._masked = {key for key, reason in self.failed.items() if Masked.reason(reason) is not None}
        """Those of `failed` that are no fault of theirs."""
        self.unread = set(self.plan.unread)
        """Those of `failed` that the next run tries again."""
        self.remarks: dict[str, str] = {}
        """What is to be told of samples whose rows this run made."""
        self._remarked: dict[str, str] = {}
        """The same by the digests of their pictures."""
        self.in_flight: frozenset[str] = frozenset()
        """Digests of new pictures in the shard that may be being written."""

    def begin(self, positions: range) -> ShardInMaking:
        """Start a shard of these samples: leave out what others have settled, take over the rows that are known.

        Of new pictures neither can be told yet.
        """
        pending = [i for i in positions if self.plan.pending[i]]
        theirs = self.settled_by_others([i for i in pending if i not in self.plan.unknown])
        self.by_others += len(theirs)
        shard = ShardInMaking(self, [i for i in pending if i not in theirs])
        self.shared += len(shard.rows)
        self.advance(len(pending) - len(shard.wanted))
        return shard

    def check_errors(self) -> None:
        """Stop the run when more pictures failed than are allowed."""
        count = len(self.failed) - len(self._masked)
        if count > self.allowed:
            faults = (entry for entry in self.failed.items() if entry[0] not in self._masked)
            some = [f"{sample_id} ({reason})" for sample_id, reason in islice(faults, 3)]
            raise TooManyErrors(
                f"{count} of {self.samples} pictures cannot be used, "
                f"more than the {self.allowed} allowed (first: {', '.join(some)})\n"
                + (f"  {len(self.unread)} of them could not be read\n" if self.unread else "")
                + "  what was embedded is kept; mend the pictures, or accept more with --max-errors"
            )

    def fail(self, sample_id: str, reason: str, *, unread: bool) -> None:
        """Note why a sample gets no row."""
        self.failed[sample_id] = reason
        (self._masked.discard if Masked.reason(reason) is None else self._masked.add)(sample_id)
        (self.unread.add if unread else self.unread.discard)(sample_id)

    def pardon(self, sample_id: str) -> None:
        """Forget why a sample would get no row: it gets one."""
        self.failed.pop(sample_id, None)
        self.unread.discard(sample_id)
        self._masked.discard(sample_id)

    def remark(self, position: int, text: str) -> None:
        """Note what is to be told of a sample, and of others with its picture."""
        self.remarks[self.id(position)] = self._remarked[self.plan.digests[position]] = text

    def remark_again(self, position: int) -> None:
        """Note for a sample that gets the row of its picture what was noted of that, if anything was."""
        text = self._remarked.get(self.plan.digests[position])
        if text is not None:
            self.remarks[self.id(position)] = text

    def digest(self, position: int) -> str:
        """sha256 of the picture that a sample's entry is about; empty where it could not be read."""
        return "" if self.id(position) in self.unread else self.plan.digests[position]

    def id(self, position: int) -> str:
        """The sample at a position of the manifest."""
        return self.manifest.samples[position].sample_id

    def known_rows(self, positions: Sequence[int]) -> dict[str, Row]:
        """The rows of these samples' pictures that are in the store, by the digest of the picture."""
        digests = {self.plan.digests[i] for i in positions}
        if not (digests.isdisjoint(self.plan.repeated) and digests.isdisjoint(self.in_flight)):
            self.committer.wait()  # the shard that is being written may hold it
        return self.stored.of_pictures(digests, self.plan.stored)

    def known_rows_of_new(self, digests: Collection[str]) -> dict[str, Row]:
        """The same of pictures that were new, by their digests, which are known by now."""
        if not self.in_flight.isdisjoint(digests):
            self.committer.wait()
        self.stored.look_for(digests)
        return self.stored.of_pictures(digests, {})

    def settled_by_others(self, pending: Sequence[int]) -> set[int]:
        """Those of the samples that another run has settled meanwhile; what it found is taken over."""
        self.stored.look()
        theirs = set()
        for i in pending:
            sample_id = self.id(i)
            settled = self.stored.settled(sample_id, self.digest(i))
            if settled is None:
                continue
            theirs.add(i)
            if settled.row is None:
                self.fail(sample_id, settled.reason, unread=not settled.digest)
                continue
            self.pardon(sample_id)
            if settled.digest in self.plan.repeated or i in self.plan.new:
                self.stored.note(settled.digest, settled.header, settled.row)
        return theirs


class ShardInMaking:
    """Rows of one feature's shard until it is written.

    Parameters
    ----------
    writer : FeatureWriter
    todo : list of int
        Positions of the samples that are this run's to settle.
    """

    def __init__(self, writer: FeatureWriter, todo: list[int]) -> None:
        self._writer, self._todo = writer, todo
        self.rows: dict[int, Row] = {}
        """Position to row, as far as there are."""
        self._first: dict[str, int] = {}
        """Digest to the position at which its picture is embedded."""
        self._waiting: list[tuple[int, Picture]] = []
        """Decoded pictures of the next batch."""
        self._new: list[tuple[int, Picture]] = []
        """Those of new pictures, of which is to be found out whether there are rows."""
        self._left: set[int] = set()
        """Positions that another run has settled from the same bytes."""
        self._begun: deque[tuple[Sequence[int], Batch]] = deque()
        """Batches that the model is at, with the positions of their samples."""
        self._unknown = [i for i in todo if i in writer.plan.unknown]
        known = writer.known_rows([i for i in todo if i not in writer.plan.unknown])
        for i in todo:
            digest = writer.plan.digests[i]
            if digest in known:
                self.rows[i] = known[digest]
                writer.remark_again(i)
            elif digest:
                self._first.setdefault(digest, i)
        self.wanted = {**{i: digest for digest, i in self._first.items()}, **dict.fromkeys(self._unknown, "")}
        """Positions whose pictures must be read, with the digest of each that is not new."""
        self.settled = {
            i: entry.digest
            for i in self._unknown
            if (entry := writer.stored.settled_meanwhile(writer.id(i))) is not None and entry.digest
        }
        """Positions of new pictures that another run has settled, with the digest of what it read."""

    def take(self, position: int, picture: Picture | Remarked | Unusable) -> None:
        """Embed this picture as soon as a batch is full; an unusable one is noted and passed over."""
        if isinstance(picture, Unusable):
            self._writer.fail(self._writer.id(position), picture.reason, unread=picture.unread)
            if digest := self._writer.plan.digests[position]:
                self._first.setdefault(digest, position)
            self._writer.advance(1)
            self._writer.check_errors()
            return
        if isinstance(picture, Remarked):
            self._writer.remark(position, picture.remark)
            picture = picture.picture
        (self._waiting if self.wanted[position] else self._new).append((position, picture))
        if self._begun and self._begun[0][1].is_ready:
            self._settle()
        if len(self._waiting) + len(self._new) >= self._writer.model.batch_size:
            self._sort_new()
        if len(self._waiting) >= self._writer.model.batch_size:
            self._embed()

    def repeat(self) -> None:
        """Count a sample whose picture is decoded for another of the shard: `finish` gives it that one's row."""
        self._writer.advance(1)

    def leave(self, position: int) -> None:
        """Leave a sample to the other run that has settled it from the very bytes that were read here."""
        self._left |= self._writer.settled_by_others([position])
        self._writer.by_others += 1
        self._writer.advance(1)

    def _sort_new(self) -> None:
        """Of the new pictures that wait, take over the rows that there are; those that are to be embedded wait on."""
        writer, digests = self._writer, self._writer.plan.digests
        new, self._new = self._new, []
        known = writer.known_rows_of_new({digests[i] for i, _ in new} - self._first.keys())
        for i, picture in new:
            digest = digests[i]
            if digest in known:
                self._first.setdefault(digest, i)
                self.rows[i] = known[digest]
                writer.remark_again(i)
                writer.shared += 1
            elif self._first.setdefault(digest, i) == i:
                self._waiting.append((i, picture))
                continue
            writer.advance(1)

    def finish(self) -> None:
        """Embed what is left, and give repeated pictures the row of their first."""
        self._sort_new()
        if self._waiting:
            self._embed()
        while self._begun:
            self._settle()
        writer = self._writer
        writer.in_flight = frozenset(writer.plan.digests[i] for i in self._unknown)
        for i in self._todo:
            first = self._first.get(writer.plan.digests[i], i)
            if first == i or i in self.rows or i in self._left:
                continue
            if first in self.rows:
                self.rows[i] = self.rows[first]
                writer.pardon(writer.id(i))
                writer.shared += 1
                writer.remark_again(i)
            else:
                known = writer.id(first)
                writer.fail(writer.id(i), writer.failed[known], unread=known in writer.unread)
        writer.check_errors()

    def ready(self, number: int, *, whole: bool) -> NewShard | None:
        """What is to be written as this shard: all entries, or only the rows there are; None if there is nothing."""
        writer, entries = self._writer, [i for i in self._todo if i in self.rows]
        if whole:
            theirs = writer.settled_by_others(self._todo)
            entries = [i for i in self._todo if i not in theirs | self._left and not self._keeps_its_row(i)]
        if not entries:
            return None
        good = [i for i in entries if i in self.rows]
        return NewShard(
            stored=writer.stored,
            number=number,
            generation=writer.stored.generation_after([writer.id(i) for i in entries]),
            ids=[writer.id(i) for i in good],
            digests=[writer.plan.digests[i] for i in good],
            rows=[self.rows[i] for i in good],
            quarantined=[
                (writer.id(i), writer.digest(i), writer.failed[writer.id(i)]) for i in entries if i not in self.rows
            ],
            repeated=writer.plan.repeated,
            is_new=bool(self._unknown),
        )

    def _embed(self) -> None:
        """Have rows made of the pictures that wait, once the shard before is on the disk: a kill loses one at most.

        A model that works ahead begins so many batches meanwhile: its device is not to wait for the disk.
        """
        model = self._writer.model
        if len(self._begun) >= model.ahead:
            self._writer.committer.wait()
        positions, decoded = zip(*self._waiting, strict=True)
        self._waiting = []
        self._begun.append((positions, model.start([self._writer.id(i) for i in positions], decoded)))
        while len(self._begun) > model.ahead:
            self._settle()

    def _settle(self) -> None:
        """Take the rows of the batch that was begun first."""
        positions, batch = self._begun.popleft()
        self.rows.update(zip(positions, self._writer.model.rows(batch), strict=True))
        self._writer.embedded += len(positions)
        self._writer.advance(len(positions))

    def _keeps_its_row(self, position: int) -> bool:
        """True for a sample whose picture could not be read just now, and that has a row of before: it stays."""
        sample_id = self._writer.id(position)
        return sample_id in self._writer.unread and sample_id in self._writer.stored.before


@dataclass(frozen=True, kw_only=True)
class NewShard:
    """A shard of one feature, ready to be written."""

    stored: StoredRows
    number: int
    generation: int
    ids: Sequence[str]
    digests: Sequence[str]
    rows: Sequence[Row]
    quarantined: Sequence[tuple[str, str, str]]
    repeated: frozenset[str]
    """Digests that more than one sample has: where their rows are is remembered."""
    is_new: bool
    """Whether some of the pictures are new: any of them may turn out to be repeated."""

    def write(self) -> None:
        """Build the shard and commit it; in the committer's thread."""
        spec = self.stored.feature.spec
        blocks = {
            name: np.stack([row[name] for row in self.rows]) if self.rows else np.empty((0, width), dtype=spec.dtype)
            for name, width in spec.blocks.items()
        }
        new = Rows(ids=self.ids, image_digests=self.digests, blocks=blocks, quarantined=self.quarantined)
        path = self.stored.commit(new, number=self.number, generation=self.generation)
        again = [(row, digest) for row, digest in enumerate(self.digests) if digest in self.repeated]
        if again or self.is_new:
            header = read_header(path)
            for row, digest in again:
                self.stored.note(digest, header, row)
            if self.is_new:
                self.stored.note_new(self.digests, header)
        log.debug("committed %s: %d rows, %d in quarantine", path.name, len(self.ids), len(self.quarantined))


class Committer:
    """Does the writing of one shard at a time in a thread; a context manager that waits for it at the end.

    What goes wrong there is raised where the main thread looks next: `submit`, `check`, `wait`.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._pool.submit(_write, ()).result()  # an interrupt while the thread starts would hide it from the pool
        self._flight: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        failed = self._flight.exception() if self._flight is not None else None
        if failed is not None and error is None:
            raise failed
        if failed is not None:
            log.error("the shard that was being written then could not be committed: %s", failed)

    def submit(self, shards: Sequence[NewShard | None]) -> None:
        """Wait for the shard before, then write this one (of each feature, in order) in the background."""
        self.wait()
        self._flight = self._pool.submit(_write, [shard for shard in shards if shard is not None])

    def check(self) -> None:
        """Raise what went wrong with the last shard, if that is known by now."""
        if self._flight is not None and self._flight.done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is under way; an interrupt leaves the writing to go on."""
        if self._flight is None:
            return
        try:
            self._flight.result()
        finally:
            if self._flight.done():
                self._flight = None


def _write(shards: Sequence[NewShard]) -> None:
    for shard in shards:
        shard.write()
