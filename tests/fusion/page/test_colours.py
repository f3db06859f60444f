from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from cer_fusion.fusion.judging.measures import Similarity
from cer_fusion.fusion.judging.metrics import Scores
from cer_fusion.fusion.page.colours import (
    DARK,
    LIGHT,
    PRINTED,
    READABLE,
    Scheme,
    blended,
    contrast,
    readable,
    stylesheet_colours,
)
from cer_fusion.fusion.page.diagnosis import draw_cka
from cer_fusion.fusion.page.figures import draw_confusion, new_figure
from cer_fusion.fusion.sweeps.figure import draw_sweep
from tests.fusion.page.test_figures import GRIDS, swept

SCHEMES = {"light": LIGHT, "dark": DARK, "printed": PRINTED}


def test_contrasts_are_those_of_the_guideline():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#ffffff", "#767676") == pytest.approx(4.54, abs=0.005)  # the lightest grey that passes
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert contrast((1.0, 0.0, 0.0), "#ffffff") == pytest.approx(4.00, abs=0.005)


def test_on_every_colour_there_is_a_text_that_can_be_read():
    shares = np.linspace(0, 1, 18).tolist()
    worst = min(contrast(readable(ground), ground) for ground in product(shares, repeat=3))
    assert READABLE <= worst < 5  # dark red and such: near the bound


@pytest.mark.parametrize("name", SCHEMES)
def test_a_matrix_can_be_read_at_every_share(name):
    scheme = SCHEMES[name]
    for tenths in range(1001):
        ground = scheme.cell(tenths / 10)
        text = readable(scheme.deep if tenths / 10 > scheme.turn else scheme.shallow)  # as the stylesheet turns it
        assert contrast(text, ground) >= READABLE
    assert contrast(scheme.muted, scheme.cell(0)) >= READABLE  # cells without rows


@pytest.mark.parametrize("name", SCHEMES)
def test_every_text_of_a_page_can_be_read_on_every_ground_it_stands_on(name):
    scheme: Scheme = SCHEMES[name]
    pointed_at = blended(0.07, scheme.accent, scheme.card)
    for ground in (scheme.card, scheme.paper, pointed_at):
        for text in (scheme.ink, scheme.muted, scheme.accent, scheme.warm):
            assert contrast(text, ground) >= READABLE
    assert contrast(scheme.ink, scheme.rule) >= READABLE


def test_the_stylesheet_has_the_colours_of_all_schemes_and_where_the_text_of_cells_turns():
    rules = stylesheet_colours()
    for scheme in SCHEMES.values():
        assert scheme.variables() in rules
        assert f"--turn: {scheme.turn:.2f};" in scheme.variables()
    assert rules.index("dark) {") < rules.index("print {")  # paper is white whatever the reader's scheme


def confused() -> Any:
    counts = [[100 - share, share, 0] for share in (0, 56, 100)]  # 56: where white on blue was 2.4 : 1
    found = Scores(classes=("a", "b", "c"), confusion=np.array([*counts[:2], [0, 0, 0]]))
    return draw_confusion(found, "late")


def shaded() -> Any:
    figure = new_figure(4, 4)
    cka = tuple(tuple(float(value) for value in line) for line in np.linspace(-0.01, 1, 36).reshape(6, 6))
    draw_cka(figure.subplots(), Similarity(names=("a", "b", "c", "d", "e", "f"), cka=cka, n=30))
    return figure


FIGURES = {"confusion": confused, "cka": shaded} | {
    name: (lambda grid=grid: draw_sweep(swept(grid))) for name, grid in GRIDS.items()
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_text_of_a_figure_can_be_read(name):
    found = contrasts_of(FIGURES[name]())
    assert len(found) >= 8
    assert {text: ratio for text, ratio in found if ratio < READABLE} == {}


def contrasts_of(figure: Any) -> list[tuple[str, float]]:
    """Every text of a figure and its contrast with the drawing under its letters, at the worst pixel."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import to_rgb
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(80)
    canvas.draw()
    figure.set_layout_engine("none")
    texts = [one for one in figure.findobj(Text) if one.get_visible() and one.get_text().strip()]
    colours = [to_rgb(one.get_color()) for one in texts]

    def drawn(**changes: Any) -> Any:
        for one in texts:
            one.set(**changes)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].astype(np.int64)

    coloured, bare = drawn(color="#ff00ff"), drawn(alpha=0)
    found = []
    for one, colour in zip(texts, colours, strict=True):
        box, height = one.get_window_extent(), len(bare)
        place = np.s_[max(0, int(height - box.y1)) : int(height - box.y0) + 1, max(0, int(box.x0)) : int(box.x1) + 1]
        letters = np.abs(coloured[place] - bare[place]).sum(axis=2) > 60
        grounds = np.unique(bare[place][letters], axis=0) / 255
        if len(grounds):  # the labels of ticks beyond the axis are not drawn
            found.append((one.get_text(), min(contrast(colour, tuple(ground)) for ground in grounds.tolist())))
    return found
