"""P10: NaN and infinity never enter the store, and never leave it, wherever in a block they stand."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cer_fusion.featstore import FeatstoreError, Store, extract, import_rows, verify
from cer_fusion.featstore.errors import RowsError
from cer_fusion.featstore.rows import shard as shard_module
from tests.featstore.conftest import ToyEmbedder
from tests.reliability.samples import filled, listed

VALUES = (np.nan, np.inf, -np.inf)
WIDTHS = {"left": 4, "right": 3}
N = 20


def positions(count: int, seed: int) -> list[tuple[str, int, int, float, str]]:
    """(block, row, column, value, stored dtype), the corners of each block first."""
    corners = [(b, r, c) for b, width in WIDTHS.items() for r in (0, N - 1) for c in (0, width - 1)]
    draw = random.Random(seed)
    while len(corners) < count:
        block = draw.choice(list(WIDTHS))
        corners.append((block, draw.randrange(N), draw.randrange(WIDTHS[block])))
    return [(*at, VALUES[i % 3], ("float32", "float16")[i // 3 % 2]) for i, at in enumerate(corners[:count])]


def test_an_embedder_that_gives_nan_is_stopped_at_the_sample(tmp_path, scaled, figure):
    store, manifest = Store.create(tmp_path / "store"), listed(tmp_path / "pictures", N)
    places = positions(scaled(100, 100), seed=0)
    for block, row, column, value, dtype in places:
        embedder = ToyEmbedder()
        at, picture = column + 4 * (block == "right"), row

        def spoil(
            rows: np.ndarray, embedder: Any = embedder, at: int = at, row: int = picture, value: float = value
        ) -> Any:
            first = len(embedder.embedded) - len(rows)
            if first <= row < first + len(rows):
                rows[row - first, at] = value
            return rows

        embedder.spoil = spoil
        with pytest.raises(
            RowsError, match=rf"block '{block}' of toy@\w+ is NaN or Inf for 1 .*: s{row:04d}\n.*weights"
        ):
            extract(embedder, manifest, store, dataset="d", batch_size=6, dtype=dtype)
        assert all(not feature.shard_paths() for feature in store.features("d"))
    figure("P10", f"{len(places)} positions in rows of an embedder: all refused with sample id and hint")


def test_rows_of_another_tool_that_hold_nan_are_not_taken(tmp_path, scaled, figure):
    store, manifest = Store.create(tmp_path / "store"), listed(tmp_path / "pictures", N)
    places = positions(scaled(100, 100), seed=1)
    for _, row, column, value, dtype in places:
        rows = np.ones((N, 4), dtype=dtype)
        rows[row, column] = value
        with pytest.raises(RowsError, match=f"NaN or Inf in 1 of {N} rows: s{row:04d}"):
            import_rows(rows, manifest.ids, manifest, store, dataset="d", name="hse")
    assert store.datasets() == []
    figure("P10", f"{len(places)} positions in rows to import: all refused with sample id")


def test_a_shard_made_by_hand_with_nan_is_never_read(tmp_path, scaled, figure, monkeypatch):
    """Its digests are right: whoever wrote it had no such rule."""
    store, _ = filled(tmp_path, N, shard_rows=N)
    half, _ = filled(tmp_path / "half", N, shard_rows=N, dtype="float16")
    places = positions(scaled(100, 100), seed=2)
    for block, row, column, value, dtype in places:
        chosen = store if dtype == "float32" else half
        path = chosen.feature("toy").shard_paths()[0]
        whole = path.read_bytes()
        spoilt = with_value(chosen, block, row, column, value, monkeypatch)
        path.unlink()
        spoilt.rename(named_rightly(spoilt))
        for read in (
            lambda chosen=chosen: Store(chosen.path).view(["toy"]),
            lambda chosen=chosen, block=block: np.asarray(
                Store(chosen.path).view(["toy"], mapped=True).blocks[f"toy.{block}"]
            ),
            lambda chosen=chosen, block=block, row=row: (
                Store(chosen.path).view(["toy"], mapped=True).blocks[f"toy.{block}"][row]
            ),
        ):
            with pytest.raises(
                FeatstoreError,
                match=rf"/blocks/{block} holds NaN or Inf in the rows of s{row:04d}\n(.|\n)*verify --repair",
            ):
                read()
        assert any(f"s{row:04d}" in problem.what for problem in verify(Store(chosen.path)).problems)
        chosen.feature("toy").shard_paths()[0].unlink()
        path.write_bytes(whole)
    figure(
        "P10", f"{len(places)} positions in shards made by hand with right digests: all refused with sample id and hint"
    )


def with_value(store: Store, block: str, row: int, column: int, value: float, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The feature's one shard with one value changed and every digest right, as a file beside it."""
    feature, view = store.feature("toy"), store.view(["toy"])
    blocks = {name: np.array(view.blocks[f"toy.{name}"], dtype=feature.spec.dtype) for name in feature.spec.blocks}
    blocks[block][row, column] = value
    rows = shard_module.Rows(ids=view.ids, image_digests=[""] * len(view), blocks=blocks)
    with monkeypatch.context() as patch:
        patch.setattr(shard_module, "_check", lambda rows: None)
        _, data = shard_module.encode(rows, fingerprint=feature.spec.fingerprint, index=0)
    path = feature.folder / "by-hand"
    path.write_bytes(data)
    return path


def named_rightly(path: Path) -> Path:
    """The name that a shard of these bytes must bear."""
    return path.with_name(f"shard-00000-{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}.h5")
