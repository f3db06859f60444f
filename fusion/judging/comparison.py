"""Heads side by side on the same rows: what is fitted, on which rows, and the report of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data.rows import Rows, folds_of
from ..errors import ReportError
from ..keeping.answers import Classifier, aligned
from .entries import Answer, Entry, answered, beside, check_rows, entries_of
from .fits import Step, do_all, one_at_a_time
from .metrics import Metrics, check_metrics
from .report import Report
from .resampling import LEVEL, RESAMPLES
from .verdicts import Judgeable, judged, singles_note
from .zero_shot import Columns, check_columns

IntArray = NDArray[np.int64]
log = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called as (done, all, title) before each fit, and when all are done; networks tell their epochs so as well."""
_LAST = "intervals and tests"


class _Fits:
    """Tells whoever watches which head is fitted next."""

    def __init__(self, watch: Progress | None, total: int) -> None:
        self._watch, self._total, self._done = watch, total, 0

    def tell(self, what: str) -> None:
        if self._watch is not None:
            self._watch(self._done, self._total, what)

    def reach(self, done: int, total: int) -> None:
        """So many are done, somewhere else."""
        self._done = done
        self.tell("")

    @contextmanager
    def fit(self, title: str) -> Iterator[None]:
        """One fit; networks tell their epochs as well."""
        from ..heads.base import EPOCHS

        self.tell(title)
        token = EPOCHS.set(lambda epoch, epochs: self.tell(f"{title}, epoch {epoch} of {epochs}"))
        try:
            yield
        finally:
            EPOCHS.reset(token)
        self._done += 1


