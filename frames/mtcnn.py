"""MTCNN: three small networks, each looking closer at what the one before it proposed.

Zhang, Zhang, Li and Qiao, "Joint face detection and alignment using multitask cascaded convolutional networks", IEEE
Signal Processing Letters 23(10), 2016. The networks are in `mtcnn_networks`; here is what is shown to them.

The last network says five points for a box, whoever found it. It was trained on faces that stand upright: shown one
that lies on its side its points are off, by 9 degrees of the eye line at a roll of 45 (`benchmarks/face_detectors.py`).
So it looks again, at the face turned upright by its own first answer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import OptionError, ShapeError
from .faces import Box, Face
from .mtcnn_networks import packaged_weights, session

FloatArray = NDArray[np.float32]

CODE = 3
"""Version of what stands here; part of the identity."""

_CELL, _STRIDE = 12, 2  # what the first network sees of a face, and how far apart it looks (section II.B, figure 2)
_MOST = 512  # proposals that the second network is shown, the surest
_SIDES = {"rnet": 24, "onet": 48}  # what the other two see of a face
_LARGER = 1.6  # a smaller picture is made from one that is so much larger
_FINER = 2  # a square is cut from a picture that has at least so many pixels a side for one
_TILTED_DEG = 12  # roll from which the points of the first look are off, so that a second is worth its time
_STEEP_DEG = 30  # roll from which the second look may have been beside the face, and a third is
_LESS_SURE = 0.1  # by which a look may be less sure than the one before and be believed
_AT_ONCE = 256  # boxes whose overlaps are measured together
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
        if not 0 < self.thresholds[-1] < 1:
            raise OptionError(f"a face's least score must lie between 0 and 1, however: {self.thresholds[-1]:g}")
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
        self._sessions = {name: session(name, file, threads) for name, file in self._weights.items()}

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
        scores, _, points = self._run("onet", levels.cuts(squares, _SIDES["onet"]))
        return self._upright(levels, squares, _placed(points, squares), scores)

    def _upright(
        self, levels: _Levels, squares: FloatArray, points: FloatArray, scores: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Look again at faces that lie over by their points (n, 5, 2), turned upright, and once more at those far over.

        Another look is not believed where it is much less sure of a face than the one before: it was beside it.
        """
        points, scores = points.copy(), scores.copy()
        tilted = np.flatnonzero(np.abs(_rolls(points)) > np.deg2rad(_TILTED_DEG))
        turns = _turns(squares[tilted], _rolls(points[tilted]))
        for _ in range(2):
            if not len(tilted):
                break
            found, sure = self._turned(levels, turns)
            believed = sure >= scores[tilted] - _LESS_SURE
            points[tilted[believed]], scores[tilted[believed]] = found[believed], sure[believed]
            steep = np.abs(_rolls(found)) > np.deg2rad(_STEEP_DEG)
            tilted, found = tilted[steep], found[steep]
            turns = _turns(_squared(_around(found)), _rolls(found))
        return points, scores

    def _turned(self, levels: _Levels, moves: FloatArray) -> tuple[FloatArray, FloatArray]:
        """O-Net on squares that stand askew, given by the maps (n, 2, 3) from a unit square to the picture: points and
        scores."""
        scores, _, points = self._run("onet", np.stack([levels.askew(move, _SIDES["onet"]) for move in moves]))
        within = points.reshape(-1, 2, 5).transpose(0, 2, 1)  # (n, 10) -> (n, 5, 2)
        there: FloatArray = within @ moves[:, :, :2].transpose(0, 2, 1) + moves[:, None, :, 2]
        return there, scores

    def _propose(self, levels: _Levels) -> FloatArray:
        """P-Net over a pyramid: (n, 5) squares and scores."""
        scale, least = _CELL / self.settings.min_face_px, self.settings.thresholds[0]
        found: list[FloatArray] = []
        scales: list[float] = []
        while min(levels.size) * scale >= _CELL:
            size = (math.ceil(levels.size[0] * scale), math.ceil(levels.size[1] * scale))
            (cells,) = self._ask("pnet", np.asarray(levels.resized(size))[None])  # (5, h', w')
            across, cells = cells.shape[2], cells.reshape(5, -1)
            at = np.flatnonzero(cells[0] >= math.log(least / (1 - least)))
            found.append(np.vstack([at % across, at // across, cells[:, at]], dtype=np.float32).T)
            scales.append(scale)
            scale *= self.settings.scale_step
        number = np.repeat(np.arange(len(found)), [len(one) for one in found])
        if not len(number):
            return np.empty((0, 5), np.float32)
        every, sides = np.concatenate(found), (_CELL / np.array(scales, np.float32))[number, None]
        corners = every[:, :2] * sides * np.float32(_STRIDE / _CELL)
        moved = _moved(np.concatenate([corners, corners + sides, _likely(every[:, 2:3])], axis=1), every[:, 3:])
        apart = moved + (2 * max(levels.size) * number)[:, None] * np.array([1, 0, 1, 0, 0])  # each size for itself
        return _squared(moved[suppress(apart, 0.5)[:_MOST]])

    def _refine(self, levels: _Levels, boxes: FloatArray) -> FloatArray:
        """R-Net: fewer and better squares."""
        scores, offsets, _ = self._run("rnet", levels.cuts(boxes, _SIDES["rnet"]))
        kept = np.flatnonzero(scores >= self.settings.thresholds[1])
        sure = _moved(np.concatenate([boxes[kept, :4], scores[kept, None]], axis=1), offsets[kept])
        return _squared(sure[suppress(sure, 0.7)])

    def _decide(self, levels: _Levels, boxes: FloatArray) -> list[Face]:
        """O-Net: the last word, and five points a face."""
        scores, offsets, points = self._run("onet", levels.cuts(boxes, _SIDES["onet"]))
        sure = np.flatnonzero(scores >= self.settings.thresholds[2])
        moved = _moved(np.concatenate([boxes[sure, :4], scores[sure, None]], axis=1), offsets[sure])
        kept = suppress(moved, 0.7, smaller=True)
        if not len(kept):
            return []
        squares, scores = boxes[sure[kept]], scores[sure[kept]]
        places, _ = self._upright(levels, squares, _placed(points[sure[kept]], squares), scores)
        return [face(moved[i], place) for i, place in zip(kept, places, strict=True)]

    def _run(self, name: str, pictures: NDArray[np.uint8]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Scores (n,), shares by which edges are off (n, 4), and points (n, 10), which O-Net alone gives."""
        found = self._ask(name, pictures)
        return _likely(found[:, 0]), found[:, 1:5], found[:, 5:]

    def _ask(self, name: str, pictures: NDArray[np.uint8]) -> FloatArray:
        found: FloatArray = self._sessions[name].run(None, {"pictures": pictures})[0]
        return found


class _Levels:
    """A picture, its halves and its smaller versions, made when they are wanted: a look at a part need not read all."""

    def __init__(self, picture: NDArray[np.uint8]) -> None:
        self._halved = [Image.fromarray(picture)]
        self.size = self._halved[0].size
        self._shown: list[Image.Image] = []

    def resized(self, size: tuple[int, int]) -> Image.Image:
        """The whole picture, smaller; sizes are asked for in falling order."""
        shrink = min(whole / part for whole, part in zip(self.size, size, strict=True))
        level, _ = self._for(shrink / _LARGER)
        for one in self._shown:
            if one.width < level.width and min(one.width / size[0], one.height / size[1]) >= _LARGER:
                level = one
        self._shown.append(level.resize(size, Image.Resampling.BILINEAR))
        return self._shown[-1]

    def cuts(self, boxes: FloatArray, side: int) -> NDArray[np.uint8]:
        """Squares of the picture, black where they leave it: (n, 5) -> (n, side, side, 3)."""
        below = Image.new("RGB", (side, side * len(boxes)))
        for number, (left, top, right, bottom, _) in enumerate(boxes.tolist()):
            level, halving = self._for((right - left) / (_FINER * side))
            x, y = round(left / halving), round(top / halving)
            part = level.crop((x, y, max(round(right / halving), x + 1), max(round(bottom / halving), y + 1)))
            below.paste(part.resize((side, side), Image.Resampling.BILINEAR), (0, side * number))
        return np.asarray(below).reshape(-1, side, side, 3)

    def askew(self, move: FloatArray, side: int) -> NDArray[np.uint8]:
        """A square that may stand askew, (side, side, 3); `move` (2, 3) maps the unit square to the picture."""
        level, halving = self._for(float(np.hypot(*move[:, 0])) / (2 * side))
        a, b, c, d, e, f = (move / (halving * np.array([2 * side, 2 * side, 1]))).ravel().tolist()
        both = (2 * side, 2 * side)
        cut = level.transform(both, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)
        return np.asarray(cut.reduce(2))

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


def _likely(odds: FloatArray) -> FloatArray:
    """Probabilities from the logs of odds."""
    return np.exp(-np.logaddexp(np.float32(0), -odds)).astype(np.float32)  # which no odds overflow


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
    corners, kept = boxes[:, :4].astype(np.float64), np.empty(0, np.intp)
    order = np.argsort(-boxes[:, 4], kind="stable")
    for start in range(0, len(order), _AT_ONCE):
        here = order[start : start + _AT_ONCE]
        here = here[~_close(corners[here], corners[kept], most, smaller).any(axis=1)]
        gone, stays = np.zeros(len(here), bool), []
        for number, near in enumerate(_close(corners[here], corners[here], most, smaller)):
            if not gone[number]:
                stays.append(number)
                gone |= near
        kept = np.concatenate([kept, here[stays]])
    return kept


def _close(some: NDArray[np.float64], others: NDArray[np.float64], most: float, smaller: bool) -> NDArray[np.bool_]:
    """Which of (n, 4) boxes overlap which of (m, 4) others by more than is borne: (n, m)."""
    left, top, right, bottom = some.T[:, :, None]
    left_of, top_of, right_of, bottom_of = others.T
    width = np.maximum(np.minimum(right, right_of) - np.maximum(left, left_of), 0)
    height = np.maximum(np.minimum(bottom, bottom_of) - np.maximum(top, top_of), 0)
    both = width * height
    areas = np.maximum(right - left, 0) * np.maximum(bottom - top, 0)
    areas_of = np.maximum(right_of - left_of, 0) * np.maximum(bottom_of - top_of, 0)
    found: NDArray[np.bool_] = both > most * (np.minimum(areas, areas_of) if smaller else areas + areas_of - both)
    return found
