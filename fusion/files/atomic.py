"""Writing a whole file or none of it."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from cer_fusion.fusion.errors import OutputExistsError

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.ENOTSUP}


def write_atomic(path: Path, data: bytes, *, overwrite: bool = True) -> Path:
    """Write bytes to a temporary neighbour, sync it, and rename it into place: readers see the old file or the new.

    Parent folders are made. An existing file keeps its bytes until the very last step; without `overwrite` it keeps
    them for good.

    Raises
    ------
    OutputExistsError
        Without `overwrite`, if the name is taken, however late that came about.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        write_synced(temporary, data)
        if overwrite:
            os.replace(temporary, path)
        else:
            _name_new(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return path


def taken(path: Path) -> OutputExistsError:
    """Return the error for a place that is taken, perhaps since its result was begun."""
    return OutputExistsError(
        f"{path} is there already, and is left as it is\n  name another place, or replace it with --overwrite"
    )


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
    else:
        temporary.unlink()


def write_synced(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet, and wait until its bytes are on the disk."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the platform can do that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
