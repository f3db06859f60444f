"""The store's side of ten million samples: what finding rows among so many takes, at 10^5, 10^6 and 10^7.

Stores of made-up rows of 16 columns are written by the store itself (`--shard-rows` samples a shard, each row
from a picture of its own, one in a hundred from another's). Then each measured thing runs in a process of its own:

- `index`: what `cer-feat ls` asks of a feature: find every sample's row, count those of all ids.
- `part`: what a part of 1/1000 asks before it starts: the rows of its own samples, and rows made from their pictures.
- `leaks`: what `cer-fuse train` asks: pictures that stand in two splits.
- `view`: load the rows of all samples (up to 10^6 of them), the manifest being in memory.
- `listing`: commit `--shards` shards of one row, and look for others' before and after each: ms of looking a shard.
- `renamed`: give samples of new names the rows of their pictures, in random order: bytes read for a byte of rows.

`added_mb` is the peak resident memory over what was resident before, libraries, ids and manifest; for `view`, the rows
are taken off as well.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.synthetic import CLASSES
from benchmarks.timing import report
from cer_fusion.featstore import Feature, FeatureSpec, Manifest, Sample, Store
from cer_fusion.featstore.extraction.writing import StoredRows
from cer_fusion.featstore.rows import shard as shard_module
from cer_fusion.featstore.rows.shard import Rows
from cer_fusion.featstore.rows.view import Request, build_view

WIDTH = 16
MOST_IN_VIEW = 1_000_000
Figures = dict[str, Any]


def main() -> None:
    """Measure, and print a JSON line for each number of samples."""
    args = options()
    if args.step:
        print(json.dumps(STEPS[args.step](args)))
        return
    for samples in args.samples:
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            found = {step: run(step, samples, Path(name), args) for step in ("build", *args.steps)}
        report("scale_store", samples=samples, shard_rows=args.shard_rows, **found)


def run(step: str, samples: int, folder: Path, args: argparse.Namespace) -> Figures:
    """One thing in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale_store", "--step", step, "--samples", str(samples)]
    command += ["--folder", str(folder), "--shard-rows", str(args.shard_rows), "--shards", str(args.shards)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, encoding="utf-8")
    figures: Figures = json.loads(done.stdout)
    return figures


