"""Looking at every byte: are the shards what was written, and the pictures what was embedded?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from featstore import files, pictures
from featstore.errors import FeatstoreError
from featstore.feature import Feature
from featstore.manifest import Manifest
from featstore.shard import parse_name
from featstore.shard_reader import damaged, read_header, read_segment
from featstore.store import Store


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is not as it should be."""

    where: str
    """File or sample."""
    what: str
    """What is wrong, and what to do."""
    shard: Path | None = None
    """The shard to set aside, if it is one."""


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What `verify` looked at and found."""

    shards: int
    rows: int
    nbytes: int
    pictures: int
    problems: tuple[Problem, ...]
    set_aside: tuple[Path, ...] = ()


def verify(
    store: Store,
    *,
    dataset: str | None = None,
    images: bool = False,
    repair: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> VerifyReport:
    """Check every shard of a store, and on request every source picture.

    Parameters
    ----------
    dataset : str, optional
        Only this dataset.
    images : bool
        Hash the pictures as well and compare with what each row was made from.
    repair : bool
        Rename damaged shards, so that the next `extract` computes their rows again. Nothing is deleted.
    """
    say = progress or (lambda stage, done, total: None)
    problems: list[Problem] = []
    set_aside: list[Path] = []
    shards = rows = nbytes = checked = 0
    for name in store.datasets() if dataset is None else [store.dataset(dataset)]:
        unusable = _manifest_problems(store, name)
        problems += unusable
        looked = _Pictures(store.manifest(name), say) if images and not unusable else None
        for feature in store.features(name):
            paths = feature.shard_paths()
            problems += _strangers(feature)
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
                for done, (path, found) in enumerate(zip(paths, pool.map(_check_shard, paths), strict=True), 1):
                    shards, nbytes = shards + 1, nbytes + path.stat().st_size
                    rows += found if isinstance(found, int) else 0
                    say(feature.label, done, len(paths))
                    if isinstance(found, Problem):
                        problems.append(found)
                        if repair:
                            set_aside.append(files.set_aside(path))
            problems += _disputes(feature)
            if looked is not None:
                problems += looked.problems(feature)
        checked += len(looked.manifest) if looked is not None else 0
    return VerifyReport(
        shards=shards,
        rows=rows,
        nbytes=nbytes,
        pictures=checked,
        problems=tuple(problems),
        set_aside=tuple(set_aside),
    )


def _manifest_problems(store: Store, dataset: str) -> list[Problem]:
    """What is wrong with the list of samples and classes."""
    try:
        store.manifest(dataset)
    except FeatstoreError as error:
        return [Problem(where=str(store.path / dataset / "manifest.csv"), what=str(error))]
    return []


def _check_shard(path: Path) -> int | Problem:
    """Rows of an intact shard, or what is wrong with it."""
    try:
        header = read_header(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        parsed = parse_name(path.name)
        if parsed is None or digest[:32] != parsed[1]:
            raise damaged(path, "its bytes do not match the sha256 in its name")
        if header.index != parsed[0]:
            raise damaged(path, f"it says it is shard {header.index}")
        for name in header.segments:
            read_segment(header, name)  # refuses NaN and Inf too
        Feature(path.parent).own(header)
    except (FeatstoreError, OSError) as error:
        return Problem(where=str(path), what=str(error), shard=path)
    return header.rows


def _disputes(feature: Feature) -> Iterator[Problem]:
    """Samples that have two rows of one generation, made from different pictures."""
    try:
        index = feature.index()
    except FeatstoreError:  # a damaged shard, which is told of already
        return
    for sample_id, claimants in index.disputed.items():
        names = " and ".join(index.headers[number].path.name for number in claimants)
        what = f"{sample_id} stands in {names}, made from different pictures: one was copied here; run extract again"
        yield Problem(where=str(feature.folder), what=what)


def _strangers(feature: Feature) -> Iterator[Problem]:
    for path in sorted(feature.folder.iterdir()):
        if path.name in {"feature.json", "quarantine.csv"} or parse_name(path.name):
            continue
        what = (
            "what a killed run left; cer-feat gc --delete removes it, and so does the next extract, after an hour"
            if path.name.startswith(".tmp-")
            else "not a file of the store"
        )
        if path.name.startswith("damaged-"):
            what = "set aside by an earlier --repair; cer-feat gc --delete removes it once its rows are back"
        yield Problem(where=str(path), what=what)


class _Pictures:
    """The pictures of a dataset, hashed once for all its features."""

    def __init__(self, manifest: Manifest, progress: Callable[[str, int, int], None]) -> None:
        self.manifest = manifest
        done = 0

        def step(count: int) -> None:
            nonlocal done
            done += count
            progress("pictures", done, len(manifest))

        self.digests, self.failed = pictures.digests(manifest, workers=min(8, os.cpu_count() or 1), progress=step)

    def problems(self, feature: Feature) -> list[Problem]:
        """What is wrong with the pictures that a feature's rows were made from."""
        try:
            stored = feature.index().image_digests()
        except FeatstoreError:
            what = "its pictures were not compared: its shards must be mended first (--repair)"
            return [Problem(where=str(feature.folder), what=what)]
        found = []
        for sample, digest in zip(self.manifest.samples, self.digests, strict=True):
            made_from = stored.get(sample.sample_id)
            if made_from and sample.sample_id in self.failed:
                what = f"{sample.sample_id}: picture {self.failed[sample.sample_id]}"
                found.append(Problem(where=sample.path, what=what))
            elif made_from and digest != made_from:
                what = f"{sample.sample_id}: its bytes changed since {feature.label} was made; run extract again"
                found.append(Problem(where=sample.path, what=what))
        return found
