"""FER+: the faces of FER2013 with ten annotators' votes, in either of its two forms.

The folders that its own generation script writes, `FER2013Train/label.csv` beside the 48 x 48 pictures; or its
`fer2013new.csv` beside FER2013's `fer2013.csv`, row by row, from which the pictures are written into a zip file.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import ManifestError, nearest
from ...rows import files
from ..class_sets import class_set
from ..manifest import Manifest, Sample
from ..places import plain_path
from .base import Adapted, Gathering, adapter
from .fer2013 import Row, pixel_file, read_rows, usage_split, write_pictures
from .tree import Tree

VOTES = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip
"""Vote columns in the file's order; `NF` is "not a face"."""
_BASIC = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
_PAIRS = {
    ("fear", "surprise"): "Fearfully Surprised",
    ("happiness", "surprise"): "Happily Surprised",
    ("sadness", "surprise"): "Sadly Surprised",
    ("disgust", "surprise"): "Disgustedly Surprised",
    ("anger", "surprise"): "Angrily Surprised",
    ("sadness", "fear"): "Sadly Fearful",
    ("sadness", "anger"): "Sadly Angry",
}
_FOLDERS = {"FER2013Train": "train", "FER2013Valid": "valid", "FER2013Test": "test"}
_VOTES_FILE = "fer2013new.csv"
_EXPECTED = "FER2013Train/label.csv, FER2013Valid/label.csv or FER2013Test/label.csv, or fer2013.csv and fer2013new.csv"


class Face(NamedTuple):
    """One face and its votes."""

    sample_id: str
    path: str
    split: str
    votes: dict[str, int]
    row: Row | None
    """Where its pixels are, in the form of two CSV files."""


@adapter("ferplus", "FER+: FER2013Train/label.csv …, or fer2013.csv and fer2013new.csv")
def read_ferplus(
    root: Path,
    *,
    labels: str = "compound7",
    archive: Path | None = None,
    encoding: str | None = None,
    overwrite: bool = True,
) -> Adapted:
    """Read FER+ with one of two label sets made from the votes.

    Parameters
    ----------
    root : Path
        Folder or archive that holds `FER2013Train/`, `FER2013Valid/` and `FER2013Test/`, or some of them; or
        `fer2013.csv` and `fer2013new.csv`.
    labels : {"compound7", "basic8"}
        `compound7`: the ABAW pair whose two emotions both have at least 2 votes and strictly more than each of the
        other four basic emotions. `basic8`: the emotion with most of the votes, at least 6 of 10. Both need NF = 0.
    archive : Path, optional
        The zip file that pictures of `fer2013.csv` are written to; must be given for that form.
    encoding : str, optional
    overwrite : bool
        Replace a zip file of that name.
    """
    rules = {"compound7": (compound7, "abaw7"), "basic8": (basic8, "basic8")}
    if labels not in rules:
        raise ManifestError(f"no FER+ label set {labels!r}; {nearest(labels, rules)}")
    decide, classes = rules[labels]
    tree = Tree(root, encoding)
    found = Gathering(tree, class_set(classes))
    pixels = pixel_file(tree) if tree.find(_VOTES_FILE) else None

    def faces() -> Iterator[tuple[str, bytes]]:
        for face in _faces(tree):
            label = decide(face.votes) if face.votes["NF"] == 0 else None
            if label is None:
                found.left_out["not a face" if face.votes["NF"] else f"votes do not make a {labels} label"] += 1
                continue
            found.add(Sample(face.sample_id, face.path, label, face.split))
            if face.row is not None:
                yield face.path, face.row.picture(tree.where(pixels or ""))

    if pixels is None:
        list(faces())
        return found.adapted(_EXPECTED)
    if archive is None:
        raise ManifestError(f"{root} holds pixels in a CSV file: name the zip file that their pictures are written to")
    write_pictures(archive, faces(), overwrite=overwrite)
    return found.adapted(_EXPECTED, written=archive)


