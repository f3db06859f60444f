from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import cohen_kappa_score, make_scorer
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import ExtraTreeClassifier

from cer_fusion.fusion import Blocks, make_head
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import HeadDataError, ReportError
from cer_fusion.fusion.heads import installed_heads
from cer_fusion.fusion.judging.comparison import compare, cross_compare
from cer_fusion.fusion.judging.diagnosis import diagnose
from cer_fusion.fusion.judging.metrics import scores
from cer_fusion.fusion.judging.report import Report, report_table
from cer_fusion.fusion.judging.resampling import wilson
from cer_fusion.fusion.keeping.answers import aligned
from tests.fusion.lazy import LazyBlock

CLASSES = ("Sadly_Angry", "Sadly_Fearful", "Sadly_Surprised")
CENTRES = np.random.default_rng(99).normal(size=(3, 7))


def rows(n: int, seed: int, **changes: object) -> Rows:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = (CENTRES[y] + rng.normal(size=(n, 7))).astype(np.float32)
    given = {
        "blocks": {"vit": x[:, :3], "manet.local": x[:, 3:5], "manet.multi_scale": x[:, 5:]},
        "y": y,
        "classes": CLASSES,
        "ids": tuple(f"{seed}/{i}" for i in range(n)),
    }
    return Rows(**given | changes)


@pytest.fixture(scope="module")
def report() -> Report:
    heads = {"logistic": LogisticRegression(), "bayes": GaussianNB()}
    return compare(heads, rows(90, 0), rows(60, 1), baseline="logistic", resamples=200, seed=4)


def test_a_pipeline_that_selects_blocks_is_told_their_widths_and_alone_sees_each_backbone():
    given = rows(90, 0), rows(60, 1)
    line = make_pipeline(Blocks("manet"), StandardScaler(), LogisticRegression())
    report = compare({"line": line}, *given, resamples=20)
    assert [column.name for column in report.columns] == ["line", "vit", "manet"]
    told = make_pipeline(Blocks("manet", blocks=given[0].widths), StandardScaler(), LogisticRegression())
    again = compare({"line": told}, *given, resamples=20)
    np.testing.assert_array_equal(again.column("line").proba, report.column("line").proba)
    np.testing.assert_array_equal(report.column("manet").proba, report.column("line").proba)
    alone = make_pipeline(StandardScaler(), LogisticRegression()).fit(given[0].blocks["vit"], given[0].y)
    np.testing.assert_allclose(report.column("vit").proba, alone.predict_proba(given[1].blocks["vit"]), atol=1e-6)


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ("uar", r"metrics must be a list, however: 'uar'"),
        ({"kappa": cohen_kappa_score}, r"metrics must be a list, however: \{'kappa'"),
        ([make_scorer(cohen_kappa_score)], r"a scorer of scikit-learn.*\n  give the function .*: cohen_kappa_score"),
        ([partial(cohen_kappa_score, weights="linear")], r"told by its name, however: functools.partial"),
        ([3], "is a function, told by its name, however: 3"),
    ],
    ids=["text", "dict", "scorer", "partial", "number"],
)
def test_what_is_no_list_of_metrics_is_told_before_anything_is_fitted(metrics, told):
    with pytest.raises(ReportError, match=told):
        compare({"bayes": GaussianNB()}, rows(30, 0), rows(30, 1), metrics=metrics)


def test_a_comparison_has_a_column_a_head_and_a_column_a_backbone(report):
    assert [(c.name, c.kind) for c in report.columns] == [
        ("logistic", "head"),
        ("bayes", "head"),
        ("vit", "single"),
        ("manet", "single"),
    ]
    assert report.column("manet").blocks == ("manet.local", "manet.multi_scale")
    assert report.column("vit").proba.shape == (60, 3)


def test_a_heads_figures_are_those_of_fitting_it_by_hand(report):
    train, test = rows(90, 0), rows(60, 1)
    expected = LogisticRegression().fit(train.x(), train.y)
    found = report.column("logistic")
    assert np.allclose(found.proba, expected.predict_proba(test.x()))
    assert (found.y_pred == expected.predict(test.x())).all()
    assert found.scores.to_dict() == scores(test.y, found.y_pred, CLASSES).to_dict()
    assert found.accuracy == wilson(int(found.scores.correct.sum()), 60)
    assert found.scores.macro_f1 in found.macro_f1
    assert found.fit_s >= 0
    assert (found.fitted.predict_proba(test.x()) == found.proba).all()


