"""Frames of videos, one folder a video: `01/00001.jpg`, as the ABAW compound challenge numbers them.

The id of a sample is the challenge's `image_location`: the video's folder, and the number of the frame from 1 in five
digits. There are no labels; the group of a frame is its video.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from featstore.adapters.base import Adapted, Gathering
from featstore.adapters.tree import Tree
from featstore.class_sets import class_set
from featstore.errors import ManifestError, listing
from featstore.frames_origin import ENDING, frames_origin
from featstore.manifest import Sample

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})
_NOT_A_NUMBER = "picture whose name is no frame number"


def read_frames(root: Path, *, classes: str = "abaw7", encoding: str | None = None) -> Adapted:
    """List frames in the order of their videos and numbers.

    Parameters
    ----------
    root : Path
        Folder or archive that holds folders of frames, however deep.
    classes : str
        The class set that predictions will be from; no sample has a label.
    encoding : str, optional
        Of an archive's names where it does not say it, and of texts that are not UTF-8.
    """
    tree = Tree(root, encoding)
    tree.use(name for name in tree.names if name.endswith((ENDING, ".frames.csv")))  # what cer-feat frames leaves
    found = Gathering(tree, class_set(classes))
    videos: dict[str, dict[int, str]] = {}
    folders: dict[str, str] = {}
    renamed = 0
    for name in tree.pictures():
        path = PurePosixPath(name)
        if not path.stem.isdecimal() or len(path.parts) < 2:
            found.left_out[_NOT_A_NUMBER] += 1
            continue
        video, number, folder = path.parts[-2], int(path.stem), str(path.parent)
        if folders.setdefault(video, folder) != folder:
            raise ManifestError(
                f"{root} has two folders of frames called {video!r}: {folders[video]} and {folder}\n  "
                f"name the folder that holds one set of frames"
            )
        if videos.setdefault(video, {}).setdefault(number, name) != name:
            raise ManifestError(f"{root} has frame {number} of {video} twice: {videos[video][number]} and {name}")
        renamed += path.name != f"{number:05d}.jpg"
    for video, frames in sorted(videos.items()):
        for number in sorted(frames):
            found.add(Sample(f"{video}/{number:05d}.jpg", frames[number], "", "", video))
    adapted = found.adapted(_expected(tree), notes=_notes(videos, renamed))
    return replace(adapted, manifest=replace(adapted.manifest, origin=frames_origin(root)))


def _notes(videos: dict[str, dict[int, str]], renamed: int) -> list[str]:
    notes = [f"{len(videos):,} videos; ids are <video>/<frame in five digits>.jpg, as in the challenge's template"]
    if renamed:
        notes.append(f"{renamed:,} frames have other file names; their ids are as if they had that form")
    gaps = {video: max(frames) - len(frames) for video, frames in sorted(videos.items()) if max(frames) > len(frames)}
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
