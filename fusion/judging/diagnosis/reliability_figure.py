"""The reliability diagram: how often a head is right where it says that it is this sure."""

from __future__ import annotations

from typing import Any

from cer_fusion.fusion.judging.diagnosis.calibration import Calibration
from cer_fusion.fusion.judging.statistics.intervals import wilson
from cer_fusion.fusion.page.figures import BLUE, GREY


def draw_reliability(panel: Any, found: Calibration) -> None:
    """Draw a point a bin of equally many rows, with Wilson's interval; below the line the head is overconfident."""
    panel.plot([0, 100], [0, 100], color=GREY, linewidth=0.8, linestyle="--")
    for one in found.bins:
        spread = wilson(round(one.accuracy * one.n), one.n)
        panel.plot(
            [100 * one.confidence] * 2, [100 * spread.low, 100 * spread.high], color=BLUE, linewidth=1.2, alpha=0.6
        )
    panel.plot(
        [100 * one.confidence for one in found.bins], [100 * one.accuracy for one in found.bins], "o-", color=BLUE,
        markersize=4, linewidth=1.2, clip_on=False, zorder=3,
    )  # fmt: skip
    panel.set_xlim(0, 100)
    panel.set_ylim(0, 100)
    panel.set_aspect("equal")
    panel.set_xlabel("confidence (%)")
    panel.set_ylabel("of those, right (%)")
    panel.set_title(
        f"How far it can be believed\nECE {100 * found.ece_equal_mass:.1f} %, Brier {found.brier:.2f}, "
        f"log-loss {found.nll:.2f}",
        pad=8,
    )
    panel.spines[["top", "right"]].set_visible(False)
