"""The fusion-weight explorer: the members' probabilities inside the page, mixed there by the reader's weights."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.heads.mixes import SMALLEST, Mix
from cer_fusion.fusion.judging.members import Members
from cer_fusion.fusion.page.markup import element, joined, json_html

LARGEST = 60_000_000
"""Bytes of probabilities that a page may carry: beyond that a browser is slow to open it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Explorer:
    """Members, and the weights that the page offers to begin with."""

    members: Members
    """Two or more; their probabilities are embedded as float32."""
    mix: Mix = "geometric"
    """The rule that the page begins with."""
    presets: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Weights behind a button each, by its words: ``chosen on inner folds``. The page begins with the first."""

    def __post_init__(self) -> None:
        """Refuse what a page cannot show."""
        m, n, k = self.members.proba.shape
        if m < 2:
            raise ReportError(f"an explorer mixes two members or more, however: {m}")
        if 4 * m * n * k > LARGEST:
            raise ReportError(
                f"a page would carry {4 * m * n * k / 1e6:,.0f} MB of probabilities, more than {LARGEST / 1e6:,.0f}\n"
                "  make the report of fewer test rows or members"
            )
        for words, weights in self.presets.items():
            if len(weights) != m or not np.isfinite(weights).all() or min(weights) < 0 or not sum(weights) > 0:
                raise ReportError(f"preset {words!r} must hold {m} weights, none negative and not all 0: {weights}")


def explorer_html(explorer: Explorer) -> str:
    """Write the data and an empty place; the page's script builds the rest."""
    members = explorer.members
    k = len(members.classes)
    data = {
        "members": list(members.names),
        "classes": [name.replace("_", " ") for name in members.classes],
        "rows": int(members.y.size),
        "smallest": SMALLEST,
        "mix": explorer.mix,
        "presets": {
            "all alike": [1.0] * len(members.names),
            **{words: list(weights) for words, weights in explorer.presets.items()},
        },
        "start": next(iter(explorer.presets), "all alike"),
        "y": b64encode(members.y.astype("<u2").tobytes()).decode(),
        "proba": b64encode(members.proba.astype("<f4").tobytes()).decode(),  # (m, n, k), row by row
    }
    if k >= 2**16:
        raise ReportError(f"an explorer has room for {2**16 - 1} classes, however: {k}")
    return joined(
        json_html(data, id="explorer-data"),
        element("div", element("noscript", "The explorer needs JavaScript; all figures above do not."), id="explorer"),
    )
