"""A table of one's own, CSV or Parquet: with any column names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ManifestError, listing, nearest
from ...exchange.foreign_formats import pyarrow
from ..class_sets import ClassSet, declared_classes, found_classes
from ..columns import Numbers, Samples, Texts, Words
from ..csv_table import (
    id_notes,
    parse_table,
    read_groups,
    read_labels,
    read_numbers,
    read_splits,
    table_bytes,
)
from ..manifest import Manifest
from ..parquet_table import is_parquet, parquet_columns
from ..places import Places, as_meant
from ..targets import LARGEST, Target, checked_columns, is_typed, target_of, typed_titles, write_targets
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
        Names of the columns in one text: `path=file,label=emotion,split=part,group=video,id=name`. Columns of numbers
        are known by their titles, as a manifest's (`au.12`, `va.valence`, `time_s`) or a table of targets' (`AU12_r`,
        `valence`), and become a manifest's; `targets=none` passes over them.
    id_column, path_column, label_column, split_column, group_column : str, optional
        The same, one by one. Only the column of the paths must exist. Without an id column, the path is the id.
    encoding : str, optional
        What a CSV file's text is in, where it is no UTF-8: `cp1252`, `mac_roman`, …
    """
    columns, typed = _with_or_without(columns)
    names = _columns(columns, {
        "id": id_column, "path": path_column, "label": label_column, "split": split_column, "group": group_column,
    })  # fmt: skip
    header, cells, lines = _read(root, names, encoding)
    _check_named(root, header, names)
    chosen = declared_classes(classes) if classes else None
    start = Path(pictures) if pictures else root.parent
    paths, of_paths = as_meant(cells["path"], start, where=str(root), lines=lines)
    blank = Words.blank(len(paths))
    labels, notes = read_labels(Words.of(cells.get("label", blank)), chosen, lines)
    if names["label"] not in header:
        notes.append(f"no column {names['label']!r}, so no labels; name it with --columns label=…, one of: "
                     f"{', '.join(header)}")  # fmt: skip
    if chosen:
        labels = labels.renamed(
            {text: _label(root, labels, lines, text, chosen) for text in filter(None, labels.counts())}
        )
    ids = Texts.of(sample_id or path for sample_id, path in zip(cells.get("id", paths), paths, strict=True))
    splits, of_splits = read_splits(Words.of(cells.get("split", blank)), lines, others=True)
    groups, of_groups = read_groups(Words.of(cells.get("group", blank)), lines)
    notes += [*of_paths, *of_splits, *of_groups, *id_notes(ids, lines)]
    further, of_further = _typed_columns(root, header, names, lines, encoding) if typed else ({}, [])
    notes += of_further
    if not len(ids):
        need_samples((), root, "at least one row below the header")
    found = Samples(ids, Texts.of(paths), labels, splits, groups, further)
    named = chosen or found_classes(labels)
    manifest = Manifest(samples=found, classes=named, root=start, where=str(root), lines=lines)
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
    columns, _ = _with_or_without(columns)
    names = _columns(columns, {**dict.fromkeys(_OURS), "id": id_column, "path": path_column})
    header, cells, lines = _read(root, {word: names[word] for word in ("id", "path")}, encoding)
    titles = [title for title in header if target_of(title) is not None]
    if not titles:
        raise ManifestError(f"{root} has no columns such as AU1, AU12_r or valence: {listing(header, 8)}")
    found = checked_columns(titles, str(root))
    start = Path(pictures) if pictures else root.parent
    paths, _ = as_meant(cells["path"], start, where=str(root), lines=lines)
    ids = [sample_id or path for sample_id, path in zip(cells.get("id", paths), paths, strict=True)]
    values = _target_cells(root, names["path"], titles, encoding)
    rows = {
        name: [
            one.value(values[one.title][i], f"{root}:{lines[i]}") * (LARGEST if one.intensity else 1) for one in found
        ]
        for i, name in enumerate(ids)
    }
    return write_targets(path, manifest.ids, [one.title for one in found], rows, overwrite=overwrite)


def _with_or_without(columns: str | None) -> tuple[str | None, bool]:
    """What `--columns` says of other columns, and whether those of numbers are wanted."""
    parts = [part.strip() for part in (columns or "").split(",")]
    kept = [part for part in parts if "".join(part.split()) != "targets=none"]
    return ",".join(kept) or None, len(kept) == len(parts)


