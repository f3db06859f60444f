"""From a video to probabilities: what each step costs, which one bounds the line, whether a long video slows it.

A video of faces at hand (shots of one or two faces that drift, cuts, shots without a face) is decoded, looked at, cut
out, written, embedded (an untrained ResNet-18 at 112 px: a cheap backbone, so that the bottleneck named is the line's)
and answered by a linear head. `--minutes` makes a longer video and compares the first and the last fifth of its frames:
time a frame, and memory.

Prints JSON lines.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shown_faces import Faces
from benchmarks.timing import report
from cer_fusion.backbones import create
from cer_fusion.frames import MTCNN, Alignment, FrameSettings, VideoReader, make_frames, write_video

LIMIT = 1.25
"""A frame of the last fifth may take so many times what one of the first fifth does."""


def main() -> None:
    """Measure the steps, then the long video."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=500, help="of the video whose steps are measured")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 360), metavar=("W", "H"))
    parser.add_argument("--minutes", type=float, default=10, help="of the long video at 25 frames a second; 0: none")
    parser.add_argument("--long-size", type=int, nargs=2, default=(320, 180), metavar=("W", "H"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cer-bench-") as name:
        folder = Path(name)
        measure_steps(folder, args.frames, tuple(args.size))
        if args.minutes:
            measure_long(folder, round(1500 * args.minutes), tuple(args.long_size))


def measure_steps(folder: Path, frames: int, size: tuple[int, int]) -> None:
    """Milliseconds a frame of each step, one after the other."""
    faces, video = Faces(0), folder / "1.mp4"
    write_video(video, ((i / 25, picture) for i, picture in enumerate(faces.video(frames, size=size))))
    detector, alignment, settings = MTCNN(), Alignment(), FrameSettings()
    taken: dict[str, float] = {}
    with clock(taken, "decode"):
        pictures = sum(1 for _ in VideoReader(video).frames())
    kept = [frame.picture for frame in VideoReader(video).frames()]
    with clock(taken, "detect"):
        found = [detector.detect(picture) for picture in kept]
    with clock(taken, "align"):
        crops = [
            alignment.crop(picture, face) for picture, all_faces in zip(kept, found, strict=True) for face in all_faces
        ]
    with clock(taken, "encode"):
        data = [settings.encode(crop) for crop in crops]
    backbone = create("timm:resnet18", weights="random", img_size=112)
    (block,) = backbone.blocks
    with clock(taken, "prepare"):
        prepared = [backbone.decode(one) for one in data]
    with clock(taken, "embed"):
        batches = [np.stack(prepared[i : i + 32]) for i in range(0, len(prepared), 32)]
        rows = np.concatenate([backbone.embed(batch)[block] for batch in batches])
    head = fitted_head(rows.shape[1])
    with clock(taken, "head"):
        head.predict_proba(rows)
    started = time.perf_counter()
    made = make_frames(video, "01", folder / "out", settings, detector)
    line_s = time.perf_counter() - started + taken["prepare"] + taken["embed"] + taken["head"]
    per_frame = {step: round(1000 * seconds / pictures, 2) for step, seconds in taken.items()}
    report(
        "video_line",
        faces=faces.source,
        frames=pictures,
        size=f"{size[0]} x {size[1]}",
        crops=len(crops),
        pictures=made.counts["pictures"],
        ms_a_frame=per_frame,
        decode_fps=round(pictures / taken["decode"], 1),
        detect_and_align_fps=round(pictures / (taken["detect"] + taken["align"]), 1),
        line_fps=round(pictures / line_s, 1),
        bottleneck=max(per_frame, key=lambda step: per_frame[step]),
    )


def measure_long(folder: Path, frames: int, size: tuple[int, int]) -> None:
    """Time a frame and memory in each tenth of a long video, everything on."""
    video = folder / "2.mp4"
    write_video(video, ((i / 25, picture) for i, picture in enumerate(Faces(1).video(frames, size=size))))
    marks: list[tuple[float, int]] = [(time.perf_counter(), peak_memory())]

    def progress(name: str, done: int, total: int) -> None:
        if done * 10 // frames >= len(marks):
            marks.append((time.perf_counter(), peak_memory()))

    made = make_frames(video, "02", folder / "out", FrameSettings(), MTCNN(), progress=progress)
    tenths = np.diff([at for at, _ in marks]) / (frames / 10)
    ratio = float(np.mean(tenths[-2:]) / np.mean(tenths[:2]))
    report(
        "video_line_long",
        frames=made.counts["frames"],
        size=f"{size[0]} x {size[1]}",
        ms_a_frame_by_tenth=[round(1000 * float(one), 2) for one in tenths],
        last_fifth_over_first=round(ratio, 3),
        limit=LIMIT,
        kept=ratio <= LIMIT,
        memory_growth_mb=round((marks[-1][1] - marks[1][1]) / 1e6, 1),
        sorting_s=round(time.perf_counter() - marks[-1][0], 2),
    )


def fitted_head(width: int) -> Any:
    """A linear head of seven classes on rows drawn at random; answers cost the same whatever it learned."""
    from cer_fusion.fusion import make_head

    rng = np.random.default_rng(0)
    head = make_head("linear", blocks={"resnet18": width}, random_state=0)
    return head.fit(rng.normal(size=(140, width)).astype(np.float32), np.arange(140) % 7)


@contextmanager
def clock(taken: dict[str, float], step: str) -> Iterator[None]:
    """Note the seconds that a step takes."""
    started = time.perf_counter()
    yield
    taken[step] = time.perf_counter() - started


def peak_memory() -> int:
    """Most bytes that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
