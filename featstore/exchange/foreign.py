"""Features made by other tools: arrays of rows and a list of names, taken into the store under their own identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from featstore import pictures
from featstore.errors import ManifestError, RowsError, listing
from featstore.extract import plan
from featstore.manifest import Manifest, Sample
from featstore.shard import Rows
from featstore.spec import Dtype, FeatureSpec
from featstore.store import Store

PIECE_BYTES = 32 * 1024 * 1024
"""Rows are checked and hashed in pieces of about this size, so that a mapped file is never in memory as a whole."""
_KEYS: dict[str, Callable[[Sample], str]] = {
    "sample_id": lambda s: s.sample_id,
    "path": lambda s: s.path,
    "file name": lambda s: PurePosixPath(s.path).name,
    "file stem": lambda s: PurePosixPath(s.path).stem,
}


class RowSource(Protocol):
    """Rows that are an array, or can be read like one: a mapped file, an HDF5 dataset, a folder of files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, d)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the rows are made of."""
        ...

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """The rows of a slice, or of a list of numbers in any order."""
        ...


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What `import_rows` did."""

    feature: str
    """`hse@3f9c1a2b77d0`."""
    samples: int
    """Samples in the manifest."""
    matched: int
    """Samples that got the row of their own name."""
    matched_by: str
    """What the names were matched against: sample_id, path, file name or file stem."""
    shared: int
    """Samples that got the row of an identical picture."""
    missing: tuple[str, ...]
    """Sample ids without a row."""
    unread: dict[str, str] = field(default_factory=dict)
    """sample_id to reason, for pictures that could not be read: whether they repeat others is not known."""


def import_rows(
    rows: RowSource | Mapping[str, RowSource],
    names: Sequence[str],
    manifest: Manifest,
    store: Store,
    *,
    dataset: str,
    name: str,
    source: str = "",
    described: Mapping[str, Any] | None = None,
    share_repeats: bool = True,
    replace_manifest: bool = True,
    need_pictures: bool = False,
    shard_rows: int = 2048,
    workers: int = 2,
) -> ImportReport:
    """Take rows of another tool into the store, as a feature that is marked foreign.

    Parameters
    ----------
    rows : array of shape (n, d), float16, float32 or float64, or dict of block name to such an array
        An array becomes the block `rows`. float64 is stored as float32; float16 stays if all blocks are float16. What
        lies on the disk (a memory map, for instance) is read in pieces.
    names : sequence of n str
        What each row belongs to: sample ids, paths, file names or file stems of the manifest, all of one kind.
    manifest : Manifest
        Becomes the dataset's manifest.
    name : str
        What the feature is called.
    source : str
        For people: the file the rows came from.
    described : dict, optional
        For people: more about where the rows came from, JSON values.
    share_repeats : bool
        Give a sample without a row the row of an identical picture (equal bytes), where the pictures can be read.
    replace_manifest : bool
        False refuses a manifest that removes samples of the dataset, or looks like another dataset's.
    need_pictures : bool
        Refuse to import if not one picture can be read, since then no leak can be seen.

    Raises
    ------
    RowsError
        Wrong shapes, NaN or Inf.
    ManifestError
        Names that repeat or match no sample; a manifest that may not take the place of the dataset's.
    """
    if not replace_manifest:
        store.manifest_change(dataset, manifest).check()
    blocks: dict[str, RowSource] = dict(rows) if isinstance(rows, Mapping) else {"rows": rows}
    content = _checked_digest(blocks, names)
    dtype: Dtype = "float16" if all(block.dtype == np.float16 for block in blocks.values()) else "float32"
    matched_by, position = _match(names, manifest)
    spec = FeatureSpec(
        name=name,
        identity={"architecture": "foreign", "content": content},
        blocks={block: source_rows.shape[1] for block, source_rows in blocks.items()},
        dtype=dtype,
        described={"source": source, **(described or {})},
    )
    digests, unread = pictures.digests(manifest, workers=workers)
    if need_pictures and len(unread) == len(manifest):
        first = manifest.samples[0]
        raise ManifestError(
            f"none of the {len(manifest)} pictures of {manifest.where} can be read "
            f"(first: {first.path}: {unread[first.sample_id]})\n"
            f"  looked under: {manifest.root}\n"
            f"  say where the pictures are with --root, or leave it out to import rows without pictures"
        )
    feature = store.create_feature(dataset, spec)
    row_of = {manifest.ids[at]: i for i, at in enumerate(position)}
    matched = len(row_of)
    if share_repeats:
        _share(row_of, manifest, digests)
    store.put_manifest(dataset, manifest, replace_manifest=replace_manifest)
    done = feature.index().place
    for index, positions in plan(len(manifest), shard_rows):
        chosen = [i for i in positions if manifest.ids[i] in row_of and manifest.ids[i] not in done]
        if chosen:
            ids = [manifest.ids[i] for i in chosen]
            at = [row_of[sample_id] for sample_id in ids]
            new = Rows(
                ids=ids,
                image_digests=[digests[i] for i in chosen],
                blocks={block: source_rows[at].astype(dtype) for block, source_rows in blocks.items()},
            )
            feature.commit(new, index=index, generation=0)
    return ImportReport(
        feature=feature.label,
        samples=len(manifest),
        matched=matched,
        matched_by=matched_by,
        shared=len(row_of) - matched,
        missing=tuple(sample_id for sample_id in manifest.ids if sample_id not in row_of),
        unread=unread,
    )


