"""One folder a class: `ROOT/<class>/*.png`, or `ROOT/<split>/<class>/*.png`; also inside a zip or tar file."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from featstore.adapters.base import Adapted, need_samples, passed_over
from featstore.adapters.tree import Tree
from featstore.class_sets import ClassSet, declared_classes, found_classes
from featstore.errors import ManifestError
from featstore.manifest import Manifest, Sample
from featstore.typed_cells import SPLIT_WORDS, alike_notes


def read_folder(root: Path, *, classes: str | None = None) -> Adapted:
    """Read pictures whose folder names their class.

    Parameters
    ----------
    root : Path
        Folder or archive.
    classes : str, optional
        A known class set whose labels the folders carry, however they are written, or its official numbers. Default:
        the folder names in alphabetical order.
    """
    tree = Tree(root)
    samples = []
    odd = 0
    for name in tree.pictures():
        parts = PurePosixPath(name).parts
        split = SPLIT_WORDS.get(parts[0].lower(), "") if len(parts) > 2 else ""
        inner = parts[1:] if split else parts
        if len(inner) != 2:
            odd += 1
            continue
        samples.append(
            Sample(sample_id=str(PurePosixPath(name).with_suffix("")), path=name, label=inner[0], split=split)
        )
    listed = _distinct_ids(need_samples(samples, root, "ROOT/<class>/picture.png or ROOT/<split>/<class>/picture.png"))
    chosen, listed = _labels(listed, classes)
    left_out = {"not in ROOT/<class>/ or ROOT/<split>/<class>/": odd} if odd else {}
    return Adapted(
        manifest=Manifest(samples=listed, classes=chosen, root=root, where=str(root)),
        left_out={**left_out, **passed_over(tree)},
        notes=tuple(alike_notes([sample.label for sample in listed], "label", "classes")),
    )


def _distinct_ids(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """`a.png` beside `a.jpg` keep their suffix as ids; without such pairs the suffix is noise."""
    if len({s.sample_id for s in samples}) == len(samples):
        return samples
    return tuple(sample._replace(sample_id=sample.path) for sample in samples)


def _labels(samples: tuple[Sample, ...], classes: str | None) -> tuple[ClassSet, tuple[Sample, ...]]:
    folders = sorted({s.label for s in samples})
    if classes is None:
        return found_classes(folders), samples
    chosen = declared_classes(classes)
    meant = {folder: chosen.match_or_id(folder) for folder in folders}
    for folder, label in meant.items():
        if label is None:
            raise ManifestError(f"folder {folder!r} is no class of {classes!r}: {', '.join(chosen.labels)}")
    return chosen, tuple(sample._replace(label=meant[sample.label] or "") for sample in samples)
