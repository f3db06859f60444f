"""P17: the same store, configuration and seed give the same head file, in this process and in another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cer_fusion.featstore import Store, import_rows
from cer_fusion.fusion import installed_heads, make_head, save_head
from tests.fusion.heads.conftest import QUICK
from tests.reliability.isolation import run_apart
from tests.reliability.samples import listed

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, QUICK[name]) for name in installed_heads()},
    "late of mlp": ("late", {"member": "mlp", "member_params": {"hidden": (4,), "epochs": 2, "threads": 1}}),
    "late of xgboost": ("late", {"member": "xgboost", "member_params": {"trees": 3, "threads": 1}}),
    "weighted sum": ("weighted", {"mode": "sum"}),
    "weights learned": ("weighted", {"weights": "learned"}),
    "mlp with early stopping": ("mlp", {"hidden": (8,), "epochs": 4, "patience": 2, "threads": 1}),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two features of one width, some rows of which tell the class."""
    root = tmp_path_factory.mktemp("p17")
    opened, manifest = Store.create(root / "store"), listed(root / "pictures", 84)
    for seed, name in enumerate(("vit", "manet")):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(7, 8))[manifest.y] + rng.normal(size=(84, 8))
        import_rows(rows.astype(np.float32), manifest.ids, manifest, opened, dataset="d", name=name)
    return opened.path


def test_equal_runs_leave_equal_files(store, tmp_path, scaled, figure):
    """Some repeats in this process, whose libraries have done other things before, and one in a fresh one."""
    repeats = scaled(5, 2)
    threads = torch.get_num_threads()
    runs = [kept(str(store), str(tmp_path / str(i))) for i in range(repeats - 1)]
    assert torch.get_num_threads() == threads
    runs.append(run_apart("tests.reliability.test_repeatable_heads:kept", str(store), str(tmp_path / "apart")))
    for name in VARIANTS:
        assert len({json.dumps(run[name], sort_keys=True) for run in runs}) == 1, f"{name} gave different files"
    figure("P17", f"{len(VARIANTS)} heads, {repeats} runs each, 1 of them in a fresh process: byte-identical files")


def test_another_seed_leaves_other_files(store, tmp_path):
    """That the comparison can fail: heads that draw at random differ when the seed does."""
    first, other = kept(str(store), str(tmp_path / "a")), kept(str(store), str(tmp_path / "b"), seed=8)
    for name in ("mlp", "xgboost"):
        assert first[name]["head.safetensors" if name == "mlp" else "booster.ubj"] not in other[name].values()


def kept(path: str, folder: str, seed: int = 7) -> dict[str, dict[str, str]]:
    """Train every head on the store and keep it; the digests of its files."""
    found = {}
    for variant, (name, params) in VARIANTS.items():
        view = Store(path).view(["vit", "manet"], split="train")
        head = make_head(name, blocks=view.widths, random_state=seed, **params).fit(view.join(), view.y)
        target = Path(folder) / variant.replace(" ", "-")
        save_head(head, target, fingerprints=view.fingerprints, class_set=view.classes)
        found[variant] = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(target.iterdir())}
    return found