def test_every_column_but_the_baseline_is_tested_against_it(report):
    assert report.column("logistic").versus is None
    base = report.column("logistic")
    for column in report.columns[1:]:
        found = column.versus
        assert found is not None
        assert found.accuracy == pytest.approx(column.scores.accuracy - base.scores.accuracy)
        assert found.macro_f1 == pytest.approx(column.scores.macro_f1 - base.scores.macro_f1)
        assert found.only_head - found.only_baseline == round(60 * found.accuracy)
        assert found.p <= found.p_holm <= 1


def test_a_report_survives_its_file(report, tmp_path):
    path = report.save(tmp_path / "deep" / "report.json")
    again = Report.load(path)
    assert again.to_dict() == report.to_dict()
    assert (again.column("vit").proba == report.column("vit").proba).all()
    assert again.column("vit").fitted is None
    assert json.loads(path.read_text())["format"] == "cer-report"
    assert [file.name for file in path.parent.iterdir()] == ["report.json"]


def test_a_changed_report_is_refused(report, tmp_path):
    path = report.save(tmp_path / "report.json")
    whole = path.read_bytes()
    other = whole.replace(b'"seed": 4', b'"seed": 5')
    for damaged in (whole[:-9], other, b"[]", b"[" * 100_000, b"\xff", b'{"a": NaN}'):
        path.write_bytes(damaged)
        with pytest.raises(ReportError, match=r"report\.json"):
            Report.load(path)


def test_a_report_of_a_newer_version_is_refused_by_name(report, tmp_path):
    path = report.save(tmp_path / "report.json")
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 3'))
    with pytest.raises(ReportError, match="version 3, made by a newer cer-fusion; this release reads version 2"):
        Report.load(path)


def test_unknown_keys_and_invented_figures_are_refused(report):
    plain = report.to_dict()
    with pytest.raises(ReportError, match="unknown keys: 'extra'"):
        Report.from_dict({**plain, "extra": 1})
    with pytest.raises(ReportError, match="lacks the keys: 'seed'"):
        Report.from_dict({key: value for key, value in plain.items() if key != "seed"})
    plain["columns"][0]["scores"]["accuracy"] = 0.99
    with pytest.raises(ReportError, match="do not follow"):
        Report.from_dict(plain)


def test_the_same_seed_gives_the_same_report_but_for_the_clock(report):
    heads = {"logistic": LogisticRegression(), "bayes": GaussianNB()}
    again = compare(heads, rows(90, 0), rows(60, 1), baseline="logistic", resamples=200, seed=4).to_dict()
    first = report.to_dict()
    for plain in (first, again):
        for column in plain["columns"]:
            column.update(fit_s=0, predict_s=0)
    assert first == again


def test_heads_are_told_the_blocks_and_the_seed_and_left_unfitted():
    head = make_head("linear", random_state=None)
    found = compare({"linear": head}, rows(60, 0), rows(30, 1), singles=False, resamples=20, seed=3)
    params = found.column("linear").params
    assert params["blocks"] == {"vit": 3, "manet.local": 2, "manet.multi_scale": 2}
    assert params["random_state"] == 3
    assert not hasattr(head, "classes_")
    assert head.get_params()["blocks"] is None


def test_a_comparison_says_what_it_can_show_and_how_much_its_best_flatters():
    heads = {"logistic": LogisticRegression(), "bayes": GaussianNB(), "poor": GaussianNB(priors=[0.98, 0.01, 0.01])}
    found = compare(heads, rows(90, 0), rows(120, 1), singles=False, baseline="bayes", resamples=2000)
    power, flattery = found.notes[-2:]
    assert power.startswith("Smallest true differences to 'bayes' that 120 such rows show in 80 of 100 cases")
    assert "accuracy" in power
    assert flattery.startswith("The best of 3 columns is chosen on the rows it is judged on")
    assert set(found.column("bayes").letters) & set(found.column("logistic").letters)
    assert not set(found.column("bayes").letters) & set(found.column("poor").letters)
    versus = found.column("poor").versus
    assert versus.p_macro_f1 == pytest.approx(2 / 2001)
    assert versus.p_macro_f1_holm == pytest.approx(4 / 2001)
    alone = compare({"bayes": GaussianNB()}, rows(90, 0), rows(60, 1), singles=False, resamples=20)
    assert alone.notes == ()
    assert alone.column("bayes").letters == ""
    few = compare(heads, rows(90, 0), rows(60, 1), singles=False, resamples=18)
    assert "No letters: 18 draws cannot show any difference at 5 %." in few.notes
    assert few.column("bayes").letters == ""


