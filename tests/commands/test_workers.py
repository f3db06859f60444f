from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cer_fusion.commands import parts
from cer_fusion.commands.console import PROGRESS_LINE
from cer_fusion.commands.parts import WorkerError, _Sum, run_workers
from cer_fusion.featstore import Store
from cer_fusion.kit import machine

ROOT = Path(__file__).parents[2]


def quiet(stage: str, done: int, total: int) -> None:
    """Progress for nobody."""


def test_a_worker_that_fails_is_named_and_what_it_said_is_passed_on(tmp_path, capsys):
    Store.create(tmp_path / "store")
    with pytest.raises(WorkerError, match="worker 1 of 2 failed") as caught:
        run_workers(lambda j: ["ls", "--json", "--store", str(tmp_path / ["store", "none"][j])], 2, quiet)
    assert caught.value.exit_code == 1
    assert "worker 1: error: no feature store at" in capsys.readouterr().err.replace("\n", " ")


def test_every_workers_result_comes_back_in_order(tmp_path):
    for name in ("a", "b"):
        Store.create(tmp_path / name)
    assert run_workers(lambda j: ["ls", "--json", "--store", str(tmp_path / "ab"[j])], 2, quiet) == [[], []]


def test_how_busy_each_workers_model_is_comes_with_its_progress():
    seen, busy = [], {}
    total = _Sum(lambda *step: seen.append(step), busy)
    total.step(0, "embed", 3, 10, 0.5)
    total.step(1, "embed", 4, 20, 0.75)
    total.step(0, "hash", 1, 2)
    assert seen == [("embed", 3, 10), ("embed", 7, 30), ("hash", 1, 2)]
    assert busy == {0: 0.0, 1: 0.75}


MUCH = "[print('later', i, 'x' * 100, file=sys.stderr) for i in range(3000)]"
"""More than a pipe holds: who has stopped listening would block the worker."""
GARBLED = ["", "not json", "[1, 2", '["embed", 1]', '["embed", "1", 2]', "[" * 5000, '["embed", 1, 2, 3, 4]', "null"]


def test_a_garbled_line_of_progress_neither_ends_nor_blocks_the_listener(monkeypatch, capfd):
    lines = [PROGRESS_LINE + text for text in GARBLED]
    lines += ["half a line" + PROGRESS_LINE + '["embed", 3, 4]', PROGRESS_LINE + '["embed", 4, 4]']
    code = f"import sys; sys.stderr.write({chr(10).join(lines)!r} + chr(10)); {MUCH}; print('[]')"
    monkeypatch.setattr(parts, "_CODE", code)
    seen = []
    assert run_workers(lambda j: [], 1, lambda *step: seen.append(step)) == [[]]
    assert seen == [("embed", 3, 4), ("embed", 4, 4)]
    said = capfd.readouterr().err
    assert "half a line" in said
    assert "later 2999" in said


def test_a_bar_that_fails_does_not_block_the_worker(monkeypatch, capfd):
    line = PROGRESS_LINE + '["embed", 3, 4]'
    monkeypatch.setattr(parts, "_CODE", f"import sys; print({line!r}, file=sys.stderr); {MUCH}; print('[]')")

    def fail(*step):
        raise UnicodeEncodeError("ascii", "é", 0, 1, "cannot be shown")

    assert run_workers(lambda j: [], 1, fail) == [[]]
    assert "not all that worker 0 said could be shown" in capfd.readouterr().err


@pytest.mark.parametrize("printed", ["", "Downloading…", "[1, 2"])
def test_a_worker_whose_result_is_garbled_is_named(monkeypatch, printed):
    monkeypatch.setattr(parts, "_CODE", f"import sys; sys.stdout.reconfigure(encoding='utf-8'); print({printed!r})")
    with pytest.raises(WorkerError, match="worker 0 ended well, but what it printed is no result"):
        run_workers(lambda j: [], 1, quiet)


@pytest.mark.slow
def test_workers_make_what_one_process_makes_and_an_interrupt_reaches_them(faces, tmp_path):
    def extract(store: str, *options: str) -> subprocess.Popen[str]:
        words = ["extract", "-b", "timm:test_resnet", "-b", "timm:test_vit", "-d", str(faces), "--shard-rows", "4"]
        words += ["-w", "timm:test_resnet=random", "-w", "timm:test_vit=random", "--json"]
        code = "import sys; from cer_fusion.cli import feat_main; feat_main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *words, "--store", str(tmp_path / store), *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def names(store: str) -> list[str]:
        return [path.name for feature in Store(tmp_path / store).features() for path in feature.shard_paths()]

    interrupted = extract("shared", "--workers", "2")
    assert interrupted.stderr is not None
    assert "worker" in interrupted.stderr.readline()  # they have begun
    time.sleep(0.2)
    interrupted.send_signal(signal.SIGTERM)
    said = interrupted.communicate(timeout=120)[1]
    assert interrupted.returncode == 130, said
    alone, shared = extract("alone"), extract("shared", "--workers", "2")
    reports = [json.loads(run.communicate(timeout=300)[0]) for run in (alone, shared)]
    for one, several in zip(*reports, strict=True):
        assert one["feature"] == several["feature"]
        assert one["samples"] == several["samples"] == several["already"] + several["embedded"]
    assert names("shared") == names("alone")


@pytest.mark.parametrize(
    ("devices", "cores", "ranks", "asked", "found"),
    [
        (["cpu"], 16, "", (None, None), (2, 0)),
        (["cuda"], 16, "", (None, None), (2, 14)),
        (["cpu", "cuda:1"], 64, "", (None, None), (2, 16)),  # one of several is on a GPU; more than it takes
        (["cuda:3"], 32, "4", (None, None), (2, 6)),  # four ranks share the cores
        (["cuda"], 2, "", (None, None), (2, 0)),
        (["cuda"], 16, "", (5, None), (5, 0)),
        (["cuda"], 16, "", (None, 3), (2, 3)),
        (["cpu"], 16, "", (None, 3), (2, 3)),
    ],
)
def test_readers_follow_device_and_cores_unless_they_are_asked_for(monkeypatch, devices, cores, ranks, asked, found):
    from cer_fusion.commands.options import readers_for

    monkeypatch.setattr(machine, "whole_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert readers_for(devices, *asked) == found


def test_workers_know_how_many_share_the_machine():
    assert {parts._environment(number, 4)["LOCAL_WORLD_SIZE"] for number in range(4)} == {"4"}
