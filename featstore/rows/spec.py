"""What a feature is: everything that fixes its numbers, and the fingerprint of that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from cer_fusion.featstore.errors import FeatstoreError, FormatError
from cer_fusion.featstore.rows import files
from cer_fusion.kit.documents import canonical

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
