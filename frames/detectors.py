"""Detectors by name, `mtcnn`, `yunet:FILE`, `scrfd:FILE`: fast ones come as an ONNX file that the user has.

YuNet: Wu, Peng and Yu, "YuNet: a tiny millisecond-level face detector", Machine Intelligence Research 20, 2023; files
in OpenCV Zoo (MIT). SCRFD: Guo, Deng, Lattas and Zafeiriou, "Sample and computation redistribution for efficient face
detection", ICLR 2022; files of insightface. Both say for every place of three grids how sure a face is there, where its
box ends, and five points. How SCRFD's numbers are meant was read in deepinsight/insightface@c42cc3e (scrfd/tools) and
is written here anew; YuNet's are those of OpenCV's FaceDetectorYN since 4.8, checked on faces whose boxes are known.

A picture is shown to them as small as the least face that is looked for allows: larger faces are found faster. Their
boxes are good; YuNet's points ignore how the head is rolled, so points are asked of MTCNN's last network
(`MTCNN.points`) unless the file's own are wanted.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..kit.errors import MissingExtraError, nearest
from ..kit.onnx_file import OnnxFile, OnnxFileError, read_onnx
from ..kit.plugins import Plugin, PluginError, need, plugins
from .errors import DetectorError, OptionError
from .faces import Box, Detector, Face, Follows
from .mtcnn import MTCNN, MTCNNSettings, checked, face, suppress

FloatArray = NDArray[np.float32]
Points = Literal["mtcnn", "own"]
POINTS: tuple[str, ...] = get_args(Points)
"""`mtcnn`: from MTCNN's last network, which sees how a head is rolled. `own`: those of the file."""

