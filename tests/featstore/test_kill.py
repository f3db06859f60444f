"""`kill -9` at random moments: what is readable is right, and the next run ends as an unbroken one does."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from featstore import Store, extract, verify
from featstore.errors import IncompleteError

from .conftest import ToyEmbedder

CHILD = """
import sys, time
from featstore import Manifest, Store, extract
from tests.featstore.conftest import ToyEmbedder
embedder = ToyEmbedder()
embedder.spoil = lambda rows: (time.sleep(0.002), rows)[1]
print("ready", flush=True)
extract(embedder, Manifest.read(sys.argv[1]), Store.create(sys.argv[2]), dataset="d", batch_size=2, shard_rows=5)
"""


@pytest.mark.slow
def test_a_killed_run_leaves_only_right_rows_and_the_next_one_completes(tmp_path, make_manifest):
    manifest = make_manifest(150)
    manifest.write(tmp_path / "m.csv")
    extract(ToyEmbedder(), manifest, Store.create(tmp_path / "whole"), dataset="d", shard_rows=5)
    whole = Store(tmp_path / "whole")
    expected = dict(zip(manifest.ids, whole.view(["toy"]).join(), strict=True))
    delays = random.Random(0)
    seen = []
    for _ in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "m.csv"), str(tmp_path / "killed")],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(delays.uniform(0.0, 0.12))
        child.kill()
        child.wait()
        child.stdout.close()
        seen.append(_right_rows(tmp_path / "killed", expected))
    assert seen == sorted(seen), "rows that were committed have gone"
    extract(ToyEmbedder(), manifest, Store.create(tmp_path / "killed"), dataset="d", shard_rows=5)
    names = [[p.name for p in Store(tmp_path / name).feature("toy").shard_paths()] for name in ("whole", "killed")]
    assert names[0] == names[1]
    found = verify(Store(tmp_path / "killed")).problems
    assert all("killed run" in problem.what for problem in found)


def _right_rows(path: Path, expected: dict[str, np.ndarray]) -> int:
    """Number of rows that can be read; every one of them must be the right one."""
    if not (path / "store.json").exists():
        return 0
    store = Store(path)
    if "d" not in store.datasets():
        return 0
    try:
        view = store.view(["toy"], missing="drop")
    except IncompleteError:
        return 0
    for sample_id, row in zip(view.ids, view.join(), strict=True):
        np.testing.assert_array_equal(row, expected[sample_id])
    return len(view)
