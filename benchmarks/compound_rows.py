"""Rows to sweep on: real embeddings of compound faces where they lie beside the checkout, else made-up ones."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from cer_fusion.featstore.manifests.adapters.ferplus import compound7
from cer_fusion.fusion.data.rows import Rows

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
