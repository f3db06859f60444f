"""One feature's side of a run of `extract`: what is pending of each shard, the rows made so far, and the counts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from cer_fusion.featstore.errors import RowsError, TooManyErrors, listing
from cer_fusion.featstore.extraction.batching import Batch
from cer_fusion.featstore.extraction.committer import Committer, Job
from cer_fusion.featstore.extraction.companions import Companions
from cer_fusion.featstore.extraction.embedder import Embedder
from cer_fusion.featstore.extraction.meter import Meter
from cer_fusion.featstore.extraction.survey import Survey
from cer_fusion.featstore.manifests.manifest import Manifest
from cer_fusion.featstore.pictures.decoding import Picture, Unusable
from cer_fusion.featstore.rows.feature import Feature, RowIndex
from cer_fusion.featstore.rows.shard import Rows, ShardHeader, read_header, read_rows

Row = dict[str, npt.NDArray[Any]]
log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class FeatureRun:
    """Embeds what is pending of one feature, shard by shard: `begin`, `take` …, `end`, then `job`."""

    embedder: Embedder
    manifest: Manifest
    feature: Feature
    index: RowIndex
    """The rows that were there before."""
    companions: Companions
    found: Survey
    samples: int
    """Samples of this run's part."""
    batch: Batch
    allowed: int
    """Unusable pictures that do not stop the run."""
    committer: Committer
    meter: Meter
    advance: Callable[[int], None]
    """Told how many samples were dealt with."""
    embedded: int = 0
    shared: int = 0
    by_others: int = 0
    compute_s: float = 0.0

    def __post_init__(self) -> None:
        self.failed = dict(self.found.failed)
        self.unread = set(self.found.unread)
        """Those of `failed` that the next run tries again."""
        self.pending = sum(self.found.pending)
        self._places: dict[str, tuple[ShardHeader, int]] = {}
        """Digest of a repeated picture to its row, once that is committed."""
        self._todo: list[int] = []
        """Positions of the shard under way that are this run's to settle."""
        self._rows: dict[int, Row] = {}
        self._fresh: dict[str, int] = {}
        """Digest to the position at which it is embedded."""
        self._kept: list[int] = []
        self._decoded: list[Picture] = []

    def begin(self, positions: range) -> list[int]:
        """Start a shard: take over what is known, and name the positions whose pictures must be embedded."""
        pending = [i for i in positions if self.found.pending[i]]
        theirs = self._settled_by_others(pending)
        self.by_others += len(theirs)
        self._todo = [i for i in pending if i not in theirs]
        self._rows, self._fresh, self._kept, self._decoded = {}, {}, [], []
        for i in self._todo:
            digest = self.found.digests[i]
            known = self._known_row(digest)
            if known is not None:
                self._rows[i] = known
            elif digest:
                self._fresh.setdefault(digest, i)
        self.shared += len(self._rows)
        self.advance(len(pending) - len(self._fresh))
        return list(self._fresh.values())

    def take(self, position: int, picture: Picture | Unusable) -> None:
        """Embed this picture as soon as a batch is full; an unusable one is noted and passed over."""
        if isinstance(picture, Unusable):
            self._fail(self._id(position), picture.reason, unread=picture.unread)
            self.advance(1)
            self.check_errors()
            return
        self._kept.append(position)
        self._decoded.append(picture)
        if len(self._kept) >= self.batch.size:
            self._embed()

    def end(self) -> None:
        """Embed what is left of the shard, and give repeated pictures the row of their first."""
        if self._kept:
            self._embed()
        for i in self._todo:
            first = self._fresh.get(self.found.digests[i], i)
            if first == i:
                continue
            if first in self._rows:
                self._rows[i] = self._rows[first]
                self.shared += 1
            else:
                known = self._id(first)
                self._fail(self._id(i), self.failed[known], unread=known in self.unread)
        self.check_errors()

    def job(self, number: int, *, whole: bool) -> list[Job]:
        """What commits the shard under way: all of it, or only the rows there are; nothing if there is nothing."""
        if whole:
            theirs = self._settled_by_others(self._todo)
            entries = [i for i in self._todo if i not in theirs and not self._keeps_its_row(i)]
        else:
            entries = [i for i in self._todo if i in self._rows]
        if not entries:
            return []
        good = [i for i in entries if i in self._rows]
        bad = [(self._id(i), self._digest(i), self.failed[self._id(i)]) for i in entries if i not in self._rows]
        ids = [self._id(i) for i in entries]
        generation = max(self.index.generation_after(ids), self.companions.generation_after(ids))
        rows = [self._rows[i] for i in good]
        return [lambda: self._commit(number, generation, good, rows, bad)]

    def check_errors(self) -> None:
        """Stop the run when more pictures failed than are allowed."""
        if len(self.failed) > self.allowed:
            some = [f"{sample_id} ({reason})" for sample_id, reason in list(self.failed.items())[:3]]
            raise TooManyErrors(
                f"{len(self.failed)} of {self.samples} pictures cannot be used, "
                f"more than the {self.allowed} allowed (first: {', '.join(some)})\n"
                + (f"  {len(self.unread)} of them could not be read\n" if self.unread else "")
                + "  what was embedded is kept; mend the pictures, or accept more with --max-errors"
            )

    def _fail(self, sample_id: str, reason: str, *, unread: bool) -> None:
        self.failed[sample_id] = reason
        (self.unread.add if unread else self.unread.discard)(sample_id)

    def _digest(self, position: int) -> str:
        """sha256 of the picture that a sample's entry is about; empty where it could not be read."""
        return "" if self._id(position) in self.unread else self.found.digests[position]

    def _keeps_its_row(self, position: int) -> bool:
        """True for a sample whose picture could not be read just now, and that has a row of before: it stays."""
        return self._id(position) in self.unread and self._id(position) in self.index.place

    def _settled_by_others(self, pending: Sequence[int]) -> set[int]:
        """Those of the samples that another run has settled meanwhile; what it found is taken over."""
        self.companions.look()
        theirs = set()
        for i in pending:
            sample_id = self._id(i)
            settled = self.companions.settled(sample_id, self._digest(i))
            if settled is None:
                continue
            theirs.add(i)
            if settled.row is None:
                self._fail(sample_id, settled.reason, unread=not settled.digest)
                continue
            self.failed.pop(sample_id, None)
            self.unread.discard(sample_id)
            if settled.digest in self.found.repeated:
                self._places[settled.digest] = (settled.header, settled.row)
        return theirs

    def _known_row(self, digest: str) -> Row | None:
        """The row of this picture if it is in the store; None too if its shard was compacted away since the start."""
        if digest in self.found.repeated:
            self.committer.wait()  # the shard that is being written may hold it
        if digest not in self._places and digest in self.found.stored:
            shard, row = self.index.locate(self.index.rows_of([self.found.stored[digest]]))
            self._places[digest] = (self.index.headers[int(shard[0])], int(row[0]))
        if digest not in self._places:
            return None
        header, at = self._places[digest]
        try:
            return {name: read_rows(header, f"blocks/{name}", [at])[0] for name in self.feature.spec.blocks}
        except FileNotFoundError:
            return None

    def _embed(self) -> None:
        """Make rows of the pictures that wait, once the shard before is on the disk: a kill loses one shard at most."""
        self.committer.wait()
        positions, stack = self._kept, np.stack(self._decoded)
        self._kept, self._decoded = [], []
        stored = self._checked([self._id(i) for i in positions], self._compute(stack))
        for k, position in enumerate(positions):
            self._rows[position] = {name: array[k] for name, array in stored.items()}
        self.embedded += len(positions)
        self.advance(len(positions))

    def _compute(self, stack: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """Embed a stack at once, or in parts where memory does not suffice and the batch size may shrink."""
        parts: list[dict[str, npt.NDArray[Any]]] = []
        done, began = 0, time.monotonic()
        try:
            while done < len(stack):
                part = stack[done : done + self.batch.size]
                try:
                    out = self.embedder.embed(part)
                except MemoryError as error:
                    self.batch.halve(error)
                    continue
                parts.append({name: np.asarray(array) for name, array in out.items()})
                done += len(part)
        finally:
            spent = time.monotonic() - began
            self.compute_s += spent
            self.meter.compute_s += spent
        return parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def _checked(self, ids: Sequence[str], out: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """The blocks as they are stored, once their names, shapes and values are what they must be."""
        spec = self.feature.spec
        if list(out) != list(spec.blocks):
            raise RowsError(f"expected blocks {list(spec.blocks)}, however: {list(out)}, from {self.embedder.name}")
        stored = {}
        for name, width in spec.blocks.items():
            array = out[name]
            if array.shape != (len(ids), width):
                raise RowsError(
                    f"features must have shape ({len(ids)}, {width}) for {len(ids)} ids, however: "
                    f"shape={array.shape}\n  in block: {name}, feature: {self.feature.label}"
                )
            with np.errstate(over="ignore"):  # an overflow is Inf, and is refused below by name
                stored[name] = array.astype(spec.dtype)
            bad = np.flatnonzero(~np.isfinite(stored[name]).all(axis=1))
            if len(bad):
                raise RowsError(
                    f"block {name!r} of {self.feature.label} is NaN or Inf for {len(bad)} of {len(ids)} samples: "
                    f"{listing(ids[int(i)] for i in bad)}\n"
                    f"  nothing of this shard was written; check the weights, and the precision (float16 ends at 65504)"
                )
        return stored

    def _commit(
        self, number: int, generation: int, good: list[int], rows: list[Row], bad: list[tuple[str, str, str]]
    ) -> None:
        """In the committer's thread: build the shard and write it."""
        digests = [self.found.digests[i] for i in good]
        new = Rows(
            ids=[self._id(i) for i in good],
            image_digests=digests,
            blocks={
                name: np.stack([row[name] for row in rows])
                if rows
                else np.empty((0, width), dtype=self.feature.spec.dtype)
                for name, width in self.feature.spec.blocks.items()
            },
            quarantined=bad,
        )
        path = self.feature.commit(new, index=number, generation=generation)
        self.companions.own(path.name)
        again = [(row, digest) for row, digest in enumerate(digests) if digest in self.found.repeated]
        header = read_header(path) if again else None
        self._places.update({digest: (header, row) for row, digest in again if header})
        log.debug("committed %s: %d rows, %d in quarantine", path.name, len(good), len(bad))

    def _id(self, position: int) -> str:
        return self.manifest.samples[position].sample_id
