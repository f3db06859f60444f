"""Drawn videos with sound through the line of commands: where sound helps, where time helps, and where neither may.

Videos of schematic faces (`demofaces`), two sitters, that keep one of four compounds each, with a noise and a tone:

- `sound`: a face shows one of two compounds, and only the pitch says which of the two is meant.
- `time`: every third frame shows the compound, the others a calm face; the pitch says nothing.
- `neither`: every frame shows the compound; the pitch says nothing. Time can only average what single frames err in.

They are written by PyAV, cut into frames, listed and embedded by `cer-feat` itself (an untrained ResNet-18 at 64 px and
openSMILE's eGeMAPS), and heads are compared in grouped folds, whole videos apart. What it shows is a mechanism and no
accuracy: nobody looks like these faces, nor sounds like this.

    python -m benchmarks.made_videos [--sets sound,time,neither] [--videos 28] [--frames 8] [--folds 4] [--keep DIR]

`--keep` holds the videos and their rows, for the sets that are judged later. Prints markdown. Needs the extras `video`
and `audio`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cer_fusion.demofaces import COMPOUNDS, ActionUnits, Style, draw_face, sample_style, sample_units
from cer_fusion.featstore import Store
from cer_fusion.fusion import Report, Rows, cross_compare, make_head, recipe_columns, recipes_in
from cer_fusion.fusion.judging.entries import Entry
from cer_fusion.fusion.judging.report import p_text
from cer_fusion.fusion.judging.zero_shot import with_basic
from cer_fusion.fusion.recipes import Recipe

SETS = ("sound", "time", "neither")
NAMES = ("Angrily Surprised", "Disgustedly Surprised", "Fearfully Surprised", "Happily Surprised")
"""Two pairs: an untrained network sees too little of a drawn face to tell all seven."""
SHOWN = {one.name: one for one in COMPOUNDS}
PARTNER = {0: 1, 1: 0, 2: 3, 3: 2}
"""Which compound a face of the set `sound` shows as well."""
BASIC = {"Anger": (4, 7), "Disgust": (9, 10), "Fear": (1, 2, 5, 20), "Happiness": (6, 12), "Surprise": (1, 2, 26)}
SIDE_PX, FPS, RATE_HZ = 64, 4, 16_000
LOW_HZ, HIGH_HZ = 180.0, 420.0
STEPS = {"epochs": 40, "batch_size": 32, "threads": 1}
"""More and smaller steps than the heads have by themselves, which are made for more rows."""


def written(folder: Path, kind: str, count: int, frames: int, seed: int) -> dict[str, str]:
    """Write the videos of a set, and return the compound of each by the video's name."""
    random, sitters = np.random.default_rng([SETS.index(kind), seed]), two_sitters(seed)
    labels = [NAMES[i % len(NAMES)] for i in random.permutation(count)]
    for number, label in enumerate(labels, start=1):
        code = NAMES.index(label)
        seen = NAMES[PARTNER[code]] if kind == "sound" and random.random() < 0.5 else label
        high = code % 2 if kind == "sound" else random.integers(2)
        pictures = []
        for i in range(frames):
            calm = kind == "time" and (i + number) % 3
            units = ActionUnits() if calm else sample_units(SHOWN[seen], random)
            pictures.append(np.asarray(draw_face(units, style=sitters[number % 2], size_px=SIDE_PX).convert("RGB")))
        write(folder / f"{kind}-{number:03}.mkv", pictures, tone(frames / FPS, HIGH_HZ if high else LOW_HZ, random))
    return {f"{kind}-{number:03}": label for number, label in enumerate(labels, start=1)}


def basic_written(folder: Path, frames: int, seed: int) -> dict[str, str]:
    """Write two videos a basic expression, whose pitch says nothing, and return the expression of each by its name."""
    random, sitters = np.random.default_rng(seed), two_sitters(seed)
    labels = [name for name in BASIC for _ in "12"]
    for number, label in enumerate(labels, start=1):
        style, units = sitters[number % 2], ActionUnits.from_numbers(dict.fromkeys(BASIC[label], 0.8))
        pictures = [np.asarray(draw_face(units, style=style, size_px=SIDE_PX).convert("RGB"))] * frames
        write(folder / f"basic-{number:03}.mkv", pictures, tone(frames / FPS, random.choice([LOW_HZ, HIGH_HZ]), random))
    return {f"basic-{number:03}": label for number, label in enumerate(labels, start=1)}


def two_sitters(seed: int) -> list[Style]:
    """Return the same two in all sets."""
    random = np.random.default_rng([9, seed])
    return [sample_style(random) for _ in "12"]


def tone(length_s: float, pitch_hz: float, random: np.random.Generator) -> NDArray[np.float32]:
    """Return a sound (n,) of about this pitch, with overtones and noise."""
    t = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    pitch = pitch_hz * random.uniform(0.9, 1.1)
    sound = sum(np.sin(2 * np.pi * pitch * k * t + random.uniform(0, 6)) / k for k in (1, 2, 3))
    return (0.15 * sound + 0.05 * random.normal(size=len(t))).astype(np.float32)


