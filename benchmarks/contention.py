"""What the commands do on a machine with other work on it: five jobs beside 0, 1 and 2 processes of one busy thread.

Each job is measured as the commands run it now, and as they ran it before: threads waited for each other by spinning
for milliseconds, and `histgb` took every core. Both stand ready in processes of their own, so that what they chose
before OpenMP was loaded counts, and take turns beside the same competitors. Limits on two cores: 1.7 times its own time
alone beside one competitor, 2.2 beside two (a fair share would be 1.5 and 2), and 1.03 times the time before when
alone.

    python -m benchmarks.contention [--runs 5] [--jobs mlp histgb] [--try "GOMP_SPINCOUNT=1000 OMP_NUM_THREADS=1"]

Prints a Markdown table and one JSON line: medians over the runs, of seconds and of ratios within a run. The load
average at the start tells whether anything else was running, which spoils the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.timing import report, seconds_of
from cer_fusion.kit.machine import whole_cores

NOW, BEFORE = "now", "before"
SPINNING = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}
"""What libgomp and LLVM's OpenMP do unless told otherwise."""

LIMITS: Mapping[int, float] = {1: 1.7, 2: 2.2}
"""Competitors to times the seconds alone, on two cores."""
LIMIT_ALONE = 1.03
"""Times the seconds before."""

PICTURES, SMALL_ROWS, EPOCHS, TREES, STEP, FOLDS = 24, 196, 4, 120, "0.25", 2

BUSY = """
import os
parent = os.getppid()
os.write(1, b".")
while os.getppid() == parent:
    for _ in range(10**6):
        pass
"""
"""A competitor, which ends when what it competes with is gone."""

Seconds = dict[str, dict[int, list[float]]]


def resnet50(way: str) -> Callable[[], Any]:
    """`extract` with ResNet-50: read, decode, embed and write some pictures into a new store."""
    from cer_fusion.backbones import create
    from cer_fusion.demofaces import write_dataset
    from cer_fusion.featstore import Store, extract
    from cer_fusion.featstore.manifests.adapters import build

    folder = Path(tempfile.mkdtemp(dir=os.environ["CER_CONTENTION_FOLDER"]))
    backbone = create("resnet50", weights="random")
    write_dataset(folder / "faces")
    manifest = build("rafdb-compound", folder / "faces").manifest
    manifest = manifest.keep([i < PICTURES for i in range(len(manifest))])
    if way == BEFORE:  # all threads shared every piece
        type(backbone).at_once = 1  # type: ignore[assignment,method-assign]

    def run() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            extract(backbone, manifest, Store.create(Path(name) / "store"), dataset="faces", batch_size=PICTURES)

    return run


