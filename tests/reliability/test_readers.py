"""P8: readers never wait for writers and never see half a shard."""

from __future__ import annotations

import collections
import json
import os
import random
import time
from pathlib import Path

import numpy as np

from cer_fusion.featstore import FeatstoreError, Manifest, Store, extract
from cer_fusion.featstore.errors import IncompleteError
from tests.featstore.conftest import ToyEmbedder
from tests.reliability import toy
from tests.reliability.processes import Forker

READERS, WRITERS = 4, 2
PATIENCE_S = 120


def write_until(manifest: str, store: str, stop: str) -> None:
    """In a child: fill one feature after the other until `stop` is there; both writers fill the same ones."""
    read = Manifest.read(manifest)
    number, parent = 0, os.getppid()
    while not Path(stop).exists() and os.getppid() == parent:
        number += 1
        embedder = ToyEmbedder(number=number)
        embedder.spoil = _slowly
        extract(embedder, read, Store.create(store), dataset="d", name=f"toy{number}", batch_size=4, shard_rows=4)


def read_often(store: str, whole: str, result: str, reads: int, seed: int) -> None:
    """In a child: read at random moments and count what was found; a look before there is anything is no read.

    On a busy machine all reads may come before the first row, or before the first feature is whole: a reader goes on
    until it has seen both, or until the writers must have died.
    """
    expected = toy.rows(Path(whole))
    chance = random.Random(seed)
    found: collections.Counter[str] = collections.Counter()
    longest = 0.0
    opened = Store(store)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and (
        found.total() - found["not there yet"] < reads or not (found["complete"] and found["incomplete"])
    ):
        if chance.random() < 0.1:
            opened = Store(store)
        started = time.monotonic()
        found[_read_once(opened, expected, chance)] += 1
        longest = max(longest, time.monotonic() - started)
    Path(result).write_text(json.dumps({"found": found, "longest_s": longest}))


def test_readers_beside_writers_find_right_rows_or_hear_that_some_are_missing(tmp_path, scaled, figure):
    manifest = toy.write_manifest(tmp_path, 80, contents={20: b"picture 0001"})
    toy.embed(manifest, tmp_path / "whole", shard_rows=4)
    store, stop = tmp_path / "store", tmp_path / "stop"
    Store.create(store)
    each = -(-scaled(10_000, 200) // READERS)
    results = [tmp_path / f"{reader}.json" for reader in range(READERS)]
    with Forker(__name__, tmp_path / "log") as forker:
        writers = [forker.start(write_until, tmp_path / "m.csv", store, stop) for _ in range(WRITERS)]
        readers = [
            forker.start(read_often, store, tmp_path / "whole", path, each, seed) for seed, path in enumerate(results)
        ]
        statuses = [forker.wait(pid) for pid in readers]
        stop.touch()
        statuses += [forker.wait(pid) for pid in writers]
    assert statuses == [0] * (READERS + WRITERS), (tmp_path / "log").read_text()[-4000:]
    told = [json.loads(path.read_text()) for path in results]
    found = sum((collections.Counter(entry["found"]) for entry in told), collections.Counter())
    assert found.keys() <= {"complete", "incomplete", "not there yet"}, found
    assert found["complete"], found
    assert found["incomplete"], found
    counts = ", ".join(f"{count:,} {what}" for what, count in found.most_common())
    longest = max(entry["longest_s"] for entry in told)
    figure(
        "P8",
        f"{found.total():,} reads by {READERS} readers beside {WRITERS} writers ({counts}): 0 wrong, 0 errors, "
        f"longest {longest:.2f} s",
    )


def _read_once(store: Store, expected: dict[str, np.ndarray], chance: random.Random) -> str:
    """Look at one of the newest features: complete, or said to be incomplete, or what went wrong."""
    mapped = chance.random() < 0.5
    try:
        newest = sorted(store.features("d"), key=lambda feature: int(feature.name.removeprefix("toy")))[-2:]
        if not newest:
            return "not there yet"
        name = chance.choice(newest).name
        try:
            view = store.view([name], dataset="d", mapped=mapped)
        except IncompleteError:
            view = store.view([name], dataset="d", mapped=mapped, missing="drop")
            complete = False
        else:
            complete = view.ids == tuple(expected)
    except toy.NOT_THERE:
        return "not there yet"
    except FeatstoreError as error:
        return f"{type(error).__name__}: {error}"
    if toy.wrong(dict(zip(view.ids, view.join(), strict=True)), expected):
        return "wrong rows"
    return "complete" if complete else "incomplete"


def _slowly(rows: np.ndarray) -> np.ndarray:
    time.sleep(0.005)
    return rows
