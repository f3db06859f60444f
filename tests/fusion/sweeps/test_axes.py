"""Settings of a head as axes of a sweep: what is chosen by which rows, how points are tested, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.linear_model import LogisticRegression

from cer_fusion.fusion import Axes, Rows, Sweep, make_head, sweep
from cer_fusion.fusion.data.blocks import parse_grid
from cer_fusion.fusion.data.rows import folds_of
from cer_fusion.fusion.errors import SweepError
from cer_fusion.fusion.judging.comparison import compare
from cer_fusion.fusion.judging.metrics import scores
from cer_fusion.fusion.judging.zero_shot import with_basic
from cer_fusion.fusion.sweeps.figure import draw_sweep
from cer_fusion.fusion.sweeps.result import sweep_table

CLASSES = ("Fearfully_Surprised", "Sadly_Angry", "Sadly_Fearful")
BASIC = ("Anger", "Fear", "Sadness", "Surprise")
CENTRES = np.random.default_rng(7).normal(size=(4, 12))
PARTS = np.array([[1, 3], [2, 0], [2, 1]])
QUICK = {"hidden": [16], "fusion": "concat", "members": 1, "epochs": 4, "lr": 1e-2, "threads": 1}
C_AXIS = Axes({"C": [0.001, 10.0, 1000.0]})


def rows(n: int, seed: int, *, noise: float = 1.5, **more: object) -> Rows:
    random = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = CENTRES[PARTS[y]].mean(axis=1) + noise * random.normal(size=(n, 12))
    blocks = {"vit": x[:, :7].astype(np.float32), "manet": x[:, 7:].astype(np.float32)}
    given = {"blocks": blocks, "y": y, "classes": CLASSES, "ids": tuple(f"{seed}/{i}" for i in range(n))}
    return Rows(**given | more)


def basic_rows(n: int, seed: int) -> Rows:
    random = np.random.default_rng(seed)
    y = np.arange(n) % 4
    x = CENTRES[y] + random.normal(size=(n, 12))
    blocks = {"vit": x[:, :7].astype(np.float32), "manet": x[:, 7:].astype(np.float32)}
    return Rows(blocks=blocks, y=y, classes=BASIC, ids=tuple(f"b{i}" for i in range(n)))


@pytest.fixture(scope="module")
def swept() -> Sweep:
    return sweep(make_head("linear"), C_AXIS, rows(90, 0), rows(60, 1), folds=3, resamples=60, seed=5)


def test_every_point_is_the_head_set_so_out_of_fold_and_on_the_test_rows(swept):
    train, test = rows(90, 0), rows(60, 1)
    for i, point in enumerate(swept.settings):
        head = make_head("linear", blocks=train.widths, random_state=5, **point)
        expected = scores(test.y, head.fit(train.x(), train.y).predict(test.x()), CLASSES)
        assert swept.test.macro_f1.value[i] == pytest.approx(expected.macro_f1)
        y_pred = np.empty(90, dtype=int)
        for learn, held in folds_of(train, 3, seed=5):
            part, out = train.take(learn), train.take(held)
            y_pred[held] = head.fit(part.x(), part.y).predict(out.x())
        assert swept.inner.macro_f1.value[i] == pytest.approx(scores(train.y, y_pred, CLASSES).macro_f1)
    assert swept.chosen == swept.inner.best
    assert swept.vector(swept.chosen) == swept.settings[swept.chosen]
    assert swept.kind == "setting"
    assert swept.params["max_iter"] == make_head("linear").max_iter


def test_other_test_rows_never_change_the_choice(swept):
    other = sweep(make_head("linear"), C_AXIS, rows(90, 0), rows(45, 9), folds=3, resamples=60, seed=5)
    assert other.chosen == swept.chosen
    np.testing.assert_array_equal(other.inner.macro_f1.value, swept.inner.macro_f1.value)


def test_points_are_tested_against_the_heads_own_as_a_comparison_tests_columns(swept):
    train, test = rows(90, 0), rows(60, 1)
    heads = {str(point["C"]): make_head("linear", random_state=5, **point) for point in swept.settings}
    found = compare(heads, train, test, singles=False, baseline="10.0", resamples=240, seed=5)
    assert swept.vector(swept.marked) == {"C": 10.0}
    for one, column in zip(swept.versus, found.columns, strict=True):
        assert one == column.versus
    assert swept.versus[swept.marked] is None


def test_a_grid_without_the_heads_own_values_is_tested_against_its_first_point():
    found = sweep(make_head("linear"), Axes({"C": [3.0, 30.0]}), rows(60, 0), rows(30, 1), folds=2, resamples=40)
    assert found.marked == 0


def test_rows_that_share_videos_keep_folds_intervals_and_tests_whole():
    groups = [tuple(f"v{seed}/{i // 10}" for i in range(60)) for seed in (0, 1)]
    train, test = rows(60, 0, groups=groups[0]), rows(60, 1, groups=groups[1])
    found = sweep(make_head("linear"), C_AXIS, train, test, folds=3, resamples=60)
    assert [one.p for one in found.versus if one is not None] == [None, None]
    assert any("answers to whole groups exchanged" in note for note in sweep_table(found).notes)


def test_several_settings_cross_and_several_seeds_count_a_row_once_each():
    axes = Axes({"dropout": [0.0, 0.5], "hidden": [[8], [16, 8]]})
    found = sweep(make_head("mlp", **QUICK), axes, rows(48, 0), rows(30, 1), folds=2, seeds=2, resamples=20)
    assert [one["hidden"] for one in found.settings] == [[8], [16, 8]] * 2
    assert found.seeds == (0, 1)
    assert found.test.n == 30
    assert found.chosen_confusion.sum() == 60
    alone = make_head("mlp", blocks=rows(1, 0).widths, **{**QUICK, "dropout": 0.5, "hidden": [8], "random_state": 1})
    train, test = rows(48, 0), rows(30, 1)
    expected = [scores(test.y, alone.set_params(random_state=one).fit(train.x(), train.y).predict(test.x()), CLASSES)
                for one in (0, 1)]  # fmt: skip
    pooled = sum(one.confusion for one in expected)
    assert found.test.accuracy.value[2] == pytest.approx(np.trace(pooled) / pooled.sum())


def test_what_is_kept_reads_back_and_is_drawn_and_laid_out(swept, tmp_path):
    kept = Sweep.load(swept.save(tmp_path / "s.json"))
    assert kept.to_dict() == swept.to_dict()
    assert kept.to_dict()["chosen_settings"] == swept.vector(swept.chosen)
    table = sweep_table(kept)
    assert table.header[0] == "C"
    assert [row[0].text for row in table.rows] == ["0.001", "10.0", "1000.0"]
    assert "reference" in table.rows[1][-1].text
    assert "3 points of C" in repr(kept)
    assert [one.get_text() for one in draw_sweep(kept).axes[0].get_xticklabels()] == ["0.001", "10.0", "1000.0"]
    crossed = Axes({"C": [0.1, 1.0], "class_weight": [None, "balanced"]})
    two = sweep(make_head("linear"), crossed, rows(60, 0), rows(30, 1), folds=2, resamples=20)
    labels = [one.get_text() for one in draw_sweep(two).axes[0].get_yticklabels()]
    assert labels == [f"C {C} / class_weight {one}" for C in (0.1, 1) for one in ("null", "balanced")]
    assert [row[1].text for row in sweep_table(two).rows] == ["null", "balanced"] * 2


def test_slices_of_points_done_elsewhere_are_the_points():
    with parallel_config(backend="threading"):
        here, apart = (
            sweep(make_head("linear"), C_AXIS, rows(60, 0), rows(30, 1), folds=2, resamples=20, n_jobs=jobs)
            for jobs in (1, 2)
        )
    np.testing.assert_array_equal(here.test.macro_f1.value, apart.test.macro_f1.value)
    np.testing.assert_array_equal(here.inner.macro_f1.value, apart.inner.macro_f1.value)


def test_progress_tells_every_fit():
    seen: list[tuple[int, int]] = []
    sweep(
        make_head("linear"), C_AXIS, rows(60, 0), rows(30, 1), folds=2, resamples=20,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(i, 9) for i in range(1, 10)]


def test_any_classifier_of_scikit_learn_has_axes_and_only_its_own():
    found = sweep(LogisticRegression(max_iter=200), C_AXIS, rows(60, 0), rows(30, 1), folds=2, resamples=20)
    assert found.head == "LogisticRegression()"
    with pytest.raises(SweepError, match=r"no setting 'locality'"):
        sweep(LogisticRegression(), Axes({"locality": [0, 1]}), rows(60, 0), rows(30, 1))


# the weights of what the systems do


def test_the_weight_of_locality_from_labels_and_votes_is_an_axis():
    for soft in (None, 0.9 * np.eye(3)[np.arange(60) % 3] + 0.1 / 3):
        found = sweep(
            make_head("mlp", **QUICK), Axes({"locality": [0, 3.0]}), rows(60, 0, soft=soft), rows(30, 1),
            folds=2, resamples=20,
        )  # fmt: skip
        assert found.vector(found.marked) == {"locality": 0}


def test_the_length_of_a_curriculum_and_how_many_compounds_are_mixed_are_axes_beside_locality():
    """Where eight compounds are labelled and basic expressions abound, folds choose to mix."""
    train, test = with_basic(rows(24, 3), basic_rows(200, 5)), rows(240, 1)
    axes = Axes({"curriculum": [0, 6], "mixed_compounds": [0, 8.0], "locality": [0, 0.1]})
    found = sweep(make_head("mlp", **QUICK), axes, train, test, folds=3, seeds=2, resamples=20)
    assert len(found.settings) == 8
    assert found.vector(found.marked) == {"curriculum": 0, "mixed_compounds": 0, "locality": 0}
    mixed = [i for i, one in enumerate(found.settings) if one["mixed_compounds"]]
    plain = [i for i, one in enumerate(found.settings) if not one["mixed_compounds"] and not one["curriculum"]]
    assert found.test.macro_f1.value[mixed].mean() > found.test.macro_f1.value[plain].mean() + 0.05
    assert found.vector(found.chosen)["mixed_compounds"] or found.vector(found.chosen)["curriculum"]


def test_the_coupling_of_action_units_is_an_axis():
    units = (np.random.default_rng(0).random((60, 3)) < np.where(np.eye(3)[np.arange(60) % 3], 0.9, 0.1)).astype(float)
    train = rows(60, 0, targets={"au": units})
    head = make_head("multitask", **QUICK)
    found = sweep(
        head, Axes({"coupling": [0, 5.0], "au_weight": [0.1, 1.0]}), train, rows(30, 1), folds=2, resamples=20
    )
    assert found.vector(found.marked) == {"coupling": 0, "au_weight": 1.0}


def test_settings_that_change_nothing_are_told():
    found = sweep(
        make_head("mlp", **QUICK), Axes({"neighbours": [3, 5]}), rows(48, 0), rows(30, 1), folds=2, resamples=20
    )
    assert any("these settings did not matter there" in note for note in sweep_table(found).notes)


# refusals, all of them before anything is fitted


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "there is no axis"),
        ({"C": [1.0]}, "two or more different values.*one is no axis"),
        ({"C": [1, 1.0]}, "stands twice"),
        ({"C": "1,2"}, "needs a list"),
        ({"C": [1.0, float("nan")]}, "must be finite"),
        ({"C": list(range(1, 40)), "tol": list(range(1, 40))}, "39 x 39 points, more than 1,000"),
    ],
)
def test_values_that_span_no_grid_are_refused(values, said):
    with pytest.raises(SweepError, match=said):
        Axes(values)


@pytest.mark.parametrize(
    ("head", "values", "said"),
    [
        ("mlp", {"localty": [0, 1]}, "did you mean 'locality'"),
        ("mlp", {"locality": [0, -1]}, r"cannot be set to locality=-1: locality must be"),
        ("mlp", {"locality": [0, "much"]}, r"cannot be set to locality=much: locality must be a number"),
        ("mlp", {"locality": [0, 1], "hidden": [[], [8]]}, r"set to locality=1, hidden=\[\]: locality draws hidden"),
        (
            "mlp",
            {"curriculum": [0, 10]},
            r"curriculum=10: it learns from rows of basic expressions, and there are none",
        ),
        ("multitask", {"coupling": [0, 1]}, "coupling=1: it matches action units"),
        ("multitask", {"au_weight": [0, 1]}, "au_weight cannot matter: the rows have no targets"),
        ("late", {"weights": ["learned", None]}, "have a sweep of their own"),
        ("mlp", {"random_state": [0, 1]}, "give several seeds"),
        ("mlp", {"blocks": [{"vit": 7}, None]}, "says which blocks there are"),
        ("mlp", {"device": ["cpu", "auto"]}, "does not change what is learned"),
    ],
)
def test_settings_that_a_head_cannot_have_are_refused_before_it_is_fitted(head, values, said, monkeypatch):
    monkeypatch.setattr("cer_fusion.fusion.sweeps.axes.fit_part", None)
    with pytest.raises(SweepError, match=said):
        sweep(make_head(head), Axes(values), rows(60, 0), rows(30, 1))


@pytest.mark.parametrize("more", [{"C": [1, 2]}, {"per_class": 5}])
def test_what_goes_with_weights_alone_is_refused(more):
    with pytest.raises(SweepError, match="go with weights"):
        sweep(make_head("mlp"), Axes({"locality": [0, 1]}), rows(60, 0), rows(30, 1), **more)


def test_a_sweep_of_weights_has_no_settings_and_no_tests():
    grid = parse_grid(["vit=0:1:0.5", "manet=1-"], ["vit", "manet"])
    found = sweep(make_head("late", calibrate=False), grid, rows(60, 0), rows(30, 1), select="test", resamples=20)
    assert found.settings is None
    assert found.versus is None
    assert "chosen_weights" in found.to_dict()
