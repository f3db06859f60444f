"""Running a command under a limit on its memory, and seeing how much it took.

The limit is a memory cgroup below our own, version 1 or 2, which counts everything, the page cache of the files that
the command reads and writes as well; the kernel takes that cache back when the group is full, and kills the command
when that is not enough. Where no group can be made (no such rights, another system) it is RLIMIT_DATA, which counts
private memory only.
"""

from __future__ import annotations

import contextlib
import re
import resource
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.02
"""How often the command's memory is looked at; shorter peaks of `anonymous` may be missed."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a command; sizes in bytes."""

    returncode: int
    output: str
    errors: str
    elapsed_s: float
    limited_by: str
    """`cgroup v1`, `cgroup v2` or `RLIMIT_DATA`."""
    anonymous: int
    """Highest private memory seen: what cannot be taken back."""
    resident: int
    """Highest resident memory: the private and what it had mapped of files."""
    charged: int | None
    """Highest use of the group, page cache included; it stops at the limit by design. None without a group."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A memory cgroup of one command."""

    folder: Path
    version: int

    @property
    def peak(self) -> int:
        """Highest use since it was made, in bytes."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        with contextlib.suppress(FileNotFoundError):  # memory.peak came with Linux 5.19
            return int((self.folder / name).read_text(encoding="utf-8"))
        return 0


def run_limited(command: Sequence[str], limit: int) -> Outcome:
    """Run a command to its end with at most `limit` bytes of memory."""
    with memory_group(limit) as group:

        def enter() -> None:  # in the child, before the command starts, so that all of its memory is counted
            if group is None:
                resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
            else:
                (group.folder / "cgroup.procs").write_text("0", encoding="utf-8")

        started = time.monotonic()
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", preexec_fn=enter
        ) as process:
            anonymous = resident = 0
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    output, errors = process.communicate(timeout=SAMPLE_S)
                    break
                now, highest = _memory_of(process.pid)
                anonymous, resident = max(anonymous, now), max(resident, highest)
        return Outcome(
            returncode=process.returncode,
            output=output,
            errors=errors,
            elapsed_s=time.monotonic() - started,
            limited_by=f"cgroup v{group.version}" if group else "RLIMIT_DATA",
            anonymous=anonymous,
            resident=resident,
            charged=group.peak if group else None,
        )


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Group | None]:
    """A cgroup with this limit and no swap, removed in the end; None where none can be made."""
    group = next(filter(None, (_make(parent, version, limit) for parent, version in _parents())), None)
    try:
        yield group
    finally:
        if group:
            _remove(group.folder)


def _parents() -> Iterator[tuple[Path, int]]:
    """Folders in which a group may be made, and their version: our own group, and for version 2 the one above.

    A group of version 2 that holds processes cannot hold groups with limits, so ours becomes a sister.
    """
    mounts = [line.split() for line in _lines("/proc/mounts")]
    ours = [line.split(":", 2) for line in _lines("/proc/self/cgroup")]
    for _, folder, kind, options, *_ in mounts:
        for _, controllers, path in ours:
            own = Path(folder) / path.strip("/")
            own = own if own.is_dir() else Path(folder)
            if kind == "cgroup" and "memory" in options.split(",") and "memory" in controllers.split(","):
                yield own, 1
            elif kind == "cgroup2" and not controllers:
                yield own, 2
                if own != Path(folder):
                    yield own.parent, 2


def _make(parent: Path, version: int, limit: int) -> Group | None:
    folder = parent / f"cer-fusion-{secrets.token_hex(4)}"
    limits = ("memory.max", "memory.swap.max")
    if version == 1:
        limits = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
    try:
        folder.mkdir()
    except OSError:
        return None
    try:
        (folder / limits[0]).write_text(str(limit), encoding="utf-8")
        with contextlib.suppress(OSError):  # no swap accounting: then there is no swap to fear, or no way to stop it
            (folder / limits[1]).write_text(str(limit) if version == 1 else "0", encoding="utf-8")
    except OSError:
        _remove(folder)
        return None
    return Group(folder=folder, version=version)


def _remove(folder: Path) -> None:
    for _ in range(50):
        try:
            folder.rmdir()
        except OSError:  # the last process is still being taken down
            time.sleep(0.1)
        else:
            return


def _memory_of(pid: int) -> tuple[int, int]:
    """Private bytes now, and the most bytes that were resident; zeros where the system does not say."""
    text = "\n".join(_lines(f"/proc/{pid}/status"))
    found = {name: int(kib) * 1024 for name, kib in re.findall(r"^(RssAnon|VmHWM):\s+(\d+) kB", text, re.MULTILINE)}
    return found.get("RssAnon", 0), found.get("VmHWM", 0)


def _lines(path: str) -> list[str]:
    with contextlib.suppress(OSError), open(path, encoding="utf-8") as file:
        return file.read().splitlines()
    return []
