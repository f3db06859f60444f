"""Named blocks of one matrix: joining them, finding them again, and reading weights for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from cer_fusion.fusion.errors import BlockError, nearest
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
Blocks: TypeAlias = Mapping[str, FloatArray]

WHOLE = "x"
"""The name of the one block of a head that was told of none."""


def concat(blocks: Blocks, weights: Mapping[str, float] | None = None) -> FloatArray:
    """Scale each block by its weight and join them along the feature axis.

    Parameters
    ----------
    blocks : dict of float32 arrays of shape (n, d_i)
        Rows aligned by sample, as a featstore view gives them; joined in dict order.
    weights : dict of float, optional
        One non-negative factor per block, unitless. None joins the blocks as they are.

    Returns
    -------
    ndarray of shape (n, sum of d_i), float32

    Raises
    ------
    BlockError
        If a block has no weight, a weight has no block, or the row counts differ.
    """
    if not blocks:
        raise BlockError("there is no block to join: give at least one named array of shape (n, d)")
    rows = {name: _rows(name, block) for name, block in blocks.items()}
    if len(set(rows.values())) > 1:
        raise BlockError(f"blocks must have the same rows, however: {_listed(rows)} rows; join them by sample_id first")
    factors = None if weights is None else checked_weights(weights, blocks)
    joined = np.empty((next(iter(rows.values())), sum(b.shape[1] for b in blocks.values())), np.float32)
    for name, where in slices(widths_of(blocks)).items():
        if factors is None:
            joined[:, where] = blocks[name]
        else:
            np.multiply(blocks[name], np.float32(factors[name]), out=joined[:, where], casting="same_kind")
    return joined


def widths_of(blocks: Blocks) -> dict[str, int]:
    """Return the ordered widths that `make_head(blocks=...)` takes: ``{"vit": 768, ...}``."""
    return {name: int(block.shape[1]) for name, block in blocks.items()}


def slices(widths: Mapping[str, int]) -> dict[str, slice]:
    """Return where each block's columns lie in the joined matrix, in order."""
    found: dict[str, slice] = {}
    start = 0
    for name, width in widths.items():
        found[name] = slice(start, start + width)
        start += width
    return found


def split(matrix: FloatArray, widths: Mapping[str, int]) -> dict[str, FloatArray]:
    """Undo `concat`: views of a joined matrix (n, D), one a block."""
    checked_widths(widths, matrix.shape[1])
    return {name: matrix[:, where] for name, where in slices(widths).items()}


def checked_widths(widths: Mapping[str, Any] | None, n_features: int) -> dict[str, int]:
    """Return the widths as a plain ordered dict, or say why they do not describe `n_features` columns.

    Parameters
    ----------
    widths : dict of block name to number of columns, or None
        None makes all columns one block, named `WHOLE`.
    n_features : int
        Columns of the matrix.

    Raises
    ------
    BlockError
        If a width is no positive integer or they do not sum to `n_features`.
    """
    if widths is None:
        return {WHOLE: int(n_features)}
    if not isinstance(widths, Mapping) or not widths:
        raise BlockError(f"blocks must map each block's name to its width, for example {{'vit': 768}}: got {widths!r}")
    for name, width in widths.items():
        if not isinstance(name, str) or not name:
            raise BlockError(f"a block's name must be a non-empty text: got {name!r}")
        if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or width < 1:
            raise BlockError(f"the width of block {name!r} must be a positive whole number: got {width!r}")
    plain = {name: int(width) for name, width in widths.items()}
    total = sum(plain.values())
    if total != n_features:
        raise BlockError(
            f"the blocks' widths must sum to the columns of X, however: "
            f"{_listed(plain)} sum to {total}, X has {n_features}\n"
            "  join the same blocks in the same order: X = concat(view.blocks)"
        )
    return plain


def checked_weights(weights: Mapping[str, float], blocks: Iterable[str]) -> dict[str, float]:
    """Return one finite, non-negative weight a block in the blocks' order; not all of them zero.

    Raises
    ------
    BlockError
        If a block has no weight, a weight has no block, or a weight is negative, not finite or not a number.
    """
    names = list(blocks)
    if not isinstance(weights, Mapping):
        raise BlockError(f"weights must name their blocks, for example {{{names[0]!r}: 0.6}}: got {weights!r}")
    for name in weights:
        if name not in names:
            raise BlockError(f"there is no block {name!r} to weigh; {nearest(str(name), names)}")
    missing = [name for name in names if name not in weights]
    if missing:
        raise BlockError(
            f"no weight for block {missing[0]!r}; every block needs one (0 leaves it out): {_names(names)}"
        )
    found: dict[str, float] = {}
    for name in names:
        value = weights[name]
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise BlockError(f"the weight of block {name!r} must be a number: got {value!r}")
        if not math.isfinite(value) or value < 0:
            raise BlockError(f"the weight of block {name!r} must be finite and not negative: got {value!r}")
        found[name] = float(value)
    if not any(found.values()):
        raise BlockError(f"all weights are zero ({_names(names)}): nothing would be left to learn from")
    return found


def parse_weights(text: str, blocks: Iterable[str]) -> dict[str, float]:
    """Read ``"manet.local=0.6,manet.multi_scale=0.4"`` into a weight a block.

    A bare ``"0.6/0.4"`` is refused: the paper's sentence and the public code list the two branches in opposite orders,
    so numbers without names say nothing (`REFERENCE.md` §2).

    Raises
    ------
    BlockError
        If a part is no ``block=number``, a block is named twice or not known, or a block has no weight.
    """
    names = list(blocks)
    example = ",".join(f"{name}={1 / len(names):.3g}" for name in names) if names else "manet.local=0.6"
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            raise BlockError(
                f"weights must name their blocks, got {text!r}: bare numbers are ambiguous, because published "
                f"texts list the same two branches in opposite orders\n  write it as: {example}"
            )
        if name in found:
            raise BlockError(f"block {name!r} is weighed twice in {text!r}\n  write it as: {example}")
        try:
            found[name] = float(number)
        except ValueError:
            raise BlockError(f"the weight of block {name!r} must be a number, got {number!r} in {text!r}") from None
    return checked_weights(found, names)


def _rows(name: str, block: Any) -> int:
    if not isinstance(block, np.ndarray) and hasattr(block, "__array__"):
        raise BlockError(
            f"block {name!r} must be an array, however it is a {type(block).__name__} that is not loaded\n"
            "  load it with numpy.asarray, or join without loading: JoinedRows(blocks)"
        )
    if not isinstance(block, np.ndarray) or block.ndim != 2:
        raise BlockError(f"block {name!r} must be an array of shape (n, d), however its shape is {np.shape(block)}")
    return int(block.shape[0])


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={number}" for name, number in numbers.items())


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
