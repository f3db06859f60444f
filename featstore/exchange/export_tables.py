"""Exports as tables: CSV, Parquet, and the tab-separated files of TensorBoard's embedding projector."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cer_fusion.featstore.exchange.export_rows import SAMPLE_COLUMNS, Exported, pieces
from cer_fusion.featstore.exchange.parquet import pyarrow

_GROUP_ROWS = 8192
_EXACT = "%.9g"
"""Nine digits give every float32 back exactly."""


def write_csv(exported: Exported, path: Path) -> None:
    """`sample_id,label,split,group`, then a column `block_0 … block_<d-1>` a number; float32 come back exactly."""
    names = list(exported.blocks)
    columns = [f"{name}_{i}" for name in names for i in range(exported.blocks[name].shape[1])]
    exact = ",".join([_EXACT] * len(columns))
    with path.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="")
        writer.writerow([*SAMPLE_COLUMNS, *columns])
        for start, rows in pieces(exported, *names):
            for i, numbers in enumerate(rows, start):
                file.write("\n")
                writer.writerow((exported.ids[i], exported.labels[i], exported.splits[i], exported.groups[i]))
                file.write("," + exact % tuple(numbers.tolist()))
        file.write("\n")


def write_parquet(exported: Exported, path: Path, note: tuple[str, str]) -> None:
    """The columns `sample_id`, `label`, `split`, `group`, and one of fixed-size float32 lists a block.

    `note` is the key and text of the note on its origin, which goes into the file's metadata.

    Raises
    ------
    FeatstoreError
        If pyarrow is not installed.
    """
    arrow, parquet = pyarrow()
    exported.refuse_names(SAMPLE_COLUMNS)
    widths = {name: rows.shape[1] for name, rows in exported.blocks.items()}
    fields = [(name, arrow.string()) for name in SAMPLE_COLUMNS]
    fields += [(name, arrow.list_(arrow.float32(), width)) for name, width in widths.items()]
    schema = arrow.schema(fields, metadata={note[0]: note[1]})
    texts = (exported.ids, exported.labels, exported.splits, exported.groups)
    with parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=list(SAMPLE_COLUMNS[1:])) as writer:
        for start, rows in _groups(exported):
            stop = start + len(rows)
            arrays = [arrow.array(column[start:stop], arrow.string()) for column in texts]
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
        file.write("\t".join(SAMPLE_COLUMNS) + "\n")
        for entry in zip(exported.ids, exported.labels, exported.splits, exported.groups, strict=True):
            file.write("\t".join(" ".join(text.split()) for text in entry) + "\n")  # no quoting in this format
    (folder / "projector_config.pbtxt").write_text("".join(config), encoding="utf-8")


def _groups(exported: Exported) -> Iterator[tuple[int, Any]]:
    """Pieces cut down to row groups, so that a reader's memory is bounded as well."""
    for start, rows in pieces(exported, *exported.blocks):
        for first in range(0, len(rows), _GROUP_ROWS):
            yield start + first, rows[first : first + _GROUP_ROWS]
