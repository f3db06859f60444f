"""A folder of frames: what stands in it for a video, and the journal that a killed run goes on from.

::

    <output>/
      01/00001.jpg …      pictures, numbered as the frames
      01-track2/00001.jpg …   with `--faces all`, a folder a track instead
      01.frames.csv       the table, a row a face: frame, time, box, points, score, track, picture
      01.frames.json      the index, sealed: source, settings, versions, counts, faults; written last: the commit
      .01.frames/         while it is being made: journal, pictures without names
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ..kit.documents import read_sealed, write_sealed
from ..kit.files import whole_file
from ..kit.plain import NOT_KEPT, from_plain, to_plain
from .errors import FolderError
from .faces import LANDMARKS, Box, Face

_FORMAT, _VERSION = "cer-fusion frames index", 1


@dataclass(frozen=True, kw_only=True)
class MadeFrames:
    """A finished video."""

    video: str
    """Its name, `01`."""
    source: dict[str, Any]
    """File name, bytes and sha256 of the video."""
    identity: dict[str, Any]
    """What fixes the pictures besides; see `FrameSettings.identity`."""
    versions: dict[str, str]
    """Of the libraries that made them; see `FrameSettings.versions`."""
    facts: dict[str, Any]
    """What the file turned out to be; see `VideoReader.facts`."""
    folders: tuple[str, ...]
    """Folders of pictures."""
    counts: dict[str, int]
    """frames (looked at), cuts, pictures, faces, tracks, without_face, without_main, several_faces, damaged."""
    without_picture: tuple[tuple[int, int], ...]
    """Frames that have no picture, as (first, last) of runs of frames looked at."""
    table_sha256: str
    """Of the CSV."""
    skipped: bool = field(default=False, metadata=NOT_KEPT)
    """It was there already; not part of the file."""

    def write(self, path: Path | str) -> None:
        """Write the index."""
        path = Path(path)
        write_sealed(path, to_plain(self), kind=_FORMAT, version=_VERSION)

    @classmethod
    def read(cls, path: Path | str) -> MadeFrames:
        """Read an index back; raises FolderError if it is none, or was changed."""
        path = Path(path)
        body = read_sealed(path, kind=_FORMAT, version=_VERSION, error=FolderError)
        return from_plain(cls, body, f"the index {path}", error=FolderError)


def index_path(output: Path | str, video: str) -> Path:
    """Where a video's index lies."""
    output = Path(output)
    return output / f"{video}.frames.json"


def table_path(output: Path | str, video: str) -> Path:
    """Where a video's table lies."""
    output = Path(output)
    return output / f"{video}.frames.csv"


