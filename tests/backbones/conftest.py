"""Tiny pictures and backbones that several test files share; the three big networks are built once."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cer_fusion import backbones
from cer_fusion.backbones import Backbone
from cer_fusion.backbones.zoo.manet import MANet

SHARED = Path(__file__).resolve().parents[3] / "shared"

Encode = Callable[..., bytes]


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Compute on one thread: on a busy machine two wait for each other longer than one takes alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches for a network: whoever asks the hub gets the error of a machine that has none."""
    from timm.models import _builder

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("the hub cannot be reached")

    for name in ("load_state_dict_from_hf", "load_state_dict_from_url", "load_custom_from_hf", "download_cached_file"):
        monkeypatch.setattr(_builder, name, refuse)


def ramp(width: int, height: int) -> Image.Image:
    """Draw a picture in which every pixel tells where it is."""
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(width * 1000 + height).integers(0, 40, (height, width))
    colours = np.stack(
        [x * 215 // max(width - 1, 1) + noise, y * 255 // max(height - 1, 1), (x + y) * 7 % 256], axis=-1
    )
    return Image.fromarray(colours.astype(np.uint8))


@pytest.fixture(scope="session")
def encode() -> Encode:
    """Turn an image into the bytes of a file."""

    def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, form, **options)
        return file.getvalue()

    return encoded


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Pictures of many aspects and sizes: smaller, larger and exactly as large as common inputs."""
    sizes = [(48, 48), (100, 100), (224, 224), (223, 225), (640, 480), (37, 91), (300, 224), (225, 500)]
    return [ramp(*size) for size in sizes]


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one 1x1 convolution and a mean, 3 -> 5 channels, any batch, 16 px."""
    onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
    pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    return write_onnx(onnx, tmp_path_factory.mktemp("onnx") / "tiny.onnx", ["b", 3, 16, 16])


def write_onnx(onnx: Any, path: Path, shape: list[int | str]) -> Path:
    """Write the tiny model with an input of `shape`."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    kernel = np.random.default_rng(0).normal(size=(5, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["pixels", "kernel"], ["maps"], kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["maps"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", kind, shape)],
        [
            helper.make_tensor_value_info("embedding", kind, [shape[0], 5]),
            helper.make_tensor_value_info("maps", kind, [shape[0], 5, shape[2], shape[3]]),
        ],
        [onnx.numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


RECIPE: dict[str, Any] = {"mean": (104.0, 117.0, 124.0), "std": (1.0, 2.0, 1.0), "colour": "BGR", "scale": "0-255"}


@pytest.fixture(scope="session")
def made(tiny_onnx: Path) -> Callable[[str], Backbone]:
    """Make each kind of backbone once, with random weights."""
    known: dict[str, Backbone] = {}

    def make(kind: str) -> Backbone:
        if kind not in known:
            if kind == "onnx":
                known[kind] = backbones.create(f"onnx:{tiny_onnx}", **RECIPE)
            else:
                known[kind] = backbones.create(kind, weights="random")
                wake(known[kind].module)  # type: ignore[attr-defined]
        return known[kind]

    return make


def wake(module: torch.nn.Module) -> None:
    """Give batch norms statistics other than 0 and 1, so that leaving one out would show."""
    draw = torch.Generator().manual_seed(7)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d) and part.running_mean is not None and part.running_var is not None:
            with torch.no_grad():
                part.running_mean.copy_(torch.randn(part.num_features, generator=draw) * 0.1)
                part.running_var.copy_(torch.rand(part.num_features, generator=draw) + 0.5)
                part.weight.copy_(torch.rand(part.num_features, generator=draw) * 0.4 + 0.8)
                part.bias.copy_(torch.randn(part.num_features, generator=draw) * 0.1)


@pytest.fixture(scope="module")
def net(made: Callable[[str], Backbone]) -> MANet:
    """MA-Net's network, in the default flow."""
    module = made("manet").module  # type: ignore[attr-defined]
    assert isinstance(module, MANet)
    return module


@pytest.fixture(scope="module")
def legacy(net: MANet) -> MANet:
    """The same weights in the legacy flow."""
    built = copy.deepcopy(net)
    built.decide("legacy")
    return built


@pytest.fixture(scope="module")
def x() -> Tensor:
    """One picture's worth of noise."""
    return torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
