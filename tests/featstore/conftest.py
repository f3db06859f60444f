from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cer_fusion.featstore import Manifest, Sample, Store, class_set
from cer_fusion.featstore.manifests.class_sets import ClassSet

CLASSES: ClassSet = class_set("abaw7")


class ToyEmbedder:
    """Turns bytes into rows without pixels: a row is a function of the file's bytes, two blocks wide."""

    def __init__(self, name: str = "toy", **options: Any) -> None:
        self.name = name
        self.options = options
        self.blocks = {"left": 4, "right": 3}
        self.embedded: list[bytes] = []
        self.spoil: Callable[[np.ndarray], np.ndarray] = lambda rows: rows

    def spec(self) -> dict[str, Any]:
        return {"architecture": "toy", "options": self.options}

    def describe(self) -> dict[str, Any]:
        return {"versions": {"toy": "1"}}

    def decode(self, data: bytes) -> np.ndarray:
        if data.startswith(b"BAD"):
            raise ValueError("not a picture")
        return np.frombuffer(data[:16].ljust(16, b"\0"), dtype=np.uint8)

    def embed(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        self.embedded += [bytes(picture) for picture in pictures]
        rows = self.spoil(pictures.astype(np.float32) / 7)
        return {"left": rows[:, :4], "right": rows[:, 4:7]}


@pytest.fixture
def embedder() -> ToyEmbedder:
    return ToyEmbedder()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


@pytest.fixture
def make_manifest(tmp_path: Path) -> Callable[..., Manifest]:
    """Write n small files and list them: two thirds train, the rest test, labels in turn."""

    def make(n: int = 12, *, contents: dict[int, bytes] | None = None, folder: str = "pictures") -> Manifest:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        samples = []
        for i in range(n):
            (root / f"{i}.png").write_bytes((contents or {}).get(i, f"picture {i:04d}".encode()))
            split = "train" if i % 3 else "test"
            samples.append(Sample(sample_id=f"s{i:04d}", path=f"{i}.png", label=CLASSES.labels[i % 7], split=split))
        return Manifest(samples=tuple(samples), classes=CLASSES, root=root)

    return make
