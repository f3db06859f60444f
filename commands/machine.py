"""What this process may use of the machine's memory, with the limits of its control group."""

from __future__ import annotations

from pathlib import Path

from cer_fusion.fusion.cores import control_groups, number_of, text_of


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
