"""FER+ in the folders its own generation script writes: `FER2013Train/label.csv` beside the 48 x 48 pictures.

Each line of `label.csv` is: file name, face box, and ten annotators' votes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from featstore import files
from featstore.adapters.base import Adapted, Tree, need_samples
from featstore.class_sets import class_set
from featstore.errors import ManifestError, nearest
from featstore.manifest import Manifest, Sample

VOTES = (
    "neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF",
)  # fmt: skip
"""Vote columns in the file's order; `NF` is "not a face"."""
_FOLDERS = {"FER2013Train": "train", "FER2013Valid": "valid", "FER2013Test": "test"}
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
_CLASSES = {"compound7": "abaw7", "basic8": "basic8"}


def read_ferplus(root: Path, *, labels: str = "compound7") -> Adapted:
    """Read FER+ with one of two label sets made from the votes.

    Parameters
    ----------
    root : Path
        Folder or zip file that holds `FER2013Train/`, `FER2013Valid/` and `FER2013Test/`, or some of them.
    labels : {"compound7", "basic8"}
        `compound7`: the ABAW pair whose two emotions both have at least 2 votes and strictly more than each of the
        other four basic emotions. `basic8`: the emotion with most of the votes, at least 6 of 10. Both need NF = 0.
    """
    if labels not in _CLASSES:
        raise ManifestError(f"no FER+ label set {labels!r}; {nearest(labels, _CLASSES)}")
    tree = Tree(root)
    decide = compound7 if labels == "compound7" else basic8
    samples: list[Sample] = []
    left_out: dict[str, int] = {}
    for folder, split in _FOLDERS.items():
        for label_file in tree.find(f"{folder}/label.csv")[:1]:
            base = label_file.removesuffix("label.csv")
            for name, votes in _rows(tree.text(label_file), str(root / label_file)):
                label = decide(votes) if votes["NF"] == 0 else None
                if label is None:
                    reason = "not a face" if votes["NF"] else f"votes do not make a {labels} label"
                    left_out[reason] = left_out.get(reason, 0) + 1
                    continue
                stem = name.rpartition(".")[0] or name
                samples.append(Sample(sample_id=stem, path=base + name, label=label, split=split))
    found = need_samples(samples, root, "FER2013Train/label.csv, FER2013Valid/label.csv or FER2013Test/label.csv")
    manifest = Manifest(samples=found, classes=class_set(_CLASSES[labels]), root=root, where=str(root))
    return Adapted(manifest=manifest, left_out=left_out)


def write_votes(root: Path, manifest: Manifest, path: Path) -> int:
    """Write the annotators' votes for the eight emotions, `sample_id,Neutral,Happiness,…`, to learn soft labels from.

    Parameters
    ----------
    root : Path
        As for `read_ferplus`.
    manifest : Manifest
        Whose samples get a line, in the folders' order.

    Returns
    -------
    int
        How many lines were written.
    """
    wanted = set(manifest.ids)
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["sample_id", *(emotion.capitalize() for emotion in VOTES[:8])])
    count = 0
    tree = Tree(root)
    for folder in _FOLDERS:
        for label_file in tree.find(f"{folder}/label.csv")[:1]:
            for name, votes in _rows(tree.text(label_file), str(root / label_file)):
                stem = name.rpartition(".")[0] or name
                if stem in wanted:
                    table.writerow([stem, *(votes[emotion] for emotion in VOTES[:8])])
                    count += 1
    files.replace(path, out.getvalue().encode())
    return count


def compound7(votes: Mapping[str, int]) -> str | None:
    """The ABAW pair that the votes agree on, if there is one."""
    for pair, label in _PAIRS.items():
        weakest = min(votes[emotion] for emotion in pair)
        if weakest >= 2 and all(weakest > votes[other] for other in _BASIC if other not in pair):
            return label
    return None


def basic8(votes: Mapping[str, int]) -> str | None:
    """The single emotion with at least 6 of the 10 votes, if there is one."""
    best = max(VOTES[:8], key=lambda emotion: votes[emotion])
    return best.capitalize() if votes[best] >= 6 else None


def _rows(text: str, where: str) -> list[tuple[str, dict[str, int]]]:
    out = []
    for line, row in enumerate(csv.reader(io.StringIO(text, newline="")), 1):
        if not any(row) or row[0].lower() in {"image name", "image_name"}:
            continue
        if len(row) != 2 + len(VOTES):
            raise ManifestError(
                f"{where}:{line}: expected name, box and {len(VOTES)} votes, however: {len(row)} fields"
            )
        try:
            votes = [int(float(cell)) for cell in row[2:]]
        except ValueError:
            raise ManifestError(f"{where}:{line}: votes must be numbers, however: {row[2:]}") from None
        out.append((row[0], dict(zip(VOTES, votes, strict=True))))
    return out
