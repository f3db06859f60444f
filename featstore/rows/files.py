"""Every file operation of the store, in one place.

Nothing else in this package writes to the disk, and everything here goes through `os`, so that a test can make any call
fail or lose what was not synced, and so that the two rules hold everywhere: a file appears under its name only when all
of its bytes are on the disk, and a name that exists is never written again (`commit`) or is swapped in one step
(`replace`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cer_fusion.featstore.errors import CommitError, OutputExistsError

_TEMPORARY = ".tmp-"
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.ENOTSUP}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP}
_PATIENCE_S = 10.0
_ADVICE = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "the limit is your quota, not the disk: make room in it",
    errno.EFBIG: "the limit is on single files: raise it (ulimit -f) or take fewer rows a shard (--shard-rows)",
    errno.EIO: "the disk itself reports an error: look at the system's log, and at its cables or its server",
    errno.ENOTEMPTY: "somebody has put a file there since it was looked at",
    errno.EROFS: "the place is read-only: mount it for writing or name another place",
    errno.EACCES: "mend the permissions of the folder or name another place",
    errno.EPERM: "mend the permissions of the folder or name another place",
}


def commit(path: Path, data: bytes) -> bool:
    """Write `data` under a name that holds its digest and must not exist yet; the hard link is the commit.

    Returns
    -------
    bool
        False if the name exists already: another writer committed the same bytes first, since names hold digests.

    Raises
    ------
    CommitError
        If the file system refuses; no temporary file stays behind.
    """
    with _reporting("write", path, len(data)):
        with _temporary(path) as temporary:
            _write_synced(temporary, data)
            way = _link(temporary, path)
        _sync_names(path.parent)  # also when another was first: its name may not be durable yet, and ours is promised
    return bool(way)


def replace(path: Path, data: bytes) -> None:
    """Put `data` under `path` in one step, whether or not the name exists."""
    with _reporting("write", path, len(data)):
        with _temporary(path) as temporary:
            _write_synced(temporary, data)
            os.replace(temporary, path)
        _sync_names(path.parent)


def write_output(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write a file that a user named: under a new name (`commit`), or in an older one's place (`replace`).

    Raises
    ------
    OutputExistsError
        Without `overwrite`, if the name is taken, however late that came about.
    """
    if overwrite:
        replace(path, data)
    elif not commit(path, data):
        raise taken(path)


def taken(path: Path) -> OutputExistsError:
    """The error for a place that is taken, perhaps since its result was begun."""
    return OutputExistsError(
        f"{path} is there already, and is left as it is\n  name another place, or replace it with --overwrite"
    )


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let one process at a time do this in a folder, where the file system has such locks; a killed one holds none.

    Who has waited for `_PATIENCE_S` goes on: one that was stopped in there must not stop all others.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with _reporting("lock", folder / "manifest.csv"):
        fd = os.open(folder, os.O_RDONLY)
    try:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:  # some network mounts have no locks for folders
                break
        yield
    finally:
        with contextlib.suppress(OSError):  # the lock ends with the descriptor, and nothing was written
            os.close(fd)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, each name durable before anything is put inside.

    The nearest folder that is there already is made durable too: a run that was killed may have just made it.
    """
    with _reporting("make", path):
        chain = [path, *path.parents]
        there = next((i for i, folder in enumerate(chain) if os.path.isdir(folder)), len(chain) - 1)
        with contextlib.suppress(PermissionError):  # a folder that we may not open is not one that we made
            _sync_names(chain[there].parent)
        for folder in reversed(chain[:there]):
            try:
                os.mkdir(folder)
            except FileExistsError:
                if not os.path.isdir(folder):
                    raise
            _sync_names(folder.parent)


def set_aside(path: Path) -> Path | None:
    """Rename a damaged file so that it is out of the way but not lost; None if it is gone already."""
    aside = path.with_name(f"damaged-{path.name}")
    with _reporting("rename", path):
        try:
            os.replace(path, aside)
        except FileNotFoundError:
            return None
        _sync_names(path.parent)
    return aside


def remove(path: Path) -> None:
    """Remove a file for good; one that is gone already is no error."""
    with _reporting("remove", path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        _sync_names(path.parent)


def remove_folder(path: Path) -> None:
    """Remove an empty folder; one that is gone already is no error, one that is not empty is."""
    with _reporting("remove", path):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(path)
        _sync_names(path.parent)


def remove_temporaries(folder: Path, older_than_s: float) -> list[Path]:
    """Remove what killed writers left; young files are spared, since their writer may be alive."""
    removed: list[Path] = []
    found = sorted(path for path in folder.iterdir() if is_temporary(path.name))
    with _reporting("clean up", folder / _TEMPORARY):
        now = now_on(folder) if found else 0.0
        for path in found:
            with contextlib.suppress(FileNotFoundError):
                if now - os.stat(path).st_mtime >= older_than_s:
                    os.unlink(path)
                    removed.append(path)
    return removed


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How a file system does what a store relies on."""

    way: str
    """How a file gets its name: by a `link`, or where there are none by a `rename`."""
    is_exclusive: bool
    """Committing under a name that exists changes nothing."""
    replaces: bool
    """Replacing puts the new bytes in place."""
    syncs_folders: bool
    """Names in a folder can be made durable."""


