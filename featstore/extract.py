"""Embed every sample of a manifest once, and never twice.

The samples are dealt into shards by their place in the manifest alone (`plan`). What is there already is left alone: a
sample is settled when the store holds a row, or a quarantine entry, made from the picture's present bytes. A shard is
committed whole or not at all. Any number of runs may work on one feature at once: each takes its `part` of the shards,
or all of them, and leaves out what another has committed meanwhile.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from featstore import files
from featstore.companions import Companions
from featstore.embedder import Embedder
from featstore.errors import FeatstoreError, ManifestError
from featstore.extraction import Extraction, ExtractReport
from featstore.manifest import Manifest
from featstore.spec import Dtype, FeatureSpec, name_for
from featstore.store import Store
from featstore.survey import survey

FEW_ERRORS = 10
"""So many bad pictures never stop a run, unless `max_errors` is zero."""
_STALE_S = 3600.0


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
    readers: int = 2,
    part: tuple[int, int] = (0, 1),
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
        Share of unusable pictures of the part at which the run stops. Up to ten never stop it, unless this is 0.
    readers : int
        Threads that read and decode pictures.
    part : (int, int)
        (k, n): do only the shards whose index leaves k when divided by n. n runs, k = 0 … n - 1, on any machines that
        share the store, do all of it. They must be given equal manifests and `shard_rows`. A picture that several
        samples have is embedded once a run.
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
    if batch_size < 1 or shard_rows < 1 or readers < 1:
        raise FeatstoreError("batch_size, shard_rows and readers must be at least 1")
    if not 0 <= part[0] < part[1]:
        raise FeatstoreError(f"part (k, n) must have 0 <= k < n, however: {part}")
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
    for folder in (store.path, store.path / dataset, feature.folder):
        files.remove_temporaries(folder, _STALE_S)
    say = progress or _quiet
    companions, index = Companions(feature), feature.index()  # in this order: no shard may escape both
    todo = [(number, positions) for number, positions in plan(len(manifest), shard_rows) if number % part[1] == part[0]]
    mine = [i // shard_rows % part[1] == part[0] for i in range(len(manifest))]
    found = survey(manifest, index, mine, readers=readers, assume_unchanged=assume_unchanged, progress=say)
    allowed = 0 if max_errors == 0 else max(FEW_ERRORS, int(max_errors * sum(mine)))
    with ThreadPoolExecutor(readers) as pool:
        run = Extraction(
            embedder=embedder,
            manifest=manifest,
            feature=feature,
            index=index,
            companions=companions,
            found=found,
            samples=sum(mine),
            batch_size=batch_size,
            pool=pool,
            ahead=2 * batch_size + readers,
            allowed=allowed,
            progress=say,
        )
        run.check_errors()
        store.put_manifest(dataset, manifest)
        while todo:  # where another run does the same shards, go on at random, so that the two do not meet again
            run.do_shard(*todo.pop(secrets.randbelow(len(todo)) if run.by_others else 0))
    return run.report(time.monotonic() - started)


def plan(n: int, shard_rows: int) -> Iterator[tuple[int, range]]:
    """Deal n samples into shards by position alone: (shard index, positions)."""
    for index, start in enumerate(range(0, n, shard_rows)):
        yield index, range(start, min(start + shard_rows, n))


def _quiet(stage: str, done: int, total: int) -> None:
    """Progress for nobody."""