def _checked_digest(blocks: Mapping[str, RowSource], names: Sequence[str]) -> str:
    """sha256 of all rows, block after block, and of the names; refuses what must not enter the store."""
    if not blocks:
        raise RowsError("no block of rows is given: name at least one array")
    digest = hashlib.sha256()
    for block, rows in blocks.items():
        _check_shape(rows, names, "" if len(blocks) == 1 else f" in block {block!r}")
    for block, rows in blocks.items():
        bad: list[int] = []
        for start, piece in _pieces(rows):
            with np.errstate(over="ignore"):  # an overflow is Inf, and is refused below by name
                stored = piece.astype(np.float32, copy=False)
            bad += (start + np.flatnonzero(~np.isfinite(stored).all(axis=1))).tolist()
            digest.update(piece.data.cast("B") if piece.size else b"")
        if bad:
            where = "" if len(blocks) == 1 else f" of block {block!r}"
            raise RowsError(f"NaN or Inf in {len(bad)} of {len(names)} rows{where}: {listing(names[i] for i in bad)}")
    if len(set(names)) != len(names):
        seen: set[str] = set()
        twice = [n for n in names if n in seen or seen.add(n)]  # type: ignore[func-returns-value]
        raise ManifestError(f"{len(twice)} names stand twice: {listing(twice)}")
    digest.update("\0".join(names).encode())
    return digest.hexdigest()


def _check_shape(rows: RowSource, names: Sequence[str], where: str) -> None:
    if len(rows.shape) != 2 or rows.dtype.kind != "f":
        hint = ""
        if len(rows.shape) == 2 and rows.dtype.kind in "iu":
            hint = "\n  whole numbers are labels or ids, not features; if they are features, save them as float32"
        elif len(rows.shape) > 2:
            hint = "\n  pool or flatten all but the first axis, so that every picture has one row"
        raise RowsError(f"rows must be a float array of shape (n, d), however: {rows.dtype} {rows.shape}{where}{hint}")
    if not rows.shape[0] and not names:
        raise RowsError(f"there are no rows to import, however: shape {rows.shape}{where}")
    if rows.shape[0] != len(names):
        raise RowsError(
            f"features must have shape ({len(names)}, d) for {len(names)} names, however: {rows.shape}{where}"
        )


def _pieces(rows: RowSource) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """The rows as C-contiguous pieces, each with the number of its first row."""
    n, width = rows.shape
    step = max(1, PIECE_BYTES // max(1, width * rows.dtype.itemsize))
    for start in range(0, n, step):
        yield start, np.ascontiguousarray(rows[start : start + step])


def _match(names: Sequence[str], manifest: Manifest) -> tuple[str, list[int]]:
    """What kind of name these are, and each one's position in the manifest."""
    best: tuple[str, list[str]] | None = None
    ambiguous = ""
    for kind, key in _KEYS.items():
        places: Mapping[str, int] = {key(s): i for i, s in enumerate(manifest.samples)}
        unknown = [n for n in names if n not in places]
        if len(places) != len(manifest):  # ambiguous as names
            ambiguous = ambiguous or ("" if unknown else kind)
            continue
        if not unknown:
            return kind, [places[n] for n in names]
        if best is None or len(unknown) < len(best[1]):
            best = (kind, unknown)
    kind, unknown = best or ("sample_id", list(names))
    hint = f"\n  they are {ambiguous}s, but several samples share one: use sample ids or paths" if ambiguous else ""
    raise ManifestError(
        f"{len(unknown)} of {len(names)} names are no {kind} of {manifest.where} (first: {listing(unknown)})\n"
        f"  a sample there: id {manifest.ids[0]!r}, path {manifest.samples[0].path!r}{hint}"
    )


def _share(row_of: dict[str, int], manifest: Manifest, digests: Sequence[str]) -> None:
    by_digest = {d: row_of[s] for s, d in zip(manifest.ids, digests, strict=True) if d and s in row_of}
    for sample_id, digest in zip(manifest.ids, digests, strict=True):
        if sample_id not in row_of and digest in by_digest:
            row_of[sample_id] = by_digest[digest]
