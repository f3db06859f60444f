"""Compound expressions answered by what knows basic ones only: the field's zero-shot baselines (REFERENCE.md §5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Self, TypeAlias, get_args

import numpy as np
from cer_fusion.fusion.errors import ExpressionError, nearest
from cer_fusion.fusion.heads.mixes import SMALLEST
from cer_fusion.fusion.judging.zero_shot.compounds import columns, components
from cer_fusion.fusion.keeping.answers import Classifier
from numpy.typing import ArrayLike, NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Rule: TypeAlias = Literal["sum", "product", "harmonic", "minimum"]


class ZeroShot:
    """A classifier of compound expressions that never sees a compound label.

    ::

        zero = ZeroShot(make_head("linear", blocks=widths)).fit(X, basic_labels, compounds=abaw7)
        zero.predict_proba(rows)   # (n, 7), columns in the order of abaw7

    Parameters
    ----------
    head : classifier
        Learns the basic expressions; any head. It is fitted in place.
    rule : {"sum", "product", "harmonic", "minimum"}
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

    def predict_proba(self, X: Any) -> FloatArray:
        """Return probabilities (n, k) of the compounds, rows summing to one."""
        return compound_proba(
            self.head.predict_proba(X), self.basic_classes_, [str(one) for one in self.classes_], rule=self.rule
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
    basic: ArrayLike, basic_classes: Sequence[str], compounds: Sequence[str], *, rule: Rule = "product"
) -> FloatArray:
    """Return probabilities of compound expressions from those of basic ones.

    With a and b the probabilities of a compound's two components, its score is a + b, a·b, 2ab / (a + b) or the smaller
    one; scores are divided by their sum over the compounds asked for. Probabilities below 1e-12 count as that, so that
    a row without any evidence is shared out evenly. Classes that are no component, as `neutral`, take no part.

    Parameters
    ----------
    basic : array of shape (n, k_basic)
        Finite, none negative.
    basic_classes : sequence of str
        Names of its columns; `happy`, `Happiness` and `happily` mean the same.
    compounds : sequence of str
        Names of the columns to return, as `cer_fusion.fusion.judging.zero_shot.compounds.components` knows them.
    rule : {"sum", "product", "harmonic", "minimum"}

    Returns
    -------
    ndarray of shape (n, number of compounds), float64

    Raises
    ------
    ExpressionError
        If a name is not known, stands twice, or a component has no column; if `basic` holds no probabilities.
    """
    _refuse_unknown_rule(rule)
    table = np.asarray(basic, np.float64)
    if table.ndim != 2 or table.shape[1] != len(basic_classes):
        raise ExpressionError(
            f"basic probabilities must have shape (n, {len(basic_classes)}) for {len(basic_classes)} class names, "
            f"however: {table.shape}"
        )
    if not np.isfinite(table).all() or (table < 0).any():
        row = int(np.flatnonzero(~(np.isfinite(table) & (table >= 0)).all(axis=1))[0])
        raise ExpressionError(f"basic probabilities must be finite and not negative, however: row {row} {table[row]}")
    first, second = _columns_of([components(one) for one in compounds], compounds, basic_classes)
    believed = np.maximum(table, SMALLEST)
    scores = _RULES[rule](believed[:, first], believed[:, second])
    return np.asarray(scores / scores.sum(axis=1, keepdims=True))


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
    "product": lambda a, b: a * b,
    "harmonic": lambda a, b: 2 * a * b / (a + b),
    "minimum": np.minimum,
}
