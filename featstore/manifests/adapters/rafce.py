"""RAF-CE: `RAFCE_emolabel.txt` (fourteen compound classes), `RAFCE_partition.txt`, pictures `<name>_aligned.jpg`.

What the partition's numbers mean is not written in the release, and public code disagrees. So what was assumed is said,
and can be set.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path, PurePosixPath

from cer_fusion.featstore.errors import ManifestError, listing
from cer_fusion.featstore.manifests.adapters.base import Adapted, Gathering, named_number
from cer_fusion.featstore.manifests.adapters.rafdb import Pictures, check_pictures, picture_name
from cer_fusion.featstore.manifests.adapters.tree import Tree
from cer_fusion.featstore.manifests.class_sets import class_set
from cer_fusion.featstore.manifests.manifest import Sample
from cer_fusion.featstore.manifests.places import folded, plain_path

PARTITION = "0=train,1=test,2=valid"
"""What the numbers are taken to mean unless it is said otherwise."""
_LABELS, _PARTITION = "RAFCE_emolabel.txt", "RAFCE_partition.txt"


def read_rafce(
    root: Path, *, pictures: Pictures = "aligned", partition: str = PARTITION, encoding: str | None = None
) -> Adapted:
    """Read RAF-CE with all its classes.

    Parameters
    ----------
    root : Path
        Folder or archive that holds both text files and the pictures, at any depth.
    pictures : {"aligned", "original"}
        `0001_aligned.jpg`, or `0001.jpg`.
    partition : str
        Which split each number of the partition file means.
    encoding : str, optional
        Of an archive's names where it does not say it, and of texts that are not UTF-8.
    """
    check_pictures(pictures)
    means = _meanings(partition)
    tree = Tree(root, encoding)
    label_file = tree.find_one(_LABELS, f"RAF-CE: {_LABELS}, {_PARTITION} and pictures such as 0001_aligned.jpg")
    partition_file = tree.find_one(_PARTITION, f"RAF-CE's {_PARTITION} beside {_LABELS}")
    number_of = {name: number for _, name, number in _rows(tree, partition_file)}
    unknown = sorted(set(number_of.values()) - set(means))
    if unknown:
        raise ManifestError(
            f"{tree.where(partition_file)} holds the number {unknown[0]}, which --partition {partition} does not name"
        )
    tree.use(name for name in tree.names if name.lower().endswith(".txt"))
    places = _places(tree)
    found = Gathering(tree, class_set("rafce14"))
    listed, lost = set(), []
    for line, name, number in _rows(tree, label_file):
        label = found.label(number, f"{tree.where(label_file)}:{line}")
        listed.add(name)
        if name not in number_of:
            lost.append(name)
            continue
        wanted = picture_name(name, pictures)
        path = places.get(folded(wanted), wanted)
        found.add(Sample(PurePosixPath(name).stem, path, label or "", means[number_of[name]]), line)
    if lost:
        raise ManifestError(f"{tree.where(partition_file)} has no line for {listing(lost)}, which {_LABELS} lists")
    if number_of.keys() - listed:
        found.left_out[f"no label in {_LABELS}"] = len(number_of.keys() - listed)
    counts = Counter(number_of[name] for name in listed)
    meant = ", ".join(f"{number} is {split} ({counts[number]:,})" for number, split in sorted(means.items()))
    return found.adapted(
        f"lines such as '0001.jpg 3' in {label_file}",
        where=tree.where(label_file),
        notes=[f"assumed of {_PARTITION}: {meant}; set it with --partition {partition}"],
    )


def _meanings(partition: str) -> dict[str, str]:
    means = {}
    for part in partition.split(","):
        number, equals, split = (piece.strip() for piece in part.partition("="))
        if not equals or not number.isdecimal() or not split or number in means:
            raise ManifestError(f"--partition must be such as {PARTITION}, however: {partition!r}")
        means[number] = split
    return means


def _rows(tree: Tree, name: str) -> list[tuple[int, str, str]]:
    rows, seen = [], set()
    for line, text in tree.lines(name):
        pair = named_number(text)
        if pair is None:
            raise ManifestError(f"{tree.where(name)}:{line}: expected '0001.jpg 3', however: {text!r}")
        picture = PurePosixPath(plain_path(pair[0])).name
        if picture in seen:
            raise ManifestError(f"{tree.where(name)}:{line}: {picture!r} stands twice")
        seen.add(picture)
        rows.append((line, picture, str(int(pair[1]))))
    return rows


def _places(tree: Tree) -> dict[str, str]:
    """Folded file name to path, the shallowest of several."""
    places: dict[str, str] = {}
    for name in sorted(tree.pictures(), key=lambda name: (name.count("/"), name)):
        places.setdefault(folded(PurePosixPath(name).name), name)
    return places
