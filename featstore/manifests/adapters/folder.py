"""One folder a class: `ROOT/<class>/*.png`, or `ROOT/<split>/<class>/*.png`; also inside a zip or tar file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ...errors import ManifestError, listing
from ..class_sets import ClassSet, declared_classes, found_classes
from ..csv_table import SPLIT_WORDS, alike_notes
from ..manifest import Sample
from .base import Adapted, Gathering, adapter
from .tree import Tree

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
    if len({sample.sample_id for sample in samples}) < len(samples):  # `a.png` beside `a.jpg`: else a suffix is noise
        beginning = "/".join((*base, ""))
        samples = [sample._replace(sample_id=sample.path.removeprefix(beginning)) for sample in samples]
    chosen, meant = _classes(sorted({sample.label for sample in samples}), classes)
    found = Gathering(tree, chosen)
    if odd:
        found.left_out[_NO_PLACE] = odd
    for sample in samples:
        found.add(sample._replace(label=meant[sample.label]))
    notes = [f"the classes' folders are below {'/'.join(base)}/"] if base else []
    notes += alike_notes(Counter(meant[sample.label] for sample in samples), "label", "classes")
    return found.adapted("ROOT/<class>/picture.png or ROOT/<split>/<class>/picture.png", notes=notes)


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


def _classes(folders: Sequence[str], classes: str | None) -> tuple[ClassSet, dict[str, str]]:
    """The class set, and the label that each folder's name means."""
    if classes is None:
        return found_classes(folders), {folder: folder for folder in folders}
    chosen = declared_classes(classes)
    meant = {}
    for folder in folders:
        label = chosen.match_or_id(folder)
        if label is None:
            raise ManifestError(f"folder {folder!r} is no class of {classes!r}: {', '.join(chosen.labels)}")
        meant[folder] = label
    return chosen, meant
