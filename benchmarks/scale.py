"""What 10^5, 10^6 and 10^7 samples cost: each figure in a process of its own, with its seconds and its largest memory.

Samples are made up, and their pictures are members that no file system holds: an embedder that draws 16 columns stands
for a backbone, and the pictures of a part are read from memory. All else is what users run. `begin` is what one of a
thousand parts does before its first row: open the store, find its own samples, and plan them; `part` does all of it.

Prints a table and one JSON line a size. At 10^7 it takes some minutes and 2 GB of disk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.synthetic import CLASSES, NumberEmbedder, class_of
from benchmarks.timing import report
from cer_fusion.featstore import Manifest, Store, extract
from cer_fusion.featstore.extraction import run
from cer_fusion.featstore.manifests.columns import Samples, Texts, Words
from cer_fusion.featstore.pictures import pictures

PARTS = 1000
COLUMNS = 16
Figures = dict[str, Any]


def main() -> None:
    """Measure every size, step after step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--step", choices=STEPS, help="one step, in this process")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.step:
        print(json.dumps(measured(STEPS[args.step], args.samples[0], args.folder)))
        return
    for samples in args.samples:
        with tempfile.TemporaryDirectory(prefix="scale") as folder:
            found = {step: in_a_process(step, samples, args.folder or Path(folder)) for step in args.steps}
        for step, figures in found.items():
            print(f"{samples:>12,} {step:<10} {figures['s']:8.2f} s {figures['peak_mb']:8.0f} MB", file=sys.stderr)
        report("scale", samples=samples, steps=found)


def in_a_process(step: str, samples: int, folder: Path) -> Figures:
    """Run one step with nothing of the others in memory."""
    command = [sys.executable, "-m", "benchmarks.scale", "--step", step, "--samples", str(samples), "--folder", folder]
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, encoding="utf-8")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def measured(step: Callable[[int, Path], None], samples: int, folder: Path) -> Figures:
    """Seconds of a step without the imports, and the most memory that the process held with them."""
    before_mb = peak_mb()
    started = time.perf_counter()
    step(samples, folder)
    return {"s": time.perf_counter() - started, "peak_mb": peak_mb(), "imports_mb": before_mb}


def peak_mb() -> float:
    """The most memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def write(samples: int, folder: Path) -> None:
    """Write a manifest, as `cer-feat manifest` does."""
    numbers = np.arange(samples)
    manifest = Manifest(
        samples=Samples(
            Texts.of(f"sample_{i:08d}" for i in range(samples)),
            Texts.of(f"{i // 1000:05d}/{i:08d}.png" for i in range(samples)),
            Words(CLASSES.labels, np.fromiter(map(class_of, range(samples)), np.int32, samples)),
            Words(("train", "test"), (numbers // 100 % 20 == 0).astype(np.int32)),
            Words.of([f"video_{i // 100:06d}" for i in range(samples)]),
        ),
        classes=CLASSES,
        root=folder,
    )
    manifest.write(folder / "faces.csv")


def read(samples: int, folder: Path) -> None:
    """Read it whole."""
    assert len(Manifest.read(folder / "faces.csv")) == samples


def use(samples: int, folder: Path) -> None:
    """Make it a dataset's, which the first of all parts does."""
    Store.create(folder / "store").use_manifest("faces", Manifest.read(folder / "faces.csv"))


def begin(samples: int, folder: Path) -> None:
    """Begin a part of it, up to the first picture that is to be embedded."""

    class BegunError(Exception):
        """All is planned."""

    with mock.patch.object(run, "_fill", side_effect=BegunError), contextlib.suppress(BegunError):
        part(samples, folder, k=7)


def part(samples: int, folder: Path, k: int = 8) -> None:
    """Do a part of it, as `cer-feat extract --data faces.csv --part 8 --parts 1000` does."""
    store = Store(folder / "store")
    manifest = store.sealed_manifest("faces")
    assert manifest is not None
    assert manifest.is_made_from(folder / "faces.csv", None)
    shard_rows = min(2048, samples // PARTS)
    with drawn_pictures():
        extract(NumberEmbedder(COLUMNS), manifest, store, dataset="faces", part=(k, PARTS), shard_rows=shard_rows)


@contextlib.contextmanager
def drawn_pictures() -> Iterator[None]:
    """Every path that ends in a number's file is a picture of that number."""

    def number_of(_: object, path: str) -> bytes:
        return Path(path).stem.encode()

    with (
        mock.patch.object(pictures.PictureSource, "read", number_of),
        mock.patch.object(pictures.PictureSource, "state", return_value=None),
    ):
        yield


STEPS: dict[str, Callable[[int, Path], None]] = {"write": write, "read": read, "use": use, "begin": begin, "part": part}

if __name__ == "__main__":
    main()
