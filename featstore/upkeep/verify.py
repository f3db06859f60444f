"""Looking at every byte: are the shards what was written, and the pictures what was embedded?"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from ...kit.documents import parse_json
from ...kit.files import read_plain_file
from ..errors import FeatstoreError, FingerprintError, FormatError, NewerFormatError
from ..extraction.plan import Counted
from ..manifests.manifest import Manifest
from ..pictures import pictures
from ..pictures.pictures import Source
from ..rows import files
from ..rows.feature import Feature, FeatureSpec, is_feature_folder, shard_paths
from ..rows.shard import damaged, is_as_named, parse_name, read_header, read_segment
from ..store import Store, lacks_manifest, without_manifest_text


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
    """Damaged shards, under their new names."""
    not_compared: tuple[str, ...] = ()
    """Features of sound, where their sound was asked for and nobody said where it is."""
    mended: tuple[Path, ...] = ()
    """`feature.json` files that were written anew; the damaged ones are beside them."""


def verify(
    store: Store,
    *,
    dataset: str | None = None,
    images: bool = False,
    repair: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
    sound: Callable[[Manifest], Source] | None = None,
) -> VerifyReport:
    """Check every shard of a store, and on request every source picture.

    Parameters
    ----------
    dataset : str, optional
        Only this dataset.
    images : bool
        Hash the pictures as well and compare with what each row was made from.
    repair : bool
        Rename damaged shards, so that the next `extract` computes their rows again, and write a damaged `feature.json`
        anew where what it said is known for certain. Nothing is deleted. What could not be read, and what a newer
        release wrote, is told and left alone.
    sound : callable, optional
        Gives what reads the sound around a manifest's frames, with `images`: features of sound are compared with that.
    """
    looking = _Looking(store, repair=repair, say=progress or (lambda stage, done, total: None))
    checked, not_compared = 0, list[str]()
    for name in store.datasets() if dataset is None else [store.dataset(dataset)]:
        manifest = looking.manifest(name)
        looked = _Pictures(manifest, looking.say) if images and manifest is not None else None
        heard: _Pictures | None = None
        for folder in looking.folders(store.path / name):
            feature = looking.feature(folder)
            looking.shards(folder, feature)
            if feature is not None:
                looking.problems += _disputes(feature)
                if looked is None:
                    continue
                if not feature.spec.is_of_sound:
                    looking.problems += looked.problems(feature)
                elif sound is None:
                    not_compared.append(f"{name}/{feature.label}")
                else:
                    heard = heard or _Pictures(looked.manifest, looking.say, sound(looked.manifest))
                    looking.problems += heard.problems(feature)
        checked += len(looked.manifest) if looked is not None else 0
    if dataset is None:
        looking.problems += _without_manifest(store)
    return VerifyReport(
        shards=looking.count,
        rows=looking.rows,
        nbytes=looking.nbytes,
        pictures=checked,
        problems=tuple(looking.problems),
        not_compared=tuple(not_compared),
        set_aside=tuple(looking.set_aside),
        mended=tuple(looking.mended),
    )


class _Looking:
    """Goes through a store, and keeps what it found."""

    def __init__(self, store: Store, *, repair: bool, say: Callable[[str, int, int], None]) -> None:
        self._store, self._repair, self.say = store, repair, say
        self.problems: list[Problem] = []
        self.set_aside: list[Path] = []
        self.mended: list[Path] = []
        self.count = self.rows = self.nbytes = 0

    def manifest(self, dataset: str) -> Manifest | None:
        """The list of samples and classes, if nothing is wrong with it."""
        try:
            return self._store.manifest(dataset)
        except (FeatstoreError, OSError) as error:
            self.problems.append(_problem(self._store.path / dataset / "manifest.csv", error))
            return None

    def folders(self, dataset: Path) -> list[Path]:
        """The folders of a dataset that are features, or were."""
        try:
            found = sorted(path for path in dataset.iterdir() if "@" in path.name and path.is_dir())
            return [path for path in found if (path / "feature.json").exists() or is_feature_folder(path)]
        except OSError as error:
            self.problems.append(_problem(dataset, error))
            return []

    def feature(self, folder: Path) -> Feature | None:
        """The feature, its `feature.json` written anew if need be and it can; None if it cannot be opened."""
        path = folder / "feature.json"
        try:
            if not path.exists() and not shard_paths(folder):
                return None  # a run that was killed had only made the folder
            self.problems += _strangers(folder)
            return Feature(folder)
        except (NewerFormatError, OSError) as error:
            self.problems.append(_problem(path, error))
            return None
        except FeatstoreError as error:
            known = _known_spec(folder, self._store)
            if known is None:
                what = (
                    f"{str(error).partition(chr(10))[0]}\n"
                    f"  nothing in the store says what it said: run the same cer-feat extract (or import) again, which "
                    f"writes it anew; its rows stay, and other features are not affected"
                )
                self.problems.append(Problem(where=str(path), what=what))
                return None
            self.problems.append(_problem(path, error))
            if not self._repair:
                return None
            feature = Feature.write_anew(folder, known)
            self.mended.append(path)
            return feature

    def shards(self, folder: Path, feature: Feature | None) -> None:
        """Check every byte of a feature's shards; damaged ones are set aside if that was asked for."""
        try:
            paths = shard_paths(folder)
        except OSError as error:
            self.problems.append(_problem(folder, error))
            return
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for done, found in enumerate(pool.map(lambda path: _check_shard(path, feature), paths), 1):
                self.say(folder.name, done, len(paths))
                if found is None:
                    continue
                self.count += 1
                self.rows, self.nbytes = self.rows + found.rows, self.nbytes + found.nbytes
                if found.problem is not None:
                    self.problems.append(found.problem)
                    aside = files.set_aside(found.problem.shard) if self._repair and found.problem.shard else None
                    self.set_aside += [aside] if aside is not None else []


