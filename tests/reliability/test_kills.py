"""P1: `kill -9` at any moment loses at most the unfinished shard, and what is readable is right."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from cer_fusion.featstore import Feature, Manifest, Store, verify
from tests.reliability import toy
from tests.reliability.processes import Forker

SHARD_ROWS = 3


def extract_and_note(manifest: str, store: str, acknowledged: str) -> None:
    """In a child: a real run that also notes, outside the store, every shard once its commit has returned."""
    commit = Feature.commit
    fd = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def noted(*args, **kwargs):
        path = commit(*args, **kwargs)
        os.write(fd, f"{path.name}\n".encode())
        return path

    Feature.commit = noted  # type: ignore[method-assign]
    toy.embed(Manifest.read(manifest), Path(store), shard_rows=SHARD_ROWS)


@pytest.mark.slow
def test_a_killed_run_leaves_only_right_rows_and_the_next_one_ends_as_an_unbroken_one(tmp_path, scaled, figure):
    manifest = toy.write_manifest(tmp_path, 60, contents={7: b"BAD", 30: b"picture 0001"})
    toy.embed(manifest, tmp_path / "whole", shard_rows=SHARD_ROWS)
    expected, names = toy.rows(tmp_path / "whole"), toy.names(tmp_path / "whole")
    store, note = tmp_path / "store", tmp_path / "acknowledged"
    chance = random.Random(0)
    kills, acknowledged, partial = scaled(200, 6), 0, 0
    with Forker(__name__, tmp_path / "log") as forker:
        forker.call(extract_and_note, tmp_path / "m.csv", store, note)
        longest = _duration(forker, tmp_path)
        done = 0
        while done < kills:
            shutil.rmtree(store, ignore_errors=True)
            note.unlink(missing_ok=True)
            pid = forker.start(extract_and_note, tmp_path / "m.csv", store, note)
            time.sleep(chance.uniform(0, longest))
            os.kill(pid, signal.SIGKILL)
            if forker.wait(pid) != -signal.SIGKILL:  # it had ended before
                longest *= 0.9
                continue
            done += 1
            noted = note.read_text().split() if note.exists() else []
            found = toy.rows_so_far(store)
            assert toy.wrong(found, expected) == []
            assert set(noted) <= set(toy.names(store) if found else [])
            assert len(toy.temporaries(store)) <= 1
            acknowledged += len(noted)
            partial += 0 < len(found) < len(expected)
            toy.embed(manifest, store, shard_rows=SHARD_ROWS)
            assert toy.names(store) == names
            assert toy.wrong(toy.rows(store), expected) == []
            assert toy.rows(store).keys() == expected.keys()
            assert all("killed run" in problem.what for problem in verify(Store(store)).problems)
    figure(
        "P1",
        f"{kills} kills ({partial} amid the shards, {acknowledged} shards acknowledged before): 0 wrong, 0 unreadable, "
        f"0 lost; {kills}/{kills} resumes end with the names of an unbroken run",
    )


def _duration(forker: Forker, tmp_path: Path) -> float:
    """Seconds that an unbroken run takes in a child, here and now."""
    started = time.monotonic()
    forker.call(extract_and_note, tmp_path / "m.csv", tmp_path / "timed", tmp_path / "timed.txt")
    return time.monotonic() - started
