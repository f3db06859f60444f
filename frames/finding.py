"""What lies at a path: videos with their names, pictures, and what is neither. What is in a file decides, not its name.

Folders are gone through with all folders in them and behind links; every file ends up somewhere or is counted. Videos
and frames are named as the ABAW compound-expression challenge does: `01/00001.jpg`.
"""

from __future__ import annotations

import codecs
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from ..kit.errors import MissingExtraError, listing
from ..kit.pictures import picture_kind
from .decoding import list_kind, moving_pictures, opened
from .errors import VideoError

SUFFIXES = (
    ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2",
    ".mts", ".m2ts", ".m2t", ".ts", ".vob", ".ogv", ".mxf", ".rm", ".rmvb", ".divx", ".dv", ".h264", ".264", ".avc",
    ".h265", ".265", ".hevc", ".m1v", ".m2v", ".ivf", ".mjpg", ".mjpeg", ".y4m", ".qt", ".nut", ".wtv",
)  # fmt: skip
"""Endings that say that a video is meant: such a file is told when it cannot be read. Others are found by content."""
PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif",
)  # fmt: skip
"""Endings that say that a picture is meant."""
Kind = Literal["video", "picture", "list", "other"]

_HEAD = 4096
_MAY_MOVE = (b"\x89PNG", b"GIF8")
_SEQUENCES = (b"avis", b"hevc", b"hevx", b"hevm", b"hevs", b"msf1")
"""Brands of what moves in a picture format: FFmpeg may play it."""
_FRAMES_OF_JPEG = (".mjpg", ".mjpeg")


@dataclass(frozen=True, kw_only=True)
class Held:
    """What was found at a path."""

    root: Path
    """The folder, or that of the file."""
    videos: tuple[Path, ...]
    """In the order of their paths, as are the pictures."""
    pictures: tuple[Path, ...]
    left_out: dict[str, int]
    """What is neither: an ending or a reason, and how many."""

    def with_pictures_left_out(self) -> dict[str, int]:
        """What is no video, counted."""
        return {**Counter(f"{_ending(path)} (pictures)" for path in self.pictures), **self.left_out}


def held_by(path: Path | str, *, apart_from: Path | str | None = None) -> Held:
    """Look at a file, or at all files in a folder, the folders in it and behind links.

    Parameters
    ----------
    path : Path
    apart_from : Path, optional
        A folder that is passed over: where results are written.

    Raises
    ------
    VideoError
        If there is nothing, or the folder cannot be read.
    """
    path = Path(path)
    apart_from = None if apart_from is None else Path(apart_from)
    if not path.exists():
        raise VideoError(f"there is no video or folder {path}")
    left_out: Counter[str] = Counter()
    found: dict[Kind, list[Path]] = {"video": [], "picture": [], "list": [], "other": []}
    for one in _files(path, apart_from, left_out) if path.is_dir() else [path]:
        kind = kind_of(one)
        found[kind].append(one)
        if kind in ("list", "other"):
            left_out[_ending(one) + (" (lists of other files)" if kind == "list" else "")] += 1
    return Held(
        root=path if path.is_dir() else path.parent,
        videos=tuple(found["video"]),
        pictures=tuple(found["picture"]),
        left_out=dict(sorted(left_out.items())),
    )


def kind_of(path: Path) -> Kind:
    """What a file is: by its first bytes, by FFmpeg where they do not say, and by its ending where nothing can be read.

    A file of a picture format that moves (GIF, PNG) is a video. One that is neither is what its ending says, so that
    it is told where it cannot be read rather than passed over.
    """
    ending = path.suffix.lower()
    meant: Kind = "video" if ending in SUFFIXES else "picture" if ending in PICTURE_SUFFIXES else "other"
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return meant
    if _is_picture(head):
        moves = head.startswith(_MAY_MOVE) and _moves(path)
        return "video" if moves or ending in _FRAMES_OF_JPEG else "picture"
    if list_kind(head) is not None:
        return "list"
    if _is_text(head):
        return "other" if ending == ".ts" else meant  # TypeScript has that ending, too
    film = meant == "picture" and head[4:8] == b"ftyp"  # a film that is called as a picture, whole or not
    return "video" if ending in SUFFIXES or film or _decodes(path) else meant


