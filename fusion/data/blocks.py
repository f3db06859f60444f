"""Named blocks joined, cut apart and weighed; grids of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import product
from math import comb
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...kit.errors import nearest
from ..errors import BlockError, SweepError

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


Float64Array = NDArray[np.float64]

PAPER_MARK: Mapping[str, float] = {"manet.local": 0.6, "manet.multi_scale": 0.4}
"""The two MA-Net branches of the paper; which is which follows the public code (REFERENCE.md §2)."""

LIMIT = 100_000
"""Weight vectors a grid may hold."""

_EXAMPLE = "write block=start:stop:step, block=value, or block=1- for what is left of 1"


@dataclass(frozen=True, eq=False)
class Grid:
    """Weight vectors over named blocks; checked once when made."""

    blocks: tuple[str, ...]
    """Block names, in the order of the columns of ``weights``."""
    weights: Float64Array
    """(w, m) non-negative weights, unitless; no line is all zero."""
    per_class: Float64Array | None = None
    """(p, m, k) what the last p vectors are a class, of unit sum over the blocks; there they are the classes' mean."""

    def __post_init__(self) -> None:
        """Refuse weights that cannot weigh anything."""
        if self.weights.ndim != 2 or self.weights.shape[1] != len(self.blocks) or not self.weights.size:
            raise SweepError(
                f"a grid over {len(self.blocks)} blocks must have shape (w, {len(self.blocks)}) with w >= 1, "
                f"however: {self.weights.shape}"
            )
        if not np.isfinite(self.weights).all() or (self.weights < 0).any() or not self.weights.any(axis=1).all():
            raise SweepError("weights must be finite and not negative, and no weight vector all zero")

    def __len__(self) -> int:
        """Return the number of weight vectors."""
        return len(self.weights)

    @property
    def shared(self) -> int:
        """Number of the vectors that weigh all classes alike; they come first."""
        return len(self) - (0 if self.per_class is None else len(self.per_class))

    def vector(self, i: int) -> dict[str, float]:
        """Return one weight vector by block name."""
        return dict(zip(self.blocks, self.weights[i].tolist(), strict=True))

    def with_per_class(self, per_class: Float64Array) -> Grid:
        """Return the grid with weights (p, m, k) a class beside its vectors.

        Raises
        ------
        SweepError
            If it has some already, they are of other blocks, or there are too many.
        """
        if self.per_class is not None or per_class.ndim != 3 or per_class.shape[1] != len(self.blocks):
            raise SweepError(f"weights a class must have shape (p, {len(self.blocks)}, k), however: {per_class.shape}")
        _bounded(len(self) + len(per_class))
        return Grid(self.blocks, np.concatenate([self.weights, per_class.mean(axis=2)]), per_class)

    def find(self, mark: Mapping[str, float]) -> int | None:
        """Return the one vector in which the marked blocks stand in the mark's proportion, or None.

        None when a marked block is not in the grid, or when no vector or several fit (other blocks vary as well).
        """
        if not set(mark) <= set(self.blocks):
            return None
        part = self.weights[: self.shared, [self.blocks.index(name) for name in mark]]
        share, wanted = part.sum(axis=1, keepdims=True), np.array(list(mark.values()))
        hits = np.flatnonzero((np.abs(part - share * wanted / wanted.sum()) < 1e-9).all(axis=1) & (share[:, 0] > 0))
        return int(hits[0]) if hits.size == 1 else None


def parse_grid(specs: Sequence[str], blocks: Iterable[str]) -> Grid:
    """Read one ``block=...`` a block into the grid of all combinations.

    ``start:stop:step`` is a range with both ends, in exact decimals; a number is a fixed weight; ``1-`` (one block
    only) is what the other weights leave of 1: combinations that leave less than nothing are no part of the grid, nor
    is the one where every weight is zero.

    Raises
    ------
    SweepError
        Naming the part that cannot be read, the unknown block, or the block that has no weight.
    """
    names = tuple(blocks)
    values: dict[str, list[Decimal] | None] = {}
    for spec in specs:
        name, equals, text = (piece.strip() for piece in spec.partition("="))
        if not equals or not name or not text:
            raise SweepError(f"cannot read the weights {spec!r}: every weight names its block\n  {_EXAMPLE}")
        if name not in names:
            raise SweepError(f"there is no block {name!r} to weigh; {nearest(name, names)}")
        if name in values:
            raise SweepError(f"block {name!r} is given twice")
        values[name] = None if text == "1-" else _range(spec, text)
    missing = [name for name in names if name not in values]
    if missing:
        raise SweepError(
            f"no weight for block {missing[0]!r}; every block needs one\n"
            f"  for example {missing[0]}=1- (what is left of 1) or {missing[0]}=0 (leave it out)"
        )
    rest = [name for name, given in values.items() if given is None]
    if len(rest) > 1:
        raise SweepError(f"only one block can be what is left of 1, however: {', '.join(rest)}")
    return Grid(names, _combined(names, values))


