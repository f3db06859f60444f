from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fusion import make_head
from fusion.errors import HeadDataError, ReportError, SweepError
from fusion.folds import folds_of
from fusion.grid import PAPER_MARK, Grid, parse_grid, parse_simplex
from fusion.metrics import scores
from fusion.rows import Rows
from fusion.sweep_result import Sweep
from fusion.sweeps import sweep

CLASSES = ("Sadly_Angry", "Sadly_Fearful", "Sadly_Surprised")
BLOCKS = {"vit": 4, "manet.local": 3, "manet.multi_scale": 3}
CENTRES = np.random.default_rng(7).normal(size=(3, 10))
LINE = parse_grid(["manet.local=0:1:0.2", "manet.multi_scale=1-"], ["manet.local", "manet.multi_scale"])


def rows(n: int, seed: int, **changes: object) -> Rows:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = (CENTRES[y] + 1.5 * rng.normal(size=(n, 10))).astype(np.float32)
    blocks = dict(zip(BLOCKS, np.split(x, [4, 7], axis=1), strict=True))
    ids = tuple(f"{seed}/{i}" for i in range(n))
    return Rows(**{"blocks": blocks, "y": y, "classes": CLASSES, "ids": ids} | changes)


@pytest.fixture(scope="module")
def late() -> Sweep:
    head = make_head("late", mix="arithmetic", calibrate=False)
    return sweep(head, LINE, rows(90, 0), rows(60, 1), folds=3, resamples=60, seed=5)


@pytest.mark.parametrize("mix", ["arithmetic", "geometric"])
def test_a_decision_sweep_scores_each_vector_as_the_late_head_with_those_weights(mix):
    train, test = rows(60, 0), rows(45, 1)
    head = make_head("late", mix=mix, calibrate=True)
    found = sweep(head, LINE, train, test, select="test", resamples=20)
    train, test = train.only(LINE.blocks), test.only(LINE.blocks)
    for i in range(len(LINE)):
        alone = make_head("late", blocks=train.widths, mix=mix, calibrate=True, weights=LINE.vector(i))
        expected = scores(test.y, alone.fit(train.x(), train.y).predict(test.x()), CLASSES)
        assert found.test.accuracy.value[i] == pytest.approx(expected.accuracy)
        assert found.test.macro_f1.value[i] == pytest.approx(expected.macro_f1)
    assert found.kind == "decision"


@pytest.mark.parametrize("mode", ["concat", "sum"])
def test_a_block_sweep_scores_each_vector_as_the_weighted_head_with_those_weights(mode):
    train, test = rows(60, 0), rows(45, 1)
    seen: list[tuple[int, int]] = []
    found = sweep(
        make_head("weighted", mode=mode),
        LINE,
        train,
        test,
        select="test",
        resamples=20,
        progress=lambda done, total: seen.append((done, total)),
    )
    train, test = train.only(LINE.blocks), test.only(LINE.blocks)
    for i in range(len(LINE)):
        alone = make_head("weighted", blocks=train.widths, mode=mode, weights=LINE.vector(i))
        expected = scores(test.y, alone.fit(train.x(), train.y).predict(test.x()), CLASSES)
        assert found.test.macro_f1.value[i] == pytest.approx(expected.macro_f1)
    assert found.kind == "block"
    assert seen == ([(1, 1)] if mode == "concat" else [(i + 1, 6) for i in range(6)])


def test_the_choice_is_made_out_of_fold_on_the_training_rows(late):
    train = rows(90, 0).only(LINE.blocks)
    y_pred = np.empty((len(LINE), 90), dtype=int)
    for learn, held in folds_of(train, 3, seed=5):
        part, out = train.take(learn), train.take(held)
        for i in range(len(LINE)):
            head = make_head("late", blocks=part.widths, mix="arithmetic", calibrate=False, weights=LINE.vector(i))
            y_pred[i, held] = head.fit(part.x(), part.y).predict(out.x())
    expected = [scores(train.y, line, CLASSES).macro_f1 for line in y_pred]
    assert late.inner is not None
    assert late.inner.macro_f1.value == pytest.approx(expected)
    assert late.chosen == late.inner.best
    assert late.inner.n == 90
    assert late.folds == 3


def test_other_test_rows_never_change_the_choice(late):
    head = make_head("late", mix="arithmetic", calibrate=False)
    other = sweep(head, LINE, rows(90, 0), rows(30, 77), folds=3, resamples=60, seed=5)
    assert other.chosen == late.chosen
    assert (other.inner.macro_f1.value == late.inner.macro_f1.value).all()


