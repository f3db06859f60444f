"""Features for other tools: a view written as `.npz`, `.npy`, Parquet, CSV or for TensorBoard's projector.

Rows go from the store to the file in pieces, so that a store larger than memory can be exported. A file or folder
appears whole or not at all. Each says which features it holds: a note with their fingerprints is inside, or beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ...kit.documents import canonical, check_version
from ..errors import (
    CommitError,
    FeatstoreError,
    FormatError,
    NewerFormatError,
    OutputExistsError,
    nearest,
)
from ..rows import files
from ..rows.view import View
from .export_forms import (
    Exported,
    Joined,
    write_csv,
    write_npy,
    write_npz,
    write_parquet,
    write_projector,
)

FORMAT, FORMAT_VERSION = "cer-export", 1
_BLOCK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]*")
KEY = "cer_export"
"""What the note is called inside an `.npz` archive, and among a Parquet file's metadata."""
NOTE_FILE = "export.json"
"""The note in a folder, and what that beside a CSV ends with."""
ExportForm = Literal["npz", "npy", "parquet", "csv", "projector"]
_BY_ENDING: Mapping[str, ExportForm] = {".npz": "npz", ".parquet": "parquet", ".csv": "csv"}
_FOLDERS = ("npy", "projector")


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What `export` wrote."""

    path: Path
    form: ExportForm
    samples: int
    blocks: Mapping[str, int]
    """Block name to width, in order."""
    fingerprints: Mapping[str, str]
    """Feature name to fingerprint."""
    nbytes: int
    """Size of the file, or of all files in the folder."""


def export(
    view: View,
    to: Path,
    *,
    form: ExportForm,
    paths: Sequence[str] | None = None,
    names: Literal["id", "path"] = "id",
    join: bool = False,
    overwrite: bool = False,
    described: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> ExportReport:
    """Write a view for other tools.

    Parameters
    ----------
    view : View
        Best taken with `mapped=True`: then memory does not grow with the store.
    to : Path
        A file for npz, parquet and csv; a folder for npy and projector.
    form : {"npz", "npy", "parquet", "csv", "projector"}
    paths : sequence of n str, optional
        Path of each sample's picture; with it the `samples.csv` of the npy form is a manifest.
    names : {"id", "path"}
        What `file_names.txt` of the npy form holds.
    join : bool
        Put all blocks side by side into one, called `features`.
    overwrite : bool
        Replace an earlier export.
    described : dict, optional
        More for the note: dataset, split; JSON values.
    progress : callable (stage, done, total), optional

    Raises
    ------
    FeatstoreError
        If the target exists, or a block's name does not fit the form.
    CommitError
        If the file system refuses; nothing is left behind.
    DamagedShardError
        If a row is not what was written; nothing is left behind.
    """
    if names == "path" and paths is None:
        raise FeatstoreError("names by path need the paths of the samples")
    to = Path(to)
    exported = _exported(view, join, progress or _quiet)
    note = _note(view, exported, form, described or {})
    numbers = sum(rows.shape[1] for rows in exported.blocks.values()) * len(view)
    least = numbers * (4 if form in ("npz", "npy") else 2)  # a compressed or short number takes two bytes at least
    if form in _FOLDERS:
        with whole_folder(to, overwrite=overwrite, needed=least) as folder:
            if form == "npy":
                write_npy(exported, folder, view.ids if names == "id" else paths or (), paths)
            else:
                write_projector(exported, folder)
            (folder / NOTE_FILE).write_bytes(note_text(note, indent=2).encode() + b"\n")
    else:
        beside = to.with_name(f"{to.stem}.{NOTE_FILE}")  # for CSV, the one form with no place for a note inside
        with whole_file(to, overwrite=overwrite, needed=least) as file:
            if form == "csv" and not overwrite and os.path.lexists(beside):
                raise files.taken(beside)
            if form == "npz":
                write_npz(exported, file, (KEY, note_text(note)))
            elif form == "parquet":
                write_parquet(exported, file, (KEY, note_text(note)))
            else:
                write_csv(exported, file)
        if form == "csv":
            files.write_document(beside, FORMAT, FORMAT_VERSION, note, overwrite=overwrite)
    return ExportReport(
        path=to,
        form=form,
        samples=len(view),
        blocks={name: rows.shape[1] for name, rows in exported.blocks.items()},
        fingerprints=dict(view.fingerprints),
        nbytes=sum(p.stat().st_size for p in (to.iterdir() if to.is_dir() else [to])),
    )


def form_of(to: Path, asked: str | None) -> ExportForm:
    """The form asked for, or the one that a file's ending says.

    Raises
    ------
    FeatstoreError
        If neither says it, or they contradict each other.
    """
    forms: tuple[ExportForm, ...] = get_args(ExportForm)
    ending = to.suffix.lower()
    if asked is None:
        if ending == ".npy":
            raise FeatstoreError(f"npy is a folder of files: name one, --format npy --output {to.with_suffix('')}")
        if ending not in _BY_ENDING:
            raise FeatstoreError(
                f"{to} does not say which form: end it in {', '.join(_BY_ENDING)}, "
                f"or name a folder with --format npy or --format projector"
            )
        return _BY_ENDING[ending]
    found = next((form for form in forms if form == asked), None)
    if found is None:
        raise FeatstoreError(f"no export form {asked!r}; {nearest(asked, forms)}")
    if ending in (".npy", *_BY_ENDING) and _BY_ENDING.get(ending) != found:
        raise FeatstoreError(f"--format {found} and the ending of {to} contradict each other: change one of them")
    return found


def _exported(view: View, join: bool, progress: Callable[[str, int, int], None]) -> Exported:
    classes = view.classes
    return Exported(
        blocks={"features": Joined(view)} if join else view.blocks,
        ids=view.ids,
        labels=[classes[i] if i >= 0 else "" for i in view.y.tolist()],
        y=view.y,
        splits=view.splits,
        groups=view.groups,
        classes=classes,
        progress=progress,
    )


def _note(view: View, exported: Exported, form: ExportForm, described: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **described,
        "form": form,
        "features": dict(view.fingerprints),
        "joined_from": [list(entry) for entry in view.widths.items() if exported.blocks is not view.blocks],
        "blocks": [[name, rows.shape[1]] for name, rows in exported.blocks.items()],
        "samples": len(view),
        "class_set": view.class_set.name,
        "classes": list(view.classes),
    }


def _quiet(stage: str, done: int, total: int) -> None:
    """Progress for nobody."""


def note_text(body: Mapping[str, Any], *, indent: int | None = None) -> str:
    """The note as JSON with its own digest."""
    note = {"format": FORMAT, "format_version": FORMAT_VERSION, **body}
    note["digest"] = hashlib.sha256(canonical(note)).hexdigest()
    return json.dumps(note, indent=indent, ensure_ascii=False, allow_nan=False)


def parse_note(text: str, where: str) -> dict[str, Any]:
    """Read a note back, without its format fields.

    Raises
    ------
    FormatError
        If it is no note, was changed, names no blocks, or is of a newer version.
    """
    note = files.parse_object(text.encode(), where)
    if note.get("format") != FORMAT:
        raise FormatError(f"{where} must have format {FORMAT!r}, however: format={note.get('format')!r}")
    check_version(
        note.get("format_version"), FORMAT_VERSION, kind=FORMAT, where=where, error=FormatError, newer=NewerFormatError
    )
    if note.pop("digest", None) != hashlib.sha256(canonical(note)).hexdigest():
        raise FormatError(f"{where} was changed after it was written: its note does not match its digest")
    return checked_note({key: note[key] for key in note if key not in ("format", "format_version")}, where)


def checked_note(body: dict[str, Any], where: str) -> dict[str, Any]:
    """Pass a note on whose blocks are pairs of a name, which may become a file name, and a width."""
    blocks = body.get("blocks")
    if not isinstance(blocks, list) or not all(
        isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and _BLOCK.fullmatch(entry[0])
        for entry in blocks
    ):
        raise FormatError(f"{where} does not say which blocks it holds")
    return body


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