def parse_simplex(spec: str, features: Mapping[str, Sequence[str]]) -> Grid:
    """Read ``vit,manet,resnet50:0.1``: all weights that are multiples of the step and sum to 1.

    A name is a block, or a feature of several blocks that then share its weight equally.
    """
    text, colon, step = spec.rpartition(":")
    names = [name.strip() for name in text.split(",")]
    if not colon or not all(names) or len(set(names)) < 2 or len(set(names)) < len(names):
        raise SweepError(
            f"cannot read the simplex {spec!r}\n  write two or more different names and a step: vit,manet:0.1"
        )
    known = dict(features) | {block: (block,) for owned in features.values() for block in owned}
    for name in names:
        if name not in known:
            raise SweepError(f"there is no block or feature {name!r}; {nearest(name, known)}")
    chosen = [block for name in names for block in known[name]]
    if len(set(chosen)) < len(chosen):
        raise SweepError(f"a block stands twice in {spec!r}: a feature and one of its own blocks")
    shares = simplex(len(names), _number(spec, step))
    columns = [shares[:, i] / len(known[name]) for i, name in enumerate(names) for _ in known[name]]
    everything = [block for owned in features.values() for block in owned]
    order = [chosen.index(block) for block in everything if block in chosen]
    return Grid(tuple(chosen[i] for i in order), np.stack([columns[i] for i in order], axis=1))


def even_simplex(blocks: tuple[str, ...], most: int) -> Grid:
    """Return the finest simplex of step 0.05, 0.1, 0.2, 0.25 or 0.5 with at most ``most`` vectors, else step 1."""
    for step in map(Decimal, ("0.05", "0.1", "0.2", "0.25", "0.5")):
        if comb(int(1 / step) + len(blocks) - 1, len(blocks) - 1) <= most:
            return Grid(blocks, simplex(len(blocks), step))
    return Grid(blocks, simplex(len(blocks), Decimal(1)))


def simplex(m: int, step: Decimal) -> Float64Array:
    """Return all weight vectors of length m that are multiples of ``step`` and sum to 1: (w, m)."""
    if not Decimal("0.00001") <= step <= 1 or 1 % step:
        raise SweepError(f"the step of a simplex must divide 1 (0.5, 0.25, 0.1, 0.05 …), however: {step}")
    units = int(1 / step)
    _bounded(comb(units + m - 1, m - 1))
    return np.array(list(_compositions(m, units)), dtype=np.float64) / units


def _compositions(m: int, units: int) -> Iterator[tuple[int, ...]]:
    """All ways to deal ``units`` over m places, in order."""
    if m == 1:
        yield (units,)
        return
    for first in range(units + 1):
        for rest in _compositions(m - 1, units - first):
            yield (first, *rest)


def _combined(names: tuple[str, ...], values: Mapping[str, list[Decimal] | None]) -> Float64Array:
    given = [values[name] for name in names]
    sizes = [len(choices) for choices in given if choices is not None]
    _bounded(int(np.prod(sizes, dtype=object)) if sizes else 1)
    vectors = []
    for combination in product(*([None] if choices is None else choices for choices in given)):
        left = 1 - sum((value for value in combination if value is not None), Decimal(0))
        if None in combination and left < 0:
            continue
        vector = [left if value is None else value for value in combination]
        if any(vector):
            vectors.append([float(value) for value in vector])
    if not vectors:
        raise SweepError(
            "the grid is empty: every combination is all zero, or leaves less than nothing for the block '1-'"
        )
    return np.array(vectors, dtype=np.float64)


def _range(spec: str, text: str) -> list[Decimal]:
    parts = [_number(spec, part) for part in text.split(":")]
    if len(parts) == 1:
        return parts
    if len(parts) != 3:
        raise SweepError(f"cannot read the weights {spec!r}\n  {_EXAMPLE}")
    start, stop, step = parts
    if step <= 0 or stop < start:
        raise SweepError(f"a range needs start <= stop and a positive step, however: {spec!r}")
    _bounded(int((stop - start) / step) + 1)
    return [start + i * step for i in range(int((stop - start) / step) + 1)]


def _number(spec: str, text: str) -> Decimal:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        raise SweepError(f"{text.strip()!r} in {spec!r} is no number\n  {_EXAMPLE}") from None
    if not value.is_finite() or value < 0 or value > 10**6:
        raise SweepError(f"a weight must be between 0 and 1,000,000, however: {text.strip()!r} in {spec!r}")
    return value


def _bounded(count: int) -> None:
    if count > LIMIT:
        raise SweepError(f"the grid would have {count:,} weight vectors, more than {LIMIT:,}\n  take a larger step")
