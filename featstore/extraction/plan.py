"""What there is to do: the features, their shards, which samples are settled, and which rows can be taken over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import FeatstoreError, ManifestError
from ..manifests.columns import IntArray
from ..manifests.manifest import Manifest
from ..pictures import pictures
from ..pictures.pictures import Source
from ..pictures.seen import Seen
from ..rows import files
from ..rows.feature import Dtype, Feature, FeatureSpec, name_for
from ..rows.index import RowIndex
from ..store import Store
from .reading import Embedder

Progress = Callable[[str, int, int], None]
"""Told stage, done, total."""
_STALE_S = 3600.0


def deal(n: int, shard_rows: int) -> Iterator[tuple[int, range]]:
    """Deal n samples into shards by position alone: (shard index, positions)."""
    for index, start in enumerate(range(0, n, shard_rows)):
        yield index, range(start, min(start + shard_rows, n))


def positions_of(n: int, shard_rows: int, part: tuple[int, int]) -> IntArray:
    """Where the samples of part (k, n) stand: those of the shards whose index leaves k when divided by n, ascending."""
    starts = range(part[0] * shard_rows, n, part[1] * shard_rows)
    dealt = [np.arange(start, min(start + shard_rows, n)) for start in starts]
    return np.concatenate(dealt) if dealt else np.empty(0, np.int64)


def size_of_part(n: int, shard_rows: int, part: tuple[int, int]) -> int:
    """How many samples `positions_of` names."""
    starts = range(part[0] * shard_rows, n, part[1] * shard_rows)
    return sum(min(shard_rows, n - start) for start in starts)


def deal_part(n: int, shard_rows: int, part: tuple[int, int]) -> Iterator[tuple[int, range]]:
    """Deal the n samples of a part as they are dealt among all: (shard index, positions in the part)."""
    for at, positions in deal(n, shard_rows):
        yield part[0] + at * part[1], positions


def unfinished_parts(manifest: Manifest, features: Sequence[Feature], *, shard_rows: int, parts: int) -> list[int]:
    """The parts in which some sample has neither a row nor a place in quarantine, in some of the features.

    Parameters
    ----------
    manifest : Manifest
    features : sequence of Feature
        Those that are to be complete; without any, every part that has samples is unfinished.
    shard_rows, parts : int
        As for `extract`: what deals the samples into shards, and these into parts.
    """
    settled = np.full(len(manifest), bool(features))
    for feature in features:
        settled &= feature.index().owners_of(manifest.table.ids) >= 0
    shards = np.unique(np.flatnonzero(~settled) // shard_rows)
    return [int(part) for part in np.unique(shards % parts)]


class Counted:
    """Counts what is done of one stage, and tells it.

    Parameters
    ----------
    progress : callable (stage, done, total)
    stage : str
    total : int
    """

    def __init__(self, progress: Progress, stage: str, total: int) -> None:
        self.total = total
        self._progress, self._stage, self._done = progress, stage, 0

    def __call__(self, count: int) -> None:
        self._done += count
        self._progress(self._stage, self._done, self.total)


def make_features(
    embedders: Sequence[Embedder], names: Sequence[str | None], store: Store, dataset: str, dtype: Dtype
) -> list[Feature]:
    """Open or make each embedder's feature, and clean up after runs that were killed.

    Raises
    ------
    FeatstoreError
        If two embedders make the same feature.
    """
    specs = [
        FeatureSpec(
            name=name or name_for(embedder.name),
            identity=embedder.spec(),
            blocks=dict(embedder.blocks),
            dtype=dtype,
            described=embedder.describe(),
        )
        for embedder, name in zip(embedders, names, strict=True)
    ]
    labels = [spec.folder for spec in specs]
    for label in labels:
        if labels.count(label) > 1:
            raise FeatstoreError(f"two of the embedders make one and the same feature, {label}: leave one away")
    features = [store.create_feature(dataset, spec) for spec in specs]
    for folder in (store.path, store.path / dataset, *(feature.folder for feature in features)):
        files.remove_temporaries(folder, _STALE_S)
    return features


def names_of(
    name: str | Sequence[str | None] | None, embedders: Sequence[Embedder], *, several: bool
) -> list[str | None]:
    """What each feature is called, None for the embedder's own name.

    Raises
    ------
    FeatstoreError
        If there is no embedder, or not one name for each.
    """
    names: list[str | None] = [None] * len(embedders)
    if name is not None:
        names = [name] if isinstance(name, str) else list(name)
    if not embedders or len(names) != len(embedders) or (several and isinstance(name, str)):
        raise FeatstoreError(
            f"expected at least one embedder and, if names are given, a list of one for each, however: "
            f"{len(embedders)} embedders, name={name!r}"
        )
    return names


@dataclass(frozen=True, kw_only=True)
class FeaturePlan:
    """What a run is to do for one feature: the state of the manifest against it, before the run."""

    digests: list[str] = field(repr=False)
    """sha256 of each sample's picture; empty where it cannot be read, or has not been yet. All plans of a run share
    it."""
    unknown: set[int] = field(repr=False)
    """Positions of new pictures, which are read, hashed and decoded at one go: their digests are not known before. All
    plans of a run share it, and it shrinks as they are read."""
    new: frozenset[int] = field(repr=False)
    """The same, as it was before the run."""
    pending: list[bool] = field(repr=False)
    """True for samples that still need a row or a quarantine entry."""
    failed: dict[str, str]
    """sample_id to reason, for samples known to have no usable picture."""
    unread: frozenset[str]
    """Those of `failed` whose picture could not be read, which is tried again by every run."""
    repeated: frozenset[str] = field(repr=False)
    """Digests that more than one sample has."""
    stored: dict[str, int] = field(repr=False)
    """Digest of a pending picture to a stored row that was made from that very picture (`RowIndex.rows_made_from`)."""

    def is_alone(self, position: int) -> bool:
        """Whether a sample is to be settled whose picture no other has, and no row in the store is made from."""
        digest = self.digests[position]
        return self.pending[position] and (
            position in self.unknown or (bool(digest) and digest not in self.repeated and digest not in self.stored)
        )

    def learn(self, position: int, digest: str) -> None:
        """Note the digest of a new picture that was read; empty if it could not be."""
        self.digests[position] = digest
        self.unknown.discard(position)


def plan_features(
    manifest: Manifest,
    indexes: Sequence[RowIndex],
    *,
    readers: int,
    seen: Seen | None,
    source: Source,
    retry_quarantined: bool = False,
    progress: Progress,
) -> list[FeaturePlan]:
    """Compare the pictures of a run's samples with what each feature's rows were made from.

    Of these pictures, those are read that may have changed since they were. Those of samples that none of the features
    knows are not: they are read once, when they are embedded.

    Raises
    ------
    ManifestError
        If not one picture can be read: the root is wrong, and nothing should be changed.
    """
    ids = manifest.ids
    made_from = [
        {i: digest for i, digest in zip(ids, index.image_digests().of(ids), strict=True) if digest is not None}
        for index in indexes
    ]
    digests: list[str] = []
    missing: dict[str, str] = {}
    unknown: set[int] = set()
    if len(manifest):
        step = Counted(progress, "hash", len(manifest))
        new = np.ones(len(manifest), dtype=bool)
        for index in indexes:
            new &= index.owners_of(manifest.table.ids) < 0
        digests, missing = pictures.digests(
            manifest, workers=readers, progress=step, seen=seen, later=new, source=source
        )
        unknown = {i for i in np.flatnonzero(new).tolist() if not digests[i] and ids[i] not in missing}
        if len(missing) + len(unknown) == len(manifest):  # whether any can be read is not known yet
            missing |= _not_opened(manifest, unknown)
        if len(missing) == len(manifest):
            first = manifest.samples[0]
            raise ManifestError(
                f"none of the {len(missing)} pictures of {manifest.where} can be read "
                f"(first: {first.path}: {missing[first.sample_id]})\n"
                f"  looked under: {manifest.root}\n"
                f"  say where the pictures are with --root"
            )
    return [
        _plan(manifest, index, made, digests, missing, unknown, retry_quarantined=retry_quarantined)
        for index, made in zip(indexes, made_from, strict=True)
    ]


def _plan(
    manifest: Manifest,
    index: RowIndex,
    made_from: dict[str, str],
    digests: list[str],
    missing: dict[str, str],
    unknown: set[int],
    *,
    retry_quarantined: bool,
) -> FeaturePlan:
    """State of one feature."""
    pending: list[bool] = []
    failed: dict[str, str] = {}
    for sample_id, digest in zip(manifest.ids, digests, strict=True):
        again = retry_quarantined and sample_id in index.quarantined and bool(digest)
        settled = not again and _is_settled(sample_id, digest, index, made_from)
        pending.append(not settled)
        if settled and sample_id in index.quarantined:
            failed[sample_id] = missing.get(sample_id) or index.quarantined[sample_id][1]
        elif not settled and sample_id in missing:
            failed[sample_id] = missing[sample_id]
    wanted = {digest for digest, todo in zip(digests, pending, strict=True) if todo and digest}
    return FeaturePlan(
        digests=digests,
        unknown=unknown,
        new=frozenset(unknown),
        pending=pending,
        failed=failed,
        unread=frozenset(failed.keys() & missing.keys()),
        repeated=frozenset(digest for digest, count in Counter(digests).items() if digest and count > 1),
        stored=index.rows_made_from(wanted),
    )


def _not_opened(manifest: Manifest, unknown: set[int]) -> dict[str, str]:
    """Why none of these pictures can be opened, sample_id to reason; empty as soon as one can."""
    source = pictures.PictureSource(manifest.root)
    failed: dict[str, str] = {}
    for i in sorted(unknown):
        sample = manifest.samples[i]
        try:
            source.check(sample.path)
        except (OSError, MemoryError) as error:
            failed[sample.sample_id] = pictures.reason_of(error)
        else:
            return {}
    return failed


def _is_settled(sample_id: str, digest: str, index: RowIndex, made_from: dict[str, str]) -> bool:
    if sample_id in index.quarantined:
        known, reason = index.quarantined[sample_id]
        return known == digest and not (digest and pictures.tells_of_reading(reason))
    if sample_id in made_from:  # a picture that is gone does not unsettle its row; verify --images reports it
        return not digest or made_from[sample_id] == digest
    return False
