"""Embed every sample of a manifest once, and never twice.

The samples are dealt into shards by their place in the manifest alone (`plan`). What is there already is left alone: a
sample is settled when the store holds a row, or a quarantine entry, made from the picture's present bytes. A shard is
committed whole or not at all. Two runs at once do the same work twice, but safely: equal shards have equal names.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from featstore import files, pictures
from featstore.decoding import decode_ahead
from featstore.embedder import Embedder
from featstore.errors import FeatstoreError, ManifestError, RowsError, TooManyErrors, listing
from featstore.feature import Feature, RowIndex
from featstore.manifest import Manifest
from featstore.shard import Rows
from featstore.shard_reader import read_rows
from featstore.spec import Dtype, FeatureSpec, name_for
from featstore.store import Store
from featstore.survey import Survey, survey

Row = dict[str, npt.NDArray[Any]]
log = logging.getLogger(__name__)
FEW_ERRORS = 10
"""So many bad pictures never stop a run, unless `max_errors` is zero."""
_STALE_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class ExtractReport:
    """What a run of `extract` did."""

    feature: str
    """`manet@3f9c1a2b77d0`."""
    samples: int
    """Samples in the manifest."""
    already: int
    """Settled before the run."""
    embedded: int
    """Rows computed now."""
    shared: int
    """Rows taken over from an identical picture."""
    quarantined: dict[str, str] = field(default_factory=dict)
    """sample_id to reason, for every sample of the manifest that has no row because its picture cannot be used."""
    repeated_across_splits: int = 0
    """Pictures (by content) that stand in more than one split."""
    elapsed_s: float = 0.0
    """Seconds spent embedding, hashing and writing."""


def extract(
    embedder: Embedder,
    manifest: Manifest,
    store: Store,
    *,
    dataset: str,
    name: str | None = None,
    batch_size: int = 32,
    shard_rows: int = 2048,
    dtype: Dtype = "float32",
    max_errors: float = 0.01,
    workers: int = 2,
    assume_unchanged: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> ExtractReport:
    """Embed the samples that have no row yet, and commit them shard by shard.

    Parameters
    ----------
    embedder : Embedder
        For instance a `backbones.Backbone`.
    manifest : Manifest
        Becomes the dataset's manifest.
    store : Store
    dataset : str
        Name of the dataset in the store.
    name : str, optional
        What the feature is called; default: the embedder's name.
    batch_size : int
        Pictures per forward pass.
    shard_rows : int
        Samples per shard; a killed run loses at most one unfinished shard.
    dtype : {"float32", "float16"}
        How rows are stored; part of the feature's identity.
    max_errors : float
        Share of unusable pictures at which the run stops. Up to ten never stop it, unless this is 0.
    workers : int
        Threads that read and decode pictures.
    assume_unchanged : bool
        Do not read the pictures of samples that have a row to see whether their bytes changed.
    progress : callable (stage, done, total), optional
        Called from the main thread; stage is `hash` or `embed`.

    Returns
    -------
    ExtractReport

    Raises
    ------
    TooManyErrors
        What was embedded before is kept.
    RowsError
        If the embedder gives wrong shapes, or NaN/Inf for some sample; the message names it.
    CommitError
        If the disk refuses; what was committed before stays.
    """
    if batch_size < 1 or shard_rows < 1 or workers < 1:
        raise FeatstoreError("batch_size, shard_rows and workers must be at least 1")
    if not 0 <= max_errors <= 1:
        raise FeatstoreError(f"max_errors is a share between 0 and 1, however: {max_errors}")
    if not len(manifest):
        raise ManifestError(f"{manifest.where} has no samples: there is nothing to embed")
    started = time.monotonic()
    spec = FeatureSpec(
        name=name or name_for(embedder.name),
        identity=embedder.spec(),
        blocks=dict(embedder.blocks),
        dtype=dtype,
        described=embedder.describe(),
    )
    feature = store.create_feature(dataset, spec)
    files.remove_temporaries(feature.folder, _STALE_S)
    say = progress or _quiet
    index = feature.index()
    found = survey(manifest, index, workers=workers, assume_unchanged=assume_unchanged, progress=say)
    allowed = 0 if max_errors == 0 else max(FEW_ERRORS, int(max_errors * len(manifest)))
    run = _Run(embedder, manifest, feature, index, found, batch_size, workers, allowed, say)
    run.check_errors()
    store.put_manifest(dataset, manifest)
    for number, positions in plan(len(manifest), shard_rows):
        run.do_shard(number, positions)
    return run.report(time.monotonic() - started)


def plan(n: int, shard_rows: int) -> Iterator[tuple[int, range]]:
    """Deal n samples into shards by position alone: (shard index, positions)."""
    for index, start in enumerate(range(0, n, shard_rows)):
        yield index, range(start, min(start + shard_rows, n))


class _Run:
    """One run of `extract` after the survey: embeds shard by shard and keeps the counts."""

    def __init__(
        self,
        embedder: Embedder,
        manifest: Manifest,
        feature: Feature,
        index: RowIndex,
        found: Survey,
        batch_size: int,
        workers: int,
        allowed: int,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.embedder, self.manifest, self.feature, self.index, self.found = embedder, manifest, feature, index, found
        self.batch_size, self.workers, self.allowed, self.progress = batch_size, workers, allowed, progress
        self.source = pictures.PictureSource(manifest.root)
        self.failed = dict(found.failed)
        self.computed: dict[str, Row] = {}
        self.embedded = self.shared = self.done = 0

    def do_shard(self, number: int, positions: range) -> None:
        """Embed what is pending among these samples and commit it as one shard."""
        pending = [i for i in positions if self.found.pending[i]]
        if not pending:
            return
        rows: dict[int, Row] = {}
        try:
            self._embed(pending, rows)
        except (KeyboardInterrupt, TooManyErrors):  # what is finished is kept, the rest is for the next run
            self._commit(number, [i for i in pending if i in rows], rows)
            raise
        self._commit(number, pending, rows)

    def report(self, elapsed_s: float) -> ExtractReport:
        """Write the quarantine list for people and sum the run up."""
        quarantined = self.feature.index().quarantined
        if quarantined or (self.feature.folder / "quarantine.csv").exists():
            self.feature.write_quarantine(quarantined)
        return ExtractReport(
            feature=self.feature.label,
            samples=len(self.manifest),
            already=len(self.manifest) - sum(self.found.pending),
            embedded=self.embedded,
            shared=self.shared,
            quarantined=dict(sorted(self.failed.items())),
            repeated_across_splits=self.found.leaking,
            elapsed_s=elapsed_s,
        )

    def check_errors(self) -> None:
        """Stop the run when more pictures failed than are allowed."""
        if len(self.failed) > self.allowed:
            some = [f"{sample_id} ({reason})" for sample_id, reason in list(self.failed.items())[:3]]
            raise TooManyErrors(
                f"{len(self.failed)} of {len(self.manifest)} pictures cannot be used, "
                f"more than the {self.allowed} allowed (first: {', '.join(some)})\n"
                f"  what was embedded is kept; mend the pictures, or accept more with --max-errors"
            )

    def _embed(self, pending: Sequence[int], rows: dict[int, Row]) -> None:
        """Fill `rows` for the pending samples whose pictures can be used; each distinct picture is computed once."""
        fresh: dict[str, int] = {}
        repeats: list[int] = []
        for i in pending:
            digest = self.found.digests[i]
            if digest in self.computed or digest in self.found.stored:
                rows[i] = self._known_row(digest)
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
        for digest in self.found.repeated & fresh.keys():
            if fresh[digest] in rows:
                self.computed[digest] = rows[fresh[digest]]
        for i in repeats:
            first = fresh[self.found.digests[i]]
            if first in rows:
                rows[i] = rows[first]
                self.shared += 1
            else:
                self.failed[self._id(i)] = self.failed[self._id(first)]
        self.check_errors()

    def _known_row(self, digest: str) -> Row:
        if digest in self.computed:
            return self.computed[digest]
        shard, row = self.index.locate(self.index.rows_of([self.found.stored[digest]]))
        header = self.index.headers[int(shard[0])]
        return {name: read_rows(header, f"blocks/{name}", row.tolist())[0] for name in self.feature.spec.blocks}

    def _batches(self, positions: Iterable[int]) -> Iterator[tuple[list[int], npt.NDArray[Any]]]:
        """Decoded pictures dealt in batches; unusable ones are noted and passed over."""
        kept: list[int] = []
        decoded: list[npt.NDArray[Any]] = []
        ahead = 2 * self.batch_size + self.workers
        for i, picture in decode_ahead(positions, self._decode, workers=self.workers, ahead=ahead):
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
        good = [i for i in entries if i in rows]
        bad = [i for i in entries if i not in rows]
        if not entries:
            return
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
        generation = self.index.generation_after(self._id(i) for i in entries)
        path = self.feature.commit(new, index=number, generation=generation)
        log.debug("committed %s: %d rows, %d in quarantine", path.name, len(good), len(bad))

    def _id(self, position: int) -> str:
        return self.manifest.samples[position].sample_id

    def _advance(self, count: int) -> None:
        self.done += count
        self.progress("embed", self.done, sum(self.found.pending))


def _quiet(stage: str, done: int, total: int) -> None:
    """Progress for nobody."""
