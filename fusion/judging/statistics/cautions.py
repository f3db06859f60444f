"""Cautions under a comparison: what so many rows can show, and how much the best of several heads flatters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cer_fusion.fusion.judging.report import Column
from cer_fusion.fusion.judging.statistics.intervals import Bootstrap
from cer_fusion.fusion.judging.statistics.optimism import optimism
from cer_fusion.fusion.judging.statistics.power import POWER, smallest_difference, smallest_shift
from cer_fusion.fusion.keeping.answers import Truth


def cautions(columns: Sequence[Column], base: int | None, test: Truth, draws: Bootstrap, level: float) -> list[str]:
    """Return sentences for the report's notes; none where there is nothing to compare.

    Parameters
    ----------
    columns : sequence of Column
        In the order of the draws' columns.
    base : int or None
        The column that the others are tested against; None takes that of the best macro F1.
    test, draws, level
        The rows, their bootstrap (r, h), and the level of the intervals.
    """
    if len(columns) < 2:
        return []
    macro_f1 = [column.mean("macro_f1") for column in columns]
    best = int(np.argmax(macro_f1))
    flattery = optimism(draws.macro_f1, macro_f1)
    return [
        _power(columns, best if base is None else base, test, draws, 1 - level),
        f"The best of {len(columns)} columns is chosen on the rows it is judged on: its macro F1 is expected to "
        f"flatter by {100 * flattery:.1f} points (bootstrap). Judge it on rows that had no part in the choice.",
    ]


def _power(columns: Sequence[Column], base: int, test: Truth, draws: Bootstrap, alpha: float) -> str:
    others = [i for i in range(len(columns)) if i != base]
    f1 = [
        smallest_difference(float((draws.macro_f1[:, i] - draws.macro_f1[:, base]).std()), alpha=alpha) for i in others
    ]
    accuracy = [_of_accuracy(columns[i], columns[base], test, draws, (i, base), alpha) for i in others]
    return (
        f"Smallest true differences to '{columns[base].name}' that {len(test.y)} such rows show in {100 * POWER:g} of "
        f"100 cases (two-sided {100 * alpha:.2g} %, one test): accuracy {_range(accuracy)}, macro F1 {_range(f1)}. "
        "Smaller ones are often missed: no difference found is not the same as none there."
    )


def _of_accuracy(
    one: Column, other: Column, test: Truth, draws: Bootstrap, pair: tuple[int, int], alpha: float
) -> float | None:
    """By McNemar's test where rows are independent and each head answered once; else by the bootstrap."""
    if test.clusters is None and not one.other_runs:
        apart = float(np.mean((one.y_pred == test.y) != (other.y_pred == test.y)))
        return smallest_shift(len(test.y), apart, alpha=alpha)
    i, j = pair
    return smallest_difference(float((draws.accuracy[:, i] - draws.accuracy[:, j]).std()), alpha=alpha)


def _range(shares: Sequence[float | None]) -> str:
    """Write the smallest and largest in points; a pair that nothing could tell apart says so."""
    known = sorted(100 * share for share in shares if share is not None)
    if not known:
        return "none (the answers are too alike)"
    low, high = f"{known[0]:.1f}", f"{known[-1]:.1f}"
    return f"{low} points" if low == high else f"{low} to {high} points"
