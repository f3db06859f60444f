"""Features for other tools: a view written as `.npz`, `.npy`, Parquet, CSV or for TensorBoard's projector.

Rows go from the store to the file in pieces, so that a store larger than memory can be exported. A file or folder
appears whole or not at all. Each says which features it holds: a note with their fingerprints is inside, or beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ...kit.documents import canonical, check_version
from ...kit.files import taken, whole_file
from ...kit.folders import whole_folder
from ..errors import (
    FeatstoreError,
    FormatError,
    NewerFormatError,
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
    to: Path | str,
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
        Path of each sample's picture; with it the `samples.csv` of the npy form is a manifest, and Parquet has a
        column of them.
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
    OutputExistsError
        If the target exists.
    FeatstoreError
        If a block's name does not fit the form.
    WriteError
        If the file system refuses; nothing is left behind.
    DamagedShardError
        If a row is not what was written; nothing is left behind.
    """
    to = Path(to)
    if names == "path" and paths is None:
        raise FeatstoreError("names by path need the paths of the samples")
    to = Path(to)
    exported = exported_of(view, join=join, progress=progress)
    note = note_of(view, exported, form, described or {})
    numbers = sum(rows.shape[1] for rows in exported.blocks.values()) * len(view)
    least = numbers * (4 if form in ("npz", "npy") else 2)  # a compressed or short number takes two bytes at least
    if form in _FOLDERS:
        with whole_folder(to, overwrite=overwrite, needed=least, mark=NOTE_FILE) as folder:
            if form == "npy":
                write_npy(exported, folder, view.ids if names == "id" else paths or (), paths)
            else:
                write_projector(exported, folder)
            (folder / NOTE_FILE).write_bytes(note_text(note, indent=2).encode() + b"\n")
    else:
        beside = to.with_name(f"{to.stem}.{NOTE_FILE}")  # for CSV, the one form with no place for a note inside
        with whole_file(to, overwrite=overwrite, needed=least) as file:
            if form == "csv" and not overwrite and os.path.lexists(beside):
                raise taken(beside)
            if form == "npz":
                write_npz(exported, file, (KEY, note_text(note)))
            elif form == "parquet":
                write_parquet(exported, file, (KEY, note_text(note)), texts=exported.texts(paths))
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


def exported_of(view: View, *, join: bool = False, progress: Callable[[str, int, int], None] | None = None) -> Exported:
    """Return a view as the forms of an export take it."""
    classes = view.classes
    return Exported(
        blocks={"features": Joined(view)} if join else view.blocks,
        ids=view.ids,
        labels=[classes[i] if i >= 0 else "" for i in view.y.tolist()],
        y=view.y,
        splits=view.splits,
        groups=view.groups,
        classes=classes,
        progress=progress or _quiet,
        further=view.further,
    )


def note_of(view: View, exported: Exported, form: ExportForm, described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the note on where an export is from: features with fingerprints, blocks, classes."""
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