def try_out(folder: Path) -> Trial:
    """Commit and replace files in a folder, which the caller removes, and look what came of it.

    Raises
    ------
    CommitError
        If the file system refuses; the message says what.
    """
    path = folder / "tried"
    was_new, was_new_again = commit(path, b"first"), commit(path, b"second")
    with _reporting("read", path):
        kept = path.read_bytes()
    replace(path, b"third")
    with _reporting("link", path), _temporary(path) as temporary:
        _write_synced(temporary, b"")
        way = _link(temporary, folder / "named")
        return Trial(
            way=way,
            is_exclusive=was_new and not was_new_again and kept == b"first",
            replaces=path.read_bytes() == b"third",
            syncs_folders=_sync_names(folder),
        )


def is_temporary(name: str) -> bool:
    """True for the name of a file in the making: no reader looks at it, and it does not make a folder somebody's."""
    return name.startswith(_TEMPORARY)


def state(*paths: Path) -> tuple[object, ...]:
    """Something that changes when any of these files does; to know whether what was read from them still holds."""
    found: list[object] = []
    for path in paths:
        try:
            stat = path.stat()
            found.append((path.name, stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except FileNotFoundError:
            found.append(path.name)
    return tuple(found)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, whoever put them there; a killed writer may not have come to that."""
    with _reporting("sync", folder):
        _sync_names(folder)


def _link(temporary: Path, path: Path) -> str:
    """Give a finished file its name, by a link or a rename; empty if the name is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return ""
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # exFAT and some FUSE mounts have no links. Writing under the final name would show half a file to readers and
        # leave it after a kill; a rename does not, and of two writers at once the second puts equal bytes in place.
        if os.path.lexists(path):
            return ""
        os.replace(temporary, path)
        return "rename"
    return "link"


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file in the making; a file that still bears it at the end is removed."""
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
    try:
        yield temporary
    finally:
        _unlink_quietly(temporary)


def _sync_names(folder: Path) -> bool:
    """Sync a folder, where the platform and the file system can do that at all; False where they cannot."""
    if os.name == "nt":  # Windows has no fsync for folders
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


def _write_synced(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _unlink_quietly(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def now_on(folder: Path) -> float:
    """The file system's own clock, which on a network mount need not be ours."""
    with _temporary(folder / "clock") as probe:
        _write_synced(probe, b"")
        return os.stat(probe).st_mtime


@contextlib.contextmanager
def _reporting(verb: str, path: Path, size: int | None = None) -> Iterator[None]:
    """Turn what the file system refuses into an error that says where, how much was needed, and what to do."""
    try:
        yield
    except OSError as error:
        where = next((p for p in (path.parent, *path.parent.parents) if os.path.isdir(p)), Path())
        free = "unknown"
        with contextlib.suppress(OSError):
            free = f"{shutil.disk_usage(where).free:,} bytes"
        needed = f"needed: {size:,} bytes, " if size is not None else ""
        advice = _ADVICE.get(error.errno or 0, "make room or mend the permissions")
        raise CommitError(
            f"could not {verb} {path.name}: {error.strerror or error}\n"
            f"  in folder: {path.parent}\n"
            f"  {needed}free: {free}\n"
            f"  {advice}; then run the same command again, nothing written before is lost"
        ) from error
