"""The device of an ONNX model, with an onnxruntime that says what one on a machine with GPUs would."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cer_fusion import backbones
from cer_fusion.backbones import DeviceError
from tests.backbones.conftest import RECIPE

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class Machine:
    """An onnxruntime built for CUDA, on a machine with `gpus` of them; it computes on the CPU all the same."""

    def __init__(self, gpus: int, *, says: str = "falls back") -> None:
        self.gpus, self.says = gpus, says
        self.asked: list[Any] = []

    def session(self, content: bytes, options: Any, *, providers: list[Any], **rest: Any) -> Any:
        self.asked.append(providers)
        real = onnxruntime.InferenceSession(content, options, providers=[CPU])
        cuda = [one for one in providers if not isinstance(one, str)]
        if cuda and int(cuda[0][1]["device_id"]) >= self.gpus and self.gpus:
            assert not rest["enable_fallback"], "it would take device 0 instead"
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 101: invalid device ordinal ; GPU=7")
        if cuda and self.says == "driver":
            raise RuntimeError("CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version")
        there = bool(cuda) and self.gpus > 0
        return SimpleNamespace(
            run=real.run,
            get_inputs=real.get_inputs,
            get_outputs=real.get_outputs,
            get_providers=lambda: [CUDA, CPU] if there else [CPU],
            get_provider_options=lambda: {CUDA: dict(cuda[0][1]), CPU: {}} if there else {CPU: {}},
        )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    def made(gpus: int, **rest: Any) -> Machine:
        machine = Machine(gpus, **rest)
        fake = SimpleNamespace(
            __version__="1.99",
            SessionOptions=onnxruntime.SessionOptions,
            InferenceSession=machine.session,
            get_available_providers=lambda: ["TensorrtExecutionProvider", CUDA, CPU],
        )
        monkeypatch.setitem(sys.modules, "onnxruntime", fake)
        return machine

    return made


def make(path: Path, device: str) -> backbones.Backbone:
    return backbones.create(f"onnx:{path}", device=device, **RECIPE)


def test_cuda_is_refused_where_the_session_fell_back_to_the_cpu(machine: Any, tiny_onnx: Path) -> None:
    machine(0)
    for device in ("cuda", "cuda:0", "cuda:7"):
        with pytest.raises(DeviceError, match=rf"'{device}' was asked for, and onnxruntime would compute on the CPU"):
            make(tiny_onnx, device)


def test_each_worker_computes_on_the_device_it_was_given_and_in_float32(machine: Any, tiny_onnx: Path) -> None:
    asked = machine(2).asked
    assert (make(tiny_onnx, "cuda").device, make(tiny_onnx, "cuda:1").device) == ("cuda", "cuda:1")
    assert asked == [[(CUDA, {"device_id": number, "use_tf32": "0"}), CPU] for number in ("0", "1")]


def test_a_device_number_that_the_machine_has_not_is_refused(machine: Any, tiny_onnx: Path) -> None:
    machine(2)
    with pytest.raises(DeviceError, match=r"cannot use CUDA device 7: .*invalid device ordinal"):
        make(tiny_onnx, "cuda:7")


def test_a_session_on_another_device_is_refused(machine: Any, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = machine(2).session

    def elsewhere(*arguments: Any, **rest: Any) -> Any:
        made = sessions(*arguments, **rest)
        made.get_provider_options = lambda: {CUDA: {"device_id": "0"}, CPU: {}}
        return made

    monkeypatch.setattr(sys.modules["onnxruntime"], "InferenceSession", elsewhere)
    with pytest.raises(DeviceError, match="'cuda:1' was asked for, and onnxruntime would compute on CUDA device 0"):
        make(tiny_onnx, "cuda:1")


@pytest.mark.parametrize(
    ("gpus", "says", "chosen"), [(0, "falls back", "cpu"), (2, "falls back", "cuda"), (2, "driver", "cpu")]
)
def test_auto_says_what_it_chose(
    gpus: int, says: str, chosen: str, machine: Any, tiny_onnx: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine(gpus, says=says)
    with caplog.at_level(logging.INFO, "cer_fusion.backbones"):
        assert make(tiny_onnx, "auto").device == chosen
    assert f"device auto: onnxruntime computes on {chosen}" in caplog.messages


@pytest.mark.parametrize("device", ["mps", "rocm", "cuda:x", "cuda:-1", "CUDA", "xpu"])
def test_other_devices_are_refused(device: str, machine: Any, tiny_onnx: Path) -> None:
    machine(2)
    with pytest.raises(DeviceError, match=f"cannot use device '{device}'"):
        make(tiny_onnx, device)


def test_a_worker_leaves_an_onnxruntime_without_cuda_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from cer_fusion.commands.feat.extract import _device

    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    assert (_device("auto", "vit"), _device("auto", "onnx:m.onnx")) == ("cuda:1", "auto")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    assert _device("auto", "onnx:m.onnx") == "cuda:1"
