"""Aff-Wild2's expression annotations: a text file a video, a header line, then the number of a class for each frame.

Line i below the header is frame i, counted from 1, and lies in `<video>/00001.jpg` and so on. Frames where no face was
found have no picture in the official crops, and invalid ones the number -1: both are counted and left out.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from ....kit.text import is_told_separator, lines_of
from ...errors import ManifestError, listing
from ..class_sets import class_set
from ..manifest import Sample
from .base import Adapted, Gathering, adapter
from .tree import Tree

_SPLITS = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}
_EXPECTED = "annotations such as EXPR_.../Train_Set/<video>.txt and frames <video>/00001.jpg"


@adapter("affwild2", "Aff-Wild2 EXPR: a text file a video, <video>/00001.jpg")
def read_affwild2(root: Path, *, encoding: str | None = None) -> Adapted:
    """Read the annotated frames; the group of a frame is its video.

    Parameters
    ----------
    root : Path
        Folder or archive that holds the annotations and the frames, at any depth.
    encoding : str, optional
    """
    tree = Tree(root, encoding)
    texts = _texts(tree)
    tree.use(texts)
    classes = class_set("affwild2_expr8")
    found = Gathering(tree, classes)
    frames = _frames(tree)
    without: list[str] = []
    notes: list[str] = []
    header = [label.lower() for label in classes.labels]
    for name in texts:
        if _words(tree.first_line(name)) != header:  # before it is read whole: a licence may be in any encoding
            found.left_out["text file that is no annotation of expressions"] += 1
            continue
        lines = lines_of(tree.text(name))
        above = 1 + is_told_separator(lines[0])
        video = PurePosixPath(name).stem
        split = _split(name, tree)
        here = frames.get(video.lower(), {})
        if not here:
            without.append(video)
        labelled = _add(found, lines[above:], above, tree.where(name), video, split, here)
        beyond = sum(number > labelled for number in here)
        if beyond:
            found.left_out["frame after the last line of its annotation"] += beyond
    if without:
        notes.append(
            f"{len(without)} annotated videos have no frames: {listing(without)}; put them under {root} as "
            f"<video>/00001.jpg, or make them with: cer-feat frames"
        )
    return found.adapted(_EXPECTED, notes=notes)


def _texts(tree: Tree) -> list[str]:
    """Names of what may be annotations: text files, and those that a spreadsheet saved as CSV."""
    texts = [name for name in tree.names if name.lower().endswith(".txt")]
    stems = {name.lower().removesuffix(".txt") for name in texts}
    saved = [name for name in tree.names if name.lower().endswith(".csv") and name.lower()[:-4] not in stems]
    return sorted((*texts, *saved))


def _words(line: str) -> list[str]:
    return [word for word in re.split(r"[\s,;|\"']+", line.lower()) if word]


def _add(
    found: Gathering, lines: list[str], above: int, where: str, video: str, split: str, here: dict[int, str]
) -> int:
    """Take the frames of one video that have a valid label and a picture; return how many lines there are."""
    lines = [line.strip(" \t,;|\"'") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    for number, text in enumerate(lines, 1):
        label = found.label(text, f"{where}:{number + above}")
        if label is None:
            continue
        if number not in here:
            found.left_out["labelled frame without a picture"] += 1
            continue
        found.add(Sample(f"{video}/{number:05d}", here[number], label, split, video))
    return len(lines)


def _frames(tree: Tree) -> dict[str, dict[int, str]]:
    """Video in lower case, to number of a frame, to its path."""
    frames: dict[str, dict[int, str]] = {}
    for name in tree.pictures():
        path = PurePosixPath(name)
        if path.stem.isdecimal() and len(path.parts) > 1:
            frames.setdefault(path.parts[-2].lower(), {}).setdefault(int(path.stem), name)
    return frames


def _split(name: str, tree: Tree) -> str:
    for part in reversed(name.lower().split("/")[:-1]):
        for word, split in _SPLITS.items():
            if part.startswith(word):
                return split
    raise ManifestError(f"{tree.where(name)} lies in no set: expected a folder such as Train_Set or Validation_Set")
