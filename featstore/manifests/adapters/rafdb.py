"""RAF-DB's two parts: `EmoLabel/list_patition_label.txt` (the official misspelling) beside `Image/aligned/`.

Archives nest the part once or twice (`compound/compound/Image/…`), so the label file is looked for. The split is the
prefix of the picture's name, `train_` or `test_`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.adapters.base import Adapted, Gathering, named_number
from cer_fusion.featstore.manifests.adapters.tree import Tree
from cer_fusion.featstore.manifests.class_sets import ClassSet, class_set
from cer_fusion.featstore.manifests.manifest import Sample
from cer_fusion.featstore.manifests.places import folded, plain_path

Pictures = Literal["aligned", "original"]
_LABELS = "EmoLabel/list_patition_label.txt"


def read_basic(root: Path, *, pictures: Pictures = "aligned", encoding: str | None = None) -> Adapted:
    """RAF-DB's basic part: seven single expressions, 12,271 train and 3,068 test pictures in the official release."""
    return _read(root, "basic", class_set("rafdb_basic7"), pictures, encoding)


def read_compound(root: Path, *, pictures: Pictures = "aligned", encoding: str | None = None) -> Adapted:
    """RAF-DB's compound part: eleven classes, 3,954 pictures in the official release.

    Parameters
    ----------
    root : Path
        Folder or archive that holds the part, however deep.
    pictures : {"aligned", "original"}
        The 100 x 100 aligned faces, or the pictures they were cut from.
    encoding : str, optional
        Of an archive's names where it does not say it, and of texts that are not UTF-8.
    """
    return _read(root, "compound", class_set("rafdb_compound11"), pictures, encoding)


def check_pictures(pictures: str) -> None:
    """Refuse anything but the two sets of pictures that RAF-DB and RAF-CE have."""
    if pictures not in ("aligned", "original"):
        raise ManifestError(f"pictures must be 'aligned' or 'original', however: {pictures!r}")


def picture_name(name: str, pictures: Pictures) -> str:
    """What the picture of `train_00001.jpg` is called: `train_00001_aligned.jpg` for the aligned one."""
    stem, _, suffix = name.rpartition(".")
    return name if pictures == "original" else f"{stem}_aligned.{suffix}"


def _read(root: Path, part: str, classes: ClassSet, pictures: Pictures, encoding: str | None) -> Adapted:
    check_pictures(pictures)
    tree = Tree(root, encoding)
    expected = f"RAF-DB's {part} part: {part}/{_LABELS} and {part}/Image/aligned/"
    label_file = tree.find_one(_LABELS, expected, part)
    base = label_file[: -len(_LABELS)]
    found = Gathering(tree, classes)
    for line, text in tree.lines(label_file):
        where = f"{tree.where(label_file)}:{line}"
        name, number = _parse(text, where)
        label = found.label(number, where)
        path = _place(tree, f"{base}Image/", pictures, picture_name(name, pictures))
        split = name.split("_")[0].lower()
        found.add(Sample(PurePosixPath(name).stem, path, label or "", split), line)
    adapted = found.adapted(f"lines such as 'train_00001.jpg 5' in {label_file}", where=tree.where(label_file))
    return with_hint(adapted, tree, pictures, f"{base}Image/")


def _place(tree: Tree, folder: str, pictures: Pictures, name: str) -> str:
    """Where a picture is: in its folder, or the only one of its name below that, as some archives unpack it."""
    official = tree.picture(f"{folder}{pictures}/{name}")
    if official in tree:
        return official
    deeper = [one for one in tree.called(name) if folded(one).startswith(folded(f"{folder}{pictures}/"))]
    return deeper[0] if len(deeper) == 1 else official


def with_hint(adapted: Adapted, tree: Tree, pictures: Pictures, folder: str) -> Adapted:
    """Say so where all pictures of the one set are missing and the other set is there."""
    other = "original" if pictures == "aligned" else "aligned"
    there = any(name.lower().startswith(f"{folder}{other}/".lower()) for name in tree.names)
    if not there or len(adapted.missing) < len(adapted.manifest):
        return adapted
    note = f"there are no {pictures} pictures, but there are {other} ones: take them with --pictures {other}"
    return replace(adapted, notes=(*adapted.notes, note))


def _parse(text: str, where: str) -> tuple[str, str]:
    found = named_number(text)
    if found is None:
        raise ManifestError(f"{where}: expected 'train_00001.jpg 5', however: {text!r}")
    name = PurePosixPath(plain_path(found[0])).name
    if not name.lower().startswith(("train_", "test_")):
        raise ManifestError(f"{where}: the split is the prefix 'train_' or 'test_', however: {found[0]!r}")
    return name, found[1]
