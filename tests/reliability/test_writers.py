"""P7: writers cannot interleave; whoever is first, there is exactly one file a shard."""

from __future__ import annotations

import importlib
import random
import shutil
import time
from pathlib import Path

from cer_fusion.featstore import Manifest
from tests.reliability import toy
from tests.reliability.processes import Forker

WRITERS = 8
SHARD_ROWS = 3


def extract_in_random_order(manifest: str, store: str, go: str, seed: int) -> None:
    """In a child: a whole run, its shards in an order of its own, as soon as all writers are there."""
    module = importlib.import_module("cer_fusion.featstore.extraction.run")
    deal = module.deal_part

    def shuffled(*args, **kwargs):
        shards = list(deal(*args, **kwargs))
        random.Random(seed).shuffle(shards)
        return iter(shards)

    module.deal_part = shuffled
    read = Manifest.read(manifest)
    while not Path(go).exists():
        time.sleep(0.0005)
    toy.embed(read, Path(store), shard_rows=SHARD_ROWS)


def test_eight_writers_of_one_plan_leave_exactly_one_file_a_shard(tmp_path, scaled, figure):
    manifest = toy.write_manifest(tmp_path, 24, contents={5: b"BAD", 20: b"picture 0001"})
    toy.embed(manifest, tmp_path / "whole", shard_rows=SHARD_ROWS)
    expected, names = toy.rows(tmp_path / "whole"), toy.names(tmp_path / "whole")
    rounds = scaled(100, 3)
    store, go = tmp_path / "store", tmp_path / "go"
    with Forker(__name__, tmp_path / "log") as forker:
        for number in range(rounds):
            go.unlink(missing_ok=True)
            shutil.rmtree(store, ignore_errors=True)
            seeds = [number * WRITERS + writer for writer in range(WRITERS)]
            writers = [forker.start(extract_in_random_order, tmp_path / "m.csv", store, go, seed) for seed in seeds]
            go.touch()
            statuses = [forker.wait(pid) for pid in writers]
            assert statuses == [0] * WRITERS, forker.log.read_text()[-4000:]
            assert toy.names(store) == names
            assert toy.temporaries(store) == []
            found = toy.rows(store)
            assert found.keys() == expected.keys()
            assert toy.wrong(found, expected) == []
    text = (
        f"{rounds} rounds of {WRITERS} processes, {len(names)} shards each: exactly one file a shard, 0 temporary files"
    )
    figure("P7", text)
