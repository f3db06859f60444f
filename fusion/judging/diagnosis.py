"""A head on every subset of the blocks, and everything that can be read off its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import factorial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...kit.documents import read_sealed, write_sealed
from ...kit.errors import nearest
from ...kit.plain import from_plain, to_plain
from ...kit.table import Cell, Table, shortened, to_html
from ..data.rows import Rows, folds_of
from ..errors import ReportError
from ..keeping.answers import Classifier
from .comparison import check_same_task
from .entries import Entry, answered, check_rows, entries_of, plain_params
from .measures import (
    BINS,
    THRESHOLD,
    Agreement,
    Calibration,
    ConfusedPair,
    HardSample,
    NearDuplicates,
    Similarity,
    agreement,
    calibration,
    confused_pairs,
    hardest,
    losses,
    near_duplicates,
    similarity,
)
from .metrics import Scores, scores
from .resampling import LEVEL, Interval, bootstrap, thin

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_ROWS_A_BIN = 20  # with fewer the calibration error is mostly noise


def diagnose(
    train: Rows,
    test: Rows | None = None,
    *,
    head: Classifier | None = None,
    players: Literal["blocks", "features"] = "blocks",
    folds: int = 5,
    threshold: float = THRESHOLD,
    most: int = 20,
    resamples: int = 2000,
    level: float = LEVEL,
    seed: int = 0,
    progress: Progress | None = None,
) -> Diagnosis:
    """Say which blocks carry a head, how alike the backbones are, how far it can be believed, and where it fails.

    Parameters
    ----------
    train, test : Rows
        As for `compare`. Without test rows every training row is judged out of fold: nothing here then touches rows
        that are kept for the final figure.
    head : unfitted classifier, optional
        Fitted once a subset (and fold), 2^p - 1 times for p players; ``make_head("linear")`` when left out.
    players : {"blocks", "features"}
        What subsets are of: single blocks, or all blocks of a feature together. At most 8.
    folds : int
        Folds where there are no test rows.
    threshold : float
        Smallest cosine of a near-duplicate, see `near_duplicates`.
    most : int
        Confused pairs and hardest samples to list.
    resamples, level, seed, progress
        Bootstrap of the intervals; seed of folds, heads and bootstrap; a callback after each fit.

    Raises
    ------
    ReportError
        If the rows do not belong together or the players are too many.
    HeadDataError
        If there are too few rows for so many folds.
    """
    if players not in ("blocks", "features"):
        raise ReportError(f"players must be 'blocks' or 'features', however: {players!r}")
    check_rows(train=train) if test is None else check_rows(train=train, test=test)
    if test is not None:
        check_same_task(train, test)
    judged, features = (train if test is None else test), train.by_feature()
    who = features if players == "features" else {block: (block,) for block in train.blocks}
    chosen = _linear() if head is None else head
    answers = answer_subsets(chosen, who, train, test, folds=folds, seed=seed, progress=progress)
    y_pred = answers.proba.argmax(axis=2)  # (2^p, n, k) -> (2^p, n)
    whole = scores(judged.y, y_pred[-1], judged.classes)
    singles = {
        feature: y_pred[answers.number([feature] if players == "features" else blocks)]
        for feature, blocks in features.items()
    }
    near, alike = near_duplicates(judged, None if test is None else train, threshold=threshold)
    clean = None if alike.all() else scores(judged.y[~alike], y_pred[-1][~alike], judged.classes)
    values = _values(answers, y_pred, judged)
    return Diagnosis(
        classes=judged.classes,
        n=judged.n,
        head=type(chosen).__name__,
        params=plain_params(chosen.get_params(deep=False)),
        folds=folds if test is None else 0,
        players=dict(who),
        subsets=values,
        contributions=_contributions(answers, values, y_pred, judged, resamples, level, seed),
        agreement=_agreement(judged, singles),
        similarity=similarity(train.blocks),
        calibration=calibration(judged.y, answers.proba[-1], bins=min(BINS, max(1, judged.n // _ROWS_A_BIN))),
        confused=confused_pairs(whole, most),
        hardest=hardest(judged.names, judged.classes, judged.y, answers.proba[-1], list(singles.values()), most),
        near=near,
        clean_accuracy=None if clean is None else clean.accuracy,
        clean_macro_f1=None if clean is None else clean.macro_f1,
        level=level,
        resamples=resamples,
        seed=seed,
        fingerprints=dict(judged.fingerprints or {}),
        notes=_notes(whole, clean, judged, test is None, folds),
        split=judged.split,
    )


def _linear() -> Classifier:
    from ..heads import make_head

    return make_head("linear")


def _values(answers: Subsets, y_pred: IntArray, rows: Rows) -> tuple[SubsetValue, ...]:
    log_loss = losses(rows.y, answers.proba).mean(axis=1)
    found = [scores(rows.y, called, rows.classes) for called in y_pred]
    return tuple(
        SubsetValue(
            members=answers.members(m), accuracy=one.accuracy, macro_f1=one.macro_f1, log_loss=float(log_loss[m])
        )
        for m, one in enumerate(found)
    )


def _contributions(
    answers: Subsets,
    values: tuple[SubsetValue, ...],
    y_pred: IntArray,
    rows: Rows,
    resamples: int,
    level: float,
    seed: int,
) -> tuple[Contribution, ...]:
    """All subsets are scored on the same resamples, so that the intervals are of paired differences."""
    macro_f1, gain = np.array([[v.macro_f1, -v.log_loss] for v in values]).T
    draws = bootstrap(rows.y, y_pred, len(rows.classes), groups=rows.clusters, resamples=resamples, seed=seed)
    share, loss = (of(np.eye(len(macro_f1))) for of in (shapley, left_out))  # both are sums of scores: their factors
    return tuple(
        Contribution(
            name=name,
            shapley_macro_f1=float(shapley(macro_f1)[i]),
            shapley_interval=draws.contrast("macro_f1", share[:, i], level),
            shapley_log_loss=float(shapley(gain)[i]),
            left_out_macro_f1=float(left_out(macro_f1)[i]),
            left_out_interval=draws.contrast("macro_f1", loss[:, i], level),
            left_out_log_loss=float(left_out(gain)[i]),
        )
        for i, name in enumerate(answers.players)
    )


def _agreement(rows: Rows, singles: dict[str, IntArray]) -> Agreement | None:
    return agreement(rows.y, singles, len(rows.classes)) if len(singles) > 1 else None


def _notes(whole: Scores, clean: Scores | None, rows: Rows, out_of_fold: bool, folds: int) -> tuple[str, ...]:
    notes = []
    if out_of_fold:
        notes.append(f"Judged on the {rows.n:,} training rows, each by a head of {folds} folds that did not learn it.")
    if whole.unsupported:
        notes.append(f"No row of {', '.join(whole.unsupported)}: F1 counted as 0 in macro F1.")
    if clean is not None and set(clean.unsupported) - set(whole.unsupported):
        lost = ", ".join(name for name in clean.unsupported if name not in whole.unsupported)
        notes.append(f"Without near-duplicates no row of {lost} is left: macro F1 without them counts 0 there.")
    if rows.clusters is not None:
        notes.append("Rows share groups: intervals leave out whole groups (jackknife, Student's t).")
        few = thin(rows.y, rows.clusters, rows.classes)
        notes += [] if few is None else [few]
    return tuple(notes)


FORMAT, FORMAT_VERSION = "cer-diagnosis", 1


@dataclass(frozen=True, kw_only=True)
class SubsetValue:
    """What the head is worth on one subset of the players."""

    members: tuple[str, ...]
    """The players it learned from; none answers the classes' shares."""
    accuracy: float
    """0-1."""
    macro_f1: float
    """0-1."""
    log_loss: float
    """Mean negative log-probability of the truth, nats."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What one player (a block, or a feature) brings to the head."""

    name: str
    """The player."""
    shapley_macro_f1: float
    """Its share of v(all) - v(none), macro F1, 0-1."""
    shapley_interval: Interval
    """Interval of it over rows, or over groups of them."""
    shapley_log_loss: float
    """Its share of the fall of the log-loss, nats: positive where it helps."""
    left_out_macro_f1: float
    """What all players lose without it, macro F1, 0-1."""
    left_out_interval: Interval
    """Interval of it over rows, or over groups of them."""
    left_out_log_loss: float
    """By how much the log-loss rises without it, nats."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Why a head scores as it does."""

    classes: tuple[str, ...]
    """The declared classes in order."""
    n: int
    """Rows that were answered."""
    head: str
    """The estimator's class name."""
    params: Mapping[str, Any]
    """Its parameters, as JSON values."""
    folds: int
    """0: it learned from the training rows and answered the test rows. Else it answered the former fold by fold."""
    players: Mapping[str, tuple[str, ...]]
    """Player -> its blocks."""
    subsets: tuple[SubsetValue, ...]
    """All subsets; player i is in subset m where bit i of m is set."""
    contributions: tuple[Contribution, ...]
    """One a player, in order."""
    agreement: Agreement | None
    """Of heads on single backbones; None where there is one backbone only."""
    similarity: Similarity
    """Of the blocks."""
    calibration: Calibration
    """Of the head on all blocks."""
    confused: tuple[ConfusedPair, ...]
    """The most frequent mistakes of the head on all blocks."""
    hardest: tuple[HardSample, ...]
    """The rows it gave the least probability to their label."""
    near: NearDuplicates
    """Rows that nearly stand on both sides."""
    clean_accuracy: float | None
    """Accuracy on the rows that are in no such pair, 0-1; None where no row is left."""
    clean_macro_f1: float | None
    """Macro F1 on them."""
    level: float
    """Nominal coverage of the intervals, 0-1."""
    resamples: int
    """Bootstrap resamples."""
    seed: int
    """Seed of folds, heads and bootstrap."""
    fingerprints: Mapping[str, str]
    """Feature -> fingerprint, where known."""
    notes: tuple[str, ...]
    """What a reader must know, one sentence each."""
    split: str = ""
    """The split that was judged; empty where it is not known."""

    @property
    def whole(self) -> SubsetValue:
        """What the head is worth on all players."""
        return self.subsets[-1]

    def __repr__(self) -> str:
        """Return what was asked and the worth of each part; the rest is left to whoever asks for it."""
        shares = shortened(f"{one.name} {100 * one.shapley_macro_f1:+.2f}" for one in self.contributions)
        rows = f"{self.n:,} {self.split} rows" if self.split else f"{self.n:,} rows"
        return f"<Diagnosis: {self.head} on {rows}; points of macro F1 by block: {shares}>"

    def _repr_html_(self) -> str:
        rows = tuple(
            (Cell(one.name), Cell(f"{100 * one.shapley_macro_f1:+.2f}", one.shapley_macro_f1))
            for one in self.contributions
        )
        title = f"Diagnosis: {self.head} on {self.n:,} {self.split or 'judged'} rows"
        return to_html(Table(title=title, header=("block", "points of macro F1"), rows=rows, notes=self.notes))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        plain: dict[str, Any] = to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Diagnosis:
        """Rebuild a diagnosis; unknown keys and values of the wrong kind are refused."""
        return from_plain(cls, {"split": ""} | plain, "the diagnosis", error=ReportError)

    def save(self, path: Path | str, *, overwrite: bool = True) -> Path:
        """Write the diagnosis as JSON that carries its own digest, whole or not at all; see `write_whole`."""
        return write_sealed(path, self.to_dict(), kind=FORMAT, version=FORMAT_VERSION, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path | str) -> Diagnosis:
        """Read a diagnosis written by `save`."""
        return cls.from_dict(read_sealed(path, kind=FORMAT, version=FORMAT_VERSION, error=ReportError))


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
    entry = entries_of({"the head": mine}, rows, seed=seed)[0]
    return replace(entry, title=" + ".join(rows.blocks))