def compare(
    heads: Mapping[str, Classifier],
    train: Rows,
    test: Rows,
    *,
    singles: bool = True,
    single_head: str | None = None,
    baseline: str | None = None,
    seeds: int = 1,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    zero_shot: Columns | None = None,
    more: Sequence[Entry | Columns] = (),
    n_jobs: int | None = None,
    metrics: Metrics = (),
    progress: Progress | None = None,
) -> Report:
    """Fit each head on all blocks, and one head on each single backbone; score all of them on the test rows.

    Parameters
    ----------
    heads : dict of column title to unfitted classifier
        Heads of `make_head` or any other scikit-learn classifier, a Pipeline too. They are cloned. A head whose
        ``blocks`` is None is told the blocks' widths, one whose ``random_state`` is None (or that of one of its parts)
        gets ``seed``; nothing else about them changes.
    train, test : Rows
        Rows with the same blocks and classes and no sample or group in common. Lazy ones (`Rows.of(view, load=False)`)
        are read in pieces, by heads that learn so.
    singles : bool
        Add a column for each backbone alone (``manet.local`` and ``manet.multi_scale`` together are the backbone
        ``manet``), when there are several.
    single_head : str, optional
        The head that learns from a single backbone, a name `make_head` knows. None takes the head that these columns
        stand beside, with its settings: the baseline where that is a head, else the first. A difference is then one of
        backbones, and not of heads too.
    baseline : str, optional
        Column the others are tested against: exact McNemar with Holm's correction, and paired bootstrap differences.
    seeds : int
        Fits a head, each with the next seed. Scores, intervals and differences are then about the mean over the fits,
        and the report tells how far the fits lie apart.
    resamples, level, seed
        Of the bootstrap.
    zero_shot : ZeroShotColumns or PromptColumns, optional
        Columns that learned basic expressions only, from rows of their own, or that answer by prompts.
    more : sequence of Entry, ZeroShotColumns or PromptColumns
        Further columns, as `cer_fusion.fusion.recipes.recipe_columns` makes them; with them there need be no heads.
    metrics : sequence of str or function
        Further metrics with intervals: ``uar`` (mean per-class recall), ``weighted_f1``, ``f1`` (of each class), or
        functions of your own of true and predicted class positions, such as ``sklearn.metrics.cohen_kappa_score``.
    progress : callable (done, all, title), optional
        Called before each fit, and once all are done.
    n_jobs : int, optional
        Fits at once, by joblib: None for one, unless `joblib.parallel_config` says otherwise.

    Raises
    ------
    ReportError
        If the rows do not belong together, share samples, or a head's answer is no probability table.
    """
    planned = comparison(
        heads, train, test, singles=singles, single_head=single_head, baseline=baseline, seeds=seeds,
        resamples=resamples, level=level, seed=seed, zero_shot=zero_shot, more=more, metrics=metrics,
    )  # fmt: skip
    return planned.run(n_jobs=n_jobs, progress=progress)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """One fit of a comparison."""

    entry: int
    """Position of what is fitted."""
    run: int
    """Which seeds it gets."""
    part: tuple[IntArray, IntArray] | None = None
    """Positions of the rows to learn from and to answer; None for the training and the test rows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A comparison before its fits, which can be done anywhere (`cer_fusion.fusion.judging.fits.Fits`)."""

    entries: Sequence[Entry]
    train: Rows
    test: Rows
    """The training rows themselves in a cross-validation."""
    fits: Sequence[Fit]
    runs: int
    """Seeds, or repeats."""
    folds: int
    """0 if there is a test split."""
    zero_shot: Sequence[Columns]
    judging: Mapping[str, Any]
    """Of `judged`: baseline, resamples, level, seed."""
    notes: tuple[str, ...]
    _taken: dict[int, tuple[Rows, Rows]] = field(default_factory=dict, repr=False)
    """Rows of the fold that was asked for last, by the fold's identity."""

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to another process."""
        return {**self.__dict__, "_taken": {}}

    def __len__(self) -> int:
        return len(self.fits)

    def steps(self, i: int) -> int:
        """Return 1: a fit is a step."""
        return 1

    def do(self, i: int, step: Step) -> Answer:
        """Fit and ask. Of a fold's head the answer alone is kept."""
        fit = self.fits[i]
        answer = answered(self.entries[fit.entry], fit.run, *self._rows(fit))
        step()
        return answer if fit.part is None else replace(answer, head=None)

    def _rows(self, fit: Fit) -> tuple[Rows, Rows]:
        """Rows to learn from and to answer; those of a fold are the same for all entries."""
        if fit.part is None:
            return self.train, self.test
        rows = self._taken.get(id(fit.part))
        if rows is None:
            rows = (self.train.take(fit.part[0]), self.train.take(fit.part[1]))
            self._taken.clear()
            self._taken[id(fit.part)] = rows
        return rows

    def run(self, *, n_jobs: int | None = None, progress: Progress | None = None) -> Report:
        """Do all fits here, or wherever joblib does them, and judge their answers."""
        fits = _Fits(progress, len(self) + len(self.zero_shot))
        if not one_at_a_time(self, n_jobs):
            return self.report(do_all(self, n_jobs=n_jobs, progress=fits.reach), fits)
        found = []
        for i in range(len(self)):
            with fits.fit(self.entries[self.fits[i].entry].title):
                found.append(self.do(i, _no_step))
        return self.report(found, fits)

    def report(self, found: Sequence[Answer], fits: _Fits | None = None) -> Report:
        """Judge the answers of all fits, in their order; zero-shot columns are fitted now."""
        fits = fits or _Fits(None, 0)
        answers: dict[Judgeable, list[Answer]] = {}
        for number, entry in enumerate(self.entries):
            of_entry = [(fit, one) for fit, one in zip(self.fits, found, strict=True) if fit.entry == number]
            answers[entry] = self._by_run(of_entry)
        for columns in self.zero_shot:
            with fits.fit(columns.title or "zero-shot"):
                answers |= columns.answers(self.test, runs=self.runs, seed=self.judging["seed"])
        fits.tell(_LAST)
        return judged(
            answers,
            self.test,
            train_supports=tuple(self.train.supports.tolist()),
            train_split=self.train.split,
            fingerprints=dict(self.test.fingerprints or {}),
            folds=self.folds,
            notes=self.notes,
            **self.judging,
        )

    def _by_run(self, found: list[tuple[Fit, Answer]]) -> list[Answer]:
        if not self.folds:  # what no seed changes is fitted once
            return [answer for _, answer in found] * (self.runs // len(found))
        return [
            _whole(
                [answer for fit, answer in found if fit.run == run],
                [fit.part[1] for fit, _ in found if fit.run == run and fit.part is not None],
            )
            for run in range(self.runs)
        ]


def _no_step() -> None:
    """Count for nobody."""


def comparison(
    heads: Mapping[str, Classifier],
    train: Rows,
    test: Rows,
    *,
    singles: bool = True,
    single_head: str | None = None,
    baseline: str | None = None,
    seeds: int = 1,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    zero_shot: Columns | None = None,
    more: Sequence[Entry | Columns] = (),
    metrics: Metrics = (),
) -> Comparison:
    """Return what `compare` does, with its parameters, before any fit: a fit an entry and seed."""
    check_rows(train=train, test=test)
    check_same_task(train, test)
    check_metrics(metrics)
    entries, without = _columns(heads, train, zero_shot, more, singles, single_head, baseline, seed)
    check_columns(entries, without, test, baseline)
    if seeds < 1:
        raise ReportError(f"a head needs at least one seed, however: {seeds}")
    return Comparison(
        entries=entries,
        train=train,
        test=test,
        fits=[
            Fit(entry=number, run=run)
            for number, entry in enumerate(entries)
            for run in range(seeds if entry.seeded else 1)
        ],
        runs=seeds,
        folds=0,
        zero_shot=without,
        judging={"baseline": baseline, "resamples": resamples, "level": level, "seed": seed, "metrics": metrics},
        notes=(
            *singles_note(entries, _single(heads, single_head, baseline)),
            *(entry.about for entry in entries if entry.about),
            *(note for columns in without for note in columns.notes),
            *_seeds_note(entries, seeds),
            *_soft_note(entries, train),
        ),
    )


def _columns(
    heads: Mapping[str, Classifier],
    rows: Rows,
    zero_shot: Columns | None,
    more: Sequence[Entry | Columns],
    singles: bool,
    single_head: str | None,
    baseline: str | None,
    seed: int,
) -> tuple[list[Entry], list[Columns]]:
    """Return all that is fitted on the rows, and all that learned from others; singles stand beside heads."""
    entries: list[Entry] = []
    if heads or not more:
        entries = entries_of(heads, rows, singles=singles, single_head=single_head, baseline=baseline, seed=seed)
    entries[len(heads) : len(heads)] = [one for one in more if isinstance(one, Entry)]
    return entries, [
        *([] if zero_shot is None else [zero_shot]),
        *(one for one in more if not isinstance(one, Entry)),
    ]


def _single(heads: Mapping[str, Classifier], single_head: str | None, baseline: str | None) -> str:
    """Say in words which head a single backbone gets; nothing where there is none."""
    if not heads:
        return ""
    if single_head is not None:
        return f"head '{single_head}'"
    return f"the head of '{beside(heads, baseline)}', with its settings,"


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


def _seeds_note(entries: list[Entry], seeds: int) -> tuple[str, ...]:
    if seeds == 1:
        return ()
    fixed = ", ".join(entry.title for entry in entries if not entry.seeded)
    return (
        f"Figures are means of {seeds} fits with different seeds; ±: their standard deviation, which is what training "
        "alone does. Counts, probabilities and McNemar's test are those of the first fit."
        + (f" No seed changes {fixed}: fitted once." if fixed else ""),
    )


def _soft_note(entries: list[Entry], rows: Rows) -> tuple[str, ...]:
    if rows.soft is None:
        return ()
    able = [entry.title for entry in entries if entry.votes and getattr(entry.head, "learns_soft_labels", False)]
    others = [entry.title for entry in entries if entry.title not in able]
    split = (rows.soft.max(axis=1) < 1).sum()
    return (
        f"{', '.join(able) or 'No column'} learned from soft labels: by them {split:,} of {rows.n:,} rows are of "
        "several classes"
        + (f"; {', '.join(others)} from one label a row" if others else "")
        + ". All are judged by the labels.",
    )


def cross_compare(
    heads: Mapping[str, Classifier],
    rows: Rows,
    *,
    folds: int = 5,
    repeats: int = 1,
    singles: bool = True,
    single_head: str | None = None,
    baseline: str | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    progress: Progress | None = None,
    zero_shot: Columns | None = None,
    more: Sequence[Entry | Columns] = (),
    n_jobs: int | None = None,
    metrics: Metrics = (),
) -> Report:
    """Compare heads as `compare` does, on out-of-fold answers for every row.

    Folds are stratified by class and never cut a group; every head sees the same folds. Each repeat cuts other folds
    and fits with other seeds. Scores are computed on all out-of-fold answers of a repeat at once, not averaged over
    folds (which biases F1 where classes are rare: Forman and Scholz 2010, *Apples-to-Apples in Cross-Validation
    Studies*), then averaged over the repeats. Answers are not: heads that vote would be judged, not one head. The
    intervals resample rows (whole groups), with all repeats' answers to a drawn row drawn together.

    Parameters
    ----------
    heads : dict of column title to unfitted classifier
        As for `compare`; cloned for every fold.
    rows : Rows
        All rows that are to be learned from and judged on. Samples that belong together beyond their groups, such as a
        picture that is there twice, are to be `cer_fusion.fusion.data.rows.tied` first.
    folds, repeats : int
        Folds, at least 2; and how often all rows are cut into folds anew.
    singles, single_head, baseline, resamples, level, seed
        As for `compare`.
    progress : callable (done, all, title), optional
        Called before each fit, and once all are done.
    zero_shot : ZeroShotColumns or PromptColumns, optional
        Columns that learned basic expressions only, from rows of their own: fitted once a repeat, not once a fold.
    more : sequence of Entry, ZeroShotColumns or PromptColumns
        As for `compare`.
    metrics : sequence of str or function
        As for `compare`.
    n_jobs : int, optional
        Fits at once, as for `compare`.

    Raises
    ------
    HeadDataError
        If there are too few rows, or groups, for so many folds.
    ReportError
        As for `compare`, or if there is no repeat.
    """
    planned = cross_comparison(
        heads, rows, folds=folds, repeats=repeats, singles=singles, single_head=single_head, baseline=baseline,
        resamples=resamples, level=level, seed=seed, zero_shot=zero_shot, more=more, metrics=metrics,
    )  # fmt: skip
    return planned.run(n_jobs=n_jobs, progress=progress)


def cross_comparison(
    heads: Mapping[str, Classifier],
    rows: Rows,
    *,
    folds: int = 5,
    repeats: int = 1,
    singles: bool = True,
    single_head: str | None = None,
    baseline: str | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    zero_shot: Columns | None = None,
    more: Sequence[Entry | Columns] = (),
    metrics: Metrics = (),
) -> Comparison:
    """Return what `cross_compare` does, with its parameters, before any fit: a fit an entry, repeat and fold."""
    check_rows(rows=rows)
    if repeats < 1:
        raise ReportError(f"cross-validation needs at least one repeat, however: {repeats}")
    check_metrics(metrics)
    entries, without = _columns(heads, rows, zero_shot, more, singles, single_head, baseline, seed)
    check_columns(entries, without, rows, baseline)
    return Comparison(
        entries=entries,
        train=rows,
        test=rows,
        fits=[
            Fit(entry=number, run=repeat, part=part)
            for repeat in range(repeats)
            for part in folds_of(rows, folds, seed + repeat)
            for number in range(len(entries))
        ],
        runs=repeats,
        folds=folds,
        zero_shot=without,
        judging={"baseline": baseline, "resamples": resamples, "level": level, "seed": seed, "metrics": metrics},
        notes=(
            *singles_note(entries, _single(heads, single_head, baseline)),
            *(entry.about for entry in entries if entry.about),
            *(note for columns in without for note in columns.notes),
            *_notes(rows, folds, repeats),
            *_soft_note(entries, rows),
        ),
    )


def _whole(parts: list[Answer], held_out: list[Any]) -> Answer:
    """Put the folds' answers where their rows stand. No one head gave them, so there is none to keep."""
    order = np.argsort(np.concatenate(held_out))
    return Answer(
        proba=np.concatenate([part.proba for part in parts])[order],
        head=None,
        fit_s=float(np.mean([part.fit_s for part in parts])),
        predict_s=sum(part.predict_s for part in parts),
    )


def _notes(rows: Rows, folds: int, repeats: int) -> tuple[str, ...]:
    units = "rows" if rows.clusters is None else f"rows in {len(set(rows.clusters)):,} groups, none of them cut"
    again = f", cut {repeats} times" if repeats > 1 else ""
    notes = [
        f"Cross-validation: {rows.n:,} {units}, {folds} folds stratified by class{again}. Each row is answered by a "
        f"head that learned from the other {folds - 1} folds. Heads of different folds share most of their rows, so "
        "intervals and p-values are somewhat optimistic (Dietterich 1998; Bengio and Grandvalet 2004)."
    ]
    if repeats > 1:
        notes.append(
            f"Figures are means of {repeats} repeats with other folds and seeds; ±: their standard deviation. Counts, "
            "probabilities and McNemar's test are those of the first repeat."
        )
    short = [name for name, n in zip(rows.classes, rows.supports.tolist(), strict=True) if 0 < n < folds]
    if short:
        notes.append(f"Fewer rows than folds in {', '.join(short)}: some folds have none of them.")
    return tuple(notes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Members:
    """What each member says about the test rows; checked once when made."""

    names: tuple[str, ...]
    """Member names, all different."""
    classes: tuple[str, ...]
    """Class names in order."""
    proba: NDArray[np.float64]
    """(m, n, k) class probabilities, members in the order of ``names``."""
    y: NDArray[np.int64]
    """(n,) true class positions."""
    groups: tuple[str, ...] | None = None
    """The group of each row, where rows share groups."""
    split: str = "test"
    """What the rows are called: their split."""

    def __post_init__(self) -> None:
        """Refuse members that do not fit together."""
        expected = (len(self.names), self.y.size, len(self.classes))
        if self.groups is not None and len(self.groups) != self.y.size:
            raise ReportError(f"members must have a group a row, however: {len(self.groups)} for {self.y.size} rows")
        if self.proba.shape != expected or len(set(self.names)) < len(self.names) or 0 in expected:
            raise ReportError(f"members must have probabilities of shape {expected}, however: {self.proba.shape}")


def members_of_head(head: Any, test: Rows) -> Members:
    """Take the members of a fitted `late` head: one a block."""
    proba = aligned(head.member_proba(test.only(tuple(head.blocks_)).x()), head.classes_, len(test.classes), "a member")
    return Members(
        names=tuple(head.blocks_), classes=test.classes, proba=proba, y=test.y, groups=test.clusters,
        split=test.split or "test",
    )  # fmt: skip


def members_of_report(
    report: Report, features: Mapping[str, tuple[str, ...]], groups: tuple[str, ...] | None = None
) -> Members | None:
    """Take the columns that saw one backbone each, all different; None when there are fewer than two of them.

    Parameters
    ----------
    report : Report
        A comparison.
    features : dict of column name to feature names
        The backbones that each column's head saw.
    groups : tuple of str, optional
        The group of each of the report's rows, where they share groups.
    """
    single = {column.name: features[column.name] for column in report.columns if len(features[column.name]) == 1}
    if len(single) < 2 or len(set(single.values())) < len(single):
        return None
    proba = np.stack([report.column(name).proba for name in single])
    return Members(
        names=tuple(single), classes=report.classes, proba=proba, y=report.y_true, groups=groups,
        split=report.split or "test",
    )  # fmt: skip


__all__ = ["Report", "Rows", "check_same_task", "compare"]
