"""Small runs for tests: trained in milliseconds, kept in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cer_fusion.fusion import Report, Rows, compare, make_head
from cer_fusion.fusion.keeping.runs import Run, RunConfig, environment, write_run

CLASSES = ("Sadly_Angry", "Happily_Surprised", "Sadly_Fearful")


def rows(n: int, *, seed: int, split: str, groups: tuple[str, ...] | None = None) -> Rows:
    """Rows that a linear head can partly learn, of two blocks of one column a class."""
    y = np.arange(n) % 3
    rng = np.random.default_rng(seed)
    blocks = {
        name: (np.eye(3)[y] + noise * rng.normal(size=(n, 3))).astype(np.float32) for name, noise in NOISE.items()
    }
    ids = tuple(f"{split}_{i:03d}" for i in range(n))
    fingerprints = {name: f"{name}-print".ljust(64, "0") for name in NOISE}
    return Rows(blocks=blocks, y=y, classes=CLASSES, ids=ids, groups=groups, fingerprints=fingerprints)


NOISE = {"vit": 0.6, "manet": 0.9}


def trained(blocks: tuple[str, ...], groups: tuple[str, ...] | None = None) -> tuple[Report, Rows, Rows]:
    """A report of one linear head on these blocks, with its training and test rows."""
    train = rows(30, seed=0, split="train").only(blocks)
    test = rows(21, seed=1, split="test", groups=groups).only(blocks)
    return compare({"linear": make_head("linear")}, train, test, singles=False, resamples=100), train, test


def config_of(report: Report, train: Rows, **changes: Any) -> RunConfig:
    """Its configuration."""
    given: dict[str, Any] = {
        "head": "linear",
        "estimator": "LinearHead",
        "params": report.columns[0].params,
        "preset": None,
        "seed": 0,
        "blocks": tuple(train.widths.items()),
        "features": tuple(train.by_feature()),
        "fingerprints": {name: (train.fingerprints or {})[name] for name in train.blocks},
        "classes": CLASSES,
        "class_set": "three",
        "dataset": "faces",
        "store": "features",
        "train_split": "train",
        "train_supports": tuple(train.supports.tolist()),
        "test_split": "test",
        "missing": "error",
        "in_memory": True,
    }
    return RunConfig(**given | changes)


def kept(folder: Path, *blocks: str, groups: tuple[str, ...] | None = None, **changes: Any) -> Run:
    """Train and keep a run."""
    report, train, test = trained(blocks or tuple(NOISE), groups)
    fitted = report.columns[0].fitted
    return write_run(
        folder,
        config_of(report, train, **changes),
        report,
        groups=test.clusters,
        environment=environment(threads=fitted.fit_threads_, device="cpu"),
    )
