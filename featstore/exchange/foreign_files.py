"""Files of other tools, told apart by their content, opened as blocks of rows and a list of names.

Which arrays of a file are rows, and which are their names: the only ones there are, or those asked for.
"""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt

from ...kit.text import decoded, lines_of
from ..errors import FormatError, ManifestError, RowsError, listing, nearest
from ..rows import files
from . import exporting, face_tables
from .foreign_formats import (
    NUMPY_MAGIC,
    PARQUET_MAGIC,
    SIGNATURE,
    Entry,
    Frames,
    Hdf5File,
    NpzFile,
    ParquetFile,
    SampleFolder,
    map_npy,
)
from .importing import RowSource

Form = Literal["npy", "npz", "torch", "hdf5", "parquet", "export folder", "sample folder", "face table"]
NAMES_FILE = "file_names.txt"
"""What thingsvision calls the names of the rows in `features.npy`."""
_USER_BLOCKS = [512 << i for i in range(16)]
"""Where HDF5 may begin, behind somebody else's bytes."""


@dataclass(frozen=True, kw_only=True)
class ForeignRows:
    """What a file of another tool holds, ready for `import_rows`."""

    form: str
    """What the file was taken for, for people."""
    blocks: Mapping[str, RowSource] = field(repr=False)
    """Block name to rows."""
    names: Sequence[str] = field(repr=False)
    """What each row belongs to."""
    names_from: str
    """Where the names were found, for people."""
    described: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What is known of the rows' origin."""
    failed: Mapping[str, str] | None = field(default=None, repr=False)
    """Names that the tool itself failed at, with its reasons; None of a file that cannot say so."""


def recognise(path: Path) -> Form:
    """Tell from the content what a file or folder is; its ending is not looked at.

    Raises
    ------
    FormatError
        If it is nothing that can be imported, saying what it looks like.
    """
    if path.is_dir():
        if (path / NAMES_FILE).exists():
            return "export folder"
        return "face table" if face_tables.tool_of(path) is not None else "sample folder"
    try:
        with path.open("rb") as file:
            head = file.read(512)
            if head.startswith(b"cer-shard "):
                raise FormatError(
                    f"{path} is a shard of a feature store, not a file of another tool\n"
                    f"  use that store with --store, or write its feature out with: cer-feat export"
                )
            behind = [offset for offset in _USER_BLOCKS if file.seek(offset) and file.read(8) == SIGNATURE]
    except FileNotFoundError:
        raise FormatError(f"no such file: {path}") from None
    if head.startswith(SIGNATURE):
        return "hdf5"
    if head.startswith(NUMPY_MAGIC):
        return "npy"
    if head.startswith(b"PK"):
        return _in_zip(path)
    if head.startswith(PARQUET_MAGIC):
        return "parquet"
    if head.startswith(b"\x80") or head[8:9] == b"{":  # a stream of pickles, or safetensors
        return "torch"
    if behind:
        return "hdf5"
    if head and b"\0" not in head[1::2][:8] and face_tables.tool_of(path) is not None:
        return "face table"
    raise FormatError(_unknown(path, head))


def read_foreign(
    path: Path,
    *,
    names: Path | None = None,
    rows_keys: Sequence[str] = (),
    names_key: str | None = None,
    frames: Frames | None = None,
    face: face_tables.Face = "error",
    first_frame: int | None = None,
    fps: float | None = None,
) -> ForeignRows:
    """Open a file or folder of another tool (all forms but "torch"); big arrays stay on the disk.

    Parameters
    ----------
    path : Path
    names : Path, optional
        Text file, one name a row; needed for a `.npy` that has no `file_names.txt` beside it.
    rows_keys : sequence of str
        Which arrays of a file with several, or blocks of a face tool's table; each becomes a block. Default: the only
        2-D float array, and all blocks that the table's columns make.
    names_key : str, optional
        Which array holds the names. Default: the only 1-D text array of that length.
    frames : {"mean", "max"}, optional
        Pool frame-level files of a folder.
    face, first_frame, fps
        Of a face tool's table, see `cer_fusion.featstore.exchange.face_tables.read_face_table`.

    Raises
    ------
    FormatError, RowsError
    """
    form = recognise(path)
    if form == "face table":
        return _read_face_table(face_tables.read_face_table(
            path, blocks=rows_keys, face=face, first_frame=first_frame, fps=fps
        ))  # fmt: skip
    if form in ("npy", "export folder"):
        return _read_npy(path, names)
    if form == "npz":
        return _read_keyed(NpzFile(path), ".npz archive", names, rows_keys, names_key)
    if form == "hdf5":
        return _read_keyed(Hdf5File(path), "HDF5 file", names, rows_keys, names_key)
    if form == "parquet":
        return _read_parquet(path)
    if form == "torch":
        raise FormatError(f"{path} holds tensors of PyTorch, which featstore does not read: use cer-feat import")
    if names is not None:
        raise FormatError(f"{path} is a folder of one .npy a sample: its file names are the names, leave --names out")
    folder = SampleFolder(path, frames)
    return ForeignRows(
        form=f"folder of one .npy a sample{f', the {frames} of its frames' if frames else ''}",
        blocks={"rows": folder},
        names=folder.names,
        names_from="the files' names",
    )