def test_the_chosen_vector_has_all_figures_and_intervals(late):
    assert late.chosen_scores.macro_f1 == pytest.approx(late.test.macro_f1.value[late.chosen])
    assert late.chosen_scores.macro_f1 in late.chosen_macro_f1
    assert late.chosen_scores.accuracy in late.chosen_accuracy
    assert late.optimism == pytest.approx(late.test.macro_f1.value.max() - late.chosen_scores.macro_f1)
    assert late.optimism >= 0


def test_the_papers_point_is_marked(late):
    assert late.vector(late.marked) == pytest.approx(PAPER_MARK)


def test_choosing_on_the_test_rows_says_that_it_is_biased():
    found = sweep(make_head("late", calibrate=False), LINE, rows(60, 0), rows(30, 1), select="test", resamples=20)
    assert found.inner is None
    assert found.chosen == found.test.best
    assert found.optimism == 0
    assert any("biased upward" in note for note in found.notes)


def test_blocks_outside_the_grid_are_left_out():
    found = sweep(make_head("late", calibrate=False), LINE, rows(60, 0), rows(30, 1), select="test", resamples=20)
    narrowed = [part.only(LINE.blocks) for part in (rows(60, 0), rows(30, 1))]
    again = sweep(make_head("late", calibrate=False), LINE, *narrowed, select="test", resamples=20)
    assert (found.test.macro_f1.value == again.test.macro_f1.value).all()


def test_a_simplex_over_three_blocks_is_swept(late):
    grid = parse_simplex("vit,manet:0.5", {"vit": ["vit"], "manet": ["manet.local", "manet.multi_scale"]})
    found = sweep(make_head("late", calibrate=False), grid, rows(60, 0), rows(30, 1), folds=2, resamples=20)
    assert found.blocks == ("vit", "manet.local", "manet.multi_scale")
    assert len(found.test.macro_f1.value) == 3


def test_the_same_seed_gives_the_same_sweep_but_for_the_clock(late):
    head = make_head("late", mix="arithmetic", calibrate=False)
    again = sweep(head, LINE, rows(90, 0), rows(60, 1), folds=3, resamples=60, seed=5)
    assert replace(again, elapsed_s=0.0).to_dict() == replace(late, elapsed_s=0.0).to_dict()


def test_a_sweep_survives_its_file(late, tmp_path):
    path = late.save(tmp_path / "sweep.json")
    assert Sweep.load(path).to_dict() == late.to_dict()
    path.write_text(path.read_text().replace('"folds": 3', '"folds": 4'))
    with pytest.raises(ReportError, match="not as it was written"):
        Sweep.load(path)
    with pytest.raises(ReportError, match="unknown keys more"):
        Sweep.from_dict({**late.to_dict(), "more": 1})


def test_the_head_given_is_left_as_it_was():
    head = make_head("late")
    before = head.get_params()
    sweep(head, LINE, rows(60, 0), rows(30, 1), select="test", resamples=20)
    assert head.get_params() == before
    assert not hasattr(head, "classes_")


def test_a_class_missing_from_the_test_rows_is_stated():
    test = rows(45, 1)
    test = test.take(np.flatnonzero(test.y != 2))
    found = sweep(make_head("late", calibrate=False), LINE, rows(60, 0), test, select="test", resamples=20)
    assert any(note.startswith("No test row of Sadly_Surprised") for note in found.notes)


def test_rows_of_a_group_stay_together_in_the_inner_folds():
    train = rows(60, 0, groups=tuple(f"v{i // 3}" for i in range(60)))
    found = sweep(make_head("late", calibrate=False), LINE, train, rows(30, 1), folds=4, resamples=20)
    assert found.folds == 4


@pytest.mark.parametrize(
    ("head", "grid", "options", "error", "message"),
    [
        ("linear", LINE, {}, SweepError, "no block weights"),
        ("mlp", LINE, {}, SweepError, "no block weights"),
        ("late", Grid(("vitt",), np.ones((1, 1))), {}, ReportError, "no block 'vitt'.*'vit'"),
        ("late", Grid(("vit",), np.array([[0.5], [1.0]])), {}, SweepError, "only proportions matter"),
        ("late", Grid(("vit", "manet.local"), np.array([[1, 2], [2, 4]])), {}, SweepError, "only proportions matter"),
        ("late", LINE, {"select": "outer"}, SweepError, "'inner' or 'test'"),
        ("late", LINE, {"folds": 40}, HeadDataError, "40 folds"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_with_a_reason(head, grid, options, error, message):
    with pytest.raises(error, match=message):
        sweep(make_head(head), grid, rows(60, 0), rows(30, 1), resamples=20, **options)