def test_several_seeds_show_how_far_fits_lie_apart():
    heads = {"tree": ExtraTreeClassifier(max_depth=3), "bayes": GaussianNB()}
    train, test = rows(90, 0), rows(60, 1)
    found = compare(heads, train, test, singles=False, baseline="bayes", seeds=3, resamples=100, seed=4)
    tree, bayes = found.columns
    for run, y_pred in enumerate([tree.y_pred, *(other.y_pred for other in tree.other_runs)]):
        by_hand = ExtraTreeClassifier(max_depth=3, random_state=4 + run).fit(train.x(), train.y)
        assert (y_pred == by_hand.predict(test.x())).all()
    assert tree.spread("accuracy") > 0
    assert bayes.spread("accuracy") == 0
    assert tree.versus.accuracy == pytest.approx(tree.mean("accuracy") - bayes.mean("accuracy"))
    assert any("No seed changes bayes: fitted once" in note for note in found.notes)
    with pytest.raises(ReportError, match="at least one seed"):
        compare(heads, train, test, seeds=0)


def test_a_report_that_lacks_what_an_older_program_did_not_write_is_refused_by_name(report):
    plain = report.to_dict()
    with pytest.raises(ReportError, match="the report lacks the keys: 'folds'"):
        Report.from_dict({key: value for key, value in plain.items() if key != "folds"})
    for name in ("other_runs", "letters"):
        columns = [{key: value for key, value in column.items() if key != name} for column in plain["columns"]]
        with pytest.raises(ReportError, match=rf"a column of the report lacks the keys: '{name}'"):
            Report.from_dict(plain | {"columns": columns})


def test_a_class_without_test_rows_is_stated():
    test = rows(40, 1)
    test = test.take(np.flatnonzero(test.y != 1))
    found = compare({"bayes": GaussianNB()}, rows(60, 0), test, singles=False, resamples=20)
    assert any(note.startswith("No test row of Sadly_Fearful") for note in found.notes)
    assert np.isnan(found.columns[0].scores.recall[1])


def test_a_class_without_training_rows_is_stated_and_never_answered():
    train = rows(60, 0)
    train = train.take(np.flatnonzero(train.y != 0))
    found = compare({"bayes": GaussianNB()}, train, rows(40, 1), singles=False, resamples=20)
    assert any(note.startswith("No training row of Sadly_Angry") for note in found.notes)
    assert (found.columns[0].proba[:, 0] == 0).all()
    assert found.columns[0].scores.recall[0] == 0


def test_rows_that_share_groups_get_cluster_intervals_and_no_mcnemar():
    test = rows(40, 1, groups=tuple(f"v{i // 8}" for i in range(40)))
    heads = {"bayes": GaussianNB(), "logistic": LogisticRegression()}
    found = compare(heads, rows(60, 0), test, singles=False, baseline="bayes", resamples=50)
    assert found.clustered
    assert found.columns[1].versus.p is None
    assert found.columns[1].accuracy != wilson(int(found.columns[1].scores.correct.sum()), 40)


