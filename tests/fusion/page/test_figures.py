from __future__ import annotations

import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from cer_fusion.fusion.data.blocks import PAPER_MARK, Grid, parse_grid, parse_simplex
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.heads.weights import counted, decisions
from cer_fusion.fusion.judging.metrics import Scores, scores
from cer_fusion.fusion.judging.resampling import Interval
from cer_fusion.fusion.page.figures import draw_confusion, draw_confusions, in_lines, new_figure, save_figure
from cer_fusion.fusion.sweeps.curve import decision_curve
from cer_fusion.fusion.sweeps.figure import colour_ends, draw_sweep
from cer_fusion.fusion.sweeps.result import Band, Curve, Sweep, sweep_table
from cer_fusion.kit.table import render

CLASSES = ("Fearfully_Surprised", "Happily_Surprised", "Sadly_Angry")
FEATURES = {"vit": ["vit"], "manet": ["manet.local", "manet.multi_scale"], "resnet50": ["resnet50"]}


def some_scores() -> Scores:
    y = np.array([0, 0, 0, 1, 1, 2])
    return scores(y, np.array([0, 1, 0, 1, 1, 0]), CLASSES)


def swept(grid: Grid, *, inner: bool = True, mark: dict[str, float] | None = None) -> Sweep:
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    proba = rng.dirichlet(np.ones(3), size=(len(grid.blocks), 60)) + 0.4 * np.eye(3)[y]
    curves = [
        decision_curve(p / p.sum(axis=2, keepdims=True), y, grid.weights, resamples=20) for p in (proba, proba**2)
    ]
    chosen = curves[1].best if inner else curves[0].best
    return Sweep(
        head="LateHead(mix=arithmetic)",
        kind="decision",
        blocks=grid.blocks,
        classes=CLASSES,
        weights=grid.weights,
        select="inner" if inner else "test",
        folds=5 if inner else 0,
        inner=curves[1] if inner else None,
        test=curves[0],
        chosen=chosen,
        chosen_confusion=counted(y, decisions(proba, grid.weights)[[chosen]], 3)[0],
        chosen_accuracy=Interval(0.5, 0.7),
        chosen_macro_f1=Interval(0.4, 0.6),
        chosen_by_seed=(0.5,),
        C=(),
        penalty=None,
        penalty_macro_f1=None,
        marked=grid.find(mark or PAPER_MARK),
        mark=dict(mark or PAPER_MARK),
        level=0.95,
        resamples=20,
        seeds=(0,),
        elapsed_s=0.1,
        notes=("One note.",),
    )


LINE = parse_grid(["manet.local=0:1:0.1", "manet.multi_scale=1-"], FEATURES["manet"])
GRIDS = {
    "line": LINE,
    "line with a fixed block": parse_grid(["vit=1", "manet.local=0:1:0.5"], ["vit", "manet.local"]),
    "one point": parse_grid(["vit=1", "manet.local=1"], ["vit", "manet.local"]),
    "map": parse_grid(["a=0:1:0.5", "b=0:1:0.25", "c=1"], "abc"),
    "triangle": parse_simplex("vit,manet.local,resnet50:0.2", FEATURES),
    "profiles": parse_simplex("vit,manet.local,manet.multi_scale,resnet50:0.25", FEATURES),
}


def is_drawn(path: Path, size: tuple[int, int]) -> bool:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (size[1], size[0], 3)
    return len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50 and 0.02 < (pixels < 250).any(axis=2).mean() < 0.98


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_a_sweep_is_drawn_whatever_its_weights_span(name, tmp_path):
    figure = draw_sweep(swept(GRIDS[name]))
    path = save_figure(figure, tmp_path / "sweep.png", dpi=80)
    assert is_drawn(path, tuple(round(80 * inches) for inches in figure.get_size_inches()))


def test_the_line_says_which_branch_has_which_weight():
    figure = draw_sweep(swept(LINE))
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "reference: manet.local 0.6 / manet.multi_scale 0.4" in words
    assert any(word.startswith("chosen on inner folds") for word in words)
    assert figure.axes[0].get_xlabel() == "weight of manet.local  (manet.multi_scale = 1 \u2212 it)"


def test_without_inner_folds_the_picture_says_the_choice_peeked():
    words = [text.get_text() for text in draw_sweep(swept(LINE, inner=False)).legends[0].get_texts()]
    assert any(word.startswith("chosen on the test rows") for word in words)


def test_a_confusion_matrix_is_drawn_with_names_shares_and_counts(tmp_path):
    figure = draw_confusion(some_scores(), "mlp")
    panel = figure.axes[0]
    written = [text.get_text() for text in panel.texts]
    assert written[:4] == ["67", "2", "33", "1"]
    assert panel.get_xticklabels()[0].get_text() == "Fearfully\nSurprised"
    assert panel.get_title() == "mlp\naccuracy 66.7 %, macro F1 48.9 %, n = 6"
    path = save_figure(figure, tmp_path / "confusion.png", dpi=80)
    assert is_drawn(path, tuple(round(80 * inches) for inches in figure.get_size_inches()))


def test_several_matrices_share_one_picture():
    figure = draw_confusions([(name, some_scores()) for name in ("vit", "manet", "resnet50")])
    assert [panel.get_visible() for panel in figure.axes[:4]] == [True, True, True, False]


def test_a_class_without_rows_is_left_blank():
    panel = draw_confusion(scores([0, 1], [0, 1], CLASSES), "x").axes[0]
    assert [text.get_text() for text in panel.texts][-3:] == ["\u2013"] * 3


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml"), (".PNG", b"\x89PNG")]
)
def test_the_suffix_picks_the_format_and_equal_figures_are_equal_files(suffix, magic, tmp_path):
    files = [
        save_figure(draw_confusion(some_scores(), "x"), tmp_path / f"{i}{suffix}", dpi=50).read_bytes()
        for i in range(2)
    ]
    assert files[0].startswith(magic)
    assert files[0] == files[1]


