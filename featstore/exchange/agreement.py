"""Whether a store here and one in a bucket say the same: of samples, by manifests, and of pictures, by rows."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ...kit.errors import listing
from ..errors import FeatstoreError, FormatError, ManifestError
from ..manifests.checking import change_of
from ..manifests.manifest import Manifest
from ..rows import files
from ..rows.feature import Feature
from ..rows.shard import PAGE, read_header
from .bucket import Bucket

Standing = Literal["same", "ahead", "behind", "apart"]
Shards = Mapping[str, tuple[int, int]]
"""File name to bytes and rows."""


def manifest_files(manifest: Manifest) -> tuple[dict[str, bytes], str]:
    """A manifest as it is put into a bucket, and the folder that it goes into, which its content names.

    Where its pictures are on this machine is left out.
    """
    with tempfile.TemporaryDirectory(prefix="cer-manifest-") as name:
        try:
            replace(manifest, root=Path(name)).write(Path(name, "manifest.csv"), sealed=True)
        except FeatstoreError as error:
            raise type(error)(f"the manifest of {manifest.where} cannot be written: {error}") from None
        found = {path.name: path.read_bytes() for path in sorted(Path(name).iterdir())}
    digests = "".join(f"{file} {hashlib.sha256(data).hexdigest()}\n" for file, data in found.items())
    return found, f"manifest-{hashlib.sha256(digests.encode()).hexdigest()[:32]}"


def standing_of(dataset: str, mine: Manifest, theirs: Manifest) -> tuple[Standing, str]:
    """How a manifest here stands to that of a bucket, and in words what differs.

    ``ahead``: it has all of the other's samples, said alike, and more; ``behind``: the other has; ``apart``: one says
    something of a sample that the other does not. Where the pictures are on a machine does not count.
    """
    change = change_of(dataset, replace(theirs, root=mine.root), mine, made_from=lambda _: {})
    counts = change.counts()
    added, removed = counts.pop("added"), counts.pop("removed")
    if any(counts.values()) or mine.classes.labels != theirs.classes.labels or (added and removed):
        return "apart", change.text
    return ("ahead" if added else "behind" if removed else "same"), change.text


def apart(dataset: str, mine: str, theirs: Manifest, text: str) -> ManifestError:
    return ManifestError(
        f"dataset {dataset!r} is said differently: {mine}, in the bucket {len(theirs):,} ({text})\n"
        f"  in bucket: {theirs.where}\n"
        f"  nothing was written; if it is another dataset, keep it under another name; to let this manifest take the "
        f"other's place: --replace-manifest (rows stay)"
    )


def check_pictures(bucket: Bucket, dataset: str, feature: Feature, theirs: Shards) -> None:
    """Refuse shards of two places, of one feature, that hold rows of a sample made from different pictures.

    Only where both have shards that the other lacks is anything fetched: of each the header, ids and digests, which lie
    at its beginning.

    Raises
    ------
    FormatError
    """
    mine = {path.name: path for path in feature.shard_paths()}
    if set(mine) <= set(theirs) or set(theirs) <= set(mine):
        return
    place = f"{dataset}/{feature.label}"
    with tempfile.TemporaryDirectory(prefix="cer-outline-") as name:
        folder = Path(name, feature.label)
        files.make_folder(folder)
        feature.spec.write(folder / "feature.json")
        for shard, path in mine.items():
            _outline(folder / shard, path.stat().st_size, lambda start, n, path=path: _bytes_of(path, start, n))  # type: ignore[misc]
        for shard in set(theirs) - set(mine):
            _outline(
                folder / shard,
                theirs[shard][0],
                lambda start, n, shard=shard: bucket.read(f"{place}/{shard}", n, start=start),  # type: ignore[misc]
            )
        disputed = set(Feature(folder).index().disputed) - set(feature.index().disputed)
    if disputed:
        raise FormatError(
            f"{len(disputed):,} samples have rows here and in {bucket.url}/{place} that were made from different "
            f"pictures: {listing(sorted(disputed))}\n"
            f"  nothing was written; two datasets bear one name: keep one of them under another"
        )


def _outline(path: Path, nbytes: int, ask: Callable[[int, int], bytes]) -> None:
    """A file that begins as a shard does, up to the rows of its blocks, and has its size."""
    start = ask(0, min(PAGE, nbytes))
    _write_sparse(path, start, nbytes)
    words = start[:120].split(b"\n")[0].split(b" ")
    length = int(words[3]) if len(words) == 4 and words[3].isdigit() else 0
    end = min(nbytes, len(start.split(b"\n")[0]) + 1 + length)
    if end > len(start):
        start += ask(len(start), end - len(start))
        _write_sparse(path, start, nbytes)
    segments = read_header(path).segments
    end = max(segments[name].offset + segments[name].nbytes for name in ("ids", "image_digest"))
    if end > len(start):
        _write_sparse(path, start + ask(len(start), end - len(start)), nbytes)


def _write_sparse(path: Path, start: bytes, nbytes: int) -> None:
    with path.open("wb") as file:
        file.write(start)
        file.truncate(nbytes)


def _bytes_of(path: Path, start: int, nbytes: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(nbytes)
