"""Three backbones in one pass against three passes, on photographs' sizes, where decoding matters.

Ratio: seconds of three runs of `extract` ÷ seconds of one run with all three backbones. Above 1, one pass is faster; at
most it is the number of backbones, where decoding is all there is to do. `cpu_ratio` is the same of processor seconds,
which a busy machine disturbs less. `apart_bound_by` and `together_bound_by` name what kept them from being faster. The
models compute on one thread, so that decoding has the other core.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.timing import report
from cer_fusion.backbones import Backbone, create, picture
from cer_fusion.featstore import Manifest, Sample, Store, class_set, extract
from cer_fusion.featstore.extraction.run import bottleneck

SIZE = (1024, 768)
CHEAP = ("timm:test_vit", "timm:test_resnet", "timm:mobilenetv3_small_050")
WITH_RESNET50 = ("timm:test_vit", "timm:mobilenetv3_small_050", "resnet50")


def write_photographs(folder: Path, count: int) -> Manifest:
    """Write JPEG files of about the size that cameras' pictures have once they are scaled to 1024 x 768."""
    samples = []
    for i in range(count):
        draw = np.random.default_rng(i)
        coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
            SIZE, Image.Resampling.BICUBIC
        )
        grain = draw.normal(0, 6, (SIZE[1], SIZE[0], 1))
        pixels = np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg", quality=90)
        samples.append(Sample(sample_id=f"{i:04d}", path=f"{i}.jpg", label="", split="train"))
    return Manifest(samples=tuple(samples), classes=class_set("abaw7"), root=folder)


def run_apart(backbones: list[Backbone], manifest: Manifest, **options: int) -> list[str]:
    """One run a backbone, into a new store; what bounded each."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "store")
        return [bottleneck([extract(one, manifest, store, dataset="photographs", **options)]) for one in backbones]


def run_together(backbones: list[Backbone], manifest: Manifest, **options: int) -> list[str]:
    """One run with all of them, into a new store; what bounded it."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "store")
        return [bottleneck(extract(backbones, manifest, store, dataset="photographs", **options))]


def cost_of(run: Callable[[], list[str]]) -> tuple[float, float, list[str]]:
    """Seconds of one run by the clock and of processor time, and what bounded it."""
    began_cpu, began = time.process_time(), time.perf_counter()
    bound = run()
    return time.perf_counter() - began, time.process_time() - began_cpu, bound


def opened_in_one_pass(backbones: list[Backbone], manifest: Manifest) -> float:
    """How often a picture is opened in one pass, on average."""
    count = 0
    check_size = picture.check_size

    def counted(width: int, height: int) -> None:
        nonlocal count
        count += 1
        check_size(width, height)

    for backbone in backbones:
        backbone.spec()  # its probe opens pictures too, once a process
    picture.check_size = counted  # called twice a picture that is opened
    try:
        run_together(backbones, manifest)
    finally:
        picture.check_size = check_size
    return count / 2 / len(manifest)


def measure(names: tuple[str, ...], manifest: Manifest, repeats: int, reader_processes: int) -> None:
    """Measure one set of backbones and print a JSON line."""
    backbones = [create(name, weights="random") for name in names]
    opened = opened_in_one_pass(backbones, manifest.keep([i < 8 for i in range(len(manifest))]))
    apart, together = [], []
    for _ in range(repeats):  # the two in turn: a slow moment of the machine hits both
        apart.append(cost_of(lambda: run_apart(backbones, manifest, reader_processes=reader_processes)))
        together.append(cost_of(lambda: run_together(backbones, manifest, reader_processes=reader_processes)))
    ratios = [[a / b for a, b in zip(x[:2], y[:2], strict=True)] for x, y in zip(apart, together, strict=True)]
    report(
        "one_pass",
        backbones=list(names),
        pictures=len(manifest),
        size_px=list(SIZE),
        reader_processes=reader_processes,
        opened_per_picture=opened,
        apart_s=round(statistics.median(elapsed for elapsed, _, _ in apart), 2),
        apart_bound_by=apart[-1][2],
        together_s=round(statistics.median(elapsed for elapsed, _, _ in together), 2),
        together_bound_by=together[-1][2],
        ratio=round(statistics.median(by_clock for by_clock, _ in ratios), 2),
        cpu_ratio=round(statistics.median(of_cpu for _, of_cpu in ratios), 2),
        runs=repeats,
    )


def main() -> None:
    """Measure cheap backbones, where decoding is most of the work, and a set with ResNet-50, where it is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--reader-processes", type=int, default=0)
    parser.add_argument("--only-cheap", action="store_true", help="leave the set with ResNet-50 out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_photographs(Path(folder), args.pictures)
        for names in (CHEAP,) if args.only_cheap else (CHEAP, WITH_RESNET50):
            measure(names, manifest, args.repeats, args.reader_processes)


if __name__ == "__main__":
    main()
