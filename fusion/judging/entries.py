"""Entries: the heads and single backbones that a comparison judges, and what one of them answers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from time import perf_counter
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..data.joined import JoinedRows, Matrix
from ..data.rows import Rows
from ..errors import HeadDataError, ReportError
from ..keeping.answers import Classifier, aligned

log = logging.getLogger(__name__)


class After(Protocol):
    """What is done to a head's answers, such as smoothing over time (`cer_fusion.challenge.over_time`)."""

    def __call__(self, proba: NDArray[np.float64], rows: Rows) -> NDArray[np.float64]:
        """Return probabilities (n, k) of rows in place of others (n, k)."""

    def check(self, rows: Rows) -> None:
        """Refuse rows about which it could not be asked, before anything is fitted."""


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
    votes: bool = True
    """Whether it learns from soft labels, where it can and there are some."""
    after: After | None = None
    """What is done to its answers."""
    about: str = ""
    """What a reader of the report must know of it; empty for nothing."""
    beside: Rows | None = None
    """Rows whose basic expressions and pairs it learns from, in place of those of the rows it is fitted on."""

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

    check_heads(heads)
    entries = []
    for title, head in heads.items():
        mine: Any = _seeded(clone(head), seed)
        mine.set_params(**_untold(mine, rows.widths))
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


def check_heads(heads: Any) -> None:
    """Refuse what cannot be compared, saying what would do.

    Raises
    ------
    ReportError
        For anything but a dict of unfitted classifiers with probabilities.
    """
    if not isinstance(heads, Mapping):
        raise ReportError(
            f"heads must be a dict of title to classifier, however: {type(heads).__name__}\n"
            "  for instance {'mlp': make_head('mlp'), 'logistic': LogisticRegression()}"
        )
    if not heads:
        raise ReportError("there is no head to compare: give at least one")
    for title, head in heads.items():
        if isinstance(head, str):
            raise ReportError(f"head {title!r} is a text\n  make it: cer_fusion.make_head({head!r})")
        if isinstance(head, type):
            raise ReportError(f"head {title!r} is a class\n  make an object of it: {head.__name__}()")
        if not (hasattr(head, "fit") and hasattr(head, "get_params")):
            raise ReportError(
                f"head {title!r} is a {type(head).__name__}, which is no estimator of scikit-learn's kind (fit, "
                "get_params)\n  derive it from sklearn.base.ClassifierMixin and BaseEstimator"
            )
        if not hasattr(head, "predict_proba"):
            name = type(head).__name__
            raise ReportError(
                f"head {title!r} is a {name}, which gives no probabilities (predict_proba); figures, intervals and "
                f"files need them\n  of a classifier: sklearn.calibration.CalibratedClassifierCV({name}(…))"
            )


def check_rows(**given: Any) -> None:
    """Refuse what is not `Rows`, saying how they are made.

    Raises
    ------
    ReportError
    """
    for what, rows in given.items():
        if not isinstance(rows, Rows):
            of_view = hasattr(rows, "blocks") and hasattr(rows, "class_set")
            raise ReportError(
                f"{what} must be Rows, however: {type(rows).__name__}\n  "
                + (
                    "take them of the view: cer_fusion.Rows.of(view)"
                    if of_view
                    else "make them: cer_fusion.Rows(blocks={'vit': X}, y=y, classes=names), or Rows.of(store.view(…))"
                )
            )


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
    from ..data.selecting import Blocks

    params = head.get_params()
    by_block = {
        name: {block: value[block] for block in widths if block in value}
        for name, value in params.items()
        if isinstance(value, Mapping) and value and set(value) <= set(known)
    }
    whole: dict[str, Any] = {f"{name}__chosen": None for name, part in params.items() if isinstance(part, Blocks)}
    own = head.get_params(deep=False)  # a Pipeline may have a step of that name
    return head.set_params(**by_block | whole | ({"blocks": dict(widths)} if "blocks" in own else {}))


def _untold(head: Any, widths: Mapping[str, int]) -> dict[str, Any]:
    """Return what says the blocks' widths to a head, and to selectors of blocks within it, that were not told any."""
    from ..data.selecting import Blocks

    params = head.get_params()
    selectors = [f"{name}__blocks" for name, part in params.items() if isinstance(part, Blocks)]
    untold = [name for name in selectors if params[name] is None]
    own = ["blocks"] if head.get_params(deep=False).get("blocks", widths) is None else []
    return {name: dict(widths) for name in (*own, *untold)}