def write(path: Path, pictures: list[NDArray[np.uint8]], sound: NDArray[np.float32]) -> None:
    """Write pictures at `FPS` and a sound beside them."""
    import av

    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("mpeg4", rate=FPS), container.add_stream("pcm_s16le", rate=RATE_HZ)
        video.height, video.width, video.pix_fmt, video.bit_rate = SIDE_PX, SIDE_PX, "yuv420p", 400_000
        audio.layout = "mono"
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        values = np.round(np.clip(sound, -1, 1) * 32767).astype(np.int16).reshape(1, -1)
        for first in range(0, values.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(values[:, first : first + 1024]), layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE_HZ, Fraction(1, RATE_HZ), first
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))


def go_the_line(folder: Path) -> None:
    """Go the line of commands from the videos in a folder to a store of rows of their frames."""
    said = [
        "frames videos -o frames --faces none",
        "manifest frames frames -o made.csv",
        f"extract --backbone timm:resnet18 -w random -O img_size={SIDE_PX} --as face --data made.csv --device cpu",
        "extract --backbone audio:egemaps --as egemaps --data made.csv --videos videos --device cpu",
    ]
    for command in said:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("cer-feat")), *command.split()],
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
        )
        if done.returncode:
            sys.exit(f"cer-feat {command}\n{done.stderr}")


def rows_of(folder: Path, labels: dict[str, str], classes: tuple[str, ...]) -> Rows:
    """Return the rows of some videos, grouped by them."""
    view = Store(folder / "features").view(["face", "egemaps"], dataset="made")
    videos = [one.partition("/")[0] for one in view.ids]
    mine = np.array([i for i, video in enumerate(videos) if video in labels])
    return Rows(
        blocks={name: np.asarray(block)[mine] for name, block in view.blocks.items()},
        y=np.array([classes.index(labels[videos[i]]) for i in mine]),
        classes=classes,
        ids=tuple(view.ids[i] for i in mine),
        groups=tuple(videos[i] for i in mine),
        features=("face", "egemaps"),
    )


def columns(rows: Rows, seed: int) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Yield the title, head and features of every column."""
    for features in (("face",), ("face", "egemaps")):
        what = "faces" if len(features) == 1 else "faces and sound"
        blocks = [block for name in features for block in rows.by_feature()[name]]
        widths = rows.only(blocks).widths
        for name in ("mlp", "sequence"):
            yield f"{name}, {what}", make_head(name, blocks=widths, random_state=seed, **STEPS), tuple(blocks)


def netease(rows: Rows, basic: Rows, seed: int) -> list[Entry]:
    """Return the column of the recipe, its stages four times as long."""
    known: Recipe = recipes_in(None)["netease"]
    assert known.head is not None
    settings = dict(known.head.settings)
    settings |= {"curriculum": [[4 * epochs, share] for epochs, share in settings["curriculum"]], **STEPS}
    longer = replace(known, head=replace(known.head, settings=settings))
    return [one for one in recipe_columns([longer], rows, basic=basic, seed=seed) if isinstance(one, Entry)]


def judged(rows: Rows, basic: Rows, folds: int, seed: int) -> Report:
    """Compare the columns in folds of whole videos."""
    entries = [Entry(title=title, kind="head", blocks=blocks, head=head) for title, head, blocks in columns(rows, seed)]
    return cross_compare(
        {}, with_basic(rows, basic), folds=folds, seed=seed, singles=False, baseline="mlp, faces",
        more=[*entries, *netease(rows, basic, seed)],
        progress=lambda done, total, title: print(f"{done}/{total} {title}", file=sys.stderr, flush=True),
    )  # fmt: skip


def main() -> None:
    """Draw, go the line, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--videos", type=int, default=28)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| videos | column | accuracy (%) | macro F1 (%) | against `mlp, faces` (points) | p, Holm |")
    print("|---|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="cer-bench-") as name:
        started, folder = time.perf_counter(), options.keep or Path(name)
        new = not (folder / "videos").exists()
        videos = folder / "videos" if new else Path(name)  # drawn again, for their labels
        videos.mkdir(parents=True, exist_ok=True)
        shown = basic_written(videos, options.frames, options.seed)
        labels = {kind: written(videos, kind, options.videos, options.frames, options.seed) for kind in SETS}
        if new:
            go_the_line(folder)
            print(f"videos drawn, cut and embedded in {time.perf_counter() - started:.0f} s", file=sys.stderr)
        basic = rows_of(folder, shown, tuple(BASIC))
        for kind in options.sets.split(","):
            rows = rows_of(folder, labels[kind], NAMES)
            for column in judged(rows, basic, options.folds, options.seed).columns:
                print(line(kind, column), flush=True)
    print(f"\nLoad of the machine at the end: {os.getloadavg()[0]:.1f}")


def line(kind: str, column: Any) -> str:
    """Return a column as a line of the table."""

    def points(value: float, ends: Any, sign: str = "") -> str:
        return f"{100 * value:{sign}.1f} [{100 * ends.low:{sign}.1f}, {100 * ends.high:{sign}.1f}]"

    versus = column.versus
    against = "–" if versus is None else points(versus.macro_f1, versus.macro_f1_interval, "+")
    p = "–" if versus is None else f"{p_text(versus.p_macro_f1_holm, bound=versus.p_is_bound)}"
    accuracy = points(column.scores.accuracy, column.accuracy)
    return (
        f"| {kind} | {column.name} | {accuracy} | {points(column.scores.macro_f1, column.macro_f1)} | {against} | {p} |"
    )


if __name__ == "__main__":
    main()
