"""Blocks under weights: what the `weighted` head does to them, coordinates that fit, and which sweeps cannot matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..data.blocks import Grid
from ..data.joined import one_blas_thread_each
from ..data.rows import Rows
from ..errors import SweepError
from ..heads import head_class, head_names
from ..keeping.answers import Classifier

if TYPE_CHECKING:
    from ..heads.scaling import BlockNormalizer


Float32Array = NDArray[np.float32]


class BlockAxes:
    """An orthogonal change of coordinates within each block.

    Under an L2 penalty that treats the columns of a block alike, a linear head learns the same function from turned
    columns. Along principal axes a block's Gram matrix is diagonal, so that a diagonal preconditioner is a good one. A
    block wider than there are rows is also cut to the space that its rows span, where every solution lies.

    Parameters
    ----------
    parts : sequence of float32 arrays of shape (n, d_b)
        Rows to span every block with: all training rows, since those of a fold lie in their span.
    centres : sequence of float32 arrays of shape (d_b,)
        What was subtracted from the rows before they were scaled; the fold's own centre lies in the span as well.
    """

    def __init__(self, parts: Sequence[Float32Array], centres: Sequence[Float32Array]) -> None:
        if len(parts) != len(centres):
            raise ValueError(f"each of {len(parts)} blocks needs a centre, however: {len(centres)}")
        with one_blas_thread_each() as pool:
            self.axes = list(pool.map(_axes, parts, centres))

    def turned(self, parts: Sequence[Float32Array]) -> list[Float32Array]:
        """Return the blocks (n, r_b) of rows in the new coordinates."""
        return [np.asarray(part @ axes) for part, axes in zip(parts, self.axes, strict=True)]

    def back(self, coef: Float32Array, number: int) -> Float32Array:
        """Return weights (..., r_b) on the turned columns of one block as weights (..., d_b) on its own."""
        return np.asarray(coef @ self.axes[number].T)


def _axes(part: Float32Array, centre: Float32Array) -> Float32Array:
    """Return orthonormal columns (d, r), in the order of falling variance."""
    rows = part.astype(np.float64)
    n, d = rows.shape
    if d <= n + 1:
        return np.ascontiguousarray(np.linalg.eigh(rows.T @ rows)[1][:, ::-1].astype(np.float32))
    span = np.linalg.qr(np.concatenate([rows, centre[None].astype(np.float64)]).T)[0]  # (d, n + 1)
    within = rows @ span
    return np.ascontiguousarray((span @ np.linalg.eigh(within.T @ within)[1][:, ::-1]).astype(np.float32))


class WeighedBlocks:
    """What the `weighted` head in `concat` mode does to blocks before the head on top, parted from their weights.

    Parameters
    ----------
    head : `weighted` head
        Unfitted.
    train : Rows
        For the blocks' names and widths.
    """

    def __init__(self, head: Classifier, train: Rows) -> None:
        params: Any = head.get_params(deep=False)
        if "standardize" in (params["head_params"] or {}):
            raise SweepError("the head on weighed blocks must not standardise them: that would undo the weights")
        self.normalize = params["normalize"]
        self.widths = train.widths

    def scales(self, grid: Grid) -> NDArray[np.float64]:
        """Return what each vector multiplies each normalised block by (w, m).

        Weights of unit mean square; times what gives joined rows of unit-length blocks a mean square of one a column;
        over sqrt(D), by which linear heads divide columns so that one C serves all widths.
        """
        weights = grid.weights / np.sqrt(np.mean(grid.weights**2, axis=1, keepdims=True))
        terms = sum(self.widths.values()) if self.normalize == "none" else len(self.widths)
        return np.asarray(weights / np.sqrt(terms))

    def normalizer(self, learn: Rows) -> BlockNormalizer:
        """Return the normaliser fitted on the rows that are learned from."""
        from ..heads.scaling import BlockNormalizer

        return BlockNormalizer(self.normalize, self.widths).fit(self._entered(learn))

    def parts(self, normalizer: BlockNormalizer, rows: Rows) -> list[Float32Array]:
        """Return the normalised blocks (n, d_b) of rows."""
        return list(normalizer.transform(self._entered(rows)).values())

    def _entered(self, rows: Rows) -> Float32Array:
        """Return the joined rows, checked as the head itself checks them."""
        from ..heads import make_head
        from ..heads.base import entered_with_labels, refuse_unfinite

        head = make_head("weighted", blocks=self.widths)
        matrix, _ = entered_with_labels(head, rows.x(), rows.y)
        head.blocks_ = dict(self.widths)
        refuse_unfinite(head, matrix)
        return np.asarray(matrix)


_DO = (
    "\n  weights matter in: head 'late' (mixes the members' probabilities)"
    "\n  head 'weighted' with mode='sum' (blocks of one width)"
    "\n  head 'weighted' with mode='concat' (blocks of equal length under a regularised head)"
)


def unidentifiable(head: Classifier) -> str | None:
    """Say why sweeping this head's block weights could not change its answers, or None when it can.

    Mixing decisions and summing blocks always can. Weighted concatenation can under a regularised head, but not where
    the head undoes any scale (`undone`). A head without block weights is told what scaling its blocks would do.
    """
    params = head.get_params(deep=False)
    name = type(head).__name__
    if hasattr(head, "member_proba") and "weights" in params:
        return None
    if params.get("mode") == "sum" and "weights" in params:
        return None
    inner = params.get("head") if isinstance(params.get("head"), str) else None
    after = {**params, **(params.get("head_params") or {})}
    why = undone(inner or str(getattr(head, "name", "")), after)
    if "weights" not in params:
        return f"{name} has no block weights to sweep" + (f", and they could not matter: {why}" if why else "") + _DO
    if why:
        return f"{name}{f' with head={inner!r}' if inner else ''}: {why}" + _DO
    return None


def undone(name: str, params: dict[str, Any]) -> str | None:
    """Say why a head of this name and these settings answers the same whatever its blocks are multiplied by, or None.

    What it claims of the heads here is proven in `tests/fusion/sweeps/test_identifiability.py`, for factors above zero.
    """
    if name in head_names() and not head_class(name).scales_matter:
        return "scaling a block is an exact no-op for trees"
    standardize = params.get("standardize")
    if standardize == "standard":
        return f"a standardiser after the weights undoes them exactly (standardize={standardize!r})"
    if standardize in ("l2", "power"):
        return f"rows are brought to unit length a block, which undoes weights (standardize={standardize!r})"
    if name == "lda" and params.get("shrinkage") in (None, 0):
        return "discriminant analysis without shrinkage does not depend on the scale of columns"
    free = [
        f"{setting}={params[setting]!r}" for setting, none in _UNPENALISED.items() if _equals(params, setting, none)
    ]
    if free:
        return f"without a penalty ({free[0]}) a linear head makes up for any scale in its coefficients"
    return None


def caveat(head: Classifier) -> str | None:
    """Say what blurs the weights of a head whose weights do matter, or None."""
    params = head.get_params(deep=False)
    if params.get("normalize") == "none" and params.get("mode") == "concat":
        return (
            "Blocks keep their own scales (normalize='none'): a weight only rescales its block's penalty, and weights "
            "of different blocks cannot be compared."
        )
    if params.get("mode") == "concat" and params.get("head") in ("linear", "ridge"):
        return (
            "Under a linear head a weight w is that block's penalty over w\u00b2: what is swept is how strongly "
            "each block is held back."
        )
    return None


_UNPENALISED = {"C": np.inf, "alpha": 0, "penalty": "none"}


def _equals(params: dict[str, Any], setting: str, none: Any) -> bool:
    value = params.get(setting)
    return value is not None and not isinstance(value, (list, tuple, np.ndarray)) and bool(value == none)
