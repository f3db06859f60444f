"""What the adapters share: their result, and looking into folders and zip files alike."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from featstore.errors import ManifestError
from featstore.manifest import Manifest, Sample

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"})


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A manifest, and what did not make it into it."""

    manifest: Manifest
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason to number of samples."""


class Tree:
    """Files below a folder or inside a zip file, under one set of names; archive litter is passed over."""

    def __init__(self, root: Path) -> None:
        self.root = root
        if root.is_dir():
            found = [p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()]
        elif zipfile.is_zipfile(root):
            with zipfile.ZipFile(root) as archive:
                found = [name for name in archive.namelist() if not name.endswith("/")]
        else:
            raise ManifestError(f"{root} is neither a folder nor a zip file")
        self.names = sorted(name for name in found if not _is_litter(name))

    def pictures(self) -> list[str]:
        """Names of all picture files, sorted."""
        return [name for name in self.names if PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES]

    def find(self, ending: str) -> list[str]:
        """Names that are `ending` or end with `/ending`, letter case aside; the shallowest first."""
        wanted = "/" + ending.lower()
        return sorted((n for n in self.names if ("/" + n.lower()).endswith(wanted)), key=lambda n: (n.count("/"), n))

    def text(self, name: str) -> str:
        """A small text file, whatever its byte-order mark and line ends."""
        if self.root.is_dir():
            data = (self.root / name).read_bytes()
        else:
            with zipfile.ZipFile(self.root) as archive:
                data = archive.read(name)
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ManifestError(f"{self.root / name} is not UTF-8 text (byte {error.start})") from None


def need_samples(samples: Iterable[Sample], root: Path, expected: str) -> tuple[Sample, ...]:
    """All samples as a tuple, or an error that says what was expected."""
    found = tuple(samples)
    if not found:
        raise ManifestError(f"no samples under {root}\n  expected {expected}")
    return found


def _is_litter(name: str) -> bool:
    return any(part.startswith(".") or part in {"__MACOSX", "Thumbs.db", "desktop.ini"} for part in name.split("/"))
