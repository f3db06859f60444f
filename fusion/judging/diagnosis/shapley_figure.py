"""Shapley values as bars: what each block brings, in points of macro F1, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cer_fusion.fusion.judging.diagnosis.result import Contribution
from cer_fusion.fusion.page.figures import BLUE, GREY, INK, ORANGE


def draw_shapley(panel: Any, contributions: Sequence[Contribution]) -> None:
    """Draw a bar a block, the largest on top; what a block takes away is orange. The ring is the loss without it."""
    ranked = sorted(contributions, key=lambda one: one.shapley_macro_f1)
    for place, one in enumerate(ranked):
        value, spread = 100 * one.shapley_macro_f1, one.shapley_interval
        panel.barh(place, value, height=0.6, color=BLUE if value >= 0 else ORANGE, alpha=0.85)
        panel.plot([100 * spread.low, 100 * spread.high], [place, place], color=INK, linewidth=1.2)
        panel.plot(
            100 * one.left_out_macro_f1,
            place,
            "o",
            markersize=5,
            markerfacecolor="white",
            markeredgecolor=INK,
            zorder=3,
        )
    panel.set_yticks(range(len(ranked)), [one.name for one in ranked])
    panel.set_ylim(-0.6, len(ranked) - 0.4)
    panel.axvline(0, color=GREY, linewidth=0.8)
    panel.set_xlabel("macro F1 (points)")
    panel.set_title("What each block brings\nbar: Shapley value and interval; ring: loss without it", pad=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
