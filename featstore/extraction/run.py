"""Embed every sample of a manifest once, and never twice.

The samples are dealt into shards by their place in the manifest alone (`deal`). What is there already is left alone: a
sample is settled when the store holds a row, or a quarantine entry, made from the picture's present bytes; a picture
that could not be read is tried again by every run, one that is no usable picture is not. A shard is committed whole or
not at all, while pictures of the next one are read. Any number of runs may work on one feature at once: each takes its
`part` of the shards, or all of them, and leaves out what another has committed meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np

from ...kit.errors import Masked, needed
from ..errors import FeatstoreError, ManifestError, TooManyErrors
from ..manifests.manifest import Manifest, SealedManifest
from ..pictures.pictures import PictureSource, Source
from ..pictures.seen import Seen
from ..rows import files
from ..rows.feature import Dtype, Feature
from ..rows.keys import Mark, keys_of, same_pictures
from ..store import Store
from .model import BatchSize, Model
from .plan import Counted, FeaturePlan, Progress, deal_part, make_features, names_of, plan_features, positions_of
from .reading import Decoder, Embedder, Found, Meter, Readers, Wanted
from .stored import StoredRows
from .writing import Committer, FeatureWriter, ShardInMaking

FEW_ERRORS = 10
"""So many bad pictures never stop a run, unless `max_errors` is zero."""


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
    masked: dict[str, int] = field(default_factory=dict)
    """Of those in `quarantined`, how many have no row for no fault of theirs, by the reason: their video has no sound.
    They never stop a run."""
    unread: list[str] = field(default_factory=list)
    """Those of `quarantined` whose picture could not be read, which may pass: the next run tries them again."""
    remarks: dict[str, str] = field(default_factory=dict)
    """sample_id to what the embedder remarks of the picture whose row this run made, such as that no face was found."""
    repeated_across_splits: int = 0
    """Pictures (by content) that stand in more than one split of the manifest, as far as they were read so far; of a
    part of a `SealedManifest`, in more than one split of the part."""
    elapsed_s: float = 0.0
    """Seconds spent embedding, hashing and writing; of the whole run, if it made several features."""
    compute_s: float = 0.0
    """Of these, seconds in which this feature's model computed."""
    waited_s: float = 0.0
    """Of these, seconds in which no model computed because pictures were still hashed, read or decoded."""

    @classmethod
    def merged(cls, parts: Sequence[ExtractReport], workers: Sequence[str] | None = None) -> ExtractReport:
        """One report of runs that did the parts of one plan.

        Parameters
        ----------
        parts : sequence of ExtractReport
        workers : sequence of str, optional
            Who did each part: parts of one worker were done one after the other, and their times add up; those of the
            slowest worker are the whole run's. None for a worker a part.
        """
        by_worker: dict[object, list[ExtractReport]] = {}
        for worker, part in zip(range(len(parts)) if workers is None else workers, parts, strict=True):
            by_worker.setdefault(worker, []).append(part)
        longest = max(by_worker.values(), key=lambda mine: sum(part.elapsed_s for part in mine))
        return cls(
            feature=parts[0].feature,
            samples=sum(part.samples for part in parts),
            already=sum(part.already for part in parts),
            by_others=sum(part.by_others for part in parts),
            embedded=sum(part.embedded for part in parts),
            shared=sum(part.shared for part in parts),
            quarantined={key: reason for part in parts for key, reason in part.quarantined.items()},
            masked=dict(sum((Counter(part.masked) for part in parts), Counter[str]())),
            unread=sorted(sample_id for part in parts for sample_id in part.unread),
            remarks={key: remark for part in parts for key, remark in part.remarks.items()},
            repeated_across_splits=max(part.repeated_across_splits for part in parts),  # the last one saw all
            elapsed_s=sum(part.elapsed_s for part in longest),
            compute_s=sum(part.compute_s for part in longest),
            waited_s=sum(part.waited_s for part in longest),
        )


@overload
def extract(
    embedder: Embedder,
    manifest: Manifest | SealedManifest,
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
    check_pictures: bool = ...,
    source: Source | None = ...,
    retry_quarantined: bool = ...,
    replace_manifest: bool = ...,
    progress: Progress | Literal["auto"] | None = ...,
    meter: Meter | None = ...,
) -> ExtractReport: ...


@overload
def extract(
    embedder: Sequence[Embedder],
    manifest: Manifest | SealedManifest,
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
    check_pictures: bool = ...,
    source: Source | None = ...,
    retry_quarantined: bool = ...,
    replace_manifest: bool = ...,
    progress: Progress | Literal["auto"] | None = ...,
    meter: Meter | None = ...,
) -> list[ExtractReport]: ...


