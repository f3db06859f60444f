"""Small things that the reliability tests embed and compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cer_fusion.featstore import Manifest, Sample, Store, extract
from cer_fusion.featstore.errors import IncompleteError, UnknownDatasetError, UnknownFeatureError
from tests.featstore.conftest import CLASSES, ToyEmbedder

NOT_THERE = (UnknownDatasetError, UnknownFeatureError, IncompleteError)
"""What a store says in which nothing was committed yet."""


def write_manifest(folder: Path, n: int, *, contents: dict[int, bytes] | None = None) -> Manifest:
    """Write n small files and a manifest of them, `folder`/m.csv: two thirds train, the rest test, labels in turn."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    samples = []
    for i in range(n):
        (folder / "pictures" / f"{i}.png").write_bytes((contents or {}).get(i, f"picture {i:04d}".encode()))
        split = "train" if i % 3 else "test"
        samples.append(Sample(sample_id=f"s{i:04d}", path=f"{i}.png", label=CLASSES.labels[i % 7], split=split))
    Manifest(samples=tuple(samples), classes=CLASSES, root=folder / "pictures").write(folder / "m.csv")
    return Manifest.read(folder / "m.csv")


def embed(manifest: Manifest, store: Path, *, shard_rows: int, embedder: ToyEmbedder | None = None) -> Store:
    """Embed a manifest with the toy embedder as the dataset `d`."""
    opened = Store.create(store)
    extract(embedder or ToyEmbedder(), manifest, opened, dataset="d", batch_size=4, shard_rows=shard_rows)
    return opened


def names(store: Path) -> list[str]:
    """Names of the shards of the toy feature, in order."""
    return [path.name for path in Store(store).feature("toy").shard_paths()]


def rows(store: Path) -> dict[str, np.ndarray]:
    """sample_id to row, of all samples that have one; every chunk is verified as it is read."""
    view = Store(store).view(["toy"], missing="drop")
    return dict(zip(view.ids, view.join(), strict=True))


def rows_so_far(store: Path) -> dict[str, np.ndarray]:
    """As `rows`, for a store whose first run was cut short: maybe nothing is there yet."""
    try:
        return rows(store) if (store / "store.json").exists() else {}
    except NOT_THERE:
        return {}


def wrong(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> list[str]:
    """Samples whose row is not the right one."""
    return [key for key, row in found.items() if not np.array_equal(row, expected[key])]


def temporaries(folder: Path) -> list[Path]:
    """Files in the making, wherever they are in a store."""
    return sorted(folder.rglob(".tmp-*"))
