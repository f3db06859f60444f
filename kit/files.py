"""Whole files and whole folders: written aside, synced, given their name in one step; readers see the old or the new.

The store has file operations of its own (`featstore`), since a shard's name is never written twice; this is for results
that a user names.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cer_fusion.kit.errors import OutputExistsError, WriteError

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.ENOTSUP}
_HERE, _EXCHANGE = -100, 2
"""`AT_FDCWD` and `RENAME_EXCHANGE` of Linux (renameat2(2))."""
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.EACCES if os.name == "nt" else errno.EEXIST}
_ATTEMPTS = 5


def write_whole(path: Path, data: bytes, *, overwrite: bool = True) -> Path:
    """Write bytes whole or not at all; see `whole_file`."""
    path = Path(path)
    with whole_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)
    return path


@contextmanager
def whole_file(path: Path, *, overwrite: bool = True, needed: int = 0) -> Iterator[Path]:
    """Give an empty temporary neighbour of ``path`` to write to; sync it and give it its name when the block ends well.

    Parent folders are made. An existing file keeps its bytes until the very last step; without `overwrite` it keeps
    them for good. The file gets the permissions that any new file gets here, whatever wrote it.

    Parameters
    ----------
    path : path
    overwrite : bool
        Replace a file of that name, in one step at the very end.
    needed : int
        Bytes that will be written at least, to refuse a disk without room at once.

    Raises
    ------
    OutputExistsError
        Without `overwrite`, if the name is taken, however late that came about.
    WriteError
        If there is no room.
    OSError
        If the file system refuses; no temporary file stays behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    check_room(path.parent, needed)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        _sync(temporary)
        if overwrite:
            os.replace(temporary, path)
        else:
            _name_new(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def check_room(folder: Path, needed: int) -> None:
    """Refuse to begin what cannot fit.

    Raises
    ------
    WriteError
        Naming what is needed and what is free, in bytes.
    """
    free = shutil.disk_usage(folder).free if needed else needed
    if needed > free:
        raise WriteError(
            f"no room for what is to be written: it takes at least {needed:,} bytes, {free:,} are free\n"
            f"  in folder: {folder}\n"
            "  nothing was written; make room, or name another disk"
        )


def taken(path: Path) -> OutputExistsError:
    """Return the error for a place that is taken, perhaps since its result was begun."""
    return OutputExistsError(
        f"{path} is there already, and is left as it is\n  name another place, or replace it with --overwrite"
    )


def write_synced(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet, and wait until its bytes are on the disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the platform can do that."""
    if os.name == "posix":
        _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _name_new(temporary: Path, path: Path) -> None:
    """Give a finished file its name unless the name is taken; the hard link is what makes sure."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise taken(path) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):  # exFAT and some FUSE mounts have no links: look, then rename
            raise taken(path) from None
        os.rename(temporary, path)


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
