"""Settings of a head as axes: all combinations of their values, each fitted on the same rows and folds.

Weights of blocks have a cheaper way each (`deciders`); whatever else a head can be set to is fitted for every point:
how much locality or a coupling counts, how long a curriculum stays with basic expressions, how many compounds it mixes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ...kit.errors import nearest
from ...kit.plain import to_plain
from ..data.rows import Rows
from ..errors import FusionError, HeadDataError, SweepError
from ..heads.base import Head, fit_part
from ..heads.settings import check_kinds
from ..judging.entries import in_time, taught
from ..keeping.answers import Classifier, aligned
from .deciders import Decisions, Step, prepared
from .result import value_text

MOST_POINTS: Final = 1_000
"""Each point is a fit a fold and seed."""

ELSEWHERE: Final = {
    "blocks": "says which blocks there are: leave out those that a head is not to see (Rows.only, --features)",
    "random_state": "is no choice: give several seeds (seeds, --seeds)",
    "weights": "of blocks or decisions have a sweep of their own (a Grid; --weights or --simplex)",
    "device": "does not change what is learned",
    "threads": "do not change what is learned",
    "table": "is a table of numbers, and no axis: sweep the coupling by one table, and then by another",
}
"""Why some settings are no axes."""

OF_TASKS: Final = {"au_weight", "basic_weight", "va_weight", "coupling", "meta_lr"}
"""Settings of `multitask` that say nothing without targets."""


@dataclass(frozen=True, eq=False)
class Axes:
    """Settings, and the values that each is to have; a point is one value of each, the last setting varying first."""

    values: Mapping[str, Sequence[Any]]
    """Setting -> two or more different values."""

    def __post_init__(self) -> None:
        """Refuse what spans no grid."""
        if not self.values:
            raise SweepError("there is no axis: name a setting and its values, locality=0,0.1,1")
        for name, values in self.values.items():
            if isinstance(values, str | bytes) or not isinstance(values, Sequence):
                raise SweepError(f"an axis needs a list of values, however: {name}={values!r}")
            plain = [to_plain(value, where=name, error=SweepError) for value in values]
            twice = next((one for i, one in enumerate(plain) if one in plain[:i]), None)
            if len(plain) < 2 or twice is not None:
                why = "one is no axis, but a setting of the head" if twice is None else f"{twice!r} stands twice"
                raise SweepError(f"an axis needs two or more different values, however: {name} has {values!r}; {why}")
        if prod(map(len, self.values.values())) > MOST_POINTS:
            counts = " x ".join(str(len(one)) for one in self.values.values())
            raise SweepError(
                f"the axes cross at {counts} points, more than {MOST_POINTS:,}, each of which is fitted a fold\n"
                "  take fewer values, or one axis after the other"
            )

    def __len__(self) -> int:
        """Return the number of points."""
        return prod(map(len, self.values.values()))

    blocks: ClassVar[tuple[str, ...]] = ()
    """A point weighs none; the head sees all that the rows have."""
    per_class: ClassVar[None] = None

    @property
    def weights(self) -> NDArray[np.float64]:
        """(w, 0), which weigh no block: of equally good points the first is taken."""
        return np.empty((len(self), 0))

    @property
    def points(self) -> list[dict[str, Any]]:
        """All points in order, by setting."""
        return [dict(zip(self.values, one, strict=True)) for one in product(*self.values.values())]

    def check(self, head: Classifier, train: Rows | None = None) -> None:
        """Refuse settings that the head has not, or cannot have so on rows, before anything is fitted.

        Raises
        ------
        SweepError
            Naming the setting and the nearest one, or the point.
        """
        known = head.get_params()
        name = str(getattr(head, "name", type(head).__name__))
        for axis in self.values:
            if axis in ELSEWHERE:
                raise SweepError(f"{axis} {ELSEWHERE[axis]}")
            if axis not in known:
                raise SweepError(f"head {name!r} has no setting {axis!r}; {nearest(axis, known)}")
        for point in self.points:
            try:
                told = set_to(head, point)
                if isinstance(told, Head):
                    check_kinds(told)
                    getattr(told, "_check", _nothing)()
                    if train is not None:
                        _check_rows(told, train)
            except (FusionError, ValueError, TypeError) as error:
                raise SweepError(f"head {name!r} cannot be set to {point_text(point)}: {error}") from error
        if train is not None and not train.targets and (idle := [axis for axis in self.values if axis in OF_TASKS]):
            raise SweepError(
                f"{', '.join(idle)} cannot matter: the rows have no targets beside the classes\n"
                "  give them: Rows(targets=…), or --targets TABLE"
            )

    def reference(self, head: Classifier) -> int:
        """Return the point that others are tested against: where the head stands itself, else the first."""
        own = {name: _listed(value) for name, value in head.get_params().items() if name in self.values}
        return next((i for i, point in enumerate(self.points) if _stands_at(point, own)), 0)


def point_text(point: Mapping[str, Any]) -> str:
    """Return a point in words: ``locality=0.1, curriculum=10``."""
    return ", ".join(f"{name}={value_text(to_plain(value))}" for name, value in point.items())


def set_to(head: Classifier, point: Mapping[str, Any]) -> Any:
    """Return an unfitted clone with the settings of a point; lists become tuples, as heads declare them."""
    from sklearn.base import clone

    told: Any = clone(head)
    return told.set_params(**{name: _entered(value) for name, value in point.items()})


class PointFits:
    """Fits the head at every point, one after the other; what `deciders.Decider` asks for."""

    notes: tuple[str, ...] = ()
    by_vector = True

    def __init__(self, head: Classifier, points: Sequence[Mapping[str, Any]], *, reseed: bool) -> None:
        self.head, self.points, self.reseed = head, points, reseed
        self.seeded = any(getattr(set_to(head, point), "by_chance", True) for point in points)

    def fits(self, n: int) -> int:
        """Return how often `decide` calls `step`."""
        return len(self.points)

    def decide(self, learn: Rows, ask: Rows, seed: int, step: Step) -> Decisions:
        """Return class positions (1, w, n), a line a point."""
        x_learn, x_ask = learn.x(), ask.x()
        y_pred = np.empty((1, len(self.points), ask.n), dtype=np.int16)
        for i, point in enumerate(self.points):
            head = prepared(set_to(self.head, point), learn, seed, None, reseed=self.reseed)
            try:
                fit_part(head, x_learn, learn.y, learn.clusters, learn.soft, learn.targets, **taught(head, learn, ask))
                proba = head.predict_proba(x_ask, **in_time(head, ask))
            except Exception as error:  # raised again, with the point it happened at
                error.add_note(f"at the point: {point_text(point)}")
                raise
            y_pred[0, i] = aligned(proba, head.classes_, len(ask.classes), "the head").argmax(axis=1)
            step()
        return y_pred


def _entered(value: Any) -> Any:
    return tuple(map(_entered, value)) if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    return list(map(_listed, value)) if isinstance(value, list | tuple) else value


def _stands_at(point: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether both say the same, in whatever words they say that there is none of something: 0, (), None."""
    return all(_listed(value) == own[name] or (not value and not own[name]) for name, value in point.items())


def _check_rows(head: Head, train: Rows) -> None:
    """Refuse what the settings need and the rows have not."""
    if head.learns_basic and head._wants_basic() and train.basic is None:
        raise HeadDataError(
            "it learns from rows of basic expressions, and there are none\n"
            "  give them: cer_fusion.fusion.judging.zero_shot.with_basic(rows, basic), or --basic DATASET"
        )
    if getattr(head, "coupling", 0) and "au" not in (train.targets or {}):
        raise HeadDataError(
            "it matches action units to classes, and there are none\n"
            "  give them: Rows(targets={'au': …}), or --targets TABLE"
        )


def _nothing() -> None:
    """Check nothing, of heads that check their settings when they are fitted."""
