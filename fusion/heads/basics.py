"""Basic expressions beside compounds: rows mixed of two basic ones, and a curriculum from single to compound.

Netease Fuxi (ABAW-7, 2025, arXiv 2503.07969) trains on basic expressions first and then on growing shares of compounds
that are mixed of basic faces, by mixup or cutmix (shares 0, 0.2, 0.4 and 1 over 5, 5, 3 and 3 epochs). Here rows are
mixed, not pictures: a convex combination of two cached rows (Zhang et al., 2018, "mixup", eq. 1), one of each component
of a compound. While there are basic rows the network answers basic classes too, in a softmax of their own on the same
hidden layers; these answers are cut off at the end.

Theirs: the stages, the shares, compounds mixed of their two components. Left open, or not to be had for rows, and
chosen here: rows of compounds that are labelled stand among the mixed ones; a mixture of lambda and 1 - lambda is of
its compound with a share of 2 min(lambda, 1 - lambda), and of the larger component with the rest, so that halves are
the compound alone and a pure row is its basic class; lambda is uniform about one half (`mix_spread`); mixed rows are
drawn once, as often of a compound as it has rows.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length, column_or_1d

from ..data.blocks import FloatArray
from ..data.joined import JoinedRows, Matrix
from ..errors import HeadConfigError, HeadDataError
from .settings import whole

Floats = NDArray[np.float64]

MOST_STAGES: Final = 100

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class BasicRows:
    """Rows of basic expressions, for heads that learn from them beside compounds (`Head.learns_basic`)."""

    X: Matrix
    """(m, D) the same columns as the compounds' rows."""
    y: Any
    """(m,) labels of basic expressions."""
    pairs: Mapping[Any, tuple[Any, Any]] | None = None
    """The two basic labels of each compound's label; needed where compounds are mixed.
    `cer_fusion.fusion.judging.zero_shot.with_basic` finds them for `Rows` by the classes' names."""
    groups: Any = None
    """(m,) the group of each row, named as those of the compounds' rows."""

    shared: NDArray[np.bool_] | None = None
    """(m,) whether a row's group has compounds too; a fit finds out itself."""

    def beside(self, groups: Any) -> BasicRows:
        """Return the rows with what is `shared` with groups (n,) of compounds."""
        if self.groups is None or groups is None:
            return self
        return replace(self, shared=np.isin(np.asarray(self.groups).astype(str), np.asarray(groups).astype(str)))

    def checked(self, D: int, *, keeps_aside: bool) -> BasicRows:
        """Return finite rows in memory with labels; without those whose group has compounds that may be kept aside.

        Raises
        ------
        HeadDataError
            If they are none, of other columns, not finite or on the disk.
        """
        if isinstance(self.X, JoinedRows):
            raise HeadDataError(
                "rows of basic expressions must be in memory, however: they stay on the disk; load them"
            )
        X, y = np.asarray(self.X, dtype=np.float32), column_or_1d(self.y)
        if X.ndim != 2 or X.shape[1] != D or not len(X):
            raise HeadDataError(
                f"rows of basic expressions must have shape (m, {D}) as those of compounds, however: {X.shape}\n"
                "  extract both datasets with the same backbones"
            )
        check_consistent_length(X, y)
        if not np.isfinite(X).all():
            raise HeadDataError("rows of basic expressions hold NaN or infinity: embed those samples again")
        if self.shared is None or not keeps_aside or not self.shared.any():
            return replace(self, X=X, y=y)
        apart = ~self.shared
        logger.info(
            "%d rows of basic expressions are of groups that have compounds too: left out, as groups are kept aside "
            "whole", (~apart).sum(),
        )  # fmt: skip
        if not apart.any():
            raise HeadDataError(
                "all rows of basic expressions are of groups that have compounds too, which may be kept aside\n"
                "  give rows of other videos or persons, or keep nothing aside: early_stop=0, pool_share=0"
            )
        return replace(self, X=X[apart], y=y[apart])


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Rows of a curriculum: compounds, then basic expressions, then mixed ones; and which of them a stage shows."""

    X: FloatArray
    """(N, D)"""
    soft: Floats
    """(N, k + b) shares of compounds, then of basic classes."""
    weights: Floats
    """(N,) how much each row counts."""
    basics: int
    """Number of basic classes b."""
    real: NDArray[np.bool_]
    """(N,) whether a row is one of the compounds' own."""
    stages: tuple[tuple[int, NDArray[np.bool_]], ...]
    """Epochs of each stage, and the rows (N,) that it shows."""


