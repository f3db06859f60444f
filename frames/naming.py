"""Names of videos and frames, as the ABAW compound-expression challenge gives them: `01/00001.jpg`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cer_fusion.backbones.errors import VideoError, listed
from cer_fusion.frames.finding import Held, held_by


def video_name(path: Path) -> str:
    """The name of a video's folder: its file name without ending, and two digits at least where that is a number.

    Bytes of the name that are no UTF-8 become `%E9`, as in addresses: tables and ids are text.
    """
    stem = printable(path.stem)
    return f"{int(stem):02d}" if re.fullmatch(r"[0-9]{1,9}", stem) else stem


def printable(name: str) -> str:
    """A file's name as text."""
    return re.sub(r"[\udc80-\udcff]", lambda found: f"%{ord(found[0]) - 0xDC00:02X}", name)


def frame_name(number: int, ending: str) -> str:
    """`00001.jpg`: the frame's number from 1, in five digits at least."""
    return f"{number:05d}.{ending}"


def named_videos(path: Path, held: Held | None = None) -> dict[str, Path]:
    """The videos that a path means, by name: a file, or every video in a folder and the folders in it.

    Parameters
    ----------
    path : Path
    held : Held, optional
        What was found there already.

    Raises
    ------
    VideoError
        If there is none, the file is a picture, or two would have one name.
    """
    held = held_by(path) if held is None else held
    if not path.is_dir():
        if held.pictures:
            raise VideoError(f"{path} is a picture, no video")
        return _by_name((path,), path.parent)
    if not held.videos:
        names = listed(sorted(printable(one) for one in os.listdir(path)))
        there = ", ".join(f"{count:,} × {what}" for what, count in held.with_pictures_left_out().items())
        raise VideoError(f"{path} holds no video; it holds {names or 'nothing'}" + (f" ({there})" if there else ""))
    return _by_name(held.videos, path)


def _by_name(paths: tuple[Path, ...], root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    clashes = []
    for path in paths:
        name = video_name(path)
        if name.startswith("."):
            raise VideoError(f"{path.name} would be the folder {name!r}: rename it\n  in folder: {path.parent}")
        if name not in found:
            found[name] = path
        elif not os.path.samefile(found[name], path):  # a link beside what it leads to is no second video
            both = " and ".join(printable(str(one.relative_to(root))) for one in (found[name], path))
            clashes.append(f"{both} would both be the folder {name!r}")
    if clashes:
        raise VideoError(
            f"{listed(clashes)}: rename one, or make frames of one folder at a time, each with an --output of its own\n"
            f"  in folder: {root}"
        )
    return found
