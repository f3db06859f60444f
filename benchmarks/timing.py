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
            taken[name].append(seconds_of(run))
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def seconds_of(run: Callable[[], Any]) -> float:
    """Seconds of one run."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def report(name: str, **figures: Any) -> None:
    """Print one JSON line, with the load of the machine beside it: a busy one makes poor figures."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    print(json.dumps({"benchmark": name, **figures, "load": load, "machine": machine()}, default=float))


def machine() -> str:
    """Cores, processor and Python, for the record."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} cores, {platform.machine()}, Python {platform.python_version()}"
