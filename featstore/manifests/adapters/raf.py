"""RAF-DB's two parts, and RAF-CE: a text file of lines such as `0001.jpg 3`, pictures aligned or as they were.

RAF-DB: `EmoLabel/list_patition_label.txt` (the official misspelling) beside `Image/aligned/`. Archives nest the part
once or twice (`compound/compound/Image/…`), so the label file is looked for. The split is the prefix of the picture's
name, `train_` or `test_`.

RAF-CE: `RAFCE_emolabel.txt` (fourteen compound classes), `RAFCE_partition.txt`, pictures `<name>_aligned.jpg`. What the
partition's numbers mean is not written in the release, and public code disagrees. So what was assumed is said, and can
be set.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ...errors import ManifestError, listing
from ..class_sets import class_set
from ..manifest import Manifest, Sample
from ..places import folded, plain_path
from ..targets import write_targets
from .base import Adapted, Gathering, adapter, named_number, targets_of, with_targets
from .tree import Tree

Pictures = Literal["aligned", "original"]
"""RAF-DB's 100 x 100 aligned faces, RAF-CE's `0001_aligned.jpg`; or the pictures they were cut from."""
PARTITION = "0=train,1=test,2=valid"
"""What the numbers of RAF-CE's partition are taken to mean unless it is said otherwise."""
_DB_LABELS = "EmoLabel/list_patition_label.txt"
_CE_LABELS, _CE_PARTITION, _CE_AUS = "RAFCE_emolabel.txt", "RAFCE_partition.txt", "RAFCE_AUlabel.txt"
_AUS = re.compile(r"(?P<name>[^\s,;|\"]+)(?:[\s,;|]+(?P<aus>.+))?")
_AU = re.compile(r"(?:AU)?[LRTB]?([1-9][0-9]?)", re.IGNORECASE)


@adapter("rafdb-basic", "RAF-DB basic/: EmoLabel/list_patition_label.txt, Image/aligned/")
def read_basic(root: Path, *, pictures: Pictures = "aligned", encoding: str | None = None) -> Adapted:
    """RAF-DB's basic part: seven single expressions, 12,271 train and 3,068 test pictures in the official release."""
    return _read_rafdb(root, "basic", "rafdb_basic7", pictures, encoding)


@adapter("rafdb-compound", "RAF-DB compound/, likewise; in the classes of abaw7", renames_to="abaw7")
def read_compound(root: Path, *, pictures: Pictures = "aligned", encoding: str | None = None) -> Adapted:
    """RAF-DB's compound part: eleven classes, 3,954 pictures in the official release."""
    return _read_rafdb(root, "compound", "rafdb_compound11", pictures, encoding)


