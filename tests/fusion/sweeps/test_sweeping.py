from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from cer_fusion.fusion import make_head
from cer_fusion.fusion.data.blocks import PAPER_MARK, Grid, parse_grid, parse_simplex
from cer_fusion.fusion.data.rows import Rows, folds_of
from cer_fusion.fusion.errors import HeadDataError, ReportError, SweepError
from cer_fusion.fusion.judging.metrics import scores
from cer_fusion.fusion.judging.resampling import jackknife, signs
from cer_fusion.fusion.sweeps.curve import _noise_of_rows
from cer_fusion.fusion.sweeps.result import Sweep, sweep_table
from cer_fusion.fusion.sweeps.sweeping import sweep
from cer_fusion.kit.documents import write_sealed

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
    with pytest.raises(ReportError, match="was changed or damaged after it was written"):
        Sweep.load(path)
    with pytest.raises(ReportError, match="unknown keys: 'more'"):
        Sweep.from_dict({**late.to_dict(), "more": 1})
    write_sealed(path, late.to_dict(), kind="cer-sweep", version=1)
    with pytest.raises(ReportError, match="version 1, made by an older cer-fusion; this release reads version 2"):
        Sweep.load(path)


def test_a_sweep_of_penalties_and_seeds_survives_its_file(tmp_path):
    found = sweep(make_head("weighted"), LINE, rows(60, 0), rows(30, 1), C=[1, 10], seeds=2, folds=2, resamples=20)
    assert Sweep.load(found.save(tmp_path / "s.json")).to_dict() == found.to_dict()
    assert found.to_dict()["optimism"] == found.optimism


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


@pytest.mark.parametrize("normalize", ["power", "l2", "none"])
def test_heads_trained_together_decide_as_heads_fitted_one_by_one(normalize, monkeypatch):
    monkeypatch.setattr(
        "cer_fusion.fusion.heads.logistic.TOLERANCE", 1e-7
    )  # rows on the fence would go the way of rounding
    train, test = rows(60, 0), rows(45, 1)
    head = make_head("weighted", normalize=normalize, head_params={"class_weight": "balanced"})
    found = sweep(head, LINE, train, test, C=[0.1, 10], select="test", resamples=20)
    train, test = train.only(LINE.blocks), test.only(LINE.blocks)
    for number, C in enumerate(found.C):
        for i in range(len(LINE)):
            params = {"class_weight": "balanced", "C": C}
            alone = make_head(
                "weighted", blocks=train.widths, normalize=normalize, head_params=params, weights=LINE.vector(i)
            )
            expected = scores(test.y, alone.fit(train.x(), train.y).predict(test.x()), CLASSES)
            assert found.penalty_macro_f1[number, i] == pytest.approx(expected.macro_f1)


@pytest.mark.parametrize("head", [make_head("late", mix="arithmetic"), make_head("weighted", mode="sum")])
def test_each_vector_keeps_the_penalty_that_the_inner_folds_like_best(head):
    found = sweep(head, LINE, rows(60, 0), rows(30, 1), C=[0.01, 1, 100], folds=3, resamples=20)
    assert found.penalty_macro_f1.shape == (3, 6)
    best = found.penalty_macro_f1.argmax(axis=0)
    assert (found.penalty == np.array(found.C)[best]).all()
    assert found.inner.macro_f1.value == pytest.approx(found.penalty_macro_f1.max(axis=0))


def test_a_ridge_sweep_leaves_out_each_training_row_by_itself():
    train = rows(30, 0).only(LINE.blocks)
    head = make_head("weighted", head="ridge", normalize="none")
    found = sweep(head, LINE, rows(30, 0), rows(45, 1), C=[1.0], resamples=20)
    assert found.folds == 30
    for i, (local, scale) in enumerate(LINE.weights):
        size = np.sqrt((local**2 + scale**2) / 2) * np.sqrt(6)
        x = train.x().astype(np.float64) * np.repeat([local / size, scale / size], 3)
        y_pred = [
            RidgeClassifier(alpha=1.0).fit(np.delete(x, j, axis=0), np.delete(train.y, j)).predict(x[[j]])[0]
            for j in range(30)
        ]
        assert found.inner.macro_f1.value[i] == pytest.approx(scores(train.y, np.array(y_pred), CLASSES).macro_f1)


