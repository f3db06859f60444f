"""Near-duplicates: faces that stand on both sides of a split, recropped or a frame later, found by their features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.diagnosis.pieces import Centred, mean_row, places
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

THRESHOLD = 0.85
"""On FER+'s compound faces with three backbones: above it the same photograph in another crop, below other moments.
Few or narrow blocks are alike by chance more often: look at the pairs before believing a number."""
MOST_PAIRS = 10_000


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two rows that look alike."""

    sample_id: str
    """The row that is judged on."""
    other_id: str
    """The row that is learned from (or, within one split, another row)."""
    cosine: float
    """How alike, at most 1."""


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Pairs of rows across two splits (or within one) whose features nearly agree."""

    threshold: float
    """Smallest cosine that counts."""
    found: int
    """Pairs at or above it."""
    samples: int
    """Rows judged on that are in a pair."""
    pairs: tuple[Pair, ...]
    """The pairs, most alike first; at most `MOST_PAIRS`."""


def near_duplicates(
    test: Rows, train: Rows | None = None, *, threshold: float = THRESHOLD
) -> tuple[NearDuplicates, NDArray[np.bool_]]:
    """Find rows of a test set that nearly stand in the training set, and say which rows they are, a mask (n,).

    The cosine is the mean over the blocks of each block's cosine, after the training rows' mean is taken off: features
    after a ReLU all point one way, so raw cosines are high for any two faces. Rows are multiplied piece by piece, so
    memory is bounded however many there are.

    Parameters
    ----------
    test, train : Rows
        Rows with the same blocks, lazy ones too. Without training rows pairs are sought within the test rows.
    threshold : float
        Smallest cosine that counts, -1 to 1.
    """
    if not -1 <= threshold <= 1:
        raise ReportError(f"a cosine lies between -1 and 1, however: threshold {threshold}")
    base = test if train is None else train
    means = {name: mean_row(block) for name, block in base.blocks.items()}
    hit = np.zeros(test.n, np.bool_)
    found, rows, others, cosines = 0, [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for start, piece in _pieces(test, means):
        for begin, against in _pieces(base, means):
            if train is None and begin > start:
                break  # each pair once
            cosine = piece @ against.T
            i, j = np.nonzero(cosine >= threshold)
            values, i, j = cosine[i, j], i + start, j + begin
            if train is None:
                once = j < i
                values, i, j = values[once], i[once], j[once]
                hit[j] = True
            hit[i] = True
            found += i.size
            rows, others, cosines = _kept([*rows, i], [*others, j], [*cosines, values])
    pairs = tuple(
        Pair(sample_id=test.names[i], other_id=base.names[j], cosine=float(value))
        for i, j, value in zip(rows[0].tolist(), others[0].tolist(), cosines[0].tolist(), strict=True)
    )
    return NearDuplicates(threshold=threshold, found=found, samples=int(hit.sum()), pairs=pairs), hit


def _kept(
    rows: list[NDArray[np.int64]], others: list[NDArray[np.int64]], cosines: list[FloatArray]
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]], list[FloatArray]]:
    """Keep the `MOST_PAIRS` most alike, most alike first."""
    i, j, value = np.concatenate(rows), np.concatenate(others), np.concatenate(cosines)
    order = np.lexsort((j, i, -value))[:MOST_PAIRS]
    return [i[order]], [j[order]], [value[order]]


def _pieces(rows: Rows, means: Mapping[str, NDArray[np.float64]]) -> Iterator[tuple[int, FloatArray]]:
    """Yield rows as vectors whose products are mean cosines, piece by piece: (m, D)."""
    share = np.float32(1 / np.sqrt(len(means)))
    for where in places(rows.n):
        parts = []
        for name, mean in means.items():
            part = Centred(rows.blocks[name], mean).piece(where).astype(np.float32)
            length = np.sqrt((part**2).sum(axis=1, keepdims=True))
            parts.append(share * np.divide(part, length, out=np.zeros_like(part), where=length > 0))
        yield where.start, np.concatenate(parts, axis=1)
