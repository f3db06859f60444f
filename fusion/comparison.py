"""Comparing heads: same training rows, same test rows, intervals and paired tests beside every figure."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusion.answers import Answer, Classifier, Truth, aligned
from fusion.errors import ReportError, nearest
from fusion.intervals import LEVEL, Bootstrap, accuracy_interval, bootstrap
from fusion.joined import JoinedRows, Matrix
from fusion.metrics import scores
from fusion.paired import holm, mcnemar
from fusion.report import Column, Report, Versus, plain_params
from fusion.rows import Rows

__all__ = ["Report", "Rows", "check_baseline", "check_same_task", "compare", "judged"]

log = logging.getLogger(__name__)

Kind: TypeAlias = Literal["head", "single"]


def compare(
    heads: Mapping[str, Classifier],
    train: Rows,
    test: Rows,
    *,
    singles: bool = True,
    single_head: str = "linear",
    baseline: str | None = None,
    resamples: int = 2000,
    level: float = LEVEL,
    seed: int = 0,
) -> Report:
    """Fit each head on all blocks, and one head on each single backbone; score all of them on the test rows.

    Parameters
    ----------
    heads : dict of column title to unfitted classifier
        They are cloned. A head whose ``blocks`` is None is told the blocks' widths, one whose ``random_state`` is None
        gets ``seed``; nothing else about them changes.
    train, test : Rows
        Rows with the same blocks and classes and no sample or group in common. Lazy ones (`Rows.of(view, load=False)`)
        are read in pieces, by heads that learn so.
    singles : bool
        Add a column for each backbone alone (``manet.local`` and ``manet.multi_scale`` together are the backbone
        ``manet``), when there are several.
    single_head : str
        The head that learns from a single backbone, a name `make_head` knows.
    baseline : str, optional
        Column the others are tested against: exact McNemar with Holm's correction, and paired bootstrap differences.
    resamples, level, seed
        Of the bootstrap.

    Raises
    ------
    ReportError
        If the rows do not belong together, share samples, or a head's answer is no probability table.
    """
    check_same_task(train, test)
    plan = _plan(heads, train, singles=singles, single_head=single_head, seed=seed)
    check_baseline(baseline, [title for title, *_ in plan])
    answers = [_answer(*part, train, test) for part in plan]
    return judged(
        answers,
        test,
        baseline=baseline,
        train_supports=tuple(train.supports.tolist()),
        fingerprints=dict(test.fingerprints or {}),
        notes=_notes(train, test, answers, single_head),
        resamples=resamples,
        level=level,
        seed=seed,
    )


def judged(
    answers: Sequence[Answer],
    test: Truth,
    *,
    baseline: str | None,
    train_supports: tuple[int, ...],
    fingerprints: Mapping[str, str],
    notes: tuple[str, ...],
    resamples: int,
    level: float,
    seed: int,
) -> Report:
    """Score answers on the same rows, with intervals and paired tests: the half of `compare` that fits nothing."""
    titles = [answer.name for answer in answers]
    y_pred = np.stack([answer.proba.argmax(axis=1) for answer in answers]).astype(np.int64)
    draws = bootstrap(test.y, y_pred, len(test.classes), groups=test.clusters, resamples=resamples, seed=seed)
    versus = _versus(test, y_pred, draws, None if baseline is None else titles.index(baseline), level)
    columns = tuple(_column(test, answer, y_pred[i], draws, i, versus[i], level) for i, answer in enumerate(answers))
    return Report(
        classes=test.classes,
        ids=test.names,
        y_true=test.y,
        columns=columns,
        baseline=baseline,
        train_supports=train_supports,
        clustered=test.clusters is not None,
        level=level,
        resamples=resamples,
        seed=seed,
        fingerprints=dict(fingerprints),
        notes=notes,
    )


def check_baseline(baseline: str | None, titles: Sequence[str]) -> None:
    """Refuse a baseline that is no column, before anything is fitted."""
    if baseline is not None and baseline not in titles:
        raise ReportError(f"there is no column {baseline!r} to test against; {nearest(baseline, titles)}")


def check_same_task(train: Rows, test: Rows) -> None:
    """Refuse training and test rows of different blocks or classes, or with samples or groups in common."""
    for what, a, b in (("classes", train.classes, test.classes), ("blocks", train.widths, test.widths)):
        if a != b or list(a) != list(b):
            raise ReportError(f"train and test must have the same {what} in the same order, however: {a} and {b}")
    prints = (train.fingerprints, test.fingerprints)
    if prints[0] is not None and prints[1] is not None and dict(prints[0]) != dict(prints[1]):
        raise ReportError(f"train and test rows come from different features: {dict(prints[0])} and {dict(prints[1])}")
    shared = set(train.ids or ()) & set(test.ids or ())
    if shared:
        raise ReportError(f"{len(shared)} samples are in train and in test (first: {min(shared)}): scores would lie")
    crossing = (set(train.groups or ()) & set(test.groups or ())) - {""}
    if crossing:
        raise ReportError(
            f"{len(crossing)} groups have rows in train and in test (first: {min(crossing)}): scores would lie\n"
            "  keep all rows of a video or subject in one split"
        )


def _plan(
    heads: Mapping[str, Classifier], train: Rows, *, singles: bool, single_head: str, seed: int
) -> list[tuple[str, Kind, tuple[str, ...], Any]]:
    from sklearn.base import clone

    from fusion.heads import make_head

    if not heads:
        raise ReportError("there is no head to compare: give at least one")
    plan: list[tuple[str, Kind, tuple[str, ...], Any]] = []
    for title, head in heads.items():
        mine: Any = clone(head)
        known = mine.get_params(deep=False)
        fill = {"blocks": train.widths, "random_state": seed}
        mine.set_params(**{name: value for name, value in fill.items() if name in known and known[name] is None})
        plan.append((title, "head", tuple(train.blocks), mine))
    features = train.by_feature() if singles else {}
    for feature, blocks in features.items() if len(features) > 1 else ():
        if feature in heads:
            raise ReportError(f"{feature!r} is the title of a head and the name of a backbone: rename the head")
        part = make_head(single_head, blocks=train.only(blocks).widths)
        if "random_state" in part.get_params(deep=False):
            part.set_params(random_state=seed)
        plan.append((feature, "single", blocks, part))
    return plan


def _answer(title: str, kind: Kind, blocks: tuple[str, ...], head: Any, train: Rows, test: Rows) -> Answer:
    learn, ask = train.only(blocks).x(), test.only(blocks).x()
    _refuse_to_load_quietly(title, head, learn, ask)
    try:
        started = perf_counter()
        head.fit(learn, train.y)
        fitted = perf_counter()
        proba = head.predict_proba(ask)
        asked = perf_counter()
    except Exception as error:  # raised again, with the column it happened in
        error.add_note(f"in column: {title}")
        raise
    log.info("%s: fitted %d rows in %.2f s", title, train.n, fitted - started)
    full = aligned(proba, head.classes_, len(test.classes), f"head {title!r}")
    return Answer(
        name=title,
        kind=kind,
        head=type(head).__name__,
        params=plain_params(head.get_params(deep=False)),
        blocks=blocks,
        fit_s=round(fitted - started, 4),
        predict_s=round(asked - fitted, 4),
        proba=full,
        fitted=head,
    )


def _refuse_to_load_quietly(title: str, head: Any, *rows: Matrix) -> None:
    """Heads of this package read lazy rows in pieces; any other classifier would turn them into one array."""
    from fusion.heads.base import Head

    lazy = next((one for one in rows if isinstance(one, JoinedRows)), None)
    if lazy is not None and not isinstance(head, Head):
        raise ReportError(
            f"{title!r} is a {type(head).__name__}, which knows arrays only: it would load {lazy.nbytes:,} bytes\n"
            "  load the rows first, Rows.of(view), or compare heads of make_head"
        )


def _column(
    test: Truth,
    answer: Answer,
    y_pred: NDArray[np.int64],
    draws: Bootstrap,
    i: int,
    versus: Versus | None,
    level: float,
) -> Column:
    found = scores(test.y, y_pred, test.classes)
    return Column(
        **vars(answer),
        y_pred=y_pred,
        scores=found,
        accuracy=accuracy_interval(
            int(found.correct.sum()), found.n, draws, i, independent=test.clusters is None, level=level
        ),
        macro_f1=draws.interval("macro_f1", i, level),
        versus=versus,
    )


def _versus(
    test: Truth, y_pred: NDArray[np.int64], draws: Bootstrap, base: int | None, level: float
) -> list[Versus | None]:
    if base is None:
        return [None] * len(y_pred)
    others = [i for i in range(len(y_pred)) if i != base]
    tests = [mcnemar(test.y, y_pred[i], y_pred[base]) for i in others]
    corrected = holm([test.p for test in tests])
    independent = test.clusters is None
    base_scores = scores(test.y, y_pred[base], test.classes)
    found: list[Versus | None] = [None] * len(y_pred)
    for i, exact, adjusted in zip(others, tests, corrected, strict=True):
        mine = scores(test.y, y_pred[i], test.classes)
        found[i] = Versus(
            accuracy=mine.accuracy - base_scores.accuracy,
            accuracy_interval=draws.difference("accuracy", i, base, level),
            macro_f1=mine.macro_f1 - base_scores.macro_f1,
            macro_f1_interval=draws.difference("macro_f1", i, base, level),
            only_head=exact.only_first,
            only_baseline=exact.only_second,
            p=exact.p if independent else None,
            p_holm=adjusted if independent else None,
        )
    return found


def _notes(train: Rows, test: Rows, answers: Sequence[Answer], single_head: str) -> tuple[str, ...]:
    notes = []
    unseen = [name for name, count in zip(train.classes, train.supports.tolist(), strict=True) if not count]
    if unseen:
        notes.append(f"No training row of {', '.join(unseen)}: no head can answer it.")
    untested = [name for name, count in zip(test.classes, test.supports.tolist(), strict=True) if not count]
    if untested:
        notes.append(
            f"No test row of {', '.join(untested)}: per-class accuracy undefined, F1 counted as 0 in macro F1."
        )
    names = ", ".join(answer.name for answer in answers if answer.kind == "single")
    if names:
        notes.append(f"Single backbones ({names}): head '{single_head}' on that backbone's blocks alone.")
    return tuple(notes)
