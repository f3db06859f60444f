"""What lies beside a manifest's CSV: the class order, the root of the pictures' paths, their origin, the CSV's digest.

Two files cannot be replaced in one step. In a store the JSON file therefore keeps the entry before it as well: between
the two writes, or after a power cut there, the old CSV is still read with its own classes and root.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...kit.documents import canonical, read_sealed
from ..errors import CommitError, FormatError, ManifestError, NewerFormatError
from ..rows import files
from .class_sets import ClassSet, found_classes
from .csv_table import table_bytes

BLOCK_ROWS = 8192
"""Samples of a large sealed manifest that are read together."""
log = logging.getLogger(__name__)
FORMAT, FORMAT_VERSION = "cer-manifest", 1
FRAMES_ENDING, FRAMES_FORMAT, FRAMES_VERSION = ".frames.json", "cer-fusion frames index", 1
"""The indexes that `cer-feat frames` leaves beside the pictures it makes."""
_ATTEMPTS = 5
_READING = 1
"""Of the rules by which cells are read: a file that was read by others is read again."""


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Where in a sealed CSV each `BLOCK_ROWS` samples stand, so that some can be read and trusted alone."""

    samples: int
    starts: tuple[int, ...]
    """First byte of each block, and the file's size."""
    sha256: tuple[str, ...]
    """Of each block's bytes, in hex."""
    ids_sha256: str
    """`Manifest.ids_digest`."""
    ids_sums: str = ""
    """What hashes of the ids add up to (`sums_to_text`); empty where whoever wrote this did not say."""
    columns: tuple[str, ...] = ()
    """Titles of the columns behind those that every manifest has."""

    @classmethod
    def of(
        cls, header: bytes, blocks: Sequence[bytes], samples: int, ids_sha256: str, ids_sums: str,
        columns: Sequence[str] = (),
    ) -> Blocks:  # fmt: skip
        """Take them from the parts that a CSV is made of."""
        starts = itertools.accumulate(map(len, blocks), initial=len(header))
        return cls(
            samples=samples,
            starts=tuple(starts),
            sha256=tuple(hashlib.sha256(block).hexdigest() for block in blocks),
            ids_sha256=ids_sha256,
            ids_sums=ids_sums,
            columns=tuple(columns),
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "samples": self.samples,
            "starts": list(self.starts),
            "sha256": list(self.sha256),
            "ids_sha256": self.ids_sha256,
            "ids_sums": self.ids_sums,
            **({"columns": list(self.columns)} if self.columns else {}),
        }

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Blocks:
        """Undo `to_json`; raises KeyError or TypeError for anything else."""
        samples, starts, sha256, of_ids = (body[key] for key in ("samples", "starts", "sha256", "ids_sha256"))
        sums, columns = body.get("ids_sums", ""), body.get("columns", [])
        numbers = [samples, *starts]
        if any(type(number) is not int or number < 0 for number in numbers) or list(starts) != sorted(starts):
            raise TypeError("blocks are counts of samples and ascending places in a file")
        if (
            not all(isinstance(text, str) for text in (*sha256, of_ids, sums, *columns))
            or len(starts) != len(sha256) + 1
        ):
            raise TypeError("blocks have a digest each")
        if -(-samples // BLOCK_ROWS) != len(sha256):
            raise TypeError(f"{samples} samples are not {len(sha256)} blocks")
        return cls(
            samples=samples, starts=tuple(starts), sha256=tuple(sha256), ids_sha256=of_ids, ids_sums=sums,
            columns=tuple(columns),
        )  # fmt: skip

    def read(self, path: Path, number: int) -> bytes:
        """Bytes of one block.

        Raises
        ------
        FormatError
            If they are not those that were written.
        """
        with path.open("rb") as file:
            file.seek(self.starts[number])
            data = file.read(self.starts[number + 1] - self.starts[number])
        if hashlib.sha256(data).hexdigest() != self.sha256[number]:
            raise FormatError(
                f"{path} was changed or damaged after it was written, or is being written: samples "
                f"{number * BLOCK_ROWS:,} to {min(self.samples, (number + 1) * BLOCK_ROWS) - 1:,} have not the digest "
                f"in {_beside(path).name}\n  run the command again, or {_advice(path)}"
            )
        return data


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """The content of `manifest.json`."""

    classes: ClassSet
    """In order."""
    root: str
    """Where the pictures' paths start, from the CSV's folder."""
    csv_sha256: str = ""
    """Of the CSV it belongs to; empty where the CSV may be edited."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """What made the pictures, where that is known; JSON values."""
    previous: Sidecar | None = None
    """The entry before it, without its own previous one."""
    blocks: Blocks | None = field(default=None, compare=False)
    """Of a large sealed CSV: what is needed to read some samples of it."""
    source: str = field(default="", compare=False)
    """What a large sealed CSV was made from, as `Sidecar.source_of` says it; empty where that is not known."""
    bare: bool = False
    """Stands for a CSV that had no JSON file beside it, and is read as such."""

    def of(self, data: bytes) -> Sidecar | None:
        """The entry that belongs to a CSV of these bytes; None if none does."""
        if not self.csv_sha256:
            return self
        digest = hashlib.sha256(data).hexdigest()
        return next((s for s in (self, self.previous) if s is not None and s.csv_sha256 == digest), None)

    @staticmethod
    def source_of(csv_sha256: str, sidecar: Sidecar | None) -> str:
        """Digest of what a manifest's rows and classes follow from: its file, and what its JSON file says."""
        beside = None if sidecar is None else replace(sidecar, previous=None, blocks=None, source="").to_json()
        return hashlib.sha256(canonical([_READING, csv_sha256, beside])).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        labels = list(self.classes.labels)
        body: dict[str, Any] = {
            "classes": {"name": self.classes.name, "labels": labels, "first_id": self.classes.first_id},
            "root": self.root,
        }
        if self.csv_sha256:
            body["csv_sha256"] = self.csv_sha256
        if self.origin:
            body["origin"] = dict(self.origin)
        if self.bare:
            body["bare"] = True
        if self.blocks is not None:
            body["blocks"] = self.blocks.to_json()
        if self.source:
            body["source"] = self.source
        if self.previous is not None:
            body["previous"] = self.previous.to_json()
        return body

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> Sidecar:
        """Undo `to_json`; raises KeyError, TypeError or AttributeError for anything else."""
        name, labels, first_id = (body["classes"][key] for key in ("name", "labels", "first_id"))
        texts = isinstance(labels, list) and all(isinstance(text, str) for text in (name, body["root"], *labels))
        if not texts or type(first_id) is not int or not isinstance(body.get("csv_sha256", ""), str):
            raise TypeError("a class list is a name, a list of texts and the number of the first class")
        origin = body.get("origin", {})
        if not isinstance(origin, dict):
            raise TypeError("an origin is an object")
        return cls(
            classes=ClassSet(name=name, labels=tuple(labels), first_id=first_id),
            root=body["root"],
            csv_sha256=body.get("csv_sha256", ""),
            origin=origin,
            previous=cls.from_json(body["previous"]) if "previous" in body else None,
            bare=body.get("bare") is True,
            blocks=Blocks.from_json(body["blocks"]) if "blocks" in body else None,
            source=str(body.get("source", "")),
        )


def read_with_sidecar(path: Path) -> tuple[bytes, Sidecar | None]:
    """Bytes of a CSV and what its JSON file says of it; None if there is no JSON file.

    Raises
    ------
    FormatError
        If the JSON file is not one of ours or is damaged, or the CSV is not the one that it was written with.
    ManifestError
        If there is no CSV.
    """
    if path.suffix.lower() == ".json":
        raise ManifestError(f"{path} is the JSON file beside a manifest: name the CSV, {path.with_suffix('.csv').name}")
    ours = in_store(path)
    if ours and path.exists() and not path.is_file():  # reading a named pipe would wait for ever
        raise FormatError(f"{path} is not a file: this is not a complete dataset")
    for _ in range(_ATTEMPTS):  # a writer may be between its files
        try:
            sidecar = _read(path)
        except NewerFormatError:
            raise
        except FormatError as error:
            raise FormatError(f"{error}\n  {_advice(path)}") from None
        data = table_bytes(path)
        if sidecar is None and ours:
            raise FormatError(
                f"{_beside(path)} is missing: without it the order of the classes would be guessed\n  {_advice(path)}"
            )
        found = None if sidecar is None else sidecar.of(data)
        if found is not None and found.csv_sha256:
            return data, None if found.bare else found
        if (found is not None or sidecar is None) and _read(path) == sidecar:  # nothing else binds the two
            return data, found
    edit = "to change labels or splits, edit a manifest of your own and give it to: cer-feat use-manifest\n  "
    raise FormatError(
        f"{path} was changed or damaged after it was written: its digest is not the one in {_beside(path).name}\n"
        f"  {edit if ours else ''}{_advice(path)}"
    )


def _advice(path: Path) -> str:
    """How a pair that does not hold together is brought back."""
    if in_store(path):
        first = f"move {_beside(path)} away, then " if _beside(path).is_dir() else ""
        return f"{first}bring it back with: cer-feat use-manifest with the manifest it was made from"
    return (
        "run the command that wrote it again\n"
        f"  or remove {_beside(path).name}, and its classes are its labels in alphabetical order"
    )


def in_store(path: Path) -> bool:
    """True for the `manifest.csv` of a dataset in a store."""
    return path.name == "manifest.csv" and (path.absolute().parent.parent / "store.json").exists()


def write_with_sidecar(path: Path, data: bytes, sidecar: Sidecar, *, sealed: bool) -> None:
    """Write a CSV and its JSON file; an older pair is replaced, and at every moment one whole pair can be read.

    Without a seal the JSON file binds both CSVs by their digests as long as the writing goes on, and none afterwards.

    Raises
    ------
    FormatError
        If a JSON file is there that is not ours, or is of a newer release. In a store a damaged one is replaced.
    ManifestError
        If the CSV's own name is that of a JSON file.
    CommitError
        If the disk refuses.
    """
    if path.suffix.lower() == ".json":
        raise ManifestError(
            f"{path}: a manifest is a CSV file, and the JSON file beside it has that name\n"
            f"  write it to: {path.with_suffix('.csv')}"
        )
    if not sealed:
        _read(path)  # never overwrite somebody else's file
        write_with_sidecar(path, data, sidecar, sealed=True)
        files.write_document(_beside(path), FORMAT, FORMAT_VERSION, sidecar.to_json())
        return
    new = replace(sidecar, csv_sha256=hashlib.sha256(data).hexdigest())
    present = _present(path)
    if present == new:  # nothing to do, which works in a read-only store too
        if (present.blocks, present.source) != (new.blocks, new.source):
            _note(path, new)
        return
    for _ in range(_ATTEMPTS):  # again if another writer's JSON file came between our two
        files.write_document(_beside(path), FORMAT, FORMAT_VERSION, replace(new, previous=_present(path)).to_json())
        files.replace(path, data)
        written = _read(path)
        if written is not None and written.of(data) is not None:
            return
    raise FormatError(f"{path} is being written by others all the time: run the same command again")


def write_new_with_sidecar(path: Path, data: bytes, sidecar: Sidecar) -> None:
    """Write a CSV that may be edited and its JSON file under two new names; whoever takes the first has both.

    As long as the writing goes on, the JSON file is bound to this CSV: one that somebody else puts there meanwhile, or
    after a kill, is not read with these classes.

    Raises
    ------
    OutputExistsError
        If one of the names is taken; then neither is written.
    CommitError
        If the disk refuses.
    """
    beside = _beside(path)
    if os.path.lexists(path):
        raise files.taken(path)
    bound = replace(sidecar, csv_sha256=hashlib.sha256(data).hexdigest())
    files.write_document(beside, FORMAT, FORMAT_VERSION, bound.to_json(), overwrite=False)
    try:
        files.write_output(path, data, overwrite=False)
    except BaseException:
        if not (path.is_file() and path.read_bytes() == data):  # else it came after the CSV had got its name
            files.remove(beside)
        raise
    files.write_document(beside, FORMAT, FORMAT_VERSION, sidecar.to_json())


def _present(path: Path) -> Sidecar | None:
    """The entry of the CSV that is there now, sealed; None if there is none, or either file is damaged.

    A CSV without a JSON file has a bare one, but for stores, where the JSON file must be there.
    """
    try:
        sidecar = _read(path)
    except NewerFormatError:
        raise
    except FormatError:
        return None
    if not path.exists() or (sidecar is None and in_store(path)):
        return None
    data = path.read_bytes()
    found = Sidecar(classes=found_classes(()), root=".", bare=True) if sidecar is None else sidecar.of(data)
    return None if found is None else replace(found, csv_sha256=hashlib.sha256(data).hexdigest(), previous=None)


def _note(path: Path, new: Sidecar) -> None:
    """Say beside a CSV that stays as it is where its samples stand, and what it was made from; no promise needs it."""
    try:
        files.write_document(_beside(path), FORMAT, FORMAT_VERSION, new.to_json())
    except (CommitError, OSError) as error:
        log.debug("not noted what %s was made from: %s", path, error)


def read_sealed_sidecar(path: Path) -> Sidecar | None:
    """What is said of a sealed CSV of which some samples can be read; None of any other, and of none.

    Raises
    ------
    NewerFormatError
        If a newer release wrote it.
    """
    try:
        sidecar = _read(path)
        size = path.stat().st_size
    except NewerFormatError:
        raise
    except (FormatError, FileNotFoundError):
        return None
    if sidecar is None or sidecar.blocks is None or not sidecar.csv_sha256 or size != sidecar.blocks.starts[-1]:
        return None
    return sidecar


def read_source(path: Path) -> tuple[str, str] | None:
    """What a manifest's file and the JSON file beside it are, without reading them: source, and root from the folder.

    None where that takes reading: a sealed pair, no file, a damaged one.
    """
    try:
        sidecar = _read(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (FormatError, OSError):
        return None
    if sidecar is not None and sidecar.csv_sha256:
        return None
    return Sidecar.source_of(digest, sidecar), "." if sidecar is None else sidecar.root


def _read(path: Path) -> Sidecar | None:
    beside = _beside(path)
    if not beside.exists():
        return None
    body = files.read_document(beside, FORMAT, FORMAT_VERSION)
    try:
        return Sidecar.from_json(body)
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{beside} lacks a field of a {FORMAT}: {error}") from None


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")


def frames_origin(folder: Path) -> dict[str, Any]:
    """Settings, weights and versions that a folder's frames were made with, and of which videos.

    Returns
    -------
    dict
        ``{"frames": [{"identity": …, "versions": …, "videos": {name: {"file", "bytes", "sha256"}}}, …]}``, one entry a
        way of making them; empty where there is no index (frames made elsewhere, an archive).

    Raises
    ------
    FormatError
        If an index is damaged, or of a newer release.
    """
    ways = []
    for path in sorted(folder.rglob(f"*{FRAMES_ENDING}")) if folder.is_dir() else []:
        index = read_sealed(path, kind=FRAMES_FORMAT, version=FRAMES_VERSION, error=FormatError)
        try:
            videos = {index["video"]: index["source"]}
            ways.append({"identity": index["identity"], "versions": index["versions"], "videos": videos})
        except KeyError as error:
            raise FormatError(f"{path} lacks a field of a {FRAMES_FORMAT}: {error}") from None
    return {"frames": _joined_ways(ways)} if ways else {}


def joined_origin(origins: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What made the pictures of all: frames made in the same way are one entry; what differs otherwise is told."""
    joined: dict[str, Any] = {}
    for name, origin in origins.items():
        for key, value in origin.items():
            if key == "frames" and isinstance(value, list) and isinstance(joined.get(key, []), list):
                joined[key] = _joined_ways([*joined.get(key, []), *value])
            elif key not in joined:
                joined[key] = value
            elif joined[key] != value:
                log.warning("the origins of the manifests differ in %r; that of %s is left out", key, name)
    without = [name for name, origin in origins.items() if not origin]
    if joined and without:
        log.warning("what made the pictures of %s is not known; the origin is that of the others", ", ".join(without))
    return joined


def _joined_ways(ways: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ways of making frames, those that differ only in their videos as one, unless they disagree on a video."""
    found: list[dict[str, Any]] = []
    for way in ways:
        videos = way.get("videos", {})
        for known in found:
            others = known.get("videos", {})
            if {**known, "videos": None} == {**way, "videos": None} and all(
                others[video] == videos[video] for video in others.keys() & videos.keys()
            ):
                known["videos"] = {**others, **videos}
                break
        else:
            found.append(dict(way))
    return found