def file_sha256(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


COLUMNS = (
    "frame", "time_s", "damaged", "face", "track", "main", "left", "top", "right", "bottom", "score",
    *(f"{name}_{axis}" for name in LANDMARKS for axis in "xy"), "picture",
)  # fmt: skip
_FIRST_FACE, _FIRST_POINT = COLUMNS.index("face"), COLUMNS.index("score") + 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row."""

    frame: int
    """Number, from 1."""
    time_s: float | None
    """When the frame is shown."""
    damaged: bool
    """The decoder had to guess parts of it."""
    face: Face | None = None
    """None: no face in this frame, or none was looked for."""
    position: int = 0
    """The face's number in its frame, from 1, the surest first."""
    track: int | None = None
    """The face's track, from 1."""
    main: bool = False
    """The face that counts."""
    picture: str = ""
    """What was written, `01/00001.jpg`; empty where nothing was."""


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows, whole or not at all; they need not be in memory together."""
    with whole_file(path, overwrite=True) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(map(_cells, rows))


def read_table(path: Path | str) -> Iterator[Row]:
    """Read the rows back, one by one.

    Raises
    ------
    FolderError
        Naming file and line, if it is no such table.
    """
    path = Path(path)
    try:
        file = path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise FolderError(f"cannot read {path}: {error.strerror}") from None
    with file:
        lines = csv.reader(file, strict=True)
        if tuple(next(lines, ())) != COLUMNS:
            raise FolderError(f"{path}:1: expected the columns {', '.join(COLUMNS)}")
        for cells in lines:
            try:
                yield _row(cells)
            except (ValueError, IndexError) as error:
                raise FolderError(f"{path}:{lines.line_num}: {error}") from None


def _cells(row: Row) -> list[str]:
    time = "" if row.time_s is None else f"{row.time_s:.6f}"
    cells = [str(row.frame), time, "yes" if row.damaged else ""]
    face = row.face
    if face is None:
        return [*cells, *[""] * (len(COLUMNS) - len(cells) - 1), row.picture]
    points = [f"{value:.2f}" for point in face.landmarks for value in point]
    places = [f"{value:.2f}" for value in face.box]
    track = "" if row.track is None else str(row.track)
    main = "yes" if row.main else ""
    return [*cells, str(row.position), track, main, *places, f"{face.score:.4f}", *points, row.picture]


def _row(cells: list[str]) -> Row:
    if len(cells) != len(COLUMNS):
        raise ValueError(f"expected {len(COLUMNS)} cells, however: {len(cells)}")
    face = None
    if cells[_FIRST_FACE]:
        left, top, right, bottom, score = map(float, cells[_FIRST_FACE + 3 : _FIRST_POINT])
        box: Box = (left, top, right, bottom)
        values = list(map(float, cells[_FIRST_POINT:-1]))
        face = Face(box=box, score=score, landmarks=tuple(zip(values[::2], values[1::2], strict=True)))
    return Row(
        frame=int(cells[0]),
        time_s=float(cells[1]) if cells[1] else None,
        damaged=cells[2] == "yes",
        face=face,
        position=int(cells[_FIRST_FACE] or 0),
        track=int(cells[_FIRST_FACE + 1]) if cells[_FIRST_FACE + 1] else None,
        main=cells[_FIRST_FACE + 2] == "yes",
        picture=cells[-1],
    )


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One frame as it was seen."""

    number: int
    """From 1."""
    time_s: float | None
    """When it is shown."""
    damaged: bool
    """The decoder had to guess parts of it."""
    change: float
    """How much it differs from the frame before; see `cuts.Changes`."""
    faces: tuple[Face, ...]
    """The surest first."""
    digests: tuple[str | None, ...]
    """sha256 of the pictures made of it: one a face (None where that face was not cut out), or the frame's."""


class Journal:
    """The file; opened for adding to it, under a lock that ends with the process.

    Parameters
    ----------
    path : Path
    header : dict
        What fixes the pictures: of which video, made how. A journal with another header is not gone on with.

    Raises
    ------
    FolderError
        If another process is at it.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self._file = path.open("a+b")
        _lock(self._file, path)
        self.end: dict[str, Any] | None = None
        """What is known once the video has been read to its end."""
        self.fresh = not self._goes_on(header)
        """Nothing of what was there can be used."""
        if self.fresh:
            self._file.truncate(0)
            self._append({"header": header})

    def seen(self) -> Iterator[Seen]:
        """The frames so far, in order, read line by line."""
        with self.path.open("rb") as file:
            next(file, None)
            for line in file:
                entry = json.loads(line)
                if "end" not in entry:
                    yield _seen(entry)

    def add(self, seen: Seen) -> None:
        """Write a frame down."""
        faces = [[*face.box, face.score, face.landmarks] for face in seen.faces]
        facts = {"n": seen.number, "t": seen.time_s, "damaged": seen.damaged, "change": seen.change}
        self._append({**facts, "faces": faces, "pictures": seen.digests})

    def finish(self, facts: dict[str, Any]) -> None:
        """Write down that the video ends here."""
        self.end = facts
        self._append({"end": facts})

    def close(self) -> None:
        """Let others at it."""
        self._file.close()

    def _append(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, separators=(",", ":"), allow_nan=False).encode() + b"\n")
        self._file.flush()

    def _goes_on(self, header: dict[str, Any]) -> bool:
        """Whether the file is this video's journal; cuts off what is not whole."""
        self._file.seek(0)
        whole = 0
        for i, line in enumerate(self._file):
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                entry = None
            if not isinstance(entry, dict) or (i == 0 and entry != json.loads(json.dumps({"header": header}))):
                break
            self.end = entry.get("end", self.end)
            whole += len(line)
        self._file.truncate(whole)
        return whole > 0


def _seen(entry: dict[str, Any]) -> Seen:
    faces = []
    for left, top, right, bottom, score, points in entry["faces"]:
        box: Box = (left, top, right, bottom)
        faces.append(Face(box=box, score=score, landmarks=tuple((x, y) for x, y in points)))
    return Seen(
        number=entry["n"],
        time_s=entry["t"],
        damaged=entry["damaged"],
        change=entry["change"],
        faces=tuple(faces),
        digests=tuple(entry["pictures"]),
    )


def _lock(file: IO[bytes], path: Path) -> None:
    """Keep other processes out where the platform can do that; the system lifts it when the process ends."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise FolderError(f"another process is making frames here: {path} is locked\n  wait for it to end") from None
