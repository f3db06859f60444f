"""Stores put into a bucket and taken from one: shards first, documents last; nothing is replaced, nothing removed.

A push can be interrupted and begun again: a name that is there holds the bytes whose digest it names. Pushes of several
at once add up, for the document that each writes follows the one that it has read (`bucket.Pushed`), and where another
took that number first it looks again. Who would say something else of a sample than the bucket does is refused before
a byte leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...kit.errors import listing, nearest
from ..errors import (
    AmbiguousFeatureError,
    BucketError,
    FormatError,
    UnknownDatasetError,
    UnknownFeatureError,
)
from ..manifests.manifest import Manifest
from ..manifests.targets import columns_told
from ..rows.feature import Feature
from ..rows.shard import damaged, parse_name
from ..store import FORMAT, FORMAT_VERSION, Store
from .agreement import Shards, Standing, apart, check_pictures, manifest_files, standing_of
from .bucket import (
    Bucket,
    Progress,
    Pushed,
    datasets,
    half_pushed,
    in_threads,
    is_ours,
    last_pushed,
    read_manifest,
    read_spec,
    take_shards,
)

_ATTEMPTS = 50
"""How often the next number may be taken by another before a push gives up."""
_INSIDE = ("labels", "splits", "groups")


@dataclass(frozen=True, kw_only=True)
class DatasetPush:
    """What a push makes of one dataset."""

    dataset: str
    """Its name."""
    samples: int
    """Of the manifest here."""
    features: Mapping[str, Shards]
    """`manet@3f9c1a2b77d0` to its shards here: file name to bytes and rows."""
    to_send: Mapping[str, tuple[str, ...]]
    """Of these, the shards that are not in the bucket."""
    inside: tuple[str, ...]
    """Which of labels, splits and groups any sample of the manifest has, and what columns of numbers are there."""
    origin: bool
    """Whether the manifest says what its pictures were made from, videos by their names for instance."""
    manifest_files: Mapping[str, bytes] = field(repr=False)
    """File name to bytes."""
    manifest_folder: str
    """Where these go in the bucket; their digest names it."""
    standing: Standing
    """Of the manifest here to that in the bucket."""
    next: Pushed | None = field(repr=False)
    """The document that is to be put; None if the one that is there says all this already."""
    tells_of: tuple[str, ...]
    """Folders of this machine that the manifest, a feature's document, or a shard's reasons name."""

    @property
    def sends_manifest(self) -> bool:
        """Whether the manifest here becomes that in the bucket."""
        return self.next is not None and self.next.manifests[-1] == self.manifest_folder


@dataclass(frozen=True, kw_only=True)
class PushPlan:
    """What a push would send; nothing has left the machine yet but questions for what is there."""

    url: str
    replace_manifest: bool
    """Whether the manifest here may take the place of another in the bucket."""
    datasets: tuple[DatasetPush, ...]
    shards: int
    """To be sent."""
    rows: int
    nbytes: int
    """Of these shards."""
    already: int
    """Shards that are in the bucket."""
    documents: tuple[str, ...]
    """Objects beside the shards that are to be put, by name."""
    document_bytes: int
    """Of these documents."""

    @property
    def is_empty(self) -> bool:
        """Whether all of it is there."""
        return not self.shards and not self.documents


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What a push or a pull did."""

    url: str
    datasets: tuple[str, ...]
    features: tuple[str, ...]
    """`faces/manet@3f9c1a2b77d0`."""
    shards: int
    """Sent or taken now."""
    rows: int
    nbytes: int
    """Of these shards."""
    already: int
    """Shards that were there."""

    @classmethod
    def of(cls, plan: PushPlan | PullPlan) -> Transfer:
        """What a plan that was carried out came to."""
        return cls(
            url=plan.url,
            datasets=tuple(one.dataset for one in plan.datasets),
            features=tuple(f"{one.dataset}/{label}" for one in plan.datasets for label in one.features),
            shards=plan.shards,
            rows=plan.rows,
            nbytes=plan.nbytes,
            already=plan.already,
        )


