"""What a store no longer needs: what killed writers left, and shards whose entries count nowhere."""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DamagedShardError, FeatstoreError, FormatError
from ..manifests.manifest import Manifest
from ..rows import files
from ..rows.feature import Feature, is_feature_folder, valid_name
from ..rows.index import RowIndex
from ..rows.shard import ShardHeader, damaged, is_as_named, parse_name, read_header, read_strings
from ..store import Store

GRACE_S = 3600.0
"""For so long a temporary file may have a living writer, and a superseded shard readers that opened it before."""


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A file, an empty folder, or one that was taken out with all that is in it: nothing in the store needs it."""

    path: Path
    nbytes: int
    why: str
    relies_on: tuple[Path, ...] = field(default=(), repr=False)
    """Shards that hold what counts instead; their bytes are verified before this file is removed."""


def find_garbage(
    store: Store, *, dataset: str | None = None, unlisted: bool = False, now: bool = False
) -> list[Garbage]:
    """Look for what can be removed without changing any view or quarantine; removes nothing and writes nothing.

    Parameters
    ----------
    dataset : str, optional
        Only this dataset.
    unlisted : bool
        Also shards none of whose samples is in the manifest any more.
    now : bool
        Also shards that were superseded, and what was taken out, within the last hour. Temporary files are always
        spared for an hour.

    Returns
    -------
    list of Garbage
        In an order in which they can be removed.

    Notes
    -----
    Where a shard's header is damaged, or a manifest, what counts is not known: that feature, or that dataset, is left
    alone with a warning.
    """
    known = store.datasets() if dataset is None else [store.dataset(dataset)]
    found = list(_leftovers(store.path, _Clock(store.path), now)) if dataset is None else []
    for folder in _dataset_folders(store.path) if dataset is None else [store.path / known[0]]:
        clock = _Clock(folder)
        found += _leftovers(folder, clock, now)
        for inner in sorted(filter(is_feature_folder, folder.iterdir())):
            found += _leftovers(inner, clock)
            found += _abandoned(inner, clock)
        if folder.name in known:
            try:
                manifest = store.manifest(folder.name)
            except (FeatstoreError, OSError) as error:
                if dataset is not None:
                    raise
                store.tell_once(f"dataset {folder.name} is left alone: {error}")
                continue
            for feature in store.usable_features(folder.name):
                try:
                    found += feature_garbage(feature, manifest, unlisted=unlisted, now=now)
                except (FeatstoreError, OSError) as error:
                    store.tell_once(f"feature {feature.label} of dataset {folder.name} is left alone: {error}")
    return found


def feature_garbage(
    feature: Feature, manifest: Manifest, *, unlisted: bool = False, now: bool = False
) -> list[Garbage]:
    """Shards of one feature that can be removed, lowest generation first, and shards set aside whose rows are back."""
    index = feature.index()
    listed = frozenset(manifest.ids)
    needed = _needed(index, manifest.ids if unlisted else None)
    gone: dict[int, list[str]] = {}
    clock = _Clock(feature.folder.parent)
    for number in set(range(len(index.headers))) - needed:
        ids = _ids(index.headers[number])
        if any(_claims(number, sample_id, index) for sample_id in ids):
            continue
        if now or clock.is_stale(_superseded_since(number, ids, index)):
            gone[number] = ids
    if unlisted:
        _spare_what_hides_older_rows(gone, index)
    found = [_superseded(number, gone[number], gone, index) for number in sorted(gone, reverse=True)]
    for path in sorted(feature.folder.glob("damaged-*")):
        if parse_name(path.name.removeprefix("damaged-")):
            relies_on = _holders_of_lost_rows(path, feature, listed, unlisted)
            if relies_on is not None:
                why = "a damaged shard that was set aside; its rows are back"
                found.append(Garbage(path=path, nbytes=path.stat().st_size, why=why, relies_on=relies_on))
        elif path.name == "damaged-feature.json" and path.is_file():
            why = "a damaged feature.json that was set aside; it was written anew"
            found.append(Garbage(path=path, nbytes=path.stat().st_size, why=why))
    return found


def _claims(number: int, sample_id: str, index: RowIndex) -> bool:
    """True for a third shard of the generation in which two dispute a sample."""
    claimants = index.disputed.get(sample_id)
    return claimants is not None and index.headers[number].generation >= index.headers[claimants[0]].generation


def _needed(index: RowIndex, listed: Sequence[str] | None) -> set[int]:
    """Positions in `index.headers` of the shards that hold some entry that counts, of the samples listed or of all."""
    rows = index.counting_rows() if listed is None else index.rows_of(listed)
    refused = index.quarantined_by if listed is None else index.quarantined_by.keys() & set(listed)
    return {
        *np.unique(index.locate(rows[rows >= 0])[0]).tolist(),
        *(index.quarantined_by[sample_id] for sample_id in refused),
        *(number for claimants in index.disputed.values() for number in claimants),
    }


def _owners(ids: Sequence[str], index: RowIndex) -> list[int]:
    """Position in `index.headers` of the shard whose entry counts for each sample, all of which have one.

    Of two that dispute a sample it is one: both stay, and older shards have given way to them.
    """
    found = index.owners_of(ids).tolist()
    return [index.disputed[i][0] if i in index.disputed else owner for i, owner in zip(ids, found, strict=True)]


def remove_garbage(found: Sequence[Garbage], *, progress: Callable[[str, int, int], None] | None = None) -> int:
    """Remove what `find_garbage` found, in its order, for good.

    Returns
    -------
    int
        Bytes freed.

    Raises
    ------
    DamagedShardError
        If a shard that a superseded one gave way to is damaged; the superseded one then stays.
    CommitError
        If the file system refuses; what was removed before is gone.
    """
    intact: set[Path] = set()
    freed = 0
    for done, item in enumerate(found, 1):
        for path in item.relies_on:
            if path not in intact:
                _check_bytes(path)
                intact.add(path)
        if item.path.name.startswith(files.REMOVED):
            files.remove_tree(item.path)
        elif item.path.is_dir():
            files.remove_folder(item.path)
        else:
            files.remove(item.path)
        freed += item.nbytes
        if progress is not None:
            progress("remove", done, len(found))
    for folder in sorted({item.path.parent for item in found if parse_name(item.path.name)}):
        if (folder / "quarantine.csv").exists():
            feature = Feature(folder)
            feature.write_quarantine(feature.quarantined())
    return freed


class _Clock:
    """The clock of the file system that a folder is on, which stamps its files: that of this machine may be another.

    It is asked only once there is something to judge, by a file that is made and removed. In a store that may not be
    written nothing can be removed either, and this machine's clock does for the list. Where the file cannot be made for
    another reason, such as a full disk, it is there at least as late as when something last changed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now: float | None = None

    def is_stale(self, mtime_s: float) -> bool:
        """True if a file was last written so long ago that nobody can be at it."""
        if self._now is None:
            try:
                self._now = files.now_on(self._folder)
            except OSError as error:
                forbidden = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
                self._now = time.time() if forbidden else max(_changes(self._folder))
        return mtime_s <= self._now - GRACE_S


