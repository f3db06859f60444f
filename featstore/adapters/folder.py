"""One folder a class: `ROOT/<class>/*.png`, or `ROOT/<split>/<class>/*.png`; also inside a zip file."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from featstore.adapters.base import Adapted, Tree, need_samples
from featstore.class_sets import ClassSet, class_set, custom
from featstore.errors import ManifestError
from featstore.manifest import Manifest, Sample

_SPLITS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "test": "test",
}


def read_folder(root: Path, *, classes: str | None = None) -> Adapted:
    """Read pictures whose folder names their class.

    Parameters
    ----------
    root : Path
        Folder or zip file.
    classes : str, optional
        A known class set whose labels the folders carry (underscores, spaces and letter case aside). Default: the
        folder names in alphabetical order.
    """
    tree = Tree(root)
    samples = []
    odd = 0
    for name in tree.pictures():
        parts = PurePosixPath(name).parts
        split = _SPLITS.get(parts[0].lower(), "") if len(parts) > 2 else ""
        inner = parts[1:] if split else parts
        if len(inner) != 2:
            odd += 1
            continue
        samples.append(
            Sample(sample_id=str(PurePosixPath(name).with_suffix("")), path=name, label=inner[0], split=split)
        )
    found = need_samples(samples, root, "ROOT/<class>/picture.png or ROOT/<split>/<class>/picture.png")
    found = _distinct_ids(found)
    chosen, found = _labels(found, classes)
    left_out = {"not in ROOT/<class>/ or ROOT/<split>/<class>/": odd} if odd else {}
    return Adapted(manifest=Manifest(samples=found, classes=chosen, root=root, where=str(root)), left_out=left_out)


def _distinct_ids(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """`a.png` beside `a.jpg` keep their suffix as ids; without such pairs the suffix is noise."""
    if len({s.sample_id for s in samples}) == len(samples):
        return samples
    return tuple(Sample(sample_id=s.path, path=s.path, label=s.label, split=s.split, group=s.group) for s in samples)


def _labels(samples: tuple[Sample, ...], classes: str | None) -> tuple[ClassSet, tuple[Sample, ...]]:
    folders = sorted({s.label for s in samples})
    if classes is None:
        return custom(folders), samples
    chosen = class_set(classes)
    by_plain = {_plain(label): label for label in chosen.labels}
    for folder in folders:
        if _plain(folder) not in by_plain:
            raise ManifestError(f"folder {folder!r} is no class of {classes!r}: {', '.join(chosen.labels)}")
    renamed = tuple(
        Sample(sample_id=s.sample_id, path=s.path, label=by_plain[_plain(s.label)], split=s.split) for s in samples
    )
    return chosen, renamed


def _plain(label: str) -> str:
    return label.replace("_", " ").replace("-", " ").casefold()
