"""Members of a decision mix: several tables of probabilities about the same labelled rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.report import Report
from cer_fusion.fusion.keeping.answers import aligned
from numpy.typing import NDArray


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

    def __post_init__(self) -> None:
        """Refuse members that do not fit together."""
        expected = (len(self.names), self.y.size, len(self.classes))
        if self.proba.shape != expected or len(set(self.names)) < len(self.names) or 0 in expected:
            raise ReportError(f"members must have probabilities of shape {expected}, however: {self.proba.shape}")


def members_of_head(head: Any, test: Rows) -> Members:
    """Take the members of a fitted `late` head: one a block."""
    proba = aligned(head.member_proba(test.only(tuple(head.blocks_)).x()), head.classes_, len(test.classes), "a member")
    return Members(names=tuple(head.blocks_), classes=test.classes, proba=proba, y=test.y)


def members_of_report(report: Report, features: Mapping[str, tuple[str, ...]]) -> Members | None:
    """Take the columns that saw one backbone each, all different; None when there are fewer than two of them.

    Parameters
    ----------
    report : Report
        A comparison.
    features : dict of column name to feature names
        The backbones that each column's head saw.
    """
    single = {column.name: features[column.name] for column in report.columns if len(features[column.name]) == 1}
    if len(single) < 2 or len(set(single.values())) < len(single):
        return None
    proba = np.stack([report.column(name).proba for name in single])
    return Members(names=tuple(single), classes=report.classes, proba=proba, y=report.y_true)
