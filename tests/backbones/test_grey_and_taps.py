"""Networks that see grey, and features from within ONNX models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cer_fusion import backbones
from cer_fusion.backbones import Backbone, OptionError, Transform
from cer_fusion.backbones.making import recreate
from tests.backbones.conftest import RECIPE, SHARED, Encode, ramp, write_onnx

PICTURES = np.random.default_rng(3).integers(0, 256, (4, 48, 48, 3)).astype(np.uint8)


def made_again(made: Backbone, **rest: Any) -> None:
    identity, described = json.loads(json.dumps([made.spec(), made.describe()]))
    found = recreate("f", identity, described, **rest)
    assert found.spec() == made.spec()
    for block, rows in made.embed(PICTURES).items():
        np.testing.assert_array_equal(found.embed(PICTURES)[block], rows)


def test_grey_is_pillows_to_the_bit() -> None:
    grey = Transform(size_px=48, colour="L", mean=(0.0,), std=(1.0,), scale="0-255")
    expected = np.stack([np.asarray(Image.fromarray(one).convert("L")) for one in PICTURES])[:, None]
    found = grey.to_tensor(torch.from_numpy(PICTURES))
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), expected)
    np.testing.assert_array_equal(grey.to_array(PICTURES), expected)


def test_a_grey_picture_keeps_its_own_values(encode: Encode) -> None:
    grey = ramp(48, 48).convert("L")
    transform = Transform(size_px=48, colour="L", mean=(0.5, 0.5, 0.5), std=(0.5,))
    x = transform.to_array(transform.decode(encode(grey))[None])
    np.testing.assert_array_equal(x[0, 0], (np.asarray(grey, np.float32) / np.float32(255) - 0.5) / np.float32(0.5))
    assert transform.identity()["mean"] == [0.5]


@pytest.mark.parametrize("mean", [(0.1, 0.2, 0.3), (0.1, 0.1)])
def test_a_mean_of_other_channels_is_refused(mean: tuple[float, ...]) -> None:
    with pytest.raises(OptionError, match="need three values" if len(mean) == 2 else "need one value"):
        Transform(size_px=48, colour="L" if len(mean) == 3 else "RGB", mean=mean)


def test_a_timm_network_of_48_grey_pixels_loads_a_file_and_is_made_again(tmp_path: Path) -> None:
    import timm

    network = timm.create_model("test_resnet", in_chans=1, num_classes=7).eval()
    torch.save({"model_state": network.state_dict()}, tmp_path / "fer.pth")
    options = {"in_chans": 1, "img_size": 48, "crop_pct": 1.0, "mean": 0.5, "std": [0.25]}
    made = backbones.create("timm:test_resnet", weights=tmp_path / "fer.pth", **options)
    network.reset_classifier(0)
    x = torch.from_numpy(np.stack([np.asarray(Image.fromarray(one).convert("L")) for one in PICTURES]))[:, None]
    with torch.inference_mode():
        expected = network((x.float() / 255 - 0.5) / 0.25)
    np.testing.assert_allclose(made.embed(PICTURES)["pooled"], expected.numpy(), rtol=1e-4, atol=1e-5)
    made_again(made, weights=tmp_path / "fer.pth")
    with pytest.raises(OptionError, match="say mean=… and std=…"):
        backbones.create("timm:test_resnet", weights="random", in_chans=1)


def test_the_means_of_a_timm_network_can_be_said() -> None:
    made = backbones.create("timm:test_resnet", weights="random", img_size=48, mean=[0.1, 0.2, 0.3], std=[1, 1, 2])
    assert made.transform.mean == (0.1, 0.2, 0.3)
    assert "in_chans" not in made.spec()["options"]
    made_again(made)


def test_a_network_of_ones_own_may_see_grey(tmp_path: Path) -> None:
    (tmp_path / "grey.py").write_text(
        "from torch import nn\n\nclass Grey(nn.Sequential):\n"
        '    blocks = {"flat": 9}\n    size_px, colour, mean, std = 48, "L", 0.5, 0.5\n\n'
        "    def __init__(self):\n        super().__init__(nn.Conv2d(1, 1, 16, 16), nn.Flatten())\n"
    )
    made = backbones.create(f"{tmp_path / 'grey.py'}:Grey", weights="random")
    save_file(made.state(), tmp_path / "w.safetensors")  # type: ignore[attr-defined]
    made = backbones.create(f"{tmp_path / 'grey.py'}:Grey", weights=tmp_path / "w.safetensors")
    made_again(made, weights=tmp_path / "w.safetensors", code=tmp_path / "grey.py")


@pytest.fixture
def onnx() -> Any:
    pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    return pytest.importorskip("onnx", reason="the extra [onnx] is not installed")


def grey_model(onnx: Any, path: Path, *, last: bool = False) -> Path:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shape = ["b", 48, 48, 1] if last else ["b", 1, 48, 48]
    nodes = [helper.make_node("ReduceMean", ["x"], ["rows"], axes=[1, 3] if last else [1, 2], keepdims=0)]
    graph = helper.make_graph(
        nodes,
        "grey",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("rows", kind, ["b", 48])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("last", [False, True])
def test_an_onnx_model_may_see_grey(onnx: Any, last: bool, tmp_path: Path) -> None:
    path = grey_model(onnx, tmp_path / "g.onnx", last=last)
    made = backbones.create(f"onnx:{path}", colour="L", mean=0, std=255, scale="0-255")
    grey = np.stack([np.asarray(Image.fromarray(one).convert("L"), np.float32) for one in PICTURES]) / 255
    expected = grey.mean(1)
    np.testing.assert_allclose(made.embed(PICTURES)["output"], expected, rtol=1e-5)
    made_again(made, weights=path)
    with pytest.raises(OptionError, match="one channel of grey: say colour=L"):
        backbones.create(f"onnx:{path}", colour="RGB", mean=(0, 0, 0), std=(1, 1, 1), scale="0-255")
    (command,) = backbones.inspect_checkpoint(path).commands
    assert "-O colour=L" in command


def test_a_tensor_within_an_onnx_model_is_a_feature_and_is_made_again(onnx: Any, tmp_path: Path) -> None:
    path = write_onnx(onnx, tmp_path / "m.onnx", ["b", 3, 48, 48])
    whole = backbones.create(f"onnx:{path}", **RECIPE)
    tapped = backbones.create(f"onnx:{path}", **RECIPE, output="pooled")
    np.testing.assert_array_equal(tapped.embed(PICTURES)["output"], whole.embed(PICTURES)["output"])
    maps = backbones.create(f"onnx:{path}", **RECIPE, output="maps", pool="mean")
    np.testing.assert_allclose(maps.embed(PICTURES)["output"], whole.embed(PICTURES)["output"], rtol=1e-4, atol=1e-4)
    specs = [each.spec() for each in (whole, tapped, maps)]
    assert len({json.dumps(spec) for spec in specs}) == 3
    assert len({spec["weights"]["digest"] for spec in specs}) == 1
    for each in (tapped, maps):
        made_again(each, weights=path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"output": "pooledd"}, "within it.*nearest: 'pooled'"),
        ({"output": "maps"}, "pool=mean"),
        ({"pool": "max"}, "pool must be one of none, mean, mean_last, first"),
    ],
)
def test_a_tap_that_gives_no_rows_is_refused_with_what_to_say(
    onnx: Any, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = write_onnx(onnx, tmp_path / "m.onnx", ["b", 3, 48, 48])
    with pytest.raises(OptionError, match=said):
        backbones.create(f"onnx:{path}", **RECIPE, **options)


def test_each_way_to_make_one_row() -> None:
    from cer_fusion.backbones.zoo.onnx_model import pooled

    tokens = np.random.default_rng(0).random((2, 5, 3), np.float32)
    maps = np.random.default_rng(0).random((2, 3, 4, 4), np.float32)
    np.testing.assert_array_equal(pooled(tokens, "first"), tokens[:, 0])
    np.testing.assert_allclose(pooled(tokens, "mean_last"), tokens.mean(1), rtol=1e-6)
    np.testing.assert_allclose(pooled(maps, "mean"), maps.mean((2, 3)), rtol=1e-6)
    np.testing.assert_allclose(pooled(maps.transpose(0, 2, 3, 1), "mean_last"), maps.mean((2, 3)), rtol=1e-6)


def test_inspecting_an_onnx_model_says_what_it_takes_gives_and_holds(onnx: Any, tmp_path: Path) -> None:
    path = write_onnx(onnx, tmp_path / "m.onnx", ["b", 3, 48, 48])
    info = backbones.inspect_checkpoint(path)
    assert (
        info.looks_like == "an ONNX model that takes pixels (b, 3, 48, 48); gives embedding (b, 5), maps (b, 5, 48, 48)"
    )
    assert (info.form, info.fits, info.tensors, info.parameters) == ("onnx", f"onnx:{path}", 1, 15)
    assert "pooled (GlobalAveragePool)" in info.notes[1]
    assert info.digest == backbones.create(f"onnx:{path}", **RECIPE).spec()["weights"]["digest"]


def test_a_real_model_is_tapped_before_its_last_layer() -> None:
    path = SHARED / "weights" / "fer_mobilefacenet_rafdb_512.onnx"
    if not path.is_file():
        pytest.skip("no shared/weights/fer_mobilefacenet_rafdb_512.onnx beside the checkout")
    pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    said = backbones.inspect_checkpoint(path)
    assert "(1, 3, 112, 112)" in said.looks_like or "3, 112, 112)" in said.looks_like
    options = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "colour": "RGB", "scale": "0-1"}
    pictures = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3)).astype(np.uint8)
    embedding = backbones.create(f"onnx:{path}", **options, output="embedding").embed(pictures)["output"]
    assert embedding.shape == (2, 512)
    tap = next(line.split()[0] for line in said.notes[1].partition("pool=mean, of ")[2].split(", "))
    rows = backbones.create(f"onnx:{path}", **options, output=tap, pool="mean").embed(pictures)["output"]
    assert rows.ndim == 2
