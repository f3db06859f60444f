from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands.workers import WorkerError, run_workers
from featstore import Store

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


@pytest.mark.slow
def test_workers_make_what_one_process_makes_and_an_interrupt_reaches_them(faces, tmp_path):
    def extract(store: str, *options: str) -> subprocess.Popen[str]:
        words = ["extract", "-b", "timm:test_resnet", "-w", "random", "-d", str(faces), "--shard-rows", "4", "--json"]
        code = "import sys; from cli import feat_main; feat_main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *words, "--store", str(tmp_path / store), *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def names(store: str) -> list[str]:
        return [path.name for path in Store(tmp_path / store).features()[0].shard_paths()]

    interrupted = extract("shared", "--workers", "2")
    assert interrupted.stderr is not None
    assert "worker" in interrupted.stderr.readline()  # they have begun
    time.sleep(0.2)
    interrupted.send_signal(signal.SIGTERM)
    said = interrupted.communicate(timeout=120)[1]
    assert interrupted.returncode == 130, said
    alone, shared = extract("alone"), extract("shared", "--workers", "2")
    reports = [json.loads(run.communicate(timeout=300)[0]) for run in (alone, shared)]
    assert reports[0]["samples"] == reports[1]["samples"] == reports[1]["already"] + reports[1]["embedded"]
    assert names("shared") == names("alone")
