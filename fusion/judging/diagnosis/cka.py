"""Linear CKA: how alike two blocks arrange the same rows, whatever their axes, scale and width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.diagnosis.agreement import Matrix
from cer_fusion.fusion.judging.diagnosis.pieces import Centred, places
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Linear CKA of all pairs of blocks."""

    names: tuple[str, ...]
    """The blocks."""
    cka: Matrix
    """Symmetric; 1 on the diagonal, about 0 for blocks with nothing in common."""
    n: int
    """Rows it was measured on."""


def similarity(blocks: Mapping[str, Any]) -> Similarity:
    """Measure the debiased linear CKA of all pairs of blocks of shape (n, d_i), lazy ones too."""
    names = tuple(blocks)
    found = np.eye(len(names))
    for i, one in enumerate(names):
        for j in range(i):
            found[i, j] = found[j, i] = linear_cka(blocks[one], blocks[names[j]], debiased=True)
    return Similarity(names=names, cka=tuple(tuple(row) for row in found.tolist()), n=len(next(iter(blocks.values()))))


def linear_cka(x: Any, y: Any, *, debiased: bool = False) -> float:
    """Return the linear centred kernel alignment of two blocks of the same rows.

    Kornblith, Norouzi, Lee, Hinton 2019, *Similarity of Neural Network Representations Revisited*, §3: with centred
    columns ``|Y^T X|^2 / (|X^T X| |Y^T Y|)`` in the Frobenius norm, unchanged by rotations, shifts and one factor for
    all columns of a block. With fewer rows than columns that is high for any two blocks; the debiased form replaces
    each norm by the unbiased estimator of HSIC (Song et al. 2012, *Feature Selection via Dependence Maximization*,
    equation 5), written for features so that no kernel is needed. It can be a little below 0.

    Blocks are read piece by piece. Where columns are few the products of columns (d, e) are held; where they are many
    the products of rows are summed piece by piece, which gives the same.

    Parameters
    ----------
    x, y : arrays of shape (n, d), (n, e)
        Rows aligned by sample; at least 4 rows.

    Raises
    ------
    ReportError
        If the rows differ in number or are too few, or a block is constant.
    """
    a, b = Centred.of(x), Centred.of(y)
    if a.shape[0] != b.shape[0] or a.shape[0] < 4:
        raise ReportError(f"CKA needs two blocks of the same 4 rows or more, however: {a.shape[0]} and {b.shape[0]}")
    own, other = _dependence(a, a, debiased), _dependence(b, b, debiased)
    if own <= 0 or other <= 0:
        raise ReportError("CKA is undefined for a block whose rows are all the same, or that is mere noise on few rows")
    return _dependence(a, b, debiased) / float(np.sqrt(own * other))


def _dependence(a: Centred, b: Centred, debiased: bool) -> float:
    """Return the squared norm of A^T B, or n (n - 3) times the unbiased HSIC, of centred blocks."""
    n = a.shape[0]
    total = _by_columns(a, b) if a.shape[1] * b.shape[1] <= n * n else _by_rows(a, b)
    if not debiased:
        return total
    one, other = _diagonal(a), _diagonal(b)
    return total - n / (n - 2) * float(one @ other) + float(one.sum() * other.sum()) / ((n - 1) * (n - 2))


def _by_columns(a: Centred, b: Centred) -> float:
    product = np.zeros((a.shape[1], b.shape[1]))
    for where in places(a.shape[0]):
        product += a.piece(where).T @ b.piece(where)  # (m, d), (m, e) -> (d, e)
    return float((product**2).sum())


def _by_rows(a: Centred, b: Centred) -> float:
    """The same as the product of the kernels A A^T and B B^T, entry by entry."""
    total = 0.0
    for i in places(a.shape[0]):
        for j in places(a.shape[0]):
            total += float(((a.piece(i) @ a.piece(j).T) * (b.piece(i) @ b.piece(j).T)).sum())
    return total


def _diagonal(a: Centred) -> FloatArray:
    """Squared lengths of the rows, the diagonal of the kernel: (n,)."""
    return np.concatenate([(a.piece(where) ** 2).sum(axis=1) for where in places(a.shape[0])])
