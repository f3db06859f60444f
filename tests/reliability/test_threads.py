"""P8: threads that load rows share nothing that is still in the making."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore import Store, extract
from cer_fusion.featstore.errors import DamagedShardError
from cer_fusion.featstore.rows import mapped
from tests.featstore.conftest import ToyEmbedder
from tests.reliability import toy
from tests.reliability.processes import Forker

SHARDS, SHARD_ROWS, WIDTH = 10, 64, 768


class NumberedEmbedder(ToyEmbedder):
    """A row says which picture it was made from, and each of its numbers in which column it stands."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = {"numbered": WIDTH, "halved": WIDTH}

    def embed(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        numbers = np.array([int(bytes(picture[8:]).rstrip(b"\0")) for picture in pictures], np.float32)
        rows = numbers[:, None] + np.arange(WIDTH, dtype=np.float32) / 1024  # (b,) -> (b, d)
        return {"numbered": rows, "halved": rows / 2}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("threads")
    manifest = toy.write_manifest(folder, SHARDS * SHARD_ROWS)
    opened = Store.create(folder / "store")
    extract(NumberedEmbedder(), manifest, opened, dataset="d", batch_size=SHARD_ROWS, shard_rows=SHARD_ROWS)
    return folder / "store"


def load_mapped(store: str, damaged: bool) -> None:
    """In a child: what `train` and `compare` do, in more pieces than there are threads, taking turns all the time."""
    mapped._PIECE_ROWS = 32
    mapped.os.cpu_count = lambda: 8
    blocks = Store(store).view(["toy"], mapped=True).blocks
    sys.setswitchinterval(1e-5)
    if damaged:
        with pytest.raises(DamagedShardError):
            np.asarray(blocks["toy.numbered"])
        return
    expected = np.arange(SHARDS * SHARD_ROWS, dtype=np.float32)[:, None] + np.arange(WIDTH, dtype=np.float32) / 1024
    np.testing.assert_array_equal(np.asarray(blocks["toy.numbered"]), expected)
    np.testing.assert_array_equal(np.asarray(blocks["toy.halved"]), expected / 2)


def test_fresh_processes_load_mapped_rows_in_threads_without_a_wrong_one(store, tmp_path, scaled, figure):
    loads = scaled(2_000, 50)
    with Forker(__name__, tmp_path / "log") as forker:
        ends = [forker.wait(forker.start(load_mapped, store, False)) for _ in range(loads)]
    assert ends == [0] * loads, (tmp_path / "log").read_text()[-4000:]
    figure("P8", f"{loads:,} fresh processes load mapped rows in 8 threads: 0 wrong, 0 dead")


def test_damage_is_told_by_every_load_however_the_threads_take_turns(store, tmp_path, scaled, figure):
    """One byte in the middle of one shard: no load gives rows."""
    loads = scaled(200, 10)
    path = Store(store).feature("toy").shard_paths()[SHARDS // 2]
    whole = path.read_bytes()
    header = next(h for h in Store(store).feature("toy").headers() if h.path.name == path.name)
    at = header.segments["blocks/numbered"].offset + 1000
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    try:
        with Forker(__name__, tmp_path / "log") as forker:
            ends = [forker.wait(forker.start(load_mapped, store, True)) for _ in range(loads)]
    finally:
        path.write_bytes(whole)
    assert ends == [0] * loads, (tmp_path / "log").read_text()[-4000:]
    figure("P8", f"{loads:,} fresh processes load a damaged shard in 8 threads: all hear of it")
