"""One run of `extract` at work: embedding what is pending, shard by shard, and counting."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from featstore import files, pictures
from featstore.companions import Companions
from featstore.decoding import decode_ahead
from featstore.embedder import Embedder
from featstore.errors import RowsError, TooManyErrors, listing
from featstore.feature import Feature, RowIndex
from featstore.manifest import Manifest
from featstore.shard import Rows
from featstore.shard_reader import ShardHeader, read_header, read_rows
from featstore.survey import Survey

Row = dict[str, npt.NDArray[Any]]
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExtractReport:
    """What a run of `extract` did."""

    feature: str
    """`manet@3f9c1a2b77d0`."""
    samples: int
    """Samples of the manifest that were this run's part."""
    already: int
    """Settled before the run."""
    by_others: int
    """Settled by another run while this one was at work."""
    embedded: int
    """Rows computed now."""
    shared: int
    """Rows taken over from an identical picture."""
    quarantined: dict[str, str] = field(default_factory=dict)
    """sample_id to reason, for every sample of the part that has no row because its picture cannot be used."""
    repeated_across_splits: int = 0
    """Pictures (by content) that stand in more than one split of the manifest, as far as they were read so far."""
    elapsed_s: float = 0.0
    """Seconds spent embedding, hashing and writing."""

    @classmethod
    def merged(cls, parts: Sequence[ExtractReport]) -> ExtractReport:
        """One report of runs that did the parts of one plan at the same time."""
        return cls(
            feature=parts[0].feature,
            samples=sum(part.samples for part in parts),
            already=sum(part.already for part in parts),
            by_others=sum(part.by_others for part in parts),
            embedded=sum(part.embedded for part in parts),
            shared=sum(part.shared for part in parts),
            quarantined={key: reason for part in parts for key, reason in part.quarantined.items()},
            repeated_across_splits=max(part.repeated_across_splits for part in parts),  # the last one saw all
            elapsed_s=max(part.elapsed_s for part in parts),
        )