def extract(
    embedder: Embedder | Sequence[Embedder],
    manifest: Manifest | SealedManifest,
    store: Store,
    *,
    dataset: str,
    name: str | Sequence[str | None] | None = None,
    batch_size: BatchSize = "auto",
    shard_rows: int = 2048,
    dtype: Dtype = "float32",
    max_errors: float = 0.01,
    readers: int = 2,
    reader_processes: int = 0,
    part: tuple[int, int] = (0, 1),
    check_pictures: bool = False,
    source: Source | None = None,
    retry_quarantined: bool = False,
    replace_manifest: bool = True,
    progress: Progress | Literal["auto"] | None = "auto",
    meter: Meter | None = None,
) -> ExtractReport | list[ExtractReport]:
    """Embed the samples that have no row yet, and commit them shard by shard.

    Parameters
    ----------
    embedder : Embedder, or a list of them
        For instance a `backbones.Backbone`. Of several, each makes its own feature, the same as if it ran alone; a
        picture that more than one of them lacks is hashed and decoded once.
    manifest : Manifest or SealedManifest
        Becomes the dataset's manifest. A `SealedManifest` (`Store.sealed_manifest`) is that already, and only the
        part's own samples are read of it.
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
        Processes that read and decode instead of threads; 0 for threads. What is only hashed, since it may have changed
        since it was embedded, stays with the threads.
    part : (int, int)
        (k, n): do only the shards whose index leaves k when divided by n. n runs, k = 0 … n - 1, on any machines that
        share the store, do all of it. They must be given equal manifests and `shard_rows`. A picture that several
        samples have is embedded once a run.
    check_pictures : bool
        Read every picture to see whether its bytes changed. Without it those are not read again whose file has the size
        and the times of change that it had when it was read (`cer_fusion.featstore.pictures.seen`).
    source : Source, optional
        What the samples' bytes come from where that is not their pictures: the sound around frames
        (`frames.FrameSound`). Its digests are asked for anew by every run.
    retry_quarantined : bool
        Try every picture in quarantine again. Without it only those whose bytes changed, or that could not be read.
    replace_manifest : bool
        False refuses a manifest that removes samples of the dataset, or looks like another dataset's, before anything
        is done.
    progress : "auto", callable (stage, done, total), or None
        "auto" draws bars with `tqdm.auto`: a widget in a notebook, a line on a terminal, nothing where stderr is none.
        A callable is called from the main thread; stage is `hash` or `embed`. Of several embedders the samples of all
        are counted.
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
    _check_kinds(embedder, manifest, store, progress)
    _check(manifest, batch_size, shard_rows, readers, reader_processes, part, max_errors)
    if isinstance(manifest, SealedManifest):
        store.check_sealed(dataset, manifest)
    elif not replace_manifest:
        store.manifest_change(dataset, manifest).check()
    meter = meter or Meter()
    say = _Bars() if progress == "auto" else progress or _quiet
    several = isinstance(embedder, Sequence)
    embedders: Sequence[Embedder] = embedder if isinstance(embedder, Sequence) else [embedder]
    features = make_features(embedders, names_of(name, embedders, several=several), store, dataset, dtype)
    models = [Model(one, feature, batch_size, meter) for one, feature in zip(embedders, features, strict=True)]
    if isinstance(manifest, Manifest) and part == (0, 1):
        own = manifest
    else:
        own = manifest.rows(positions_of(len(manifest), shard_rows, part))
    only = None if part[1] == 1 else own.ids
    stored = [StoredRows(feature, only=only) for feature in features]
    paths = None if part[1] == 1 else own.table.paths
    seen = None
    if source is None:
        source = PictureSource(manifest.root)
        seen = Seen(store.path / dataset, manifest.root, part, paths=paths, trusted=not check_pictures)
    with meter.waiting():
        plans = plan_features(
            own,
            [one.before for one in stored],
            readers=readers,
            seen=seen,
            source=source,
            retry_quarantined=retry_quarantined,
            progress=say,
        )
    if seen is not None:
        seen.write()
    advance = Counted(say, "embed", sum(sum(plan.pending) for plan in plans))
    todo = list(deal_part(len(own), shard_rows, part))
    processes = reader_processes if advance.total else 0
    with (
        Readers(source, Decoder(embedders), threads=readers, processes=processes) as reading,
        Committer() as committer,
    ):
        writers = [
            FeatureWriter(
                manifest=own,
                model=models[k],
                stored=stored[k],
                plan=plans[k],
                samples=len(own),
                allowed=0 if max_errors == 0 else max(FEW_ERRORS, int(max_errors * len(own))),
                committer=committer,
                advance=advance,
            )
            for k in range(len(embedders))
        ]
        for writer in writers:
            writer.check_errors()
        if isinstance(manifest, Manifest):
            store.use_manifest(dataset, manifest, replace_manifest=replace_manifest)
        ahead = 2 * max(model.batch_size for model in models) + max(readers, reader_processes)
        try:
            while todo:  # where another run does the same shards, go on at random, so that the two do not meet again
                met_others = any(writer.by_others for writer in writers)
                number, positions = todo.pop(secrets.randbelow(len(todo)) if met_others else 0)
                shards = [writer.begin(positions) for writer in writers]
                if not met_others and any(writer.by_others for writer in writers):
                    reading.forget()  # read before the other run was looked at: pictures may have changed since
                then = _expected(own, todo[0][1], writers) if todo and not met_others else ()
                wanted = _wanted(own, positions, shards)
                with contextlib.closing(reading.read(wanted, ahead=ahead, then=then)) as in_order:
                    _fill(number, shards, _learning(own, plans[0], seen, meter.waiting_for(in_order)), committer)
                if seen is not None:
                    seen.write_more(at_least=1.25)
            committer.wait()
        finally:
            if seen is not None:
                seen.write_more()
        listed = manifest if isinstance(manifest, Manifest) else own
        reports = [_report(writer, listed, meter) for writer in writers]
    return reports if several else reports[0]


class _Bars:
    """Progress as `tqdm.auto` draws it, a bar a stage; none where nobody looks."""

    def __init__(self) -> None:
        notebook = type(sys.stderr).__module__.startswith("ipykernel")
        self._watched = notebook or (sys.stderr is not None and sys.stderr.isatty())
        self._bars: dict[str, Any] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Move the bar of a stage, which ends when all is done."""
        if not self._watched or not total:
            return
        if stage not in self._bars:
            with warnings.catch_warnings():  # without ipywidgets it warns and draws a line of text, which will do
                warnings.simplefilter("ignore")
                bar = needed("tqdm.auto", 'progress="auto"').tqdm
            self._bars[stage] = bar(total=total, desc=stage, unit=" pictures")
        self._bars[stage].update(done - self._bars[stage].n)
        if done >= total:
            self._bars[stage].close()


