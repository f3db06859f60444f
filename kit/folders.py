"""Folders that appear whole or not at all, and replace only what they may."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from .errors import OutputExistsError
from .files import (
    check_room,
    make_folder,
    reporting,
    reporting_block,
    sync_file,
    sync_folder,
    taken,
)

_HERE, _EXCHANGE = -100, 2
"""`AT_FDCWD` and `RENAME_EXCHANGE` of Linux (renameat2(2))."""
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR, errno.EACCES if os.name == "nt" else errno.EEXIST}
_ATTEMPTS = 5


@contextlib.contextmanager
def whole_folder(path: Path, *, overwrite: bool = True, needed: int = 0, mark: str | None = None) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill; if the block ends well it is synced and renamed to `path`.

    Parents are made, and an empty folder of that name may be there. When the block raises, nothing has changed.

    Parameters
    ----------
    path : Path
    overwrite : bool
        Replace a folder of that name: in one step where the system can exchange two names, else in two, between which
        a kill leaves the old folder aside, where `bring_back` finds it. A file or a link is never replaced.
    needed : int
        Bytes that will be written at least, to refuse a disk without room at once.
    mark : str, optional
        A file that a folder must hold to be replaced, so that only an earlier result of this kind ever is.

    Raises
    ------
    OutputExistsError
        If what is there may not be replaced, at the beginning or when the folder is finished. Of several who write to
        one name at the same time without `overwrite` one wins, and the others see this.
    WriteError
        If the file system refuses, also inside the block; nothing stays behind.
    """
    path = Path(path)
    bring_back(path)
    _check_place(path, overwrite=overwrite, mark=mark)
    make_folder(path.parent)
    check_room(path, needed)
    built = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    with reporting("make", path):
        os.mkdir(built)
    try:
        with reporting_block(path, built, needed):
            yield built
        with reporting("write", path, needed):
            sync_tree(built)
            if overwrite:
                _check_place(path, overwrite=True, mark=mark)
                _put_in_place(built, path)
            else:
                _put_new(built, path)
            sync_folder(path.parent)
    finally:
        shutil.rmtree(built, ignore_errors=True)


def bring_back(path: Path) -> None:
    """Give a folder its name back if a replacement was killed between its two renames; do nothing otherwise."""
    if os.path.lexists(path):
        return
    with contextlib.suppress(OSError):  # no such place, one that we may not write, or somebody else was first
        for aside in sorted(path.parent.iterdir()):
            if aside.name.startswith(_aside_of(path)) and aside.is_dir():
                os.rename(aside, path)
                return


def sync_tree(folder: Path) -> None:
    """Wait until all files below a folder, and their names, are on the disk."""
    for at, _, names in os.walk(folder, topdown=False):
        for name in names:
            file = Path(at, name)
            if file.is_file() and not file.is_symlink():
                sync_file(file)
        sync_folder(Path(at))


def _check_place(path: Path, *, overwrite: bool, mark: str | None) -> None:
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise OutputExistsError(
            f"{path} is a {'link' if path.is_symlink() else 'file'}, and a folder is to be written: name a new one"
        )
    if not any(path.iterdir()):
        return
    if not overwrite:
        raise taken(path)
    if mark is not None and not (path / mark).is_file():
        raise OutputExistsError(
            f"{path} is no earlier result of this kind (it has no {mark}), so it is not replaced: name another"
        )


def _put_new(built: Path, path: Path) -> None:
    """Rename to a name that is free, or that of an empty folder: a folder never takes the place of anything else."""
    try:
        os.rename(built, path)
    except OSError as error:
        if error.errno in _TAKEN and os.path.lexists(path):
            raise taken(path) from None
        raise


def _put_in_place(built: Path, path: Path) -> None:
    if os.path.lexists(path) and _exchanged(built, path):
        return  # the old folder bears the name of the built one now, and goes with it
    for attempt in range(_ATTEMPTS):
        aside = path.with_name(f"{_aside_of(path)}{secrets.token_hex(8)}")
        try:
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, aside)
            os.rename(built, path)
            break
        except OSError as error:
            if error.errno not in _TAKEN or attempt == _ATTEMPTS - 1:
                raise
        finally:
            if os.path.lexists(aside) and not os.path.lexists(path):
                os.rename(aside, path)
            elif os.path.lexists(aside):  # no longer under the name that is brought back: it is about to be in pieces
                os.rename(aside, rest := path.with_name(f".{path.name}.{secrets.token_hex(8)}.part"))
                shutil.rmtree(rest, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or the file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # a C library from before 2018
        return False
    return bool(call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _aside_of(path: Path) -> str:
    return f".{path.name}.old."
