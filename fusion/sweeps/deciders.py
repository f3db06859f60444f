"""What decides under each weight vector: mixed members, heads trained together or refits; how each is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...kit.errors import nearest
from ..data.blocks import Grid
from ..data.rows import Rows
from ..errors import SweepError
from ..heads.base import fit_part
from ..heads.weights import decisions
from ..judging.entries import in_time, taught
from ..keeping.answers import Classifier, aligned
from .ridge import BlockBatch, RidgeBatch

Decisions: TypeAlias = NDArray[np.int16]
Step: TypeAlias = Callable[[], None]

FREE: tuple[float | None, ...] = (None,)
"""No penalties to try: the head's own."""


class Decider(Protocol):
    """Learns from some rows and decides about others."""

    seeded: bool
    """Whether the head's seed can change its decisions."""
    notes: tuple[str, ...]
    """How the heads were trained, where a reader must know."""

    by_vector: bool
    """Whether each vector is fitted by itself, so that slices of the grid are as good as the whole."""

    def fits(self, n: int) -> int:
        """Return how many times `step` is called when `n` rows are learned from."""

    def decide(self, learn: Rows, ask: Rows, seed: int, step: Step) -> Decisions:
        """Return class positions (c, w, n): a line for each of c penalties and w weight vectors."""


def decider_of(head: Classifier, grid: Grid, penalties: Sequence[float], train: Rows, *, reseed: bool) -> Decider:
    """Choose the cheapest way that gives what fitting the head for every penalty and vector would give.

    Members are fitted once a penalty and mixed in one contraction; linear heads on weighed blocks are trained together
    (`block_batch`), ridge heads solved from shared Gram matrices (`ridge_batch`); whatever else has block
    weights is fitted for every vector, one after the other. `reseed` gives the head each seed in turn, even if it has
    one.
    """
    tried: tuple[float | None, ...] = tuple(penalties) or FREE
    if hasattr(head, "member_proba"):
        return _Members(head, grid, tried, reseed)
    params = head.get_params(deep=False)
    if getattr(head, "name", None) == "weighted" and params["mode"] == "concat" and params["head"] in _BATCHES:
        return _BATCHES[params["head"]](head, grid, tried, train)
    return _Refits(head, grid, tried, reseed)


def prepared(head: Classifier, rows: Rows, seed: int, penalty: float | None, *, reseed: bool = False) -> Any:
    """Return a clone told the rows' blocks, a seed where it has none (or anyway, if `reseed`), and the penalty."""
    from sklearn.base import clone

    mine: Any = clone(head)
    known = mine.get_params(deep=False)
    if "blocks" in known:
        mine.set_params(blocks=rows.widths)
    if "random_state" in known and (reseed or known["random_state"] is None):
        mine.set_params(random_state=seed)
    if penalty is not None:
        _penalise(mine, penalty)
    return mine


def _penalise(head: Any, penalty: float) -> None:
    """Set C of the head, or of the heads that its blocks get."""
    known = head.get_params(deep=False)
    if "C" in known:
        head.set_params(C=penalty)
        return
    for name, settings in (("head", "head_params"), ("member", "member_params")):
        if settings in known:
            from ..heads import head_settings

            inner = head_settings(known[name])
            if "C" not in inner:
                raise SweepError(f"head {known[name]!r} has no C to sweep; {nearest('C', inner)}")
            head.set_params(**{settings: {**(known[settings] or {}), "C": penalty}})
            return
    raise SweepError(f"{type(head).__name__} has no C to sweep; {nearest('C', known)}")


def _by_chance(head: Classifier) -> bool:
    """Whether the seed matters once the weights are given: as the head says; of a stranger it has to be supposed."""
    from sklearn.base import clone

    given: Any = clone(head)
    return bool(getattr(given.set_params(weights=None), "by_chance", True))


class _Members:
    """Fits the members once a penalty and mixes their answers for every vector."""

    notes: tuple[str, ...] = ()
    by_vector = False

    def __init__(self, head: Classifier, grid: Grid, penalties: Sequence[float | None], reseed: bool) -> None:
        self.head, self.grid, self.penalties, self.reseed = head, grid, penalties, reseed
        self.seeded = _by_chance(head)

    def fits(self, n: int) -> int:
        return len(self.penalties)

    def decide(self, learn: Rows, ask: Rows, seed: int, step: Step) -> Decisions:
        return np.stack([self._mixed(learn, ask, seed, penalty, step) for penalty in self.penalties])

    def _mixed(self, learn: Rows, ask: Rows, seed: int, penalty: float | None, step: Step) -> Decisions:
        head = prepared(self.head, learn, seed, penalty, reseed=self.reseed)
        head.set_params(weights=dict.fromkeys(self.grid.blocks, 1.0))
        fit_part(head, learn.x(), learn.y, learn.clusters, learn.soft, learn.targets, **taught(head, learn, ask))
        members = aligned(head.member_proba(ask.x()), head.classes_, len(ask.classes), "a member")
        if members.shape[0] != len(self.grid.blocks):
            raise SweepError(
                f"the head has {members.shape[0]} members for {len(self.grid.blocks)} blocks: "
                f"{', '.join(self.grid.blocks)}"
            )
        step()
        mix, grid = head.get_params(deep=False).get("mix", "arithmetic"), self.grid
        found = decisions(members, grid.weights[: grid.shared], mix)
        if grid.per_class is None:
            return found
        return np.concatenate([found, decisions(members, grid.per_class, mix)])


class _Refits:
    """Fits the head for every penalty and vector, one after the other."""

    notes: tuple[str, ...] = ()
    by_vector = True

    def __init__(self, head: Classifier, grid: Grid, penalties: Sequence[float | None], reseed: bool) -> None:
        self.head, self.grid, self.penalties, self.reseed = head, grid, penalties, reseed
        self.seeded = _by_chance(head)

    def fits(self, n: int) -> int:
        return len(self.penalties) * len(self.grid)

    def decide(self, learn: Rows, ask: Rows, seed: int, step: Step) -> Decisions:
        x_learn, x_ask = learn.x(), ask.x()
        y_pred = np.empty((len(self.penalties), len(self.grid), ask.n), dtype=np.int16)
        for number, penalty in enumerate(self.penalties):
            head = prepared(self.head, learn, seed, penalty, reseed=self.reseed)
            for i in range(len(self.grid)):
                head.set_params(weights=self.grid.vector(i))
                fit_part(head, x_learn, learn.y, learn.clusters, learn.soft, learn.targets, **taught(head, learn, ask))
                proba = aligned(
                    head.predict_proba(x_ask, **in_time(head, ask)), head.classes_, len(ask.classes), "the head"
                )
                y_pred[number, i] = proba.argmax(axis=1)
                step()
        return y_pred


_BATCHES: dict[str, Callable[[Classifier, Grid, Sequence[float | None], Rows], Decider]] = {
    "linear": BlockBatch,
    "ridge": RidgeBatch,
}


Float32Array = NDArray[np.float32]