def pool_of(
    X: FloatArray,
    shares: Floats,
    weights: Floats | None,
    classes: NDArray[Any],
    basic: BasicRows,
    *,
    stages: Sequence[tuple[int, float]],
    mixed: float,
    spread: float,
    seed: int,
) -> Pool:
    """Return the rows of a curriculum.

    Parameters
    ----------
    X, shares, weights : arrays of shape (n, D), (n, k) and (n,)
        Compounds; weights of None are one each.
    classes : array of shape (k,)
        Labels of the columns of `shares`.
    basic : BasicRows
        Checked.
    stages : sequence of (epochs, share)
        The share of compounds, mixed ones with them, among the rows of each stage.
    mixed : float
        Mixed rows for every row of a compound.
    spread : float
        Width of the interval about one half from which lambda is drawn, in [0, 1].
    seed : int

    Raises
    ------
    HeadDataError
        If a compound's components are not known, or have no rows.
    """
    random = np.random.default_rng([abs(seed), 16])
    labels, codes = np.unique(basic.y, return_inverse=True)
    k, b, n, m = len(classes), len(labels), len(X), len(basic.X)
    parts = [X, np.asarray(basic.X)]
    soft = [np.hstack([shares, np.zeros((n, b))]), np.hstack([np.zeros((m, k)), np.eye(b)[codes]])]
    count = round(mixed * n)
    if count:
        drawn = random.choice(k, size=count, p=shares.sum(axis=0) / shares.sum())
        pairs = _pairs(classes, labels, basic.pairs)[drawn]  # (count, 2)
        ends = [parts[1][_one_each(codes, pairs[:, i], random)] for i in (0, 1)]
        lambdas = 0.5 + spread * (random.random(count) - 0.5)
        parts.append((lambdas[:, None] * ends[0] + (1 - lambdas[:, None]) * ends[1]).astype(np.float32))
        both = 2 * np.minimum(lambdas, 1 - lambdas)
        larger = np.where(lambdas >= 0.5, pairs[:, 0], pairs[:, 1])
        soft.append(np.hstack([both[:, None] * np.eye(k)[drawn], (1 - both[:, None]) * np.eye(b)[larger]]))
    kinds = np.repeat([0, 1, 2], [n, m, count])
    own = np.ones(n) if weights is None else weights
    return Pool(
        X=np.concatenate(parts), soft=np.concatenate(soft),
        weights=np.concatenate([own, np.full(m + count, own.mean())]), basics=b, real=kinds == 0,
        stages=tuple((int(epochs), _shown(kinds != 1, share, random)) for epochs, share in stages),
    )  # fmt: skip