def is_moving_webp(path: Path | str) -> bool:
    """Whether a file is a WebP picture that moves: none for FFmpeg, so that it is a picture and its first frame counts.

    The flag is the second bit of the header of its extended form (WebP container specification).
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(21)
    except OSError:
        return False
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and head[20:21] != b"" and bool(head[20] & 2)


def video_name(path: Path | str) -> str:
    """The name of a video's folder: its file name without ending, and two digits at least where that is a number.

    Bytes of the name that are no UTF-8 become `%E9`, as in addresses: tables and ids are text.
    """
    path = Path(path)
    stem = printable(path.stem)
    return f"{int(stem):02d}" if re.fullmatch(r"[0-9]{1,9}", stem) else stem


def printable(name: str) -> str:
    """A file's name as text."""
    return re.sub(r"[\udc80-\udcff]", lambda found: f"%{ord(found[0]) - 0xDC00:02X}", name)


def frame_name(number: int, ending: str) -> str:
    """`00001.jpg`: the frame's number from 1, in five digits at least."""
    return f"{number:05d}.{ending}"


def named_videos(path: Path | str, held: Held | None = None) -> dict[str, Path]:
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
    path = Path(path)
    held = held_by(path) if held is None else held
    if not path.is_dir():
        if held.pictures:
            raise VideoError(f"{path} is a picture, no video")
        return _by_name((path,), path.parent)
    if not held.videos:
        names = listing(sorted(printable(one) for one in os.listdir(path)))
        there = ", ".join(f"{count:,} × {what}" for what, count in held.with_pictures_left_out().items())
        raise VideoError(f"{path} holds no video; it holds {names or 'nothing'}" + (f" ({there})" if there else ""))
    return _by_name(held.videos, path)


def _files(folder: Path, apart_from: Path | None, left_out: Counter[str]) -> Iterator[Path]:
    """All plain files, sorted; a folder that several ways lead to once, so that links in a circle end."""

    def unreadable(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise VideoError(f"{folder} cannot be read: {error.strerror}") from None
        left_out["folders that cannot be read"] += 1

    skipped = None if apart_from is None else apart_from.resolve()
    seen = {folder.resolve()}
    found = []
    for base, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        going_on = []
        for name in sorted(folders, key=lambda name: (os.path.islink(os.path.join(base, name)), name)):
            real = Path(base, name).resolve()
            if real == skipped:
                continue
            if name.startswith("."):
                left_out["hidden folders"] += 1
            elif real in seen:
                left_out["links to folders that are looked at anyway"] += 1
            else:
                seen.add(real)
                going_on.append(name)
        folders[:] = going_on
        for name in names:
            one = Path(base, name)
            if name.startswith("."):
                left_out["hidden files"] += 1
            elif one.is_file():
                found.append(one)
            else:
                left_out["links that lead nowhere" if one.is_symlink() else "what is no plain file"] += 1
    yield from sorted(found)


def _is_picture(head: bytes) -> bool:
    """True for pictures of every kind, also those that are not opened here: whoever opens them tells what they are."""
    return bool(picture_kind(head)[0]) and not (head[4:8] == b"ftyp" and head[8:12] in _SEQUENCES)


def _moves(path: Path) -> bool:
    """Whether a GIF or PNG has more than one picture."""
    try:
        with Image.open(path, formats=("GIF", "PNG")) as picture:
            return bool(getattr(picture, "is_animated", False))
    except Exception:  # a boundary: what a decoder cannot open is told by whoever reads it as a picture
        return False


def _is_text(head: bytes) -> bool:
    if head.startswith(b"YUV4MPEG2") or b"\0" in head:
        return False
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # which may end within a character
    except UnicodeDecodeError:
        return False
    return True


def _decodes(path: Path) -> bool:
    """Whether FFmpeg finds a first frame in a file whose name does not say that it is a video."""
    try:
        with opened(path) as container:
            stream, _ = moving_pictures(container, path)
            return next(container.decode(stream), None) is not None
    except MissingExtraError:
        return False  # whoever reads videos says what to install
    except Exception:  # a boundary: any file may be here, and FFmpeg raises nearly anything
        return False


def _ending(path: Path) -> str:
    return path.suffix.lower() or "no ending"


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
            f"{listing(clashes)}: "
            "rename one, or make frames of one folder at a time, each with an --output of its own\n"
            f"  in folder: {root}"
        )
    return found
