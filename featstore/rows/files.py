"""Every file operation of the store, in one place.

Nothing else in this package writes into a store. All of it goes through `os`, here and in `kit.files` below, so that a
test can make any call fail or lose what was not synced, and so that the two rules hold everywhere: a file appears under
its name only when all of its bytes are on the disk, and a name that exists is never written again (`commit`) or is
swapped in one step (`replace`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...kit import documents
from ...kit import files as kit
from ...kit.files import is_temporary as is_temporary
from ...kit.files import name_new, temporary_beside, write_synced
from ..errors import CommitError, FormatError, NewerFormatError, OutputExistsError

_PATIENCE_S = 10.0
REMOVED = ".tmp-removed-"
"""How the name of a folder begins that was put away: a temporary one, which no reader looks at."""
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024


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
    with kit.reporting("write", path, len(data), error=CommitError):
        with temporary_beside(path) as temporary:
            write_synced(temporary, data)
            is_new = name_new(temporary, path)
        # also when another was first: its name may not be durable yet, and ours is promised
        kit.sync_folder(path.parent)
    return is_new


def replace(path: Path, data: bytes) -> None:
    """Put `data` under `path` in one step, whether or not the name exists."""
    with kit.reporting("write", path, len(data), error=CommitError):
        with temporary_beside(path) as temporary:
            write_synced(temporary, data)
            os.replace(temporary, path)
        kit.sync_folder(path.parent)


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
    return OutputExistsError(str(kit.taken(path)))


def write_document(path: Path, kind: str, version: int, body: Mapping[str, Any], *, overwrite: bool = True) -> None:
    """Write `body` as a sealed document of format `kind`, in one step; see `write_output`."""
    write_output(path, documents.seal(body, kind=kind, version=version, where=str(path)), overwrite=overwrite)


def read_document(path: Path, kind: str, version: int) -> dict[str, Any]:
    """Read a document back, without its format fields.

    Raises
    ------
    FormatError
        If the file is not JSON, is another kind, was changed since it was written, or has another format version;
        NewerFormatError for that of a newer release.
    OSError
        If it cannot be read just now: it may be sound.
    """
    if path.exists() and not path.is_file():  # opening a named pipe would wait for ever
        raise FormatError(f"{path} is not a file: this is not a complete {kind}")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except FileNotFoundError:
        raise FormatError(f"{path} is missing: this is not a complete {kind}") from None
    if len(data) > MAX_DOCUMENT_BYTES:
        raise FormatError(f"{path} is larger than {MAX_DOCUMENT_BYTES:,} bytes: no {kind} is")
    return documents.unseal(
        data, kind=kind, version=version, where=str(path), error=FormatError, newer=NewerFormatError
    )


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """Parse an untrusted JSON object."""
    value = documents.parse_json(data, where=where, error=FormatError)
    if not isinstance(value, dict):
        raise FormatError(f"{where} must hold a JSON object, however: {type(value).__name__}")
    return value


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
    with kit.reporting("lock", folder / "manifest.csv", error=CommitError):
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
    """Create a folder and its parents, each name durable before anything is put inside."""
    kit.make_folder(path, error=CommitError)


def set_aside(path: Path) -> Path | None:
    """Rename a damaged file so that it is out of the way but not lost; None if it is gone already."""
    aside = path.with_name(f"damaged-{path.name}")
    with kit.reporting("rename", path, error=CommitError):
        try:
            os.replace(path, aside)
        except FileNotFoundError:
            return None
        kit.sync_folder(path.parent)
    return aside


def remove(path: Path) -> None:
    """Remove a file for good; one that is gone already is no error."""
    with kit.reporting("remove", path, error=CommitError):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        kit.sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Remove an empty folder; one that is gone already is no error, one that is not empty is."""
    with kit.reporting("remove", path, error=CommitError):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(path)
        kit.sync_folder(path.parent)


