"""What this process may use of the machine: cores and memory, and how its threads wait and how many they are.

Unless told otherwise, a thread of OpenMP that waits for another spins for milliseconds. On idle cores that costs
nothing; beside other work it burns the time that the other thread needs, and a fit takes several times as long. So the
commands let threads spin for a short while only, which still bridges most gaps of a busy program; not at all would make
ResNet-50 slower on idle cores (`benchmarks/contention.py`).
The libraries read these variables once, when they are loaded: `choose` sets them before anything else is imported, and
the processes that a command starts inherit them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

CGROUPS = Path("/sys/fs/cgroup")

WAITING: Final = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1"}
"""Turns that libgomp spins (a turn is about 50 ns) and milliseconds that LLVM's and Intel's OpenMP spin before a thread
sleeps. Theirs are 300,000 and 200."""

RULES_ALL: Final = "OMP_WAIT_POLICY"
"""Says it for every OpenMP, and would be overruled by the two above."""

NUMBER: Final = "OMP_NUM_THREADS"
"""Threads of every OpenMP, and of OpenBLAS and MKL too."""

chosen: dict[str, str] = {}
"""What `choose` has set in this process: all else in the environment is the user's own."""

came_late: list[str] = []
"""OpenMP libraries that had been loaded before `choose` was called, which know nothing of what it chose."""


def choose(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set how threads wait, and how many there are where a control group allows less than the libraries would take.

    What the user has set stays as it is. Call it before anything that loads OpenMP is imported.
    """
    if chosen:
        return
    wanted = {} if environment.get(RULES_ALL) else dict(WAITING)
    if environment.get("KMP_LIBRARY"):
        wanted.pop("KMP_BLOCKTIME", None)
    if (allowed := _fewer_than_seen()) is not None:
        wanted[NUMBER] = str(allowed)
    chosen.update({name: value for name, value in wanted.items() if not environment.get(name)})
    environment.update(chosen)
    if chosen:
        came_late.extend(loaded())


def settings() -> dict[str, str]:
    """Return the variables in force that say how threads wait: the user's, or what `choose` has set."""
    return {name: os.environ[name] for name in (RULES_ALL, *WAITING) if os.environ.get(name)}


def late_text() -> str:
    """Say which libraries `choose` came too late for, and what to do."""
    return (
        f"{', '.join(came_late)} had been loaded before this command could say how threads wait, and spins as it "
        f"likes; set {advice()} before Python starts"
    )


def advice() -> str:
    """The settings to make in programs of one's own."""
    return " ".join(f"{name}={value}" for name, value in WAITING.items())


def loaded() -> list[str]:
    """Return the names of the OpenMP libraries in this process; where it does not list them, of what brings one."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [name for name in ("torch", "sklearn", "xgboost", "lightgbm") if name in sys.modules]
    return sorted(set(re.findall(r"/(lib(?:gomp|omp|iomp5)[-.][^/\n]*)$", lines, flags=re.MULTILINE)))


def _fewer_than_seen() -> int | None:
    """Threads for the share that a control group allows, where libraries would take more: they see whole cores only."""
    allowed = whole_cores()
    return allowed if allowed < bound_cores() else None


def thread_pools() -> ThreadpoolController:
    """Return the thread pools of BLAS and OpenMP in this process; their sizes are read and set anew by each use.

    Looking through the process's libraries takes as long as a small fit, so it is done again only when something has
    been imported since.
    """
    from threadpoolctl import ThreadpoolController

    count = len(sys.modules)
    if _seen.get("modules") != count:
        _seen.update(modules=count, pools=ThreadpoolController())
    found: ThreadpoolController = _seen["pools"]
    return found


_seen: dict[str, Any] = {}
"""How many modules there were when the pools were looked for, and what was found."""


def memory_total() -> int | None:
    """Bytes of memory that the machine has; None where it does not say."""
    return _meminfo("MemTotal:")


def memory_limit() -> int | None:
    """Bytes that the control groups allow; None for no limit."""
    found = [number_of(folder / "memory.max") for folder in control_groups("")]
    found += [number_of(folder / "memory.limit_in_bytes") for folder in control_groups("memory")]
    total = memory_total()
    return min((limit for limit in found if limit and (total is None or limit < total)), default=None)


def memory_available() -> int | None:
    """Bytes that can be had without pushing anything out; None where the system does not say."""
    found = [_meminfo("MemAvailable:")]
    for folder in control_groups(""):
        found.append(_room(folder, "memory.max", "memory.current", "inactive_file"))
    for folder in control_groups("memory"):
        found.append(_room(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
    return min((room for room in found if room is not None), default=None)


def _room(folder: Path, limit_name: str, used_name: str, cache_name: str) -> int | None:
    """What a control group leaves: its limit less what is used, but for file cache that goes when asked."""
    limit, used = number_of(folder / limit_name), number_of(folder / used_name)
    if limit is None or used is None:
        return None
    cache = dict(line.split(" ", 1) for line in text_of(folder / "memory.stat").splitlines() if " " in line)
    return max(0, limit - used + int(cache.get(cache_name, 0)))


def _meminfo(key: str) -> int | None:
    for line in text_of(Path("/proc/meminfo")).splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return None


def cores() -> float:
    """Cores that this process may use; a fraction where its control group allows a share."""
    usable = bound_cores()
    return min(usable, cpu_quota() or usable)


def whole_cores() -> int:
    """Threads that find a core each: `cores()` rounded down, at least one."""
    return max(1, int(cores()))


def bound_cores() -> int:
    """Cores that the scheduler gives this process, whatever share of their time its control group allows."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota() -> float | None:
    """Cores that the control groups allow; None for no limit."""
    found = []
    for folder in control_groups(""):
        quota, _, period = text_of(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            found.append(int(quota) / int(period))
    for folder in control_groups("cpu"):
        allowed, each = number_of(folder / "cpu.cfs_quota_us"), number_of(folder / "cpu.cfs_period_us")
        if allowed and each:
            found.append(allowed / each)
    return min(found, default=None)


def control_groups(controller: str) -> list[Path]:
    """Folders of this process's control group and those above it; "" is version 2, else a controller's hierarchy."""
    for line in text_of(Path("/proc/self/cgroup")).splitlines():
        number, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if (controller and controller in controllers.split(",")) or (not controller and number == "0"):
            root = CGROUPS / controller
            own = root / path.lstrip("/")
            return [folder for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return []


def number_of(path: Path) -> int | None:
    """The number in a file; None where it holds none."""
    text = text_of(path)
    return int(text) if text.isdigit() else None


def text_of(path: Path) -> str:
    """The text of a file; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
