"""Folds of the rows: stratified by class, never cutting a group in two."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from cer_fusion.fusion.errors import HeadDataError
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cer_fusion.fusion.data.rows import Rows

IntArray = NDArray[np.int64]


def folds_of(rows: Rows, folds: int, seed: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield (learning rows, held-out rows) ``folds`` times; every row is held out exactly once.

    A class with fewer rows than folds is missing from some held-out parts, which is harmless; a class must however have
    two rows (in two groups) so that every learning part has one.

    Raises
    ------
    HeadDataError
        If there are fewer rows (or groups) than folds, or a class cannot be in every learning part.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    _check(rows, folds)
    groups = None if rows.clusters is None else np.asarray(rows.clusters)
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_splits=folds, shuffle=True, random_state=seed)
    present = np.flatnonzero(rows.supports)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # checked above, see the docstring
        parts = list(splitter.split(np.zeros((rows.n, 1)), rows.y, groups))
    for learn, held in parts:
        lost = np.setdiff1d(present, rows.y[learn])
        if lost.size:
            raise HeadDataError(
                f"class {rows.classes[lost[0]]!r} would be missing from a learning part: its rows share too few "
                f"groups for {folds} folds\n  use fewer folds, or choose on a validation split"
            )
        yield learn.astype(np.int64), held.astype(np.int64)


def _check(rows: Rows, folds: int) -> None:
    if folds < 2:
        raise HeadDataError(f"folds must be at least 2, however: {folds}")
    units, what = (rows.n, "rows") if rows.clusters is None else (len(set(rows.clusters)), "groups")
    supports = rows.supports
    if units < folds or supports.max() < folds:
        raise HeadDataError(
            f"{folds} folds need {folds} {what} and a class of at least {folds} rows, however: {units} {what}, "
            f"largest class {supports.max()} rows\n  use fewer folds"
        )
    for name, support in zip(rows.classes, supports.tolist(), strict=True):
        if support == 1:
            raise HeadDataError(
                f"class {name!r} has one training row: it cannot be learnt and held out at once\n"
                "  leave the class out, or choose on a validation split instead of folds"
            )