def plan_push(
    store: Store,
    url: str,
    *,
    dataset: str | None = None,
    features: Sequence[str] = (),
    replace_manifest: bool = False,
) -> PushPlan:
    """Look at a store and a bucket, and say what a push would send; nothing is sent.

    Parameters
    ----------
    store : Store
    url : str
        See `bucket.Bucket`.
    dataset : str, optional
        Only this one.
    features : sequence of str
        Only these, as `Store.feature` takes them; all of each dataset if none is named.
    replace_manifest : bool
        Let the manifest here take the place of one in the bucket that says something else of a sample, or has more of
        them; without, one that has more stays.

    Raises
    ------
    ManifestError
        If the two manifests say different things, and `replace_manifest` is false.
    FormatError
        If samples of both have rows that were made from different pictures; if the place holds something else.
    UnknownFeatureError, UnknownDatasetError, BucketError
    """
    names = [store.dataset(dataset)] if dataset is not None else store.datasets()
    if not names:
        raise UnknownDatasetError(f"store {store.path} has no dataset yet: there is nothing to push")
    return _Pushing(store, Bucket(url), replace_manifest).plan(names, features)


def push(store: Store, plan: PushPlan, *, progress: Progress | None = None) -> Transfer:
    """Put what was planned into the bucket: shards, then documents, last those that say that all of it is there.

    Parameters
    ----------
    store : Store
    plan : PushPlan
        Of this store, by `plan_push`. What others have put there since is kept, and joined with it or refused.
    progress : callable (feature, done, total), optional

    Raises
    ------
    DamagedShardError
        If a shard here is not what its name says: it is not sent.
    BucketError
        If the bucket cannot be reached; another push goes on where this one ended.
    ManifestError, FormatError
        As `plan_push`, if another push has come between.
    """
    sizes = [pair[0] for one in plan.datasets for shards in one.features.values() for pair in shards.values()]
    pushing = _Pushing(store, Bucket(plan.url, largest=max(sizes, default=0)), plan.replace_manifest)
    for one in plan.datasets:
        for label in one.features:
            pushing.send_shards(one, label, progress)
    for one in plan.datasets:
        pushing.send_documents(one)
    pushing.bucket.check_creates("store.json", (store.path / "store.json").read_bytes())
    for one in plan.datasets:
        pushing.commit(one)
    return Transfer.of(plan)