@pytest.mark.parametrize("normalize", ["none", "power"])
def test_a_ridge_sweep_decides_as_ridge_heads_trained_one_at_a_time(normalize):
    train, test = rows(60, 0).only(LINE.blocks), rows(30, 1).only(LINE.blocks)
    head = make_head("weighted", head="ridge", normalize=normalize)
    found = sweep(head, LINE, rows(60, 0), rows(30, 1), C=[0.1, 10.0], folds=3, resamples=20)
    for i in range(len(LINE)):
        alone = make_head(
            "weighted", blocks=train.widths, head="ridge", normalize=normalize, weights=LINE.vector(i),
            head_params={"C": float(found.penalty[i])},
        )  # fmt: skip
        expected = scores(test.y, alone.fit(train.x(), train.y).predict(test.x()), CLASSES)
        assert found.test.macro_f1.value[i] == pytest.approx(expected.macro_f1)


def test_ridge_keeps_groups_whole_by_inner_folds():
    train = rows(60, 0, groups=tuple(f"v{i // 3}" for i in range(60)))
    found = sweep(make_head("weighted", head="ridge"), LINE, train, rows(30, 1), folds=4, resamples=20)
    assert found.folds == 4


def test_seeds_are_pooled_and_their_spread_is_kept():
    head = make_head("late", member="mlp", member_params={"epochs": 2, "hidden": [4]}, random_state=3)
    found = sweep(head, LINE, rows(60, 0), rows(30, 1), folds=2, seeds=2, seed=5, resamples=20)
    assert found.seeds == (5, 6)
    assert len(found.chosen_by_seed) == 2
    assert found.chosen_confusion.sum() == 60
    assert found.test.n == 30
    for number, seed in enumerate(found.seeds):
        alone = make_head("late", member="mlp", member_params={"epochs": 2, "hidden": [4]}, random_state=seed)
        alone.set_params(blocks=rows(1, 0).only(LINE.blocks).widths, weights=found.vector(found.chosen))
        train, test = rows(60, 0).only(LINE.blocks), rows(30, 1).only(LINE.blocks)
        y_pred = alone.fit(train.x(), train.y).predict(test.x())
        assert found.chosen_by_seed[number] == pytest.approx(scores(test.y, y_pred, CLASSES).macro_f1)


@pytest.mark.parametrize("head", [make_head("weighted"), make_head("late", calibrate=False)])
def test_a_head_without_chance_is_tested_once_whatever_the_seeds(head):
    found = sweep(head, LINE, rows(60, 0), rows(30, 1), folds=3, seeds=3, resamples=20)
    assert found.chosen_confusion.sum() == 30
    assert len(found.chosen_by_seed) == 1
    assert found.inner.n == 60


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        (make_head("late"), {"C": [0.0]}, "finite, positive"),
        (make_head("late"), {"C": [1, 1]}, "there once"),
        (make_head("late"), {"seeds": 0}, "at least one seed"),
        (make_head("late", member="mlp"), {"C": [1]}, "'mlp' has no C to sweep"),
        (make_head("weighted", head="ridge", head_params={"alfa": 1}), {}, "no setting 'alfa'"),
        (make_head("weighted", head_params={"standardize": "l2"}), {}, "undoes weights"),
        (make_head("weighted", head_params={"standardize": "none"}), {}, "must not standardise"),
    ],
)
def test_penalties_and_seeds_that_cannot_be_are_refused(head, options, message):
    with pytest.raises(SweepError, match=message):
        sweep(head, LINE, rows(60, 0), rows(30, 1), resamples=20, **options)


def test_a_class_that_one_fold_cannot_learn_is_refused_by_name():
    y = np.arange(60) % 2
    y[7] = 2
    with pytest.raises(HeadDataError, match="'Sadly_Surprised' has one training row"):
        sweep(make_head("weighted"), LINE, rows(60, 0, y=y), rows(30, 1), resamples=20)


