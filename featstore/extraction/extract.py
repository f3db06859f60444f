"""Embed every sample of a manifest once, and never twice.

The samples are dealt into shards by their place in the manifest alone (`plan`). What is there already is left alone: a
sample is settled when the store holds a row, or a quarantine entry, made from the picture's present bytes; a picture
that could not be read is tried again by every run, one that is no usable picture is not. A shard is committed whole or
not at all, while pictures of the next one are read. Any number of runs may work on one feature at once: each takes its
`part` of the shards, or all of them, and leaves out what another has committed meanwhile.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, overload

from cer_fusion.featstore.errors import FeatstoreError, ManifestError
from cer_fusion.featstore.extraction.batching import Batch
from cer_fusion.featstore.extraction.committer import Committer
from cer_fusion.featstore.extraction.companions import Companions
from cer_fusion.featstore.extraction.embedder import Embedder
from cer_fusion.featstore.extraction.extraction import Extraction, ExtractReport
from cer_fusion.featstore.extraction.feature_run import FeatureRun
from cer_fusion.featstore.extraction.made_features import make_features, names_of
from cer_fusion.featstore.extraction.meter import Meter
from cer_fusion.featstore.extraction.survey import surveys
from cer_fusion.featstore.manifests.manifest import Manifest
from cer_fusion.featstore.pictures.decoding import Decoder
from cer_fusion.featstore.pictures.readers import Readers
from cer_fusion.featstore.rows.spec import Dtype
from cer_fusion.featstore.store import Store

FEW_ERRORS = 10
"""So many bad pictures never stop a run, unless `max_errors` is zero."""
Progress = Callable[[str, int, int], None]
BatchSize = int | Literal["auto"]


@overload
def extract(
    embedder: Embedder,
    manifest: Manifest,
    store: Store,
    *,
    dataset: str,
    name: str | None = ...,
    batch_size: BatchSize = ...,
    shard_rows: int = ...,
    dtype: Dtype = ...,
    max_errors: float = ...,
    readers: int = ...,
    reader_processes: int = ...,
    part: tuple[int, int] = ...,
    assume_unchanged: bool = ...,
    retry_quarantined: bool = ...,
    replace_manifest: bool = ...,
    progress: Progress | None = ...,
    meter: Meter | None = ...,
) -> ExtractReport: ...


@overload
def extract(
    embedder: Sequence[Embedder],
    manifest: Manifest,
    store: Store,
    *,
    dataset: str,
    name: Sequence[str | None] | None = ...,
    batch_size: BatchSize = ...,
    shard_rows: int = ...,
    dtype: Dtype = ...,
    max_errors: float = ...,
    readers: int = ...,
    reader_processes: int = ...,
    part: tuple[int, int] = ...,
    assume_unchanged: bool = ...,
    retry_quarantined: bool = ...,
    replace_manifest: bool = ...,
    progress: Progress | None = ...,
    meter: Meter | None = ...,
) -> list[ExtractReport]: ...


def extract(
    embedder: Embedder | Sequence[Embedder],
    manifest: Manifest,
    store: Store,
    *,
    dataset: str,
    name: str | Sequence[str | None] | None = None,
    batch_size: BatchSize = 32,
    shard_rows: int = 2048,
    dtype: Dtype = "float32",
    max_errors: float = 0.01,
    readers: int = 2,
    reader_processes: int = 0,
    part: tuple[int, int] = (0, 1),
    assume_unchanged: bool = False,
    retry_quarantined: bool = False,
    replace_manifest: bool = True,
    progress: Progress | None = None,
    meter: Meter | None = None,
) -> ExtractReport | list[ExtractReport]:
    """Embed the samples that have no row yet, and commit them shard by shard.

    Parameters
    ----------
    embedder : Embedder, or a list of them
        For instance a `backbones.Backbone`. Of several, each makes its own feature, the same as if it ran alone; a
        picture that more than one of them lacks is hashed and decoded once.
    manifest : Manifest
        Becomes the dataset's manifest.
    store : Store
    dataset : str
        Name of the dataset in the store.
    name : str, optional
        What the feature is called; default: the embedder's name. For several embedders a list, None for the default.
    batch_size : int or "auto"
        Pictures per forward pass. "auto" begins with what the embedder likes and halves when memory does not suffice.
    shard_rows : int
        Samples per shard; a killed run loses at most one unfinished shard.
    dtype : {"float32", "float16"}
        How rows are stored; part of the feature's identity.
    max_errors : float
        Share of unusable pictures of the part at which the run stops. Up to ten never stop it, unless this is 0.
    readers : int
        Threads that read, hash and decode pictures.
    reader_processes : int
        Processes that read and decode instead of threads; 0 for threads. Hashing stays with the threads.
    part : (int, int)
        (k, n): do only the shards whose index leaves k when divided by n. n runs, k = 0 … n - 1, on any machines that
        share the store, do all of it. They must be given equal manifests and `shard_rows`. A picture that several
        samples have is embedded once a run.
    assume_unchanged : bool
        Do not read the pictures of samples that have a row to see whether their bytes changed.
    retry_quarantined : bool
        Try every picture in quarantine again. Without it only those whose bytes changed, or that could not be read.
    replace_manifest : bool
        False refuses a manifest that removes samples of the dataset, or looks like another dataset's, before anything
        is done.
    progress : callable (stage, done, total), optional
        Called from the main thread; stage is `hash` or `embed`. Of several embedders the samples of all are counted.
    meter : Meter, optional
        Filled while the run goes on, for whoever wants to show it.

    Returns
    -------
    ExtractReport, or a list of them for a list of embedders

    Raises
    ------
    ManifestError
        If the manifest may not take the place of the dataset's, or none of its pictures can be read.
    TooManyErrors
        What was embedded before is kept.
    RowsError
        If the embedder gives wrong shapes, or NaN/Inf for some sample; the message names it.
    CommitError
        If the disk refuses; what was committed before stays.
    """
    _check(manifest, shard_rows, readers, reader_processes, part, max_errors)
    if not replace_manifest:
        store.manifest_change(dataset, manifest).check()
    meter = meter or Meter()
    say = progress or _quiet
    several = isinstance(embedder, Sequence)
    embedders: Sequence[Embedder] = embedder if isinstance(embedder, Sequence) else [embedder]
    batches = [Batch(batch_size, one) for one in embedders]
    features = make_features(embedders, names_of(name, embedders, several=several), store, dataset, dtype)
    companions, indexes = [Companions(f) for f in features], [f.index() for f in features]  # in this order: no shard
    # may escape both
    mine = [i // shard_rows % part[1] == part[0] for i in range(len(manifest))]
    with meter.waiting():
        found = surveys(
            manifest,
            indexes,
            mine,
            readers=readers,
            assume_unchanged=assume_unchanged,
            retry_quarantined=retry_quarantined,
            progress=say,
        )
    advance = _Advance(say, sum(sum(one.pending) for one in found))
    todo = [(number, positions) for number, positions in plan(len(manifest), shard_rows) if number % part[1] == part[0]]
    with (
        Readers(
            manifest.root,
            Decoder(embedders),
            threads=readers,
            processes=reader_processes if advance.total else 0,
        ) as reading,
        Committer() as committer,
    ):
        runs = [
            FeatureRun(
                embedder=embedders[k],
                manifest=manifest,
                feature=features[k],
                index=indexes[k],
                companions=companions[k],
                found=found[k],
                samples=sum(mine),
                batch=batches[k],
                allowed=0 if max_errors == 0 else max(FEW_ERRORS, int(max_errors * sum(mine))),
                committer=committer,
                meter=meter,
                advance=advance,
            )
            for k in range(len(embedders))
        ]
        for run in runs:
            run.check_errors()
        store.put_manifest(dataset, manifest, replace_manifest=replace_manifest)
        extraction = Extraction(
            manifest=manifest,
            runs=runs,
            readers=reading,
            committer=committer,
            meter=meter,
            ahead=2 * max(batch.size for batch in batches) + max(readers, reader_processes),
        )
        while todo:  # where another run does the same shards, go on at random, so that the two do not meet again
            extraction.do_shard(*todo.pop(secrets.randbelow(len(todo)) if extraction.met_others else 0))
        reports = extraction.reports()
    return reports if several else reports[0]


def plan(n: int, shard_rows: int) -> Iterator[tuple[int, range]]:
    """Deal n samples into shards by position alone: (shard index, positions)."""
    for index, start in enumerate(range(0, n, shard_rows)):
        yield index, range(start, min(start + shard_rows, n))


def _check(
    manifest: Manifest, shard_rows: int, readers: int, reader_processes: int, part: tuple[int, int], max_errors: float
) -> None:
    """Refuse what cannot be meant, before anything is made."""
    if shard_rows < 1 or readers < 1:
        raise FeatstoreError("shard_rows and readers must be at least 1")
    if reader_processes < 0:
        raise FeatstoreError(f"reader_processes must be 0 (threads) or more, however: {reader_processes}")
    if not 0 <= part[0] < part[1]:
        raise FeatstoreError(f"part (k, n) must have 0 <= k < n, however: {part}")
    if not 0 <= max_errors <= 1:
        raise FeatstoreError(f"max_errors is a share between 0 and 1, however: {max_errors}")
    if not len(manifest):
        raise ManifestError(f"{manifest.where} has no samples: there is nothing to embed")


class _Advance:
    """Counts the samples of all features that were dealt with."""

    def __init__(self, say: Progress, total: int) -> None:
        self.total = total
        self._say = say
        self._done = 0

    def __call__(self, count: int) -> None:
        self._done += count
        self._say("embed", self._done, self.total)


def _quiet(stage: str, done: int, total: int) -> None:
    """Progress for nobody."""
