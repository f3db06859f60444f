"""Two processes, each with half of every batch: what is kept is what was judged, and all end together.

One pair of processes does everything that is looked at here: starting them is most of what it costs.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from cer_fusion import backbones
from cer_fusion.backbones import load_state
from cer_fusion.backbones.finetuning import process
from tests.backbones.finetuning.conftest import TINY, examples, network

NORMS = TINY.changed({"batch_size": 12, "ema": 0.9, "lr": 5e-3, "optimizer": "sgd"})
WHOLE = TINY.changed({"batch_size": 12, "epochs": 1, "ema": 0.0, "optimizer": "sgd", "lr": 0.1, "sync_bn": True})
LATE = TINY.changed({"epochs": 3, "batch_size": 12, "ema": 0.9})

TWO_PROCESSES = """
import json, os, signal, sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from cer_fusion import backbones
from tests.backbones.finetuning.conftest import CLASSES, TINY, examples, network
from tests.backbones.finetuning.test_processes import LATE, NORMS, WHOLE

rank, out = int(os.environ["RANK"]), Path(sys.argv[1])
seen = {}

def tune(name, used, recipe, train=None, **rest):
    return backbones.finetune(
        used, train or examples(25), examples(9, first=100), classes=CLASSES, recipe=recipe, output=out / name, **rest)

tune("plain", network(), TINY)
tune("norms", network("timm:test_resnet"), NORMS)
trained = network("timm:test_resnet")
tune("whole", trained, WHOLE)
seen["classes left"] = sorted({type(part).__name__ + type(part).__module__ for part in trained.module.modules()
                               if "BatchNorm" in type(part).__name__})
tune("late", network("timm:test_resnet"), LATE)

def signalled(stage, done, total):
    if rank == 1 and stage == "epoch 2" and done < total:
        os.kill(os.getpid(), signal.SIGTERM)

try:
    tune("stopped", network("timm:test_resnet"), LATE, progress=signalled)
except KeyboardInterrupt:
    seen["stopped"] = sorted(path.name for path in (out / "stopped").iterdir())
seen["resumed"] = tune("stopped", network("timm:test_resnet"), LATE).resumed

import cer_fusion.backbones.finetuning.training as training
plain = training.loss_sum
training.loss_sum = lambda *given: plain(*given) * (float("nan") if rank == 1 else 1)
try:
    tune("diverged", network(), TINY)
except backbones.DivergedError as error:
    seen["diverged"] = str(error)
(out / f"seen{rank}.json").write_text(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes left their trainings in."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    given = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), "WORLD_SIZE": "2",
             "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}  # fmt: skip
    started = [
        subprocess.Popen([sys.executable, "-c", TWO_PROCESSES, str(folder)], stderr=subprocess.PIPE, text=True,
                         env={**given, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=240)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    return folder


def seen(two: Path) -> list[dict[str, Any]]:
    return [json.loads((two / f"seen{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_share_each_batch_and_learn_what_one_does(two: Path, tune: Any) -> None:
    one, card = tune(output="one"), backbones.read_card(two / "plain" / "card.json")
    assert (card["processes"], card["finished"]) == (2, True)
    assert card["epochs"][-1]["loss"] == pytest.approx(one.epochs[-1].loss, rel=1e-3)
    torch.testing.assert_close(
        load_state(two / "plain" / "weights.safetensors"), load_state(one.weights), rtol=1e-2, atol=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["norms", "whole", "late", "stopped"])
def test_the_score_in_the_card_is_that_of_the_weights_that_were_kept(two: Path, name: str) -> None:
    card = backbones.read_card(two / name / "card.json")
    found = logits_of(two / name / "weights.safetensors")
    y = np.arange(9) % 3
    assert card["best"]["valid_macro_f1"] == pytest.approx(f1_score(y, found.argmax(1), average="macro"))
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(found), torch.from_numpy(y))
    assert card["best"]["valid_loss"] == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.slow
def test_with_sync_bn_two_processes_see_the_batch_norms_of_one(two: Path, tune: Any) -> None:
    one = tune(network("timm:test_resnet"), recipe=WHOLE, output="one")
    expected, found = load_state(one.weights), load_state(two / "whole" / "weights.safetensors")
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=2e-3, atol=2e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert all(kinds == seen(two)[0]["classes left"] for kinds in (each["classes left"] for each in seen(two)))
    assert all("finetuning" not in kind for kind in seen(two)[0]["classes left"])


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_step_with_the_state_kept(two: Path) -> None:
    for each in seen(two):
        assert "state.safetensors" in each["stopped"]
        assert each["resumed"]
    whole, stopped = (backbones.read_card(two / name / "card.json") for name in ("late", "stopped"))
    assert [epoch["loss"] for epoch in stopped["epochs"]] == [epoch["loss"] for epoch in whole["epochs"]]
    assert stopped["weights"] == whole["weights"]


@pytest.mark.slow
def test_a_loss_that_diverges_in_one_process_ends_all_in_words(two: Path) -> None:
    first, second = (each["diverged"] for each in seen(two))
    assert "in another process's part" in first
    assert "samples of the batch: s00" in second


def logits_of(weights: Path) -> np.ndarray:
    """What kept weights say of the validation part, by the network's own code alone."""
    import timm

    kept = timm.create_model("test_resnet", num_classes=3)
    kept.load_state_dict(load_state(weights))
    used = network("timm:test_resnet")
    pictures = np.stack([used.decode(examples(9, first=100).read(i)) for i in range(9)])
    with torch.inference_mode():
        return kept.eval()(used.transform.to_tensor(torch.from_numpy(pictures), channels_last=True)).numpy()


def test_the_same_signal_twice_at_once_is_one_signal_and_a_later_one_interrupts(monkeypatch: Any) -> None:
    import signal

    now = [100.0]
    monkeypatch.setattr(process.time, "monotonic", lambda: now[0])
    with process.held_signals() as came:
        for _ in range(2):  # as a terminal and a launcher send it
            os.kill(os.getpid(), signal.SIGINT)
        assert came.is_set()
        now[0] += 5
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_alone_a_process_leaves_batch_norms_and_sums_as_they_are(tune: Any) -> None:
    used = network("timm:test_resnet")
    with process.norms_of_whole_batches(used.module, wanted=True):
        assert type(used.module.trunk.bn1).__module__.startswith(("torch", "timm"))
    assert TINY.changed({"sync_bn": True}).to_json()["sync_bn"] is True
    report = tune(used, recipe=NORMS.changed({"sync_bn": True}))
    assert report.best.epoch


def test_the_whole_batch_of_one_process_is_its_batch_norm(monkeypatch: Any) -> None:
    """In a world of two that are equal, the statistics are those of one, but for the unbiased variance's count."""
    monkeypatch.setattr(process.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(process.distributed, "all_reduce", lambda x: x.mul_(2))
    ours, theirs = torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    ours.__class__ = type("BatchNorm2d", (process._WholeBatch, torch.nn.BatchNorm2d), {})
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 3 + 50
    twice = torch.cat([x, x])
    a, b = x.clone().requires_grad_(), twice.clone().requires_grad_()
    y, z = ours(a), theirs(b)
    torch.testing.assert_close(y, z[:4])
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    (y * weights).sum().backward()
    (z * torch.cat([weights, weights])).sum().backward()
    torch.testing.assert_close(a.grad, b.grad[:4], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert int(ours.num_batches_tracked) == 1
