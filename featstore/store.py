"""The store: a folder of datasets, each with its manifest and its features."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ..kit.errors import nearest
from ..kit.table import Cell, Table, shortened, to_html
from .errors import (
    AmbiguousFeatureError,
    FeatstoreError,
    FormatError,
    ManifestError,
    NewerFormatError,
    UnknownDatasetError,
    UnknownFeatureError,
)
from .exchange.bucket import is_url
from .exchange.cached import Cached
from .manifests.checking import ManifestChange, change_of
from .manifests.manifest import Manifest, SealedManifest
from .rows import files
from .rows.counting import Counts, counts_by_index, counts_by_sums
from .rows.feature import (
    Feature,
    FeatureSpec,
    differences,
    is_feature_folder,
    shard_paths,
    valid_name,
    while_shards_change,
)
from .rows.keys import Mark, same_pictures
from .rows.view import Request, View, build_view

FORMAT, FORMAT_VERSION = "cer-store", 1
log = logging.getLogger(__name__)
_COPY = "bring it back with a copy of any other store's store.json, a new one's too: it only says what format this is"
Missing = Literal["error", "drop"]


class Store:
    """Opens an existing store; `Store.create` makes one.

    Parameters
    ----------
    path : Path or str
        The store's folder. Reading needs no write permission.

    Raises
    ------
    FormatError
        If there is no store, or it was written by a newer release.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = _folder_of(path)
        if not (self.path / "store.json").exists():
            if was_here(self.path):
                raise FormatError(_without_store_json(self.path))
            if self.path.is_file():
                raise FormatError(f"no feature store at {self.path}: it is a file, and a store is a folder")
            raise FormatError(
                f"no feature store at {self.path}\n"
                f"  make one with: cer-feat extract --backbone … --data … --store {self.path}, "
                f"or name another with --store or CER_STORE"
            )
        try:
            files.read_document(self.path / "store.json", FORMAT, FORMAT_VERSION)
        except NewerFormatError:
            raise
        except FormatError as error:
            raise FormatError(f"{error}\n  {_COPY}" if was_here(self.path) else str(error)) from None
        self._manifests: dict[str, tuple[object, Manifest]] = {}
        self._features: dict[Path, tuple[object, Feature]] = {}
        self._told: set[str] = set()
        self._cached: Cached | None = None

    @classmethod
    def open(cls, place: Path | str, *, cache: Path | str | None = None) -> Store:
        """Open the store in a folder, or to read one that was pushed to a bucket, such as `s3://bucket/faces`.

        Documents are fetched now, the shards of a feature when they are read, each checked against the digest in its
        name; they stay in the cache, where `path` of the store is, and are verified there chunk by chunk as ever.

        Parameters
        ----------
        place : Path or str
        cache : Path or str, optional
            Where shards are kept; without it the folder that `CER_CACHE` names, else one in the user's own cache.

        Raises
        ------
        FormatError
            As `Store(path)`; or if the store in the bucket is half pushed.
        BucketError
            If the bucket cannot be reached.
        """
        if not is_url(place):
            return cls(place)
        cached = Cached(str(place), cache, kind=FORMAT, version=FORMAT_VERSION)
        store = cls(cached.folder)
        store._cached = cached
        return store

    @classmethod
    def create(cls, path: Path | str) -> Store:
        """Open the store at `path`, making it if there is none; refuses a folder that holds something else."""
        path = _folder_of(path)
        if not (path / "store.json").exists():
            strange = path.is_dir() and not all(files.is_temporary(p.name) for p in path.iterdir())
            if strange and not (path / "store.json").exists():  # another process may have made it meanwhile
                if was_here(path):
                    raise FormatError(_without_store_json(path))
                raise FormatError(f"{path} is neither empty nor a feature store: name a new folder with --store")
            files.make_folder(path)
            files.write_document(path / "store.json", FORMAT, FORMAT_VERSION, {})
        return cls(path)

    def __repr__(self) -> str:
        """Return the place and the names of what is there; no rows are read, and nothing damaged is in the way."""
        try:
            found = shortened(self.datasets()) or "empty"
        except OSError as error:  # a store that went away since
            found = str(error.strerror)
        return f"<Store {self.path}: {found}>"

    def _repr_html_(self) -> str:
        rows = []
        for dataset in self.datasets():
            try:
                count, features = f"{self.size(dataset):,}", self.opened_features(dataset)
                labels = shortened([*(one.label for one in features[0]), *(f"{one} (damaged)" for one in features[1])])
            except (FeatstoreError, OSError) as error:
                count, labels = "?", str(error).partition("\n")[0]
            rows.append((Cell(dataset), Cell(count), Cell(labels or "none yet")))
        header = ("dataset", "samples", "features")
        return to_html(Table(title=f"Store {self.path}", header=header, rows=tuple(rows), notes=()))

    def datasets(self) -> list[str]:
        """Names of the datasets, sorted."""
        return sorted(p.name for p in self.path.iterdir() if valid_name(p.name) and _holds(p, "manifest.csv"))

    def dataset(self, name: str | None = None) -> str:
        """The dataset of that name; for None, the only one there is.

        Raises
        ------
        UnknownDatasetError
            If there is none of that name, or None does not say which.
        """
        known = self.datasets()
        if name is None:
            if len(known) != 1:
                have = f"has {len(known)}: {', '.join(known)}; name one with --data" if known else "has none yet"
                raise UnknownDatasetError(f"which dataset? store {self.path} {have}")
            return known[0]
        if name not in known:
            if lacks_manifest(self.path / name):
                raise FormatError(f"{self.path / name}: {without_manifest_text(name)}")
            raise UnknownDatasetError(f"no dataset {name!r} in store {self.path}; {nearest(name, known)}")
        return name

    def manifest(self, dataset: str | None = None) -> Manifest:
        """The manifest the dataset was last extracted or imported with."""
        name = self.dataset(dataset)
        path = self.path / name / "manifest.csv"
        state = files.state(path, path.with_suffix(".json"))
        known = self._manifests.get(name)  # looked at once: another thread may put a newer one there
        if known is None or known[0] != state:
            known = self._manifests[name] = (state, Manifest.read(path))
        return known[1]

    def sealed_manifest(self, dataset: str) -> SealedManifest | None:
        """The dataset's manifest, to read a part's own samples of; None of a small one, and where there is none yet."""
        return SealedManifest.open(self._folder(dataset) / "manifest.csv")

    def size(self, dataset: str | None = None) -> int:
        """How many samples a dataset has; a large manifest is not read for this."""
        name = self.dataset(dataset)
        sealed = SealedManifest.open(self.path / name / "manifest.csv")
        return len(self.manifest(name)) if sealed is None else len(sealed)

    def counts(self, feature: Feature, dataset: str | None = None) -> Counts:
        """How many samples of a dataset have a row of a feature, and how many stand in quarantine there.

        All ids of the shards are read and verified. Of a large manifest only what is needed is read: nothing if
        the feature is complete.

        Raises
        ------
        DamagedShardError, FormatError, ManifestError
        """
        name = self.dataset(dataset)
        sealed = SealedManifest.open(self.path / name / "manifest.csv")
        if sealed is None:
            ids = self.manifest(name).table.ids
            return Counts(*feature.index(only=ids).counts_of(ids))
        found = while_shards_change(lambda: counts_by_sums(feature.headers(), sealed))
        return counts_by_index(feature.index(), sealed) if found is None else found

    def check_sealed(self, dataset: str, manifest: SealedManifest) -> None:
        """Raise ManifestError if the dataset has another manifest by now."""
        present = self.sealed_manifest(dataset)
        if present is None or present.sidecar != manifest.sidecar:
            raise ManifestError(
                f"the manifest of dataset {dataset!r} of {self.path} was changed since it was opened: run the command "
                "again"
            )

    def manifest_change(self, dataset: str, manifest: Manifest) -> ManifestChange:
        """What it would change to make `manifest` the dataset's."""
        if dataset not in self.datasets():
            return change_of(dataset, None, manifest, made_from=lambda _: {})
        try:
            present = self.manifest(dataset)
        except NewerFormatError:
            raise
        except (FormatError, ManifestError) as error:
            return ManifestChange(
                dataset=dataset, given=manifest.where, before=None, after=len(manifest), unreadable=str(error)
            )
        return change_of(dataset, present, manifest, made_from=lambda ids: self._made_from(dataset, ids))

    def use_manifest(self, dataset: str, manifest: Manifest, *, replace_manifest: bool = True) -> ManifestChange:
        """Make `manifest` the dataset's; rows stay, so a changed label or split costs nothing.

        Parameters
        ----------
        replace_manifest : bool
            False refuses one that looks like another dataset, or like a part of this one (`ManifestChange.check`).
            Of several writers at once each is compared with what the one before it wrote.
        """
        folder = self._folder(dataset)
        files.make_folder(folder)
        with files.alone(folder):
            change = self.manifest_change(dataset, manifest)
            if not replace_manifest:
                change.check()
            manifest.write(folder / "manifest.csv", sealed=True)
        if change.text:
            log.debug("dataset %s: %s samples now; %s", dataset, f"{len(manifest):,}", change.text)
        return change

    def features(self, dataset: str | None = None) -> list[Feature]:
        """All features of a dataset, by name.

        Raises
        ------
        FormatError
            If one of them cannot be opened; `usable_features` gives the others.
        """
        known, unopened = self.opened_features(dataset)
        for error in unopened.values():
            raise error
        return known

    def usable_features(self, dataset: str | None = None) -> list[Feature]:
        """The features of a dataset that can be opened, by name; of each that cannot there is one warning."""
        known, unopened = self.opened_features(dataset)
        for label, error in unopened.items():
            self.tell_once(f"feature {label} is left out: {error}")
        return known

    def tell_once(self, text: str) -> None:
        """Warn of something in the store that is passed over, however often this object comes by it."""
        if text not in self._told:
            self._told.add(text)
            log.warning("%s", text)

    def opened_features(self, dataset: str | None = None) -> tuple[list[Feature], dict[str, FeatstoreError | OSError]]:
        """The features of a dataset that can be opened, by name, and label and fault of those that cannot.

        A fault is a `feature.json` that is damaged, missing beside shards, unreadable, or of a newer release.
        """
        known: list[Feature] = []
        unopened: dict[str, FeatstoreError | OSError] = {}
        for folder in sorted(p for p in (self.path / self.dataset(dataset)).iterdir() if "@" in p.name):
            try:
                if (folder / "feature.json").exists() or (is_feature_folder(folder) and shard_paths(folder)):
                    known.append(self._feature(folder))
            except (FeatstoreError, OSError) as error:
                unopened[folder.name] = error
        return known, unopened

    def feature(self, name: str, dataset: str | None = None) -> Feature:
        """The feature called `manet`, or `manet@3f9c` where several fingerprints of it are there.

        Raises
        ------
        UnknownFeatureError, AmbiguousFeatureError
        """
        dataset = self.dataset(dataset)
        known, unopened = self.opened_features(dataset)
        plain, _, prefix = name.partition("@")
        found = [f for f in known if f.name == plain and f.spec.fingerprint.startswith(prefix)]
        lost = [label for label in unopened if label.startswith(f"{plain}@{prefix[:12]}")]
        if lost and found:
            raise AmbiguousFeatureError(
                f"{name!r} stands for {len(found) + len(lost)} features: "
                f"{', '.join([*(f.label for f in found), *lost])}\n"
                f"  {lost[0]} cannot be opened: {unopened[lost[0]]}\n"
                f"  say which, for instance: {found[0].label}"
            )
        if lost:
            raise unopened[lost[0]]
        if not found:
            names = {f.name for f in known} | {f.label for f in known}
            raise UnknownFeatureError(
                f"no feature {name!r} in dataset {dataset!r} of {self.path}; {nearest(name, names)}"
            )
        if len(found) > 1:
            raise AmbiguousFeatureError(_ambiguous(name, found))
        return found[0]

    def create_feature(self, dataset: str, spec: FeatureSpec) -> Feature:
        """The feature of that identity, its folder made if it is new."""
        made = Feature.create(self._folder(dataset), spec)
        return self._known(made.folder, lambda: made)

    def view(
        self,
        features: Sequence[str],
        *,
        dataset: str | None = None,
        split: str | None = None,
        missing: Missing = "error",
        fingerprints: Mapping[str, str] | None = None,
        mapped: bool = False,
        verify: bool = True,
    ) -> View:
        """Join features on `sample_id`, in manifest order.

        Parameters
        ----------
        features : sequence of str
            `manet`, `manet@3f9c`, or one block of a feature, `manet.local`; blocks come in this order.
        dataset : str, optional
            May be left out when the store has one.
        split : str, optional
            Only samples of this split.
        missing : {"error", "drop"}
            What to do with samples that lack a row in some feature.
        fingerprints : dict of feature name to fingerprint, optional
            Take exactly these, as a saved head names them, whatever else bears the name.
        mapped : bool
            Map rows instead of loading them: opens at once and needs no memory; rows are verified when first touched.
        verify : bool
            Check loaded rows against their digests (the default; turning it off is for measuring what that costs).

        Raises
        ------
        IncompleteError
            If samples lack rows and `missing` is "error"; the message names the first ones.
        UnknownFeatureError, AmbiguousFeatureError, UnknownDatasetError, DamagedShardError, FingerprintError
        """
        if isinstance(features, str) or not features:
            raise FeatstoreError("name the features as a list, for instance ['vit', 'manet']")
        if missing not in ("error", "drop"):
            raise FeatstoreError(f"missing must be 'error' or 'drop', however: {missing!r}")
        dataset = self.dataset(dataset)
        requests = [self._request(name, dataset, fingerprints or {}) for name in features]
        keys = [(r.key, r.block) for r in requests]
        if len(set(keys)) != len(keys) or any((key, None) in keys for key, block in keys if block):
            raise FeatstoreError(f"a block is asked for twice: {', '.join(features)}")
        manifest = self.manifest(dataset).select(split)
        where = str(self.path / dataset)
        return while_shards_change(
            lambda: build_view(
                manifest, requests, drop_missing=missing == "drop", mapped=mapped, verify=verify, where=where
            )
        )

    def shared_pictures(self, feature: str, *, dataset: str | None, splits: tuple[str, str]) -> list[tuple[str, str]]:
        """Pairs of samples, one from each split, whose rows were made from the same picture: a leak.

        Two pictures are the same when their bytes are. Rows that were imported without pictures are not compared.
        """
        manifest = self.manifest(dataset)
        ids, of_each = manifest.table.ids, manifest.table.splits
        known = self.feature(feature.partition(".")[0], dataset).index(only=ids).pictures_of(ids)
        first, second = (np.flatnonzero(of_each.numbered(split.__eq__)) for split in splits)
        ours, theirs = same_pictures(known[:, first], known[:, second] if splits[0] != splits[1] else None)
        named: dict[Mark, str] = {}
        for at, picture in ours:
            named.setdefault(picture, ids[int(first[at])])
        found = [(named[picture], ids[int(second[at])]) for at, picture in theirs if picture in named]
        return [(one, other) for one, other in found if one != other]

    def common_pictures(self, feature: str, datasets: tuple[str, str]) -> list[tuple[str, str]] | None:
        """Pairs of samples, one from each dataset, whose rows of a feature were made from the same picture.

        As `shared_pictures`, across datasets. None where all rows of either dataset were imported without pictures, so
        that nobody can tell.
        """
        indexes = [self.feature(feature, dataset).index() for dataset in datasets]
        pictures = indexes[0].pictures(), indexes[1].pictures()
        if not all(known.any() for known in pictures):
            return None
        ours, theirs = same_pictures(*pictures)
        first, second = (
            index.ids_at([at for at, _ in found]) for index, found in zip(indexes, (ours, theirs), strict=True)
        )
        others: dict[Mark, list[str]] = {}
        for at, picture in theirs:
            others.setdefault(picture, []).append(second[at])
        return [(first[at], other) for at, picture in ours for other in others.get(picture, ())]

    def _made_from(self, dataset: str, ids: Sequence[str]) -> dict[str, str]:
        """Of those samples that have a row of some feature, the digest of the picture that it was made from."""
        found: dict[str, str] = {}
        for feature in self.opened_features(dataset)[0]:
            if feature.spec.is_of_sound:  # its digests are no pictures'
                continue
            with contextlib.suppress(FeatstoreError, OSError):  # a damaged feature says nothing here
                digests = feature.index(only=ids).image_digests().of(ids)
                found.update({one: digest for one, digest in zip(ids, digests, strict=True) if digest})
        return found

    def _feature(self, folder: Path) -> Feature:
        return self._known(folder, lambda: Feature(folder) if self._cached is None else self._cached.feature(folder))

    def _known(self, folder: Path, make: Callable[[], Feature]) -> Feature:
        """The feature that was opened before, which knows its shards, as long as its `feature.json` is the same."""
        state = files.state(folder / "feature.json")
        known = self._features.get(folder)
        if known is None or known[0] != state:
            known = self._features[folder] = (state, make())
        return known[1]

    def _folder(self, dataset: str) -> Path:
        """Of a dataset that is to be written to."""
        if self._cached is not None:
            raise FeatstoreError(
                f"{self._cached.bucket.url} is read through a cache, and nothing is written to it\n"
                f"  take it here with cer-feat pull, write to that store, and push it again"
            )
        if not valid_name(dataset):
            raise FeatstoreError(
                f"dataset name {dataset!r} must be letters, digits, '_' or '-'; name it with --dataset NAME"
            )
        return self.path / dataset

    def _request(self, name: str, dataset: str, fingerprints: Mapping[str, str]) -> Request:
        key, _, block = name.partition(".")
        if key in fingerprints:
            feature = self._exactly(key, fingerprints[key], dataset)
        else:
            feature = self.feature(key, dataset)
        if block and block not in feature.spec.blocks:
            raise UnknownFeatureError(
                f"{feature.label!r} has no block {block!r}; {nearest(block, feature.spec.blocks)}"
            )
        return Request(key=key, feature=feature, block=block or None)

    def _exactly(self, name: str, fingerprint: str, dataset: str) -> Feature:
        known, unopened = self.opened_features(dataset)
        for feature in known:
            if feature.spec.fingerprint == fingerprint:
                return feature
        for label, error in unopened.items():
            if label.endswith(f"@{fingerprint[:12]}"):
                raise error
        plain = name.partition("@")[0]
        there = ", ".join(f.label for f in known if f.name == plain) or "none of that name"
        raise UnknownFeatureError(
            f"dataset {dataset!r} of {self.path} has no {plain}@{fingerprint[:12]}; it has {there}\n"
            f"  extract it with the same weights and options, or train on what is there"
        )


