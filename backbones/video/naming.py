"""Names of videos and frames, as the ABAW compound-expression challenge gives them: `01/00001.jpg`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from backbones.errors import VideoError, listed

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".mts", ".ts")
"""What marks a file as a video in a folder; a file that is named itself may end as it likes."""


def video_name(path: Path) -> str:
    """The name of a video's folder: its file name without ending, and two digits at least where that is a number."""
    stem = path.stem
    return f"{int(stem):02d}" if re.fullmatch(r"[0-9]{1,9}", stem) else stem


def frame_name(number: int, ending: str) -> str:
    """`00001.jpg`: the frame's number from 1, in five digits at least."""
    return f"{number:05d}.{ending}"


def named_videos(path: Path) -> dict[str, Path]:
    """The videos that a path means, by name: a file, or every video in a folder.

    Raises
    ------
    VideoError
        If there is none, or two would have one name.
    """
    if not path.exists():
        raise VideoError(f"there is no video or folder {path}")
    if not path.is_dir():
        return _by_name([path])
    found = sorted(one for one in path.iterdir() if one.suffix.lower() in SUFFIXES and not one.name.startswith("."))
    if not found:
        names = sorted(one.name for one in path.iterdir())
        raise VideoError(
            f"{path} holds no video ({', '.join(SUFFIXES[:5])}, …); it holds {listed(names) if names else 'nothing'}"
        )
    return _by_name(found)


def _by_name(paths: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        name = video_name(path)
        if name.startswith(".") or name in found:
            other = f"{found[name].name} and {path.name} would both be" if name in found else f"{path.name} would be"
            raise VideoError(f"{other} the folder {name!r}: rename one\n  in folder: {path.parent}")
        found[name] = path
    return found