def _changes(folder: Path) -> Iterator[float]:
    """When a folder, what is in it and what is in its folders last changed, by the clock of its file system."""
    for path in (folder, *folder.glob("*"), *folder.glob("*/*")):
        with contextlib.suppress(OSError):
            yield path.lstat().st_mtime


def _dataset_folders(root: Path) -> Iterator[Path]:
    """Folders of datasets, and of those that a killed first run began."""
    for path in sorted(root.iterdir()):
        if valid_name(path.name) and path.is_dir():
            begun = (path / "manifest.csv").exists() or (path / "manifest.json").exists()
            if begun or any(map(is_feature_folder, path.iterdir())):
                yield path


def _leftovers(folder: Path, clock: _Clock, now: bool = False) -> Iterator[Garbage]:
    """Temporary files whose writer must be dead, and what was put away and nobody can be reading any more."""
    for path in sorted(path for path in folder.iterdir() if files.is_temporary(path.name)):
        with contextlib.suppress(FileNotFoundError):
            stat = path.lstat()
            put_away = path.is_dir() and path.name.startswith(files.REMOVED)
            if not ((put_away and now) or clock.is_stale(stat.st_mtime)):
                continue
            if put_away:
                yield Garbage(path=path, nbytes=_size(path), why="taken out by cer-feat rm")
            elif not path.is_dir():
                yield Garbage(path=path, nbytes=stat.st_size, why="a write that never finished")


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _abandoned(folder: Path, clock: _Clock) -> Iterator[Garbage]:
    """A feature's folder that was made, and then nothing was."""
    with contextlib.suppress(FileNotFoundError):
        changed = folder.stat().st_mtime
        stale = {item.path for item in _leftovers(folder, clock)}
        if stale == set(folder.iterdir()) and clock.is_stale(changed):
            yield Garbage(path=folder, nbytes=0, why="a feature's folder without feature.json and without shards")