def test_values_that_are_no_numbers_are_refused_before_any_training():
    train = rows(60, 0)
    train.blocks["manet.local"][3, 1] = np.nan
    with pytest.raises(HeadDataError, match=r"row 3, block 'manet\.local'"):
        sweep(make_head("weighted"), LINE, train, rows(30, 1), resamples=20)


def test_the_noise_of_independent_rows_is_that_of_leaving_each_out():
    random = np.random.default_rng(0)
    y = random.integers(0, 4, 200)
    lines = np.where(random.random((9, 200)) < 0.6, y, random.integers(0, 5, (9, 200)))  # a class without rows, too
    slow = jackknife(y, lines, 5, np.arange(200))["macro_f1"].parts
    np.testing.assert_allclose(_noise_of_rows(y, lines, 5, 30, 7), signs(30, 200, 7) @ slow, atol=1e-12)


def test_a_sweep_calls_the_judged_rows_by_their_split():
    found = sweep(make_head("weighted"), LINE, rows(60, 0), rows(45, 1, split="valid"), folds=2, resamples=20)
    table = sweep_table(found)
    assert table.title.endswith("vectors over 45 valid rows")
    assert table.header[-3:] == ("valid accuracy (%)", "valid macro F1 (%)", "note")
    assert any("best on valid" in row[-1].text for row in table.rows)
    assert not any("test" in note for note in table.notes)
    assert Sweep.from_dict(found.to_dict()).split == "valid"


def test_weights_a_class_stand_beside_the_grid_and_score_as_the_late_head_with_them():
    train, test = rows(60, 0), rows(45, 1)
    head = make_head("late", mix="arithmetic")
    found = sweep(head, LINE, train, test, per_class=8, select="test", resamples=20, seed=3)
    assert (len(found.weights), found.shared) == (len(LINE) + 8, len(LINE))
    train, test = train.only(LINE.blocks), test.only(LINE.blocks)
    for i in range(len(LINE) - 1, len(LINE) + 8):
        given = found.vector(i)
        if i >= len(LINE):
            given = {block: {str(CLASSES.index(c)): w for c, w in one.items()} for block, one in given.items()}
        alone = make_head("late", blocks=train.widths, mix="arithmetic", weights=given)
        expected = scores(test.y, alone.fit(train.x(), train.y).predict(test.x()), CLASSES)
        assert found.test.macro_f1.value[i] == pytest.approx(expected.macro_f1)


def test_a_choice_among_weights_a_class_is_judged_beside_the_best_shared_weights(tmp_path):
    found = sweep(make_head("late"), LINE, rows(60, 0), rows(45, 1), per_class=30, folds=3, resamples=20)
    note = next(one for one in sweep_table(found).notes if one.startswith("Per class"))
    shared, drawn = found.inner.macro_f1.value[:6], found.inner.macro_f1.value[6:]
    assert f"{100 * (drawn.max() - shared.max()):+.2f} points" in note
    brought = found.test.macro_f1.value[6 + drawn.argmax()] - found.test.macro_f1.value[shared.argmax()]
    assert f"{100 * brought:+.2f} on the test rows" in note
    again = Sweep.load(found.save(tmp_path / "sweep.json"))
    assert (again.per_class == found.per_class).all()
    assert again.vector(10) == found.vector(10)
    assert found.to_dict()["chosen_weights"] == found.vector(found.chosen)


def test_weights_a_class_are_drawn_by_the_seed_alone():
    drawn = [
        sweep(make_head("late"), LINE, rows(60, 0), rows(45, 1), per_class=4, select="test", resamples=20, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert (drawn[0].per_class == drawn[1].per_class).all()
    assert (drawn[0].per_class != drawn[2].per_class).any()


def test_blocks_are_weighed_before_there_are_classes():
    with pytest.raises(SweepError, match="sweep them with head 'late'"):
        sweep(make_head("weighted"), LINE, rows(60, 0), rows(45, 1), per_class=4)
