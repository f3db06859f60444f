"""Rows to sweep on: real embeddings of compound faces where they lie beside the checkout, else made-up ones.

Run, it prints what correcting the class prior does on the real ones.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from cer_fusion.challenge import Validation, correct, em_prior
from cer_fusion.featstore.manifests.adapters.ferplus import compound7
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import PriorShiftError
from cer_fusion.fusion.heads import make_head

SHARED = Path(__file__).resolve().parents[2] / "shared"
FILES = {"faceres": "hse_faceres_1024", "dino": "dinov2_vits14_768", "effnet": "efficientnet_lite0_1280"}
VOTES = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF"]
SIZES = (463, 18, 962, 728, 558, 278, 158)  # of the real classes, 3,165 rows


def compound_rows() -> tuple[Rows, Rows, str]:
    """Return 3,165 training and some validation rows (3 blocks, 3,072 columns, 7 classes), and where they are from."""
    if (SHARED / "features").is_dir() and (SHARED / "data" / "ferplus.zip").is_file():
        return (*_real(), "real")
    return (*_synthetic(), "synthetic")


def _real() -> tuple[Rows, Rows]:
    names = (SHARED / "features" / "file_names.txt").read_text(encoding="utf-8").split()
    labels = _labels(SHARED / "data" / "ferplus.zip")
    blocks = {block: np.load(SHARED / "features" / f"{file}.npy").astype(np.float32) for block, file in FILES.items()}
    classes = tuple(sorted({labels[name] for name in names}))
    y = np.array([classes.index(labels[name]) for name in names])
    train = np.array([name.startswith("FER2013Train") for name in names])

    def part(where: np.ndarray) -> Rows:
        chosen = np.flatnonzero(where)
        return Rows(
            blocks={name: block[chosen] for name, block in blocks.items()},
            y=y[chosen],
            classes=classes,
            ids=tuple(names[i] for i in chosen),
        )

    return part(train), part(~train)


def _labels(path: Path) -> Mapping[str, str]:
    found: dict[str, str] = {}
    with ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith("label.csv"):
                folder = member.split("/")[-2]
                for name, _, *votes in csv.reader(StringIO(archive.read(member).decode())):
                    label = compound7(dict(zip(VOTES, map(int, votes), strict=True)))
                    if label is not None:
                        found[f"{folder}/{name}"] = label
    return found


def _synthetic() -> tuple[Rows, Rows]:
    """Classes in a small space, seen by three blocks through fixed mixings, with noise."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(len(SIZES), 24))
    mixings = {name: random.normal(size=(24, int(file.rsplit("_", 1)[1]))) for name, file in FILES.items()}

    def part(sizes: list[int], prefix: str) -> Rows:
        y = np.repeat(np.arange(len(sizes)), sizes)
        hidden = centres[y] + 1.5 * random.normal(size=(len(y), 24))
        blocks = {
            name: (hidden @ mixing + 8 * random.normal(size=(len(y), mixing.shape[1]))).astype(np.float32)
            for name, mixing in mixings.items()
        }
        ids = tuple(f"{prefix}{i}" for i in range(len(y)))
        return Rows(blocks=blocks, y=y, classes=tuple(f"class {i}" for i in range(len(sizes))), ids=ids)

    return part(list(SIZES), "train"), part([max(2, size // 9) for size in SIZES], "test")


def prior_shift(shared: Path, heads: tuple[str, ...] = ("linear", "mlp"), halves: int = 10) -> Iterator[str]:
    """Yield a table: accuracy on one half of the faces after correcting, the other half labelled, with made shifts.

    Answers are from five folds, and halves are of whole groups: crops of one photograph stay on one side. The new half
    is as it is, or drawn anew with shares of the classes to a power (0: even; -0.5: turned round) among its rows.
    """
    from benchmarks.real_faces import faces  # which needs this package

    rows = faces(shared)
    k, units = len(rows.classes), np.unique(rows.clusters, return_inverse=True)[1]
    yield "| head | shift | plain | em as before | em | bbse | auto |\n|---|---|---:|---:|---:|---:|---:|"
    for head in heads:
        proba = np.zeros((len(rows.y), k))
        for fit, held in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(rows.y, rows.y, units):
            fitted = make_head(head, blocks=rows.widths, random_state=0).fit(rows.x()[fit], rows.y[fit], units[fit])
            proba[held] = fitted.predict_proba(rows.x()[held])
        for shift, power in (("none", 1.0), ("weak", 0.5), ("even", 0.0), ("turned", -0.5)):
            found = np.array([_corrected(rows, proba, units, power, seed) for seed in range(halves)])
            cells = (
                f"{mean:.3f}" if n else "refused"
                for mean, n in zip(np.nanmean(found, axis=0), np.isfinite(found).sum(axis=0), strict=True)
            )
            yield f"| {head} | {shift} | " + " | ".join(cells) + " |"


def _corrected(rows: Rows, proba: np.ndarray, units: np.ndarray, power: float, seed: int) -> list[float]:
    """Accuracy plain, by EM on raw answers, and by each correction; nan where it is refused."""
    rng = np.random.default_rng(seed)
    halves = StratifiedGroupKFold(2, shuffle=True, random_state=seed)
    old, new = next(halves.split(rows.y, rows.y, units))
    counts = np.bincount(rows.y[new], minlength=len(rows.classes)).astype(float)
    if power != 1.0:
        new = rng.choice(new, size=len(new), p=(counts ** (power - 1))[rows.y[new]] / (counts**power).sum())
    validation = Validation(
        classes=rows.classes, proba=proba[old], y=rows.y[old], groups=np.unique(units[old], return_inverse=True)[1]
    )
    learned = validation.supports / len(old)
    ways: list[np.ndarray | None] = [proba[new]]
    raw = np.maximum(proba[new], 1e-12)
    try:
        ways.append(raw * em_prior(raw / raw.sum(axis=1, keepdims=True), learned)[0] / learned)
    except PriorShiftError:
        ways.append(None)
    for kind in ("em", "bbse", "auto"):
        try:
            ways.append(correct(kind, proba[new], rows.classes, validation=validation).apply(proba[new]))
        except PriorShiftError:
            ways.append(None)
    return [np.nan if way is None else float((way.argmax(axis=1) == rows.y[new]).mean()) for way in ways]


if __name__ == "__main__":
    for line in prior_shift(SHARED):
        print(line, flush=True)
