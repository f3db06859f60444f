"""Agreement: how alike several heads answer, and what a perfect choice among them could reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from cer_fusion.fusion.judging.metrics import confusion_matrix
from cer_fusion.fusion.judging.statistics.kappa import cohen_kappa
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Matrix: TypeAlias = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Pairwise figures of several heads on the same rows; matrices are symmetric, in the order of the names."""

    names: tuple[str, ...]
    """The heads, here single backbones."""
    kappa: Matrix
    """Cohen's kappa of the answers (Cohen 1960): 1 the same, 0 as by chance; None where both give one answer only."""
    disagreement: Matrix
    """Share of rows that exactly one of the two gets right (Kuncheva and Whitaker 2003, §2.1.3)."""
    double_fault: Matrix
    """Share of rows that both get wrong (Giacinto and Roli 2001): what no choice between the two repairs."""
    accuracy: tuple[float, ...]
    """Accuracy of each."""
    oracle: float
    """Share of rows that at least one head gets right: no choice among them can be more accurate."""
    all_right: float
    """Share of rows that every head gets right."""


def agreement(y: IntArray, answers: Mapping[str, IntArray], k: int) -> Agreement:
    """Compare the answers, class positions of shape (n,), of several heads with each other and with the truth."""
    called = np.stack(list(answers.values()))  # (h, n)
    right = called == y
    apart = (right[:, None] != right[None]).mean(axis=2)
    wrong = (~right[:, None] & ~right[None]).mean(axis=2)
    return Agreement(
        names=tuple(answers),
        kappa=tuple(tuple(cohen_kappa(confusion_matrix(a, b, k)) for b in called) for a in called),
        disagreement=_plain(apart),
        double_fault=_plain(wrong),
        accuracy=tuple(right.mean(axis=1).tolist()),
        oracle=float(right.any(axis=0).mean()),
        all_right=float(right.all(axis=0).mean()),
    )


def _plain(matrix: NDArray[Any]) -> Matrix:
    return tuple(tuple(row) for row in matrix.tolist())
