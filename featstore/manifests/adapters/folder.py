"""One folder a class: `ROOT/<class>/*.png`, or `ROOT/<split>/<class>/*.png`; also inside a zip or tar file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cer_fusion.featstore.errors import ManifestError, listing
from cer_fusion.featstore.manifests.adapters.base import Adapted, adapter, need_samples, passed_over, twice
from cer_fusion.featstore.manifests.adapters.tree import Tree
from cer_fusion.featstore.manifests.class_sets import ClassSet, declared_classes, found_classes
from cer_fusion.featstore.manifests.csv_table import SPLIT_WORDS, alike_notes
from cer_fusion.featstore.manifests.manifest import Manifest, Sample

_NO_PLACE = "not in ROOT/<class>/ or ROOT/<split>/<class>/"


@adapter("folder", "ROOT/<class>/ or ROOT/<split>/<class>/, also inside zip and tar")
def read_folder(root: Path, *, classes: str | None = None, encoding: str | None = None) -> Adapted:
    """Read pictures whose folder names their class.

    Parameters
    ----------
    root : Path
        Folder or archive.
    classes : str, optional
        A known class set whose labels the folders carry, however they are written, or its official numbers. Default:
        the folder names in alphabetical order.
    encoding : str, optional
    """
    tree = Tree(root, encoding)
    pictures = [PurePosixPath(name) for name in tree.pictures()]
    base = _base(pictures, root)
    samples, odd = [], 0
    for path in pictures:
        parts = _fitting(path.parts, base)
        if parts is None:
            odd += 1
            continue
        split = SPLIT_WORDS.get(parts[0].lower(), "") if len(parts) > 2 else ""
        stem = PurePosixPath(*parts).with_suffix("").as_posix().strip()
        samples.append(Sample(sample_id=stem, path=path.as_posix(), label=parts[-2].strip(), split=split))
    left_out = {**({_NO_PLACE: odd} if odd else {}), **passed_over(tree)}
    expected = "ROOT/<class>/picture.png or ROOT/<split>/<class>/picture.png"
    found = need_samples(samples, root, expected, left_out, tree.notes)
    notes = [*tree.notes, *twice(tree, [sample.path for sample in found])]
    if base:
        notes.insert(0, f"the classes' folders are below {'/'.join(base)}/")
    found = _distinct_ids(found, "/".join((*base, "")))
    chosen, found = _labels(found, classes)
    return Adapted(
        manifest=Manifest(
            samples=tuple(sample._replace(path=tree.path(sample.path)) for sample in found),
            classes=chosen,
            root=root,
            where=str(root),
        ),
        left_out=left_out,
        notes=(*notes, *alike_notes([sample.label for sample in found], "label", "classes")),
    )


def _base(pictures: Sequence[PurePosixPath], root: Path) -> tuple[str, ...]:
    """The folders that wrap the layout, as archives have them: the shallowest place that most of the pictures fit.

    Raises
    ------
    ManifestError
        If several folders side by side hold the layout, and together what none holds alone.
    """
    fits = Counter(path.parts[:-2] for path in pictures if len(path.parts) > 1)
    fits.update(path.parts[:-3] for path in pictures if len(path.parts) > 2 and path.parts[-3].lower() in SPLIT_WORDS)
    bases = sorted(fits, key=lambda base: (len(base), base))
    whole = next((base for base in bases if 2 * fits[base] > len(pictures)), None)
    if whole is not None or not bases or () in fits:
        return whole or ()
    beside = [base for base in bases if len(base) == len(bases[0])]
    if len(beside) > 1:
        raise ManifestError(
            f"{root} holds several folders with classes in them: {listing('/'.join(base) for base in beside)}\n"
            f"  name one, and join the manifests with: cer-feat manifest merge, or unity"
        )
    return beside[0]


def _fitting(parts: tuple[str, ...], base: tuple[str, ...]) -> tuple[str, ...] | None:
    """`(class, picture)` or `(split, class, picture)`, where a path has that form below a folder."""
    inner = parts[len(base) :]
    fits = parts[: len(base)] == base and (len(inner) == 2 or (len(inner) == 3 and inner[0].lower() in SPLIT_WORDS))
    return inner if fits else None


def _distinct_ids(samples: tuple[Sample, ...], base: str) -> tuple[Sample, ...]:
    """`a.png` beside `a.jpg` keep their suffix as ids; without such pairs the suffix is noise."""
    if len({s.sample_id for s in samples}) == len(samples):
        return samples
    return tuple(sample._replace(sample_id=sample.path.removeprefix(base)) for sample in samples)


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