@pytest.mark.parametrize(
    ("heads", "train", "test", "options", "message"),
    [
        ({}, {}, {}, {}, "no head"),
        ({"a": GaussianNB()}, {}, {}, {"baseline": "b"}, "no column 'b'"),
        ({"vit": GaussianNB()}, {}, {}, {}, "'vit' is the title of a head and the name of a backbone"),
        ({"a": GaussianNB()}, {}, {"classes": CLASSES[::-1]}, {}, "same classes"),
        ({"a": GaussianNB()}, {}, {"blocks": {"vit": np.zeros((30, 3), np.float32)}}, {}, "same blocks"),
        ({"a": GaussianNB()}, {}, {"ids": tuple(f"0/{i}" for i in range(30))}, {}, "30 samples are in train and in"),
        ({"a": GaussianNB()}, {"groups": ("v",) * 60}, {"groups": ("v",) * 30}, {}, "1 groups have rows in train"),
        (
            {"a": GaussianNB()},
            {"fingerprints": {"vit": "1"}},
            {"fingerprints": {"vit": "2"}},
            {},
            "different features",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(heads, train, test, options, message):
    with pytest.raises(ReportError, match=message):
        compare(heads, rows(60, 0, **train), rows(30, 1, **test), resamples=20, **options)


def test_a_failing_head_is_named():
    with pytest.raises(ValueError, match="must be a float") as caught:
        compare({"bad": LogisticRegression(C=-1)}, rows(60, 0), rows(30, 1), singles=False)
    assert caught.value.__notes__ == ["in column: bad"]


@pytest.mark.parametrize(
    "table", [[[0.5, 0.6]], [[np.nan, 1.0]], [[-0.1, 1.1]], [[0.2, 0.3, 0.5]]], ids=["sum", "nan", "negative", "width"]
)
def test_an_answer_that_is_no_probability_table_is_refused(table):
    with pytest.raises(ReportError, match="head 'x' must answer"):
        aligned(np.array(table), np.array([0, 2]), 3, "head 'x'")


def test_answers_are_spread_over_all_declared_classes():
    assert aligned(np.array([[0.25, 0.75]]), np.array([0, 2]), 4, "x").tolist() == [[0.25, 0, 0.75, 0]]


def lazily(given: Rows) -> Rows:
    return replace(given, blocks={name: LazyBlock(block) for name, block in given.blocks.items()})


def test_rows_that_stay_on_the_disk_are_compared_as_loaded_ones_are():
    heads = {"linear": make_head("linear"), "mlp": make_head("mlp", hidden=(8,), epochs=15, lr=0.05, threads=1)}
    train, test = rows(90, 0), rows(60, 1)
    loaded = compare(heads, train, test, resamples=50)
    lazy = compare(heads, lazily(train), lazily(test), resamples=50)
    assert [column.name for column in lazy.columns] == ["linear", "mlp", "vit", "manet"]
    for name in ("linear", "vit", "manet"):
        np.testing.assert_allclose(lazy.column(name).proba, loaded.column(name).proba, atol=1e-3)
    assert lazy.column("mlp").scores.accuracy > 0.6


def test_a_head_that_would_load_lazy_rows_is_refused_and_named():
    train, test = rows(90, 0), rows(60, 1)
    with pytest.raises(
        ReportError, match=r"'bayes' is a GaussianNB, which knows arrays only: it would load 2,520 bytes"
    ):
        compare({"bayes": GaussianNB()}, lazily(train), test, singles=False)
    with pytest.raises(
        HeadDataError, match=r"'mine' learns from rows in memory only(?s:.)*in pieces: mlp, multitask, linear"
    ):
        compare({"mine": make_head("late")}, lazily(train), test, singles=False)
    compare({"late": make_head("late")}, train, lazily(test), singles=False, resamples=50)


def test_single_backbones_get_the_head_that_they_stand_beside():
    heads = {"mlp": make_head("mlp", hidden=(4,), epochs=2, threads=1), "bayes": GaussianNB(var_smoothing=0.1)}
    train, test = rows(60, 0), rows(30, 1)
    first = compare(heads, train, test, resamples=20)
    assert {column.head for column in first.columns if column.kind == "single"} == {"MLPHead"}
    assert first.column("manet").params["hidden"] == [4]
    assert first.column("manet").params["blocks"] == {"manet.local": 2, "manet.multi_scale": 2}
    told = "Single backbones (vit, manet): the head of 'mlp', with its settings, on that backbone's blocks alone."
    assert told in first.notes
    base = compare(heads, train, test, baseline="bayes", resamples=20)
    alone = GaussianNB(var_smoothing=0.1).fit(train.only(["vit"]).x(), train.y)
    np.testing.assert_allclose(base.column("vit").proba, alone.predict_proba(test.only(["vit"]).x()))
    asked = compare(heads, train, test, single_head="linear", resamples=20)
    assert asked.column("vit").head == "LinearHead"
    assert "Single backbones (vit, manet): head 'linear' on that backbone's blocks alone." in asked.notes


def test_what_a_head_has_by_block_is_narrowed_for_a_single_backbone():
    head = make_head("late", weights={"vit": 1.0, "manet.local": 0.6, "manet.multi_scale": 0.4}, calibrate=False)
    found = compare({"late": head}, rows(60, 0), rows(30, 1), resamples=20)
    assert found.column("manet").params["weights"] == {"manet.local": 0.6, "manet.multi_scale": 0.4}
    assert found.column("vit").params["weights"] == {"vit": 1.0}


@pytest.mark.parametrize("name", installed_heads())
def test_heads_that_say_they_draw_nothing_answer_alike_whatever_the_seed(name):
    train = rows(60, 0)
    heads = [make_head(name, blocks=train.widths, random_state=seed) for seed in (0, 7)]
    if not heads[0].by_chance:
        first, other = (head.fit(train.x(), train.y).predict_proba(train.x()) for head in heads)
        assert (first == other).all()


def test_heads_that_draw_nothing_are_fitted_once_whatever_the_seeds():
    heads = {"linear": make_head("linear"), "lda": make_head("lda", calibrate=False), "folds": make_head("lda")}
    found = compare(heads, rows(90, 0), rows(60, 1), singles=False, seeds=2, resamples=20)
    assert any("No seed changes linear, lda: fitted once" in note for note in found.notes)
    assert found.column("linear").spread("accuracy") == 0


def test_groups_too_few_for_an_interval_are_named():
    y = np.arange(40) % 3
    few = rows(40, 1, y=y, groups=tuple(f"v{i % 4}" for i in range(40)))
    found = compare({"bayes": GaussianNB()}, rows(60, 0), few, singles=False, resamples=20)
    (told,) = [note for note in found.notes if note.startswith("No interval or test of macro F1 can be trusted here")]
    assert "fewer than 5 groups, in effect, hold the rows of Sadly_Angry 3.9, Sadly_Fearful" in told
    many = rows(40, 1, y=y, groups=tuple(f"v{i // 2}" for i in range(40)))
    enough = compare({"bayes": GaussianNB()}, rows(60, 0), many, singles=False, resamples=20)
    assert not any("can be trusted" in note for note in enough.notes)


def test_a_p_value_that_the_draws_cannot_make_smaller_is_a_bound():
    heads = {"bayes": GaussianNB(), "poor": GaussianNB(priors=[1 - 2e-12, 1e-12, 1e-12])}
    groups = tuple(f"v{i // 4}" for i in range(120))
    for changes, floor in (({}, 2 / 501), ({"groups": groups}, 1 / 501)):
        found = compare(heads, rows(90, 0), rows(120, 1, **changes), singles=False, baseline="bayes", resamples=500)
        versus = found.column("poor").versus
        assert versus.p_is_bound
        assert versus.p_macro_f1 == pytest.approx(floor)


@pytest.mark.parametrize("grouped", [False, True])
def test_further_metrics_are_scikit_learns_with_intervals(grouped, tmp_path):
    from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, f1_score

    changes = {"groups": tuple(f"video {i // 5}" for i in range(60))} if grouped else {}
    test = rows(60, 1, **changes)
    asked = ("uar", "weighted_f1", "f1", cohen_kappa_score)
    found = compare({"bayes": GaussianNB()}, rows(90, 0), test, singles=False, metrics=asked, resamples=300)
    [column] = found.columns
    answers = (test.y, column.y_pred)
    values = [one.value for one in column.figures]
    assert values[0] == pytest.approx(balanced_accuracy_score(*answers))
    assert values[1] == pytest.approx(f1_score(*answers, average="weighted")) == column.scores.weighted_f1
    assert values[2:5] == pytest.approx(f1_score(*answers, average=None))
    assert values[5] == pytest.approx(cohen_kappa_score(*answers))
    assert [one.of_class for one in column.figures] == [None, None, *CLASSES, None]
    for one in column.figures:
        assert one.interval.low < one.value < one.interval.high
        assert one.interval.high - one.interval.low < 0.7
    titles = [row[0].text for row in report_table(found).rows]
    assert titles[5:11] == ["UAR (%)", "Weighted F1 (%)", *(f"F1 {name.replace('_', ' ')} (%)" for name in CLASSES),
                            "cohen_kappa_score"]  # fmt: skip
    again = Report.load(found.save(tmp_path / "kept.json"))
    assert again.columns[0].figures == column.figures
    forged = found.to_dict()
    forged["columns"][0]["figures"][0]["value"] += 0.01
    with pytest.raises(ReportError, match="the uar of column 'bayes' does not follow from its predictions"):
        Report.from_dict(forged)


def test_the_interval_of_a_further_metric_is_that_of_accuracy_where_it_is_accuracy():
    def accuracy(y_true, y_pred):
        return float((y_true == y_pred).mean())

    test = rows(300, 1)
    found = compare({"bayes": GaussianNB()}, rows(90, 0), test, singles=False, metrics=[accuracy], resamples=300)
    [column] = found.columns
    assert column.figures[0].value == pytest.approx(column.scores.accuracy)
    assert column.figures[0].interval.low == pytest.approx(column.accuracy.low, abs=0.02)
    assert column.figures[0].interval.high == pytest.approx(column.accuracy.high, abs=0.02)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["uars"], "no metric 'uars'; did you mean 'uar'"),
        (["uar", "uar"], "a metric is there twice"),
        ([lambda y, p: 0.0], "give it one with def, not lambda"),
    ],
)
def test_a_metric_that_cannot_be_told_is_refused_before_anything_is_fitted(metrics, message):
    with pytest.raises(ReportError, match=message):
        compare({"bayes": None}, rows(90, 0), rows(60, 1), metrics=metrics)


