"""Shards of a store in a bucket, kept in a folder of this machine, where `Store.open` reads them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import FormatError
from ..rows import files
from ..rows.feature import Feature
from ..rows.shard import parse_name
from .bucket import Bucket, Pushed, datasets, half_pushed, read_manifest, read_spec, take_shards

CACHE_FORMAT, CACHE_VERSION = "cer-cache", 1
CACHE = "CER_CACHE"
"""The variable that names the folder in which shards of buckets are kept."""
ORIGIN = "bucket.json"
"""In a cached store: the URL that it is of."""
log = logging.getLogger(__name__)


def cache_folder(cache: Path | str | None = None) -> Path:
    """Where shards of buckets are kept: as said, else what CER_CACHE says, else a folder in the user's cache."""
    if cache is not None or os.environ.get(CACHE):
        return Path(cache if cache is not None else os.environ[CACHE]).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cer-fusion" / "buckets"


@dataclass(frozen=True, kw_only=True)
class CachedStore:
    """What is kept here of a store in a bucket."""

    url: str
    folder: Path
    shards: int
    nbytes: int


def cached_stores(cache: Path | str | None = None) -> list[CachedStore]:
    """What a cache holds, by URL; folders that are none of ours are passed over."""
    found = []
    for origin in sorted(cache_folder(cache).glob(f"*/{ORIGIN}")):
        with contextlib.suppress(FormatError, OSError):
            url = str(files.read_document(origin, CACHE_FORMAT, CACHE_VERSION)["url"])
            shards = [path for path in origin.parent.glob("*/*/*") if parse_name(path.name)]
            nbytes = sum(path.stat().st_size for path in origin.parent.rglob("*") if path.is_file())
            found.append(CachedStore(url=url, folder=origin.parent, shards=len(shards), nbytes=nbytes))
    return sorted(found, key=lambda one: one.url)


class Cached:
    """A store in a bucket as a folder of this machine: its documents now, a feature's shards when they are read.

    The folder is a store like any other, so that every chunk is verified again when it is first touched. It is neither
    emptied nor bounded: `cer-feat cache` lists what is there, and removes it.

    Parameters
    ----------
    url : str
    cache : Path, optional
        See `cache_folder`.
    kind, version : str, int
        What `store.json` must say.

    Raises
    ------
    BucketError, FormatError, DamagedShardError
        If the bucket cannot be reached, holds no store whose push was finished, or one that is damaged.
    """

    def __init__(self, url: str, cache: Path | str | None, *, kind: str, version: int) -> None:
        self.bucket = Bucket(url)
        self._pushed: dict[str, Pushed] = {}
        found = datasets(self.bucket, kind=kind, version=version)
        short = re.sub(r"[^A-Za-z0-9_-]+", "-", self.bucket.url.rpartition("/")[2])[:40]
        digest = hashlib.sha256(self.bucket.url.encode()).hexdigest()[:12]
        self.folder = cache_folder(cache) / f"{short}-{digest}"
        files.make_folder(self.folder)
        if not (self.folder / ORIGIN).exists():
            files.write_document(self.folder / ORIGIN, CACHE_FORMAT, CACHE_VERSION, {"url": self.bucket.url})
        if not (self.folder / "store.json").exists():
            files.write_document(self.folder / "store.json", kind, version, {})
        for dataset, pushed in found.items():
            if pushed is None:
                log.warning("%s is left out: %s", dataset, half_pushed(self.bucket, [dataset]))
            else:
                self._take_documents(dataset, pushed)
                self._pushed[dataset] = pushed
        log.info("%s is read through %s", self.bucket.url, self.folder)

    def feature(self, folder: Path) -> Feature:
        """The feature of a folder in the cache, whose shards come when they are asked for."""
        shards = self._pushed.get(folder.parent.name)
        known = None if shards is None else shards.features.get(folder.name)
        if known is None:
            raise FormatError(f"{self.bucket.url} has no {folder.parent.name}/{folder.name}: {folder} is left over")
        return _CachedFeature(folder, self.bucket, known)

    def _take_documents(self, dataset: str, pushed: Pushed) -> None:
        folder = self.folder / dataset
        kept = folder / "pushed.json"
        data = pushed.to_bytes(str(kept))
        if kept.is_file() and kept.read_bytes() == data:
            return
        manifest = read_manifest(self.bucket, dataset, pushed, root=folder)
        for label in pushed.features:
            if not (folder / label / "feature.json").exists():
                _, spec = read_spec(self.bucket, dataset, label)
                files.make_folder(folder / label)
                files.replace(folder / label / "feature.json", spec)
        files.make_folder(folder)
        with files.alone(folder):
            manifest.write(folder / "manifest.csv", sealed=True)
        files.replace(kept, data)


class _CachedFeature(Feature):
    """A feature whose shards are fetched when somebody asks for them, and are those of one `pushed` document."""

    def __init__(self, folder: Path, bucket: Bucket, shards: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(folder)
        self._bucket, self._shards = bucket, shards

    def shard_names(self) -> list[str]:
        """Names of the shards, all of them here."""
        there = {name: (self.folder / name).stat().st_size for name in super().shard_names()}
        missing = {name: pair for name, pair in self._shards.items() if there.get(name) != pair[0]}
        if missing:
            nbytes = sum(size for size, _ in missing.values())
            log.warning("fetching %d shards of %s (%s bytes) into %s; cer-feat cache lists and removes what is there",
                        len(missing), self.label, f"{nbytes:,}", self.folder)  # fmt: skip
            place = f"{self.folder.parent.name}/{self.folder.name}"
            take_shards(self._bucket, place, missing, self.folder, mend=True)
        return sorted(self._shards)
