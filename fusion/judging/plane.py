"""Rows on a plane, with what a head says of each: to look at, here or in other tools' viewers.

Principal components need nothing but NumPy and SciPy, and rows may stay on the disk. UMAP is asked for by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...kit.errors import needed
from ...kit.files import whole_file
from ..data.blocks import slices, widths_of
from ..data.joined import JoinedRows, each_piece
from ..errors import ReportError

MapKind: TypeAlias = Literal["pca", "umap"]
FIRST: Final = 50
"""Components that UMAP is given: distances among thousands of columns are mostly noise."""
KEY: Final = "cer_explore"
"""The note's name among a Parquet file's metadata."""


def principal(blocks: Mapping[str, Any], components: int = 2) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first principal components of joined blocks, each block over the root of its whole variance.

    So no block drowns another by its scale or width, and distances within a block stay as they are. Lazy blocks are
    read three times, piece by piece. The sign of a component is such that its largest loading is positive.

    Parameters
    ----------
    blocks : dict of block name to float32 rows of shape (n, d_i)
    components : int

    Returns
    -------
    places : (n, components) float64
        Zeros where there are fewer components than asked for.
    shares : (components,) float64
        Of the whole variance.
    """
    from scipy.linalg import eigh

    rows, widths = JoinedRows(blocks), widths_of(blocks)
    n, d = rows.shape
    mean = sum(each_piece(rows, lambda _, part: part.sum(axis=0, dtype=np.float64))) / max(n, 1)
    squares = sum(each_piece(rows, lambda _, part: ((part - mean) ** 2).sum(axis=0)))
    scale = np.ones(d)
    for where in slices(widths).values():
        scale[where] = np.sqrt(np.asarray(squares)[where].sum() / max(n, 1)) or 1.0

    def scaled(part: Any) -> NDArray[np.float64]:
        return np.asarray((part - mean) / scale)

    whole = float((np.asarray(squares) / scale**2).sum())
    count = min(components, n, d)
    if n <= d:  # few rows: their products with each other are the smaller matrix
        z = scaled(rows[:])
        values, vectors = eigh(z @ z.T, subset_by_index=[n - count, n - 1])
        loadings = z.T @ vectors
        loadings /= np.maximum(np.linalg.norm(loadings, axis=0), np.finfo(np.float64).tiny)
    else:
        total = np.zeros((d, d))
        for part in each_piece(rows, lambda _, part: scaled(part).T @ scaled(part)):
            total += part
        values, loadings = eigh(total, subset_by_index=[d - count, d - 1])
    loadings = loadings[:, ::-1]
    loadings = loadings * np.where(loadings[np.abs(loadings).argmax(axis=0), np.arange(count)] < 0, -1.0, 1.0)
    found, shares = np.zeros((n, components)), np.zeros(components)
    found[:, :count] = np.concatenate(list(each_piece(rows, lambda _, part: scaled(part) @ loadings)))
    shares[:count] = np.maximum(values[::-1], 0) / whole if whole > 0 else 0.0
    return found, shares


def umap_of(blocks: Mapping[str, Any], *, seed: int) -> NDArray[np.float64]:
    """Return places (n, 2) by UMAP (McInnes, Healy and Melville 2018, arXiv:1802.03426) on the first 50 components.

    Raises
    ------
    MissingExtraError
        If umap-learn is not installed.
    ReportError
        If there are too few rows to have neighbours.
    """
    library = needed("umap", "a map by UMAP", extra="umap")
    places, _ = principal(blocks, min(FIRST, sum(widths_of(blocks).values())))
    if len(places) < 5:
        raise ReportError(f"UMAP needs neighbours: five rows or more, however: {len(places)}; take --map pca")
    made = library.UMAP(n_components=2, n_neighbors=min(15, len(places) - 1), random_state=seed, n_jobs=1)
    return np.asarray(made.fit_transform(places), dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Explored:
    """Rows with their places and a head's answers."""

    places: NDArray[np.float64]
    """(n, 2)."""
    kind: MapKind
    shares: tuple[float, ...]
    """Of the variance that the two principal components have; empty for UMAP."""
    ids: Sequence[str]
    y: NDArray[np.int64]
    """(n,) positions in ``classes``; -1 where there is no label."""
    proba: NDArray[np.float64]
    """(n, k) as the head answers."""
    classes: tuple[str, ...]
    splits: Sequence[str]
    groups: Sequence[str]
    paths: Sequence[str]
    """Of the pictures, as the manifest has them."""
    thumbnails: Sequence[bytes | None] | None = None
    """JPEG; None of a row whose picture cannot be read; None for all where nobody asked."""

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(n,) most probable class."""
        return np.asarray(self.proba.argmax(axis=1), np.int64)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """(n,) its probability."""
        return np.asarray(self.proba.max(axis=1))

    @property
    def loss(self) -> list[float | None]:
        """Minus the logarithm of the label's probability, nats; None without a label."""
        of_label = self.proba[np.arange(len(self.y)), np.maximum(self.y, 0)]
        found = -np.log(np.maximum(of_label, np.finfo(np.float64).tiny))
        return [value if y >= 0 else None for value, y in zip(found.tolist(), self.y.tolist(), strict=True)]


def write_explored(path: Path, found: Explored, *, described: Mapping[str, Any], overwrite: bool = False) -> Path:
    """Write a Parquet file, whole or not at all: a row a sample, as viewers of embeddings read it.

    Columns: ``sample_id``, ``path``, ``x``, ``y``, ``label``, ``predicted``, ``correct``, ``confidence``, ``loss``,
    ``split``, ``group``, and where there are thumbnails ``thumbnail``, a struct of ``bytes`` and ``path`` as the
    library `datasets` keeps pictures.

    Raises
    ------
    MissingExtraError
        If pyarrow is not installed.
    OutputExistsError, WriteError
    """
    arrow: Any = needed("pyarrow", "a Parquet file", extra="parquet")
    parquet: Any = needed("pyarrow.parquet", "a Parquet file", extra="parquet")
    text, number = arrow.string(), arrow.float32()
    labels = [found.classes[y] if y >= 0 else None for y in found.y.tolist()]
    answers = [found.classes[y] for y in found.predicted.tolist()]
    columns: dict[str, tuple[Any, Any]] = {
        "sample_id": (list(found.ids), text),
        "path": (list(found.paths), text),
        "x": (found.places[:, 0], number),
        "y": (found.places[:, 1], number),
        "label": (labels, text),
        "predicted": (answers, text),
        "correct": ([None if a is None else a == b for a, b in zip(labels, answers, strict=True)], arrow.bool_()),
        "confidence": (found.confidence, number),
        "loss": (found.loss, number),
        "split": (list(found.splits), text),
        "group": (list(found.groups), text),
    }
    metadata = {KEY: json.dumps(
        {**described, "map": found.kind, "variance": list(found.shares), "classes": list(found.classes)},
        ensure_ascii=False,
    )}  # fmt: skip
    if found.thumbnails is not None:
        kind = arrow.struct([("bytes", arrow.binary()), ("path", text)])
        pictures = [None if one is None else {"bytes": one, "path": None} for one in found.thumbnails]
        columns["thumbnail"] = (pictures, kind)
        metadata["huggingface"] = json.dumps({"info": {"features": {"thumbnail": {"_type": "Image"}}}})
    schema = arrow.schema([(name, kind) for name, (_, kind) in columns.items()], metadata=metadata)
    table = arrow.table([arrow.array(values, kind) for values, kind in columns.values()], schema=schema)
    with whole_file(path, overwrite=overwrite) as file:
        parquet.write_table(table, file, compression="zstd")
    return path