CODE = 1
"""Version of what stands here; part of the identity."""
_STRIDES = (8, 16, 32)  # pixels between the places of the three grids
_MOST_OVERLAP = 0.3  # of a box with a surer one, as in OpenCV's FaceDetectorYN
_SHOWN_PX = 40  # what the least face looked for is shown as; half of it loses tight and rolled faces (benchmarks)
_DOUBTFUL, _SURE = 0.5, 0.5  # a face of so much of the least score counts where MTCNN's last network is so sure
_LEAST_FOR_CROPS, _THRESHOLDS_FOR_CROPS = 0.5, (0.5, 0.5, 0.3)
_LEAST_SCORES = {"yunet": 0.6, "scrfd": 0.5}


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """What is looked for with a detector from a file."""

    min_face_px: int = 40
    """Shortest side of a face; larger ones are found faster."""
    min_score: float = 0.6
    """How sure the network must be, 0 to 1."""
    points: Points = "mtcnn"
    """Whose points; see `POINTS`."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if self.min_face_px < 8:
            raise OptionError(f"min_face_px must be at least 8, however: {self.min_face_px}")
        if not 0 < self.min_score < 1:
            raise OptionError(f"min_score must lie between 0 and 1, however: {self.min_score}")
        if self.points not in POINTS:
            raise OptionError(f"points are one of {', '.join(POINTS)}, however: {self.points!r}")


class FileDetector:
    """YuNet or SCRFD from an ONNX file; safe to use from several threads, and sent to a process as its file's name.

    Parameters
    ----------
    kind : "yunet" or "scrfd"
    file : Path
    settings : FileSettings
        Part of the identity, with the file's sha256.
    device : str
        "cpu", or "cuda" and "cuda:1", which are refused where onnxruntime cannot use them; "auto" takes CUDA where
        there is one. MTCNN's last network always runs on the CPU.

    Raises
    ------
    DetectorError
        If the file is no such network.
    MissingExtraError
        If onnxruntime, or the weights for the points, are not installed.
    """

    def __init__(
        self, kind: str, file: Path | str, settings: FileSettings | None = None, *, device: str = "cpu"
    ) -> None:
        file = Path(file)
        self.kind, self._made_of = kind, (kind, file, settings)
        self._device = device
        self.settings = settings or FileSettings(min_score=_LEAST_SCORES[kind])
        try:
            self._model = read_onnx(file)
        except OnnxFileError as error:
            raise DetectorError(str(error)) from None
        self._session = _session(self._model, device)
        self._grids = _grids(self._session, kind, file)
        self._fixed = _fixed_size(self._session, file)
        self._points = MTCNN() if self.settings.points == "mtcnn" else None
        if self._points is not None:
            self.follow = self._points.follow  # see `Follows`; with its own points it follows nobody

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(FileDetector, device=self._device), self._made_of

    def identity(self) -> dict[str, Any]:
        """Method, code version, settings and the weights' sha256; JSON values."""
        found: dict[str, Any] = {
            "detector": self.kind, "code": CODE, "settings": asdict(self.settings), "weights": self._model.digest,
        }  # fmt: skip
        if self._points is not None:
            mtcnn = self._points.identity()
            found["points"] = {"code": mtcnn["code"], "onet": mtcnn["weights"]["onet"]}
        return found

    def versions(self) -> dict[str, str]:
        """The runtime's version."""
        import onnxruntime

        return {"onnxruntime": onnxruntime.__version__}

    def detect(self, picture: NDArray[np.uint8]) -> list[Face]:
        """Find faces: (h, w, 3) uint8 RGB -> the surest first; boxes and points in pixels of the picture."""
        rows = self._looked(checked(picture))
        kept = rows[suppress(rows[:, :5], _MOST_OVERLAP)]
        return self._with_points(picture, kept)

    def _with_points(self, picture: NDArray[np.uint8], rows: FloatArray) -> list[Face]:
        if self._points is None:
            return [face(row, row[5:].reshape(5, 2)) for row in rows]
        boxes: list[Box] = [(float(row[0]), float(row[1]), float(row[2]), float(row[3])) for row in rows]
        points, scores = self._points.points(picture, boxes)
        kept = (rows[:, 4] >= self.settings.min_score) | (scores >= _SURE)
        return [face(row, of_row) for row, of_row in zip(rows[kept], points[kept], strict=True)]

    def _looked(self, picture: NDArray[np.uint8]) -> FloatArray:
        """Run the network: (n, 15) left, top, right, bottom, score and five points, in pixels of the picture."""
        shown, scale = self._shown(picture)
        given = shown[..., ::-1] if self.kind == "yunet" else (shown - np.float32(127.5)) / np.float32(128)
        batch = np.ascontiguousarray(given.transpose(2, 0, 1))[None]  # (h, w, 3) -> (1, 3, h, w)
        out = dict(zip(
            [one.name for one in self._session.get_outputs()],
            self._session.run(None, {self._session.get_inputs()[0].name: batch}),
            strict=True,
        ))  # fmt: skip
        least = self.settings.min_score * (1 if self._points is None else _DOUBTFUL)
        decode = _yunet if self.kind == "yunet" else _scrfd
        found = [
            decode([out[name] for name in names], stride, shown.shape[1] // stride, least)
            for stride, names in zip(_STRIDES, self._grids, strict=True)
        ]
        rows = np.concatenate(found).astype(np.float32)
        rows[:, :4] *= np.tile(scale, 2)
        rows[:, 5:] *= np.tile(scale, 5)
        return rows

    def _shown(self, picture: NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
        """The picture as the network is given it, (h, w, 3) with sides it takes, and pixels a pixel of it (x, y)."""
        height, width = picture.shape[:2]
        share = min(1.0, _SHOWN_PX / self.settings.min_face_px)
        if self._fixed is not None:  # as large as fits
            share = min(self._fixed[0] / width, self._fixed[1] / height)
        size = (max(1, round(share * width)), max(1, round(share * height)))
        image = Image.fromarray(picture)
        if size != image.size:
            image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        whole = self._fixed or tuple(-(-side // _STRIDES[-1]) * _STRIDES[-1] for side in size)
        shown = np.zeros((whole[1], whole[0], 3), np.float32)
        shown[: size[1], : size[0]] = np.asarray(image)
        return shown, np.array([width / size[0], height / size[1]], np.float32)


def detector_named(
    text: str,
    *,
    min_face_px: int = 40,
    min_score: float | None = None,
    points: str | None = None,
    device: str = "cpu",
) -> Detector:
    """Make the detector that `NAME` or `NAME:FILE` means.

    Parameters
    ----------
    text : str
        `mtcnn`, `yunet:FILE` or `scrfd:FILE`.
    min_face_px : int
        Shortest side of a face.
    min_score : float, optional
        How sure it must be; the detector's own when not given: 0.7, 0.6, 0.5.
    points : str, optional
        One of `POINTS`, for a file.
    device : str
        See `FileDetector`.

    Raises
    ------
    OptionError
        If there is no such detector, or it needs a file, or takes none.
    """
    name, colon, file = text.partition(":")
    known = ("mtcnn", *_LEAST_SCORES)
    if (plugin := plugins("detectors", known).get(name)) is not None:
        return _plugged(plugin, file, min_face_px=min_face_px, min_score=min_score, device=device)
    if name not in known:
        raise OptionError(f"a detector is mtcnn, yunet:FILE or scrfd:FILE, however: {text!r}{nearest(name, known)}")
    if name == "mtcnn":
        if colon or points == "own" or device not in ("cpu", "auto"):
            raise OptionError(
                f"mtcnn comes with its weights, has one kind of points and runs on the CPU, however: {text!r}, "
                f"points {points or 'mtcnn'}, device {device}"
            )
        first, second, last = MTCNNSettings().thresholds
        return MTCNN(
            MTCNNSettings(min_face_px=min_face_px, thresholds=(first, second, last if min_score is None else min_score))
        )
    if not file:
        raise OptionError(f"{name} needs the ONNX file with its weights: --detector {name}:FILE")
    least = _LEAST_SCORES[name] if min_score is None else min_score
    settings = FileSettings(min_face_px=min_face_px, min_score=least, points=points or "mtcnn")  # type: ignore[arg-type]
    return FileDetector(name, Path(file).expanduser(), settings, device=device)


def _plugged(plugin: Plugin, file: str, **settings: Any) -> Detector:
    """A detector of another distribution: what its entry point makes, its distribution and version in the identity."""
    made: Detector = plugin.load()(file or None, **settings)
    if not all(callable(getattr(made, method, None)) for method in ("detect", "identity")):
        raise PluginError(plugin.told("what it makes is no Detector (detect, identity)"))
    return (_PluggedFollowing if isinstance(made, Follows) else _Plugged)(made, plugin)


def _plugin_again(identity: Mapping[str, Any], text: str, *, device: str) -> Detector:
    """The plugin's detector of that identity, made as for crops and as for frames."""
    need("detectors", None, identity["plugin"], "finding faces as they were found")
    made = [detector_for_crops(text, device=device), detector_named(text, device=device)]
    for one in made:
        if one.identity() == identity:
            return one
    raise OptionError(
        f"faces cannot be found as they were: it was {dict(identity)}, {text} here would be {made[0].identity()}\n"
        f"  name the detector and its file: --detector NAME:FILE, of {identity['plugin']['distribution']} "
        f"{identity['plugin']['version']}"
    )


@dataclass(frozen=True)
class _Plugged:
    """A detector of a plugin, which says whose it is."""

    made: Any
    plugin: Plugin

    def detect(self, picture: NDArray[np.uint8]) -> list[Face]:
        """As the detector does."""
        found: list[Face] = self.made.detect(picture)
        return found

    def identity(self) -> dict[str, object]:
        """The detector's own, with distribution and version."""
        return {**self.made.identity(), "plugin": self.plugin.origin}

    def versions(self) -> dict[str, str]:
        """The detector's own, with its distribution."""
        own = self.made.versions() if hasattr(self.made, "versions") else {}
        return {**own, self.plugin.distribution: self.plugin.version}


class _PluggedFollowing(_Plugged):
    """One that can look near where faces were."""

    def follow(self, picture: NDArray[np.uint8], boxes: Sequence[Box]) -> list[Face]:
        """As the detector does."""
        found: list[Face] = self.made.follow(picture, boxes)
        return found


def detector_for_crops(text: str, *, points: str | None = None, device: str = "cpu") -> Detector:
    """The detector that `NAME` or `NAME:FILE` means, for pictures each of which is known to show a face.

    It is content with less than one for frames, since what it is asked is where the face is: on 3,520 faces of FER+
    MTCNN misses 171 so, and YuNet 30.
    """
    if text == "mtcnn":
        detector_named(text, points=points, device=device)  # refuses what it has no choice in
        return MTCNN(MTCNNSettings(thresholds=_THRESHOLDS_FOR_CROPS))
    return detector_named(text, min_face_px=_SHOWN_PX, min_score=_LEAST_FOR_CROPS, points=points, device=device)


def detector_again(identity: Mapping[str, Any], text: str, *, device: str = "cpu") -> Detector:
    """The detector whose `identity` this is.

    Parameters
    ----------
    identity : dict
    text : str
        `NAME` or `NAME:FILE`: where the file is now, for one that comes from a file.

    Raises
    ------
    OptionError
        If another one is named, or its file is another; with both digests.
    """
    name, _, file = text.partition(":")
    if "plugin" in identity:
        return _plugin_again(identity, text, device=device)
    kind, settings = identity["detector"], dict(identity["settings"])
    if kind == "mtcnn":
        made: Detector = MTCNN(MTCNNSettings(**{**settings, "thresholds": tuple(settings["thresholds"])}))
    elif kind not in _LEAST_SCORES:
        raise OptionError(f"no detector here is called {kind!r}: faces cannot be found as they were")
    elif name != kind or not file:
        raise OptionError(
            f"faces were found by {kind} from a file of sha256 {identity['weights'][:12]}…: say where it is now, "
            f"--detector {kind}:FILE, however: {text}"
        )
    else:
        made = FileDetector(kind, Path(file).expanduser(), FileSettings(**settings), device=device)
    if made.identity() != identity:
        raise OptionError(
            f"faces cannot be found as they were: it was {dict(identity)}, here it would be {made.identity()}"
        )
    return made


def _yunet(out: list[NDArray[Any]], stride: int, across: int, least: float) -> NDArray[Any]:
    """Class and objectness scores (1, n, 1), boxes (1, n, 4), points (1, n, 10) -> (m, 15)."""
    scores = np.sqrt(np.clip(out[0][0, :, 0], 0, 1) * np.clip(out[1][0, :, 0], 0, 1))
    at = np.flatnonzero(scores >= least)
    corner = np.stack([at % across, at // across], axis=1)
    box, points = out[2][0, at], out[3][0, at]
    centre, half = (corner + box[:, :2]) * stride, np.exp(box[:, 2:]) * stride / 2
    places = points * stride + np.tile(corner * stride, 5)
    return np.concatenate([centre - half, centre + half, scores[at, None], places], axis=1)


def _scrfd(out: list[NDArray[Any]], stride: int, across: int, least: float) -> NDArray[Any]:
    """Scores (n, 1), distances to the box's sides (n, 4), points (n, 10), two anchors a place -> (m, 15)."""
    scores, sides, points = (array.reshape(-1, width) for array, width in zip(out, (1, 4, 10), strict=True))
    at = np.flatnonzero(scores[:, 0] >= least)
    place = at // 2
    anchor = np.stack([place % across, place // across], axis=1) * stride
    left_top, right_bottom = anchor - sides[at, :2] * stride, anchor + sides[at, 2:] * stride
    places = points[at] * stride + np.tile(anchor, 5)
    return np.concatenate([left_top, right_bottom, scores[at], places], axis=1)


def _grids(session: Any, kind: str, file: Path) -> list[list[str]]:
    """The outputs of each of the three grids, in the order in which they are read."""
    names = [one.name for one in session.get_outputs()]
    if kind == "yunet":
        wanted = [[f"{what}_{stride}" for what in ("cls", "obj", "bbox", "kps")] for stride in _STRIDES]
        if all(name in names for grid in wanted for name in grid):
            return wanted
    elif len(names) == 9:  # scores of the three grids, then boxes, then points
        widths = [one.shape[-1] for one in session.get_outputs()]
        if all(width in (expected, None) or isinstance(width, str) for width, expected in zip(
            widths, (1, 1, 1, 4, 4, 4, 10, 10, 10), strict=True
        )):  # fmt: skip
            return [names[grid::3] for grid in range(3)]
    expected = "cls_8 … kps_32" if kind == "yunet" else "nine: scores, boxes and points of three grids"
    raise DetectorError(
        f"the file is no {kind} with points: its outputs are {', '.join(names)}, expected {expected}: {file}\n"
        "  yunet means the files since 2023, face_detection_yunet_2023mar.onnx and newer; scrfd those with points (kps)"
    )


def _fixed_size(session: Any, file: Path) -> tuple[int, int] | None:
    """Width and height where the file fixes them."""
    shape = session.get_inputs()[0].shape
    if len(session.get_inputs()) != 1 or len(shape) != 4 or shape[1] not in (3, None):
        raise DetectorError(f"the file takes no pictures of shape (1, 3, h, w), however: {shape}: {file}")
    height, width = shape[2:]
    if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
        return None
    if height % _STRIDES[-1] or width % _STRIDES[-1]:
        raise DetectorError(
            f"the file takes pictures of {width} x {height}, which is no multiple of {_STRIDES[-1]}: {file}"
        )
    return width, height


def _session(model: OnnxFile, device: str) -> Any:
    """A session of one thread on the device; CUDA is refused where onnxruntime falls back from it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError(
            f"finding faces needs onnxruntime: {error}\n  install it with: pip install 'cer-fusion[faces]'"
        ) from None
    cuda, number = "CUDAExecutionProvider", device.partition(":")[2] or "0"
    if device.partition(":")[0] not in ("cpu", "cuda", "auto") or not number.isdecimal():
        raise OptionError(f"a detector runs on cpu, cuda, cuda:1 or auto, however: {device!r}")
    wanted = device != "cpu" and (device != "auto" or cuda in onnxruntime.get_available_providers())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings about unused initialisers are about the file, not about the user
    options.intra_op_num_threads = 1
    providers: list[Any] = [(cuda, {"device_id": number, "use_tf32": "0"})] if wanted else []
    try:
        session = onnxruntime.InferenceSession(
            model.content, options, providers=[*providers, "CPUExecutionProvider"], enable_fallback=0
        )
    except Exception as error:  # a boundary: onnxruntime raises its own C++ errors, and the text is kept
        reason = str(error).strip().partition("\n")[0][:300]
        raise DetectorError(f"the detector cannot be opened on {device} ({reason}): {model.path}") from None
    if wanted and device != "auto" and cuda not in session.get_providers():
        raise DetectorError(
            f"the detector was asked for on {device}, and onnxruntime has {', '.join(session.get_providers())}\n"
            "  say cpu, or install onnxruntime-gpu with CUDA's libraries"
        )
    return session
