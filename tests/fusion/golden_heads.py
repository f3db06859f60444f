"""One small kept head of every kind, and of settings that keep more, and the program that writes them.

Run it for a new format version or a new head.

::

    python -m tests.fusion.golden_heads v3     writes what tests/fusion/golden/v3 does not have yet

What was written once is never written again: released heads must open for ever.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from cer_fusion.fusion import make_head, save_head

GOLDEN = Path(__file__).parent / "golden"
BLOCKS = {"vit": 3, "manet.local": 2}
CLASSES = ("Fearfully_Surprised", "Happily_Surprised", "Sadly_Angry")
PRINTS = {"vit": "3f9c1a2b77d0" * 5 + "3f9c", "manet": "0123456789ab" * 5 + "0123"}
BRIEF: dict[str, Any] = {"epochs": 3, "batch_size": 8, "members": 2, "device": "cpu", "threads": 1}
PERCEPTRONS: dict[str, Any] = {"hidden": (4,), "precision": "float32", **BRIEF}
SETTINGS: dict[str, dict[str, Any]] = {
    "mlp": {"fusion": "concat", **PERCEPTRONS},
    "mlp-pool": {"fusion": "pool", "norm": "layer", **PERCEPTRONS},
    "multitask": PERCEPTRONS,
    "sequence": {"width": 4, "attention_heads": 2, "window": 3, **BRIEF},
    "linear": {"class_weight": {0: 2.0, 2: 0.5}},
    "weighted": {"weights": {"vit": 0.6, "manet.local": 0.4}},
    "ridge": {},
    "lda": {"shrinkage": "ledoit_wolf"},
    "svm": {},
    "knn": {"neighbours": 5},
    "ncm": {},
    "late": {"calibrate": True, "weights": {"vit": 0.6, "manet.local": 0.4}},
    "stacking": {"member": {"vit": "ridge", "manet.local": "ncm"}, "folds": 2},
    "xgboost": {"trees": 2, "threads": 1, "pca": 2},
    "histgb": {"trees": 3, "min_leaf_rows": 3, "pca": 2},
    "lightgbm": {"trees": 3, "min_leaf_rows": 3, "threads": 1, "pca": 2},
    "catboost": {"trees": 3, "depth": 2, "threads": 1, "pca": 2},
    "gated": {"width": 4, **BRIEF},
    "bilinear": {"rank": 4, **BRIEF},
    "tokens": {"width": 4, "attention_heads": 2, **BRIEF},
    "tabm": {"hidden": (4,), **BRIEF},
}


def rows() -> tuple[np.ndarray, np.ndarray]:
    """The rows the heads learned from and are asked about, and their classes."""
    random = np.random.default_rng(0)
    y = np.arange(24) % 3
    return (random.normal(size=(3, 5))[y] + random.normal(size=(24, 5))).astype(np.float32), y


def kind(name: str) -> str:
    """The head that a golden head is of: `mlp` for `mlp-pool`."""
    return name.partition("-")[0]


def write(folder: Path) -> None:
    """Fit every head that is not there, keep it in `folder`, and its answers beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    X, y = rows()
    if not (folder / "rows.npy").exists():
        np.save(folder / "rows.npy", X)
    for name, settings in SETTINGS.items():
        if (folder / name).exists():
            continue
        head = make_head(kind(name), blocks=BLOCKS, random_state=7, **settings).fit(X, y)
        save_head(head, folder / name, fingerprints=PRINTS, class_set=CLASSES, extra={"dataset": "faces"})
        np.save(folder / f"{name}.npy", head.predict_proba(X))


if __name__ == "__main__":
    write(GOLDEN / sys.argv[1])
