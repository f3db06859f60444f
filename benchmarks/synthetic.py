"""Stores of made-up rows, for benchmarks that need no faces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cer_fusion.featstore import Feature, Manifest, Sample, Store, class_set
from cer_fusion.featstore.rows.feature import FeatureSpec
from cer_fusion.featstore.rows.shard import Rows

CLASSES = class_set("abaw7")
SEPARATION = 3.0
"""Distance of each class's centre from the origin, in standard deviations of the rows around it."""


def ids_of(n: int) -> list[str]:
    """Names of n samples."""
    return [f"sample_{i:07d}" for i in range(n)]


def rows_of(ids: list[str], block: np.ndarray) -> Rows:
    """A shard's rows of one block, made from no pictures."""
    return Rows(ids=ids, image_digests=[""] * len(ids), blocks={"b": block})


def empty_feature(folder: Path, ids: list[str], width: int) -> tuple[Store, Feature]:
    """A store whose dataset `d` lists the samples, and its feature `f` without rows."""
    store = Store.create(folder / "store")
    samples = tuple(Sample(sample_id=i, path=f"{i}.jpg") for i in ids)
    store.use_manifest("d", Manifest(samples=samples, classes=CLASSES, root=folder))
    spec = FeatureSpec(name="f", identity={"architecture": "random"}, blocks={"b": width})
    return store, store.create_feature("d", spec)


def blocks_of(n: int, width: int, shard_rows: int) -> Iterator[tuple[slice, np.ndarray]]:
    """n normal rows of float32, a shard at a time: (positions, rows)."""
    rng = np.random.default_rng(0)
    for start in range(0, n, shard_rows):
        where = slice(start, min(start + shard_rows, n))
        yield where, rng.standard_normal((where.stop - start, width), dtype=np.float32)


def fill(folder: Path, n: int, width: int, shard_rows: int) -> tuple[Store, Path]:
    """A store of random rows, and the same rows in one plain file."""
    ids = ids_of(n)
    store, feature = empty_feature(folder, ids, width)
    with (folder / "plain.bin").open("wb") as plain:
        for index, (where, block) in enumerate(blocks_of(n, width, shard_rows)):
            feature.commit(rows_of(ids[where], block), index=index, generation=0)
            block.tofile(plain)
    return store, folder / "plain.bin"


class NumberEmbedder:
    """Embeds files that hold a number: a row is noise drawn from the number, around the centre of its class.

    It stands in for a backbone, so that a million pictures can be extracted in minutes. `class_of` says which class a
    number belongs to; a linear rule finds most of them.
    """

    def __init__(self, width: int) -> None:
        self.name = "numbers"
        self.blocks = {"b": width}
        centres = np.random.default_rng(0).standard_normal((len(CLASSES.labels), width), dtype=np.float32)
        self.centres = SEPARATION * centres / np.linalg.norm(centres, axis=1, keepdims=True)

    def spec(self) -> dict[str, Any]:
        """What fixes the numbers."""
        return {"architecture": "numbers", "separation": SEPARATION, "seed": 0}

    def describe(self) -> dict[str, Any]:
        """Nothing more to say."""
        return {}

    def decode(self, data: bytes) -> np.ndarray:
        """The row of one number; threads share this, the costly part."""
        number = int(data)
        noise = np.random.default_rng(number).standard_normal(self.blocks["b"], dtype=np.float32)
        return noise + self.centres[class_of(number)]

    def embed(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        """The rows as they are."""
        return {"b": pictures}


def class_of(number: int) -> int:
    """Class of a number: all classes equally often, in no order that a shard could follow."""
    return int.from_bytes(hashlib.blake2b(number.to_bytes(8, "little"), digest_size=4).digest()) % len(CLASSES.labels)
