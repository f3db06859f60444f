"""RAF-DB's two parts: `EmoLabel/list_patition_label.txt` (the official misspelling) beside `Image/aligned/`.

Archives nest the part once or twice (`compound/compound/Image/…`), so the label file is looked for. The split is the
prefix of the picture's name, `train_` or `test_`.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal

from featstore.adapters.base import Adapted, Tree, need_samples
from featstore.class_sets import ClassSet, class_set, mapping
from featstore.errors import ClassSetError, ManifestError
from featstore.manifest import Manifest, Sample

Pictures = Literal["aligned", "original"]
_LABELS = "EmoLabel/list_patition_label.txt"


def read_basic(root: Path, *, pictures: Pictures = "aligned") -> Adapted:
    """RAF-DB's basic part: seven single expressions, 12,271 train and 3,068 test pictures in the official release."""
    return _read(root, "basic", class_set("rafdb_basic7"), class_set("rafdb_basic7"), pictures)


def read_compound(root: Path, *, classes: str = "abaw7", pictures: Pictures = "aligned") -> Adapted:
    """RAF-DB's compound part.

    Parameters
    ----------
    root : Path
        Folder or zip file that holds the part, however deep.
    classes : str
        `abaw7` (default): the seven classes of the ABAW challenge, 1,562 train and 397 test pictures in the official
        release; `rafdb_compound11`: all eleven.
    pictures : {"aligned", "original"}
        The 100 x 100 aligned faces, or the pictures they were cut from.
    """
    return _read(root, "compound", class_set("rafdb_compound11"), class_set(classes), pictures)


def _read(root: Path, part: str, source: ClassSet, target: ClassSet, pictures: Pictures) -> Adapted:
    if pictures not in ("aligned", "original"):
        raise ManifestError(f"pictures must be 'aligned' or 'original', however: {pictures!r}")
    tree = Tree(root)
    label_file = _label_file(tree, part)
    base = label_file[: -len(_LABELS)]
    known = {name.lower(): name for name in tree.names if name.startswith(base)}
    goes_to = mapping(source, target)
    samples: list[Sample] = []
    lines: list[int] = []
    left_out: dict[str, int] = {}
    for line, text in enumerate(tree.text(label_file).splitlines(), 1):
        if not text.strip():
            continue
        name, label = _parse(text, f"{root / label_file}:{line}", source)
        if goes_to[label] is None:
            left_out[f"{label}: no class of {target.name}"] = left_out.get(f"{label}: no class of {target.name}", 0) + 1
            continue
        path = _picture(base, name, pictures)
        samples.append(
            Sample(
                sample_id=PurePosixPath(name).stem,
                path=known.get(path.lower(), path),
                label=goes_to[label] or "",
                split=name.split("_")[0].lower(),
            )
        )
        lines.append(line)
    found = need_samples(samples, root, f"lines such as 'train_00001.jpg 5' in {label_file}")
    manifest = Manifest(samples=found, classes=target, root=root, where=str(root / label_file), lines=tuple(lines))
    return Adapted(manifest=manifest, left_out=left_out)


def _label_file(tree: Tree, part: str) -> str:
    found = tree.find(_LABELS)
    if len(found) > 1:  # a root that holds both parts
        found = [name for name in found if part in name.lower().split("/")]
    if len(found) != 1:
        wrong = "several" if found else "no"
        raise ManifestError(
            f"{wrong} {_LABELS} under {tree.root}{': ' + ', '.join(found) if found else ''}\n"
            f"  expected RAF-DB's {part} part: {part}/{_LABELS} and {part}/Image/aligned/"
        )
    return found[0]


def _parse(text: str, where: str, source: ClassSet) -> tuple[str, str]:
    fields = text.split()
    if len(fields) != 2 or not fields[1].isdigit():
        raise ManifestError(f"{where}: expected 'train_00001.jpg 5', however: {text.strip()!r}")
    if not fields[0].lower().startswith(("train_", "test_")):
        raise ManifestError(f"{where}: the split is the prefix 'train_' or 'test_', however: {fields[0]!r}")
    try:
        return fields[0], source.from_id(int(fields[1]))
    except ClassSetError as error:
        raise ManifestError(f"{where}: {error}") from None


def _picture(base: str, name: str, pictures: Pictures) -> str:
    if pictures == "original":
        return f"{base}Image/original/{name}"
    stem, _, suffix = name.rpartition(".")
    return f"{base}Image/aligned/{stem}_aligned.{suffix}"
