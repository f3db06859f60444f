"""Compounds from basic expressions, without learning: alone, and as columns of a comparison."""

from __future__ import annotations

import functools
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from time import perf_counter
from typing import Any, Final, Literal, Protocol, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...kit.errors import nearest
from ..data.rows import Rows
from ..errors import ExpressionError, ReportError
from ..heads.settings import DU2014
from ..heads.weights import SMALLEST, weighted_means
from ..keeping.answers import Classifier
from .entries import (
    After,
    Answer,
    Described,
    Entry,
    entries_of,
    in_time,
    plain_params,
    refuse_to_load_quietly,
    taught,
)
from .verdicts import Judgeable, check_baseline

FloatArray: TypeAlias = NDArray[np.float64]
Rule: TypeAlias = Literal["sum", "likely_sum", "product", "harmonic", "minimum"]


class ZeroShot:
    """A classifier of compound expressions that never sees a compound label.

    ::

        zero = ZeroShot(make_head("linear", blocks=widths)).fit(X, basic_labels, compounds=abaw7)
        zero.predict_proba(rows)   # (n, 7), columns in the order of abaw7

    Parameters
    ----------
    head : classifier
        Learns the basic expressions; any head. It is fitted in place.
    rule : {"sum", "likely_sum", "product", "harmonic", "minimum"}
        How two components make a score (`compound_proba`).

    Attributes
    ----------
    classes_ : ndarray of shape (k,)
        The compounds in the order asked for.
    basic_classes_ : tuple of str
        Names of the columns of the head's probabilities.
    """

    def __init__(self, head: Classifier, *, rule: Rule = "product") -> None:
        self.head = head
        self.rule = rule

    def fit(
        self,
        X: Any,
        basic_labels: ArrayLike,
        *,
        compounds: Sequence[str],
        basic_classes: Sequence[str] | None = None,
    ) -> Self:
        """Fit the head on rows (n, D) labelled with basic expressions.

        Parameters
        ----------
        X : array of shape (n, D), or JoinedRows if the head takes them
        basic_labels : array of shape (n,)
            Names of basic expressions, or positions in `basic_classes`.
        compounds : sequence of str
            What to answer, in order.
        basic_classes : sequence of str, optional
            Names behind the positions; needed where labels are integers.

        Raises
        ------
        ExpressionError
            If a name is not known, or a compound's component has no rows to learn from.
        """
        _refuse_unknown_rule(self.rule)
        wanted = [components(one) for one in compounds]  # before a long fit
        self.head.fit(X, basic_labels)
        return self._asked(wanted, compounds, basic_classes)

    def answering(self, *, compounds: Sequence[str], basic_classes: Sequence[str] | None = None) -> Self:
        """Answer `compounds` with a head that is fitted already, for example one of `load_head`."""
        _refuse_unknown_rule(self.rule)
        return self._asked([components(one) for one in compounds], compounds, basic_classes)

    def predict_proba(self, X: Any, **told: Any) -> FloatArray:
        """Return probabilities (n, k) of the compounds, rows summing to one; `told` is what the head is asked with."""
        return compound_proba(
            self.head.predict_proba(X, **told), self.basic_classes_, [str(one) for one in self.classes_], rule=self.rule
        )

    def predict(self, X: Any) -> NDArray[np.str_]:
        """Return the most probable compound a row (n,); of equally probable ones the first."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def _asked(
        self, wanted: list[tuple[str, str]], compounds: Sequence[str], basic_classes: Sequence[str] | None
    ) -> Self:
        seen = self.head.classes_
        if basic_classes is None and not all(isinstance(one, str) for one in seen.tolist()):
            raise ExpressionError(
                f"the head's classes are numbers ({', '.join(map(str, seen[:4]))}, …), which name no expression\n"
                "  give their names: basic_classes=manifest.classes.labels"
            )
        self.basic_classes_ = tuple(map(str, seen if basic_classes is None else [basic_classes[int(i)] for i in seen]))
        _columns_of(wanted, compounds, self.basic_classes_)
        self.classes_ = np.array(compounds)
        return self


def compound_proba(
    basic: ArrayLike,
    basic_classes: Sequence[str],
    compounds: Sequence[str],
    *,
    rule: Rule = "product",
    weights: ArrayLike | None = None,
) -> FloatArray:
    """Return probabilities of compound expressions from those of basic ones.

    With a and b the probabilities of a compound's two components, its score is a + b, a·b, 2ab / (a + b) or the smaller
    one; scores are divided by their sum over the compounds asked for. `likely_sum` is a + b where probabilities of no
    more than 1 / k_basic count nothing (AVCER's rule 1; its k_basic is 7). Probabilities below 1e-12 count as that, so
    that a row without any evidence is shared out evenly. Classes that are no component, as `neutral`, take no part.

    The answers of several models are first added up with the weight of each model, or of each model and class. With
    `sum` or `likely_sum` that is AVCER, the system of SUN_CE (Ryumina et al., 2024, arXiv 2403.12687, §3; the mask is
    that of its code, ElenaRyumina/AVCER at e434cc0).

    Parameters
    ----------
    basic : array of shape (n, k_basic), or (m, n, k_basic) of m models
        Finite, none negative.
    weights : array of shape (m,) or (m, k_basic), optional
        Of several models: not negative, no class without any. Each class's are divided by their sum, as the models'
        answers are probabilities and their mixture is to be one. Such as ``list(late.weights_.values())``.
    basic_classes : sequence of str
        Names of its columns; `happy`, `Happiness` and `happily` mean the same.
    compounds : sequence of str
        Names of the columns to return, as `cer_fusion.fusion.judging.zero_shot.components` knows them.
    rule : {"sum", "likely_sum", "product", "harmonic", "minimum"}

    Returns
    -------
    ndarray of shape (n, number of compounds), float64

    Raises
    ------
    ExpressionError
        If a name is not known, stands twice, or a component has no column; if `basic` holds no probabilities; if
        several models have no weights, or such as cannot be.
    """
    _refuse_unknown_rule(rule)
    table = _weighed(np.asarray(basic, np.float64), weights)
    if table.ndim != 2 or table.shape[1] != len(basic_classes):
        raise ExpressionError(
            f"basic probabilities must have shape (n, {len(basic_classes)}) for {len(basic_classes)} class names, "
            f"however: {table.shape}"
        )
    if not np.isfinite(table).all() or (table < 0).any():
        row = int(np.flatnonzero(~(np.isfinite(table) & (table >= 0)).all(axis=1))[0])
        raise ExpressionError(f"basic probabilities must be finite and not negative, however: row {row} {table[row]}")
    first, second = _columns_of([components(one) for one in compounds], compounds, basic_classes)
    if rule == "likely_sum":
        table = np.where(table > table.sum(axis=1, keepdims=True) / table.shape[1], table, 0)
    believed = np.maximum(table, SMALLEST)
    scores = _RULES[rule](believed[:, first], believed[:, second])
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


def _weighed(answers: FloatArray, weights: ArrayLike | None) -> FloatArray:
    """Return the answers (n, k) of one model, or of several ones (m, n, k) their sum by weights (m,) or (m, k)."""
    if answers.ndim != 3 and weights is None:
        return answers
    given = np.empty(0) if weights is None else np.asarray(weights, np.float64)
    if answers.ndim != 3 or given.shape not in (answers.shape[:1], (answers.shape[0], answers.shape[2])):
        raise ExpressionError(
            "answers of several models have shape (m, n, k) and weights (m,) or (m, k), however: "
            f"{answers.shape} and {'none' if weights is None else given.shape}"
        )
    if not np.isfinite(given).all() or (given < 0).any() or not given.any(axis=0).all():
        raise ExpressionError(f"weights must be finite and not negative, and each class have one, however: {given}")
    return weighted_means(answers, given / given.sum(axis=0))


def _columns_of(
    wanted: list[tuple[str, str]], compounds: Sequence[str], basic_classes: Sequence[str]
) -> tuple[list[int], list[int]]:
    if not wanted or len(set(wanted)) < len(wanted):
        raise ExpressionError(
            f"compounds must be different and at least one, however: {', '.join(compounds) or 'none'}"
        )
    column = columns(basic_classes)
    for name, parts in zip(compounds, wanted, strict=True):
        for part in parts:
            if part not in column:
                raise ExpressionError(
                    f"{name!r} needs {part}, and no basic class means that: {', '.join(map(str, basic_classes))}"
                )
    return [column[a] for a, _ in wanted], [column[b] for _, b in wanted]


def _refuse_unknown_rule(rule: str) -> None:
    if rule not in get_args(Rule):
        raise ExpressionError(f"there is no rule {rule!r}; {nearest(str(rule), get_args(Rule))}")


_RULES: Final[dict[str, Callable[[FloatArray, FloatArray], FloatArray]]] = {
    "sum": lambda a, b: a + b,
    "likely_sum": lambda a, b: a + b,
    "product": lambda a, b: a * b,
    "harmonic": lambda a, b: 2 * a * b / (a + b),
    "minimum": np.minimum,
}


def components(compound: str) -> tuple[str, str]:
    """Return the basic expressions of a compound one: ``Fearfully_Surprised`` -> ``("fear", "surprise")``.

    Upper and lower case, blanks, hyphens and underscores make no difference, so that ABAW's and RAF-CE's spellings
    are the same name.

    Raises
    ------
    ExpressionError
        If it is none of the fourteen of RAF-CE (REFERENCE.md §4); the message names the nearest ones.
    """
    known = _compounds()
    if _letters(compound) not in known:
        raise ExpressionError(f"there is no compound expression {compound!r}; {nearest(compound, compound_names())}")
    return known[_letters(compound)]


TYPICAL, SOME, OTHER = 0.85, 0.45, 0.1
"""Probability of a unit that more than 70 of 100 people show, that 20 to 70 show, and of any other: the middles."""


def unit_table(classes: Sequence[str], units: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """Return how likely each action unit is given each expression, (k, a): the prior table of coupled tasks.

    From Du, Tao and Martinez (2014, "Compound facial expressions of emotion", PNAS 111(15), Table 1), who coded 230
    people: units that more than 70 % of them show are typical, units that some show are listed with their shares. The
    lists are data here (`compounds.json`); a number for each of the three kinds, their middle, is ours.

    Parameters
    ----------
    classes : sequence of k str
        Compound or basic expressions, in any spelling; neutral shows no unit.
    units : sequence of a int
        FACS numbers. One that the table never lists, such as 45, a blink, is as likely in all of them.

    Raises
    ------
    ExpressionError
        If a class is not in the table, as RAF-CE's Happily Fearful and Happily Sad are not.
    """
    table = {meaning(name): entry for name, entry in _tables()["units"].items()} | {"neutral": {}}
    lost = [name for name in classes if meaning(str(name)) not in table]
    if lost:
        raise ExpressionError(
            f"Du et al. (2014) have no action units for {', '.join(map(str, lost))}\n"
            "  leave the table out: it is then counted in the training rows"
        )
    found = []
    for name in classes:
        entry = table[meaning(str(name))]
        typical, some = set(entry.get("typical", ())), set(entry.get("some", ()))
        found.append(tuple(TYPICAL if one in typical else SOME if one in some else OTHER for one in units))
    return tuple(found)


def with_unit_table(settings: Mapping[str, Any], rows: Rows) -> dict[str, Any]:
    """Return a head's settings with ``table="du2014"`` made into the table of the rows' classes and action units.

    Raises
    ------
    ExpressionError
        If the rows do not say which units their targets are, or a class is not in the table.
    """
    if settings.get("table") != DU2014:
        return dict(settings)
    if rows.units is None:
        raise ExpressionError("table='du2014' goes by FACS numbers, and the rows do not say which unit a target is")
    return {**settings, "table": unit_table(rows.classes, rows.units)}


def emotion(name: str) -> str | None:
    """Return the basic expression that a class name means (``Happy`` -> ``happiness``), None if it means none."""
    return _emotions().get(_letters(name))


def meaning(name: str) -> str:
    """Return what a class is known by whatever its spelling: its two expressions, its expression, or its letters."""
    letters = _letters(name)
    return " and ".join(_compounds().get(letters, ())) or emotion(name) or letters


def columns(basic_classes: Sequence[str]) -> dict[str, int]:
    """Return which column holds each basic expression; other classes (`Other`, `unknown`) are left out.

    Raises
    ------
    ExpressionError
        If two classes mean the same expression.
    """
    found: dict[str, int] = {}
    for column, name in enumerate(basic_classes):
        meant = emotion(str(name))
        if meant in found:
            raise ExpressionError(
                f"classes {basic_classes[found[meant]]!r} and {name!r} both mean {meant}: one column each, please"
            )
        if meant is not None:
            found[meant] = column
    return found


def with_basic(rows: Rows, basic: Rows) -> Rows:
    """Return rows of compounds beside rows of basic expressions, for heads that learn from both.

    Classes that are no compound, or lack a component among the basic classes, are not mixed of any.

    Raises
    ------
    ReportError
        If the blocks are not the same in the same order, or come from different features.
    """
    mine, its = dict(basic.fingerprints or {}), dict(rows.fingerprints or {})
    if mine and its and mine != its:
        raise ReportError(
            f"rows of basic expressions come from other features, however: {mine} and {its}\n"
            "  extract both with the same weights and options"
        )
    column, pairs = columns(basic.classes), {}
    for position, name in enumerate(rows.classes):
        try:
            first, second = components(name)
        except ExpressionError:
            continue
        if first in column and second in column:
            pairs[position] = (column[first], column[second])
    return replace(rows, basic=basic, pairs=pairs)


def compound_names() -> tuple[str, ...]:
    """Return the names of all known compounds, in RAF-CE's order."""
    return tuple(_tables()["compounds"])


def _letters(name: str) -> str:
    return "".join(one for one in unicodedata.normalize("NFC", name).casefold() if one not in " _-")


@functools.cache
def _emotions() -> dict[str, str]:
    return {_letters(word): meant for meant, words in _tables()["emotions"].items() for word in words}


@functools.cache
def _compounds() -> dict[str, tuple[str, str]]:
    return {_letters(name): (parts[0], parts[1]) for name, parts in _tables()["compounds"].items()}


@functools.cache
def _tables() -> dict[str, Any]:
    text = resources.files("cer_fusion.fusion.judging").joinpath("compounds.json").read_text(encoding="utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables


class Columns(Protocol):
    """Columns of a comparison that never saw a label of it: by rules (`ZeroShotColumns`), or by prompts."""

    @property
    def title(self) -> str | None:
        """Title of the one column; None if they are called by their rules."""

    @property
    def titles(self) -> tuple[str, ...]:
        """Titles of the columns."""

    @property
    def notes(self) -> tuple[str, ...]:
        """All that a reader of the report must know."""

    def check(self, test: Rows, titles: Sequence[str] = ()) -> None:
        """Refuse what could not be answered, before anything is fitted, and titles that are taken."""

    def answers(self, test: Rows, *, runs: int, seed: int) -> dict[Judgeable, list[Answer]]:
        """Answer the test rows, a list of one answer a run for each column."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ZeroShotColumns:
    """What `compare` and `cross_compare` need for columns that never saw a compound label.

    One head is fitted on the basic rows (once a run, whatever the folds) and asked about all test rows; every rule
    makes a column of its answers. Pictures that stand among the basic rows and the test rows are to be left out first.

    Raises
    ------
    ExpressionError
        If a rule is not known or stands twice, or there is none.
    """

    head: Classifier
    """Any unfitted head; cloned, told its blocks and its seed as the heads of a comparison are."""
    rows: Rows
    """Rows of the same features as the test rows, labelled with basic expressions."""
    rules: tuple[Rule, ...] = ("product",)
    """How two components make a score, see `cer_fusion.fusion.judging.zero_shot.compound_proba`."""
    source: str = "basic"
    """What the report calls the rows: their dataset."""
    title: str | None = None
    """Title of the one rule's column; None for ``zero-shot`` and the rule."""
    after: After | None = None
    """What is done to the answers, such as smoothing over time."""
    about: str = ""
    """What a reader of the report must know beside where it learned; empty for nothing."""

    def __post_init__(self) -> None:
        for rule in self.rules:
            if rule not in get_args(Rule):
                raise ExpressionError(f"there is no rule {rule!r}; {nearest(str(rule), get_args(Rule))}")
        if not self.rules or len(set(self.rules)) < len(self.rules):
            raise ExpressionError(f"rules must be different and at least one, however: {', '.join(self.rules) or '-'}")
        if self.title is not None and len(self.rules) > 1:
            raise ExpressionError(f"one title is for one rule, however: {', '.join(self.rules)}")

    @property
    def titles(self) -> tuple[str, ...]:
        """Titles of the columns."""
        return tuple(f"zero-shot {rule}" if self.title is None else self.title for rule in self.rules)

    def check(self, test: Rows, titles: Sequence[str] = ()) -> None:
        """Refuse what could not be answered, before anything is fitted.

        Parameters
        ----------
        test : Rows
            Rows labelled with compound expressions.
        titles : sequence of str
            Titles of the other columns.

        Raises
        ------
        ReportError
            If blocks, their order or fingerprints differ from the test rows', or a title is taken.
        ExpressionError
            If a test class is no compound that is known, or one of its components has no rows to learn from.
        """
        if list(self.rows.widths.items()) != list(test.widths.items()):
            raise ReportError(
                f"rows of {self.source!r} and test rows must have the same blocks in the same order, however: "
                f"{self.rows.widths} and {test.widths}"
            )
        mine, its = dict(self.rows.fingerprints or {}), dict(test.fingerprints or {})
        if mine and its and mine != its:
            differing = [name for name in its if mine.get(name) != its[name]] or sorted(set(mine) - set(its))
            raise ReportError(
                f"rows of {self.source!r} and test rows come from different features ({', '.join(differing)}): "
                f"{mine} and {its}\n  extract both with the same weights and options"
            )
        taken = set(self.titles) & set(titles)
        if taken:
            raise ReportError(f"{min(taken)!r} is the title of a head as well: rename the head")
        seen = [name for name, count in zip(self.rows.classes, self.rows.supports.tolist(), strict=True) if count]
        compound_proba(np.ones((1, len(seen))), seen, test.classes, rule=self.rules[0])

    def answers(self, test: Rows, *, runs: int, seed: int) -> dict[Judgeable, list[Answer]]:
        """Fit the head, once a run with the next seed, and answer the test rows by every rule."""
        (entry,) = entries_of({"zero-shot": self.head}, self.rows, seed=seed)
        x, asked = self.rows.x(), test.x()
        found: list[list[Answer]] = []  # one list of answers a run, in the order of the rules
        for run in range(runs if entry.seeded else 1):
            found.append(self._answered(entry.fresh(run), x, asked, test))
        found += found[-1:] * (runs - len(found))
        params = {"head": entry.head_name, **plain_params(entry.head.get_params(deep=False))}
        return {
            Described(
                title=title,
                kind="head",
                blocks=entry.blocks,
                head_name=ZeroShot.__name__,
                params={**params, "rule": rule},
            ): [answers[i] for answers in found]
            for i, (title, rule) in enumerate(zip(self.titles, self.rules, strict=True))
        }

    @property
    def note(self) -> str:
        """What a reader of the report must know."""
        counts = zip(self.rows.classes, self.rows.supports.tolist(), strict=True)
        learned = ", ".join(f"{name} {count:,}" for name, count in counts)
        return (
            f"Zero-shot ({', '.join(self.titles)}): one {type(self.head).__name__}, learned from {self.rows.n:,} rows "
            f"of {self.source!r} with basic expressions ({learned}) and from no compound label; "
            "a compound's score is made of its two components' probabilities by the rule."
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """All that a reader of the report must know."""
        return (self.note, *([self.about] if self.about else []))

    def _answered(self, head: Any, x: Any, asked: Any, test: Rows) -> list[Answer]:
        from ..heads.base import fit_part

        refuse_to_load_quietly("zero-shot", head, x, asked)
        started = perf_counter()
        try:
            rows = self.rows
            fit_part(head, x, rows.y, rows.clusters, rows.soft, rows.targets, **taught(head, rows, test))
        except Exception as error:  # raised again, with the column it happened in
            error.add_note("in column: zero-shot")
            raise
        fit_s = perf_counter() - started
        answers = []
        for rule in self.rules:
            started = perf_counter()
            one = ZeroShot(head, rule=rule).answering(compounds=test.classes, basic_classes=self.rows.classes)
            proba = one.predict_proba(asked, **in_time(head, test))
            proba = proba if self.after is None else self.after(proba, test)
            answers.append(Answer(proba=proba, head=one, fit_s=fit_s, predict_s=perf_counter() - started))
        return answers


def check_columns(entries: Sequence[Entry], zero_shot: Sequence[Columns], test: Rows, baseline: str | None) -> None:
    """Refuse zero-shot columns that nothing could answer, titles that stand twice, and a baseline that is no column."""
    titles: list[str] = []
    for entry in entries:
        if entry.title in titles:
            raise ReportError(f"{entry.title!r} is the title of two columns: rename one")
        titles.append(entry.title)
    for columns in zero_shot:
        columns.check(test, titles)
        titles += columns.titles
    check_baseline(baseline, titles)
