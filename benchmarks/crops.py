"""How a face is best cut out: crops of the named conventions and margins, judged by what a linear probe reads in them.

FER+ compound7 (3,520 distinct faces of 48 pixels), each found by the detector as `extract --align` finds it, cut out in
several ways and shown to networks for faces; on each network's rows a logistic regression, five folds that keep crops
of one photograph on one side. FER+ pictures end at the face, so what a margin shows beyond them is their edge repeated:
what a margin costs is measured, what it might gain is not. That is seen in geometry: where the chin, the brows and the
jaw line of annotated faces (dlib's, 68 points) come to lie in the crop.

    python -m benchmarks.crops [--shared ../shared] [--detector mtcnn] [--network mobile|hse] [--faces 3520]
"""

from __future__ import annotations

import argparse
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.real_faces import faces
from benchmarks.timing import report
from cer_fusion.backbones import Backbone, create
from cer_fusion.backbones.picture import open_picture
from cer_fusion.featstore.pictures.pictures import PictureSource
from cer_fusion.frames import Alignment, Detector, Face, LooseCrops, detector_for_crops, detector_named, overlap
from cer_fusion.fusion import Rows
from cer_fusion.fusion.data.rows import folds_of

NETWORKS = {
    "mobile": ("fer_mobilefacenet_rafdb_512.onnx", {
        "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "colour": "RGB", "scale": "0-1", "output": "embedding",
    }),
    "hse": ("hse_faceres_deep.onnx", {
        "mean": (103.939, 116.779, 123.68), "std": (1, 1, 1), "colour": "BGR", "scale": "0-255",
    }),
}  # fmt: skip
WAYS: tuple[tuple[str, float], ...] = (
    *(("arcface112", margin) for margin in (-0.1, 0.0, 0.05, 0.1, 0.15, 0.2, 0.3)),
    *(("box", margin) for margin in (-0.1, 0.0, 0.15, 0.3)),
)
BROWS, CHIN, JAW, LIP = slice(17, 27), 8, slice(0, 17), 57
Found = list[tuple[NDArray[np.uint8], Face | None]]


def main() -> None:
    """Print a JSON line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--detector", default="mtcnn")
    parser.add_argument("--points")
    parser.add_argument("--network", choices=NETWORKS, default="mobile")
    parser.add_argument("--faces", type=int, default=3520, help="that many of FER+; 0: geometry alone")
    parser.add_argument("--ways", help="conventions with margins, such as arcface112:0.1,box:0; resized for none")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (args.shared / "data").is_dir():
        sys.exit(f"no pictures at {args.shared / 'data'}: name their folder with --shared")
    ways = WAYS if args.ways is None else tuple(read_way(text) for text in args.ways.split(","))
    for way in ways:
        report("crop_geometry", way=named(way), **placed(way, args.shared, detector_named(args.detector)))
    if not args.faces:
        return
    detector = detector_for_crops(args.detector, points=args.points)
    rows = faces(args.shared)
    rows = rows.take(np.random.default_rng(args.seed).permutation(len(rows.y))[: args.faces])
    found = looked(rows, args.shared / "data" / "ferplus.zip", detector)
    missed = sum(face is None for _, face in found)
    file, recipe = NETWORKS[args.network]
    network = create(f"onnx:{args.shared / 'weights' / file}", **recipe)
    for way in ((None, 0.0), *ways) if args.ways is None else ways:
        embedded = np.concatenate(list(embeddings(network, found, way, detector)))
        report(
            "crop_probe", network=args.network, detector=args.detector, points=args.points, way=named(way),
            faces=len(found), without_face=missed, **probed(embedded, rows, args.seed),
        )  # fmt: skip


def read_way(text: str) -> tuple[str | None, float]:
    """`arcface112:0.1` or `resized`."""
    name, _, margin = text.partition(":")
    return (None if name == "resized" else name), float(margin or 0)


def named(way: tuple[str | None, float]) -> str:
    """For the table."""
    return "only resized" if way[0] is None else f"{way[0]} {way[1]:+.2f}"


def looked(rows: Rows, archive: Path, detector: Detector) -> Found:
    """Every picture with its face."""
    from cer_fusion.featstore.manifests.adapters import build

    path_of = {one.sample_id: one.path for one in build("ferplus", archive, labels="compound7").manifest.samples}
    source, crops = PictureSource(archive), LooseCrops(detector=detector)
    pictures = [np.asarray(open_picture(source.read(path_of[sample_id]))) for sample_id in rows.ids]
    return [(picture, crops.find(picture)) for picture in pictures]


def embeddings(
    network: Backbone, found: Found, way: tuple[str | None, float], detector: Detector
) -> Iterator[NDArray[np.float32]]:
    """The network's rows of the crops, (b, d) at a time."""
    side = network.transform.size_px
    crops = LooseCrops(detector=detector, convention=way[0] or "arcface112", margin=way[1])  # type: ignore[arg-type]
    for start in range(0, len(found), 32):
        batch = [
            network.transform.apply(Image.fromarray(picture)) if face is None or way[0] is None
            else crops.cut(picture, face, side)
            for picture, face in found[start : start + 32]
        ]  # fmt: skip
        yield network.embed(np.stack(batch))["output"]