def build(args: argparse.Namespace) -> Figures:
    """Commit all shards."""
    started = time.perf_counter()
    feature, n = feature_of(args), args.samples[0]
    rng = np.random.default_rng(0)
    ids = ids_of(n)
    for index, start in enumerate(range(0, n, args.shard_rows)):
        part = ids[start : start + args.shard_rows]
        digests = [digest_of(number if number % 100 else number // 2 + 1) for number in range(start, start + len(part))]
        rows = Rows(
            ids=part,
            image_digests=digests,
            blocks={"b": rng.standard_normal((len(part), WIDTH), dtype=np.float32)},
        )
        feature.commit(rows, index=index, generation=0)
    return {"seconds": round(time.perf_counter() - started, 1), "shards": len(feature.shard_paths())}


def index(args: argparse.Namespace) -> Figures:
    """Find every sample's row."""
    feature, ids = feature_of(args), ids_of(args.samples[0])
    return measured(lambda: {"rows": int((feature.index().rows_of(ids) >= 0).sum())})


def part(args: argparse.Namespace) -> Figures:
    """Find a thousandth of the samples' rows, and rows that were made from as many pictures."""
    feature, n = feature_of(args), args.samples[0]
    own = [f"sample_{i:08d}" for i in range(0, n, 1000)]

    def start() -> Figures:
        stored = StoredRows(feature, only=own)
        found = stored.before.rows_made_from([digest_of(number) for number in range(1, n, 1000)])
        return {"rows": int((stored.before.rows_of(own) >= 0).sum()), "pictures": len(found)}

    return measured(start)


def leaks(args: argparse.Namespace) -> Figures:
    """Find pictures that stand in two splits."""
    store, n = Store(args.folder / "store"), min(args.samples[0], MOST_IN_VIEW)
    store.use_manifest("d", manifest_of(n, args.folder))
    store.manifest("d")
    return measured(lambda: {"pairs": len(store.shared_pictures("f", dataset="d", splits=("train", "test")))})


def view(args: argparse.Namespace) -> Figures:
    """Load rows."""
    feature, n = feature_of(args), min(args.samples[0], MOST_IN_VIEW)
    manifest = manifest_of(args.samples[0], args.folder, n)
    request = Request(key="f", feature=feature)

    def load() -> Figures:
        found = build_view(manifest, [request], drop_missing=False, mapped=False, verify=True, where="d")
        return {"rows_mb": round(sum(block.nbytes for block in found.blocks.values()) / 1e6)}

    figures = measured(load)
    return {**figures, "samples": n, "added_mb": figures["added_mb"] - figures["rows_mb"]}


def listing(args: argparse.Namespace) -> Figures:
    """Commit small shards, with a look before and after each."""
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        stored = StoredRows(feature_of(argparse.Namespace(folder=Path(name))))
        looking, started = 0.0, time.perf_counter()
        for number in range(args.shards):
            looking += seconds_to(stored.look)
            looking += seconds_to(stored.look)
            row = np.full((1, WIDTH), number, dtype=np.float32)
            rows = Rows(ids=[f"s{number}"], image_digests=[digest_of(number)], blocks={"b": row})
            stored.commit(rows, number=number, generation=0)
        taken = time.perf_counter() - started
    return {
        "shards": args.shards,
        "looking_ms_a_shard": round(1e3 * looking / args.shards, 3),
        "seconds": round(taken, 1),
    }


def renamed(args: argparse.Namespace) -> Figures:
    """Take rows over by their pictures, in random order, as many at a time as a shard has."""
    feature = feature_of(args)
    n = min(args.samples[0], 200_000)
    stored = StoredRows(feature)
    by_picture = stored.before.rows_made_from([digest_of(number) for number in range(1, n, 2)])
    digests = list(by_picture)
    np.random.default_rng(0).shuffle(digests)
    read = 0
    real = shard_module._fill

    def counted(file: Any, out: memoryview, *where: Any) -> None:
        nonlocal read
        read += len(out)
        real(file, out, *where)

    shard_module._fill = counted
    started = time.perf_counter()
    rows = 0
    for first in range(0, len(digests), args.shard_rows):
        rows += len(stored.of_pictures(digests[first : first + args.shard_rows], by_picture))
    seconds = time.perf_counter() - started
    return {"rows": rows, "seconds": round(seconds, 2), "bytes_read_a_byte": round(read / (rows * WIDTH * 4), 2)}


STEPS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "build": build,
    "index": index,
    "part": part,
    "leaks": leaks,
    "view": view,
    "listing": listing,
    "renamed": renamed,
}


def measured(run: Callable[[], Figures]) -> Figures:
    """Seconds of it, and the peak of resident memory over what was resident before."""
    before = resident_bytes()
    started, computed = time.perf_counter(), time.process_time()
    figures = run()
    seconds, cpu = time.perf_counter() - started, time.process_time() - computed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": round(seconds, 2), "cpu_s": round(cpu, 2), "added_mb": round((peak - before) / 1e6), **figures}


def resident_bytes() -> int:
    """Resident memory now; the peak of before, which `measured` must not count, is reset where Linux lets us."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def seconds_to(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def feature_of(args: argparse.Namespace) -> Feature:
    """The feature of the store in the folder, made if need be."""
    spec = FeatureSpec(name="f", identity={"architecture": "random"}, blocks={"b": WIDTH})
    return Store.create(args.folder / "store").create_feature("d", spec)


def manifest_of(n: int, folder: Path, most: int | None = None) -> Manifest:
    """n samples in two splits, or so many of them from all over."""
    samples = tuple(
        Sample(sample_id=f"sample_{i:08d}", path=f"{i}.jpg", split="test" if i % 10 == 0 else "train")
        for i in range(0, n, n // (most or n))
    )
    return Manifest(samples=samples, classes=CLASSES, root=folder)


def ids_of(n: int) -> list[str]:
    """Names of n samples."""
    return [f"sample_{i:08d}" for i in range(n)]


def digest_of(number: int) -> str:
    """What stands for the sha256 of a picture: the number, mixed."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" * 4


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--shard-rows", type=int, default=2048)
    parser.add_argument("--shards", type=int, default=10_000, help="of the listing")
    steps = [step for step in STEPS if step != "build"]
    parser.add_argument("--steps", nargs="+", choices=steps, default=steps, metavar="STEP", help=" ".join(steps))
    parser.add_argument("--folder", type=Path, help="where the stores go while measuring; default: a temporary folder")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
