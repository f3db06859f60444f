"""A store that is larger than memory, from pictures to heads, each step in a process of its own under a limit.

1,000,000 x 2304 float16 rows (4.6 GB) and 2 GB by default. A million tiny files stand for the pictures, and an embedder
that draws a row from each stands for a backbone (`synthetic.NumberEmbedder`); all else is what users run: `extract`,
`verify`, a mapped view, and `linear` and `mlp` on rows that stay on the disk. One row in twenty is held out.

- `anonymous` is the private memory of a step, which is what a limit is about.
- `charged` is all that the limit counts, the page cache too: with files larger than the limit it reaches the limit.

Prints a table and one JSON line. It takes a while, and twice the store's size on the disk, since a file takes a page.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.memory_limit import Outcome, run_limited
from benchmarks.synthetic import CLASSES, NumberEmbedder, class_of
from benchmarks.timing import report
from cer_fusion.featstore import Manifest, Sample, Store, extract, verify

HELD_OUT = 20
"""One sample in so many is for testing."""
Figures = dict[str, Any]


def main() -> None:
    """Run the steps one after the other and print what they took."""
    args = options()
    if args.step:
        print(json.dumps(STEPS[args.step](args), default=float))
        return
    limit = int(args.limit_gb * 1e9)
    found: dict[str, Figures] = {}
    with working_folder(args) as folder:
        common = ("--rows", args.rows, "--width", args.width, "--iterations", args.iterations, "--folder", folder)
        for step in args.steps:
            command = [sys.executable, "-m", "benchmarks.bounded_memory", "--step", step, *map(str, common)]
            outcome = run_limited(command, limit)
            found[step] = figures_of(outcome)
            print(f"{step}: {found[step]}", file=sys.stderr)
            if outcome.returncode:
                print(outcome.errors[-2000:], file=sys.stderr)
                break
    print_table(found)
    limited_by = sorted({step.pop("limited_by") for step in found.values()})
    report(
        "bounded_memory",
        rows=args.rows,
        width=args.width,
        dtype="float16",
        limit_mb=limit / 1e6,
        limited_by=limited_by,
        steps=found,
    )
    if any("failed" in step for step in found.values()):
        raise SystemExit(1)


def pictures(args: argparse.Namespace) -> Figures:
    """Write the files that stand for pictures, a thousand a folder."""
    for number in range(args.rows):
        path = args.folder / "pictures" / path_of(number)
        if number % 1000 == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    return {}


def build(args: argparse.Namespace) -> Figures:
    """Extract them all, as `cer-feat extract --dtype float16` does."""
    samples = tuple(
        Sample(
            sample_id=f"sample_{number:07d}",
            path=path_of(number),
            label=CLASSES.labels[class_of(number)],
            split="train" if number % HELD_OUT else "test",
        )
        for number in range(args.rows)
    )
    manifest = Manifest(samples=samples, classes=CLASSES, root=args.folder / "pictures")
    store = Store.create(args.folder / "store")
    done = extract(
        NumberEmbedder(args.width), manifest, store, dataset="d", batch_size=128, shard_rows=8192, dtype="float16"
    )
    return {"embedded": done.embedded, "rows_per_s": round(done.embedded / done.elapsed_s)}


def check(args: argparse.Namespace) -> Figures:
    """Look at every byte, as `cer-feat verify` does."""
    found = verify(Store(args.folder / "store"))
    if found.problems or found.rows != args.rows:
        raise SystemExit(f"verify found {found.rows} rows and {len(found.problems)} problems: {found.problems[:3]}")
    return {"shards": found.shards, "store_mb": round(found.nbytes / 1e6)}


def look(args: argparse.Namespace) -> Figures:
    """Open a mapped view, and compare random rows with what the embedder gives."""
    started = time.monotonic()
    view = Store(args.folder / "store").view(["numbers"], mapped=True)
    opened_s = time.monotonic() - started
    block = view.blocks["numbers"]
    embedder = NumberEmbedder(args.width)
    touched = np.random.default_rng(0).integers(args.rows, size=1000)
    for at in touched.tolist():
        number = int(view.ids[at].partition("_")[2])
        expected = embedder.decode(b"%d" % number).astype(np.float16)
        if not np.array_equal(block[at], expected) or view.y[at] != class_of(number):
            raise SystemExit(f"row {at} is not that of {view.ids[at]}")
    return {"opened_s": round(opened_s, 2), "random_rows": len(touched)}


def linear(args: argparse.Namespace) -> Figures:
    """A few iterations of L-BFGS, each of them at least one pass over the rows."""
    return learn(args, "linear", max_iter=args.iterations)


def mlp(args: argparse.Namespace) -> Figures:
    """One epoch with the defaults of the head."""
    return learn(args, "mlp", epochs=1)


STEPS: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "pictures": pictures,
    "extract": build,
    "verify": check,
    "view": look,
    "linear": linear,
    "mlp": mlp,
}


def learn(args: argparse.Namespace, name: str, **settings: Any) -> Figures:
    """Fit a head on mapped rows, and its accuracy on those held out."""
    from cer_fusion.fusion import Rows, make_head

    store = Store(args.folder / "store")
    train, test = (Rows.of(store.view(["numbers"], split=s, mapped=True), load=False) for s in ("train", "test"))
    started = time.monotonic()
    head = make_head(name, blocks=train.widths, **settings).fit(train.x(), train.y)
    fitted_s = time.monotonic() - started
    accuracy = float(np.mean(head.predict(test.x()) == test.y))
    return {
        **settings,
        "rows": train.n,
        "fit_s": round(fitted_s, 1),
        "held_out": test.n,
        "accuracy": round(accuracy, 4),
        "chance": round(float(test.supports.max() / test.n), 4),
    }


def path_of(number: int) -> str:
    """Where the picture of a number lies."""
    return f"{number // 1000:05d}/{number % 1000:03d}.txt"


def figures_of(outcome: Outcome) -> Figures:
    """What a step took and said, for the record."""
    sizes = {"anonymous_mb": outcome.anonymous, "resident_mb": outcome.resident, "charged_mb": outcome.charged}
    figures: Figures = {"seconds": round(outcome.elapsed_s, 1), "limited_by": outcome.limited_by}
    figures |= {name: round(size / 1e6) for name, size in sizes.items() if size is not None}
    if outcome.returncode:
        said = (
            "killed, as for too much memory" if outcome.returncode == -9 else outcome.errors.strip().rpartition("\n")[2]
        )
        return {**figures, "failed": said or f"exit code {outcome.returncode}"}
    return {**figures, **json.loads(outcome.output.splitlines()[-1])}


def print_table(found: dict[str, Figures]) -> None:
    """The figures as a Markdown table."""
    print("| step | seconds | private MB | charged MB | |")
    print("|---|---:|---:|---:|---|")
    usual = ("seconds", "limited_by", "anonymous_mb", "resident_mb", "charged_mb")
    for step, figures in found.items():
        rest = ", ".join(f"{name} {value}" for name, value in figures.items() if name not in usual)
        charged = figures.get("charged_mb", "–")
        print(f"| {step} | {figures['seconds']} | {figures['anonymous_mb']} | {charged} | {rest} |")


@contextlib.contextmanager
def working_folder(args: argparse.Namespace) -> Iterator[Path]:
    """Where pictures and store go; removed in the end unless it is to be kept."""
    if args.folder is None:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
        return
    folder = args.folder / f"bounded-memory-{args.rows}x{args.width}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        if not args.keep:
            shutil.rmtree(folder)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=2304)
    parser.add_argument("--limit-gb", type=float, default=2.0, help="of 1e9 bytes")
    parser.add_argument("--iterations", type=int, default=5, help="of the linear head")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP", help=" ".join(STEPS))
    parser.add_argument("--folder", type=Path, help="where pictures and store go; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="leave them in --folder, for other --steps later")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.keep and args.folder is None:
        parser.error("--keep needs a --folder to keep things in")
    return args


if __name__ == "__main__":
    main()
