"""P16: SIGTERM, SIGUSR1 and Ctrl-C end a run within seconds; what is finished is kept, and the next run completes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from cer_fusion.featstore import Store
from tests.reliability import toy
from tests.reliability.processes import Forker

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
PICTURES, SHARD_ROWS, BATCH = 64, 16, 8
FEATURE = "test_vit"


def run_command(folder: str, store: str) -> None:
    """In a child: the real command, from its entry point on; on one thread, since two wait for each other when busy."""
    import torch

    from cer_fusion.cli import feat_main

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    os.chdir(folder)
    options = f"--weights random --batch-size {BATCH} --shard-rows {SHARD_ROWS} --data faces.csv --store {store}"
    sys.argv = ["cer-feat", "extract", "--backbone", f"timm:{FEATURE}", *options.split()]
    feat_main()


@pytest.mark.slow
def test_a_signal_ends_the_command_with_status_130_and_the_next_run_completes(tmp_path, scaled, figure):
    _draw(tmp_path)
    times = {number: scaled(50, 2) for number in SIGNALS}
    chance = random.Random(0)
    slowest, kept, late, store = 0.0, 0, 0, tmp_path / "store"
    with Forker(
        __name__, tmp_path / "log", "timm", "cer_fusion.backbones", "cer_fusion.featstore", "cer_fusion.commands.feat"
    ) as forker:
        forker.call(run_command, tmp_path, "whole")
        expected = _rows(tmp_path / "whole")
        longest = _duration_after_the_first_shard(forker, tmp_path)
        todo = [number for number, count in times.items() for _ in range(count)]
        while todo:
            shutil.rmtree(store, ignore_errors=True)
            pid = forker.start(run_command, tmp_path, "store")
            _wait_for_a_shard(store, forker.log)
            time.sleep(chance.uniform(0, longest))
            os.kill(pid, todo[-1])
            sent = time.monotonic()
            status = forker.wait(pid)
            if status == 0:  # it had ended before
                longest, late = longest * 0.9, late + 1
                continue
            slowest = max(slowest, time.monotonic() - sent)
            assert status == 130, (signal.Signals(todo.pop()), status, forker.log.read_text()[-4000:])
            found = _rows(store)
            assert toy.wrong(found, expected) == []
            assert toy.temporaries(store) == []
            kept += len(found)
            forker.call(run_command, tmp_path, "store")
            found = _rows(store)
            assert found.keys() == expected.keys()
            assert toy.wrong(found, expected) == []
            todo.pop()
    assert "Traceback" not in forker.log.read_text()
    counts = ", ".join(f"{count} {number.name}" for number, count in times.items())
    text = f"{counts} ({late} more came after the end): all end with status 130, the slowest after {slowest:.2f} s"
    figure("P16", f"{text}; {kept:,} rows kept, 0 wrong, all next runs complete")


def _draw(folder: Path) -> None:
    (folder / "faces").mkdir()
    lines = ["sample_id,path"]
    for i in range(PICTURES):
        Image.new("RGB", (8, 8), (i, 2 * i, 255 - i)).save(folder / "faces" / f"{i}.png")
        lines.append(f"s{i:03d},faces/{i}.png")
    (folder / "faces.csv").write_text("\n".join(lines) + "\n")


def _rows(store: Path) -> dict[str, object]:
    view = Store(store).view([FEATURE], missing="drop")
    return dict(zip(view.ids, view.join(), strict=True))


def _wait_for_a_shard(store: Path, log: Path) -> None:
    for _ in range(60_000):
        if list(store.glob("faces/*/shard-*.h5")):
            return
        time.sleep(0.001)
    pytest.fail(f"no shard was written\n{log.read_text()[-4000:]}")


def _duration_after_the_first_shard(forker: Forker, folder: Path) -> float:
    """Seconds that an undisturbed run goes on after its first shard, here and now."""
    pid = forker.start(run_command, folder, "timed")
    _wait_for_a_shard(folder / "timed", forker.log)
    started = time.monotonic()
    assert forker.wait(pid) == 0
    return time.monotonic() - started
