"""The forms of an export: blocks of rows and columns of text, handed out in pieces, as other tools read them."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ...kit.text import number_text
from ..errors import FeatstoreError
from ..manifests.manifest import COLUMNS
from ..rows.view import BlockRows, View
from .foreign_formats import pyarrow

PIECE_BYTES = 32 * 1024 * 1024
"""Rows are handed out in pieces of about this size, so that memory does not grow with the store."""
SAMPLE_COLUMNS = ("sample_id", "label", "split", "group")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A view as it is written: blocks, and what is known about the samples as text."""

    blocks: Mapping[str, BlockRows | Joined] = field(repr=False)
    """Block name to rows of shape (n, d)."""
    ids: Sequence[str] = field(repr=False)
    labels: Sequence[str] = field(repr=False)
    """Class name of each sample; empty where it has none."""
    y: npt.NDArray[np.int64] = field(repr=False)
    splits: Sequence[str] = field(repr=False)
    groups: Sequence[str] = field(repr=False)
    classes: Sequence[str]
    """Class names in order."""
    progress: Callable[[str, int, int], None] = field(repr=False)
    further: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict, repr=False)
    """Columns of numbers, NaN where nothing is known."""

    @property
    def further_cells(self) -> Mapping[str, Sequence[str]]:
        """The columns of numbers as cells of a CSV, blank where nothing is known."""
        return {title: [*map(number_text, numbers.tolist())] for title, numbers in self.further.items()}

    def texts(self, paths: Sequence[str] | None = None) -> dict[str, Sequence[str]]:
        """What is known about the samples, by the names of `SAMPLE_COLUMNS`; with paths as a manifest has it."""
        between = {} if paths is None else {"path": paths}
        return {
            "sample_id": self.ids, **between, "label": self.labels, "split": self.splits, "group": self.groups,
        }  # fmt: skip

    def refuse_names(self, taken: Iterable[str]) -> None:
        """Refuse blocks that are called like something else in the same file."""
        if clash := sorted(set(taken) & set(self.blocks)):
            raise FeatstoreError(
                f"a block is called {clash[0]!r}, which this form uses for something else\n"
                f"  export it in another form, for instance --format npy"
            )


class Joined:
    """All blocks side by side, read in pieces like one (n, sum of widths) array."""

    def __init__(self, view: View) -> None:
        self._blocks = list(view.blocks.values())
        self.shape = (len(view), sum(view.widths.values()))

    def __getitem__(self, key: slice) -> npt.NDArray[np.float32]:
        return np.concatenate([rows[key] for rows in self._blocks], axis=1)  # n x (b, d_i) -> (b, sum of d_i)


