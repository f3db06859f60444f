"""Extraction by `--runner local --parts 8` against `--workers 2`, the same faces, in pairs of runs. Limit: 1.05 times.

Both are the command as users run it, two processes, into a store of its own; in turn either is the first of a pair. A
process opens its encoder once, and a plan is made for each part: what eight parts cost more is what a part costs. With
`--faces 512 --shard-rows 32` each has two shards. Both must make the same shards, by their names.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import report, seconds_of
from cer_fusion.demofaces import write_dataset
from cer_fusion.featstore import Store
from cer_fusion.featstore.manifests.adapters import build

FEAT = "import sys; sys.argv[0] = 'cer-feat'; from cer_fusion.cli import feat_main; feat_main()"
WAYS = {"workers": ("--workers", "2"), "runner": ("--runner", "local", "--workers", "2", "--parts", "8")}
LIMIT = 1.05
"""Equal but for what a pair of runs on a quiet machine differs by."""


def main() -> None:
    """Measure, and print a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--faces", type=int, default=512)
    parser.add_argument("--shard-rows", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="runner") as name:
        folder = Path(name)
        write_dataset(folder / "faces")
        manifest = build("rafdb-compound", folder / "faces").manifest
        manifest.keep([i < args.faces for i in range(len(manifest))]).write(folder / "faces.csv")

        def run(way: str, number: int) -> tuple[float, float]:
            store = folder / f"{way}-{number}"
            command = [sys.executable, "-c", FEAT, "extract", "--backbone", args.backbone, "--weights", "random"]
            command += ["--data", str(folder / "faces.csv"), "--store", str(store), "--device", "cpu"]
            command += ["--shard-rows", str(args.shard_rows), *WAYS[way]]
            computed = sum(os.times()[2:4])
            seconds = seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))
            return seconds, sum(os.times()[2:4]) - computed

        found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for number in range(args.pairs):
            for way in WAYS if number % 2 else reversed(WAYS):
                found[way].append(run(way, number))
                seconds, computed = found[way][-1]
                print(f"pair {number}: {way} {seconds:.1f} s, {computed:.1f} s CPU", file=sys.stderr, flush=True)
            made = [Store(folder / f"{way}-{number}").features("faces")[0].shard_names() for way in WAYS]
            assert made[0] == made[1], "the two made different shards"
    ratios = [runner[0] / workers[0] for runner, workers in zip(found["runner"], found["workers"], strict=True)]
    report(
        "runner_parts",
        backbone=args.backbone,
        faces=args.faces,
        shards=len(made[0]),
        seconds={way: [round(seconds, 2) for seconds, _ in runs] for way, runs in found.items()},
        cpu_s={way: [round(computed, 2) for _, computed in runs] for way, runs in found.items()},
        ratios=[round(ratio, 3) for ratio in ratios],
        ratio=round(statistics.median(ratios), 3),
        limit=LIMIT,
        kept=statistics.median(ratios) <= LIMIT,
    )


if __name__ == "__main__":
    main()
