"""Frames of videos, one folder a video: `01/00001.jpg`, as the ABAW compound challenge numbers them.

The id of a sample is the challenge's `image_location`: the video's folder, and the number of the frame from 1 in five
digits. There are no labels; the group of a frame is its video.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ...errors import ManifestError, listing
from ..class_sets import class_set
from ..manifest import Sample
from ..sidecar import FRAMES_ENDING, frames_origin
from .base import Adapted, Gathering, adapter
from .tree import Tree

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp", ".264", ".asf", ".avi", ".flv", ".gif", ".h264", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg",
        ".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
    }
)  # fmt: skip
_NOT_A_NUMBER = "picture whose name is no frame number"
_OTHER_SERIES = "numbered picture of another name beside 00001.jpg"
_LAST = 9_999_999
"""The highest number taken for a frame's; what is higher is a time or an id."""


@adapter("frames", "C-EXPR-DB, ABAW: frames <video>/00001.jpg, no labels")
def read_frames(
    root: Path, *, classes: str = "abaw7", first_frame: int | None = None, encoding: str | None = None
) -> Adapted:
    """List frames in the order of their videos and numbers.

    Parameters
    ----------
    root : Path
        Folder or archive that holds folders of frames, however deep; a frame is called by its number, or by a word and
        its number, the word being the same in all of a folder (``frame_00001.jpg``).
    classes : str
        The class set that predictions will be from; no sample has a label.
    first_frame : int, optional
        The number that the first frame of a video has in the file names; ids count from 1. Left out: 1, and a frame 0
        is refused.
    encoding : str, optional

    Raises
    ------
    ManifestError
        If there are no frames, or they are not one series of numbers a video that counts from `first_frame`.
    """
    tree = Tree(root, encoding)
    tree.use(
        name for name in tree.names if name.endswith((FRAMES_ENDING, ".frames.csv"))
    )  # what cer-feat frames leaves
    found = Gathering(tree, class_set(classes))
    videos: dict[str, dict[int, str]] = {}
    folders: dict[str, str] = {}
    renamed = 0
    worded: list[str] = []
    for folder, frames in _series(tree, found.left_out):
        video = _video_name(PurePosixPath(folder).name)
        if folders.setdefault(video, folder) != folder:
            raise ManifestError(
                f"{root} has two folders of frames called {video!r}: {folders[video]} and {folder}\n  "
                f"name the folder that holds one set of frames"
            )
        for number, name in frames:
            if videos.setdefault(video, {}).setdefault(number, name) != name:
                raise ManifestError(f"{root} has frame {number} of {video} twice: {videos[video][number]} and {name}")
            if number > _LAST:
                raise ManifestError(f"{name}: {number} is no frame's number, which goes up to {_LAST:,}")
            renamed += PurePosixPath(name).name != f"{number:05d}.jpg"
            if not PurePosixPath(name).stem.isdecimal():
                worded.append(name)
    first = 1 if first_frame is None else first_frame
    _check_the_first(videos, first, root)
    for video, numbers in sorted(videos.items()):
        for number in sorted(numbers):
            found.add(Sample(f"{video}/{number - first + 1:05d}.jpg", numbers[number], "", "", video))
    adapted = found.adapted(_expected(tree), notes=_notes(videos, folders, renamed, worded, first))
    return replace(adapted, manifest=replace(adapted.manifest, origin=frames_origin(root)))


def _series(tree: Tree, left_out: Counter[str]) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    """Folders, and in each the numbers and names of its frames: those that are a number alone, else the one series."""
    by_folder: dict[str, dict[str, list[tuple[int, str]]]] = {}
    for name in tree.pictures():
        path = PurePosixPath(name)
        numbered = re.fullmatch(r"(.*?)([0-9]+)", path.stem, re.DOTALL)
        if numbered is None or len(path.parts) < 2:
            left_out[_NOT_A_NUMBER] += 1
            continue
        series = by_folder.setdefault(str(path.parent), {})
        series.setdefault(numbered[1], []).append((int(numbered[2]), name))
    for folder, series in by_folder.items():
        if "" not in series and len(series) > 1:
            kinds = listing(f"{word}… ({len(frames):,})" for word, frames in sorted(series.items()))
            raise ManifestError(
                f"{folder} holds {len(series)} series of numbered pictures: {kinds}\n"
                "  a video is one series: give each a folder of its own"
            )
        chosen = "" if "" in series else next(iter(series))
        left_out[_OTHER_SERIES] += sum(len(frames) for word, frames in series.items() if word != chosen)
        yield folder, series[chosen]
    if not left_out[_OTHER_SERIES]:
        del left_out[_OTHER_SERIES]


def _video_name(folder: str) -> str:
    """As the challenge calls it: two digits at least, and no zeros to spare."""
    return f"{int(folder):02d}" if re.fullmatch(r"[0-9]{1,9}", folder) else folder


def _check_the_first(videos: dict[str, dict[int, str]], first: int, root: Path) -> None:
    early = sorted(video for video, frames in videos.items() if min(frames) < first)
    if not early:
        return
    lowest = min(min(videos[video]) for video in early)
    where = next(videos[video][lowest] for video in early if lowest in videos[video])
    raise ManifestError(
        f"{root}: frames are counted from {lowest} in {len(early):,} of {len(videos):,} videos (first: {where}), "
        f"expected: from {first}{', as the challenge counts' if first == 1 else ''}\n"
        f"  if {lowest} is the first frame everywhere, say --first-frame {lowest}: the ids then count from 1"
    )


def _notes(
    videos: dict[str, dict[int, str]], folders: dict[str, str], renamed: int, worded: list[str], first: int
) -> list[str]:
    notes = [f"{len(videos):,} videos; ids are <video>/<frame in five digits>.jpg, as in the challenge's template"]
    if renamed:
        notes.append(f"{renamed:,} frames have other file names; their ids are as if they had that form")
    if worded:
        notes.append(
            f"{len(worded):,} of them have a word before their number, which is passed over (first: {worded[0]})"
        )
    others = [f"{path} is {video}" for video, path in folders.items() if PurePosixPath(path).name != video]
    if others:
        notes.append(f"{len(others):,} folders are called otherwise than the challenge calls videos: {listing(others)}")
    if first != 1:
        none = "" if any(first in frames for frames in videos.values()) else "; no video has a frame of that number"
        notes.append(f"frames are counted from {first} in the file names; ids count from 1, so {first} is 00001{none}")
    lengths = {video: max(frames) - first + 1 for video, frames in sorted(videos.items())}
    gaps = {video: length - len(videos[video]) for video, length in lengths.items() if length > len(videos[video])}
    if gaps:
        notes.append(
            f"{sum(gaps.values()):,} frames before the last of their video have no picture, in {len(gaps):,} videos: "
            f"{listing(f'{video} ({count:,})' for video, count in gaps.items())}"
        )
    return notes


def _expected(tree: Tree) -> str:
    videos = [name for name in tree.names if PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES]
    hint = f"\n  these are videos: {listing(videos)}; make frames of them with: cer-feat frames" if videos else ""
    return f"<video>/00001.jpg{hint}"
