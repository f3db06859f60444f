"""Small blocks with class structure, and settings under which every head fits in a blink."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cer_fusion.fusion import concat, head_names, make_head
from cer_fusion.fusion.heads import installed_heads
from cer_fusion.fusion.heads.base import Head

BRIEF: dict[str, Any] = {"epochs": 8, "batch_size": 64, "lr": 0.03, "members": 2, "dropout": 0.1, "threads": 1}
QUICK: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (16,), "epochs": 15, "batch_size": 32, "lr": 0.05, "members": 2, "threads": 1},
    "multitask": {"hidden": (16,), "epochs": 15, "batch_size": 32, "lr": 0.05, "members": 2, "threads": 1},
    "linear": {},
    "weighted": {},
    "ridge": {},
    "lda": {},
    "svm": {},
    "knn": {"neighbours": 5},
    "ncm": {},
    "late": {"calibrate": True},
    "stacking": {"member": "ridge", "folds": 2},
    "xgboost": {"trees": 10, "column_share": 0.3, "threads": 1},
    "histgb": {"trees": 15, "min_leaf_rows": 3},
    "lightgbm": {"trees": 15, "min_leaf_rows": 3, "column_share": 0.5, "threads": 1},
    "catboost": {"trees": 15, "depth": 3, "lr": 0.3, "threads": 1},
    "gated": {"width": 8, **BRIEF},
    "bilinear": {"rank": 8, **BRIEF},
    "tokens": {"width": 8, "layers": 1, "attention_heads": 2, **BRIEF},
    "tabm": {"hidden": (16,), **BRIEF},
    "sequence": {"width": 16, "window": 5, "layers": 1, **BRIEF},
}
CLASSES = ("Fearfully_Surprised", "Happily_Surprised", "Sadly_Surprised", "Sadly_Angry")


class Faces:
    """Rows of three blocks around a centre a class: `blocks`, `y`, the joined `X`, and the block `widths`."""

    def __init__(self, n: int = 120, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.y = np.arange(n) % 4
        self.widths = {"vit": 12, "manet.local": 8, "manet.multi_scale": 8}
        centres = np.random.default_rng(7)
        self.blocks = {
            name: (centres.normal(size=(4, width))[self.y] + random.normal(size=(n, width))).astype(np.float32)
            for name, width in self.widths.items()
        }
        self.X = concat(self.blocks)
        self.names = np.array(CLASSES)[self.y]


every_head = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                name not in installed_heads(), reason=f"the library of the head {name!r} is not installed"
            ),
        )
        for name in head_names()
    ],
)


def quick_head(name: str, **params: Any) -> Head:
    return make_head(name, **{**QUICK[name], **params})


@pytest.fixture
def faces() -> Faces:
    return Faces()


@pytest.fixture
def more_faces() -> Faces:
    return Faces(n=80, seed=1)
