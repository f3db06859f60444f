"""Rewriting a feature's many small or partly superseded shards as the shards that one unbroken run would have written.

A shard that already is what it should be stays as it is, so that a compact feature is left alone and a killed run goes
on where it stopped. New shards supersede the old ones entry by entry: whenever the run ends, every sample's row and
quarantine entry is what it was before. Nothing is removed here; `cer_fusion.featstore.upkeep.garbage` does that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import FeatstoreError
from ..extraction.plan import deal
from ..extraction.stored import StoredRows
from ..manifests.manifest import Manifest
from ..rows.feature import Feature, FeatureSpec
from ..rows.index import RowIndex
from ..rows.shard import PAGE, RowReader, Rows, read_strings


@dataclass(frozen=True, kw_only=True)
class CompactReport:
    """What `compact` did, or would do."""

    feature: str
    """`manet@3f9c1a2b77d0`."""
    rows: int
    """Rows in the compact shards."""
    quarantined: int
    """Quarantine entries in them."""
    unlisted: int
    """Entries of samples that are not in the manifest: kept behind the others, or dropped."""
    shards_before: int
    nbytes_before: int
    shards_after: int
    """Shards that count, once the replaced ones are removed."""
    nbytes_after: int
    """Their bytes; an estimate in a dry run."""
    written: int
    """Shards that were (or would be) written; 0 if the feature is compact."""
    replaced: tuple[Path, ...] = field(repr=False)
    """Shards that hold nothing that counts any more, still on the disk."""
    by_others: int = 0
    """Entries that another run replaced while this one was at work; they are left where it put them."""


def compact(
    feature: Feature,
    manifest: Manifest,
    *,
    shard_rows: int = 2048,
    drop_unlisted: bool = False,
    dry_run: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> CompactReport:
    """Write full shards in manifest order in place of small and partly superseded ones.

    Needs the memory of a few new shards, and the disk space of the new shards beside the old ones. A feature that was
    extracted in one run with the same `shard_rows` is compact already. Where rows are gathered from shards of several
    generations the new shard's generation is above theirs, so that its name differs from that of an unbroken run.

    Parameters
    ----------
    manifest : Manifest
        The dataset's; its order becomes that of the rows.
    shard_rows : int
        Samples per shard.
    drop_unlisted : bool
        Leave out the entries of samples that are not in the manifest. By default they follow, in their old order.
    dry_run : bool
        Write nothing.

    Raises
    ------
    DamagedShardError
        If a row that counts is damaged; every view is as before, and so is the old shard.
    CommitError
        If the disk refuses; what was written before is right, and the next run goes on from there.
    """
    if shard_rows < 1:
        raise FeatstoreError(f"shard_rows must be at least 1, however: {shard_rows}")
    stored = StoredRows(feature)
    index = stored.before
    left = _unlisted(index, manifest)
    planned = list(_deal(index, manifest, [] if drop_unlisted else left, shard_rows))
    there = {shard.index: path for shard in planned if (path := _existing(shard, index))}
    missing = [shard for shard in planned if shard.index not in there]
    old = [header.path for header in index.headers]
    sizes = {path: path.stat().st_size for path in old}
    nbytes = sum(sizes[path] for path in there.values())
    reader = RowReader()
    by_others = 0
    for done, shard in enumerate(missing, 1):
        if dry_run:
            nbytes += _about_nbytes(shard, feature.spec)
            continue
        still = _without_those_of_others(shard, stored)
        by_others += len(shard.entries) - len(still.entries)
        if still.entries:
            nbytes += _write(still, stored, reader).stat().st_size
        if progress is not None:
            progress("compact", done, len(missing))
    kept = set(there.values())
    return CompactReport(
        feature=feature.label,
        rows=sum(len(shard.ids) for shard in planned),
        quarantined=sum(len(shard.quarantined) for shard in planned),
        unlisted=len(left),
        shards_before=len(old),
        nbytes_before=sum(sizes.values()),
        shards_after=len(planned),
        nbytes_after=nbytes,
        written=len(missing),
        replaced=tuple(path for path in old if path not in kept),
        by_others=by_others,
    )


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """What one compact shard is to hold."""

    index: int
    ids: list[str]
    quarantined: list[tuple[str, str, str]]

    @property
    def entries(self) -> list[str]:
        return [*self.ids, *(entry[0] for entry in self.quarantined)]


def _deal(index: RowIndex, manifest: Manifest, left: list[str], shard_rows: int) -> Iterator[_Planned]:
    """The manifest's samples as `extract` deals them, then the others in shards of the same size."""
    following = -(-len(manifest) // shard_rows)
    for first, ids in ((0, manifest.ids), (following, left)):
        placed = index.rows_of(ids) >= 0
        for number, positions in deal(len(ids), shard_rows):
            refused = [ids[i] for i in positions if not placed[i] and ids[i] in index.quarantined]
            shard = _Planned(
                index=first + number,
                ids=[ids[i] for i in positions if placed[i]],
                quarantined=[(sample_id, *index.quarantined[sample_id]) for sample_id in refused],
            )
            if shard.entries:
                yield shard


def _unlisted(index: RowIndex, manifest: Manifest) -> list[str]:
    """Samples with an entry that are not in the manifest, by shard index and place, which compacting keeps."""
    rows = index.rows_of(manifest.ids)
    others, row_of = index.locate(np.setdiff1d(index.counting_rows(), rows[rows >= 0], assume_unique=True))
    refused = {sample_id: by for sample_id, by in index.quarantined_by.items() if by >= 0}
    for sample_id in manifest.ids if refused else ():
        refused.pop(sample_id, None)
    concerned = {*others.tolist(), *refused.values()}
    found: list[str] = []
    for number in sorted(concerned, key=lambda n: (index.headers[n].index, index.headers[n].path.name)):
        header = index.headers[number]
        ids = read_strings(header, "ids")
        found += [ids[row] for row in row_of[others == number].tolist()]
        found += [entry[0] for entry in header.quarantined if refused.get(entry[0]) == number]
    return found


def _existing(shard: _Planned, index: RowIndex) -> Path | None:
    """The shard on the disk that holds just these entries in this order, all of which count."""
    owners = index.owners_of(shard.entries)
    header = index.headers[int(owners[0])]
    same = (
        header.index == shard.index
        and header.rows == len(shard.ids)
        and header.quarantined == tuple(shard.quarantined)
        and bool((owners == owners[0]).all())
        and np.array_equal(index.rows_of(shard.ids), index.starts[owners[0]] + np.arange(header.rows))
    )
    return header.path if same else None


def _without_those_of_others(shard: _Planned, stored: StoredRows) -> _Planned:
    """The entries that no shard has which appeared since the start: such a shard is newer than what is copied here."""
    stored.look()
    theirs = stored.are_newer(shard.entries)
    return _Planned(
        index=shard.index,
        ids=[sample_id for sample_id in shard.ids if sample_id not in theirs],
        quarantined=[entry for entry in shard.quarantined if entry[0] not in theirs],
    )


def _write(shard: _Planned, stored: StoredRows, reader: RowReader) -> Path:
    """Gather the rows, each verified, and commit them above everything that they replace."""
    index, spec = stored.before, stored.feature.spec
    headers, rows = index.locate(index.rows_of(shard.ids))
    blocks = {name: np.empty((len(shard.ids), width), dtype=spec.dtype) for name, width in spec.blocks.items()}
    digests = np.empty(len(shard.ids), dtype=object)
    for number in np.unique(headers).tolist():
        at, header = np.flatnonzero(headers == number), index.headers[number]
        for name, block in blocks.items():
            block[at] = reader.read(header, f"blocks/{name}", rows[at].tolist())
        digests[at] = [text.decode() for text in reader.read(header, "image_digest", rows[at].tolist()).tolist()]
    new = Rows(
        ids=shard.ids,
        image_digests=digests.tolist(),
        blocks=blocks,
        quarantined=shard.quarantined,
    )
    return stored.commit(new, number=shard.index, generation=stored.generation_after(shard.entries))


def _about_nbytes(shard: _Planned, spec: FeatureSpec) -> int:
    """Size of a shard that is not written yet: its datasets, large ones in whole pages, and three pages around them."""
    n = len(shard.ids)
    longest = max((len(sample_id.encode()) for sample_id in shard.ids), default=1)
    row_bytes = [longest, 64, *(width * np.dtype(spec.dtype).itemsize for width in spec.blocks.values())]
    datasets = (n * size if n * size < PAGE else -(-n * size // PAGE) * PAGE for size in row_bytes)
    return 3 * PAGE + sum(datasets) + sum(len(text.encode()) for entry in shard.quarantined for text in entry)