class _Pushing:
    """A store and a bucket that it is put into."""

    def __init__(self, store: Store, bucket: Bucket, replace_manifest: bool) -> None:
        self.store, self.bucket, self.replace_manifest = store, bucket, replace_manifest

    def plan(self, datasets: Sequence[str], features: Sequence[str]) -> PushPlan:
        there = self.bucket.names()
        strange = [name for name in there if not is_ours(name)]
        if strange and "store.json" not in there:
            raise FormatError(
                f"{self.bucket.url} holds something else than a feature store ({listing(strange)})\n"
                f"  name a folder of its own in the bucket: {self.bucket.url}/features"
            )
        if "store.json" in there:
            self.bucket.document("store.json", there["store.json"], kind=FORMAT, version=FORMAT_VERSION)
        found = tuple(self._dataset(name, features, there) for name in datasets)
        wanted = [pair for one in found for label, names in one.to_send.items()
                  for pair in (one.features[label][name] for name in names)]  # fmt: skip
        put: dict[str, int] = {}
        for one in found:
            for file, data in one.manifest_files.items() if one.sends_manifest else ():
                put[f"{one.dataset}/{one.manifest_folder}/{file}"] = len(data)
            for label in one.features:
                place = f"{one.dataset}/{label}/feature.json"
                put[place] = (self.store.path / place).stat().st_size
            if one.next is not None:
                put[f"{one.dataset}/{one.next.name}"] = len(one.next.to_bytes(one.dataset))
        put["store.json"] = (self.store.path / "store.json").stat().st_size
        left = {name: nbytes for name, nbytes in put.items() if name not in there}
        return PushPlan(
            url=self.bucket.url,
            replace_manifest=self.replace_manifest,
            datasets=found,
            shards=len(wanted),
            rows=sum(rows for _, rows in wanted),
            nbytes=sum(nbytes for nbytes, _ in wanted),
            document_bytes=sum(left.values()),
            already=sum(len(shards) for one in found for shards in one.features.values()) - len(wanted),
            documents=tuple(left),
        )

    def _dataset(self, dataset: str, named: Sequence[str], there: Mapping[str, int]) -> DatasetPush:
        manifest = self.store.manifest(dataset)
        files_here, folder = manifest_files(manifest)
        chosen = [self.store.feature(name, dataset) for name in named] if named else self.store.features(dataset)
        features = {feature.label: _shards(feature) for feature in chosen}
        prefix = f"{dataset}/"
        objects = {
            n.removeprefix(prefix): size for n, size in there.items() if n.startswith(prefix) and n.count("/") == 1
        }
        last = last_pushed(self.bucket, dataset, objects)
        to_send = {}
        for label, shards in features.items():
            for name, (nbytes, _) in shards.items():
                size = there.get(f"{dataset}/{label}/{name}", nbytes)
                if size != nbytes:
                    raise FormatError(
                        f"{self.bucket.url}/{dataset}/{label}/{name} has {size:,} bytes, expected {nbytes:,}: it is "
                        f"damaged\n  remove that object by hand (no command here removes any), then run this again"
                    )
            to_send[label] = tuple(name for name in shards if f"{dataset}/{label}/{name}" not in there)
            known = {} if last is None else last.features.get(label, {})
            for name in shards.keys() - set(to_send[label]) - set(known) if self.bucket.may_tear else ():
                _, digest = parse_name(name) or (0, "")
                self.bucket.read_verified(f"{dataset}/{label}/{name}", shards[name][0], digest)
            if f"{dataset}/{label}/feature.json" in there:
                self._check_same_feature(dataset, label)
        one = DatasetPush(
            dataset=dataset,
            samples=len(manifest),
            features=features,
            to_send=to_send,
            inside=(
                *(word for word in _INSIDE if any(getattr(manifest.table, word))),
                *columns_told(manifest.table.further),
            ),
            origin=bool(manifest.origin),
            manifest_files=files_here,
            manifest_folder=folder,
            standing="same",
            next=None,
            tells_of=self._folders_named(manifest, files_here, chosen),
        )
        return self._beside(one, manifest, last)

    def _folders_named(
        self, manifest: Manifest, files_here: Mapping[str, bytes], features: Sequence[Feature]
    ) -> tuple[str, ...]:
        """Which folders of this machine what is sent names: that of the pictures, the store's, the user's."""
        folders = {str(path.absolute()) for path in (manifest.root, self.store.path, Path.home())} - {"/"}
        texts = [*files_here.values(), *((feature.folder / "feature.json").read_bytes() for feature in features)]
        reasons = "\n".join(entry[2] for feature in features for h in feature.headers() for entry in h.quarantined)
        texts.append(reasons.encode("utf-8", "backslashreplace"))
        return tuple(sorted(folder for folder in folders if any(folder.encode() in text for text in texts)))

    def _beside(self, one: DatasetPush, manifest: Manifest, last: Pushed | None) -> DatasetPush:
        """The dataset with the document that follows the last one in the bucket."""
        standing: Standing = "ahead"
        manifests: tuple[str, ...] = (one.manifest_folder,)
        features: dict[str, Shards] = dict(one.features)
        if last is not None:
            if last.manifests[-1] == one.manifest_folder:
                standing = "same"
            elif one.manifest_folder in last.manifests and not self.replace_manifest:
                standing = "behind"
            else:
                theirs = read_manifest(self.bucket, one.dataset, last, root=manifest.root)
                standing, text = standing_of(one.dataset, manifest, theirs)
                if standing == "apart" and not self.replace_manifest:
                    raise apart(one.dataset, f"here {len(manifest):,} samples", theirs, text)
            forward = standing == "ahead" or (standing != "same" and self.replace_manifest)
            manifests = (*last.manifests, one.manifest_folder) if forward else last.manifests
            for label in one.features:
                known = last.features.get(label, {})
                check_pictures(self.bucket, one.dataset, self.store.feature(label, one.dataset), known)
            features = {
                label: {**last.features.get(label, {}), **one.features.get(label, {})}
                for label in [*last.features, *(label for label in one.features if label not in last.features)]
            }
        forward = last is None or manifests != last.manifests
        said = {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in one.manifest_files.items()}
        following = Pushed(
            number=1 if last is None else last.number + 1,
            samples=one.samples if last is None or forward else last.samples,
            manifests=manifests,
            files=said if last is None or forward else last.files,
            features={label: dict(sorted(shards.items())) for label, shards in sorted(features.items())},
        )
        unchanged = last is not None and replace(following, number=last.number) == last
        return replace(one, standing=standing, next=None if unchanged else following)

    def _check_same_feature(self, dataset: str, label: str) -> None:
        spec, _ = read_spec(self.bucket, dataset, label)
        mine = self.store.feature(label, dataset).spec
        if spec.fingerprint != mine.fingerprint:
            raise FormatError(
                f"{self.bucket.url}/{dataset}/{label} is another feature, whose fingerprint begins alike: "
                f"{spec.fingerprint}, however here: {mine.fingerprint}"
            )

    def send_shards(self, one: DatasetPush, label: str, progress: Progress | None) -> None:
        """Put the shards of one feature that are not there, each checked against its name first."""
        folder = self.store.path / one.dataset / label

        def send(name: str) -> None:
            named = parse_name(name)
            try:
                data = (folder / name).read_bytes()
            except FileNotFoundError:
                raise BucketError(
                    f"shard {name} went away while it was to be sent: its rows were compacted\n  in folder: {folder}\n"
                    f"  run the same command again"
                ) from None
            if named is None or not hashlib.sha256(data).hexdigest().startswith(named[1]):
                raise damaged(folder / name, "its bytes do not match the sha256 in its name, and it was not sent")
            self.bucket.put_new(f"{one.dataset}/{label}/{name}", data)

        for done in in_threads(send, one.to_send[label]):
            if progress is not None:
                progress(label, done, len(one.to_send[label]))

    def send_documents(self, one: DatasetPush) -> None:
        """Put what says what the features are."""
        for label in one.features:
            name = f"{one.dataset}/{label}/feature.json"
            if not self.bucket.put_new(name, (self.store.path / name).read_bytes()):
                self._check_same_feature(one.dataset, label)  # another's may have come meanwhile

    def commit(self, one: DatasetPush) -> None:
        """Put the manifest, and the document that says that all of it is there; after another's, if one was faster."""
        manifest = self.store.manifest(one.dataset)
        for _ in range(_ATTEMPTS):
            if one.next is None:
                return
            for file, data in one.manifest_files.items() if one.sends_manifest else ():
                self.bucket.put_new(f"{one.dataset}/{one.manifest_folder}/{file}", data)
            name = f"{one.dataset}/{one.next.name}"
            if self.bucket.put_new(name, one.next.to_bytes(name)):
                return
            _, objects = self.bucket.directly_in(one.dataset)
            one = self._beside(one, manifest, last_pushed(self.bucket, one.dataset, objects))
        raise BucketError(f"{self.bucket.url} is being pushed to by others all the time: run the same command again")