def probed(embedded: NDArray[np.float32], rows: Rows, seed: int) -> dict[str, float]:
    """Accuracy and macro F1 of a logistic regression, out of fold."""
    answers = np.zeros_like(rows.y)
    for learn, held in folds_of(rows, 5, seed):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=300, tol=1e-3))
        answers[held] = probe.fit(embedded[learn], rows.y[learn]).predict(embedded[held])
    return {
        "accuracy": round(float(accuracy_score(rows.y, answers)), 4),
        "macro_f1": round(float(f1_score(rows.y, answers, average="macro")), 4),
    }


def placed(way: tuple[str | None, float], shared: Path, detector: Detector) -> dict[str, float]:
    """Where parts of annotated faces lie in crops: heights as shares of the side, and how often they are outside."""
    if way[0] is None:
        return {}
    alignment = Alignment(size_px=100, convention=way[0], margin=way[1])  # type: ignore[arg-type]
    places = []
    for picture, annotated in dlib_faces(shared):
        found = detector.detect(picture)
        for box, points in annotated:
            share, face = max(((overlap(box, one.box), one) for one in found), key=lambda one: one[0])
            if share >= 0.4:
                back = np.linalg.inv(np.vstack([alignment.matrix(face), [0, 0, 1]]))
                places.append(points @ back[:2, :2].T + back[:2, 2])
    at = np.array(places) / 100  # (n, 68, 2)
    outside = (at < 0) | (at > 1)
    return {
        "faces": len(at),
        "mouth": round(float(np.median(at[:, LIP, 1])), 3),
        "chin": round(float(np.median(at[:, CHIN, 1])), 3),
        "chin_lowest_tenth": round(float(np.percentile(at[:, CHIN, 1], 90)), 3),
        "chin_outside": round(float(outside[:, CHIN].any(axis=1).mean()), 3),
        "jaw_outside": round(float(outside[:, JAW].any(axis=(1, 2)).mean()), 3),
        "brows_outside": round(float(outside[:, BROWS].any(axis=(1, 2)).mean()), 3),
        "face_height": round(float(np.median(at[:, CHIN, 1] - at[:, BROWS, 1].min(axis=1))), 3),
    }


def dlib_faces(
    shared: Path,
) -> Iterator[tuple[NDArray[np.uint8], Sequence[tuple[tuple[float, float, float, float], NDArray[np.float64]]]]]:
    """Pictures with the boxes and 68 points of their faces."""
    folder = shared / "footage" / "photos" / "dlib_faces"
    for part in ("testing", "training"):
        for image in ET.parse(folder / f"{part}_with_face_landmarks.xml").getroot().iter("image"):
            marked = []
            for box in image.findall("box"):
                left, top, width, height = (float(box.get(key, "0")) for key in ("left", "top", "width", "height"))
                points = sorted((part.get("name"), part.get("x"), part.get("y")) for part in box.findall("part"))
                marked.append((
                    (left, top, left + width, top + height),
                    np.array([(float(x or 0), float(y or 0)) for _, x, y in points]),
                ))  # fmt: skip
            with Image.open(folder / image.get("file", "")) as picture:
                yield np.asarray(picture.convert("RGB")), marked


if __name__ == "__main__":
    main()
