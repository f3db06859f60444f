"""Small pictures whose channel tells their class, and networks that learn them in seconds."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cer_fusion import backbones
from cer_fusion.backbones import Backbone, Examples, FinetuneReport, Recipe

CLASSES = ("red", "green", "blue")
TINY = Recipe(epochs=2, batch_size=8, layer_decay=None, lr=2e-3, warmup_epochs=0.5)


def face(label: int, number: int, side: int = 32) -> bytes:
    """Draw noise in which one channel is brighter."""
    pixels = np.random.default_rng(number).integers(0, 120, (side, side, 3)).astype(np.uint8)
    pixels[..., label] += 120
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def examples(n: int, *, first: int = 0, contents: dict[int, bytes] | None = None, **fields: Any) -> Examples:
    """Make n examples, labels in turn."""
    y = np.arange(n, dtype=np.int64) % len(CLASSES)
    data = [(contents or {}).get(i, face(int(label), first + i)) for i, label in enumerate(y)]
    given: dict[str, Any] = {"ids": [f"s{first + i:04d}" for i in range(n)], "y": y, "read": lambda i: data[i]}
    return Examples(**{**given, **fields})


def network(kind: str = "timm:test_vit", **options: Any) -> Backbone:
    """Make a tiny network with random weights."""
    size = 48 if kind == "timm:test_vit" else 32
    return backbones.create(kind, weights="random", **{"img_size": size, **options})


@pytest.fixture
def tune(tmp_path: Path) -> Callable[..., FinetuneReport]:
    """Fine-tune a tiny network on 25 pictures into ``out``, changing what is named."""

    def tune(
        backbone: Backbone | None = None,
        train: Examples | None = None,
        valid: Examples | None = None,
        *,
        output: str = "out",
        **changes: Any,
    ) -> FinetuneReport:
        given: dict[str, Any] = {"classes": CLASSES, "recipe": TINY, "output": tmp_path / output}
        return backbones.finetune(
            backbone or network(), train or examples(25), valid or examples(9, first=100), **{**given, **changes}
        )

    return tune
