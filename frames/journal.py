"""What has been done of a video so far, a line a frame, so that a killed run goes on where it was.

A line is written after the pictures that it names. A torn last line is dropped; a picture counts as there only when
its digest is the one in its line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cer_fusion.backbones.errors import FramesError
from cer_fusion.frames.faces.face import Box, Face


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
    FramesError
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
        raise FramesError(f"another process is making frames here: {path} is locked\n  wait for it to end") from None
