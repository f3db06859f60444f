"""Zero-shot columns of a comparison: a head that learned basic expressions only answers the compound test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, get_args

import numpy as np
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import ExpressionError, ReportError, nearest
from cer_fusion.fusion.judging.entries import Answer, Described, Entry, entries_of, refuse_to_load_quietly
from cer_fusion.fusion.judging.report import plain_params
from cer_fusion.fusion.judging.verdicts import Judgeable, check_baseline
from cer_fusion.fusion.judging.zero_shot.scoring import Rule, ZeroShot, compound_proba
from cer_fusion.fusion.keeping.answers import Classifier


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
    """How two components make a score, see `cer_fusion.fusion.judging.zero_shot.scoring.compound_proba`."""
    source: str = "basic"
    """What the report calls the rows: their dataset."""

    def __post_init__(self) -> None:
        for rule in self.rules:
            if rule not in get_args(Rule):
                raise ExpressionError(f"there is no rule {rule!r}; {nearest(str(rule), get_args(Rule))}")
        if not self.rules or len(set(self.rules)) < len(self.rules):
            raise ExpressionError(f"rules must be different and at least one, however: {', '.join(self.rules) or '-'}")

    @property
    def titles(self) -> tuple[str, ...]:
        """Titles of the columns."""
        return tuple(f"zero-shot {rule}" for rule in self.rules)

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
        (entry,) = entries_of({"zero-shot": self.head}, self.rows, singles=False, single_head="linear", seed=seed)
        x, asked = self.rows.x(), test.x()
        found: list[list[Answer]] = []  # one list of answers a run, in the order of the rules
        for run in range(runs if entry.seeded else 1):
            found.append(self._answered(entry.fresh(run), x, asked, test.classes))
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

    def _answered(self, head: Any, x: Any, asked: Any, compounds: tuple[str, ...]) -> list[Answer]:
        refuse_to_load_quietly("zero-shot", head, x, asked)
        started = perf_counter()
        try:
            head.fit(x, self.rows.y)
        except Exception as error:  # raised again, with the column it happened in
            error.add_note("in column: zero-shot")
            raise
        fit_s = perf_counter() - started
        answers = []
        for rule in self.rules:
            started = perf_counter()
            one = ZeroShot(head, rule=rule).answering(compounds=compounds, basic_classes=self.rows.classes)
            proba = one.predict_proba(asked)
            answers.append(Answer(proba=proba, head=one, fit_s=fit_s, predict_s=perf_counter() - started))
        return answers


def check_columns(
    entries: Sequence[Entry], zero_shot: ZeroShotColumns | None, test: Rows, baseline: str | None
) -> None:
    """Refuse zero-shot columns that nothing could answer, and a baseline that is no column, before any fit."""
    titles = [entry.title for entry in entries]
    if zero_shot is not None:
        zero_shot.check(test, titles)
        titles += zero_shot.titles
    check_baseline(baseline, titles)
