"""ONNX models with a stated input recipe."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import backbones
from backbones import DeviceError, MissingExtraError, OptionError, WeightsError
from tests.backbones.conftest import RECIPE, write_onnx

onnx = pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")


def pictures(count: int = 3, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3)).astype(np.uint8)


def expected(batch: np.ndarray) -> np.ndarray:
    """Compute the tiny model by hand: BGR minus mean over deviation, a 1x1 convolution, the mean over places."""
    kernel = np.random.default_rng(0).normal(size=(5, 3, 1, 1)).astype(np.float32)[:, :, 0, 0]
    x = (batch[..., ::-1].astype(np.float32) - np.array(RECIPE["mean"])) / np.array(RECIPE["std"])
    return np.asarray((x @ kernel.T).mean((1, 2)))


def make(path: Path, **changes: Any) -> backbones.Backbone:
    return backbones.create(f"onnx:{path}", **{**RECIPE, **changes})


def test_the_stated_recipe_is_what_the_model_sees(tiny_onnx: Path) -> None:
    backbone = make(tiny_onnx)
    assert backbone.name == "onnx:tiny"
    assert dict(backbone.blocks) == {"output": 5}
    np.testing.assert_allclose(backbone.embed(pictures())["output"], expected(pictures()), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("missing", ["mean", "std", "colour", "scale"])
def test_what_the_file_does_not_tell_must_be_said(missing: str, tiny_onnx: Path) -> None:
    with pytest.raises(OptionError, match=f"say {missing}"):
        make(tiny_onnx, **{missing: None})


@pytest.mark.parametrize("shape", [[1, 3, 16, 16], [4, 3, 16, 16], [20, 3, 16, 16], ["b", 3, 16, 16]])
def test_a_model_with_a_fixed_batch_takes_any_number_of_pictures(shape: list[Any], tmp_path: Path) -> None:
    backbone = make(write_onnx(onnx, tmp_path / "m.onnx", shape))
    np.testing.assert_allclose(backbone.embed(pictures(11))["output"], expected(pictures(11)), rtol=1e-4, atol=1e-3)


def test_an_open_size_must_be_said_and_a_fixed_one_not_contradicted(tmp_path: Path, tiny_onnx: Path) -> None:
    free = write_onnx(onnx, tmp_path / "free.onnx", ["b", 3, "h", "w"])
    with pytest.raises(OptionError, match="say size_px"):
        make(free)
    assert make(free, size_px=24).transform.size_px == 24
    with pytest.raises(OptionError, match="another size than size_px=24"):
        make(tiny_onnx, size_px=24)


def test_the_output_is_chosen_by_name_and_must_be_a_row(tiny_onnx: Path) -> None:
    assert make(tiny_onnx, output="embedding").spec() == make(tiny_onnx).spec()
    with pytest.raises(OptionError, match="nearest: 'embedding'"):
        make(tiny_onnx, output="embeding")
    with pytest.raises(OptionError, match=r"must have shape \(b, d\)"):
        make(tiny_onnx, output="maps")


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": (0.0, 0.0, 0.0)},
        {"std": (1.0, 1.0, 1.0)},
        {"colour": "RGB"},
        {"scale": "0-1"},
        {"interpolation": "bilinear"},
        {"resize": "shorter"},
    ],
)
def test_every_part_of_the_recipe_is_part_of_the_identity(changes: dict[str, Any], tiny_onnx: Path) -> None:
    assert make(tiny_onnx, **changes).spec() != make(tiny_onnx).spec()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colour": "GRB"}, "colour must be one of"),
        ({"scale": "255"}, "scale must be one of"),
        ({"mean": (1.0,)}, "three values"),
        ({"layout": "NHWC"}, "16 channels as NHWC"),
        ({"precision": "float16"}, "not in 'float16'"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str, tiny_onnx: Path) -> None:
    with pytest.raises(OptionError, match=said):
        make(tiny_onnx, **changes)


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no ONNX file"):
        make(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(WeightsError, match="cannot be opened"):
        make(tmp_path / "bad.onnx")


def test_weights_beside_the_model_are_refused_because_the_digest_would_miss_them(
    tmp_path: Path, tiny_onnx: Path
) -> None:
    model = onnx.load(str(tiny_onnx))
    onnx.save(
        model,
        str(tmp_path / "split.onnx"),
        save_as_external_data=True,
        location="split.bin",
        size_threshold=0,
    )
    assert (tmp_path / "split.bin").exists()
    with pytest.raises(WeightsError, match="cannot be opened"):
        make(tmp_path / "split.onnx")


def test_other_weights_are_not_for_a_file_that_is_both(tiny_onnx: Path) -> None:
    with pytest.raises(WeightsError, match="network and weights in one file"):
        make(tiny_onnx, weights="random")


def test_a_device_that_onnxruntime_cannot_use_is_never_replaced(tiny_onnx: Path) -> None:
    with pytest.raises(DeviceError, match="onnxruntime cannot use device 'mps'"):
        make(tiny_onnx, device="mps")


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tiny_onnx: Path) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'cer-fusion\[onnx\]'"):
        make(tiny_onnx)
