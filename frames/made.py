"""What stands in a folder of frames for one video: its index, its table, its folders of pictures.

::

    <output>/
      01/00001.jpg …      pictures, numbered as the frames
      01-track2/00001.jpg …   with `--faces all`, a folder a track instead
      01.frames.csv       a row a face: frame, time, box, points, score, track, picture
      01.frames.json      the index, sealed: source, settings, versions, counts, faults; written last: the commit
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cer_fusion.backbones.errors import FramesError
from cer_fusion.backbones.sealed import read_sealed, write_sealed

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
    skipped: bool = False
    """It was there already; not part of the file."""

    def write(self, path: Path) -> None:
        """Write the index."""
        body = {key: value for key, value in vars(self).items() if key != "skipped"}
        write_sealed(path, body, kind=_FORMAT, version=_VERSION)

    @classmethod
    def read(cls, path: Path) -> MadeFrames:
        """Read an index back; raises FramesError if it is none, or was changed."""
        body = read_sealed(path, kind=_FORMAT, version=_VERSION, error=FramesError)
        try:
            body["folders"] = tuple(body["folders"])
            body["without_picture"] = tuple((first, last) for first, last in body["without_picture"])
            return cls(**body)
        except (KeyError, TypeError, ValueError) as error:
            raise FramesError(f"{path} does not hold the fields of a {_FORMAT}: {error}") from None


def index_path(output: Path, video: str) -> Path:
    """Where a video's index lies."""
    return output / f"{video}.frames.json"


def table_path(output: Path, video: str) -> Path:
    """Where a video's table lies."""
    return output / f"{video}.frames.csv"


def file_sha256(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def runs(numbers: Sequence[int], every: int) -> tuple[tuple[int, int], ...]:
    """Rising numbers, `every` apart where they follow each other, as (first, last) of each run."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and number == found[-1][1] + every:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)
