"""The table of a video's frames and faces: `<video>.frames.csv`, a row a face, and a row for a frame without one."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cer_fusion.backbones.errors import FramesError
from cer_fusion.backbones.finetuning.atomic import make_whole
from cer_fusion.frames.faces.face import LANDMARKS, Box, Face

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

    def make(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(map(_cells, rows))

    make_whole(path, make)


def read_table(path: Path) -> Iterator[Row]:
    """Read the rows back, one by one.

    Raises
    ------
    FramesError
        Naming file and line, if it is no such table.
    """
    try:
        file = path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise FramesError(f"cannot read {path}: {error.strerror}") from None
    with file:
        lines = csv.reader(file, strict=True)
        if tuple(next(lines, ())) != COLUMNS:
            raise FramesError(f"{path}:1: expected the columns {', '.join(COLUMNS)}")
        for cells in lines:
            try:
                yield _row(cells)
            except (ValueError, IndexError) as error:
                raise FramesError(f"{path}:{lines.line_num}: {error}") from None


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
