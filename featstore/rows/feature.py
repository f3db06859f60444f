"""A feature: everything that fixes its numbers, its folder of shards, and where in them each sample's row is."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from ...kit.documents import canonical
from ...kit.table import shortened
from ...kit.text import many_objects
from ..errors import FeatstoreError, FingerprintError, FormatError, NewerFormatError
from ..manifests.columns import Texts
from . import files
from .index import RowIndex, make_index
from .shard import Rows, ShardHeader, encode, parse_name, read_header

FORMAT, FORMAT_VERSION = "cer-feature", 1
Dtype = Literal["float32", "float16"]
Change = tuple[str, Any, Any]


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Identity and description of one feature.

    Features with equal `identity`, `blocks` and `dtype` have one fingerprint, and only their rows may be mixed.
    """

    name: str
    """What people call it: `manet`. Not part of the identity."""
    identity: Mapping[str, Any]
    """Architecture, options (flow, tap, pooling), weights digest, transform, precision, code version; JSON values."""
    blocks: Mapping[str, int]
    """Block name to width, in order."""
    dtype: Dtype = "float32"
    """How rows are stored."""
    described: Mapping[str, Any] = field(default_factory=dict)
    """Where the weights came from, library versions: for people, not part of the identity."""

    def __post_init__(self) -> None:
        if not valid_name(self.name):
            raise FeatstoreError(
                f"feature name {self.name!r} must be letters, digits, '_' or '-', and start with a letter or digit"
            )
        if self.dtype not in get_args(Dtype):
            raise FeatstoreError(f"dtype must be float32 or float16, however: {self.dtype!r}")
        if not self.blocks or any(width < 1 for width in self.blocks.values()):
            raise FeatstoreError(f"a feature has at least one block of at least one column, however: {self.blocks}")
        for block in self.blocks:
            if not valid_name(block):
                raise FeatstoreError(f"block name {block!r} must be letters, digits, '_' or '-'")

    @property
    def fingerprint(self) -> str:
        """sha256 in hex of identity, blocks and dtype."""
        fixed = {"identity": self.identity, "blocks": list(self.blocks.items()), "dtype": self.dtype}
        return hashlib.sha256(canonical(fixed)).hexdigest()

    @property
    def is_of_sound(self) -> bool:
        """Whether rows were made from the sound around frames: then their digests are that sound's, no pictures'."""
        return "sound" in self.identity

    @property
    def folder(self) -> str:
        """Name of the feature's folder, `manet@3f9c1a2b77d0`."""
        return f"{self.name}@{self.fingerprint[:12]}"

    def write(self, path: Path) -> None:
        """Write `feature.json`."""
        body = {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "identity": self.identity,
            "blocks": [[name, width] for name, width in self.blocks.items()],
            "dtype": self.dtype,
            "described": self.described,
        }
        files.write_document(path, FORMAT, FORMAT_VERSION, body)

    @classmethod
    def read(cls, path: Path) -> FeatureSpec:
        """Read `feature.json`; raises FormatError if it does not say what its fingerprint says."""
        body = files.read_document(path, FORMAT, FORMAT_VERSION)
        try:
            fingerprint = body.pop("fingerprint")
            spec = cls(**{**body, "blocks": dict(body["blocks"])})
        except (KeyError, TypeError, ValueError, AttributeError, FeatstoreError) as error:
            raise FormatError(f"{path} does not hold the fields of a {FORMAT}: {error}") from None
        if spec.fingerprint != fingerprint:
            raise FormatError(f"{path} names fingerprint {fingerprint}, but its fields give {spec.fingerprint}")
        return spec


def valid_name(name: str) -> bool:
    """True for names that are safe in file names and on command lines; no dot, since `manet.local` is a block."""
    return name.isascii() and name[:1].isalnum() and all(c.isalnum() or c in "_-" for c in name)


def name_for(embedder: str) -> str:
    """A feature name from an embedder's name: `timm:vit_base.mae` gives `vit_base`, `onnx:a/b.onnx` gives `b`."""
    plain = embedder.partition(":")[2] or embedder
    plain = plain.replace("\\", "/").rstrip("/").rpartition("/")[2].partition(".")[0]
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in plain).lstrip("_-") or "feature"


def differences(a: FeatureSpec, b: FeatureSpec) -> list[Change]:
    """Fields in which two features differ, as (dotted name, value in a, value in b); none if they are one."""
    left = {**a.identity, "blocks": list(a.blocks.items()), "dtype": a.dtype}
    right = {**b.identity, "blocks": list(b.blocks.items()), "dtype": b.dtype}
    return changes(left, right)


def changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[Change]:
    """Fields in which two JSON objects differ, as (dotted name, old, new); None where one has no such field."""
    found: list[Change] = []
    for key in dict.fromkeys([*old, *new]):
        a, b = old.get(key), new.get(key)
        inner = [value for value in (a, b) if isinstance(value, Mapping)]
        if len(inner) == 2 or (inner and inner[0] and (key in old) != (key in new)):
            found += changes(a or {}, b or {}, f"{prefix}{key}.")
        elif (key in old) != (key in new) or canonical(a) != canonical(b):  # 1 is not 1.0 there
            found.append((f"{prefix}{key}", a, b))
    return found


_ATTEMPTS = 5
_FEW = 4
"""Samples are few where there are more than so many times as many rows."""
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*@[0-9a-f]{12}")
log = logging.getLogger(__name__)
T = TypeVar("T")


class Feature:
    """A feature's folder. Opening reads `feature.json`; rows are read when asked for.

    Raises
    ------
    FormatError
        If the folder's name and its `feature.json` do not belong together.
    """

    def __repr__(self) -> str:
        """Return what it is and where; its rows are left to whoever asks for them."""
        blocks = shortened(f"{name} {width:,}" for name, width in self.spec.blocks.items())
        return f"<Feature {self.spec.name}@{self.spec.fingerprint[:12]}: {blocks}, {self.spec.dtype}; {self.folder}>"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.spec = replace(FeatureSpec.read(folder / "feature.json"), name=folder.name.rpartition("@")[0])
        except NewerFormatError:
            raise
        except FormatError as error:
            raise FormatError(
                f"{error}\n"
                f"  mend it with: cer-feat verify --repair, or run the same cer-feat extract (or import) again, which "
                f"writes it anew; its rows stay, and other features are not affected"
            ) from None
        if not folder.name.endswith(f"@{self.spec.fingerprint[:12]}"):
            raise FormatError(
                f"{folder} holds the feature.json of {self.spec.fingerprint[:12]}: it was moved here by hand"
            )
        self._expected = (
            self.spec.fingerprint,
            {f"blocks/{name}": width for name, width in self.spec.blocks.items()},
            np.dtype(self.spec.dtype).str,
        )
        """What the header of each shard must say: fingerprint, widths and dtype."""
        self._indexed: tuple[Mapping[str, object], RowIndex] | None = None
        self._part: tuple[Texts, Mapping[str, object], RowIndex] | None = None
        """The last index of a manifest's samples alone: a command asks more than once about them."""
        self._read: dict[str, tuple[object, ShardHeader]] = {}

    @classmethod
    def create(cls, dataset: Path, spec: FeatureSpec) -> Feature:
        """Open the feature of this identity, making its folder if it is new; a damaged `feature.json` is written anew.

        Raises
        ------
        NewerFormatError
            If a newer release wrote the one that is there.
        """
        folder = dataset / spec.folder
        if not (folder / "feature.json").exists():
            files.make_folder(folder)
            spec.write(folder / "feature.json")
        try:
            return cls(folder)
        except NewerFormatError:
            raise
        except FormatError as error:
            log.warning("%s", str(error).partition("\n")[0])
            return cls.write_anew(folder, spec)

    @classmethod
    def write_anew(cls, folder: Path, spec: FeatureSpec) -> Feature:
        """Set a damaged `feature.json` aside and put that of `spec`, which the folder's name must be of, in place."""
        files.set_aside(folder / "feature.json")
        spec.write(folder / "feature.json")
        log.warning("%s was written anew; the damaged one is beside it", folder / "feature.json")
        return cls(folder)

    @property
    def label(self) -> str:
        """`manet@3f9c1a2b77d0`."""
        return self.folder.name

    @property
    def name(self) -> str:
        """`manet`."""
        return self.folder.name.rpartition("@")[0]

    def shard_paths(self) -> list[Path]:
        """The committed shards, by name."""
        return [self.folder / name for name in self.shard_names()]

    def shard_names(self) -> list[str]:
        """Names of the committed shards, in order; all that this class reads begins with these."""
        return shard_names(self.folder)

    def headers(self) -> list[ShardHeader]:
        """Verified headers of all shards, by name; each is read once, since a shard never changes.

        Raises
        ------
        DamagedShardError
            If one is damaged.
        FingerprintError
            If one belongs to another feature.
        """
        return while_shards_change(lambda: self._headers(self._states()))

    def headers_of(self, names: Iterable[str]) -> list[ShardHeader]:
        """Verified headers of the shards of these names, by name; one that went away is left out."""
        found = []
        for name in sorted(names):
            with contextlib.suppress(FileNotFoundError), files.going_away(self.folder / name):
                found.append(self._header(name, files.state(self.folder / name)))
        return found

    def index(self, *, only: Sequence[str] | None = None) -> RowIndex:
        """Find every sample's row; of two shards that hold it, the higher generation counts, then the lower name.

        Read again only when the folder's shards changed since the last time.

        Parameters
        ----------
        only : sequence of str, optional
            The samples that are of interest. Where they are few among the rows there are, the index knows of these
            alone and takes no memory for others; it is kept for the ids of a manifest, else made anew.
        """
        return while_shards_change(lambda: self._index(only))

    def quarantined(self) -> dict[str, tuple[str, str]]:
        """The samples that stand in quarantine, each with the digest of its picture and the reason.

        No more is looked at than the headers where none do, and no other sample where some do.
        """
        ids = {entry[0] for header in self.headers() for entry in header.quarantined}
        return self.index(only=sorted(ids)).quarantined if ids else {}

    def _index(self, only: Sequence[str] | None) -> RowIndex:
        states = self._states()
        known = self._indexed  # looked at once: another thread may put a newer one there
        if known is not None and known[0] == states:
            return known[1]
        headers = self._headers(states)
        if only is not None and _FEW * len(only) < sum(header.rows for header in headers):
            part = self._part
            if part is not None and part[0] is only and part[1] == states:
                return part[2]
            index = make_index(headers, only=only)
            if isinstance(only, Texts):  # which never changes
                self._part = (only, states, index)
            return index
        known = self._indexed = (states, make_index(headers))
        return known[1]

    def _states(self) -> dict[str, object]:
        """The shards that are there, by name, and what tells a file from another of its name."""
        folder = os.fspath(self.folder)
        return {name: files.state(os.path.join(folder, name)) for name in self.shard_names()}  # no Path: ten thousand

    def _headers(self, states: Mapping[str, object]) -> list[ShardHeader]:
        with many_objects():
            return [self._header(name, state) for name, state in states.items()]

    def _header(self, name: str, state: object) -> ShardHeader:
        known = self._read.get(name)
        if known is None or known[0] != state:
            known = self._read[name] = (state, self.own(read_header(self.folder / name)))
        return known[1]

    def commit(self, rows: Rows, *, index: int, generation: int) -> Path:
        """Add one shard; the name holds the digest, so writing the same rows twice is harmless."""
        name, data = encode(rows, fingerprint=self.spec.fingerprint, index=index, generation=generation)
        files.commit(self.folder / name, data)
        return self.folder / name

    def write_quarantine(self, quarantined: dict[str, tuple[str, str]]) -> None:
        """Write `quarantine.csv` for people; the shards' headers are what counts."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("sample_id", "image_digest", "reason"))
        writer.writerows((sample_id, *entry) for sample_id, entry in sorted(quarantined.items()))
        files.replace(self.folder / "quarantine.csv", out.getvalue().encode())

    def own(self, header: ShardHeader) -> ShardHeader:
        """Pass a shard of this feature through; raises FingerprintError for any other."""
        fingerprint, expected, dtype = self._expected
        found = {name: s.shape[-1] for name, s in header.segments.items() if name.startswith("blocks/")}
        alike = found == expected and all(header.segments[name].dtype == dtype for name in found)
        if header.fingerprint != fingerprint or not alike:
            raise FingerprintError(
                f"shard {header.path.name} belongs to another feature: expected fingerprint "
                f"{self.spec.fingerprint[:12]} with blocks {dict(self.spec.blocks)}, however: "
                f"{header.fingerprint[:12]} with {found}\n"
                f"  in folder: {self.folder}\n"
                f"  move it out of this folder; rows of two features are never mixed"
            )
        return header


def shard_paths(folder: Path) -> list[Path]:
    """The committed shards in a feature's folder, by name."""
    return [folder / name for name in shard_names(folder)]


def shard_names(folder: Path) -> list[str]:
    """The names of the committed shards in a feature's folder, sorted."""
    return sorted(name for name in os.listdir(folder) if parse_name(name))


def is_feature_folder(path: Path) -> bool:
    """True for a folder with the name of a feature's, whatever is inside."""
    return _FOLDER.fullmatch(path.name) is not None and path.is_dir()


def while_shards_change(read: Callable[[], T]) -> T:
    """Call `read`, and again if a shard that it knew of was compacted away in the meantime."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return read()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):  # ESTALE: another machine did, of a file open here
                raise
    return read()
