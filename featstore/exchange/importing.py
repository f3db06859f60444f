"""Features made by other tools: arrays of rows and a list of names, taken into the store under their own identity."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import xxhash

from ..errors import ManifestError, RowsError, listing
from ..extraction.plan import deal
from ..manifests.manifest import Manifest, Sample
from ..manifests.places import folded, plain_path, starts
from ..pictures import pictures
from ..rows.feature import Dtype, FeatureSpec
from ..rows.shard import Rows
from ..store import Store

PIECE_BYTES = 32 * 1024 * 1024
"""Rows are checked and hashed in pieces of about this size, so that a mapped file is never in memory as a whole."""
_WIDE = 5
"""From so many columns on, a number other than zero in all of them is no coincidence."""
Blank = Literal["error", "drop", "keep"]
Extra = Literal["error", "drop"]


_KEYS: dict[str, tuple[Callable[[Sample], str], Callable[[str], str]]] = {
    "sample_id": (lambda s: s.sample_id, lambda name: name),
    "path": (lambda s: s.path, lambda name: name),
    "file name": (lambda s: PurePosixPath(s.path).name, lambda name: name),
    "file stem": (lambda s: PurePosixPath(s.path).stem, lambda name: name),
    "sample_id, but for its ending": (lambda s: s.sample_id, lambda name: str(_posix(name).with_suffix(""))),
    "file name without folders": (lambda s: PurePosixPath(s.path).name, lambda name: _posix(name).name),
    "file stem without folders": (lambda s: PurePosixPath(s.path).stem, lambda name: _posix(name).stem),
}
"""What names may be: of a sample, and of a name, what must be equal. The stricter come first."""
_FRAMES: dict[str, tuple[Callable[[Sample], str], Callable[[str], str]]] = {
    "video and number of the frame": (lambda s: _frame(s.sample_id), lambda name: _frame(name)),
    "folder and number of the frame": (lambda s: _frame(s.path), lambda name: _frame(name)),
}
"""What they may be beside that where they are frames of videos."""


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
    extra: tuple[str, ...] = ()
    """Names that no sample has, whose rows were left out."""
    blank: tuple[str, ...] = ()
    """Sample ids whose rows say nothing, and were left out or kept as asked."""
    failed: tuple[str, ...] = ()
    """Sample ids that the tool failed at, now in quarantine."""
    notes: tuple[str, ...] = field(default=())
    """What is odd about the rows, in sentences."""
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
    failed: Mapping[str, str] | None = None,
    share_repeats: bool = True,
    blank: Blank = "error",
    extra: Extra = "error",
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
    failed : dict of name to reason, optional
        Of a tool that says what it failed at: their samples go to quarantine. It is believed of the others, where a row
        of one number, such as no action unit at all, says something; and names may be a video and a frame's number.
    share_repeats : bool
        Give a sample without a row the row of an identical picture (equal bytes), where the pictures can be read.
    blank : {"error", "drop", "keep"}
        Rows of one number throughout a block, as tools write for a face that they did not find (zeros, -1, NaN): refuse
        them, leave them out (their samples then have no row), or keep them (NaN never).
    extra : {"error", "drop"}
        Names that no sample of the manifest has: refuse them, or leave their rows out.
    replace_manifest : bool
        False refuses a manifest that removes samples of the dataset, or looks like another dataset's.
    need_pictures : bool
        Refuse to import if not one picture can be read, since then no leak can be seen.

    Raises
    ------
    RowsError
        Wrong shapes, NaN or Inf, blank rows, or rows that are all the same.
    ManifestError
        Names that repeat or match no sample; a manifest that may not take the place of the dataset's.
    """
    if not replace_manifest:
        store.manifest_change(dataset, manifest).check()
    blocks: dict[str, RowSource] = dict(rows) if isinstance(rows, Mapping) else {"rows": rows}
    looked = _look(blocks, names, blank)
    dtype: Dtype = "float16" if all(block.dtype == np.float16 for block in blocks.values()) else "float32"
    every = [*names, *(failed or ())]
    matched_by, position = _match(every, manifest, extra, frames=failed is not None)
    found = {i: at for i, at in enumerate(position[: len(names)]) if at >= 0}
    lost = dict(zip(position[len(names) :], (failed or {}).values(), strict=True))
    blank_rows = [i for i in sorted(looked.blank) if i in found] if failed is None else []
    _check_blank(blank_rows, names, len(found), blank)
    notes = _notes(looked, found, names)
    if looked.all_alike and blank != "keep":
        raise RowsError(
            f"all {len(names):,} rows are the same, so nothing can be learned from them\n"
            f"  look at what made them; --blank keep takes them as they are"
        )
    spec = FeatureSpec(
        name=name,
        identity={"architecture": "foreign", "content": looked.content},
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
    left_out = set(blank_rows) if blank == "drop" else set()
    row_of = {manifest.ids[at]: i for i, at in found.items() if i not in left_out}
    matched = len(row_of)
    if share_repeats:
        _share(row_of, manifest, digests)
    store.use_manifest(dataset, manifest, replace_manifest=replace_manifest)
    there = feature.index()
    done = there.rows_of(manifest.ids) >= 0
    told = [i for i in sorted(lost) if i >= 0 and manifest.ids[i] not in row_of]
    refused = {i for i in told if manifest.ids[i] not in there.quarantined and not done[i]}
    for index, positions in deal(len(manifest), shard_rows):
        chosen = [i for i in positions if manifest.ids[i] in row_of and not done[i]]
        quarantined = [(manifest.ids[i], digests[i], lost[i]) for i in positions if i in refused]
        if chosen or quarantined:
            ids = [manifest.ids[i] for i in chosen]
            at = [row_of[sample_id] for sample_id in ids]
            new = Rows(
                ids=ids,
                image_digests=[digests[i] for i in chosen],
                blocks={block: source_rows[at].astype(dtype) for block, source_rows in blocks.items()},
                quarantined=quarantined,
            )
            feature.commit(new, index=index, generation=0)
    if refused:
        feature.write_quarantine(feature.index().quarantined)
    return ImportReport(
        feature=feature.label,
        samples=len(manifest),
        matched=matched,
        matched_by=matched_by,
        shared=len(row_of) - matched,
        missing=tuple(sample_id for sample_id in manifest.ids if sample_id not in row_of),
        extra=tuple(name for name, at in zip(every, position, strict=True) if at < 0),
        blank=tuple(manifest.ids[found[i]] for i in blank_rows),
        failed=tuple(manifest.ids[i] for i in told),
        notes=notes,
        unread=unread,
    )


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What the rows are like, all read once."""

    content: str
    """sha256 of all rows, block after block, and of the names."""
    blank: frozenset[int]
    """Rows of one number throughout a block."""
    hashes: npt.NDArray[np.uint64]
    """Of each row, to find those that repeat."""
    constant: int
    """Columns that are the same in all rows."""
    columns: int

    @property
    def all_alike(self) -> bool:
        """Whether every row is like the first."""
        return len(self.hashes) > 1 and self.constant == self.columns


def _look(blocks: Mapping[str, RowSource], names: Sequence[str], blank: Blank) -> _Look:
    """Read every row, and refuse what must not enter the store."""
    if not blocks:
        raise RowsError("no block of rows is given: name at least one array")
    digest = hashlib.sha256()
    hashes = np.zeros(len(names), dtype=np.uint64)
    said_nothing: set[int] = set()
    constant = 0
    for block, rows in blocks.items():
        _check_shape(rows, names, "" if len(blocks) == 1 else f" in block {block!r}")
    for block, rows in blocks.items():
        bad: list[int] = []
        first: npt.NDArray[Any] = np.empty((0, rows.shape[1]))
        same = np.ones(rows.shape[1], dtype=bool)
        for start, piece in _pieces(rows):
            with np.errstate(over="ignore"):  # an overflow is Inf, and is refused below by name
                stored = piece.astype(np.float32, copy=False)
            empty = np.isnan(stored).all(axis=1) if blank == "drop" else np.zeros(len(stored), dtype=bool)
            bad += (start + np.flatnonzero(~np.isfinite(stored).all(axis=1) & ~empty)).tolist()
            flat = (stored == stored[:, :1]).all(axis=1) & ((stored.shape[1] >= _WIDE) | (stored[:, 0] == 0))
            said_nothing.update((start + np.flatnonzero(flat | empty)).tolist())
            first = first if len(first) else stored[:1].copy()
            same &= (stored == first).all(axis=0)
            digest.update(piece.data.cast("B") if piece.size else b"")
            for number, row in enumerate(piece, start):
                hashes[number] = xxhash.xxh3_64_intdigest(row.tobytes(), seed=int(hashes[number]))
        constant += int(same.sum())
        if bad:
            where = "" if len(blocks) == 1 else f" of block {block!r}"
            raise RowsError(
                f"NaN or Inf in {len(bad)} of {len(names)} rows{where}: {listing(names[i] for i in bad)}\n"
                f"  rows of NaN alone, as some tools write for a face that they did not find, are left out with: "
                f"--blank drop"
            )
    if len(set(names)) != len(names):
        seen: set[str] = set()
        twice = [n for n in names if n in seen or seen.add(n)]  # type: ignore[func-returns-value]
        raise ManifestError(f"{len(twice)} names stand twice: {listing(twice)}")
    digest.update("\0".join(names).encode("utf-8", "backslashreplace"))
    return _Look(
        content=digest.hexdigest(),
        blank=frozenset(said_nothing),
        hashes=hashes,
        constant=constant,
        columns=sum(rows.shape[1] for rows in blocks.values()),
    )


def _check_blank(blank_rows: Sequence[int], names: Sequence[str], matched: int, blank: Blank) -> None:
    if blank_rows and blank == "error":
        raise RowsError(
            f"{len(blank_rows):,} of {matched:,} rows say nothing, one number throughout (such as zeros for a face not "
            f"found): {listing(names[i] for i in blank_rows)}\n"
            f"  leave them out with --blank drop (their samples then have no row), or take them with --blank keep"
        )
    if blank == "drop" and len(blank_rows) == matched:
        raise RowsError(f"all {matched:,} rows say nothing, one number throughout: nothing is left to import")


def _notes(looked: _Look, found: Mapping[int, int], names: Sequence[str]) -> tuple[str, ...]:
    """What is odd without being wrong: rows that repeat, columns that never change."""
    notes = []
    of_hash: dict[int, list[int]] = {}
    for i in found:
        if i not in looked.blank:
            of_hash.setdefault(int(looked.hashes[i]), []).append(i)
    repeated = [rows for rows in of_hash.values() if len(rows) > 1]
    if repeated:
        most = max(repeated, key=len)
        extra = sum(len(rows) - 1 for rows in repeated)
        notes.append(
            f"{extra:,} rows repeat another one to the last bit, the most frequent {len(most):,} times "
            f"({listing(names[i] for i in most)})"
        )
    if looked.constant and not looked.all_alike and len(names) > 1:
        notes.append(f"{looked.constant:,} of {looked.columns:,} columns are the same in all rows")
    return tuple(notes)


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


def _match(names: Sequence[str], manifest: Manifest, extra: Extra, *, frames: bool = False) -> tuple[str, list[int]]:
    """What kind of name these are, and each one's position in the manifest; -1 for one that is to be left out."""
    best: tuple[str, list[int]] | None = None
    ambiguous = ""
    spelt = [_spelt(name) for name in names]
    for kind, (of_sample, of_name) in (_KEYS | _FRAMES if frames else _KEYS).items():
        places: Mapping[str, int] = {of_sample(s): i for i, s in enumerate(manifest.samples)}
        keys = [of_name(name) for name in names]
        position = [places.get(key, -1) for key in keys]
        if kind == "path" and -1 in position and len(places) == len(manifest):
            otherwise = _spelt_otherwise(spelt, places)
            if otherwise is not None:
                return f"{kind}, spelt otherwise", otherwise
        if len(places) != len(manifest):  # ambiguous as names
            ambiguous = ambiguous or ("" if -1 in position else kind)
            continue
        if len(set(keys)) != len(keys):  # two names would be one sample's
            continue
        if -1 not in position:
            return kind, position
        if best is None or position.count(-1) < best[1].count(-1):
            best = (kind, position)
    kind, position = best or ("sample_id", [-1] * len(names))
    unknown = [name for name, at in zip(names, position, strict=True) if at < 0]
    if extra == "drop" and len(unknown) < len(names):
        return kind, position
    hint = f"\n  they are {ambiguous}s, but several samples share one: use sample ids or paths" if ambiguous else ""
    if not hint and len(unknown) < len(names):
        hint = "\n  leave the rows of names that no sample has out with: --extra drop"
    hint += _written_otherwise(unknown, manifest)
    raise ManifestError(
        f"{len(unknown)} of {len(names)} names are no {kind} of {manifest.where} (first: {listing(unknown)})\n"
        f"  a sample there: id {manifest.ids[0]!r}, path {manifest.samples[0].path!r}{hint}"
    )


def _frame(name: str) -> str:
    """What frames of a video have in common however they are written: ``7/frame_12.png`` and ``07/00012.jpg`` alike."""
    path = _posix(name)
    number = re.fullmatch(r".*?([0-9]{1,9})", path.stem, re.DOTALL)
    video = path.parent.name
    if number is None or not video:
        return name
    return f"{int(video) if re.fullmatch('[0-9]{1,9}', video) else video.casefold()}/{int(number[1])}"


def _posix(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _written_otherwise(unknown: Sequence[str], manifest: Manifest) -> str:
    """A hint, if names are ids whose leading zeros a spreadsheet cut, or whose accents a Mac wrote apart."""
    numbers = {str(int(text)): text for text in manifest.ids if text.isascii() and text.isdigit() and text[:1] == "0"}
    composed = {unicodedata.normalize("NFC", text): text for text in manifest.ids}
    for name in unknown:
        if name in numbers:
            return f"\n  {name!r} may be {numbers[name]!r}, whose zeros a spreadsheet cuts: import names as text there"
        if unicodedata.normalize("NFC", name) in composed:
            return f"\n  {name!r} looks like an id, but one of them writes its accents as a Mac does: write both alike"
    return ""


def _spelt_otherwise(spelt: Sequence[str], places: Mapping[str, int]) -> list[int] | None:
    """Positions of paths that another system writes otherwise, if all are found so and no two are one sample's.

    They may begin with folders of another machine. Ids are never compared so: one that only looks alike is another.
    """
    if len(set(spelt)) < len(spelt):
        return None
    alike = {_spelt(key): position for key, position in places.items()}
    if len(alike) < len(places):
        return None
    for start in ("", *starts(spelt)):
        found = [alike.get(name[len(start) :], -1) for name in spelt]
        if -1 not in found:
            return found
    return None


def _spelt(name: str) -> str:
    """A name as it is compared where systems differ: slashes, `./`, quotes, letter case and the form of accents."""
    return folded(plain_path(name))


def _share(row_of: dict[str, int], manifest: Manifest, digests: Sequence[str]) -> None:
    by_digest = {d: row_of[s] for s, d in zip(manifest.ids, digests, strict=True) if d and s in row_of}
    for sample_id, digest in zip(manifest.ids, digests, strict=True):
        if sample_id not in row_of and digest in by_digest:
            row_of[sample_id] = by_digest[digest]