@dataclass(frozen=True, kw_only=True)
class DatasetPull:
    """What a pull makes of one dataset."""

    dataset: str
    """Its name."""
    manifest: Manifest | None = field(repr=False)
    """What is to become the one here; None if that stays."""
    features: Mapping[str, Shards]
    """Chosen, `manet@3f9c1a2b77d0` to its shards: file name to bytes and rows."""
    to_take: Mapping[str, tuple[str, ...]]
    """Of these, the shards that are not here."""


@dataclass(frozen=True, kw_only=True)
class PullPlan:
    """What a pull would take; nothing was written yet."""

    url: str
    datasets: tuple[DatasetPull, ...]
    shards: int
    """To be taken."""
    rows: int
    nbytes: int
    already: int


def plan_pull(
    store: Path | str,
    url: str,
    *,
    dataset: str | None = None,
    features: Sequence[str] = (),
    root: Path | str | None = None,
    replace_manifest: bool = False,
) -> PullPlan:
    """Look at a bucket and a store that it is taken into, which need not be there yet, and say what a pull would take.

    Parameters
    ----------
    store : Path
    url : str
        See `bucket.Bucket`.
    dataset : str, optional
        Only this one.
    features : sequence of str
        Only these, by name or `name@fingerprint`; all of each dataset if none is named.
    root : Path, optional
        Where the pictures are here, which are in no bucket; without it where they are for the dataset here, else the
        dataset's folder.
    replace_manifest : bool
        Let the manifest in the bucket take the place of one here that says something else of a sample, or has more of
        them; without, one that has more stays.

    Raises
    ------
    FormatError
        If the store in the bucket is half pushed, damaged, or of another version; if samples of both have rows that
        were made from different pictures.
    ManifestError, UnknownDatasetError, UnknownFeatureError, AmbiguousFeatureError, BucketError
    """
    store = Path(store)
    root = None if root is None else Path(root)
    bucket = Bucket(url)
    found = datasets(bucket, kind=FORMAT, version=FORMAT_VERSION)
    if dataset is not None and dataset not in found:
        raise UnknownDatasetError(f"no dataset {dataset!r} in {bucket.url}; {nearest(dataset, set(found))}")
    names = sorted(found) if dataset is None else [dataset]
    here = Store(store) if (store / "store.json").exists() else None
    chosen = []
    for name in names:
        pushed = found[name]
        if pushed is None:
            raise half_pushed(bucket, [name])
        chosen.append(_pull_of(bucket, here, store, name, pushed, features, root, replace_manifest))
    wanted = [one.features[label][name] for one in chosen for label in one.features for name in one.to_take[label]]
    return PullPlan(
        url=bucket.url,
        datasets=tuple(chosen),
        shards=len(wanted),
        rows=sum(rows for _, rows in wanted),
        nbytes=sum(nbytes for nbytes, _ in wanted),
        already=sum(len(shards) for one in chosen for shards in one.features.values()) - len(wanted),
    )