def read_array(path: Path) -> npt.NDArray[Any]:
    """A `.npy` file with a plain numeric array, mapped read-only; pickled objects are refused.

    Raises
    ------
    FormatError
    """
    if path.is_file() and recognise(path) == "npz":
        raise FormatError(f"{path} holds several arrays; save the rows alone with numpy.save")
    return map_npy(path)


def read_names(path: Path) -> list[str]:
    """One name a line, as any editor ends them, blanks around it aside; blank lines at the end are passed over."""
    try:
        text = decoded(path.read_bytes(), path, error=ManifestError)
    except FileNotFoundError:
        raise FormatError(f"no such file: {path}") from None
    except ManifestError as error:
        raise FormatError(str(error)) from None
    return [line.strip(" \t\xa0") for line in lines_of(text.rstrip())]


def choose_rows(entries: Mapping[str, Entry], asked: Sequence[str], where: str) -> list[str]:
    """Keys of the rows: those asked for with `--rows-key`, or else the only 2-D float array.

    Raises
    ------
    FormatError, RowsError
        If there is no such key, several candidates, or arrays of different lengths are asked for.
    """
    chosen = list(asked)
    if not chosen:
        chosen = [key for key, entry in entries.items() if len(entry.shape) == 2 and entry.kind == "f"]
        if not chosen:
            raise FormatError(f"{where} holds no 2-D float array; it holds {_held(entries)}")
        if len(chosen) > 1:
            raise FormatError(
                f"{where} holds {len(chosen)} 2-D float arrays, so which are the rows? it holds {_held(entries)}\n"
                f"  say it with --rows-key {chosen[0]}, or make each a block of one feature: "
                f"--rows-key {','.join(chosen)}"
            )
    for key in chosen:
        if key not in entries:
            raise FormatError(f"{where} holds no array {key!r}; {nearest(key, entries)}")
        if len(entries[key].shape) != 2 or entries[key].kind != "f":
            raise RowsError(
                f"rows must be a float array of shape (n, d), however: {key!r} of {where} is "
                f"{entries[key].dtype} {entries[key].shape}"
            )
    if len(set(chosen)) != len(chosen):
        raise FormatError(f"an array is asked for twice: {', '.join(chosen)}")
    if len({entries[key].shape[0] for key in chosen}) > 1:
        lengths = ", ".join(f"{key} has {entries[key].shape[0]}" for key in chosen)
        raise RowsError(f"the blocks of one feature must have equally many rows, however: {lengths}, in {where}")
    return chosen


def choose_names(entries: Mapping[str, Entry], asked: str | None, n: int, where: str) -> str:
    """Key of the names: the one asked for with `--names-key`, or else the only 1-D text array of length n.

    Raises
    ------
    FormatError
    """
    if asked is not None:
        if asked not in entries:
            raise FormatError(f"{where} holds no array {asked!r}; {nearest(asked, entries)}")
        found = entries[asked]
        if found.shape != (n,) or found.kind != "t":
            raise FormatError(f"names must be {n} texts, however: {asked!r} of {where} is {found.dtype} {found.shape}")
        return asked
    candidates = [key for key, entry in entries.items() if entry.shape == (n,) and entry.kind == "t"]
    if not candidates:
        raise FormatError(
            f"{where} holds no names for its {n} rows; it holds {_held(entries)}\n"
            f"  give them as a text file, one a line, with --names"
        )
    if len(candidates) > 1:
        raise FormatError(
            f"{where} holds {len(candidates)} text arrays of length {n}, so which are the names? "
            f"{', '.join(candidates)}\n  say it with --names-key {candidates[0]}"
        )
    return candidates[0]


def block_names(keys: Sequence[str]) -> dict[str, str]:
    """Key to block name: one array is the block `rows`; several are called by their keys, less what all begin with.

    `manet.local` and `manet.multi_scale` give `local` and `multi_scale`; `vit` and `manet.local` give `vit` and
    `manet_local`, since a block's name has no dot.

    Raises
    ------
    FormatError
        If two keys give one name.
    """
    if len(keys) == 1:
        return {keys[0]: "rows"}
    parts = [key.replace("/", ".").strip(".").split(".") for key in keys]
    while all(len(part) > 1 and part[0] == parts[0][0] for part in parts):
        parts = [part[1:] for part in parts]
    names = ["".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in "_".join(p)) for p in parts]
    names = [name.lstrip("_-") or "block" for name in names]
    if len(set(names)) != len(names):
        raise FormatError(f"the arrays {', '.join(keys)} would give blocks of one name: {', '.join(names)}")
    return dict(zip(keys, names, strict=True))