def _problem(path: Path, error: Exception) -> Problem:
    """What is wrong with a file that is none of the shards; one that could not be read may be sound."""
    return Problem(where=str(path), what=_unread(error) if isinstance(error, OSError) else str(error))


def _unread(error: OSError) -> str:
    return (
        f"could not be read just now: {error.strerror or error}; nothing was changed, and it may be sound\n"
        f"  look at the disk or its server, and at the permissions, then run cer-feat verify again"
    )


def _without_manifest(store: Store) -> Iterator[Problem]:
    """Folders with rows whose list of samples is gone."""
    for folder in sorted(store.path.iterdir()):
        try:
            if lacks_manifest(folder):
                yield Problem(where=str(folder), what=without_manifest_text(folder.name))
        except OSError as error:
            yield _problem(folder, error)


def _known_spec(folder: Path, store: Store) -> FeatureSpec | None:
    """What a damaged `feature.json` must have said, if that is certain.

    Its own fields are right if they give the fingerprint in the folder's name and in the shards' headers (only the
    description, which no fingerprint covers, is then left out); so is the file of the same feature in another dataset.
    """
    name, _, digits = folder.name.rpartition("@")
    if not is_feature_folder(folder):
        return None
    in_shards = set()
    for path in shard_paths(folder):
        with contextlib.suppress(FeatstoreError, OSError):
            in_shards.add(read_header(path).fingerprint)
    for spec in (_same_feature(folder, store), _own_fields(folder / "feature.json", name)):
        if spec is None or not spec.fingerprint.startswith(digits):
            continue
        if not in_shards or spec.fingerprint in in_shards:
            return replace(spec, name=name)
    return None


def _same_feature(folder: Path, store: Store) -> FeatureSpec | None:
    """The feature of that fingerprint in another dataset, or under another name, if there is one to be opened."""
    _, _, digits = folder.name.rpartition("@")
    for other in sorted(store.path.glob(f"*/*@{digits}/feature.json")):
        if other.parent != folder:
            with contextlib.suppress(FeatstoreError, OSError):
                return Feature(other.parent).spec
    return None