def _shown(compound: NDArray[np.bool_], share: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """Return the rows of a stage: as many as can be where compounds have this share."""
    rows, others = random.permutation(np.flatnonzero(compound)), random.permutation(np.flatnonzero(~compound))
    if share == 1 or share == 0:
        return compound if share else ~compound
    whole_compounds = len(rows) * (1 - share) / share <= len(others)
    count = len(rows) if whole_compounds else max(1, round(len(others) * share / (1 - share)))
    beside = max(1, round(len(rows) * (1 - share) / share)) if whole_compounds else len(others)
    shown = np.zeros(len(compound), np.bool_)
    shown[rows[:count]] = shown[others[:beside]] = True
    return shown


def _pairs(
    classes: NDArray[Any], labels: NDArray[Any], pairs: Mapping[Any, tuple[Any, Any]] | None
) -> NDArray[np.int64]:
    """Return the positions of each class's two components among the basic labels (k, 2)."""
    place = {label: i for i, label in enumerate(labels.tolist())}
    found = np.zeros((len(classes), 2), np.int64)
    for i, label in enumerate(classes.tolist()):
        if pairs is None or label not in pairs:
            raise HeadDataError(
                f"compounds are mixed of their two components, however: those of {label!r} are not known"
                "\n  name them: BasicRows(pairs={label: (basic, basic)}), or with_basic(rows, basic) of Rows"
            )
        for column, part in enumerate(pairs[label]):
            if part not in place:
                raise HeadDataError(
                    f"{label!r} is mixed of {pairs[label][0]!r} and {pairs[label][1]!r}, however: no row of basic "
                    f"expressions is of {part!r} (there are {', '.join(map(repr, labels.tolist()))})"
                )
            found[i, column] = place[part]
    return found


def _one_each(codes: NDArray[Any], wanted: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """Return a row of each wanted class, drawn."""
    found = np.empty(len(wanted), np.int64)
    for code in np.unique(wanted):
        mine = wanted == code
        found[mine] = random.choice(np.flatnonzero(codes == code), size=int(mine.sum()))
    return found


def stages_of(curriculum: Sequence[Any] | int, epochs: int) -> tuple[tuple[int, float], ...]:
    """Return the stages of a curriculum; of a whole number so many epochs of basic expressions, then all of compounds.

    Without a curriculum there is one stage, of compounds.
    """
    if isinstance(curriculum, Integral):
        curriculum = [(int(curriculum), 0.0), (epochs, 1.0)] if curriculum else []
    assert isinstance(curriculum, Sequence)
    return tuple((int(count), float(share)) for count, share in curriculum) or ((epochs, 1.0),)


def check_curriculum(curriculum: Sequence[Any] | int, mixed: float, spread: float) -> None:
    """Refuse stages, shares and widths that none can have.

    Raises
    ------
    HeadConfigError
    """
    if isinstance(curriculum, Integral):
        whole("epochs of basic expressions (curriculum)", curriculum, least=0)
        curriculum = ()
    assert isinstance(curriculum, Sequence)
    whole("stages of a curriculum", len(curriculum), least=0, most=MOST_STAGES)
    for stage in curriculum:
        fits = isinstance(stage, Sequence) and not isinstance(stage, str) and len(stage) == 2
        if not fits or isinstance(stage[1], (str, bool)) or not 0 <= stage[1] <= 1:
            raise HeadConfigError(
                f"a stage of a curriculum is its epochs and the share of compounds in [0, 1], however: {stage!r}\n"
                "  such as curriculum=[[5, 0], [5, 0.2], [3, 0.4], [3, 1]]"
            )
        whole("epochs of a stage", stage[0])
    if len(curriculum) and not curriculum[-1][1]:
        raise HeadConfigError("the last stage of a curriculum shows no compound, which the head is to answer")
    if not 0 <= mixed < float("inf"):
        raise HeadConfigError(f"mixed_compounds must be finite and not negative, got {mixed!r}")
    if not 0 <= spread <= 1:
        raise HeadConfigError(f"mix_spread must lie in [0, 1], got {spread!r}")


def parse_curriculum(text: str) -> tuple[tuple[int, float], ...] | int:
    """Read ``5:0,5:0.2,3:0.4,3:1``: epochs of each stage and its share of compounds; or ``10``, as `stages_of`.

    Raises
    ------
    HeadConfigError
        Naming the stage that cannot be read.
    """
    if text.strip().isdecimal():
        return int(text)
    found = []
    for part in text.split(","):
        epochs, _, share = part.partition(":")
        try:
            found.append((int(epochs), float(share)))
        except ValueError:
            raise HeadConfigError(
                f"cannot read the stage {part.strip()!r} of the curriculum: write epochs:share of compounds, "
                "5:0,5:0.2,3:0.4,3:1"
            ) from None
    check_curriculum(found, 0, 0)
    return tuple(found)
