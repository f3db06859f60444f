"""Letters under a table: columns that share one cannot be told apart (a compact letter display)."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters

import numpy as np
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.statistics.paired import bootstrap_p, holm
from numpy.typing import NDArray


def letters_of(draws: NDArray[np.float64], values: Sequence[float], alpha: float) -> list[str]:
    """Give letters to columns by paired bootstrap tests of all pairs, Holm-corrected.

    Parameters
    ----------
    draws : array of shape (r, h)
        Scores of h columns on the same r resamples.
    values : sequence of h floats
        The scores themselves; the best column gets ``a``.
    alpha : float
        Family-wise error, 0-1.

    Raises
    ------
    ReportError
        If so few resamples cannot show any difference among so many pairs.
    """
    h = draws.shape[1]
    pairs = [(i, j) for i in range(h) for j in range(i + 1, h)]
    if not enough(len(draws), h, alpha):
        raise ReportError(
            f"{len(draws)} resamples cannot tell {h} columns apart at {alpha:g}, whatever they are\n"
            f"  take at least {int(2 * len(pairs) / alpha)} resamples"
        )
    p_values = holm([bootstrap_p(draws[:, i] - draws[:, j]) for i, j in pairs])
    differ = np.zeros((h, h), dtype=np.bool_)
    for (i, j), p in zip(pairs, p_values, strict=True):
        differ[i, j] = differ[j, i] = p <= alpha
    return display(differ, np.argsort(-np.asarray(values), kind="stable").tolist())


def enough(resamples: int, columns: int, alpha: float) -> bool:
    """Whether the smallest p-value that so many resamples can give survives Holm's correction over all pairs."""
    return columns * (columns - 1) / (resamples + 1) <= alpha


def display(differ: NDArray[np.bool_], order: Sequence[int]) -> list[str]:
    """Return a text of letters per column, so that two columns share a letter exactly if they do not differ.

    Insert-and-absorb (Piepho 2004, *An Algorithm for a Letter-Based Representation of All-Pairwise Comparisons*):
    begin with one letter for all; a pair that differs splits every letter it shares; a letter whose columns another
    letter has too is dropped. Letters run in `order`, the best column first.

    Parameters
    ----------
    differ : bool array of shape (h, h)
        Symmetric; true where two columns differ.
    order : sequence of h ints
        The columns from best to worst.
    """
    h = len(differ)
    shared = [frozenset(range(h))]
    for i, j in np.argwhere(np.triu(differ, 1)).tolist():
        split = [part - {out} for part in shared for out in ((i, j) if {i, j} <= part else (-1,))]
        shared = [part for part in dict.fromkeys(split) if not any(part < other for other in split)]
    rank = {column: place for place, column in enumerate(order)}
    shared.sort(key=lambda part: sorted(rank[column] for column in part))
    names = [ascii_letters[i] if i < len(ascii_letters) else f"({i})" for i in range(len(shared))]
    return ["".join(name for name, part in zip(names, shared, strict=True) if column in part) for column in range(h)]