def _read_npy(path: Path, names: Path | None) -> ForeignRows:
    folder = path if path.is_dir() else path.parent
    listed = names or folder / NAMES_FILE
    if not listed.exists() and names is None:
        raise FormatError(f"{path} has no {NAMES_FILE} beside it: say what each row belongs to with --names FILE")
    described: dict[str, Any] = {}
    paths = {"features": path if path.is_file() else folder / "features.npy"}
    if path.is_dir() and (folder / "export.json").exists():
        body = files.read_document(folder / "export.json", exporting.FORMAT, exporting.FORMAT_VERSION)
        described = {"export": exporting.checked_note(body, str(folder / "export.json"))}
        blocks = [block for block, _ in described["export"]["blocks"]]
        paths = paths if len(blocks) == 1 else {block: folder / f"{block}.npy" for block in blocks}
    called = block_names(list(paths))
    return ForeignRows(
        form="folder of .npy arrays with their names" if path.is_dir() else ".npy array",
        blocks={called[key]: read_array(array) for key, array in paths.items()},
        names=read_names(listed),
        names_from=str(listed) if names else f"{NAMES_FILE} beside it" if path.is_file() else NAMES_FILE,
        described=described,
    )


def _read_keyed(
    file: NpzFile | Hdf5File, form: str, names: Path | None, rows_keys: Sequence[str], names_key: str | None
) -> ForeignRows:
    """Take rows and names from a file of named arrays; an export of ours says itself which they are."""
    entries, where = file.entries, str(file.path)
    described: dict[str, Any] = {}
    if exporting.KEY in entries and not rows_keys:
        note = exporting.parse_note(file.text(exporting.KEY)[0], where)
        form, described = f"{form} of cer-feat export", {"export": note}
        rows_keys, names_key = [block for block, _ in note["blocks"]], names_key or "ids"
    keys = choose_rows(entries, rows_keys, where)
    if names is None:
        key = choose_names(entries, names_key, entries[keys[0]].shape[0], where)
        listed, names_from = file.text(key), f"its array {key!r}"
    else:
        listed, names_from = read_names(names), str(names)
    called = block_names(keys)
    return ForeignRows(
        form=form,
        blocks={called[key]: file.array(key) for key in keys},
        names=listed,
        names_from=names_from,
        described=described or {"arrays": keys},
    )


def _read_face_table(found: face_tables.FaceTable) -> ForeignRows:
    taken = sum(map(len, found.columns.values()))
    return ForeignRows(
        form=f"table of {found.tool}, {taken} columns taken and {found.others} others left out",
        blocks=dict(found.blocks),
        names=found.names,
        names_from=found.told,
        described={"tool": found.tool, "columns": {block: list(titles) for block, titles in found.columns.items()}},
        failed=found.failed,
    )


def _read_parquet(path: Path) -> ForeignRows:
    file = ParquetFile(path)
    if exporting.KEY not in file.metadata:
        raise FormatError(
            f"{path} is a Parquet file, but not one that cer-feat export wrote\n"
            f"  save its rows with numpy.save and their names one a line, and import these"
        )
    note = exporting.parse_note(file.metadata[exporting.KEY], str(path))
    blocks = [block for block, _ in note["blocks"]]
    called = block_names(blocks)
    return ForeignRows(
        form="Parquet file of cer-feat export",
        blocks={called[block]: file.rows(block) for block in blocks},
        names=file.names(),
        names_from="its column 'sample_id'",
        described={"export": note},
    )


def _in_zip(path: Path) -> Form:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except OSError as error:
        if error.errno != errno.EINVAL:  # it cannot be read just now: it may be sound
            raise
        raise FormatError(f"{path} is a damaged zip archive: it points to before its beginning") from None
    except (zipfile.BadZipFile, NotImplementedError) as error:  # a boundary: damaged, or a version that zipfile lacks
        raise FormatError(f"{path} is a damaged zip archive: {error}") from None
    if any(member.endswith("data.pkl") for member in members):
        return "torch"
    if members and all(member.endswith(".npy") for member in members):
        return "npz"
    held = ", ".join(members[:3]) or "nothing"
    raise FormatError(f"{path} is a zip archive, but neither .npz nor PyTorch's: it holds {held}")


def _unknown(path: Path, head: bytes) -> str:
    what = "begins with " + repr(head[:8])
    if not head:
        what = "is empty (0 bytes)"
    elif b"\0" not in head and head.isascii():
        what = "is a text file"
    elif head.startswith(b"\x1f\x8b"):
        what = "is compressed with gzip; unpack it first"
    return (
        f"{path} is nothing that can be imported: it {what}\n"
        f"  what can: .npy with names, .npz, .pt, HDF5, a Parquet export of ours, a folder of one .npy a sample, "
        f"{face_tables.TABLES}"
    )


def _held(entries: Mapping[str, Entry]) -> str:
    return listing((f"{key} {entry.dtype} {entry.shape}" for key, entry in entries.items()), limit=8) or "nothing"