def bottleneck(reports: Sequence[ExtractReport]) -> str:
    """What bounded a run, from the reports of its features: `the model (93 % of the time)`; empty if it was idle."""
    elapsed = max(report.elapsed_s for report in reports)
    shares = {
        "the model": sum(report.compute_s for report in reports),
        "reading pictures": max(report.waited_s for report in reports),
    }
    largest = max(shares, key=shares.__getitem__)
    return f"{largest} ({min(1.0, shares[largest] / elapsed):.0%} of the time)" if elapsed and shares[largest] else ""


def _wanted(manifest: Manifest, positions: range, shards: Sequence[ShardInMaking]) -> Iterator[Wanted]:
    """The pictures that some feature lacks, each once for all that do."""
    lacking = [shard.wanted for shard in shards]
    for i in positions:
        numbers = [k for k, digest_of in enumerate(lacking) if i in digest_of]
        if numbers:
            settled = {k: shards[k].settled[i] for k in numbers if i in shards[k].settled}
            yield Wanted(i, manifest.samples[i].path, lacking[numbers[0]][i], numbers, settled)


def _expected(manifest: Manifest, positions: range, writers: Sequence[FeatureWriter]) -> Iterator[Wanted]:
    """The pictures that `_wanted` will name if nobody else settles them: those of which no row can be taken over."""
    for i in positions:
        numbers = [k for k, writer in enumerate(writers) if writer.plan.is_alone(i)]
        if numbers:
            yield Wanted(i, manifest.samples[i].path, writers[numbers[0]].plan.digests[i], numbers, {})


def _learning(
    manifest: Manifest, plan: FeaturePlan, seen: Seen | None, found_in_order: Iterable[tuple[int, Found]]
) -> Iterator[tuple[int, Found]]:
    """Pass on what was read, once what was learnt of a new picture is noted."""
    for position, found in found_in_order:
        if position in plan.unknown:
            plan.learn(position, found.digest)
            if seen is not None and found.state is not None:
                seen.note(manifest.samples[position].path, found.state, found.digest)
        yield position, found


