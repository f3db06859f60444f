"""Files that appear whole or not at all, and take no other's place unless told to.

Bytes are written to a temporary neighbour, synced, and given their name in one step: whoever looks sees the old file or
the new one, also after a kill or a power cut. All of it goes through `os`, so that a test can make any call fail.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from .errors import CerError, OutputExistsError, WriteError

_TEMPORARY = ".tmp-"
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.ENOTSUP}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP}
_ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "the limit is your quota, not the disk: make room in it",
    errno.EFBIG: "the limit is on single files: raise it (ulimit -f) or write smaller ones (of a store: --shard-rows)",
    errno.EIO: "the disk itself reports an error: look at the system's log, and at its cables or its server",
    errno.ENOTEMPTY: "somebody has put a file there since it was looked at",
    errno.EEXIST: "something else has that name: name another place",
    errno.ENOTDIR: "something on the way is no folder: name another place",
    errno.ENOENT: "nothing can be made there: name another place",
    errno.EROFS: "the place is read-only: mount it for writing or name another place",
    errno.EACCES: "mend the permissions of the folder or name another place",
    errno.EPERM: "mend the permissions of the folder or name another place",
    errno.ENAMETOOLONG: "name a shorter one",
}


def write_whole(path: Path, data: bytes, *, overwrite: bool = True) -> Path:
    """Put `data` at `path` in one step, parents made where they are missing.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OutputExistsError
        Without `overwrite`, if the name is taken, however late that came about.
    WriteError
        If the file system refuses; no temporary file stays behind, and what was there is as it was.
    """
    path = Path(path)
    _check_file_place(path, overwrite=overwrite)
    make_folder(path.parent)
    with reporting("write", path, len(data)), temporary_beside(path) as temporary:
        write_synced(temporary, data)
        _give_name(temporary, path, overwrite=overwrite)
    return path


@contextlib.contextmanager
def whole_file(path: Path, *, overwrite: bool = True, needed: int = 0) -> Iterator[Path]:
    """Give the name of an empty temporary neighbour to write to; if the block ends well it becomes `path`.

    The file gets the mode that a plain `open` would give it, whatever the writer in the block did.

    Parameters
    ----------
    path : Path
    overwrite : bool
        Replace a file of that name, in one step at the very end.
    needed : int
        Bytes that will be written at least, to refuse a disk without room at once.

    Raises
    ------
    OutputExistsError
        Without `overwrite`, if the name is taken, at the beginning or at the end.
    WriteError
        If the file system refuses, also inside the block; nothing stays behind.
    """
    path = Path(path)
    _check_file_place(path, overwrite=overwrite)
    make_folder(path.parent)
    check_room(path, needed)
    with temporary_beside(path) as temporary:
        with reporting("write", path, needed):
            write_synced(temporary, b"")
            mode = stat.S_IMODE(os.stat(temporary).st_mode)
        with reporting_block(path, temporary, needed):
            yield temporary
        with reporting("write", path, needed):
            os.chmod(temporary, mode)  # safetensors, for one, writes files that only their owner can read
            sync_file(temporary)
            _give_name(temporary, path, overwrite=overwrite)


def taken(path: Path) -> OutputExistsError:
    """Return the error for a place that is taken, perhaps since its result was begun."""
    return OutputExistsError(
        f"{path} is there already, and is left as it is\n  name another place, or replace it with --overwrite"
    )


def write_synced(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet, and wait until its bytes are on the disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """Wait until the bytes of a file are on the disk."""
    fd = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)  # one may be read-only, as its writer left it
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> bool:
    """Make the names in a folder durable; False where the platform or the file system cannot do that at all."""
    if os.name != "posix":  # Windows has no fsync for folders
        return False
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:  # some network and FUSE mounts have no such call
            raise
        return False
    finally:
        os.close(fd)
    return True


def name_new(temporary: Path, path: Path) -> bool:
    """Give a finished file a name that must be free; False if it is taken. The hard link is what makes sure."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # exFAT and some FUSE mounts have no links. Writing under the final name would show half a file to readers and
        # leave it after a kill; a look and a rename do not.
        if os.path.lexists(path):
            return False
        os.replace(temporary, path)
    return True


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Give a free name beside `path` for a file in the making; a file that still bears it at the end is removed."""
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def is_temporary(name: str) -> bool:
    """Return whether a name is that of a file in the making, which no reader looks at."""
    return name.startswith(_TEMPORARY)


def make_folder(path: Path, *, error: type[Exception] = WriteError) -> None:
    """Create a folder and its parents, each name durable before anything is put inside.

    The nearest folder that is there already is made durable too: a run that was killed may have just made it.
    """
    with reporting("make", path, error=error):
        chain = [path, *path.parents]
        there = next((i for i, folder in enumerate(chain) if os.path.isdir(folder)), len(chain) - 1)
        with contextlib.suppress(PermissionError):  # a folder that we may not open is not one that we made
            sync_folder(chain[there].parent)
        for folder in reversed(chain[:there]):
            try:
                os.mkdir(folder)
            except FileExistsError:
                if not os.path.isdir(folder):
                    raise
            sync_folder(folder.parent)


def check_room(path: Path, needed: int) -> None:
    """Refuse to begin a result that its disk has no room for.

    Parameters
    ----------
    path : Path
        Of the result; its folder is there.
    needed : int
        Bytes it takes at least.
    """
    if not needed:
        return
    with reporting("write", path, needed):
        free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise WriteError(
            f"no room for {path.name}: it takes at least {needed:,} bytes, {free:,} are free\n"
            f"  in folder: {path.parent}\n"
            f"  nothing was written; make room, or name a place on another disk"
        )


def read_plain_file(path: Path, *, most_bytes: int) -> bytes:
    """Read a plain file; a named pipe, on which an open would wait for ever, is refused, and so is one too large.

    Raises
    ------
    OSError
        As of `open`, or with the reason as its `strerror`.
    """
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file", str(path))
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(most_bytes + 1)
    finally:
        os.close(descriptor)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes:,} bytes, and none of ours is", str(path))
    return data


@contextlib.contextmanager
def reporting(verb: str, path: Path, size: int | None = None, *, error: type[Exception] = WriteError) -> Iterator[None]:
    """Turn what the file system refuses into an error that says where, how much was needed, and what to do.

    Errors that are ours already pass.
    """
    try:
        yield
    except CerError:
        raise
    except OSError as fault:
        raise error(_refusal(verb, path, size, fault)) from fault


@contextlib.contextmanager
def reporting_block(path: Path, temporary: Path, size: int) -> Iterator[None]:
    """As `reporting`, of what goes wrong in a caller's block with the result; a source that cannot be read passes."""
    try:
        yield
    except (CerError, ConnectionError, TimeoutError):
        raise
    except OSError as fault:
        about = Path(os.fsdecode(fault.filename)) if isinstance(fault.filename, (str, bytes)) else None
        if about is not None and about not in (path, temporary, *path.parents) and temporary not in about.parents:
            raise
        raise WriteError(_refusal("write", path, size, fault)) from fault


def _refusal(verb: str, path: Path, size: int | None, fault: OSError) -> str:
    free = "unknown"
    with contextlib.suppress(OSError):
        where = next((one for one in path.absolute().parents if os.path.isdir(one)), Path())
        free = f"{shutil.disk_usage(where).free:,} bytes"
    needed = f"needed: {size:,} bytes, " if size else ""
    advice = _ADVICE.get(fault.errno or 0, "make room or mend the permissions")
    return (
        f"could not {verb} {path.name or path}: {fault.strerror or fault}\n"
        f"  in folder: {path.parent}\n"
        f"  {needed}free: {free}\n"
        f"  {advice}; then run the same command again, nothing written before is lost"
    )


def _check_file_place(path: Path, *, overwrite: bool) -> None:
    if path.is_dir() and not path.is_symlink():
        raise OutputExistsError(f"{path} is a folder, and a file is to be written: name one in it")
    if not overwrite and os.path.lexists(path):
        raise taken(path)


def _give_name(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, path)
    elif not name_new(temporary, path):
        raise taken(path)
    sync_folder(path.parent)
