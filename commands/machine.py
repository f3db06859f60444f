"""What this process may use of the machine: memory and cores, with the limits of its control group."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def cores() -> float:
    """Cores that this process may use; a fraction where its control group allows a share."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, cpu_quota() or usable)


def cpu_quota() -> float | None:
    """Cores that the control groups allow; None for no limit."""
    found = []
    for folder in _groups(""):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            found.append(int(quota) / int(period))
    for folder in _groups("cpu"):
        allowed, each = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if allowed and each:
            found.append(allowed / each)
    return min(found, default=None)


def memory_total() -> int | None:
    """Bytes of memory that the machine has; None where it does not say."""
    return _meminfo("MemTotal:")


def memory_limit() -> int | None:
    """Bytes that the control groups allow; None for no limit."""
    found = [_number(folder / "memory.max") for folder in _groups("")]
    found += [_number(folder / "memory.limit_in_bytes") for folder in _groups("memory")]
    total = memory_total()
    return min((limit for limit in found if limit and (total is None or limit < total)), default=None)


def memory_available() -> int | None:
    """Bytes that can be had without pushing anything out; None where the system does not say."""
    found = [_meminfo("MemAvailable:")]
    for folder in _groups(""):
        found.append(_room(folder, "memory.max", "memory.current", "inactive_file"))
    for folder in _groups("memory"):
        found.append(_room(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
    return min((room for room in found if room is not None), default=None)


def _room(folder: Path, limit_name: str, used_name: str, cache_name: str) -> int | None:
    """What a control group leaves: its limit less what is used, but for file cache that goes when asked."""
    limit, used = _number(folder / limit_name), _number(folder / used_name)
    if limit is None or used is None:
        return None
    cache = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    return max(0, limit - used + int(cache.get(cache_name, 0)))


def _groups(controller: str) -> list[Path]:
    """Folders of this process's control group and those above it; "" is version 2, else a controller's hierarchy."""
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        number, controllers, path = ([*line.split(":", 2), "", ""])[:3]
        if (controller and controller in controllers.split(",")) or (not controller and number == "0"):
            root = _CGROUPS / controller
            own = root / path.lstrip("/")
            return [folder for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return []


def _meminfo(key: str) -> int | None:
    for line in _text(Path("/proc/meminfo")).splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