def answered(entry: Entry, run: int, learn: Rows, ask: Rows) -> Answer:
    """Fit an entry's head, with the seeds of a run, on some rows and ask it about others.

    Raises
    ------
    ReportError
        If the answer is no probability table, or the head would load rows that were to stay on the disk.
    """
    if entry.beside is not None:
        learn = replace(learn, basic=entry.beside.basic, pairs=entry.beside.pairs)
    head, learn, ask = entry.fresh(run), learn.only(entry.blocks), ask.only(entry.blocks)
    x_learn, x_ask = learn.x(), ask.x()
    from ..heads.base import fit_part

    refuse_to_load_quietly(entry.title, head, x_learn, x_ask)
    try:
        started = perf_counter()
        soft = learn.soft if entry.votes else None
        fit_part(head, x_learn, learn.y, learn.clusters, soft, learn.targets, **taught(head, learn, ask))
        fitted = perf_counter()
        proba = aligned(
            head.predict_proba(x_ask, **in_time(head, ask)), head.classes_, len(ask.classes), f"head {entry.title!r}"
        )
        proba = proba if entry.after is None else entry.after(proba, ask)
        asked = perf_counter()
    except Exception as error:  # raised again, with the column it happened in
        error.add_note(f"in column: {entry.title}")
        raise
    log.info("%s: fitted %d rows in %.2f s", entry.title, learn.n, fitted - started)
    return Answer(proba=proba, head=head, fit_s=fitted - started, predict_s=asked - fitted)


def in_time(head: Any, rows: Rows) -> dict[str, Any]:
    """Return what a head over time is told when it is asked, its rows' videos and times; nothing for other heads."""
    if not getattr(head, "learns_in_time", False):
        return {}
    videos, times = rows.in_time()
    return {"groups": videos, "times": times}


def taught(head: Any, learn: Rows, ask: Rows | None = None) -> dict[str, Any]:
    """Return what `fit_part` is told beside labels and groups: times, and basic expressions, where the head has a use.

    Rows of basic expressions that are among those asked about, or of a group with such, are left out.

    Raises
    ------
    HeadDataError
        If compounds are to be mixed and one is not made of two basic expressions that have rows.
    """
    from ..heads.base import Head
    from ..heads.basics import BasicRows

    found: dict[str, Any] = {}
    if not isinstance(head, Head):
        return found
    if head.learns_in_time:
        found["in_time"] = learn.in_time()
    if learn.basic is None or not head.learns_basic or not head._wants_basic():
        return found
    basic = learn.basic if ask is None else apart_from(learn.basic, ask)
    if getattr(head, "mixed_compounds", 0):
        _refuse_unmixable(learn, basic)
    found["basic"] = BasicRows(X=basic.x(), y=basic.y, pairs=learn.pairs, groups=basic.clusters)
    return found


def time_notes(entries: Sequence[Entry], rows: Rows) -> tuple[str, ...]:
    """Return what a reader must know of heads over time: what their windows hold."""
    titles = [entry.title for entry in entries if getattr(entry.head, "learns_in_time", False)]
    if not titles:
        return ()
    videos, times = rows.in_time()
    alone = sum(not video or time != time for video, time in zip(videos, times.tolist(), strict=True))
    named = len(set(videos) - {""})
    found = f"{rows.n - alone:,} of {rows.n:,} rows are frames of {named:,} videos, ordered by time"
    if alone == rows.n:
        found = "no row is a frame of a video with a group (an id VIDEO/NNNNN.jpg): each is a window of one row"
    elif alone:
        found += f"; the other {alone:,} are windows of one row"
    return (f"{', '.join(titles)} answers from windows of a video's rows, never across videos. Here {found}.",)


def apart_from(basic: Rows, ask: Rows) -> Rows:
    """Return the rows that are not among others, nor of a group with such, and log how many are left out."""
    ids, groups = set(ask.ids or ()), set(ask.groups or ()) - {""}
    own = basic.groups or ("",) * basic.n
    apart = np.array([name not in ids and group not in groups for name, group in zip(basic.names, own, strict=True)])
    if apart.all():
        return basic
    log.info("%d rows of basic expressions are asked about, or of a group that is: left out", (~apart).sum())
    if not apart.any():
        raise HeadDataError("all rows of basic expressions are of groups that are asked about: give other ones")
    return basic.take(np.flatnonzero(apart))


def _refuse_unmixable(rows: Rows, basic: Rows) -> None:
    pairs = rows.pairs or {}
    for code in np.flatnonzero(rows.supports).tolist():
        name = rows.classes[code]
        if code not in pairs:
            raise HeadDataError(
                f"mixed_compounds mixes a compound of its two components, however: {name!r} is none that is known, or "
                f"no basic class means one of them ({', '.join(basic.classes)})\n  leave the class out, or "
                "mixed_compounds"
            )
        lacking = [basic.classes[part] for part in pairs[code] if not basic.supports[part]]
        if lacking:
            raise HeadDataError(f"{name!r} is mixed of rows of {lacking[0]!r}, however: no row of basic expressions is")


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
