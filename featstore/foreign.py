"""Features made by other tools: an array of rows and a list of names, taken into the store under their own identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from featstore import pictures
from featstore.errors import FormatError, ManifestError, RowsError, listing
from featstore.extract import plan
from featstore.manifest import Manifest, Sample
from featstore.shard import Rows
from featstore.spec import Dtype, FeatureSpec
from featstore.store import Store

_KEYS: dict[str, Callable[[Sample], str]] = {
    "sample_id": lambda s: s.sample_id,
    "path": lambda s: s.path,
    "file name": lambda s: PurePosixPath(s.path).name,
    "file stem": lambda s: PurePosixPath(s.path).stem,
}


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


def import_rows(
    rows: npt.NDArray[Any],
    names: Sequence[str],
    manifest: Manifest,
    store: Store,
    *,
    dataset: str,
    name: str,
    source: str = "",
    share_repeats: bool = True,
    shard_rows: int = 2048,
    workers: int = 2,
) -> ImportReport:
    """Take rows of another tool into the store, as a feature that is marked foreign.

    Parameters
    ----------
    rows : ndarray of shape (n, d), float16, float32 or float64
        float64 is stored as float32.
    names : sequence of n str
        What each row belongs to: sample ids, paths, file names or file stems of the manifest, all of one kind.
    manifest : Manifest
        Becomes the dataset's manifest.
    name : str
        What the feature is called.
    source : str
        For people: the file the rows came from.
    share_repeats : bool
        Give a sample without a row the row of an identical picture (equal bytes), where the pictures can be read.

    Raises
    ------
    RowsError
        Wrong shapes, NaN or Inf.
    ManifestError
        Names that repeat or match no sample.
    """
    _check(rows, names)
    dtype: Dtype = "float16" if rows.dtype == np.float16 else "float32"
    content = hashlib.sha256(np.ascontiguousarray(rows).tobytes() + "\0".join(names).encode()).hexdigest()
    identity = {"architecture": "foreign", "content": content}
    matched_by, position = _match(names, manifest)
    spec = FeatureSpec(
        name=name, identity=identity, blocks={"rows": rows.shape[1]}, dtype=dtype, described={"source": source}
    )
    feature = store.create_feature(dataset, spec)
    digests, _ = pictures.digests(manifest, workers=workers)
    row_of = {manifest.ids[at]: i for i, at in enumerate(position)}
    matched = len(row_of)
    if share_repeats:
        _share(row_of, manifest, digests)
    store.put_manifest(dataset, manifest)
    done = feature.index().place
    for index, positions in plan(len(manifest), shard_rows):
        chosen = [i for i in positions if manifest.ids[i] in row_of and manifest.ids[i] not in done]
        if chosen:
            ids = [manifest.ids[i] for i in chosen]
            block = rows[[row_of[sample_id] for sample_id in ids]].astype(dtype)
            new = Rows(ids=ids, image_digests=[digests[i] for i in chosen], blocks={"rows": block})
            feature.commit(new, index=index, generation=0)
    return ImportReport(
        feature=feature.label,
        samples=len(manifest),
        matched=matched,
        matched_by=matched_by,
        shared=len(row_of) - matched,
        missing=tuple(sample_id for sample_id in manifest.ids if sample_id not in row_of),
    )


def read_array(path: Path) -> npt.NDArray[Any]:
    """A `.npy` file with a plain numeric array; pickled objects are refused.

    Raises
    ------
    FormatError
    """
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise FormatError(f"no such file: {path}") from None
    except (ValueError, EOFError, OSError) as error:
        raise FormatError(f"{path} is not a plain .npy array: {error}") from None
    if not isinstance(array, np.ndarray):
        raise FormatError(f"{path} holds several arrays; save the rows alone with numpy.save")
    return array


def read_names(path: Path) -> list[str]:
    """One name a line; blank lines at the end are passed over."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise FormatError(f"no such file: {path}") from None
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 text (byte {error.start})") from None
    return text.rstrip().splitlines()


def _check(rows: npt.NDArray[Any], names: Sequence[str]) -> None:
    if rows.ndim != 2 or rows.dtype.kind != "f":
        raise RowsError(f"rows must be a float array of shape (n, d), however: {rows.dtype} {rows.shape}")
    if len(rows) != len(names):
        raise RowsError(f"features must have shape ({len(names)}, d) for {len(names)} names, however: {rows.shape}")
    with np.errstate(over="ignore"):
        stored = rows.astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(stored).all(axis=1))
    if len(bad):
        raise RowsError(f"NaN or Inf in {len(bad)} of {len(rows)} rows: {listing(names[int(i)] for i in bad)}")
    if len(set(names)) != len(names):
        seen: set[str] = set()
        twice = [n for n in names if n in seen or seen.add(n)]  # type: ignore[func-returns-value]
        raise ManifestError(f"{len(twice)} names stand twice: {listing(twice)}")


def _match(names: Sequence[str], manifest: Manifest) -> tuple[str, list[int]]:
    """What kind of name these are, and each one's position in the manifest."""
    best: tuple[str, list[str]] | None = None
    for kind, key in _KEYS.items():
        places: Mapping[str, int] = {key(s): i for i, s in enumerate(manifest.samples)}
        if len(places) != len(manifest):
            continue  # ambiguous as names
        unknown = [n for n in names if n not in places]
        if not unknown:
            return kind, [places[n] for n in names]
        if best is None or len(unknown) < len(best[1]):
            best = (kind, unknown)
    kind, unknown = best or ("sample_id", list(names))
    raise ManifestError(
        f"{len(unknown)} of {len(names)} names are no {kind} of {manifest.where} (first: {listing(unknown)})\n"
        f"  a sample there: id {manifest.ids[0]!r}, path {manifest.samples[0].path!r}"
    )


def _share(row_of: dict[str, int], manifest: Manifest, digests: Sequence[str]) -> None:
    by_digest = {d: row_of[s] for s, d in zip(manifest.ids, digests, strict=True) if d and s in row_of}
    for sample_id, digest in zip(manifest.ids, digests, strict=True):
        if sample_id not in row_of and digest in by_digest:
            row_of[sample_id] = by_digest[digest]