def write_votes(
    root: Path,
    manifest: Manifest,
    path: Path,
    *,
    labels: str = "basic8",
    encoding: str | None = None,
    overwrite: bool = True,
) -> int:
    """Write the annotators' votes, `sample_id,Neutral,Happiness,…` or `sample_id,Fearfully Surprised,…`, to learn soft
    labels from.

    A pair of emotions has as many votes as there are pairs of annotators one of whom saw the first, the other the
    second emotion: the product of the two counts. (FER+ asked for one emotion; the pairs are ours.)

    Parameters
    ----------
    root : Path
        As for `read_ferplus`.
    manifest : Manifest
        Whose samples get a line, in the dataset's order.
    labels : str
        As for `read_ferplus`: of which classes the votes are to be.
    path : Path
        The CSV to write.
    encoding : str, optional
        As for `read_ferplus`.
    overwrite : bool
        Replace a file of that name.

    Returns
    -------
    int
        How many lines were written.
    """
    wanted = set(manifest.ids)
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    columns = {(emotion,): emotion.capitalize() for emotion in VOTES[:8]} if labels == "basic8" else _PAIRS
    table.writerow(["sample_id", *columns.values()])
    lines = [
        [face.sample_id, *(math.prod(face.votes[emotion] for emotion in emotions) for emotions in columns)]
        for face in _faces(Tree(root, encoding))
        if face.sample_id in wanted
    ]
    table.writerows(lines)
    files.write_output(path, out.getvalue().encode(), overwrite=overwrite)
    return len(lines)


def _faces(tree: Tree) -> Iterator[Face]:
    """Every face of either form."""
    if tree.find(_VOTES_FILE):
        yield from _faces_of_pair(tree)
        return
    for folder, split in _FOLDERS.items():
        for label_file in tree.find(f"{folder}/label.csv")[:1]:
            base = label_file.removesuffix(label_file.rpartition("/")[2])
            where = tree.where(label_file)
            columns, wanted = ("Image name", "box", *VOTES), ("Image name", *VOTES)
            fields = f"name, box and {len(VOTES)} votes"
            for line, (called, *cells) in tree.rows(label_file, columns, wanted, headless=True, fields=fields):
                votes = parse_votes(cells, f"{where}:{line}")
                name = plain_path(called) or called
                stem = name.rpartition(".")[0] or name
                yield Face(stem, tree.picture(base + name), split, votes, None)


def _faces_of_pair(tree: Tree) -> Iterator[Face]:
    votes_file = tree.find_one(_VOTES_FILE, f"FER+'s {_VOTES_FILE} beside fer2013.csv")
    pixels_file = pixel_file(tree)
    where = tree.where(votes_file)
    pixels = read_rows(tree, pixels_file)
    columns, fields = ("Usage", "Image name", *VOTES), f"Usage, Image name and {len(VOTES)} votes"
    rows = tree.rows(votes_file, columns, columns, headless=True, fields=fields)
    for number, (line, row) in enumerate(rows):
        beside = next(pixels, None)
        if beside is None or beside.split != usage_split(row[0], f"{where}:{line}"):
            found = "no row" if beside is None else f"a row of its {beside.split} split"
            raise ManifestError(
                f"{where}:{line} and {tree.where(pixels_file)} are not of one release: their rows belong together in "
                f"order, however: {row[0]} stands beside {found}"
            )
        name = row[1] or f"row{number:05d}.png"  # FER+ gives no name to what most say is no face
        stem = name.rpartition(".")[0] or name
        yield Face(stem, name, beside.split, parse_votes(row[2:], f"{where}:{line}"), beside)
    if next(pixels, None) is not None:
        raise ManifestError(f"{where} ends before {tree.where(pixels_file)}: they are not of one release")


def compound7(votes: Mapping[str, int]) -> str | None:
    """The ABAW pair that the votes agree on, if there is one.

    Both emotions have at least 2 votes and strictly more than each of the other four basic emotions.
    """
    for pair, label in _PAIRS.items():
        weakest = min(votes[emotion] for emotion in pair)
        if weakest >= 2 and all(weakest > votes[other] for other in _BASIC if other not in pair):
            return label
    return None


def basic8(votes: Mapping[str, int]) -> str | None:
    """The single emotion with at least 6 of the 10 votes, if there is one."""
    best = max(VOTES[:8], key=lambda emotion: votes[emotion])
    return best.capitalize() if votes[best] >= 6 else None


def parse_votes(cells: Sequence[str], where: str) -> dict[str, int]:
    """Ten cells of a CSV file as votes by column.

    Raises
    ------
    ManifestError
        With the place.
    """
    try:
        votes = [float(cell.replace(",", ".")) for cell in cells]  # 4,0 where the comma is the decimal mark
    except ValueError:
        raise ManifestError(f"{where}: votes must be numbers, however: {list(cells)}") from None
    if not all(vote.is_integer() and vote >= 0 for vote in votes):
        raise ManifestError(f"{where}: votes must be whole numbers from 0 up, however: {list(cells)}")
    return dict(zip(VOTES, map(int, votes), strict=True))
