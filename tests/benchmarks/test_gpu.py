"""`make gpu` at tiny size on the CPU: every step, what it leaves, and how it goes on."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import gpu
from cer_fusion.featstore.manifests.adapters.ferplus import VOTES

BASIC = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
PAIRS = [("fear", "surprise"), ("happiness", "surprise"), ("sadness", "surprise"), ("disgust", "surprise"),
         ("anger", "surprise"), ("sadness", "fear"), ("sadness", "anger")]  # fmt: skip


def votes(*emotions: str) -> str:
    return ",".join(str(10 // len(emotions) if name in emotions else 0) for name in VOTES)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> gpu.Job:
    """FER+ of noise, six faces a class to learn from and two apart."""
    root = tmp_path_factory.mktemp("gpu")
    number = 0
    for part, each in (("FER2013Train", 6), ("FER2013Valid", 2)):
        folder = root / "plus" / part
        folder.mkdir(parents=True)
        lines = []
        for emotions in [*((one,) for one in BASIC), *PAIRS]:
            for _ in range(each):
                pixels = np.random.default_rng(number).integers(0, 255, (48, 48)).astype(np.uint8)
                data = io.BytesIO()
                Image.fromarray(pixels).save(data, "PNG")
                (folder / f"fer{number:07d}.png").write_bytes(data.getvalue())
                lines.append(f"fer{number:07d}.png,box,{votes(*emotions)}")
                number += 1
        (folder / "label.csv").write_text("\n".join(lines) + "\n")
    return gpu.Job(data=root / "plus", weights={}, output=root / "out", device="cpu", tiny=True)


@pytest.mark.slow
def test_the_sweep_of_a_dry_run_has_rows_of_every_class_where_no_real_ones_lie(
    job: gpu.Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("benchmarks.compound_rows.SHARED", tmp_path)
    found = gpu.simplex_sweep(job)
    assert (found["source"], found["vectors"]) == ("synthetic", 6)


@pytest.mark.slow
def test_a_dry_run_goes_through_every_step_and_sums_up(job: gpu.Job, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setitem(gpu.STEPS, "tests", lambda job: {"pytest": "none of this test's own"})
    ran = []

    def run(step: str) -> str:
        ran.append(step)
        gpu.do(step, job)
        return "ended"

    try:
        assert gpu.all_steps(job, run, once=True) == 0
        assert ran == ["machine"]
        assert gpu.all_steps(job, run, once=False) == 0
    finally:
        torch.set_num_threads(threads)
    assert ran == list(gpu.STEPS)
    found = {step: json.loads((job.output / f"{step}.json").read_text()) for step in gpu.STEPS}
    assert found["jpegs"]["pictures"] == 24
    assert all(found[f"extraction-{name}"]["threads"]["ratio_whole"] > 0 for name in gpu.NETWORKS)
    assert found["mlp-heads"]["heads"] == 4
    assert found["manifests"] == {"basic8": {"train": 48, "test": 16}, "compound7": {"train": 42, "test": 14},
                                  "step_s": found["manifests"]["step_s"]}  # fmt: skip
    for stage in gpu.STAGES:
        assert [found[f"finetune-{name}-{stage}"]["epochs"] for name in gpu.NETWORKS] == [1, 1, 1]
        assert "| Happ" in (job.output / f"{stage}.md").read_text()
    assert found["finetune-vit-basic8"]["held_out"] == {"pictures": 16, "seen_now": 0, "seen_before": 0}
    figures = (job.output / "figures.md").read_text()
    assert all(f"| {step} |" in figures for step in gpu.STEPS)
    assert "## table-compound7" in figures


def test_a_step_that_fails_is_told_and_the_others_are_done(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    job = gpu.Job(data=tmp_path, weights={}, output=tmp_path / "out", device="cpu", tiny=True)
    monkeypatch.setattr(gpu, "STEPS", {name: lambda job: {} for name in ("first", "finetune-x", "second", "third")})
    answers = {
        "first": ["failed"],
        "finetune-x": ["in time", "in time", "ended"],
        "second": ["in time"],
        "third": ["ended"],
    }
    ran = []

    def run(step: str) -> str:
        ran.append(step)
        how = answers[step].pop(0)
        if how == "ended":
            gpu.do(step, job)
        return how

    assert gpu.all_steps(job, run, once=False) == 2
    assert ran == ["first", "finetune-x", "finetune-x", "finetune-x", "second", "third"]
    said = capsys.readouterr().err
    assert "first: failed" in said
    assert "second: did not end in time" in said


def test_a_step_that_takes_too_long_is_asked_to_end_and_then_made_to(monkeypatch: Any) -> None:
    log: list[Any] = []

    class Process:
        patient = False

        def __init__(self, words: list[str]) -> None:
            log.append(words[1:])

        def wait(self, timeout: float | None = None) -> int:
            log.append(timeout)
            if timeout is not None and (timeout > 100 or not self.patient):
                raise gpu.subprocess.TimeoutExpired("step", timeout)
            return 130

        def send_signal(self, number: int) -> None:
            log.append(number)

        def kill(self) -> None:
            log.append("kill")

    monkeypatch.setattr(gpu.subprocess, "Popen", Process)
    assert gpu.in_a_process(["--step", "x"], 8) == "in time"
    assert log == [["-m", "benchmarks.gpu", "--step", "x"], 435.0, gpu.signal.SIGTERM, 40.0, "kill", None]
    Process.patient = True
    assert gpu.in_a_process(["--step", "x"], 8) == "in time"
    assert log[-1] == 40.0


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_how_to_go_through_it_dry(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--data", str(tmp_path)])
    assert "--tiny --device cpu" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gpu.main(["--data", str(tmp_path), "--weights", "vitt=x"])
    assert "--weights is for vit, manet, resnet50, however: vitt" in capsys.readouterr().err


def test_make_gpu_is_this_run() -> None:
    makefile = (Path(gpu.__file__).parents[1] / "Makefile").read_text()
    assert "-m benchmarks.gpu --data" in makefile
    assert sys.modules["benchmarks.gpu"] is gpu
