"""Aff-Wild2's annotations: a text file a video, a header line, then a line for each frame.

Line i below the header is frame i, counted from 1, and lies in `<video>/00001.jpg` and so on. Lists of expressions make
the samples: frames where no face was found have no picture in the official crops, and invalid ones the number -1; both
are counted and left out. Lists of action units (a column an AU, 0 or 1, -1 unknown) and of valence and arousal (in
[-1, 1], -5 unknown) of the same videos are further columns of these samples. Their training and validation parts are
cut otherwise than those of the expressions: a sample stays in the part of its expression.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from ....kit.text import is_told_separator, lines_of
from ...errors import ManifestError, listing
from ..class_sets import class_set
from ..manifest import Manifest, Sample
from ..targets import AFFECT, Target, target_of, write_targets
from .base import Adapted, Gathering, adapter, targets_of, with_targets
from .tree import Tree

_SPLITS = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}
_EXPECTED = "annotations such as EXPR_.../Train_Set/<video>.txt and frames <video>/00001.jpg"


@adapter("affwild2", "Aff-Wild2 EXPR: a text file a video, <video>/00001.jpg")
def read_affwild2(root: Path, *, encoding: str | None = None) -> Adapted:
    """Read the annotated frames, with action units, valence and arousal where there are lists of them.

    The group of a frame is its video.

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
    further: Counter[str] = Counter()
    header = [label.lower() for label in classes.labels]
    for name in texts:
        words = _words(tree.first_line(name))  # before it is read whole: a licence may be in any encoding
        if (kind := _further(words)) is not None:
            further[kind] += 1
            continue
        if words != header:
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
    if further:
        told = " and ".join(f"{count:,} lists of {kind}" for kind, count in sorted(further.items()))
        notes.append(f"{told}: columns of the manifest; --targets FILE writes them to a table apart instead")
    adapted = found.adapted(_EXPECTED, notes=notes)
    columns, rows = _further_rows(tree, texts, adapted.manifest.ids)
    return with_targets(adapted, [one.column for one in columns], rows)


@targets_of("affwild2")
def write_affwild2_targets(
    root: Path, manifest: Manifest, path: Path, *, encoding: str | None = None, overwrite: bool = True, **read: Any
) -> int:
    """Write the action units, valence and arousal of the samples, `sample_id,AU1,…,valence,arousal`.

    Returns
    -------
    int
        Of how many samples something is known.

    Raises
    ------
    ManifestError
        With file and line: an AU that is not 0, 1 or -1, a number out of [-1, 1] that is not -5, lists of other AUs,
        two lists of one kind for a video; or if there is no list.
    """
    tree = Tree(root, encoding)
    columns, rows = _further_rows(tree, _texts(tree), manifest.ids)
    if not columns:
        raise ManifestError(
            f"{root} has no list of action units, nor of valence and arousal: expected such as AU_Detection_Challenge/"
            "Train_Set/<video>.txt that begins with AU1,AU2,…"
        )
    return write_targets(path, manifest.ids, [one.kind for one in columns], rows, overwrite=overwrite)


def _further_rows(tree: Tree, texts: Iterable[str], ids: Iterable[str]) -> tuple[list[Target], dict[str, list[float]]]:
    """What lists of units and of affect have columns for, and the numbers of each sample that they say anything of."""
    wanted = set(ids)
    columns: dict[str, list[Target]] = {}
    rows: dict[str, dict[str, float]] = {}
    seen: dict[tuple[str, str], str] = {}
    for name in texts:
        words = _words(tree.first_line(name))
        if (kind := _further(words)) is None:
            continue
        targets = [one for one in map(target_of, words) if one is not None]
        titles, expected = ([one.kind for one in some] for some in (targets, columns.setdefault(kind, targets)))
        if titles != expected:
            raise ManifestError(
                f"{tree.where(name)}: expected the columns of the other lists, {', '.join(expected)}, however: "
                f"{', '.join(titles)}"
            )
        video = PurePosixPath(name).stem
        if (other := seen.setdefault((kind, video.lower()), name)) != name:
            raise ManifestError(f"{tree.where(name)}: a second list of {kind} for this video, beside {other}")
        for number, (where, cells) in enumerate(_lines(tree, name), 1):
            if len(cells) != len(titles):
                raise ManifestError(f"{where}: expected {', '.join(titles)}, however: {len(cells)} numbers")
            values = [one.value(cell, where) for one, cell in zip(targets, cells, strict=True)]
            if (sample := f"{video}/{number:05d}") in wanted:
                rows.setdefault(sample, {}).update(zip(titles, values, strict=True))
    found = [one for kind in (_UNITS, _AFFECT) for one in columns.get(kind, ())]
    return found, {name: [row.get(one.kind, math.nan) for one in found] for name, row in rows.items()}


_UNITS, _AFFECT = "action units", "valence and arousal"


def _further(words: list[str]) -> str | None:
    """What a list is of, by the words of its first line; None for any other file."""
    if words == list(AFFECT):
        return _AFFECT
    found = [target_of(word) for word in words]
    return _UNITS if words and all(one is not None and one.unit is not None for one in found) else None


def _lines(tree: Tree, name: str) -> list[tuple[str, list[str]]]:
    """Place and cells of each line below the first."""
    lines = lines_of(tree.text(name))
    above = 1 + is_told_separator(lines[0])
    rest = [line.strip(" \t,;|\"'") for line in lines[above:]]
    while rest and not rest[-1]:
        rest.pop()
    return [
        (f"{tree.where(name)}:{number}", re.split(r"[\s,;|\"']+", line)) for number, line in enumerate(rest, above + 1)
    ]


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
