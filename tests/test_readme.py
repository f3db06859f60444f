"""The README's Python is run as printed."""

from __future__ import annotations

import numpy as np

from cer_fusion.featstore import Manifest, Sample, Store, class_set, import_rows
from tests.pages import Page


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = np.arange(140) % 7
    samples = tuple(
        Sample(
            sample_id=f"s{i}", path=f"{i}.jpg", label=class_set("abaw7").labels[k], split="test" if i > 98 else "train"
        )
        for i, k in enumerate(y)
    )
    manifest = Manifest(samples=samples, classes=class_set("abaw7"), root=tmp_path)
    store = Store.create("demo-out/features")
    for name in ("face", "eyes", "mouth"):
        rows = (np.eye(7)[y] @ rng.normal(size=(7, 8)) + rng.normal(size=(140, 8))).astype(np.float32)
        import_rows(rows, manifest.ids, manifest, store, dataset="faces", name=name)
    for block in Page("README.md").python:
        exec(block, {})
    assert "'mlp': 0." in capsys.readouterr().out
