"""AffectNet in any of its three layouts; which one it is shows in the files.

The release of eight labels has one `.npy` a picture, the full release lists in CSV files, and many copies are plain
folders `{train,val}/{0..7}/`. Ids 8 (None), 9 (Uncertain) and 10 (No-Face) are counted and left out. The official
validation set becomes the split `valid`. Valence and arousal of the lists are columns of the manifest; those of the
`.npy` release, two more files a picture, are not read.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ...errors import FormatError, ManifestError
from ...exchange.foreign_formats import read_npy_header
from ..class_sets import class_set
from ..manifest import Sample
from ..places import plain_path
from ..targets import AFFECT, target_of
from .base import Adapted, Gathering, adapter, tail
from .tree import PICTURE_SUFFIXES, Tree

_LISTS = {"training.csv": "train", "validation.csv": "valid", "automatically_annotated.csv": "train"}
_COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
    "valence", "arousal",
)  # fmt: skip
"""The official order, for lists that lack their header (some copies of validation.csv do)."""
_FOLDERS = {"train_set": "train", "val_set": "valid", "train": "train", "val": "valid", "valid": "valid"}
_EXPECTED = (
    "AffectNet: {train_set,val_set}/annotations/<id>_exp.npy and images/<id>.jpg, or "
    "Manually_Annotated_file_lists/{training,validation}.csv and Manually_Annotated_Images/, or {train,val}/{0..7}/"
)


@adapter("affectnet", "AffectNet: .npy annotations, CSV lists, or {train,val}/{0..7}/")
def read_affectnet(root: Path, *, encoding: str | None = None) -> Adapted:
    """Read AffectNet, whatever its layout, with its eight classes.

    Parameters
    ----------
    root : Path
        Folder or archive that holds the files of one release, however deep.
    encoding : str, optional
    """
    tree = Tree(root, encoding)
    found = Gathering(tree, class_set("affectnet8"))
    annotations = [name for name in tree.names if name.lower().endswith("_exp.npy")]
    lists = [name for name in tree.names if PurePosixPath(name).name.lower() in _LISTS]
    if annotations:
        _read_annotations(tree, found, annotations)
        return found.adapted(_EXPECTED, notes=["layout: the release of eight labels, one .npy file a picture"])
    if lists:
        _read_lists(tree, found, lists)
        read = ", ".join(tail(name, 1) for name in lists)
        return found.adapted(_EXPECTED, notes=[f"layout: the full release, from {read}"])
    _read_folders(tree, found)
    return found.adapted(_EXPECTED, notes=["layout: one folder a class, named by its number"])


def _read_annotations(tree: Tree, found: Gathering, annotations: Sequence[str]) -> None:
    seen: dict[bytes, str] = {}  # hundreds of thousands of files hold one of eleven numbers
    for name in annotations:
        base, _, file = name.rpartition("annotations/")
        split = _FOLDERS.get(PurePosixPath(base).name.lower())
        if split is None:
            raise ManifestError(
                f"{tree.where(name)} lies in no set: expected train_set/annotations/ or val_set/annotations/"
            )
        stem = file[: -len("_exp.npy")]
        data = tree.read(name)
        if data not in seen:
            seen[data] = expression(data, tree.where(name))
        label = found.label(seen[data], tree.where(name))
        if label is not None:
            found.add(Sample(f"{split}/{stem}", _any_suffix(tree, f"{base}images/{stem}"), label, split))


def _any_suffix(tree: Tree, stem: str) -> str:
    for suffix in (".jpg", *sorted(PICTURE_SUFFIXES)):
        path = tree.picture(stem + suffix)
        if path in tree:
            return path
    return f"{stem}.jpg"


def _read_lists(tree: Tree, found: Gathering, lists: Sequence[str]) -> None:
    folders = _picture_folders(tree)
    for name in lists:
        split, where = _LISTS[PurePosixPath(name).name.lower()], tree.where(name)
        begins = tree.first_line(name).lower()
        whole = "expression" not in begins or all(one in begins for one in AFFECT)  # the header may be missing
        affect = AFFECT if whole else ()
        rows = tree.rows(name, _COLUMNS, (_COLUMNS[0], "expression", *affect), headless=True)
        for line, (path, number, *said) in rows:
            label = found.label(number, f"{where}:{line}")
            if label is not None:
                path = plain_path(path)
                ends = dict.fromkeys((path, tail(path, 2)))  # a list of another machine may hold whole paths
                candidates = [tree.picture(folder + end) for end in ends for folder in folders]
                place = next((one for one in candidates if one in tree), candidates[0])
                sample = Sample(path.rpartition(".")[0] or path, place, label, split)
                found.add(sample.knowing(_affect(said, f"{where}:{line}")))


def _affect(said: Sequence[str], where: str) -> dict[str, float]:
    """Valence and arousal, where both are known: -2 is the list's word for what nobody could say."""
    if not said or any(cell.strip() in ("", "-2") for cell in said):
        return {}
    columns = (target_of(title) for title in AFFECT)
    return {one.column: one.value(cell.strip(), where) for one, cell in zip(columns, said, strict=True) if one}


def _picture_folders(tree: Tree) -> list[str]:
    """Where the lists' paths may start: below each folder that is called as the releases call it, else at the root."""
    known = ("manually_annotated_images", "automatically_annotated_images")
    found: set[str] = set()
    for name in tree.names:
        parts = name.split("/")
        found.update("/".join(parts[: i + 1]) + "/" for i, part in enumerate(parts[:-1]) if part.lower() in known)
    return sorted(found) or [""]


def _read_folders(tree: Tree, found: Gathering) -> None:
    odd = 0
    for name in tree.pictures():
        *above, last, file = ["", "", *name.split("/")]
        split = _FOLDERS.get(above[-1].lower())
        if split is None or not last.isdecimal():
            odd += 1
            continue
        label = found.label(last, tree.where(name))
        if label is not None:
            found.add(Sample(f"{split}/{last}/{file.rpartition('.')[0]}", name, label, split))
    if odd:
        found.left_out["not in {train,val}/{0..7}/"] = odd


_MAX_BYTES = 4096
"""Far more than the header and a number take."""


def expression(data: bytes, where: str) -> str:
    """The number in an `<id>_exp.npy` file, as text.

    The file is untrusted: it is refused before NumPy builds anything if it is large, holds objects, or more than one
    value.

    Raises
    ------
    ManifestError
        With the place.
    """
    if len(data) > _MAX_BYTES:
        raise ManifestError(f"{where} has {len(data):,} bytes: expected one number")
    try:
        header = read_npy_header(io.BytesIO(data), where)
    except FormatError as error:
        raise ManifestError(str(error)) from None
    if header.shape not in ((), (1,)) or header.dtype.kind not in "USiuf" or header.offset + header.nbytes > len(data):
        raise ManifestError(f"{where} must hold one number, however: {header.dtype} {header.shape}")
    value = np.load(io.BytesIO(data), allow_pickle=False, max_header_size=_MAX_BYTES).reshape(()).item()  # (1,) -> ()
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return text.strip().removesuffix(".0")