def _fill(
    number: int, shards: Sequence[ShardInMaking], pictures_in_order: Iterable[tuple[int, Found]], committer: Committer
) -> None:
    """Embed the pictures, and commit them as one shard of each feature, in the background."""
    try:
        for position, found in pictures_in_order:
            for k, shard in enumerate(shards):
                if k in found.decoded:
                    shard.take(position, found.decoded[k])
                elif k in found.again:
                    shard.repeat()
                elif position in shard.settled:
                    shard.leave(position)
            committer.check()
        for shard in shards:
            shard.finish()
        finished = [shard.ready(number, whole=True) for shard in shards]
        committer.wait()
    except (KeyboardInterrupt, TooManyErrors):  # what is finished is kept, the rest is for the next run
        committer.submit([shard.ready(number, whole=False) for shard in shards])
        committer.wait()
        raise
    committer.submit(finished)


def _report(writer: FeatureWriter, manifest: Manifest, meter: Meter) -> ExtractReport:
    """Sum one feature's run up, and write its quarantine list for people."""
    feature, plan = writer.stored.feature, writer.plan
    files.sync_folder(feature.folder)  # a killed run may have left a shard that is there but not durable yet
    quarantined = feature.quarantined()
    if quarantined or (feature.folder / "quarantine.csv").exists():
        feature.write_quarantine(quarantined)
    just_read = dict(zip(writer.manifest.ids, plan.digests, strict=True))
    return ExtractReport(
        feature=feature.label,
        samples=writer.samples,
        already=writer.samples - sum(plan.pending),
        by_others=writer.by_others,
        embedded=writer.embedded,
        shared=writer.shared,
        quarantined=dict(sorted(writer.failed.items())),
        masked=dict(Counter(reason for text in writer.failed.values() if (reason := Masked.reason(text)) is not None)),
        unread=sorted(writer.unread),
        remarks=dict(sorted(writer.remarks.items())),
        repeated_across_splits=repeated_across_splits(manifest, feature, just_read),
        elapsed_s=meter.elapsed_s,
        compute_s=writer.model.compute_s,
        waited_s=meter.waited_s,
    )


def _check_kinds(embedder: object, manifest: object, store: object, progress: object) -> None:
    """Refuse paths and names where objects are meant, saying what makes the objects."""
    for one in embedder if isinstance(embedder, Sequence) and not isinstance(embedder, str) else [embedder]:
        if isinstance(one, type) or not all(callable(getattr(one, name, None)) for name in ("decode", "embed")):
            raise FeatstoreError(
                f"the first argument must be what embeds pictures, however: {_told(one)}\n"
                "  make a backbone: cer_fusion.create('vit'), or give an object of your own that is an Embedder"
            )
    if not isinstance(manifest, Manifest | SealedManifest):
        raise FeatstoreError(
            f"manifest must be a Manifest, however: {_told(manifest)}\n  read it: cer_fusion.Manifest.read('faces.csv')"
        )
    if not (progress is None or progress == "auto" or callable(progress)):
        raise FeatstoreError(
            f"progress must be 'auto', a callable (stage, done, total) or None, however: {_told(progress)}"
        )
    if not isinstance(store, Store):
        raise FeatstoreError(
            f"store must be a Store, however: {_told(store)}\n"
            "  open it, or make it: cer_fusion.Store.create('features')"
        )


def _told(one: object) -> str:
    """A value with its type, for messages."""
    return f"{type(one).__name__} {one!r}" if isinstance(one, str | os.PathLike) else type(one).__name__


def repeated_across_splits(manifest: Manifest, feature: Feature, just_read: Mapping[str, str]) -> int:
    """How many pictures stand in more than one split, by what rows were made from.

    Parameters
    ----------
    manifest : Manifest
    feature : Feature
    just_read : dict of str to str
        sample_id to the digest of the picture that was read now, which counts where there is no row.
    """
    if len(manifest.splits) < 2:
        return 0
    ids = manifest.table.ids
    known = feature.index(only=ids).pictures_of(ids)
    found_now = {i: digest for i in np.flatnonzero(known[0] == 0).tolist() if (digest := just_read.get(ids[i]))}
    known[:, list(found_now)] = keys_of(list(found_now.values()))
    splits: dict[Mark, set[str]] = {}
    for i, picture in same_pictures(known)[0]:
        splits.setdefault(picture, set()).add(manifest.split_of_each[i])
    return sum(len(found) > 1 for found in splits.values())


def _check(
    manifest: Manifest | SealedManifest,
    batch_size: BatchSize,
    shard_rows: int,
    readers: int,
    reader_processes: int,
    part: tuple[int, int],
    max_errors: float,
) -> None:
    """Refuse what cannot be meant, before anything is made."""
    if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
        raise FeatstoreError(f"batch_size must be at least 1, or 'auto', however: {batch_size!r}")
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


def _quiet(stage: str, done: int, total: int) -> None:
    """Progress for nobody."""
