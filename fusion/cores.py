"""How many cores this process may use: those that it is bound to, and the share that its control group allows."""

from __future__ import annotations

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


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
