"""Running checks in a process of their own: there a crash, a hang or a flood of memory is a finding, not the end."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MIB = 2**20
HANG_S = 60
"""Seconds after which one case counts as hanging; a case takes milliseconds."""
_MOST_ADDRESSES = 24 * 2**30
"""So much address space may a check take at all, that a faulty reader cannot take the machine down with it."""


def run_apart(function: str, *args: Any, timeout_s: float = 600) -> Any:
    """Call `module:function` with JSON arguments in a fresh interpreter; its JSON result comes back.

    Raises
    ------
    AssertionError
        If the process died, was killed by a signal, or did not come to an end.
    """
    command = [sys.executable, "-W", "error", "-m", __name__, function, json.dumps(args)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{function} hangs: no end after {timeout_s} s") from None
    if done.returncode == -signal.SIGALRM:
        raise AssertionError(f"{function} hangs: one case took over {HANG_S} s\n{done.stderr[-4000:]}")
    assert done.returncode == 0, f"{function} ended with status {done.returncode}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.splitlines()[-1])


def begin_case(name: str) -> None:
    """Say what is tried, for the last words of a crash, and start the clock that ends a hang."""
    print(name, file=sys.stderr)
    signal.alarm(HANG_S)


class Memory:
    """The peak of resident memory since this was made."""

    def __init__(self) -> None:
        self._start = _status("VmRSS")
        try:
            Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is resident now
        except OSError:
            self._start = _status("VmHWM")

    def grown(self) -> int:
        """Bytes."""
        return max(0, _status("VmHWM") - self._start)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def _serve() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MOST_ADDRESSES, _MOST_ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    module, _, name = sys.argv[1].partition(":")
    result = getattr(importlib.import_module(module), name)(*json.loads(sys.argv[2]))
    signal.alarm(0)
    print(json.dumps(result))


if __name__ == "__main__":
    _serve()
