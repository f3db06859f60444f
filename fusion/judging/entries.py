"""Entries: the heads and single backbones that a comparison judges, and what one of them answers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..data.joined import JoinedRows, Matrix
from ..data.rows import Rows
from ..errors import HeadDataError, ReportError
from ..keeping.answers import Classifier, aligned

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """A column to be: an unfitted head, and the blocks that it learns from."""

    title: str
    """Column title."""
    kind: Literal["head", "single"]
    """A head on all blocks, or a head on the blocks of one backbone."""
    blocks: tuple[str, ...]
    """The blocks it sees, in order."""
    head: Any
    """The head, told its blocks and its seed; never fitted itself."""

    @property
    def head_name(self) -> str:
        """The estimator's class name."""
        return type(self.head).__name__

    @property
    def params(self) -> dict[str, Any]:
        """Its parameters, as JSON values."""
        return plain_params(self.head.get_params(deep=False))

    @property
    def seeded(self) -> bool:
        """Whether another seed could change its answers.

        It, or a part of it, has a whole-number ``random_state``, and is no head that says it draws nothing
        (`Head.by_chance`).
        """
        owners = {"": self.head, **self.head.get_params()}
        return any(getattr(owners[name.rpartition("__")[0]], "by_chance", True) for name in _seeds(self.head))

    def fresh(self, run: int) -> Any:
        """Return an unfitted clone whose seeds are moved on by `run`."""
        from sklearn.base import clone

        mine: Any = clone(self.head)
        mine.set_params(**{name: seed + run for name, seed in _seeds(mine).items()})
        return mine


@dataclass(frozen=True, kw_only=True, eq=False)
class Described:
    """A column to be whose answers come from elsewhere: a kept run, a head that learned other labels."""

    title: str
    """Column title."""
    kind: Literal["head", "single"]
    """A head on all blocks, or a head on the blocks of one backbone."""
    blocks: tuple[str, ...]
    """The blocks it saw, in order."""
    head_name: str
    """The estimator's class name."""
    params: Mapping[str, Any]
    """Its parameters, as JSON values."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a fitted head says of some rows."""

    proba: NDArray[np.float64]
    """(n, k) class probabilities in the order of the rows' classes."""
    head: Any
    """The fitted head."""
    fit_s: float
    """Seconds of wall clock that it took to fit."""
    predict_s: float
    """Seconds of wall clock that it took to answer."""


def entries_of(
    heads: Mapping[str, Classifier],
    rows: Rows,
    *,
    seed: int,
    singles: bool = False,
    single_head: str | None = None,
    baseline: str | None = None,
) -> list[Entry]:
    """Return an entry a head, and one a single backbone if there are several; for the parameters see `compare`."""
    from sklearn.base import clone

    from ..heads import make_head

    if not heads:
        raise ReportError("there is no head to compare: give at least one")
    entries = []
    for title, head in heads.items():
        mine: Any = _seeded(clone(head), seed)
        if "blocks" in (params := mine.get_params(deep=False)) and params["blocks"] is None:
            mine.set_params(blocks=rows.widths)
        entries.append(Entry(title=title, kind="head", blocks=tuple(rows.blocks), head=mine))
    alike = heads[beside(heads, baseline)]
    features = rows.by_feature() if singles else {}
    for feature, blocks in features.items() if len(features) > 1 else ():
        if feature in heads:
            raise ReportError(f"{feature!r} is the title of a head and the name of a backbone: rename the head")
        widths = rows.only(blocks).widths
        if single_head is None:
            part = _narrowed(_seeded(clone(alike), seed), rows.widths, widths)
        else:
            part = make_head(single_head, blocks=widths, random_state=seed)
        entries.append(Entry(title=feature, kind="single", blocks=blocks, head=part))
    return entries


def beside(heads: Mapping[str, Classifier], baseline: str | None) -> str:
    """Return the title of the head that columns of single backbones stand beside: the baseline, or the first."""
    return baseline if baseline is not None and baseline in heads else next(iter(heads))


def _seeded(head: Any, seed: int) -> Any:
    """Give a head, and its parts, a seed where it has none."""
    return head.set_params(
        **{name: seed for name, value in head.get_params().items() if _is_seed(name) and value is None}
    )


def _narrowed(head: Any, known: Mapping[str, int], widths: Mapping[str, int]) -> Any:
    """Tell a head of many blocks that it sees these alone: the blocks' widths, and whatever it has by block."""
    params = head.get_params(deep=False)
    by_block = {
        name: {block: value[block] for block in widths if block in value}
        for name, value in params.items()
        if isinstance(value, Mapping) and value and set(value) <= set(known)
    }
    return head.set_params(**by_block | ({"blocks": dict(widths)} if "blocks" in params else {}))


def answered(entry: Entry, run: int, learn: Rows, ask: Rows) -> Answer:
    """Fit an entry's head, with the seeds of a run, on some rows and ask it about others.

    Raises
    ------
    ReportError
        If the answer is no probability table, or the head would load rows that were to stay on the disk.
    """
    head, x_learn, x_ask = entry.fresh(run), learn.only(entry.blocks).x(), ask.only(entry.blocks).x()
    from ..heads.base import fit_part

    refuse_to_load_quietly(entry.title, head, x_learn, x_ask)
    try:
        started = perf_counter()
        fit_part(head, x_learn, learn.y, learn.clusters, learn.soft, learn.targets)
        fitted = perf_counter()
        proba = head.predict_proba(x_ask)
        asked = perf_counter()
    except Exception as error:  # raised again, with the column it happened in
        error.add_note(f"in column: {entry.title}")
        raise
    log.info("%s: fitted %d rows in %.2f s", entry.title, learn.n, fitted - started)
    full = aligned(proba, head.classes_, len(ask.classes), f"head {entry.title!r}")
    return Answer(proba=full, head=head, fit_s=fitted - started, predict_s=asked - fitted)


def refuse_to_load_quietly(title: str, head: Any, *rows: Matrix) -> None:
    """Heads of this package read lazy rows in pieces, most learn from rows in memory only; others know arrays only."""
    from ..heads import heads_in_pieces
    from ..heads.base import Head

    lazy = next((one for one in rows if isinstance(one, JoinedRows)), None)
    if lazy is not None and lazy is rows[0] and isinstance(head, Head) and not head.learns_in_pieces:
        raise HeadDataError(
            f"{title!r} learns from rows in memory only, at least {lazy.nbytes:,} bytes, however: they stay on disk\n"
            "  load the rows first, Rows.of(view), or compare heads that learn in pieces: "
            + ", ".join(heads_in_pieces())
        )
    if lazy is not None and not isinstance(head, Head):
        raise ReportError(
            f"{title!r} is a {type(head).__name__}, which knows arrays only: it would load {lazy.nbytes:,} bytes\n"
            "  load the rows first, Rows.of(view), or compare heads of make_head"
        )


def _seeds(head: Any) -> dict[str, int]:
    """Return the whole-number seeds of a head and of its parts (the steps of a Pipeline), by parameter."""
    params = head.get_params()
    return {
        name: int(value)
        for name, value in params.items()
        if _is_seed(name) and isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    }


def _is_seed(name: str) -> bool:
    return name.rpartition("__")[2] == "random_state"


def plain_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return estimator parameters as JSON values; what JSON cannot say is given as its repr."""
    return {str(name): _plain(value) for name, value in params.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else repr(value)
    if is_dataclass(value) and not isinstance(value, type):
        return plain_params(asdict(value))
    if isinstance(value, Mapping):
        return plain_params(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return repr(value)
