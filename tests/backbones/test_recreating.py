"""Backbones made again from what a store keeps of them: JSON, and no folder."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cer_fusion import backbones
from cer_fusion.backbones import Backbone, OptionError, WeightsError
from cer_fusion.backbones.making import recreate
from cer_fusion.backbones.torch_backbone import TorchBackbone
from tests.backbones.conftest import RECIPE, write_onnx

PRECISIONS, VIEWS = ("float32", "bfloat16"), ("none", "five-crop+flip")

TIMM: list[tuple[str, dict[str, Any]]] = [
    *(("timm:test_vit", {"pooling": pooling}) for pooling in ("default", "token_mean", "mean_norm", "cls", "cls_mean")),
    ("timm:test_vit", {"img_size": 96, "crop_pct": 0.8, "interpolation": "bilinear"}),
    ("timm:test_resnet", {"img_size": 48}),
    ("timm:test_resnet", {"crop_pct": 0.95, "interpolation": "lanczos"}),
    ("timm:test_vit.r160_in1k", {}),
]


def again(made: Backbone, **rest: Any) -> Backbone:
    """Make a backbone again, and check that it is one: to the spec and to the bits."""
    identity, described = json.loads(json.dumps([made.spec(), made.describe()]))
    found = recreate("f", identity, described, **rest)
    assert found.spec() == made.spec()
    assert dict(found.blocks) == dict(made.blocks)
    assert found.piece == made.piece
    side, crops = made.transform.size_px, (5,) if made.views.startswith("five-crop") else ()
    pictures = np.random.default_rng(0).integers(0, 256, (2, *crops, side, side, 3)).astype(np.uint8)
    before, now = made.embed(pictures), found.embed(pictures)
    assert all(np.array_equal(before[block], now[block]) for block in before)
    return found


@pytest.mark.parametrize(("kind", "options"), TIMM)
def test_whatever_extract_can_make_of_a_timm_model_is_made_again(kind: str, options: dict[str, Any]) -> None:
    for precision, views, compiled in itertools.product(PRECISIONS, VIEWS, (False, True)):
        made = backbones.create(kind, weights="random", seed=3, precision=precision, **options)
        made.take_views(views)
        if compiled:
            made.compile_network(backend="eager")  # type: ignore[attr-defined]
        assert ("compile" in again(made).spec()["options"]) == compiled


def test_a_compiled_network_is_compiled_by_the_same_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compiler(module: Any, backend: str) -> Any:
        asked.append(backend)
        return lambda x: module(x)

    monkeypatch.setattr(torch, "compile", compiler)
    made = backbones.create("timm:test_resnet", weights="random")
    made.compile_network()  # type: ignore[attr-defined]
    again(made)
    assert asked == ["inductor", "inductor"]


def test_rows_of_compiled_code_are_not_made_without_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    made = backbones.create("timm:test_resnet", weights="random")
    made.compile_network(backend="eager")  # type: ignore[attr-defined]

    def fail(module: Any, backend: str) -> Any:
        raise RuntimeError("no C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda module, backend: lambda x: fail(module, backend))
    with pytest.raises(backbones.DeviceError, match=r"no C\+\+ compiler found"):
        again(made)


@pytest.mark.parametrize(
    "options",
    [{}, {"tap": "pool2048"}, {"tap": "proj512", "img_size": 64, "crop_pct": 0.9}],
)
def test_every_tap_of_resnet50_is_made_again(options: dict[str, Any]) -> None:
    again(backbones.create("resnet50", weights="random", **options))


def test_vit_is_made_again_with_its_options() -> None:
    again(backbones.create("vit", weights="random", pooling="cls", drop_path=0.2, img_size=32, crop_pct=0.9))


def test_weights_of_a_file_are_asked_for_and_taken(tmp_path: Path) -> None:
    kept = backbones.create("timm:test_resnet", weights="random", seed=5)
    save_file(kept.state(), tmp_path / "w.safetensors")  # type: ignore[attr-defined]
    made = backbones.create("timm:test_resnet", weights=tmp_path / "w.safetensors", img_size=48)
    again(made, weights=tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="--weights f=FILE"):
        again(made)


def test_manet_with_replaced_heads_is_made_again_and_with_what_was_described_before_that_was_possible(
    tmp_path: Path,
) -> None:
    file = tmp_path / "msceleb.safetensors"
    save_file(backbones.create("manet", weights="random", num_classes=9).state(), file)  # type: ignore[attr-defined]
    for flow, extra in (("legacy", "none"), ("bidirectional", "quadrants")):
        made = backbones.create("manet", weights=file, replace_heads=True, flow=flow, extra=extra)
        assert "replace_heads" not in made.describe()  # a feature made long ago says no more than this
        again(made, weights=file)
    made = backbones.create("manet", weights=file, num_classes=9, extra="logits,quadrants")
    again(made, weights=file)


NAMED: list[tuple[str, dict[str, Any]]] = [
    ("manet", {"replace_heads": True, "flow": "legacy"}),
    ("manet", {"num_classes": 9, "extra": "logits,quadrants"}),
    ("dan", {"replace_heads": True}),
    ("poster", {"replace_heads": True, "num_classes": 2}),
    ("ir50", {"depth": 18, "se": True, "colour": "RGB"}),
    ("mobilefacenet", {"width": 136, "colour": "BGR"}),
]


@pytest.mark.parametrize(("kind", "options"), NAMED)
def test_the_identity_of_every_named_backbone_comes_back_with_views_precision_and_compiler(
    kind: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, backend: lambda x: {b: x.new_zeros(1) for b in ()})
    monkeypatch.setattr(TorchBackbone, "compute", lambda self, pictures: {})  # what is compiled is not run here
    plain = {key: value for key, value in options.items() if key not in ("replace_heads", "extra", "flow")}
    kept = backbones.create(
        kind, weights="random", **(plain | ({"num_classes": 9} if "replace_heads" in options else {}))
    )
    save_file(kept.state(), tmp_path / "w.safetensors")  # type: ignore[attr-defined]
    made = backbones.create(kind, weights=tmp_path / "w.safetensors", precision="bfloat16", **options)
    made.take_views("five-crop+flip")
    made.compile_network()  # type: ignore[attr-defined]
    identity, described = json.loads(json.dumps([made.spec(), made.describe()]))
    assert recreate("f", identity, described, weights=tmp_path / "w.safetensors").spec() == made.spec()


ONNX: list[dict[str, Any]] = [
    {},
    {"mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.3), "colour": "RGB", "scale": "0-1", "interpolation": "nearest"},
    {"resize": "shorter", "output": "embedding", "layout": "NCHW"},
]


@pytest.mark.parametrize("options", ONNX)
@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("beside", [False, True])
def test_onnx_models_are_made_again_with_their_data(
    options: dict[str, Any], views: str, beside: bool, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
    pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    path = write_onnx(onnx, tmp_path / "m.onnx", ["b", 3, "h", "w"])
    if beside:
        model = onnx.load(str(path))
        onnx.save(model, str(path), save_as_external_data=True, location="m.data", size_threshold=0)
    made = backbones.create(f"onnx:{path}", size_px=24, **{**RECIPE, **options})
    made.take_views(views)
    again(made, weights=path)
    with pytest.raises(WeightsError, match=r"m\.onnx.*whose folder is not kept"):
        again(made)
    if beside:
        (tmp_path / "m.data").write_bytes(bytes((tmp_path / "m.data").stat().st_size))
        with pytest.raises(WeightsError, match="the weights of 'f' are others"):
            again(made, weights=path)


def test_imported_rows_are_told_from_rows_of_a_backbone() -> None:
    with pytest.raises(OptionError, match="its rows were imported"):
        recreate("f", {"architecture": "foreign"}, {})


@pytest.mark.parametrize("described", [{}, {"name": "mine"}])
def test_rows_of_an_encoder_of_ones_own_are_not_called_imported(described: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=r"encoder of your own \(mine\)") as caught:
        recreate("f", {"architecture": "mine"}, described)
    assert "imported" not in str(caught.value)
