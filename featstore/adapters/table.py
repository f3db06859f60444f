"""A CSV of one's own: any column names, mapped to ours."""

from __future__ import annotations

from pathlib import Path

from featstore.adapters.base import Adapted, need_samples
from featstore.class_sets import class_set, custom
from featstore.errors import ManifestError, nearest
from featstore.manifest import Manifest, Sample, read_table


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
    columns = {"label": label_column, "split": split_column, "group": group_column}
    chosen = class_set(classes) if classes else None
    samples: list[Sample] = []
    lines: list[int] = []
    for line, row in read_table(root, required=(path_column,), others=True):
        if line == 2 or not samples:
            _check_named(root, row, {"id": (id_column, "sample_id"), **{k: (v, k) for k, v in columns.items()}})
        values = {name: row.get(column, "") for name, column in columns.items()}
        if chosen and values["label"]:
            values["label"] = _label(root, line, values["label"], chosen.labels, chosen.first_id)
        samples.append(Sample(sample_id=row.get(id_column) or row[path_column], path=row[path_column], **values))
        lines.append(line)
    found = need_samples(samples, root, "at least one row below the header")
    labels = chosen or custom(sorted({s.label for s in found} - {""}))
    start = Path(pictures) if pictures else root.parent
    return Adapted(manifest=Manifest(samples=found, classes=labels, root=start, where=str(root), lines=tuple(lines)))


def _check_named(root: Path, row: dict[str, str], columns: dict[str, tuple[str, str]]) -> None:
    """A column that was asked for by name must be there; the standard names may be absent."""
    for option, (column, standard) in columns.items():
        if column != standard and column not in row:
            raise ManifestError(f"{root}:1: no column {column!r} (--{option}-column); {nearest(column, row)}")


def _label(root: Path, line: int, text: str, labels: tuple[str, ...], first_id: int) -> str:
    by_plain = {label.replace("_", " ").casefold(): label for label in labels}
    plain = text.replace("_", " ").casefold()
    if plain in by_plain:
        return by_plain[plain]
    if text.isascii() and text.isdigit() and first_id <= int(text) < first_id + len(labels):
        return labels[int(text) - first_id]
    raise ManifestError(f"{root}:{line}: label {text!r} is not in the class set; {nearest(text, labels)}")
