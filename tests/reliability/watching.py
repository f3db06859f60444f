"""Noticing that code from a file is run, whether or not it leaves a trace on the disk."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

SUSPICIOUS = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.spawn", "os.posix_spawn", "os.mkdir", "os.remove", "os.rename",
    "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.putenv", "os.kill", "shutil.rmtree", "subprocess.Popen",
    "socket.connect", "ctypes.dlopen", "webbrowser.open", "builtins.input", "pty.spawn",
)  # fmt: skip
"""Events of Python's audit hooks (the library reference, "Audit events table") that reading a file never causes."""

_watching: list[Watch] = []


class Watch:
    """Notes what happens within its `with` block: suspicious events, and pickles that look up a name."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __enter__(self) -> Self:
        if not _hooked:
            sys.addaudithook(_note)  # there is no way to take it off again
            _hooked.append(True)
        _watching.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _watching.remove(self)


_hooked: list[bool] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and (event in SUSPICIOUS or event == "pickle.find_class"):
        _watching[-1].seen.append(f"{event}{arguments!r:.100}")
