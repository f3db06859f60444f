"""What the benchmarks share: medians over interleaved runs, since the machine is noisy."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def interleaved(runs: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each run; one of each in turn, so that a slow moment hits all of them alike."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def report(name: str, **figures: Any) -> None:
    """Print one JSON line."""
    print(json.dumps({"benchmark": name, **figures, "machine": machine()}, default=float))


def machine() -> str:
    """Cores, processor and Python, for the record."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores, {platform.machine()}, Python {platform.python_version()}"