def _pull_of(
    bucket: Bucket,
    here: Store | None,
    folder: Path,
    dataset: str,
    pushed: Pushed,
    features: Sequence[str],
    root: Path | None,
    replace_manifest: bool,
) -> DatasetPull:
    known = here is not None and dataset in here.datasets()
    mine = here.manifest(dataset) if here is not None and known else None
    at = root if root is not None else mine.root if mine is not None else folder / dataset
    theirs = read_manifest(bucket, dataset, pushed, root=at)
    manifest: Manifest | None = theirs
    if mine is not None:
        standing, text = standing_of(dataset, mine, theirs)
        name = manifest_files(mine)[1]
        if name in pushed.manifests:  # one of the bucket's own
            standing = "same" if name == pushed.manifests[-1] else "behind"
        if standing == "apart" and not replace_manifest:
            raise apart(dataset, f"in store {folder} {len(mine):,} samples", theirs, text)
        if standing == "same" or (standing == "ahead" and not replace_manifest):
            manifest = None if root is None else replace(mine, root=at)
    chosen = {label: pushed.features[label] for label in _labels(pushed, features, dataset, bucket)}
    for label, shards in chosen.items():
        if here is not None and (folder / dataset / label / "feature.json").exists():
            check_pictures(bucket, dataset, Feature(folder / dataset / label), shards)
    to_take = {
        label: tuple(name for name in shards if not (folder / dataset / label / name).exists())
        for label, shards in chosen.items()
    }
    return DatasetPull(dataset=dataset, manifest=manifest, features=chosen, to_take=to_take)


def _labels(pushed: Pushed, features: Sequence[str], dataset: str, bucket: Bucket) -> list[str]:
    """The features of a dataset that are named, by their folders."""
    if not features:
        return list(pushed.features)
    chosen = []
    for name in features:
        plain, _, digits = name.partition("@")
        found = [label for label in pushed.features if label.startswith(f"{plain}@{digits[:12]}")]
        if not found:
            names = {label.partition("@")[0] for label in pushed.features} | set(pushed.features)
            hint = "\n  a shard holds all blocks of its feature: leave the block out" if "." in name else ""
            raise UnknownFeatureError(
                f"no feature {name!r} in dataset {dataset!r} of {bucket.url}; {nearest(name, names)}{hint}"
            )
        if len(found) > 1:
            raise AmbiguousFeatureError(
                f"{name!r} stands for {len(found)} features of {dataset!r} in {bucket.url}: {', '.join(found)}\n"
                f"  say which, for instance: {found[0][: len(plain) + 7]}"
            )
        chosen += found
    return list(dict.fromkeys(chosen))


def pull(store: Path | str, plan: PullPlan, *, progress: Progress | None = None) -> Transfer:
    """Take what was planned into a store here, made if there is none: shards, then documents.

    Every shard is checked against the digest in its name before it gets that name here. What is here already is not
    fetched again, and nothing here is removed.

    Parameters
    ----------
    store : Path
    plan : PullPlan
        For this store, by `plan_pull`.
    progress : callable (feature, done, total), optional

    Raises
    ------
    DamagedShardError
        If bytes in the bucket are not what was pushed.
    """
    store = Path(store)
    bucket = Bucket(plan.url)
    opened = Store.create(store)
    for one in plan.datasets:
        for label, shards in one.features.items():
            spec, _ = read_spec(bucket, one.dataset, label)
            take_shards(bucket, f"{one.dataset}/{label}", shards, store / one.dataset / label, progress=progress)
            feature = opened.create_feature(one.dataset, spec)
            quarantined = feature.quarantined()
            if quarantined:
                feature.write_quarantine(quarantined)
        if one.manifest is not None:
            opened.use_manifest(one.dataset, one.manifest)
    return Transfer.of(plan)


def _shards(feature: Feature) -> dict[str, tuple[int, int]]:
    """The shards of a feature here, their headers checked: file name to bytes and rows."""
    return {header.path.name: (header.path.stat().st_size, header.rows) for header in feature.headers()}
