"""Small file systems of their own, to be filled up or made read-only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotMountError(Exception):
    """This machine, or this user, cannot mount a file system in memory."""


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A file system in memory at `folder` while the block runs, as large as `size` (`3m`).

    Raises
    ------
    CannotMountError
        With the reason, for the test to skip with.
    """
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # rows of it may still be mapped


def make_read_only(folder: Path) -> None:
    """Refuse all writes to a mounted file system from now on."""
    _run("mount", "-o", "remount,ro", str(folder))


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise CannotMountError(f"there is no {command[0]} here") from None
    except subprocess.CalledProcessError as error:
        raise CannotMountError(f"{' '.join(command)}: {error.stderr.strip()}") from None