def _folder_of(path: Path | str) -> Path:
    """A store's folder; a bucket is none, and would become a folder called `s3:`."""
    if is_url(path):
        raise FormatError(f"{path} is a bucket, and no folder: read it with Store.open, or take it with cer-feat pull")
    return Path(path)


def lacks_manifest(folder: Path) -> bool:
    """True for a folder with rows whose list of samples is gone."""
    return (
        valid_name(folder.name)
        and folder.is_dir()
        and not _holds(folder, "manifest.csv")
        and any(shard_paths(path) for path in folder.iterdir() if is_feature_folder(path))
    )


def without_manifest_text(name: str) -> str:
    """What to do about such a folder."""
    return (
        "manifest.csv is missing, so its features belong to no dataset: bring it back by running "
        f"cer-feat extract (or import) again with the manifest it was made from and --dataset {name}, or the same pull"
    )


def was_here(path: Path) -> bool:
    """True if a folder has datasets of a store in it: a copy, or a clean-up, may have left its `store.json` out."""
    return path.is_dir() and any(_holds(p, "manifest.csv") and _holds(p, "manifest.json") for p in path.iterdir())


def _without_store_json(path: Path) -> str:
    return f"{path} holds datasets of a feature store, but its store.json is missing: it is not opened\n  {_COPY}"


def _holds(folder: Path, name: str) -> bool:
    """True if a folder holds that file; False for one that we may not look into, such as `lost+found`."""
    try:
        return (folder / name).exists()
    except PermissionError:
        return False


def _ambiguous(name: str, found: Sequence[Feature]) -> str:
    lines = [f"{name!r} stands for {len(found)} features: {', '.join(f.label for f in found)}"]
    for field, a, b in differences(found[0].spec, found[1].spec):
        lines.append(f"  they differ in {field}: {a!r} -> {b!r}")
    lines.append(f"  say which, for instance: {found[0].name}@{found[0].spec.fingerprint[:6]}")
    return "\n".join(lines)
