"""How data enters a head: arrays as scikit-learn takes them, rows that stay on the disk, and what no head takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from cer_fusion.fusion.data.blocks import WHOLE, FloatArray, slices
from cer_fusion.fusion.data.joined import JoinedRows, Matrix, each_piece
from cer_fusion.fusion.errors import BlockError, HeadDataError
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.validation import validate_data

if TYPE_CHECKING:
    from cer_fusion.fusion.heads.base import Head


def entered_with_labels(head: Head, X: Any, y: Any) -> tuple[Matrix, NDArray[Any]]:
    """Return rows (n, D) and labels (n,) to fit on: an array as float32, lazy rows as they are.

    Raises
    ------
    HeadDataError
        If the rows are lazy and the head cannot learn in pieces.
    ValueError
        As scikit-learn's own checks do.
    """
    if not isinstance(X, JoinedRows):
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinity, which is refused later by place
            found: tuple[FloatArray, NDArray[Any]] = validate_data(
                head, X, y, dtype=np.float32, order="C", ensure_all_finite=False
            )
        return found
    _refuse_what_needs_memory(head, X)
    labels: NDArray[Any] = column_or_1d(y, warn=True)
    check_consistent_length(X, labels)
    if not len(X):
        raise HeadDataError("there are no rows to learn from\n  check the split and the label set")
    _refuse_other_blocks(head.blocks, X)
    head.n_features_in_ = X.shape[1]
    return X, labels


def entered(head: Head, X: Any) -> Matrix:
    """Return rows (n, D) to answer about: an array as float32, lazy rows as they are.

    Raises
    ------
    BlockError
        If lazy rows are joined from other blocks than those the head learned from.
    ValueError
        As scikit-learn's own checks do.
    """
    if not isinstance(X, JoinedRows):
        with np.errstate(over="ignore"):
            checked = validate_data(head, X, reset=False, dtype=np.float32, order="C", ensure_all_finite=False)
        return np.asarray(checked)
    if X.shape[1] != head.n_features_in_:
        raise BlockError(
            f"X has {X.shape[1]} features, but {type(head).__name__} is expecting {head.n_features_in_} features"
        )
    if not len(X):
        raise HeadDataError("there are no rows to answer about")
    _refuse_other_blocks(head.blocks_, X)
    return X


def refuse_unfinite(head: Head, X: Matrix) -> None:
    """Refuse rows with NaN or infinity, naming the first one's place; lazy rows are read through once."""

    def look(start: int, piece: FloatArray) -> None:
        refuse_unfinite_piece(head, start, piece)

    deque(each_piece(X, look), maxlen=0)


def refuse_unfinite_piece(head: Head, start: int, piece: FloatArray) -> FloatArray:
    """Return rows (m, D), the first of which is row `start`, if all of them are finite.

    Raises
    ------
    HeadDataError
        Naming row, block and column of the first value that is not.
    """
    # The sum is finite only if every value is, unless large finite values overflow: then look value by value.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(piece.sum(dtype=np.float64)):
            return piece
    rows, columns = np.nonzero(~np.isfinite(piece))
    if len(rows) == 0:
        return piece
    row, column = int(rows[0]), int(columns[0])
    where = next((n, column - s.start) for n, s in slices(head.blocks_).items() if s.start <= column < s.stop)
    span = f" looked at from row {start} on" if start else ""
    raise HeadDataError(
        f"X holds NaN or infinity (inf): {len(rows)} of {piece.size} values, in {len(np.unique(rows))} of {len(piece)} "
        f"rows{span}\n"
        f"  first: row {start + row}, block {where[0]!r}, column {where[1]} of it: {piece[row, column]}\n"
        f"  {type(head).__name__} takes none as 'missing': embed those samples again or leave them out"
    )


def _refuse_what_needs_memory(head: Head, X: JoinedRows) -> None:
    if head.learns_in_pieces:
        return
    from cer_fusion.fusion.heads import heads_in_pieces

    raise HeadDataError(
        f"the head {head.name!r} learns from rows in memory only, at least {X.nbytes:,} bytes for {len(X):,} rows of "
        f"{X.shape[1]:,} columns, however: these rows stay on the disk\n"
        f"  load them (Rows.of(view), numpy.asarray(X)), or use a head that learns in pieces: "
        f"{', '.join(heads_in_pieces())}"
    )


def _refuse_other_blocks(blocks: Any, X: JoinedRows) -> None:
    """Lazy rows know their blocks by name: of equal widths in another order they must not pass."""
    if not isinstance(blocks, Mapping) or list(blocks) == [WHOLE] or list(blocks.items()) == list(X.widths.items()):
        return
    expected, found = (", ".join(f"{name}={width}" for name, width in one.items()) for one in (blocks, X.widths))
    raise BlockError(
        f"X must join the head's blocks in the head's order, however: expected {expected}, found {found}\n"
        "  join the same blocks in the same order: JoinedRows(view.blocks)"
    )
