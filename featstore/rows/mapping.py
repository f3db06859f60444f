"""Mapping files into memory, as many as there are shards."""

from __future__ import annotations

import errno
import logging
import mmap
import os
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cer_fusion.featstore.errors import FeatstoreError

log = logging.getLogger(__name__)
_NO_FD = {"trackfd": False} if sys.version_info >= (3, 13) else {}  # before 3.13 every map keeps a file open


def map_file(path: Path) -> npt.NDArray[np.uint8]:
    """Map a whole file read-only, as bytes; it stays mapped while an array of it is alive.

    Raises
    ------
    FeatstoreError
        If the process may not open so many files; the message says what helps.
    """
    try:
        return _mapped(path)
    except OSError as error:
        if error.errno != errno.EMFILE or not _raise_open_files():
            raise
    try:
        return _mapped(path)
    except OSError as error:
        raise FeatstoreError(
            f"cannot map {path.name}: too many open files\n"
            f"  every mapped shard keeps one open: raise the limit (ulimit -n), load the view instead of mapping it, "
            f"or make fewer, larger shards with: cer-feat compact"
        ) from error


def _mapped(path: Path) -> npt.NDArray[np.uint8]:
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        if not os.fstat(fd).st_size:
            return np.empty(0, dtype=np.uint8)
        return np.frombuffer(mmap.mmap(fd, 0, access=mmap.ACCESS_READ, **_NO_FD), dtype=np.uint8)
    finally:
        os.close(fd)


def _raise_open_files() -> bool:
    """Lift the soft limit on open files to the hard one, as many programs do at their start; True if that helps."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return False
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log.info("limit on open files raised from %d to %d, to map all shards", soft, hard)
    return True