def _own_fields(path: Path, name: str) -> FeatureSpec | None:
    """The identity that a file still says, whatever its digest; whether it is the right one is for the caller."""
    try:
        body = parse_json(
            read_plain_file(path, most_bytes=files.MAX_DOCUMENT_BYTES), where=str(path), error=FormatError
        )
        return FeatureSpec(
            name=name, identity=body["identity"], blocks=dict(body["blocks"]), dtype=body["dtype"], described={}
        )
    except (FeatstoreError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None


@dataclass(frozen=True, kw_only=True)
class _Looked:
    """What a shard is like."""

    nbytes: int
    rows: int = 0
    problem: Problem | None = None


def _check_shard(path: Path, feature: Feature | None) -> _Looked | None:
    """Rows of an intact shard, or what is wrong with it; None if it is gone, for another command may have removed it.

    Only one whose bytes do not match a digest, or that belongs elsewhere, is named as a shard to set aside.
    """
    nbytes = 0
    try:
        nbytes = path.stat().st_size
        rows = _intact_rows(path, feature)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _Looked(nbytes=nbytes, problem=_problem(path, error))
    except NewerFormatError as error:
        return _Looked(nbytes=nbytes, problem=Problem(where=str(path), what=f"{error}\n  it was left alone"))
    except FeatstoreError as error:
        return _Looked(nbytes=nbytes, problem=Problem(where=str(path), what=str(error), shard=path))
    return _Looked(nbytes=nbytes, rows=rows)


def _intact_rows(path: Path, feature: Feature | None) -> int:
    """Number of rows of a shard; raises for whatever is wrong with it. Without a feature the folder's name counts."""
    fault: FeatstoreError | None = None
    try:
        read_header(path)
    except NewerFormatError:
        raise
    except FeatstoreError as error:
        fault = error
    if fault is not None and path.exists() and not path.is_file():
        raise fault
    if not (is_as_named(path) or is_as_named(path)):  # twice: a read that falls short is no damage
        raise fault or damaged(path, "its bytes do not match the sha256 in its name")
    header = read_header(path)
    for name in header.segments:
        read_segment(header, name)  # refuses NaN and Inf too
    if (named := parse_name(path.name)) is None or header.index != named[0]:
        raise damaged(path, f"it says it is shard {header.index}")
    if feature is not None:
        feature.own(header)
    elif not header.fingerprint.startswith(path.parent.name.rpartition("@")[2]):
        raise FingerprintError(
            f"shard {path.name} belongs to another feature, {header.fingerprint[:12]}\n  in folder: {path.parent}"
        )
    return header.rows


def _disputes(feature: Feature) -> Iterator[Problem]:
    """Samples that have two rows of one generation, made from different pictures."""
    try:
        index = feature.index()
    except (FeatstoreError, OSError):  # a shard that is damaged or cannot be read, which is told of already
        return
    for sample_id, claimants in index.disputed.items():
        names = " and ".join(index.headers[number].path.name for number in claimants)
        what = f"{sample_id} stands in {names}, made from different pictures: one was copied here; run extract again"
        yield Problem(where=str(feature.folder), what=what)


def _strangers(folder: Path) -> Iterator[Problem]:
    for path in sorted(folder.iterdir()):
        ours = path.name == "feature.json" or (path.name == "quarantine.csv" and path.is_file())
        if ours or parse_name(path.name) or path.name.startswith(".nfs"):  # NFS: removed, and open on this machine
            continue
        what = (
            "what a killed run left; cer-feat gc --delete removes it, and so does the next extract, after an hour"
            if path.name.startswith(".tmp-")
            else "not a file of the store"
        )
        if path.name.startswith("damaged-"):
            what = "set aside by an earlier --repair; cer-feat gc --delete removes it once another is in its place"
        yield Problem(where=str(path), what=what)


class _Pictures:
    """The pictures of a dataset, or the sound around its frames, hashed once for all its features."""

    def __init__(
        self, manifest: Manifest, progress: Callable[[str, int, int], None], source: Source | None = None
    ) -> None:
        self.manifest = manifest
        self._thing = "picture" if source is None else "sound"
        step = Counted(progress, "pictures" if source is None else "sound", len(manifest))
        self.digests, self.failed = pictures.digests(
            manifest, workers=min(8, os.cpu_count() or 1), progress=step, source=source
        )

    def problems(self, feature: Feature) -> list[Problem]:
        """What is wrong with the pictures that a feature's rows were made from."""
        try:
            stored = feature.index().image_digests().of(self.manifest.ids)
        except (FeatstoreError, OSError):
            what = "its pictures were not compared: its shards must be mended first (--repair)"
            return [Problem(where=str(feature.folder), what=what)]
        found = []
        for sample, digest, made_from in zip(self.manifest.samples, self.digests, stored, strict=True):
            if made_from and sample.sample_id in self.failed:
                what = f"{sample.sample_id}: {self._thing} {self.failed[sample.sample_id]}"
                found.append(Problem(where=sample.path, what=what))
            elif made_from and digest != made_from:
                what = f"{sample.sample_id}: its bytes changed since {feature.label} was made; run extract again"
                found.append(Problem(where=sample.path, what=what))
        return found
