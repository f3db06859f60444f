"""P1 and P7 of stores in buckets: kills, and many at once; the bucket is a folder, which holds the same contract."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from cer_fusion.featstore import Store, plan_pull, plan_push, pull, push
from cer_fusion.featstore.errors import FormatError
from tests.reliability import toy
from tests.reliability.processes import Forker

pytest.importorskip("obstore", reason="no bucket without obstore: pip install 'cer-fusion[cloud]'")


def push_all(store: str, url: str) -> None:
    opened = Store(store)
    push(opened, plan_push(opened, url))


def pull_all(store: str, url: str) -> None:
    pull(Path(store), plan_pull(Path(store), url))


def _killed(forker: Forker, function, args, seconds: float) -> bool:
    """Start a call in a child, kill it after so long; False if it had ended before."""
    pid = forker.start(function, *args)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return forker.wait(pid) == -signal.SIGKILL


def _duration(forker: Forker, function, args) -> float:
    """Seconds that the call takes in a child, once all is loaded that it needs."""
    forker.call(function, *args)
    shutil.rmtree(str(args[1]).removeprefix("file://") if function is push_all else args[0])
    started = time.monotonic()
    forker.call(function, *args)
    return time.monotonic() - started


@pytest.mark.slow
def test_a_killed_push_is_refused_or_whole_and_the_next_one_completes_it(tmp_path, scaled, figure):
    store = toy.embed(toy.write_manifest(tmp_path, 60), tmp_path / "store", shard_rows=3).path
    expected, bucket = toy.rows(store), tmp_path / "bucket"
    url, chance = f"file://{bucket}", random.Random(0)
    kills, done, refused, partial = scaled(100, 3), 0, 0, 0
    with Forker(__name__, tmp_path / "log", "obstore.store") as forker:
        longest = _duration(forker, push_all, (store, url))
        while done < kills:
            shutil.rmtree(bucket, ignore_errors=True)
            shutil.rmtree(tmp_path / "taken", ignore_errors=True)
            if not _killed(forker, push_all, (store, url), chance.uniform(0, longest)):
                longest *= 0.9
                continue
            done += 1
            sent = len(list(bucket.rglob("shard-*.h5")))
            partial += 0 < sent < 20
            if (bucket / "d" / "pushed-000001.json").exists():
                pull_all(str(tmp_path / "taken"), url)
                assert toy.rows(tmp_path / "taken").keys() == expected.keys()
            else:
                with pytest.raises(FormatError, match="half pushed" if sent else "half pushed|there is no store"):
                    pull_all(str(tmp_path / "taken"), url)
                refused += 1
            push_all(str(store), url)
            pull_all(str(tmp_path / "taken"), url)
            assert toy.names(tmp_path / "taken") == toy.names(store)
            assert toy.wrong(toy.rows(tmp_path / "taken"), expected) == []
    figure(
        "P1",
        f"{kills} pushes killed ({partial} amid the shards): {refused} refused by name, {kills - refused} whole, 0 "
        f"wrong; {kills}/{kills} completed by the next",
    )


@pytest.mark.slow
def test_a_killed_pull_leaves_right_rows_only_and_the_next_one_completes_it(tmp_path, scaled, figure):
    store = toy.embed(toy.write_manifest(tmp_path, 60), tmp_path / "store", shard_rows=3).path
    expected, url, chance = toy.rows(store), f"file://{tmp_path}/bucket", random.Random(0)
    push_all(str(store), url)
    taken = tmp_path / "taken"
    kills, done, partial = scaled(100, 3), 0, 0
    with Forker(__name__, tmp_path / "log", "obstore.store") as forker:
        longest = _duration(forker, pull_all, (taken, url))
        while done < kills:
            shutil.rmtree(taken)
            if not _killed(forker, pull_all, (taken, url), chance.uniform(0, longest)):
                longest *= 0.9
                taken.mkdir(exist_ok=True)
                continue
            done += 1
            there = {path.name for path in taken.rglob("shard-*.h5")}
            partial += 0 < len(there) < 20
            assert there <= set(toy.names(store))
            assert toy.wrong(toy.rows_so_far(taken) if (taken / "d" / "manifest.csv").exists() else {}, expected) == []
            pull_all(str(taken), url)
            assert toy.names(taken) == toy.names(store)
            assert toy.wrong(toy.rows(taken), expected) == []
    figure("P1", f"{kills} pulls killed ({partial} amid the shards): 0 wrong; {kills}/{kills} completed by the next")


@pytest.mark.slow
def test_eight_processes_that_push_at_once_lose_no_row(tmp_path, scaled, figure):
    manifest = toy.write_manifest(tmp_path, 48)
    whole = toy.embed(manifest, tmp_path / "whole", shard_rows=3).path
    expected, rounds = toy.rows(whole), scaled(50, 2)
    stores = []
    for k in range(8):
        shutil.copytree(whole, tmp_path / f"store{k}")
        stores.append(tmp_path / f"store{k}")
        for i, path in enumerate(Store(stores[k]).feature("toy").shard_paths()):
            if i % 8 not in (k, (k + 1) % 8):  # each has a quarter, and shares half of it with the next
                path.unlink()
    with Forker(__name__, tmp_path / "log", "obstore.store") as forker:
        for number in range(rounds):
            url = f"file://{tmp_path}/bucket{number}"
            children = [forker.start(push_all, store, url) for store in stores]
            assert [forker.wait(pid) for pid in children] == [0] * 8
            pull_all(str(tmp_path / f"taken{number}"), url)
            assert toy.names(tmp_path / f"taken{number}") == toy.names(whole)
            assert toy.wrong(toy.rows(tmp_path / f"taken{number}"), expected) == []
    figure("P7", f"{rounds} rounds of 8 processes that push a quarter of the rows each: all rows there, 0 wrong")