def shapley(values: FloatArray) -> FloatArray:
    """Return the exact Shapley values of p players from the values of all subsets: (…, 2^p) -> (…, p).

    Shapley 1953, *A value for n-person games*: player i gets the mean of ``v(S + i) - v(S)`` over all orders, which
    weighs a subset S of size s by ``s! (p - s - 1)! / p!``. The values of all players sum to v(all) - v(none), equal
    players get equal values, and one that changes nothing gets nothing.

    Parameters
    ----------
    values : array of shape (…, 2^p)
        Value of each subset; bit i of the last index says whether player i is in it.
    """
    p = _players(values)
    sizes = np.array([number.bit_count() for number in range(1 << p)])
    found = np.empty((*values.shape[:-1], p))
    for i in range(p):
        without = np.flatnonzero(~np.arange(1 << p) >> i & 1)
        weight = np.array([factorial(s) * factorial(p - s - 1) / factorial(p) for s in sizes[without].tolist()])
        found[..., i] = (values[..., without | 1 << i] - values[..., without]) @ weight
    return found


def left_out(values: FloatArray) -> FloatArray:
    """Return what all players together lose without each of them, v(all) - v(all - i): (…, 2^p) -> (…, p)."""
    whole = (1 << _players(values)) - 1
    return np.stack([values[..., whole] - values[..., whole ^ 1 << i] for i in range(whole.bit_length())], axis=-1)


def _players(values: NDArray[Any]) -> int:
    count = int(values.shape[-1])
    p = count.bit_length() - 1
    if p < 1 or count != 1 << p:
        raise ReportError(f"Shapley values need the value of all 2, 4, 8, … subsets, however: {count} values")
    return p
