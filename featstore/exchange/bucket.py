"""A store in a bucket, or in any place that obstore reaches: looked at, read verified, added to, and never changed.

Layout (normative: `docs/format.md`)::

    <url>/store.json                                        as on the disk
    <url>/<dataset>/<feature>@<12 hex>/shard-….h5           as on the disk
    <url>/<dataset>/<feature>@<12 hex>/feature.json         as on the disk
    <url>/<dataset>/manifest-<32 hex>/manifest.csv, .json   a manifest, by the digest of its files
    <url>/<dataset>/pushed-<number>.json                    which of these are the dataset; the highest number counts

A bucket has neither links nor locks. It has one promise that is enough: of several who create a name one wins
(`put(mode="create")`). So every object is put under a new name, and a dataset is what its last `pushed` document says:
a reader sees a whole state, whatever is on its way; what was never finished has no such document, and is refused.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from ...kit import documents
from ...kit import files as kit
from ...kit.errors import MissingExtraError, listing
from ...kit.plain import from_plain, to_plain
from ..errors import BucketError, DamagedShardError, FormatError, NewerFormatError
from ..manifests.manifest import Manifest
from ..rows import files
from ..rows.feature import FeatureSpec, valid_name
from ..rows.shard import parse_name

FORMAT, FORMAT_VERSION = "cer-push", 1
TRIES, WAIT_S = 5, 0.2
"""How often a request is made whose connection was cut, and the first pause between two; each is twice the last."""
_REQUEST_S, _SLOWEST = 60, 200_000
"""What a request may take beside its bytes, and the slowest line in bytes a second that is waited for."""
_PIECE = 16 * 2**20
"""Bytes that one request asks for."""
_THREADS = 4
_SCHEMES = ("s3", "file", "gs", "az")
_PUSHED = re.compile(r"pushed-(\d{6})\.json")
_MANIFEST_FOLDER = re.compile(r"manifest-[0-9a-f]{32}")
_MANIFEST_FILE = re.compile(r"manifest\.[a-z]{1,10}")
_FEATURE_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*@[0-9a-f]{12}")
_REFUSED = re.compile(r"status code: 4(?!08|09|29)\d\d")
"""What obstore says of an answer that does not change when the question is asked again."""
log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], None]
T = TypeVar("T")


def is_url(place: object) -> bool:
    """True for what names a place by a scheme, such as `s3://bucket/faces`."""
    return isinstance(place, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", place) is not None


class Bucket:
    """Objects below a URL. Nothing in here replaces or removes one.

    Parameters
    ----------
    url : str
        `s3://bucket/folder` or `file:///folder`; `gs://` and `az://` as obstore takes them. Credentials, region and
        endpoint come from the environment, as obstore reads it.
    largest : int
        Bytes of the largest object that will be put: a request may take the longer.

    Raises
    ------
    BucketError
        If the URL is none of these, or holds credentials, which would end up in logs.
    MissingExtraError
        If obstore is not installed.
    """

    def __init__(self, url: str, *, largest: int = 0) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in _SCHEMES or (parts.scheme != "file" and not parts.netloc):
            raise BucketError(
                f"{url!r} is no place for a store: expected s3://BUCKET/FOLDER, file:///FOLDER, gs://BUCKET/FOLDER or "
                f"az://…"
            )
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise BucketError(
                f"a URL of {parts.scheme}:// must end with the folder, without credentials or options: those belong "
                f"into the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL)"
            )
        self._folder: Path | None = None
        if parts.scheme == "file":
            self._folder = Path(unquote(parts.path))
            if parts.netloc not in ("", "localhost") or not self._folder.is_absolute() or parts.path in ("", "/"):
                raise BucketError(f"{url!r} must name a folder from the root on: file:///data/faces")
        try:
            self._obstore = importlib.import_module("obstore")
        except ImportError:
            raise MissingExtraError(f"{self.url} needs obstore: pip install 'cer-fusion[cloud]'") from None
        self._timeout_s = _REQUEST_S + max(largest, _PIECE) // _SLOWEST
        self._objects: Any = None
        self._durable: set[Path] = set()
        """Folders whose own names are on the disk, of `file://`."""

    @property
    def may_tear(self) -> bool:
        """Whether an object may have its name and not its bytes, after a power cut: of `file://` alone."""
        return self._folder is not None

    def names(self) -> dict[str, int]:
        """Name and bytes of every object; a folder that is not there has none."""
        if self._folder is not None and not self._folder.is_dir():
            return {}
        return self._ask(
            "list", lambda: {one["path"]: one["size"] for many in self._obstore.list(self._store()) for one in many}
        )

    def directly_in(self, folder: str) -> tuple[list[str], dict[str, int]]:
        """Names of the folders in one (``""``: the uppermost), and name and bytes of the objects."""
        if self._folder is not None and not (self._folder / folder).is_dir():
            return [], {}
        found = self._ask("list", lambda: self._obstore.list_with_delimiter(self._store(), folder or None))
        inner = [path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"]]
        return sorted(inner), {one["path"].rpartition("/")[2]: one["size"] for one in found["objects"]}

    def read(self, name: str, nbytes: int, *, start: int = 0) -> bytes:
        """`nbytes` bytes of an object; fewer if it has fewer.

        Raises
        ------
        BucketError
            If it is not there, or cannot be had.
        """
        ends = range(start, start + nbytes, _PIECE)
        pieces = [
            self._ask(
                f"read {name}",
                lambda at=at: bytes(  # type: ignore[misc]
                    self._obstore.get_range(self._store(), name, start=at, end=min(at + _PIECE, start + nbytes))
                ),
            )
            for at in ends
        ]
        return b"".join(pieces)

    def read_verified(self, name: str, nbytes: int, sha256: str) -> bytes:
        """An object whose sha256 begins so; read twice before it is refused, since a read may fall short.

        Raises
        ------
        DamagedShardError
            If its bytes are others.
        """
        for _ in range(2):
            data = self.read(name, nbytes)
            digest = hashlib.sha256(data).hexdigest()
            if len(data) == nbytes and digest.startswith(sha256):
                return data
        raise DamagedShardError(
            f"{self.url}/{name} is not what was pushed: expected sha256 {sha256[:32]}… of {nbytes:,} bytes, however: "
            f"{digest[:32]}… of {len(data):,}\n"
            f"  nothing was taken from it; remove that object by hand (no command here removes any), then run cer-feat "
            f"push again from a store that has it"
        )

    def document(self, name: str, nbytes: int, *, kind: str, version: int) -> dict[str, Any]:
        """The content of a sealed document.

        Raises
        ------
        FormatError
            If it is damaged, of another kind, or of an older version; NewerFormatError for a newer one.
        """
        where = f"{self.url}/{name}"
        if nbytes > files.MAX_DOCUMENT_BYTES:
            raise FormatError(f"{where} is larger than {files.MAX_DOCUMENT_BYTES:,} bytes: no {kind} is")
        data = self.read(name, nbytes)
        return documents.unseal(
            data, kind=kind, version=version, where=where, error=FormatError, newer=NewerFormatError
        )

    def put_new(self, name: str, data: bytes) -> bool:
        """Put an object under a name that must be free; False if it is taken, perhaps by a try of ours that was cut."""
        taken = self._obstore.exceptions.AlreadyExistsError

        def put() -> bool:
            try:
                self._obstore.put(self._store(making=True), name, data, mode="create", use_multipart=False)
            except taken:
                return False
            return True

        is_new = self._ask(f"put {name}", put)
        if self._folder is not None:  # obstore does not wait for the disk
            with kit.reporting("sync", self._folder / name, error=BucketError):
                kit.sync_file(self._folder / name)
                folder, *above = (self._folder / part for part in Path(name).parents)
                kit.sync_folder(folder)
                for one in above if folder not in self._durable else ():
                    kit.sync_folder(one)
                self._durable.add(folder)
        return is_new

    def check_creates(self, name: str, data: bytes) -> None:
        """Put an object that may be there, and make sure that the place refuses to have it put there again.

        Raises
        ------
        BucketError
            If it does not: of two pushes at once, one's rows could get lost.
        """
        if self.put_new(name, data) and self.put_new(name, data):
            raise BucketError(
                f"{self.url} lets an object be replaced that is only to be made (it ignores If-None-Match): of several "
                f"who push at once, the rows of one could be lost\n"
                f"  shards and documents were sent, but not what makes them a store; AWS S3, GCS, Azure, R2 and newer "
                f"MinIO keep to it"
            )

    def _ask(self, what: str, request: Callable[[], T]) -> T:
        """Make a request, again where the line may have been cut; what is refused is told in words."""
        errors = self._obstore.exceptions
        tries = TRIES if self._folder is None else 1
        for number in range(tries):
            try:
                return request()
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise self._told(what, error) from None
                raise BucketError(
                    f"could not {what}: it is not in {self.url}\n"
                    f"  if it was removed there, run cer-feat push again from a store that has it"
                ) from None
            except errors.BaseError as error:
                is_last = number + 1 == tries or not isinstance(error, errors.GenericError)
                if is_last or _REFUSED.search(str(error)):
                    raise self._told(what, error) from None
                time.sleep(WAIT_S * 2**number)
        raise AssertionError("the last try returns or raises")

    def _told(self, what: str, error: Exception) -> BucketError:
        text = str(error).partition("\n\nDebug source")[0]
        said = re.search(r"<Code>([^<]*)</Code>\s*<Message>([^<]*)</Message>", text)
        short = f"{said[1]}: {said[2]}" if said else " ".join(text.split())[:300]
        hint = "what is there stays; run the same command again, and it goes on where it ended"
        if "169.254." in text or isinstance(error, self._obstore.exceptions.UnauthenticatedError):
            hint = "credentials come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION"
        elif "builder error" in text:
            hint = "for an endpoint without TLS say AWS_ALLOW_HTTP=true: what is sent can then be read on its way"
        elif isinstance(error, self._obstore.exceptions.PermissionDeniedError) or "AccessDenied" in text:
            hint = "these credentials may not do that: they need s3:ListBucket and s3:GetObject, for push s3:PutObject"
        return BucketError(f"could not {what} in {self.url}: {short}\n  {hint}")

    def _store(self, *, making: bool = False) -> Any:
        """obstore's own, made when it is first asked for."""
        if self._objects is None or (making and self._folder is not None and not self._folder.is_dir()):
            stores = importlib.import_module("obstore.store")
            if self._folder is not None:
                if making:
                    kit.make_folder(self._folder, error=BucketError)
                self._objects = stores.LocalStore(prefix=self._folder)
            else:
                options: dict[str, Any] = {"timeout": f"{self._timeout_s}s", "connect_timeout": "10s"}
                if _on_loopback(os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", ""))):
                    options["allow_http"] = True  # leaves no machine
                once = {"max_retries": 0, "retry_timeout": timedelta(seconds=self._timeout_s)}  # `_ask` asks again
                try:
                    self._objects = stores.from_url(self.url, client_options=options, retry_config=once)
                except (self._obstore.exceptions.BaseError, ValueError) as error:
                    raise self._told("open it", error) from None
        return self._objects


def _on_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What a dataset in a bucket is; all that this names was there before the document was."""

    number: int
    samples: int
    """Of the manifest."""
    manifests: tuple[str, ...]
    """Folders of the manifests that the dataset had, oldest first; the last one counts."""
    files: Mapping[str, tuple[int, str]]
    """Of that manifest: file name to bytes and sha256."""
    features: Mapping[str, Mapping[str, tuple[int, int]]]
    """`manet@3f9c1a2b77d0` to its shards: file name to bytes and rows."""

    def to_bytes(self, where: str) -> bytes:
        """The sealed document."""
        return documents.seal(to_plain(self, where=where), kind=FORMAT, version=FORMAT_VERSION, where=where)

    @property
    def name(self) -> str:
        """Of the document."""
        return f"pushed-{self.number:06d}.json"

    def check(self, where: str) -> Pushed:
        """This, if every name in it is one that a push makes: they become names of files here."""
        names = [
            *(name for name in self.manifests if not _MANIFEST_FOLDER.fullmatch(name)),
            *(name for name in self.files if not _MANIFEST_FILE.fullmatch(name)),
            *(label for label in self.features if not _FEATURE_FOLDER.fullmatch(label)),
            *(name for shards in self.features.values() for name in shards if parse_name(name) is None),
        ]
        sizes = [size for size, _ in self.files.values()]
        sizes += [number for shards in self.features.values() for pair in shards.values() for number in pair]
        if names or not self.manifests or not self.files or min(sizes) < 0:
            raise FormatError(f"{where} does not hold what a {FORMAT} does: {listing(names) or 'no manifest'}")
        return self


def is_ours(name: str) -> bool:
    """True for the name of an object that a push makes, finished or not."""
    parts = name.split("/")
    if len(parts) == 1:
        return name == "store.json"
    if len(parts) == 2:
        return valid_name(parts[0]) and _PUSHED.fullmatch(parts[1]) is not None
    if len(parts) != 3 or not valid_name(parts[0]):
        return False
    if _MANIFEST_FOLDER.fullmatch(parts[1]):
        return _MANIFEST_FILE.fullmatch(parts[2]) is not None
    of_feature = parse_name(parts[2]) is not None or parts[2] == "feature.json"
    return _FEATURE_FOLDER.fullmatch(parts[1]) is not None and of_feature


def last_pushed(bucket: Bucket, dataset: str, objects: Mapping[str, int]) -> Pushed | None:
    """The document that counts, among the objects directly in a dataset's folder; None if no push was finished."""
    numbered = {int(match[1]): name for name in objects if (match := _PUSHED.fullmatch(name))}
    if not numbered:
        return None
    name = f"{dataset}/{numbered[max(numbered)]}"
    body = bucket.document(name, objects[numbered[max(numbered)]], kind=FORMAT, version=FORMAT_VERSION)
    where = f"{bucket.url}/{name}"
    found = from_plain(Pushed, body, where, error=FormatError).check(where)
    if found.number != max(numbered):
        raise FormatError(f"{where} says that it is number {found.number}: it was put there by hand")
    return found


def datasets(bucket: Bucket, *, kind: str, version: int) -> dict[str, Pushed | None]:
    """The datasets below a URL, by name; None for one that is half pushed.

    Parameters
    ----------
    kind, version : str, int
        What `store.json` must say.

    Raises
    ------
    FormatError
        If there is no store, none whose push was finished, or one of another version.
    """
    folders, objects = bucket.directly_in("")
    found: dict[str, Pushed | None] = {}
    half: list[str] = []
    for dataset in filter(valid_name, folders):
        inner, documents_there = bucket.directly_in(dataset)
        pushed = last_pushed(bucket, dataset, documents_there)
        if pushed is not None:
            found[dataset] = pushed
        elif any(map(_FEATURE_FOLDER.fullmatch, inner)) or any(map(_MANIFEST_FOLDER.fullmatch, inner)):
            found[dataset] = None
            half.append(dataset)
    if not found and "store.json" not in objects:
        raise FormatError(
            f"there is no store at {bucket.url}\n  put one there with: cer-feat push --store … {bucket.url}"
        )
    if found and len(half) == len(found):
        raise half_pushed(bucket, half)
    if "store.json" not in objects:
        raise FormatError(
            f"{bucket.url} holds datasets of a feature store, but its store.json is missing: it is not opened\n"
            f"  cer-feat push from a store that has these datasets brings it back"
        )
    bucket.document("store.json", objects["store.json"], kind=kind, version=version)
    return found


def half_pushed(bucket: Bucket, names: Iterable[str]) -> FormatError:
    """The error for datasets whose last document is missing."""
    return FormatError(
        f"{bucket.url} is half pushed: dataset {listing(map(repr, names))} has no pushed-*.json, which is put last and "
        f"says what is there\n"
        f"  run the same cer-feat push again to its end; until then nothing is read from it"
    )


def read_manifest(bucket: Bucket, dataset: str, pushed: Pushed, *, root: Path) -> Manifest:
    """The manifest of a dataset in a bucket, every file checked against its digest; its pictures are below `root`."""
    with tempfile.TemporaryDirectory(prefix="cer-manifest-") as name:
        for file, (nbytes, sha256) in pushed.files.items():
            data = bucket.read_verified(f"{dataset}/{pushed.manifests[-1]}/{file}", nbytes, sha256)
            Path(name, file).write_bytes(data)
        table = next((file for file in pushed.files if not file.endswith(".json")), "manifest.csv")
        found = Manifest.read(Path(name, table))
    return replace(found, root=root, where=f"{bucket.url}/{dataset}")


def read_spec(bucket: Bucket, dataset: str, label: str) -> tuple[FeatureSpec, bytes]:
    """What a feature in a bucket is, and the bytes that say so.

    Raises
    ------
    FormatError
        If these are damaged, or of another feature than the folder is named by.
    """
    where = f"{dataset}/{label}/feature.json"
    _, objects = bucket.directly_in(f"{dataset}/{label}")
    nbytes = min(objects.get("feature.json", 0), files.MAX_DOCUMENT_BYTES + 1)
    data = bucket.read(where, nbytes or 1)
    with tempfile.TemporaryDirectory(prefix="cer-feature-") as name:
        Path(name, "feature.json").write_bytes(data)
        try:
            spec = FeatureSpec.read(Path(name, "feature.json"))
        except FormatError as error:
            raise type(error)(str(error).replace(str(Path(name, "feature.json")), f"{bucket.url}/{where}")) from None
    if not label.endswith(f"@{spec.fingerprint[:12]}"):
        raise FormatError(f"{bucket.url}/{where} is that of {spec.fingerprint[:12]}: it was put there by hand")
    return spec, data


def take_shards(
    bucket: Bucket,
    place: str,
    shards: Mapping[str, tuple[int, int]],
    folder: Path,
    *,
    mend: bool = False,
    progress: Progress | None = None,
) -> int:
    """Fetch the shards that a folder lacks; each gets its name when its bytes have the digest in it.

    Parameters
    ----------
    place : str
        `faces/manet@3f9c1a2b77d0`, in the bucket.
    shards : mapping of file name to (bytes, rows)
    mend : bool
        Set one aside whose size is wrong, and fetch it again; without, it is refused.

    Returns
    -------
    int
        How many were fetched.

    Raises
    ------
    DamagedShardError, BucketError, CommitError
    """
    for name, (nbytes, _) in shards.items():
        there = folder / name
        if there.exists() and there.stat().st_size != nbytes:
            if not mend:
                raise DamagedShardError(
                    f"damaged shard {name}: it has {there.stat().st_size:,} bytes, expected {nbytes:,}\n"
                    f"  in folder: {folder}\n"
                    f"  set it aside with: cer-feat verify --repair; then run the same command again"
                )
            log.warning("%s is damaged: set aside, and fetched again", there)
            files.set_aside(there)
    wanted = [name for name in shards if not (folder / name).exists()]

    def take(name: str) -> None:
        named = parse_name(name)
        assert named is not None
        files.commit(folder / name, bucket.read_verified(f"{place}/{name}", shards[name][0], named[1]))

    if wanted:
        files.make_folder(folder)
    for done in in_threads(take, wanted):
        if progress is not None:
            progress(place.rpartition("/")[2], done, len(wanted))
    return len(wanted)


def in_threads(work: Callable[[str], object], names: Iterable[str]) -> Iterator[int]:
    """Do some at a time, and give how many are done after each; when one fails, none is begun any more."""
    with ThreadPoolExecutor(_THREADS) as pool:
        begun = [pool.submit(work, name) for name in names]
        try:
            for done, one in enumerate(as_completed(begun), 1):
                one.result()
                yield done
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