def _ids(header: ShardHeader) -> list[str]:
    """The samples of all its entries."""
    return [*read_strings(header, "ids"), *(entry[0] for entry in header.quarantined)]


def _superseded_since(number: int, ids: Sequence[str], index: RowIndex) -> float:
    """When the last of the shards that supersede it was written; for unlisted samples, when the manifest was."""
    header = index.headers[number]
    shards = set(_owners(ids, index))
    paths = [index.headers[shard].path for shard in shards | {number}]
    if number in shards:
        paths.append(header.path.parent.parent / "manifest.csv")
    return max(path.stat().st_mtime for path in paths)


def _spare_what_hides_older_rows(gone: dict[int, list[str]], index: RowIndex) -> None:
    """Keep shards of unlisted samples that have an older row in a shard that stays: it would count again."""
    asked = {sample_id for ids in gone.values() for sample_id in ids}
    stay = {
        sample_id
        for number, header in enumerate(index.headers if asked else ())
        if number not in gone
        for sample_id in asked.intersection(_ids(header))
    }
    own = {n: [i for i, owner in zip(ids, _owners(ids, index), strict=True) if owner == n] for n, ids in gone.items()}
    while hiding := [n for n in gone if not stay.isdisjoint(own[n])]:
        for number in hiding:
            stay.update(gone.pop(number))


def _superseded(number: int, ids: Sequence[str], gone: dict[int, list[str]], index: RowIndex) -> Garbage:
    path = index.headers[number].path
    shards = set(_owners(ids, index))
    if not shards & gone.keys():
        why = f"superseded: newer shards hold all its {len(ids):,} samples"
    elif shards <= gone.keys():
        why = f"none of its {len(ids):,} samples is in the manifest"
    else:
        why = f"its {len(ids):,} samples are in newer shards, or no longer in the manifest"
    relies_on = tuple(sorted(index.headers[shard].path for shard in shards - gone.keys()))
    return Garbage(path=path, nbytes=path.stat().st_size, why=why, relies_on=relies_on)


def _holders_of_lost_rows(
    path: Path, feature: Feature, listed: frozenset[str], unlisted: bool
) -> tuple[Path, ...] | None:
    """The shards that hold again all that a damaged shard held; None if something is missing, or cannot be known.

    Where its header or its ids cannot be read, it could have held any sample: the whole manifest must be there.
    """
    index = feature.index()
    try:
        lost = read_header(path)
        if lost.fingerprint != feature.spec.fingerprint:
            return None  # not damaged but misplaced: there may be no other copy
        digests = dict(zip(read_strings(lost, "ids"), read_strings(lost, "image_digest"), strict=True))
    except DamagedShardError:
        held, newest, digests = sorted(listed), -1, {}
    except FormatError:
        return None  # of a newer release, perhaps
    else:
        digests.update((sample_id, digest) for sample_id, digest, _ in lost.quarantined)
        held, newest = sorted(digests.keys() & listed if unlisted else digests), lost.generation
    owners = [
        -1 if sample_id in index.disputed else owner
        for sample_id, owner in zip(held, index.owners_of(held).tolist(), strict=True)
    ]
    if -1 in owners:
        return None
    older = [i for i, owner in zip(held, owners, strict=True) if index.headers[owner].generation < newest]
    present = index.image_digests() if older else {}
    for sample_id in older:
        made_from = index.quarantined[sample_id][0] if sample_id in index.quarantined else present[sample_id]
        if made_from != digests[sample_id]:
            return None  # an older row, from another picture
    return tuple(sorted({index.headers[owner].path for owner in owners}))


def _check_bytes(path: Path) -> None:
    try:
        intact = is_as_named(path)
    except FileNotFoundError:
        raise FeatstoreError(
            f"{path} went away while garbage was looked for: another command removed it\n"
            f"  what relies on it was kept; run the same command again"
        ) from None
    if not intact:
        raise damaged(path, "its bytes do not match the sha256 in its name; what it supersedes was kept")