def rename_folder(old: Path, new: Path, *, stamp: bool = False) -> None:
    """Give a folder another name beside, one that nothing bears, in one step; with `stamp` it counts as changed now.

    Raises
    ------
    CommitError
        If the file system refuses; the folder bears the name it had then.
    """
    with kit.reporting("rename", old, error=CommitError):
        if stamp:
            os.utime(old)
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
        os.rename(old, new)
        kit.sync_folder(old.parent)


def remove_tree(path: Path) -> None:
    """Remove a folder that was put away, with all that is in it; one that is gone already is no error."""
    with kit.reporting("remove", path, error=CommitError):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
        kit.sync_folder(path.parent)


def remove_temporaries(folder: Path, older_than_s: float) -> list[Path]:
    """Remove what killed writers left; young files are spared, since their writer may be alive."""
    removed: list[Path] = []
    found = sorted(path for path in folder.iterdir() if is_temporary(path.name))
    with kit.reporting("clean up", folder / ".tmp-", error=CommitError):
        now = now_on(folder) if found else 0.0
        for path in found:
            with contextlib.suppress(FileNotFoundError):
                if not path.is_dir() and now - os.stat(path).st_mtime >= older_than_s:
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
    with kit.reporting("read", path, error=CommitError):
        kept = path.read_bytes()
    replace(path, b"third")
    with kit.reporting("link", path, error=CommitError), temporary_beside(path) as temporary:
        write_synced(temporary, b"")
        name_new(temporary, folder / "named")
        return Trial(
            way="link" if os.path.lexists(temporary) else "rename",
            is_exclusive=was_new and not was_new_again and kept == b"first",
            replaces=path.read_bytes() == b"third",
            syncs_folders=kit.sync_folder(folder),
        )


def state(*paths: Path | str) -> tuple[object, ...]:
    """Something that changes when any of these files does; to know whether what was read from them still holds.

    Raises
    ------
    CommitError
        If the disk does not tell.
    """
    found: list[object] = []
    for path in paths:
        name = os.path.basename(path)
        try:
            stat = os.stat(path)
            found.append((name, stat.st_ino, stat.st_size, stat.st_mtime_ns))
        except FileNotFoundError:
            found.append(name)
        except OSError as error:
            if error.errno == errno.ESTALE:  # who reads shards looks again
                raise
            with kit.reporting("look at", Path(path), error=CommitError):
                raise
    return tuple(found)


_NETWORK = re.compile(
    r"nfs4?|cifs|smb2|smb3|smbfs|lustre|ceph|gpfs|beegfs|pvfs2|orangefs|afs|9p|"
    r"fuse\.(ceph-fuse|glusterfs|sshfs|s3fs|goofys|rclone|gcsfuse|juicefs|cvmfs)"
)
_MOUNTS = Path("/proc/self/mountinfo")


def network_kind(folder: Path) -> str | None:
    """What kind of network file system a folder is on, `nfs4` for instance; None for a disk of this machine.

    None as well where the system does not tell (it does on Linux, see proc_pid_mountinfo(5)).
    """
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    place, nearest, found = os.path.realpath(folder) + "/", "", ""
    for line in lines:
        mount, _, system = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mount.split(" ")[4]).rstrip("/") + "/"
        if place.startswith(point) and len(point) >= len(nearest):  # of two mounts on one place, the later one is seen
            nearest, found = point, system.split(" ")[0]
    return found if _NETWORK.fullmatch(found) else None


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, whoever put them there; a killed writer may not have come to that."""
    with kit.reporting("sync", folder, error=CommitError):
        kit.sync_folder(folder)


@contextlib.contextmanager
def going_away(path: Path) -> Iterator[None]:
    """Read a file that others may remove: one that another machine removed is gone as any other is.

    Raises
    ------
    FileNotFoundError
        Also where the system says that the handle is stale, as NFS does of a file that is open here.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        raise FileNotFoundError(errno.ENOENT, "another machine removed it", str(path)) from error


def now_on(folder: Path) -> float:
    """The file system's own clock, which on a network mount need not be ours."""
    with temporary_beside(folder / "clock") as probe:
        write_synced(probe, b"")
        return os.stat(probe).st_mtime