@adapter("raf-ce", "RAF-CE: RAFCE_emolabel.txt, RAFCE_partition.txt")
def read_rafce(
    root: Path, *, pictures: Pictures = "aligned", partition: str = PARTITION, encoding: str | None = None
) -> Adapted:
    """Read RAF-CE with all its classes, and with its action units where `RAFCE_AUlabel.txt` is there.

    Parameters
    ----------
    root : Path
        Folder or archive that holds both text files and the pictures, at any depth.
    pictures : {"aligned", "original"}
    partition : str
        Which split each number of the partition file means.
    encoding : str, optional
    """
    _check_pictures(pictures)
    means = _meanings(partition)
    tree = Tree(root, encoding)
    label_file = tree.find_one(
        _CE_LABELS, f"RAF-CE: {_CE_LABELS}, {_CE_PARTITION} and pictures such as 0001_aligned.jpg"
    )
    partition_file = tree.find_one(_CE_PARTITION, f"RAF-CE's {_CE_PARTITION} beside {_CE_LABELS}")
    number_of = {name: number for _, name, number in _listed(tree, partition_file, "0001.jpg 3")}
    unknown = sorted(set(number_of.values()) - set(means))
    if unknown:
        raise ManifestError(
            f"{tree.where(partition_file)} holds the number {unknown[0]}, which --partition {partition} does not name"
        )
    tree.use(name for name in tree.names if name.lower().endswith(".txt"))
    au_files = tree.find(_CE_AUS)
    places: dict[str, str] = {}  # folded file name to path, the shallowest of several
    for name in sorted(tree.pictures(), key=lambda name: (name.count("/"), name)):
        places.setdefault(folded(PurePosixPath(name).name), name)
    found = Gathering(tree, class_set("rafce14"))
    listed, lost = set(), []
    for line, name, number in _listed(tree, label_file, "0001.jpg 3"):
        label = found.label(number, f"{tree.where(label_file)}:{line}")
        listed.add(name)
        if name not in number_of:
            lost.append(name)
            continue
        wanted = _picture_name(name, pictures)
        path = places.get(folded(wanted), wanted)
        found.add(Sample(PurePosixPath(name).stem, path, label or "", means[number_of[name]]), line)
    if lost:
        raise ManifestError(f"{tree.where(partition_file)} has no line for {listing(lost)}, which {_CE_LABELS} lists")
    if number_of.keys() - listed:
        found.left_out[f"no label in {_CE_LABELS}"] = len(number_of.keys() - listed)
    counts = Counter(number_of[name] for name in listed)
    meant = ", ".join(f"{number} is {split} ({counts[number]:,})" for number, split in sorted(means.items()))
    adapted = found.adapted(
        f"lines such as '0001.jpg 3' in {label_file}",
        where=tree.where(label_file),
        notes=[f"assumed of {_CE_PARTITION}: {meant}; set it with --partition {partition}"],
    )
    if not au_files:
        return adapted
    au_file = tree.find_one(_CE_AUS, f"RAF-CE's {_CE_AUS} beside {_CE_LABELS}")
    units, rows = _action_units(tree, au_file, adapted.manifest.ids)
    return with_targets(adapted, [f"au.{unit}" for unit in units], rows)


@targets_of("raf-ce")
def write_rafce_aus(
    root: Path, manifest: Manifest, path: Path, *, encoding: str | None = None, overwrite: bool = True, **read: Any
) -> int:
    """Write the AUs of RAF-CE's `RAFCE_AUlabel.txt`, `sample_id,AU1,AU2,…`, for heads of several tasks.

    The release does not describe the file. Public code reads lines such as `0001.jpg 1+4+25` (any separator), `null`
    where no AU is given; a letter before a number, as in FACS `L12`, tells the side and is not kept. `null`, like a
    sample without a line, is taken as not looked at, blank, and not as a face without any AU.

    Returns
    -------
    int
        How many samples have AUs.

    Raises
    ------
    ManifestError
        With file and line: a picture twice, or what is no AU.
    """
    tree = Tree(root, encoding)
    file = tree.find_one(_CE_AUS, f"RAF-CE's {_CE_AUS} beside {_CE_LABELS}")
    units, rows = _action_units(tree, file, manifest.ids)
    if not units:
        raise ManifestError(f"no sample of {tree.where(file)} has an action unit: nothing to write to {path}")
    return write_targets(path, manifest.ids, [f"AU{unit}" for unit in units], rows, overwrite=overwrite)


def _action_units(tree: Tree, file: str, ids: Iterable[str]) -> tuple[list[int], dict[str, list[float]]]:
    """The FACS numbers of all units that any of the samples shows, and of each sample that is looked at 0 or 1."""
    shown: dict[str, list[int]] = {}
    seen = set()
    for line, text in tree.lines(file):
        where = f"{tree.where(file)}:{line}"
        match = _AUS.fullmatch(text)
        if match is None:
            raise ManifestError(f"{where}: expected '0001.jpg 1+4+25', however: {text!r}")
        picture = PurePosixPath(plain_path(match["name"])).name
        if picture in seen:
            raise ManifestError(f"{where}: {picture!r} stands twice")
        seen.add(picture)
        words = [word for word in re.split(r"[\s,;|+]+", match["aus"] or "") if word]
        if not words or [word.lower() for word in words] == ["null"]:
            continue
        found = [_AU.fullmatch(word) for word in words]
        if None in found:
            raise ManifestError(f"{where}: {words[found.index(None)]!r} is no action unit; expected such as 1+4+L12")
        shown[PurePosixPath(picture).stem] = [int(one[1]) for one in found if one is not None]
    wanted = set(ids)
    units = sorted({one for name, listed in shown.items() if name in wanted for one in listed})
    return units, {name: [float(unit in listed) for unit in units] for name, listed in shown.items() if name in wanted}