def fit(name: str, rows: int | None = None, **settings: Any) -> Callable[[], Any]:
    """The fit of a head on compound rows, or on so many of them."""
    from benchmarks.compound_rows import compound_rows
    from cer_fusion.fusion import make_head

    train = compound_rows()[0]
    if rows is not None:
        train = train.take(list(range(0, train.n, train.n // rows))[:rows])
    x = train.x()
    return lambda: make_head(name, blocks=train.widths, **settings).fit(x, train.y)


def mlp(way: str) -> Callable[[], Any]:
    """The default head; before, all threads shared every network."""
    if way == BEFORE:
        from cer_fusion.fusion.heads import mlp as head

        head.side_by_side = lambda fit, parts, threads: [fit(part) for part in parts]  # type: ignore[assignment]
    return fit("mlp", epochs=EPOCHS)


def histgb(way: str) -> Callable[[], Any]:
    """As few rows as the demo has, where threads have little to share and much to wait for."""
    return fit("histgb", SMALL_ROWS, threads=whole_cores() if way == BEFORE else None)


def xgboost(way: str) -> Callable[[], Any]:
    """Some of the default head's trees."""
    return fit("xgboost", trees=TREES)


def sweep(way: str) -> Callable[[], Any]:
    """A simplex of block weights under linear heads, which is products of NumPy and SciPy."""
    from decimal import Decimal

    from benchmarks.compound_rows import compound_rows
    from cer_fusion.fusion import make_head
    from cer_fusion.fusion.data.blocks import Grid, simplex
    from cer_fusion.fusion.data.rows import folds_of
    from cer_fusion.fusion.sweeps.ridge import BlockBatch

    train = compound_rows()[0]
    grid = Grid(tuple(train.blocks), simplex(len(train.blocks), Decimal(STEP)))
    parts = list(folds_of(train, FOLDS, 0))

    def run() -> None:
        batch = BlockBatch(make_head("weighted"), grid, (None,), train)
        for learn, held in parts:
            batch.decide(train.take(learn), train.take(held), 0, lambda: None)

    return run


JOBS: dict[str, Callable[[str], Callable[[], Any]]] = {
    "resnet50": resnet50,
    "mlp": mlp,
    "histgb": histgb,
    "xgboost": xgboost,
    "sweep": sweep,
}


def main() -> None:
    """Measure and print; as a child, make one job ready and run it whenever asked."""
    args = options()
    if args.job:
        serve(args.job, args.way)
        return
    load = [round(one, 2) for one in os.getloadavg()]
    tried = {text: dict(pair.split("=", 1) for pair in text.split()) for text in args.tries}
    ways: dict[str, Mapping[str, str]] = {NOW: {}, BEFORE: SPINNING, **tried}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CER_CONTENTION_FOLDER"] = folder
        found = {job: measured(job, ways, args.runs, args.competitors) for job in args.jobs}
    rows = {job: summary(seconds) for job, seconds in found.items()}
    print_table(rows)
    report("contention", runs=args.runs, load_at_start=load, took_s=round(time.perf_counter() - started), jobs=rows)


def measured(job: str, ways: Mapping[str, Mapping[str, str]], runs: int, competitors: list[int]) -> Seconds:
    """Seconds of one job by way and number of competitors, a value a run."""
    found: Seconds = {way: {count: [] for count in competitors} for way in ways}
    children = {way: Child(job, way, settings) for way, settings in ways.items()}
    try:
        for child in children.values():
            child.seconds()  # what a process pays once is not asked about
        for number in range(runs):
            for count in competitors:
                order = list(children) if number % 2 == 0 else list(reversed(children))
                with busy(count):
                    for way in order:
                        found[way][count].append(children[way].seconds())
            print(f"{job}, run {number + 1} of {runs}: {found}", file=sys.stderr)
    finally:
        for child in children.values():
            child.end()
    return found


class Child:
    """A process in which one job stands ready."""

    def __init__(self, job: str, way: str, settings: Mapping[str, str]) -> None:
        own = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
        environment = {name: value for name, value in os.environ.items() if name not in own} | dict(settings)
        self.name = f"{job} ({way})"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contention", "--job", job, "--way", way],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment,
        )  # fmt: skip

    def seconds(self) -> float:
        """Run the job once."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with exit code {self.process.wait()}; what it said is above")
        return float(json.loads(line))

    def end(self) -> None:
        """Let it go."""
        self.process.kill()
        self.process.communicate()


def serve(job: str, way: str) -> None:
    """Make a job ready, and run it for every line on stdin."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    run = JOBS[job](way)
    for _ in sys.stdin:
        answers.write(json.dumps(seconds_of(run)) + "\n")
        answers.flush()


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes of one busy thread each."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for other in others:
            assert other.stdout is not None
            other.stdout.read(1)  # it has begun
        yield
    finally:
        for other in others:
            other.kill()
            other.communicate()


def summary(seconds: Seconds) -> dict[str, Any]:
    """Medians by way and competitors: seconds, times its own time alone, times the time before."""
    found: dict[str, Any] = {}
    for way, by_count in seconds.items():
        found[way] = {
            str(count): {
                "s": round(statistics.median(values), 2),
                "over_alone": middle_ratio(values, by_count.get(0)),
                "over_before": middle_ratio(values, seconds[BEFORE][count]),
            }
            for count, values in by_count.items()
        }
    return found


def middle_ratio(values: list[float], others: list[float] | None) -> float | None:
    """The median over runs of one time over another of the same run."""
    if others is None:
        return None
    return round(statistics.median(a / b for a, b in zip(values, others, strict=True)), 2)


def print_table(rows: Mapping[str, Any]) -> None:
    """The figures as a Markdown table."""
    print("| job | competitors | way | s | times alone | limit | times before |")
    print("|---|---:|---|---:|---:|---:|---:|")
    for job, ways in rows.items():
        for count in next(iter(ways.values())):
            for way, by_count in ways.items():
                one = by_count[count]
                limit = "" if way != NOW else f"{LIMITS.get(int(count), '')}"
                alone = one["over_alone"] if int(count) and one["over_alone"] is not None else ""
                before = "" if way == BEFORE else one["over_before"]
                if way == NOW and count == "0":
                    before = f"{before} (limit {LIMIT_ALONE})"
                print(f"| `{job}` | {count} | {way} | {one['s']} | {alone} | {limit} | {before} |")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), metavar="JOB", help=" ".join(JOBS))
    parser.add_argument("--competitors", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument(
        "--try", dest="tries", action="append", default=[], metavar="SETTINGS",
        help="another way: variables of the environment, 'NAME=VALUE NAME=VALUE'",
    )  # fmt: skip
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