def _typed_columns(
    root: Path, header: Sequence[str], names: Mapping[str, str], lines: Sequence[int], encoding: str | None
) -> tuple[dict[str, Numbers], list[str]]:
    """The columns of numbers that a table has, as a manifest calls and keeps them, and notes on those.

    Raises
    ------
    ManifestError
        With file and line.
    """
    others = [title for title in header if title not in names.values()]
    targets = {title: one for title in others if (one := target_of(title)) is not None}
    plain = [title for title in others if title not in targets and is_typed(title)]
    if not targets and not plain:
        return {}, []
    where = f"{root}:1"
    try:
        found = checked_columns(list(targets), where) if targets else ()
        written, _ = typed_titles(plain, where)
        if len(set(written)) < len(written):
            raise ManifestError(f"{where}: a column stands twice: {', '.join(plain)}")
        cells = _target_cells(root, names["path"], [*targets, *plain], encoding)
        further: dict[str, Numbers] = {}
        notes = []
        for one in found:
            further[one.column] = _values(one, cells[one.title], root, lines)
        for title, column in zip(plain, written, strict=True):
            further[column], note = read_numbers(Words.of(cells[title]), column, root, lines)
            notes.append(note)
    except ManifestError as error:
        raise ManifestError(f"{error}\n  to leave such columns out of the manifest: --columns targets=none") from None
    if renamed := [one for one in found if one.title != one.column]:
        shares = f", intensities as their share of {LARGEST}" if any(one.intensity for one in renamed) else ""
        notes.append(
            f"columns {listing(one.title for one in renamed)} are targets beside the classes: kept as "
            f"{listing(one.column for one in renamed)}{shares}; --targets FILE writes them to a table apart instead"
        )
    return further, list(filter(None, notes))


def _values(target: Target, cells: Sequence[str], root: Path, lines: Sequence[int]) -> Numbers:
    """The numbers of a column of targets; each different cell is read once."""
    words = Words.of(cells)
    known = {word: target.value(word, f"{root}:{lines[int(words.where({word})[0])]}") for word in words.words}
    return Numbers(np.array([known[word] for word in words.words], np.float64)[words.numbers])


def _target_cells(root: Path, needed: str, titles: Sequence[str], encoding: str | None) -> dict[str, Sequence[str]]:
    """The cells of columns of numbers, as texts; a number that is missing, or NaN, is blank."""
    with root.open("rb") as file:
        is_a_parquet = is_parquet(file.read(4))
    if not is_a_parquet:
        table = parse_table(
            table_bytes(root), root, required=(needed,), optional=titles, others=True, encoding=encoding
        )
        return {title: table.column(title) or () for title in titles}
    _, parquet = pyarrow()
    read = parquet.read_table(root, columns=list(titles)).to_pydict()
    return {title: ["" if one is None or one != one else str(one) for one in read[title]] for title in titles}


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


def _read(
    root: Path, names: dict[str, str], encoding: str | None
) -> tuple[list[str], dict[str, Sequence[str]], Sequence[int]]:
    """All titles, the cells of the columns that are there by our word for each, and the line of each row."""
    with root.open("rb") as file:
        is_a_parquet = is_parquet(file.read(4))
    wanted = [name for word, name in names.items() if word != "path"]
    columns: dict[str, Sequence[str]]
    if is_a_parquet or root.suffix.lower() == ".parquet":
        if encoding is not None:
            raise ManifestError(f"{root} is a Parquet file, whose texts are UTF-8: leave --encoding out")
        kinds = {name: Texts if word in ("id", "path") else Words for word, name in reversed(names.items())}
        found, header = parquet_columns(root, root, kinds, required=(names["path"],), others=True)
        columns = {name: column for name, column in found.items() if not isinstance(column, Numbers)}
        lines: Sequence[int] = range(1, len(columns[names["path"]]) + 1)
    else:
        data = table_bytes(root)
        table = parse_table(data, root, required=(names["path"],), optional=wanted, others=True, encoding=encoding)
        header, lines = table.header, tuple(table.lines)
        columns = {name: table.column(name) or () for name in names.values() if name in header}
    return header, {word: columns[name] for word, name in names.items() if name in columns}, lines


def _check_named(root: Path, header: Sequence[str], names: dict[str, str]) -> None:
    """A column that was asked for by name must be there; the standard names may be absent."""
    for word, column in names.items():
        if column != _OURS[word] and column not in header:
            raise ManifestError(f"{root}:1: no column {column!r} (--{word}-column); {nearest(column, header)}")


def _label(root: Path, labels: Words, lines: Sequence[int], text: str, classes: ClassSet) -> str:
    label = classes.match_or_id(text)
    if label is not None:
        return label
    line = lines[int(labels.where({text})[0])]
    raise ManifestError(f"{root}:{line}: label {text!r} is not in the class set; {nearest(text, classes.labels)}")


def _missing(manifest: Manifest) -> tuple[str, ...]:
    """Ids of the samples whose files are not there."""
    places = Places(manifest.root)
    return tuple(sample.sample_id for sample in manifest.samples if not places.has(sample.path))
