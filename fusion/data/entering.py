"""Rows and labels as people give them: arrays, tensors, frames; and what is given for them by mistake."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np

from ...kit.errors import listing
from ..errors import BlockError, HeadDataError

UNNUMBERED = 3
"""Beside so many labels from 0 up, -1 is no class: the store's word for rows without a label. Beside fewer it may be
one: negative, neutral, positive."""


def entered_table(X: Any, blocks: Mapping[str, int] | None = None) -> Any:
    """Return rows as scikit-learn takes them: a tensor as an array in memory, anything else as it is.

    Parameters
    ----------
    X : array, tensor, frame or JoinedRows of shape (n, D)
        Tensors may be on any device, of any floating dtype (bfloat16 too), and part of a graph.
    blocks : dict of block name to width, optional
        What the columns are. Those of a frame that say it themselves, as `View.to_pandas` names them, must agree.

    Raises
    ------
    HeadDataError
        For a view, rows with labels, a dict of blocks or a path, saying what to give instead; for columns of texts.
    BlockError
        If a frame's columns stand in another order than the blocks.
    """
    if isinstance(X, np.ndarray):
        return X
    if isinstance(X, (str, bytes, os.PathLike)):
        raise HeadDataError(
            f"X must be rows of numbers (n, D), however: the text {os.fspath(X)!r}\n  of a store's rows: "
            "cer_fusion.Store(…).view(['vit', …]).join(); of a file, what reads it, such as numpy.load"
        )
    if isinstance(X, Mapping) and not hasattr(X, "shape"):  # which SciPy's dictionaries of keys have
        raise HeadDataError(
            f"X must be rows of numbers (n, D), however: a {type(X).__name__} of {listing(map(str, X))}\n"
            "  join its blocks: cer_fusion.fusion.concat(blocks)"
        )
    if hasattr(X, "blocks") and not hasattr(X, "shape"):
        joined = "view.join()" if hasattr(X, "join") else "rows.x()"
        raise HeadDataError(f"X must be rows of numbers (n, D), however: {X!r}\n  give {joined}")
    if (titles := titles_of(X)) is not None:
        _refuse_texts(X, titles)
        _refuse_other_order(titles, blocks)
    return in_memory(X, "X")


def in_memory(values: Any, what: str) -> Any:
    """Return a tensor as an array in memory, float32 where NumPy has no such floats; anything else as it is."""
    if not (hasattr(values, "detach") and hasattr(values, "cpu")):
        return values
    if getattr(values, "is_meta", False):
        raise HeadDataError(f"{what} is a tensor on the device 'meta', which holds no numbers: give one that does")
    if getattr(values, "layout", None) is not None and "strided" not in str(values.layout):
        raise HeadDataError(
            f"{what} must be dense, however: a tensor of layout {values.layout}\n  give {what}.to_dense()"
        )
    here = values.detach().cpu()
    try:
        return here.numpy()
    except TypeError:  # bfloat16 and smaller: NumPy has none
        return here.float().numpy()


def check_labelled(y: Any) -> None:
    """Refuse labels (n,) some of which are none: None or NaN, the empty text, and -1 beside numbered classes.

    Raises
    ------
    HeadDataError
        Naming the first row.
    """
    found = np.asarray(y)
    if found.ndim != 1 or not found.size:
        return
    if found.dtype == object:
        none = np.array([one is None or (isinstance(one, str) and not one) for one in found.tolist()])
    elif found.dtype.kind == "U":
        none = found == ""
    elif found.dtype.kind == "i" and len(np.unique(found[found >= 0])) >= UNNUMBERED and found.min() == -1:
        none = found == -1
    else:
        return
    if none.any():
        first = int(none.argmax())
        raise HeadDataError(
            f"y must name the class of every row, however: {int(none.sum()):,} of {len(found):,} rows have none "
            f"(first: row {first}, {found.tolist()[first]!r})\n"
            "  leave them out, here as in X: of a view, view.take(view.y >= 0)"
        )


def in_order(estimator: Any, most: int = 700) -> str:
    """Return an estimator's class and what is not its default; scikit-learn's own would sort the blocks by name."""
    parameters = signature(type(estimator)).parameters
    settings = estimator.get_params(deep=False).items()
    shown = [f"{name}={one!r}" for name, one in settings if repr(one) != repr(parameters[name].default)]
    text = f"{type(estimator).__name__}({', '.join(shown)})"
    return text if len(text) <= most else f"{text[: most - 2]}…)"


def titles_of(X: Any) -> list[str] | None:
    """Return the names of a frame's columns; None for anything else."""
    columns = getattr(X, "columns", None)
    if columns is None or not all(isinstance(one, str) for one in columns):
        return None
    return list(columns)


def refuse_arrays(X: Any, titles: Sequence[str]) -> None:
    """Refuse a frame whose columns hold arrays, a block each."""
    if arrays := [title for title, one in _held(X, titles).items() if np.ndim(one)]:
        raise HeadDataError(
            f"X must have a number a column, however: columns {listing(arrays)} hold arrays, as View.to_polars gives "
            "them\n  give view.join(), or view.to_pandas()"
        )


def _refuse_texts(X: Any, titles: Sequence[str]) -> None:
    refuse_arrays(X, titles)
    if texts := [title for title, one in _held(X, titles).items() if isinstance(one, str)]:
        raise HeadDataError(
            f"X must be rows of numbers, however: columns {listing(texts)} hold texts\n"
            "  take the blocks' columns: cer_fusion.Blocks().fit_transform(frame)"
        )


def _held(X: Any, titles: Sequence[str]) -> dict[str, Any]:
    """Return the first value of each column that holds no plain numbers; of a column that holds arrays, the column."""
    if len(set(titles)) < len(titles):
        return {}
    kinds = getattr(X, "dtypes", ())
    odd = [title for title, kind in zip(titles, kinds, strict=True) if getattr(kind, "kind", "O") not in "biuf"]
    found = {}
    for title in odd:
        one = np.asarray(X[title][:1].to_numpy())
        if one.ndim > 1:
            found[title] = one
        elif len(one) and one.dtype.kind in "OUT":
            found[title] = one[0]
    return found


def _refuse_other_order(titles: Sequence[str], blocks: Mapping[str, int] | None) -> None:
    """Columns that say which block's they are must say what the head is told; other names say nothing."""
    if not isinstance(blocks, Mapping):
        return
    expected = [f"{name}_{i}" for name, width in blocks.items() if isinstance(width, int) for i in range(width)]
    if sorted(expected) == sorted(titles) and expected != list(titles):
        at = next(i for i, (one, other) in enumerate(zip(expected, titles, strict=True)) if one != other)
        raise BlockError(
            f"the columns of X must stand in the order of the blocks, {listing(blocks)}, however: column {at} is "
            f"{titles[at]!r}, expected {expected[at]!r}\n  give the blocks in the frame's order, or order its columns: "
            "cer_fusion.Blocks(*blocks).fit_transform(frame)"
        )
