"""A diagnosis as one picture: what the blocks bring, how alike they are, how far the head can be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cer_fusion.fusion.judging.diagnosis.cka_figure import draw_cka
from cer_fusion.fusion.judging.diagnosis.reliability_figure import draw_reliability
from cer_fusion.fusion.judging.diagnosis.result import Diagnosis
from cer_fusion.fusion.judging.diagnosis.shapley_figure import draw_shapley
from cer_fusion.fusion.page.figures import STYLE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_diagnosis(found: Diagnosis) -> Figure:
    """Draw three panels side by side."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        figure = new_figure(13.2, 2.0 + 0.4 * max(len(found.similarity.names), 5))
        shapley, cka, reliability = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
        panels: Any = (shapley, cka, reliability)
        draw_shapley(panels[0], found.contributions)
        draw_cka(panels[1], found.similarity)
        draw_reliability(panels[2], found.calibration)
    return figure
