"""Every file operation of the store, in one place.

Nothing else in this package writes to the disk, so that a test can make any call fail, and so that the two rules hold
everywhere: a file appears under its name only when all of its bytes are on the disk, and a name that exists is never
written again (`commit`) or is swapped in one step (`replace`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from featstore.errors import CommitError

_TEMPORARY = ".tmp-"
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.ENOTSUP}


def commit(path: Path, data: bytes) -> bool:
    """Write `data` under a name that must not exist yet; the hard link is the commit.

    Returns
    -------
    bool
        False if the name exists already: another writer committed the same bytes first, since names hold digests.

    Raises
    ------
    CommitError
        If the file system refuses; no temporary file stays behind.
    """
    with _reporting(path, len(data)):
        temporary = _write_temporary(path, data)
        try:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                return _create_exclusively(path, data)  # exFAT and some FUSE mounts have no links
        finally:
            _unlink_quietly(temporary)
        sync_folder(path.parent)
    return True


def replace(path: Path, data: bytes) -> None:
    """Put `data` under `path` in one step, whether or not the name exists."""
    with _reporting(path, len(data)):
        temporary = _write_temporary(path, data)
        try:
            os.replace(temporary, path)
        except OSError:
            _unlink_quietly(temporary)
            raise
        sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, and make the new names durable."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    with _reporting(path, 0):
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            sync_folder(folder.parent)


def set_aside(path: Path) -> Path:
    """Rename a damaged file so that it is out of the way but not lost."""
    aside = path.with_name(f"damaged-{path.name}")
    with _reporting(path, 0):
        os.replace(path, aside)
        sync_folder(path.parent)
    return aside


def remove(path: Path) -> None:
    """Remove a file for good; one that is gone already is no error."""
    with _reporting(path, 0):
        path.unlink(missing_ok=True)
        sync_folder(path.parent)


def remove_temporaries(folder: Path, older_than_s: float) -> list[Path]:
    """Remove what killed writers left; young files are spared, since their writer may be alive."""
    removed = []
    now = _now_on(folder)
    for path in folder.glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(FileNotFoundError):
            if now - path.stat().st_mtime >= older_than_s:
                path.unlink()
                removed.append(path)
    return removed


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
    """Make the names in a folder durable, where the platform can do that at all."""
    if os.name == "nt":  # Windows has no fsync for folders
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_temporary(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
    try:
        _write_synced(temporary, data)
    except BaseException:
        _unlink_quietly(temporary)
        raise
    return temporary


def _create_exclusively(path: Path, data: bytes) -> bool:
    try:
        _write_synced(path, data)
    except FileExistsError:
        return False
    except BaseException:
        _unlink_quietly(path)
        raise
    sync_folder(path.parent)
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
        path.unlink()


def _now_on(folder: Path) -> float:
    """The file system's own clock, which on a network mount need not be ours."""
    probe = folder / f"{_TEMPORARY}{secrets.token_hex(8)}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        _unlink_quietly(probe)


@contextlib.contextmanager
def _reporting(path: Path, size: int) -> Iterator[None]:
    try:
        yield
    except CommitError:
        raise
    except OSError as error:
        where = next(p for p in (path.parent, *path.parents) if p.exists())
        free = "unknown"
        with contextlib.suppress(OSError):
            free = f"{shutil.disk_usage(where).free:,} bytes"
        raise CommitError(
            f"could not write {path.name}: {error.strerror or error}\n"
            f"  in folder: {path.parent}\n"
            f"  needed: {size:,} bytes, free: {free}\n"
            f"  nothing written before is lost; make room or mend the permissions and run the same command again"
        ) from error
