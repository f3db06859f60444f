"""ONNX models with a stated input recipe."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cer_fusion import backbones
from cer_fusion.backbones import DeviceError, MissingExtraError, OptionError, WeightsError
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


def test_other_weights_are_not_for_a_file_that_is_both(tiny_onnx: Path) -> None:
    with pytest.raises(WeightsError, match="network and weights in one file"):
        make(tiny_onnx, weights="random")


def test_a_device_that_onnxruntime_cannot_use_is_never_replaced(tiny_onnx: Path) -> None:
    with pytest.raises(DeviceError, match="onnxruntime cannot use device 'mps'"):
        make(tiny_onnx, device="mps")


def model_of(path: Path, nodes: list[Any], shape: list[Any], kind: str = "FLOAT", out: str = "FLOAT") -> Path:
    """Write a model from `x` of a shape to `y`, whose nodes are (operator, inputs, outputs, attributes)."""
    helper, types = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node(name, inputs, outputs, **rest) for name, inputs, outputs, rest in nodes],
        "g",
        [helper.make_tensor_value_info("x", getattr(types, kind), shape)],
        [helper.make_tensor_value_info("y", getattr(types, out), None)],
        [
            onnx.numpy_helper.from_array(np.array([1, -1]), "one_row"),
            onnx.numpy_helper.from_array(np.array([-1, 3 * 16 * 16]), "rows"),
            onnx.numpy_helper.from_array(np.array([3]), "three"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))
    return path


POOL = ("GlobalAveragePool", ["x"], ["p"], {})
FLAT = ("Flatten", ["p"], ["y"], {})
PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1), "colour": "RGB", "scale": "0-255"}


@pytest.mark.parametrize(("kind", "tolerance"), [("FLOAT16", 0.2), ("DOUBLE", 1e-4)])
def test_a_model_of_another_float_type_gets_it_and_it_is_in_the_identity(
    kind: str, tolerance: float, tmp_path: Path
) -> None:
    mean = ("ReduceMean", ["x"], ["y"], {"axes": [2, 3], "keepdims": 0})
    made = make(model_of(tmp_path / "m.onnx", [mean], ["b", 3, 16, 16], kind, kind), **PLAIN)
    np.testing.assert_allclose(made.embed(pictures())["output"], pictures().mean((1, 2)), atol=tolerance)
    assert made.spec()["options"]["input"] == {"FLOAT16": "float16", "DOUBLE": "float64"}[kind]


def test_a_model_of_bytes_takes_pixels_as_they_are_and_no_others(tmp_path: Path) -> None:
    nodes = [("Cast", ["x"], ["c"], {"to": 1}), ("GlobalAveragePool", ["c"], ["p"], {}), FLAT]
    path = model_of(tmp_path / "m.onnx", nodes, ["b", 3, 16, 16], "UINT8")
    np.testing.assert_allclose(make(path, **PLAIN).embed(pictures())["output"], pictures().mean((1, 2)), rtol=1e-5)
    with pytest.raises(OptionError, match=r"'x' is tensor\(uint8\) .*16, 16.*mean=0,0,0 std=1,1,1 scale=0-255"):
        make(path)


@pytest.mark.parametrize("kind", ["INT64", "INT8", "BOOL"])
def test_a_model_of_a_type_that_pictures_have_not_is_told_with_input_type_and_shape(kind: str, tmp_path: Path) -> None:
    nodes = [("Cast", ["x"], ["c"], {"to": 1}), ("GlobalAveragePool", ["c"], ["p"], {}), FLAT]
    with pytest.raises(OptionError, match=rf"input 'x' is tensor\({kind.lower()}\) \['b', 3, 16, 16\]"):
        make(model_of(tmp_path / "m.onnx", nodes, ["b", 3, 16, 16], kind), **PLAIN)


def test_a_model_that_cannot_run_is_told_in_one_line_with_input_type_and_shape(tmp_path: Path) -> None:
    path = model_of(tmp_path / "m.onnx", [("Reshape", ["x", "three"], ["y"], {})], ["b", 3, "h", "w"])
    said = r"^m.onnx cannot be run on input 'x', float32 \(2, 3, 24, 24\): .*\n.*tensor\(float\) \['b', 3, 'h', 'w'\]"
    with pytest.raises(OptionError, match=said):
        make(path, size_px=24)


def test_a_model_made_for_one_picture_takes_them_one_by_one(tmp_path: Path) -> None:
    nodes = [POOL, ("Reshape", ["p", "one_row"], ["y"], {})]  # an export that fixed the batch inside
    made = make(model_of(tmp_path / "m.onnx", nodes, ["b", 3, 16, 16]), **PLAIN)
    assert made.piece == 1
    np.testing.assert_allclose(made.embed(pictures())["output"], pictures().mean((1, 2)), rtol=1e-5)


def test_a_row_never_depends_on_the_other_pictures_of_its_batch(tmp_path: Path) -> None:
    nodes = [POOL, ("ReduceMax", ["p"], ["m"], {"keepdims": 0}), ("Div", ["p", "m"], ["d"], {})]
    nodes.append(("Flatten", ["d"], ["y"], {}))  # by the largest value of the batch, as in dynamic quantisation
    made = make(model_of(tmp_path / "m.onnx", nodes, ["b", 3, 16, 16]), **PLAIN)
    together, alone = made.embed(pictures(5))["output"], made.embed(pictures(5)[4:])["output"]
    assert made.piece == 1
    assert np.array_equal(together[4:], alone)
    with pytest.raises(OptionError, match="depends on the other pictures"):
        make(model_of(tmp_path / "fixed.onnx", nodes, [4, 3, 16, 16]), **PLAIN)


def test_an_output_whose_rows_are_not_the_pictures_is_refused_even_where_the_shape_fits(tmp_path: Path) -> None:
    nodes = [POOL, ("Flatten", ["p"], ["f"], {}), ("Transpose", ["f"], ["y"], {})]
    with pytest.raises(OptionError, match=r"output 'y' of m.onnx"):
        make(model_of(tmp_path / "m.onnx", nodes, ["b", 3, 16, 16]), **PLAIN)
    with pytest.raises(OptionError, match="depends on the other pictures"):
        make(model_of(tmp_path / "three.onnx", nodes, [3, 3, 16, 16]), **PLAIN)


def test_a_model_of_oblong_pictures_and_one_of_text_are_told(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="pictures of 16 x 12, expected squares"):
        make(model_of(tmp_path / "m.onnx", [POOL, FLAT], ["b", 3, 16, 12]))
    nodes = [POOL, ("Cast", ["p"], ["y"], {"to": 8})]
    with pytest.raises(OptionError, match=r"an output of numbers, however its outputs are: 'y' tensor\(string\)"):
        make(model_of(tmp_path / "t.onnx", nodes, ["b", 3, 16, 16], out="STRING"))


def test_an_operator_that_needs_a_library_is_named(tmp_path: Path) -> None:
    model = onnx.load(str(model_of(tmp_path / "m.onnx", [POOL, FLAT], ["b", 3, 16, 16])))
    model.graph.node[1].op_type, model.graph.node[1].domain = "Align", "ai.faces"
    model.opset_import.append(onnx.helper.make_opsetid("ai.faces", 1))
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(WeightsError, match=r"needs operators that onnxruntime.*Align"):
        make(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    "said",
    [
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 1048576",
        "bfc_arena.cc:376 AllocateRawInternal Available memory of 0 is smaller than requested bytes; BFCArena",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
        "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED ; GPU=0",
        "CUDA failure 2: out of memory ; GPU=0",
    ],
)
def test_a_batch_for_which_onnxruntime_has_no_memory_is_a_memory_error(said: str, tiny_onnx: Path) -> None:
    made = make(tiny_onnx)

    class Short:
        def run(self, *_: Any) -> None:
            raise RuntimeError(said)

    made.session = Short()  # type: ignore[attr-defined]
    with pytest.raises(MemoryError, match=r"8 pictures at once do not fit(.|\n)*--batch-size auto"):
        made.embed(pictures())


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tiny_onnx: Path) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'cer-fusion\[onnx\]'"):
        make(tiny_onnx)