def test_a_metric_that_gives_no_number_is_refused_by_name():
    def each(y_true, y_pred):
        return y_true == y_pred

    with pytest.raises(ReportError, match="the metric 'each' must give one finite number"):
        compare({"bayes": GaussianNB()}, rows(90, 0), rows(60, 1), singles=False, metrics=[each], resamples=20)


def test_the_split_that_was_judged_is_the_one_that_is_named():
    train, test = rows(90, 0, split="train"), rows(60, 1, split="valid")
    found = compare({"bayes": GaussianNB()}, train, test, singles=False, resamples=20)
    table = report_table(found)
    assert table.title == "bayes on 60 valid rows"
    assert "rows train/valid: " in table.notes[0]
    assert "n = 90 train, 60 valid" in table.notes[0]
    assert not any("test row" in note for note in (*table.notes, *(table.brief or ())))
    assert Report.from_dict(found.to_dict()).rows == "60 valid rows"
    untold = compare({"bayes": GaussianNB()}, rows(90, 0), rows(60, 1), singles=False, resamples=20)
    assert report_table(untold).title == "bayes on 60 test rows"


def test_the_progress_of_a_comparison_is_told_head_by_head():
    told = []
    compare(
        {"bayes": GaussianNB(), "trees": ExtraTreeClassifier()}, rows(90, 0), rows(60, 1), singles=False, seeds=2,
        resamples=20, progress=lambda *step: told.append(step),
    )  # fmt: skip
    assert [title for _, _, title in told] == ["bayes", "trees", "trees", "intervals and tests"]  # bayes has no seed
    assert [(done, total) for done, total, _ in told] == [(i, 3) for i in range(4)]


