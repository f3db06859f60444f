"""A CSV of one's own: any column names, mapped to ours."""

from __future__ import annotations

from pathlib import Path

from featstore.adapters.base import Adapted, need_samples
from featstore.class_sets import ClassSet, class_set, custom
from featstore.csv_table import Table, read_table
from featstore.errors import ManifestError, nearest
from featstore.manifest import Manifest, Sample


def read_csv(
    root: Path,
    *,
    classes: str | None = None,
    pictures: str | None = None,
    id_column: str = "sample_id",
    path_column: str = "path",
    label_column: str = "label",
    split_column: str = "split",
    group_column: str = "group",
) -> Adapted:
    """Read samples from a CSV file with a header.

    Parameters
    ----------
    root : Path
        The CSV file.
    classes : str, optional
        A known class set: labels are its names, or its official ids. Default: the labels found, in alphabetical order.
    pictures : str, optional
        Folder that the paths start at. Default: the folder of the CSV file.
    id_column, path_column, label_column, split_column, group_column : str
        Names of the columns; only `path_column` must exist. Without an id column, the path is the id.
    """
    table = read_table(root, required=(path_column,), others=True)
    _check_named(root, table, {
        "id": (id_column, "sample_id"), "label": (label_column, "label"),
        "split": (split_column, "split"), "group": (group_column, "group"),
    })  # fmt: skip
    chosen = class_set(classes) if classes else None
    paths = table.column(path_column) or []
    blank = [""] * len(paths)
    labels = table.column(label_column) or blank
    if chosen:
        labels = [
            _label(root, line, text, chosen) if text else "" for line, text in zip(table.lines, labels, strict=True)
        ]
    ids = [sample_id or path for sample_id, path in zip(table.column(id_column) or paths, paths, strict=True)]
    splits, groups = table.column(split_column) or blank, table.column(group_column) or blank
    samples = map(Sample._make, zip(ids, paths, labels, splits, groups, strict=True))
    found = need_samples(samples, root, "at least one row below the header")
    named = chosen or custom(sorted({s.label for s in found} - {""}))
    start = Path(pictures) if pictures else root.parent
    return Adapted(
        manifest=Manifest(samples=found, classes=named, root=start, where=str(root), lines=tuple(table.lines))
    )


def _check_named(root: Path, table: Table, columns: dict[str, tuple[str, str]]) -> None:
    """A column that was asked for by name must be there; the standard names may be absent."""
    for option, (column, standard) in columns.items():
        if column != standard and column not in table.header:
            raise ManifestError(f"{root}:1: no column {column!r} (--{option}-column); {nearest(column, table.header)}")


def _label(root: Path, line: int, text: str, classes: ClassSet) -> str:
    by_plain = {label.replace("_", " ").casefold(): label for label in classes.labels}
    plain = text.replace("_", " ").casefold()
    if plain in by_plain:
        return by_plain[plain]
    if text.isascii() and text.isdigit() and 0 <= int(text) - classes.first_id < len(classes.labels):
        return classes.from_id(int(text))
    raise ManifestError(f"{root}:{line}: label {text!r} is not in the class set; {nearest(text, classes.labels)}")
