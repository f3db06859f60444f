"""Where an export goes: a file or folder that appears whole or not at all, and overwrites only when told to."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from cer_fusion.featstore.errors import CommitError, FeatstoreError, OutputExistsError
from cer_fusion.featstore.rows import files

NOTE_FILE = "export.json"


@contextlib.contextmanager
def whole_file(path: Path, *, overwrite: bool, needed: int) -> Iterator[Path]:
    """Give a temporary neighbour to write to; if all goes well it is synced and renamed to `path`.

    Parameters
    ----------
    path : Path
    overwrite : bool
        Replace a file of that name, in one step at the very end.
    needed : int
        Bytes that will be written at least, to refuse a disk without room at once.

    Raises
    ------
    FeatstoreError
        If the name is taken.
    CommitError
        If the file system refuses; no temporary file stays behind.
    """
    if path.is_dir():
        raise FeatstoreError(f"{path} is a folder; name a file that does not exist yet")
    if os.path.lexists(path) and not overwrite:
        raise OutputExistsError(f"{path} exists already: name another file, or replace it with --overwrite")
    temporary = _neighbour(path)
    with _reporting(path, temporary, needed):
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(path.parent, needed)
        try:
            yield temporary
            _sync(temporary)
            if overwrite:
                os.replace(temporary, path)
            else:
                _rename_new(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        files.sync_folder(path.parent)


@contextlib.contextmanager
def whole_folder(path: Path, *, overwrite: bool, needed: int) -> Iterator[Path]:
    """Give a temporary neighbouring folder to fill; if all goes well it is synced and renamed to `path`.

    An empty folder may be there already. With `overwrite`, an earlier export may too (it is known by its
    `export.json`); any other folder is never replaced. A kill between its two renames leaves the earlier one aside, and
    the next run gives it its name back first. See `whole_file` for the rest.
    """
    _bring_back(path)
    if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
        raise FeatstoreError(
            f"{path} is a {'link' if path.is_symlink() else 'file'}; this form is a folder of files, so name a new "
            "folder"
        )
    taken = path.is_dir() and any(path.iterdir())
    if taken and not overwrite:
        raise OutputExistsError(f"{path} exists already: name another folder, or replace it with --overwrite")
    if taken and not (path / NOTE_FILE).is_file():
        raise FeatstoreError(
            f"{path} is not an earlier export (it has no {NOTE_FILE}), so it is not replaced: name another"
        )
    temporary, old = _neighbour(path), path.with_name(f"{_aside(path)}{secrets.token_hex(8)}")
    with _reporting(path, temporary, needed):
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_room(path.parent, needed)
        try:
            temporary.mkdir()
            yield temporary
            for file in temporary.iterdir():
                _sync(file)
            files.sync_folder(temporary)
            if taken:
                os.rename(path, old)
            os.rename(temporary, path)
        except BaseException:
            if old.exists() and not path.exists():
                os.rename(old, path)
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        files.sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)


def _bring_back(path: Path) -> None:
    """Rename an earlier export back that a killed replacement left aside, if its name is free."""
    if os.path.lexists(path) or not path.parent.is_dir():
        return
    found = (old for old in sorted(path.parent.iterdir()) if old.name.startswith(_aside(path)))
    old = next((old for old in found if (old / NOTE_FILE).is_file()), None)
    if old is not None:
        os.rename(old, path)


def _aside(path: Path) -> str:
    return f".{path.name}.old."


def _neighbour(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename to a name that must not exist; the hard link is what makes sure."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise files.taken(path) from None
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise files.taken(path) from None
        os.rename(temporary, path)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CommitError(
            f"no room for the export: it takes at least {needed:,} bytes, {free:,} are free\n"
            f"  in folder: {folder}\n"
            f"  nothing was written; make room, or name another disk with --to"
        )


@contextlib.contextmanager
def _reporting(path: Path, temporary: Path, needed: int) -> Iterator[None]:
    try:
        yield
    except FeatstoreError:
        raise
    except OSError as error:
        about = None if error.filename is None else Path(os.fsdecode(error.filename))
        if about is not None and about not in (path, temporary, *path.parents) and temporary not in about.parents:
            raise  # a file of the store that could not be read says so itself
        free = "unknown"
        with contextlib.suppress(OSError):
            free = f"{shutil.disk_usage(next(p for p in path.parents if p.exists())).free:,} bytes"
        raise CommitError(
            f"could not write {path.name}: {error.strerror or error}\n"
            f"  in folder: {path.parent}\n"
            f"  needed: at least {needed:,} bytes, free: {free}\n"
            f"  nothing was left behind; make room or mend the permissions and run the same command again"
        ) from error
