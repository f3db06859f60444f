"""Many short-lived processes, cheaply: one small process imports what is needed and forks a child for every call."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]


class Forker:
    """Runs functions of one module in forked children; a context manager.

    Parameters
    ----------
    module : str
        Where the functions are.
    log : Path
        What the children print goes there.
    preload : str
        More modules to import before the first fork. None may start threads.
    """

    def __init__(self, module: str, log: Path, *preload: str) -> None:
        self.log = log
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, module, *preload],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def __enter__(self) -> Forker:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()

    def start(self, function: Callable[..., object], *args: object) -> int:
        """Fork a child that makes this call, and return its process id; arguments pass as JSON."""
        return self._ask({"call": function.__name__, "args": args})

    def wait(self, pid: int) -> int:
        """Exit status of a child that was started, once it has ended; minus the signal that killed it."""
        return self._ask({"wait": pid})

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Start a child and wait; fails the test if the child failed."""
        status = self.wait(self.start(function, *args))
        assert status == 0, f"{function.__name__} ended with {status}\n{self.log.read_text()[-4000:]}"

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request, default=str) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the forking process has ended\n{self.log.read_text()[-4000:]}"
        return int(answer)


def _serve(module: str) -> None:
    functions = vars(importlib.import_module(module))
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = os.fork() or _child(functions[request["call"]], request["args"])
        print(answer, flush=True)


def _child(function: Callable[..., object], args: list[Any]) -> int:
    """Make the call and end the process; never returns."""
    status = 1
    try:
        os.dup2(2, 1)  # stdout is where the parent answers
        function(*args)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # the boundary of the process: whatever it is, it goes to the log
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    for name in sys.argv[2:]:
        importlib.import_module(name)
    _serve(sys.argv[1])
