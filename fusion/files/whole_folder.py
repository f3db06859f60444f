"""Writing a whole folder or none of it."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cer_fusion.fusion.files.atomic import sync_folder, taken

_HERE, _EXCHANGE = -100, 2
"""`AT_FDCWD` and `RENAME_EXCHANGE` of Linux (renameat2(2))."""
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.EACCES if os.name == "nt" else errno.EEXIST}
_ATTEMPTS = 5


@contextmanager
def whole_folder(target: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Give an empty folder beside ``target`` to write into, and rename it into place when the block ends well.

    Parent folders are made, and an empty folder of that name may be there. When the block raises, nothing has changed.

    Parameters
    ----------
    target : path
    overwrite : bool
        Replace a folder of that name: in one step where the system can exchange two names, else in two, between which
        a kill leaves the old folder aside, where `bring_back` finds it.

    Raises
    ------
    OutputExistsError
        Without `overwrite`, if the name is taken when the folder is finished. Of several who write to one name at the
        same time one wins, and the others see this.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    built = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield built
        built.chmod(0o755)
        if overwrite:
            _put_in_place(built, target)
        else:
            _put_new(built, target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(built, ignore_errors=True)


def bring_back(target: Path) -> None:
    """Give a folder its name back if a replacement was killed between its two renames; do nothing otherwise."""
    if os.path.lexists(target):
        return
    with suppress(OSError):  # no such place, one that we may not write, or somebody else was first
        for aside in sorted(target.parent.iterdir()):
            if aside.name.startswith(_aside_of(target)) and (aside / "old").is_dir():
                (aside / "old").rename(target)
                aside.rmdir()
                return


def _put_new(built: Path, target: Path) -> None:
    """Rename to a name that is free, or that of an empty folder: a folder never takes the place of anything else."""
    try:
        os.rename(built, target)
    except OSError as error:
        if error.errno in _TAKEN and os.path.lexists(target):
            raise taken(target) from None
        raise


def _put_in_place(built: Path, target: Path) -> None:
    if target.exists() and _exchanged(built, target):
        return  # the old folder bears the name of the built one now, and goes with it
    for attempt in range(_ATTEMPTS):
        aside = Path(tempfile.mkdtemp(prefix=_aside_of(target), dir=target.parent))
        try:
            with suppress(FileNotFoundError):
                target.rename(aside / "old")
            built.rename(target)
            return
        except OSError as error:
            if error.errno not in _TAKEN or attempt == _ATTEMPTS - 1:
                raise
        finally:
            if (aside / "old").exists() and not os.path.lexists(target):
                (aside / "old").rename(target)
            shutil.rmtree(aside, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # a C library from before 2018
        return False
    return bool(call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _aside_of(target: Path) -> str:
    return f".{target.name}.old."