def pieces(exported: Exported, *names: str) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Rows of one block, or of several side by side, as (number of the first row, rows); tells the progress."""
    blocks = [exported.blocks[name] for name in names]
    n = len(exported.ids)
    position = list(exported.blocks).index(names[0])
    step = max(1, PIECE_BYTES // (4 * sum(rows.shape[1] for rows in blocks)))
    for start in range(0, n, step):
        found = [rows[start : start + step] for rows in blocks]
        yield start, found[0] if len(found) == 1 else np.concatenate(found, axis=1)
        done = min(start + step, n) * len(names) + position * n
        exported.progress("export", done, n * len(exported.blocks))


def write_samples(
    exported: Exported, file: IO[str], *, header: Sequence[str] | None = None, paths: Sequence[str] | None = None
) -> None:
    """A CSV of the samples; with paths it is a manifest."""
    writer = csv.writer(file, lineterminator="\n")
    cells = exported.further_cells
    writer.writerow([*(header or SAMPLE_COLUMNS), *cells])
    between = [] if paths is None else [paths]
    columns = (exported.ids, *between, exported.labels, exported.splits, exported.groups, *cells.values())
    writer.writerows(zip(*columns, strict=True))


_TEXT_ROWS = 65536
_WRITTEN = (1980, 1, 1, 0, 0, 0)
"""The earliest date that zip knows, so that equal exports are equal bytes."""


def write_npz(exported: Exported, path: Path, note: tuple[str, str]) -> None:
    """One uncompressed archive: an array a block, and ids, labels, y, splits, groups, classes as arrays of text; of a
    manifest with columns of numbers an array each, such as `au.12`.

    `numpy.load(path)` reads it; nothing in it is pickled. `note` is the name and text of the note on its origin.
    """
    texts = {
        "ids": exported.ids,
        "labels": exported.labels,
        "splits": exported.splits,
        "groups": exported.groups,
        "classes": exported.classes,
    }
    exported.refuse_names([*texts, "y", note[0], *exported.further])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def member(name: str, write: Callable[[IO[bytes]], None]) -> None:
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _WRITTEN), "w", force_zip64=True) as file:
                write(file)

        for name in exported.blocks:
            member(name, lambda file, name=name: _write_block(file, exported, name))  # type: ignore[misc]
        for name, listed in texts.items():
            member(name, lambda file, listed=listed: _write_texts(file, listed))  # type: ignore[misc]
        for name, numbers in exported.further.items():
            member(name, lambda file, numbers=numbers: np.lib.format.write_array(file, numbers, allow_pickle=False))  # type: ignore[misc]
        member("y", lambda file: np.lib.format.write_array(file, np.asarray(exported.y, "<i8"), allow_pickle=False))
        member(note[0], lambda file: np.lib.format.write_array(file, np.array(note[1]), allow_pickle=False))


def write_npy(exported: Exported, folder: Path, names: Sequence[str], paths: Sequence[str] | None) -> None:
    """`features.npy` (or, of several blocks, `<block>.npy` each), `file_names.txt`, and `samples.csv`.

    Raises
    ------
    FeatstoreError
        If a name cannot stand on a line of its own.
    """
    for name in exported.blocks:
        with (folder / f"{'features' if len(exported.blocks) == 1 else name}.npy").open("xb") as file:
            _write_block(file, exported, name)
    text = "\n".join(names)
    if text.rstrip().splitlines() != list(names):
        raise FeatstoreError(
            "a name holds a line break or ends in a blank, so that file_names.txt could not be read back\n"
            "  export another form (npz, parquet), or name the rows by sample id"
        )
    (folder / "file_names.txt").write_bytes(f"{text}\n".encode())
    with (folder / "samples.csv").open("x", encoding="utf-8", newline="") as table:
        write_samples(exported, table, header=COLUMNS if paths else None, paths=paths)


def _write_block(file: IO[bytes], exported: Exported, name: str) -> None:
    """A `.npy` of float32 rows, written piece by piece."""
    _write_header(file, "<f4", exported.blocks[name].shape)
    for _, rows in pieces(exported, name):
        file.write(np.ascontiguousarray(rows, dtype="<f4").data.cast("B"))


def _write_texts(file: IO[bytes], texts: Sequence[str]) -> None:
    """A `.npy` of text, written piece by piece."""
    kind = np.dtype(f"<U{max([1, *map(len, texts)])}")
    _write_header(file, kind.str, (len(texts),))
    for start in range(0, len(texts), _TEXT_ROWS):
        file.write(np.array(texts[start : start + _TEXT_ROWS], dtype=kind).tobytes())


def _write_header(file: Any, descr: str, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})


_GROUP_ROWS = 8192
_EXACT = "%.9g"
"""Nine digits give every float32 back exactly."""


def write_csv(exported: Exported, path: Path) -> None:
    """`sample_id,label,split,group`, the manifest's columns of numbers, then a column `block_0 … block_<d-1>` a number;
    float32 come back exactly.
    """
    names, cells = list(exported.blocks), exported.further_cells
    columns = [f"{name}_{i}" for name in names for i in range(exported.blocks[name].shape[1])]
    exact = ",".join([_EXACT] * len(columns))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="")
        writer.writerow([*SAMPLE_COLUMNS, *cells, *columns])
        for start, rows in pieces(exported, *names):
            for i, numbers in enumerate(rows, start):
                file.write("\n")
                further = (column[i] for column in cells.values())
                writer.writerow((exported.ids[i], exported.labels[i], exported.splits[i], exported.groups[i], *further))
                file.write("," + exact % tuple(numbers.tolist()))
        file.write("\n")


def write_parquet(
    exported: Exported, path: Path, note: tuple[str, str], *, texts: Mapping[str, Sequence[str]], coded: bool = False
) -> None:
    """Columns of text, such as `sample_id`, `label`, `split`, `group`, the manifest's columns of numbers (null where
    not known), and one of fixed-size float32 lists a block.

    `note` is the key and text of the note on its origin, which goes into the file's metadata. With `coded` the column
    `label` holds positions in the classes, null where there is none, and the metadata name them as the library
    `datasets` reads that (`ClassLabel`).

    Raises
    ------
    FeatstoreError
        If pyarrow is not installed.
    """
    arrow, parquet = pyarrow()
    exported.refuse_names({*texts, "label", *exported.further})
    widths = {name: rows.shape[1] for name, rows in exported.blocks.items()}
    columns: dict[str, Any] = {name: (column, arrow.string()) for name, column in texts.items()}
    metadata = {note[0]: note[1]}
    if coded:
        columns["label"] = ([y if y >= 0 else None for y in exported.y.tolist()], arrow.int64())
        label = {"names": list(exported.classes), "_type": "ClassLabel"}
        metadata["huggingface"] = json.dumps({"info": {"features": {"label": label}}}, ensure_ascii=False)
    fields = [(name, kind) for name, (_, kind) in columns.items()]
    fields += [(name, arrow.float64()) for name in exported.further]
    fields += [(name, arrow.list_(arrow.float32(), width)) for name, width in widths.items()]
    schema = arrow.schema(fields, metadata=metadata)
    repeated = [name for name in columns if name not in ("sample_id", "path")]
    with parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=repeated) as writer:
        for start, rows in _groups(exported):
            stop = start + len(rows)
            arrays = [arrow.array(column[start:stop], kind) for column, kind in columns.values()]
            numbers = (one[start:stop] for one in exported.further.values())
            arrays += [arrow.array(one, arrow.float64(), mask=np.isnan(one)) for one in numbers]
            edges = np.cumsum([0, *widths.values()])
            for left, width in zip(edges.tolist(), widths.values(), strict=False):
                flat = np.ascontiguousarray(rows[:, left : left + width]).reshape(-1)  # (b, d) -> (b * d)
                arrays.append(arrow.FixedSizeListArray.from_arrays(arrow.array(flat), width))
            writer.write_batch(arrow.record_batch(arrays, schema=schema))


def write_projector(exported: Exported, folder: Path) -> None:
    """`tensors.tsv` (or, of several blocks, `<block>.tensors.tsv` each), `metadata.tsv`, `projector_config.pbtxt`.

    `tensorboard --logdir FOLDER` shows them, and so does the projector's own page with its two files loaded by hand.
    """
    config = []
    for name in exported.blocks:
        tensors = "tensors.tsv" if len(exported.blocks) == 1 else f"{name}.tensors.tsv"
        exact = "\t".join([_EXACT] * exported.blocks[name].shape[1]) + "\n"
        with (folder / tensors).open("x", encoding="utf-8", newline="") as file:
            for _, rows in pieces(exported, name):
                file.writelines(exact % tuple(numbers.tolist()) for numbers in rows)
        config.append(
            f"embeddings {{\n  tensor_name: {json.dumps(name)}\n  tensor_path: {json.dumps(tensors)}\n"
            f'  metadata_path: "metadata.tsv"\n}}\n'
        )
    with (folder / "metadata.tsv").open("x", encoding="utf-8", newline="") as file:
        cells = exported.further_cells
        file.write("\t".join((*SAMPLE_COLUMNS, *cells)) + "\n")
        columns = (exported.ids, exported.labels, exported.splits, exported.groups, *cells.values())
        for entry in zip(*columns, strict=True):
            file.write("\t".join(" ".join(text.split()) for text in entry) + "\n")  # no quoting in this format
    (folder / "projector_config.pbtxt").write_text("".join(config), encoding="utf-8")


def _groups(exported: Exported) -> Iterator[tuple[int, Any]]:
    """Pieces cut down to row groups, so that a reader's memory is bounded as well."""
    for start, rows in pieces(exported, *exported.blocks):
        for first in range(0, len(rows), _GROUP_ROWS):
            yield start + first, rows[first : first + _GROUP_ROWS]