def _read_rafdb(root: Path, part: str, classes: str, pictures: Pictures, encoding: str | None) -> Adapted:
    _check_pictures(pictures)
    tree = Tree(root, encoding)
    expected = f"RAF-DB's {part} part: {part}/{_DB_LABELS} and {part}/Image/aligned/"
    label_file = tree.find_one(_DB_LABELS, expected, part)
    folder = f"{label_file[: -len(_DB_LABELS)]}Image/"
    found = Gathering(tree, class_set(classes))
    for line, name, number in _listed(tree, label_file, "train_00001.jpg 5"):
        where = f"{tree.where(label_file)}:{line}"
        split = name.split("_")[0].lower()
        if split not in ("train", "test") or "_" not in name:
            raise ManifestError(f"{where}: the split is the prefix 'train_' or 'test_', however: {name!r}")
        label = found.label(number, where)
        path = _place(tree, f"{folder}{pictures}/", _picture_name(name, pictures))
        found.add(Sample(PurePosixPath(name).stem, path, label or "", split), line)
    adapted = found.adapted(f"lines such as 'train_00001.jpg 5' in {label_file}", where=tree.where(label_file))
    other = "original" if pictures == "aligned" else "aligned"
    there = any(name.lower().startswith(f"{folder}{other}/".lower()) for name in tree.names)
    if not there or len(adapted.missing) < len(adapted.manifest):
        return adapted
    note = f"there are no {pictures} pictures, but there are {other} ones: take them with --pictures {other}"
    return replace(adapted, notes=(*adapted.notes, note))


def _listed(tree: Tree, file: str, example: str) -> Iterator[tuple[int, str, str]]:
    """(line, picture's name, number) of each line of a list."""
    seen = set()
    for line, text in tree.lines(file):
        pair = named_number(text)
        if pair is None:
            raise ManifestError(f"{tree.where(file)}:{line}: expected {example!r}, however: {text!r}")
        picture = PurePosixPath(plain_path(pair[0])).name
        if picture in seen:
            raise ManifestError(f"{tree.where(file)}:{line}: {picture!r} stands twice")
        seen.add(picture)
        yield line, picture, str(int(pair[1]))


def _check_pictures(pictures: str) -> None:
    if pictures not in ("aligned", "original"):
        raise ManifestError(f"pictures must be 'aligned' or 'original', however: {pictures!r}")


def _picture_name(name: str, pictures: Pictures) -> str:
    """What the picture of `train_00001.jpg` is called: `train_00001_aligned.jpg` for the aligned one."""
    stem, _, suffix = name.rpartition(".")
    return name if pictures == "original" else f"{stem}_aligned.{suffix}"


def _place(tree: Tree, folder: str, name: str) -> str:
    """Where a picture is: in its folder, or the only one of its name below that, as some archives unpack it."""
    official = tree.picture(folder + name)
    if official in tree:
        return official
    deeper = [one for one in tree.called(name) if folded(one).startswith(folded(folder))]
    return deeper[0] if len(deeper) == 1 else official


def _meanings(partition: str) -> dict[str, str]:
    means = {}
    for part in partition.split(","):
        number, equals, split = (piece.strip() for piece in part.partition("="))
        if not equals or not number.isdecimal() or not split or number in means:
            raise ManifestError(f"--partition must be such as {PARTITION}, however: {partition!r}")
        means[number] = split
    return means
