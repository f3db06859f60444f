"""Subsets: what a head answers when it learns from each subset of the players (blocks or features)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from cer_fusion.fusion.data.folds import folds_of
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import ReportError, nearest
from cer_fusion.fusion.judging.entries import Entry, answered, entries_of
from cer_fusion.fusion.keeping.answers import Classifier
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MOST_PLAYERS = 8
"""255 fits; each further one doubles them."""

Progress: TypeAlias = Callable[[int, int], None]
"""Called as (done, all) after each fit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subsets:
    """Answers of one head to the same rows, for each of the 2^p subsets of p players."""

    players: Mapping[str, tuple[str, ...]]
    """Player -> the blocks it brings: a block itself, or all blocks of a feature."""
    proba: FloatArray
    """(2^p, n, k): subset m holds player i where bit i of m is set. Subset 0 answers the classes' shares."""
    y: NDArray[np.int64]
    """(n,) the truth of the rows that were answered."""

    def number(self, names: Iterable[str]) -> int:
        """Return which subset holds exactly these players."""
        order = list(self.players)
        unknown = [name for name in names if name not in order]
        if unknown:
            raise ReportError(f"there is no block or feature {unknown[0]!r}; {nearest(unknown[0], order)}")
        return sum(1 << order.index(name) for name in set(names))

    def members(self, number: int) -> tuple[str, ...]:
        """Return the players of a subset, in order."""
        return tuple(name for i, name in enumerate(self.players) if number >> i & 1)


def answer_subsets(
    head: Classifier,
    players: Mapping[str, tuple[str, ...]],
    train: Rows,
    test: Rows | None,
    *,
    folds: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> Subsets:
    """Fit a head on every subset of the players and ask it about the test rows, or about the training rows out of fold.

    Parameters
    ----------
    head : unfitted classifier
        Cloned for every fit, and told the blocks of the subset where it takes ``blocks``.
    players : dict of player to blocks
        At most `MOST_PLAYERS`.
    train, test : Rows
        As for `compare`; without test rows every training row is answered by a head that did not learn from it.
    folds, seed, progress
        Of the folds; of folds and heads; a callback after each fit.

    Raises
    ------
    ReportError
        If there are too many players.
    """
    if not 1 <= len(players) <= MOST_PLAYERS:
        raise ReportError(
            f"subsets of 1 to {MOST_PLAYERS} blocks can all be tried, however: {len(players)}\n"
            "  choose fewer blocks, or take whole features together: players='features'"
        )
    ask = train if test is None else test
    parts = _parts(train, test, folds, seed)
    proba = np.empty((1 << len(players), ask.n, len(ask.classes)))
    found = Subsets(players=dict(players), proba=proba, y=ask.y)
    done, total = 0, (len(proba) - 1) * len(parts)
    for learn, where in parts:
        learning, asking = train.take(learn), ask.take(where)
        proba[0, where] = learning.supports / learning.n
        for number in range(1, len(proba)):
            blocks = tuple(block for name in found.members(number) for block in players[name])
            entry = _entry(head, learning.only(blocks), seed)
            proba[number, where] = answered(entry, 0, learning, asking).proba
            done += 1
            if progress is not None:
                progress(done, total)
    return found


def _parts(train: Rows, test: Rows | None, folds: int, seed: int) -> Sequence[tuple[Any, Any]]:
    """Return (rows to learn from, rows to ask about), as positions."""
    return [(np.arange(train.n), np.arange(test.n))] if test is not None else list(folds_of(train, folds, seed))


def _entry(head: Classifier, rows: Rows, seed: int) -> Entry:
    from sklearn.base import clone

    mine: Any = clone(head)
    if "blocks" in mine.get_params(deep=False):
        mine.set_params(blocks=rows.widths)
    entry = entries_of({"the head": mine}, rows, singles=False, single_head="", seed=seed)[0]
    return replace(entry, title=" + ".join(rows.blocks))
