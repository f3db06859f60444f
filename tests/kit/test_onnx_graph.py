from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.kit.onnx_file import OnnxFileError, float_weights, outline
from cer_fusion.kit.onnx_graph import Graph

WEIGHTS = np.arange(12, dtype=np.float64).reshape(2, 1, 2, 3)


def small():
    """A convolution over the red bytes of pictures, and a pooling."""
    made = Graph()
    planes = made.add("Transpose", made.add("Cast", "pictures", to=1), perm=(0, 3, 1, 2))
    pooled = made.add(
        "MaxPool", made.add("Conv", planes, WEIGHTS), kernel_shape=(2, 2), strides=(2, 2), auto_pad="SAME_UPPER"
    )
    return made.model("pictures", "uint8", ("n", "h", 7, 1), pooled, ("n", 2, "half", 3))


def test_a_written_graph_is_read_as_what_was_written():
    seen = outline(small())
    assert seen.inputs == (("pictures", "(n, h, 7, 1)"),)
    assert [kind for _, kind in seen.inner] == ["Cast", "Transpose", "Conv"]
    assert seen.numbers == WEIGHTS.size
    (weights,) = float_weights(small()).values()
    assert weights.dtype == np.float32
    assert np.array_equal(weights, WEIGHTS)


def test_the_package_onnx_finds_a_written_graph_sound():
    onnx = pytest.importorskip("onnx", reason="onnx, of the extra `test`, is not installed")
    model = onnx.load_from_string(small())
    onnx.checker.check_model(model, full_check=True)
    pool = model.graph.node[-1]
    assert {one.name: onnx.helper.get_attribute_value(one) for one in pool.attribute} == {
        "kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": b"SAME_UPPER",
    }  # fmt: skip


def test_a_written_graph_computes():
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, of the extra `onnx`, is not installed")
    pictures = np.random.default_rng(0).integers(0, 255, (2, 5, 7, 1), dtype=np.uint8)
    (found,) = onnxruntime.InferenceSession(small(), providers=["CPUExecutionProvider"]).run(
        None, {"pictures": pictures}
    )
    windows = np.lib.stride_tricks.sliding_window_view(pictures[..., 0].astype(np.float32), (2, 3), axis=(1, 2))
    wanted = np.einsum("nhwyx,oyx->nohw", windows, WEIGHTS[:, 0]).reshape(2, 2, 4, 5)
    wanted = np.pad(wanted, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=-np.inf)
    assert np.allclose(found, wanted.reshape(2, 2, 2, 2, 3, 2).max(axis=(3, 5)))


def test_weights_are_read_from_both_fields_that_hold_them():
    onnx = pytest.importorskip("onnx", reason="onnx, of the extra `test`, is not installed")
    helper, numbers = onnx.helper, np.linspace(-1, 1, 6, dtype=np.float32)
    tensors = [
        helper.make_tensor("listed", onnx.TensorProto.FLOAT, [2, 3], numbers.tolist()),
        helper.make_tensor("raw", onnx.TensorProto.FLOAT, [3, 2], numbers.tobytes(), raw=True),
        helper.make_tensor("one", onnx.TensorProto.FLOAT, [], [0.5]),
        helper.make_tensor("whole", onnx.TensorProto.INT64, [1], [7]),
    ]
    content = helper.make_model(helper.make_graph([], "g", [], [], tensors)).SerializeToString()
    found = float_weights(content)
    assert list(found) == ["listed", "raw", "one"]
    assert np.array_equal(found["listed"], numbers.reshape(2, 3))
    assert np.array_equal(found["raw"], numbers.reshape(3, 2))
    assert found["one"].shape == ()


def test_weights_that_are_cut_short_are_told():
    content = small()
    with pytest.raises(OnnxFileError, match="cannot be read"):
        float_weights(content[: len(content) // 2])