def test_an_unknown_suffix_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ReportError, match=r"'x\.bmp'.*\.png, \.pdf, \.svg"):
        save_figure(new_figure(1, 1), tmp_path / "x.bmp")
    assert not list(tmp_path.iterdir())


def test_drawing_opens_no_window_toolkit(monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    draw_confusion(some_scores(), "x")
    assert "matplotlib.pyplot" not in sys.modules


def test_a_sweeps_table_marks_what_is_special():
    table = sweep_table(swept(LINE))
    assert table.header[:2] == ("manet.local (weight)", "manet.multi_scale (weight)")
    notes = [row[-1].text for row in table.rows]
    assert sum("chosen" in note for note in notes) == 1
    assert "reference" in notes[6]
    assert len(table.rows) == 11
    assert "One note." in table.notes
    assert "manet.local 0.6 / manet.multi_scale 0.4" in render(table, "markdown")


def test_a_long_sweep_shows_its_best_and_special_vectors_and_says_so():
    sweep = swept(GRIDS["profiles"])
    table = sweep_table(sweep, limit=5)
    assert 5 <= len(table.rows) <= 8
    assert any("of 35 vectors are shown" in note for note in table.notes)
    assert any("chosen" in row[-1].text for row in table.rows)


def test_a_dollar_sign_in_a_name_is_drawn_as_it_is(tmp_path):
    found = Scores(classes=("a$_b$c", "d"), confusion=np.array([[1, 0], [1, 2]]))
    text = save_figure(draw_confusion(found, "cost in $ and $"), tmp_path / "c.svg").read_text()
    assert "cost in $ and $" in text


def test_the_vectors_that_cannot_be_told_from_the_best_are_drawn_and_counted():
    sweep = swept(GRIDS["triangle"])
    alike = int(sweep.inner.alike.sum())
    assert 0 < alike < len(sweep.weights)
    figure = draw_sweep(sweep)
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert f"cannot be told from the best on inner folds: {alike} of {len(sweep.weights)}" in words
    (dots,) = [line for line in figure.axes[0].lines if str(line.get_label()).startswith("cannot be told")]
    assert len(dots.get_xdata()) == alike


def test_a_table_shows_each_vectors_penalty_and_what_the_seeds_gave():
    sweep = swept(LINE)
    penalty = np.where(np.arange(len(sweep.weights)) % 2, 1.0, 10.0)
    table = sweep_table(
        replace(sweep, C=(1.0, 10.0), penalty=penalty, seeds=(3, 4), chosen_by_seed=(0.5, 0.6)), limit=100
    )
    column = table.header.index("C")
    assert [row[column].value for row in table.rows] == penalty.tolist()
    assert "Seeds 3 to 4 pooled" in " ".join(table.notes)
    assert "50.00 to 60.00 %" in " ".join(table.notes)


@pytest.mark.parametrize(("values", "alike", "low"), [
    ((0.70, 0.69, 0.68), (True, True, True), 0.62),
    ((0.70, 0.69, 0.30), (True, True, False), 0.30),
    ((0.70, 0.20, 0.10), (True, False, False), 0.10),
    ((0.40, 0.20, 0.10), (True, True, False), -0.40),
])  # fmt: skip
def test_vectors_that_cannot_be_told_apart_take_a_quarter_of_the_colours_at_most(values, alike, low):
    band = Band(value=np.array(values), low=np.zeros(3), high=np.ones(3))
    found = colour_ends(Curve(accuracy=band, macro_f1=band, best=0, alike=np.array(alike), n=9))
    assert found == pytest.approx((low, max(values)))


def test_the_colours_of_a_sweep_are_scaled_by_its_noise_and_the_bar_says_so():
    sweep = swept(GRIDS["triangle"])
    panel, bar = draw_sweep(sweep).axes
    (tiles,) = panel.collections
    assert tiles.get_clim() == pytest.approx([100 * end for end in colour_ends(sweep.test)])
    assert "a quarter of the colours at most" in bar.get_ylabel()
    assert bar.get_ylim()[0] >= 0


LONG = ("vit_base_patch16_224.augreg_in21k", "manet.multi_scale_attention_features", "resnet50.global_average_pool")


@pytest.mark.parametrize("kind", ["confusions", "triangle"])
def test_long_names_of_heads_and_blocks_do_not_run_into_one_another(kind):
    if kind == "confusions":
        figure = draw_confusions([(f"{name}-and-more", some_scores()) for name in LONG])
    else:
        figure = draw_sweep(swept(parse_simplex(f"{','.join(LONG)}:0.1", {name: [name] for name in LONG})))
    FigureCanvasAgg(figure).draw()
    texts = [one for one in figure.findobj(Text) if one.get_text().strip() and one.get_rotation() == 0]
    boxes = {one: one.get_window_extent() for one in texts if len(one.get_text()) > 10}
    boxes = {one: box for one, box in boxes.items() if box.width > 2}  # the empty panel's have none
    assert len(boxes) >= 7
    for one, other in combinations(boxes, 2):
        assert not boxes[one].padded(-1).overlaps(boxes[other].padded(-1)), (one, other)
    width, height = figure.bbox.size
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes.values())


def test_a_long_name_is_broken_after_a_dot_or_an_underscore():
    assert in_lines("manet.multi_scale_attention", 18) == "manet.multi_scale_\nattention"
    assert in_lines("mlp", 18) == "mlp"
    assert in_lines("late, weighted by hand", 14) == "late, weighted\nby hand"
    assert in_lines("unbroken", 3) == "unbroken"