@pytest.mark.parametrize(
    ("heads", "told"),
    [
        ({"svc": LinearSVC()}, r"no probabilities.*\n.*CalibratedClassifierCV\(LinearSVC"),
        ({"ridge": make_pipeline(StandardScaler(), RidgeClassifier())}, r"'ridge' is a Pipeline, which gives no prob"),
        ({"class": GaussianNB}, r"is a class\n.*GaussianNB\(\)"),
        ({"text": "mlp"}, r"is a text\n.*make_head\('mlp'\)"),
        ({"number": 3}, "no estimator of scikit-learn's kind"),
        ([GaussianNB()], "a dict of title to classifier"),
        ({}, "give at least one"),
    ],
    ids=lambda one: None,
)
def test_what_is_no_classifier_with_probabilities_is_told_what_to_do(heads, told):
    train, test = rows(30, 0), rows(30, 1)
    with pytest.raises(ReportError, match=told):
        compare(heads, train, test)
    with pytest.raises(ReportError, match=told):
        cross_compare(heads, train)


def test_a_classifier_made_to_answer_probabilities_is_compared():
    report = compare({"svc": CalibratedClassifierCV(LinearSVC())}, rows(60, 0), rows(30, 1), resamples=20)
    assert report.column("svc").proba.shape == (30, 3)


@pytest.mark.parametrize("given", [np.ones((4, 2)), "rows.csv", SimpleNamespace(blocks={}, class_set=None)])
def test_what_is_not_rows_is_told_how_rows_are_made(given):
    for call in (
        lambda: compare({"bayes": GaussianNB()}, given, rows(9, 0)),
        lambda: compare({"bayes": GaussianNB()}, rows(9, 0), given),
        lambda: cross_compare({"bayes": GaussianNB()}, given),
        lambda: diagnose(given),
    ):
        with pytest.raises(ReportError, match=r"must be Rows, however: \w+\n.*Rows"):
            call()
