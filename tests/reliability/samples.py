"""Small data to harm: files to list as pictures, a store with rows of them, rows to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cer_fusion.featstore import Manifest, Sample, Store, extract
from tests.featstore.conftest import CLASSES, ToyEmbedder


def listed(root: Path, n: int = 12, *, ids: Sequence[str] | None = None, text: str = "picture") -> Manifest:
    """Write n small files and list them: two thirds train, the rest test, labels in turn, two of a split a group."""
    root.mkdir(parents=True, exist_ok=True)
    samples = []
    for i in range(n):
        (root / f"{i}.png").write_bytes(f"{text} {i:04d}".encode())
        split = "train" if i % 3 else "test"
        sample_id = ids[i] if ids else f"s{i:04d}"
        label = CLASSES.labels[i % 7]
        samples.append(Sample(sample_id=sample_id, path=f"{i}.png", label=label, split=split, group=f"{split}{i // 6}"))
    return Manifest(samples=tuple(samples), classes=CLASSES, root=root)


def filled(folder: Path, n: int = 30, *, shard_rows: int = 8, dtype: str = "float32") -> tuple[Store, Manifest]:
    """A store with the toy feature of n samples in the dataset `d`, pictures beside it."""
    store, manifest = Store.create(folder / "store"), listed(folder / "pictures", n)
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=shard_rows, dtype=dtype)
    return store, manifest