@dataclass(kw_only=True, eq=False)
class Extraction:
    """One run of `extract` after the survey: embeds shard by shard and keeps the counts."""

    embedder: Embedder
    manifest: Manifest
    feature: Feature
    index: RowIndex
    """The rows that were there before."""
    companions: Companions
    found: Survey
    samples: int
    """Samples of this run's part."""
    batch_size: int
    pool: Executor
    """Threads that read and decode pictures."""
    ahead: int
    """Pictures decoded before they are wanted."""
    allowed: int
    """Unusable pictures that do not stop the run."""
    progress: Callable[[str, int, int], None]
    embedded: int = 0
    shared: int = 0
    by_others: int = 0
    done: int = 0

    def __post_init__(self) -> None:
        self.source = pictures.PictureSource(self.manifest.root)
        self.failed = dict(self.found.failed)
        self.pending = sum(self.found.pending)
        self.places: dict[str, tuple[ShardHeader, int]] = {}
        """Digest of a repeated picture to its row, once that is committed."""

    def do_shard(self, number: int, positions: range) -> None:
        """Embed what is pending among these samples and commit it as one shard."""
        pending = [i for i in positions if self.found.pending[i]]
        theirs = self._settled_by_others(pending)
        self.by_others += len(theirs)
        self._advance(len(theirs))
        pending = [i for i in pending if i not in theirs]
        rows: dict[int, Row] = {}
        try:
            self._embed(pending, rows)
        except (KeyboardInterrupt, TooManyErrors):  # what is finished is kept, the rest is for the next run
            self._commit(number, [i for i in pending if i in rows], rows)
            raise
        theirs = self._settled_by_others(pending)
        self._commit(number, [i for i in pending if i not in theirs], rows)

    def report(self, elapsed_s: float) -> ExtractReport:
        """Write the quarantine list for people and sum the run up."""
        files.sync_folder(self.feature.folder)  # a killed run may have left a shard that is there but not durable yet
        index = self.feature.index()
        if index.quarantined or (self.feature.folder / "quarantine.csv").exists():
            self.feature.write_quarantine(index.quarantined)
        made_from = index.image_digests()
        digests = [own or made_from.get(i, "") for own, i in zip(self.found.digests, self.manifest.ids, strict=True)]
        return ExtractReport(
            feature=self.feature.label,
            samples=self.samples,
            already=self.samples - self.pending,
            by_others=self.by_others,
            embedded=self.embedded,
            shared=self.shared,
            quarantined=dict(sorted(self.failed.items())),
            repeated_across_splits=leaking(self.manifest, digests),
            elapsed_s=elapsed_s,
        )

    def check_errors(self) -> None:
        """Stop the run when more pictures failed than are allowed."""
        if len(self.failed) > self.allowed:
            some = [f"{sample_id} ({reason})" for sample_id, reason in list(self.failed.items())[:3]]
            raise TooManyErrors(
                f"{len(self.failed)} of {self.samples} pictures cannot be used, "
                f"more than the {self.allowed} allowed (first: {', '.join(some)})\n"
                f"  what was embedded is kept; mend the pictures, or accept more with --max-errors"
            )

    def _embed(self, pending: Sequence[int], rows: dict[int, Row]) -> None:
        """Fill `rows` for the pending samples whose pictures can be used; each distinct picture is computed once."""
        fresh: dict[str, int] = {}
        repeats: list[int] = []
        for i in pending:
            digest = self.found.digests[i]
            known = self._known_row(digest)
            if known is not None:
                rows[i] = known
            elif digest in fresh:
                repeats.append(i)
            elif digest:
                fresh[digest] = i
        self.shared += len(rows)
        self._advance(len(pending) - len(fresh))
        for positions, stack in self._batches(fresh.values()):
            rows.update(self._embed_batch(positions, stack))
            self.embedded += len(positions)
            self._advance(len(positions))
        for i in repeats:
            first = fresh[self.found.digests[i]]
            if first in rows:
                rows[i] = rows[first]
                self.shared += 1
            else:
                self.failed[self._id(i)] = self.failed[self._id(first)]
        self.check_errors()

    def _settled_by_others(self, pending: Sequence[int]) -> set[int]:
        """Those of the samples that another run has settled meanwhile; what it found is taken over."""
        self.companions.look()
        theirs = set()
        for i in pending:
            settled = self.companions.settled(self._id(i), self.found.digests[i])
            if settled is None:
                continue
            theirs.add(i)
            if settled.row is None:
                self.failed[self._id(i)] = settled.reason
            elif settled.digest in self.found.repeated:
                self.places[settled.digest] = (settled.header, settled.row)
        return theirs

    def _known_row(self, digest: str) -> Row | None:
        """The row of this picture if it is in the store; None too if its shard was compacted away since the start."""
        if digest not in self.places and digest in self.found.stored:
            shard, row = self.index.locate(self.index.rows_of([self.found.stored[digest]]))
            self.places[digest] = (self.index.headers[int(shard[0])], int(row[0]))
        if digest not in self.places:
            return None
        header, at = self.places[digest]
        try:
            return {name: read_rows(header, f"blocks/{name}", [at])[0] for name in self.feature.spec.blocks}
        except FileNotFoundError:
            return None

    def _batches(self, positions: Iterable[int]) -> Iterator[tuple[list[int], npt.NDArray[Any]]]:
        """Decoded pictures dealt in batches; unusable ones are noted and passed over."""
        kept: list[int] = []
        decoded: list[npt.NDArray[Any]] = []
        for i, picture in decode_ahead(positions, self._decode, pool=self.pool, ahead=self.ahead):
            if isinstance(picture, Exception):
                self.failed[self._id(i)] = pictures.reason_of(picture)
                self._advance(1)
                self.check_errors()
                continue
            kept.append(i)
            decoded.append(picture)
            if len(kept) == self.batch_size:
                yield kept, np.stack(decoded)
                kept, decoded = [], []
        if kept:
            yield kept, np.stack(decoded)

    def _decode(self, position: int) -> npt.NDArray[Any]:
        return self.embedder.decode(self.source.read(self.manifest.samples[position].path))

    def _embed_batch(self, positions: list[int], stack: npt.NDArray[Any]) -> dict[int, Row]:
        spec = self.feature.spec
        out = self.embedder.embed(stack)
        ids = [self._id(i) for i in positions]
        if list(out) != list(spec.blocks):
            raise RowsError(f"expected blocks {list(spec.blocks)}, however: {list(out)}, from {self.embedder.name}")
        stored = {}
        for name, width in spec.blocks.items():
            array = np.asarray(out[name])
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
        return {position: {name: stored[name][k] for name in stored} for k, position in enumerate(positions)}

    def _commit(self, number: int, entries: list[int], rows: dict[int, Row]) -> None:
        if not entries:
            return
        good = [i for i in entries if i in rows]
        bad = [i for i in entries if i not in rows]
        spec = self.feature.spec
        new = Rows(
            ids=[self._id(i) for i in good],
            image_digests=[self.found.digests[i] for i in good],
            blocks={
                name: np.stack([rows[i][name] for i in good]) if good else np.empty((0, width), dtype=spec.dtype)
                for name, width in spec.blocks.items()
            },
            quarantined=[(self._id(i), self.found.digests[i], self.failed[self._id(i)]) for i in bad],
        )
        ids = [self._id(i) for i in entries]
        generation = max(self.index.generation_after(ids), self.companions.generation_after(ids))
        path = self.feature.commit(new, index=number, generation=generation)
        self.companions.own(path.name)
        again = [
            (row, self.found.digests[i]) for row, i in enumerate(good) if self.found.digests[i] in self.found.repeated
        ]
        header = read_header(path) if again else None
        self.places.update({digest: (header, row) for row, digest in again if header})
        log.debug("committed %s: %d rows, %d in quarantine", path.name, len(good), len(bad))

    def _id(self, position: int) -> str:
        return self.manifest.samples[position].sample_id

    def _advance(self, count: int) -> None:
        self.done += count
        self.progress("embed", self.done, self.pending)


def leaking(manifest: Manifest, digests: Sequence[str]) -> int:
    """Number of pictures, by content, that stand in more than one split."""
    return len(pictures.across_splits(manifest, pictures.repeats(manifest, digests)))
