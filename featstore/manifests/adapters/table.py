"""A table of one's own, CSV or Parquet: with any column names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import FormatError, ManifestError, listing, nearest
from ...exchange.foreign_formats import pyarrow
from ..class_sets import ClassSet, declared_classes, found_classes
from ..csv_table import (
    Table,
    id_notes,
    parse_table,
    read_groups,
    read_labels,
    read_splits,
    table_bytes,
)
from ..manifest import Manifest, Sample
from ..places import Places, as_meant
from ..targets import LARGEST, checked_columns, target_of, write_targets
from .base import Adapted, adapter, need_samples, targets_of

_OURS = {"id": "sample_id", "path": "path", "label": "label", "split": "split", "group": "group"}
"""What `--columns` calls a column, to its standard name."""


@adapter("csv", "a CSV file of your own; see --columns")
@adapter("parquet", "a Parquet file of your own; see --columns")
def read_csv(
    root: Path,
    *,
    classes: str | None = None,
    pictures: str | None = None,
    columns: str | None = None,
    id_column: str | None = None,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    encoding: str | None = None,
) -> Adapted:
    """Read samples from a CSV file with a header, or from a Parquet file.

    Parameters
    ----------
    root : Path
        The file.
    classes : str, optional
        A known class set: labels are its names, or its official ids; or labels of one's own in their order,
        `happy,sad,none`. Default: the labels found, numbers by size, others in alphabetical order.
    pictures : str, optional
        Folder that the paths start at. Default: the folder of the file.
    columns : str, optional
        Names of the columns in one text: `path=file,label=emotion,split=part,group=video,id=name`.
    id_column, path_column, label_column, split_column, group_column : str, optional
        The same, one by one. Only the column of the paths must exist. Without an id column, the path is the id.
    encoding : str, optional
        What a CSV file's text is in, where it is no UTF-8: `cp1252`, `mac_roman`, …
    """
    names = _columns(columns, {
        "id": id_column, "path": path_column, "label": label_column, "split": split_column, "group": group_column,
    })  # fmt: skip
    table = _read(root, names, encoding)
    _check_named(root, table, names)
    chosen = declared_classes(classes) if classes else None
    start = Path(pictures) if pictures else root.parent
    paths, ids, of_paths = _paths_and_ids(root, table, names, start)
    blank = [""] * len(paths)
    labels, notes = read_labels(table.column(names["label"]) or blank, chosen, table.lines)
    if names["label"] not in table.header:
        notes.append(f"no column {names['label']!r}, so no labels; name it with --columns label=…, one of: "
                     f"{', '.join(table.header)}")  # fmt: skip
    if chosen:
        labels = [
            _label(root, line, text, chosen) if text else "" for line, text in zip(table.lines, labels, strict=True)
        ]
    splits, of_splits = read_splits(table.column(names["split"]) or blank, table.lines, others=True)
    groups, of_groups = read_groups(table.column(names["group"]) or blank, table.lines)
    notes += [*of_paths, *of_splits, *of_groups, *id_notes(ids, table.lines)]
    if further := [title for title in table.header if target_of(title) is not None]:
        notes.append(
            f"columns {listing(further)} are targets beside the classes, which --targets FILE checks and keeps"
        )
    samples = map(Sample._make, zip(ids, paths, labels, splits, groups, strict=True))
    found = need_samples(samples, root, "at least one row below the header")
    named = chosen or found_classes(labels)
    manifest = Manifest(samples=found, classes=named, root=start, where=str(root), lines=tuple(table.lines))
    return Adapted(manifest=manifest, missing=_missing(manifest), notes=tuple(notes))


@targets_of("csv", "parquet")
def write_table_targets(
    root: Path,
    manifest: Manifest,
    path: Path,
    *,
    pictures: str | None = None,
    columns: str | None = None,
    id_column: str | None = None,
    path_column: str | None = None,
    encoding: str | None = None,
    overwrite: bool = True,
    **read: Any,
) -> int:
    """Write the columns of action units, valence and arousal that the table has, typed by their titles and checked.

    Returns
    -------
    int
        Of how many samples something is known.

    Raises
    ------
    ManifestError
        With file and line: a value out of its range; or if there is no such column.
    """
    names = _columns(columns, {**dict.fromkeys(_OURS), "id": id_column, "path": path_column})
    table = _read(root, names, encoding)
    titles = [title for title in table.header if target_of(title) is not None]
    if not titles:
        raise ManifestError(f"{root} has no columns such as AU1, AU12_r or valence: {listing(table.header, 8)}")
    found = checked_columns(titles, str(root))
    _, ids, _ = _paths_and_ids(root, table, names, Path(pictures) if pictures else root.parent)
    cells = [table.column(one.title) or [] for one in found]
    rows = {
        name: [
            one.value(column[i], f"{root}:{table.lines[i]}") * (LARGEST if one.intensity else 1)
            for one, column in zip(found, cells, strict=True)
        ]
        for i, name in enumerate(ids)
    }
    return write_targets(path, manifest.ids, [one.title for one in found], rows, overwrite=overwrite)


def _paths_and_ids(
    root: Path, table: Table, names: dict[str, str], start: Path
) -> tuple[Sequence[str], list[str], list[str]]:
    """Paths, ids and notes on the paths; without an id a path is one."""
    paths, notes = as_meant(table.column(names["path"]) or [], start, where=str(root), lines=table.lines)
    ids = [sample_id or path for sample_id, path in zip(table.column(names["id"]) or paths, paths, strict=True)]
    return paths, ids, notes


def _columns(text: str | None, given: dict[str, str | None]) -> dict[str, str]:
    """Our word for each column to its name in the file."""
    names = {word: name or _OURS[word] for word, name in given.items()}
    for part in filter(None, (piece.strip() for piece in (text or "").split(","))):
        word, equals, name = (piece.strip() for piece in part.partition("="))
        word = "id" if word == "sample_id" else word
        if not equals or not name or word not in names:
            raise ManifestError(
                f"--columns must be such as path=file,label=emotion, however: {part!r}\n"
                f"  the words before = are {', '.join(names)}"
            )
        if given[word] not in (None, name):
            raise ManifestError(f"--columns says {word}={name}, --{word}-column says {given[word]}: name it once")
        names[word] = name
    return names


def _read(root: Path, names: dict[str, str], encoding: str | None) -> Table:
    with root.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    if is_parquet or root.suffix.lower() == ".parquet":
        if encoding is not None:
            raise ManifestError(f"{root} is a Parquet file, whose texts are UTF-8: leave --encoding out")
        return _read_parquet(root, names["path"])
    optional = [name for word, name in names.items() if word != "path"]
    data = table_bytes(root)
    return parse_table(data, root, required=(names["path"],), optional=optional, others=True, encoding=encoding)


def _read_parquet(root: Path, path_column: str) -> Table:
    """Columns of texts and numbers as texts; the others (pictures, lists) cannot be named."""
    arrow, parquet = pyarrow()
    try:
        file = parquet.ParquetFile(root)
        plain = [
            field.name for field in file.schema_arrow
            if not arrow.types.is_nested(field.type) and not arrow.types.is_binary(field.type)
        ]  # fmt: skip
        columns = file.read(columns=plain).to_pydict() if plain else {}
    except (arrow.ArrowException, OSError) as error:
        raise FormatError(f"{root} is not a usable Parquet file: {error}") from None
    if path_column not in columns:
        raise ManifestError(
            f"{root}: no column {path_column!r} of texts ({', '.join(plain)}); {nearest(path_column, plain)}\n"
            f"  map other names with: --columns path=…,label=…"
        )
    rows = [list(map(_text, row)) for row in zip(*columns.values(), strict=True)]
    return Table(header=list(columns), rows=rows, lines=list(range(1, len(rows) + 1)))


def _text(cell: object) -> str:
    if cell is None or cell != cell:  # missing, or NaN
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _check_named(root: Path, table: Table, names: dict[str, str]) -> None:
    """A column that was asked for by name must be there; the standard names may be absent."""
    for word, column in names.items():
        if column != _OURS[word] and column not in table.header:
            raise ManifestError(f"{root}:1: no column {column!r} (--{word}-column); {nearest(column, table.header)}")


def _label(root: Path, line: int, text: str, classes: ClassSet) -> str:
    label = classes.match_or_id(text)
    if label is not None:
        return label
    raise ManifestError(f"{root}:{line}: label {text!r} is not in the class set; {nearest(text, classes.labels)}")


def _missing(manifest: Manifest) -> tuple[str, ...]:
    """Ids of the samples whose files are not there."""
    places = Places(manifest.root)
    return tuple(sample.sample_id for sample in manifest.samples if not places.has(sample.path))
