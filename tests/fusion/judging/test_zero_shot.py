"""Compounds from basic expressions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from cer_fusion.fusion import (
    ExpressionError,
    FusionError,
    ReportError,
    ZeroShot,
    compare,
    compound_proba,
    concat,
    cross_compare,
    make_head,
)
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.judging.report import Report, report_table
from cer_fusion.fusion.judging.zero_shot import (
    ZeroShotColumns,
    columns,
    components,
    compound_names,
    emotion,
    unit_table,
    with_unit_table,
)

BASIC = ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral")
SEVEN = (
    "Fearfully_Surprised",
    "Happily_Surprised",
    "Sadly_Surprised",
    "Disgustedly_Surprised",
    "Angrily_Surprised",
    "Sadly_Fearful",
    "Sadly_Angry",
)
RULES = ("sum", "likely_sum", "product", "harmonic", "minimum")


@pytest.mark.parametrize(
    ("rule", "scores"),
    [
        ("sum", (0.7, 0.5)),
        ("likely_sum", (0.7, 0.5)),
        ("product", (0.12, 0.06)),
        ("harmonic", (0.24 / 0.7, 0.12 / 0.5)),
        ("minimum", (0.3, 0.2)),
    ],
)
def test_a_compounds_score_is_made_of_its_components_probabilities(rule, scores):
    basic = [[0.3, 0.4, 0.0, 0.0, 0.2, 0.1, 0.0]]
    found = compound_proba(basic, BASIC, ("Fearfully Surprised", "Sadly Surprised"), rule=rule)
    np.testing.assert_allclose(found, [np.array(scores) / sum(scores)])


@given(st.integers(0, 10**6), st.sampled_from(RULES), st.permutations(range(7)))
def test_the_order_of_the_basic_columns_does_not_matter(seed, rule, order):
    basic = np.random.default_rng(seed).dirichlet(np.ones(7), size=5)
    found = compound_proba(basic, BASIC, SEVEN, rule=rule)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_array_equal(compound_proba(basic[:, order], [BASIC[i] for i in order], SEVEN, rule=rule), found)


@pytest.mark.parametrize("rule", RULES)
def test_a_row_without_evidence_is_shared_out_evenly(rule):
    neutral = [[0, 0, 0, 0, 0, 0, 1.0]]
    np.testing.assert_allclose(compound_proba(neutral, BASIC, SEVEN, rule=rule), np.full((1, 7), 1 / 7))


@pytest.mark.parametrize(
    ("basic", "classes", "compounds", "message"),
    [
        (np.ones((1, 7)), BASIC, ("Happily Bored",), "no compound expression 'Happily Bored'"),
        (np.ones((1, 2)), ("Fear", "Anger"), ("Fearfully Surprised",), "needs surprise"),
        (np.ones((1, 6)), BASIC, SEVEN, r"shape \(n, 7\)"),
        (np.full((1, 7), np.nan), BASIC, SEVEN, "row 0"),
        (-np.ones((1, 7)), BASIC, SEVEN, "not negative"),
        (np.ones((1, 7)), BASIC, ("Sadly Angry", "SadlyAngry"), "must be different"),
        (np.ones((1, 7)), BASIC, (), "none"),
    ],
)
def test_what_cannot_be_scored_is_refused(basic, classes, compounds, message):
    with pytest.raises(ExpressionError, match=message):
        compound_proba(basic, classes, compounds)


def test_a_likely_sum_leaves_out_what_is_no_likelier_than_chance():
    basic = [[0.5, 0.1, 0.0, 0.0, 0.15, 0.05, 0.2]]  # 1 / 7 = 0.143: fear and anger count nothing
    found = compound_proba(basic, BASIC, ("Fearfully Surprised", "Sadly Surprised", "Sadly Angry"), rule="likely_sum")
    np.testing.assert_allclose(found, [np.array([0.5, 0.65, 0.15]) / 1.3])


def test_several_models_are_added_up_by_their_weights_of_each_class_before_the_pair_sum():
    fear, surprise, anger = [1, 0, 0], [0, 1, 0], [0, 0, 1]
    models = np.array([[fear, surprise], [anger, fear]], float)  # two models, two rows
    weights = [[0.9, 0.5, 0.2], [0.1, 0.5, 0.8]]  # of fear, surprise, anger
    names, compounds = ("fear", "surprise", "anger"), ("Fearfully Surprised", "Angrily Surprised")
    found = compound_proba(models, names, compounds, rule="sum", weights=weights)
    expected = np.array([[0.9, 0.8], [0.5 + 0.1, 0.5]])
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True))
    scaled = np.array(weights) * [1, 7, 3]  # a class's weights are shares
    np.testing.assert_allclose(compound_proba(models, names, compounds, rule="sum", weights=scaled), found)
    alike = [compound_proba(models, names, compounds, weights=w) for w in ([0.3, 0.7], [[0.3] * 3, [0.7] * 3])]
    np.testing.assert_array_equal(*alike)


@pytest.mark.parametrize(
    ("models", "weights", "message"),
    [
        (np.ones((2, 1, 7)), None, r"however: \(2, 1, 7\) and none"),
        (np.ones((2, 1, 7)), [1, 1, 1], r"\(2, 1, 7\) and \(3,\)"),
        (np.ones((1, 7)), [1], r"\(1, 7\) and \(1,\)"),
        (np.ones((2, 1, 7)), [1, -1], "not negative"),
        (np.ones((2, 1, 7)), [[1] * 6 + [0], [1] * 6 + [0]], "each class have one"),
    ],
)
def test_weights_of_models_that_cannot_be_meant_are_refused(models, weights, message):
    with pytest.raises(ExpressionError, match=message):
        compound_proba(models, BASIC, SEVEN, weights=weights)


def specialists(n: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Two encoders that each know three basic expressions, and confuse the others: of basic rows, and of compounds."""
    random = np.random.default_rng(seed)
    pairs = np.array([(1, 0), (3, 0), (4, 0), (2, 0), (5, 0), (4, 1), (4, 5)])
    basic, compound = random.integers(6, size=n), random.integers(7, size=n)
    found = []
    for parts in (np.stack([basic, basic], axis=1), pairs[compound]):
        blocks = {}
        for name, knows in (("low", (0, 1, 2)), ("high", (3, 4, 5))):
            axes = np.where(np.isin(parts, knows), parts % 3 + 1, 0)  # (n, 2)
            x = random.normal(size=(n, 40)) + 1.5 * np.eye(4, 40)[axes].sum(axis=1)
            blocks[name] = x.astype(np.float32)
        found.append(blocks)
    return found[0], np.array(BASIC)[basic], found[1], compound


def test_weights_a_model_and_class_help_the_pair_sum_where_models_know_other_expressions():
    rows, labels, asked, compound = specialists(400, 0)
    right = {}
    for weights in (None, "drawn_per_class"):
        late = make_head("late", blocks={"low": 40, "high": 40}, weights=weights, mix="arithmetic", draws=200)
        zero = ZeroShot(late, rule="sum").fit(concat(rows), labels, compounds=SEVEN)
        answers = zero.predict_proba(concat(asked))
        right[weights] = (answers.argmax(axis=1) == compound).mean()
        planes = zero.head.member_proba(concat(asked))  # the head and the rule on its own members are one
        given = zero.head.weights_.values()
        array = [list(one.values()) if isinstance(one, dict) else one for one in given]
        direct = compound_proba(planes, zero.basic_classes_, SEVEN, rule="sum", weights=array)
        np.testing.assert_allclose(answers, direct, atol=1e-9)
    assert right["drawn_per_class"] > right[None] + 0.03


def test_an_unknown_rule_names_the_nearest():
    with pytest.raises(ExpressionError, match="did you mean 'product'"):
        compound_proba(np.ones((1, 7)), BASIC, SEVEN, rule="produkt")


def mixtures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows near one of six directions with its name; rows between two of them with the compound's position."""
    random = np.random.default_rng(seed)
    centres = 4 * np.eye(6, 10)
    basic = random.integers(6, size=n)
    compound = random.integers(7, size=n)
    pairs = np.array([(1, 0), (3, 0), (4, 0), (2, 0), (5, 0), (4, 1), (4, 5)])
    X = (centres[basic] + random.normal(size=(n, 10))).astype(np.float32)
    between = (centres[pairs[compound]].mean(axis=1) + 0.3 * random.normal(size=(n, 10))).astype(np.float32)
    return X, np.array(BASIC)[basic], between, compound


@pytest.mark.parametrize("rule", RULES)
def test_compounds_are_answered_by_a_head_that_saw_basic_expressions_only(rule):
    X, labels, between, compound = mixtures(200, 0)
    zero = ZeroShot(make_head("linear", standardize="none", C=1.0), rule=rule).fit(X, labels, compounds=SEVEN)
    assert zero.classes_.tolist() == list(SEVEN)
    assert zero.predict_proba(between).shape == (200, 7)
    assert (zero.predict(between) == np.array(SEVEN)[compound]).mean() > 0.9


def test_integer_labels_need_the_names_behind_them():
    X, labels, between, _ = mixtures(200, 0)
    codes = np.array([BASIC.index(one) for one in labels])
    with pytest.raises(ExpressionError, match="basic_classes="):
        ZeroShot(make_head("ncm")).fit(X, codes, compounds=SEVEN)
    by_name = ZeroShot(make_head("ncm")).fit(X, labels, compounds=SEVEN)
    by_code = ZeroShot(make_head("ncm")).fit(X, codes, compounds=SEVEN, basic_classes=BASIC)
    np.testing.assert_allclose(by_code.predict_proba(between), by_name.predict_proba(between))


def test_a_head_fitted_before_can_be_asked():
    X, labels, between, _ = mixtures(200, 0)
    kept = make_head("ncm").fit(X, labels)
    found = ZeroShot(kept).answering(compounds=SEVEN[:3]).predict_proba(between)
    np.testing.assert_array_equal(found, compound_proba(kept.predict_proba(between), list(kept.classes_), SEVEN[:3]))


def test_a_component_without_rows_is_named_before_anything_is_answered():
    X, labels, _, _ = mixtures(200, 0)
    with pytest.raises(ExpressionError, match="'Angrily_Surprised' needs anger"):
        ZeroShot(make_head("ncm")).fit(X[labels != "Anger"], labels[labels != "Anger"], compounds=SEVEN)


ABAW = {
    "Fearfully_Surprised": ("fear", "surprise"),
    "Happily_Surprised": ("happiness", "surprise"),
    "Sadly_Surprised": ("sadness", "surprise"),
    "Disgustedly_Surprised": ("disgust", "surprise"),
    "Angrily_Surprised": ("anger", "surprise"),
    "Sadly_Fearful": ("sadness", "fear"),
    "Sadly_Angry": ("sadness", "anger"),
}


@pytest.mark.parametrize(("name", "parts"), ABAW.items())
@pytest.mark.parametrize("spelt", [str, lambda n: n.replace("_", " "), lambda n: n.replace("_", ""), str.upper])
def test_the_challenges_compounds_are_known_in_every_spelling(name, parts, spelt):
    assert components(spelt(name)) == parts


def test_all_fourteen_of_raf_ce_are_different_pairs_of_the_six_emotions():
    pairs = [frozenset(components(name)) for name in compound_names()]
    assert len(set(pairs)) == 14
    six = {"happiness", "sadness", "surprise", "fear", "disgust", "anger"}
    assert all(len(pair) == 2 and pair <= six for pair in pairs)


def test_each_compounds_own_words_mean_its_components():
    for name in compound_names():
        assert tuple(emotion(word) for word in name.split()) == components(name)


def test_an_unknown_compound_names_the_nearest():
    with pytest.raises(FusionError, match="did you mean 'Fearfully Surprised'"):
        components("Fearfuly_Surprised")


@pytest.mark.parametrize(
    "names",
    [
        ("Surprise", "Fear", "Disgust", "Happiness", "Sadness", "Anger", "Neutral"),
        ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"),
        ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise", "Other"),
    ],
)
def test_basic_classes_of_datasets_find_their_columns(names):
    found = columns(names)
    assert {"happiness", "sadness", "surprise", "fear", "disgust", "anger", "neutral"} == set(found)
    assert all(emotion(names[column]) == meant for meant, column in found.items())


def test_two_classes_of_one_meaning_are_refused():
    with pytest.raises(FusionError, match="'happy' and 'Happiness' both mean happiness"):
        columns(["happy", "Happiness"])


FIVE = ("Anger", "Contempt", "Fear", "Sadness", "Surprise")
COMPOUND = ("Sadly Angry", "Sadly Fearful", "Fearfully Surprised")
PARTS = ((0, 3), (3, 2), (2, 4))
DIRECTIONS = np.eye(5, 6)


def rows(x: np.ndarray, y: np.ndarray, classes: tuple[str, ...], **changes: object) -> Rows:
    given = {"blocks": {"a": x[:, :3], "b": x[:, 3:]}, "y": y, "classes": classes, "fingerprints": {"a": "1", "b": "2"}}
    return Rows(**given | {"features": ("a", "b"), "ids": tuple(f"{classes[0]}{i}" for i in range(len(y)))} | changes)


def basic(n: int = 80, seed: int = 0, **changes: object) -> Rows:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 5
    return rows((3 * DIRECTIONS[y] + rng.normal(size=(n, 6))).astype(np.float32), y, FIVE, **changes)


def compound(n: int, seed: int, **changes: object) -> Rows:
    """A compound lies between the directions of its two components."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = 3 * DIRECTIONS[np.array(PARTS)[y]].sum(axis=1) + rng.normal(size=(n, 6))
    ids = tuple(f"{seed}/{i}" for i in range(n))
    return rows(x.astype(np.float32), y, COMPOUND, **{"ids": ids} | changes)


def zero_shot(**changes: object) -> ZeroShotColumns:
    return ZeroShotColumns(**{"head": make_head("linear"), "rows": basic(), "rules": ("sum", "product")} | changes)


@pytest.fixture(scope="module")
def report() -> Report:
    return compare(
        {"linear": make_head("linear")}, compound(60, 1), compound(50, 2), singles=False, baseline="linear",
        resamples=200, zero_shot=zero_shot(),
    )  # fmt: skip


def test_a_zero_shot_column_stands_beside_trained_heads_with_the_same_intervals_and_tests(report):
    assert [column.name for column in report.columns] == ["linear", "zero-shot sum", "zero-shot product"]
    for column in report.columns[1:]:
        assert column.versus is not None
        assert column.versus.p_holm is not None
        assert column.macro_f1.low <= column.scores.macro_f1 <= column.macro_f1.high
        assert column.scores.accuracy > 0.7
        assert column.params["head"] == "LinearHead"
    text = " ".join(report_table(report).notes)
    assert "learned from 80 rows of 'basic' with basic expressions (Anger 16, Contempt 16, Fear 16" in text


def test_its_figures_are_those_of_fitting_the_head_by_hand(report):
    head = make_head("linear", blocks=basic().widths, random_state=0).fit(basic().x(), basic().y)
    answers = head.predict_proba(compound(50, 2).x())
    for rule in ("sum", "product"):
        column = report.column(f"zero-shot {rule}")
        np.testing.assert_allclose(column.proba, compound_proba(answers, FIVE, COMPOUND, rule=rule))
        np.testing.assert_array_equal(column.fitted.predict_proba(compound(50, 2).x()), column.proba)


def test_a_report_with_zero_shot_columns_is_kept_and_read_back(report, tmp_path):
    found = Report.load(report.save(tmp_path / "r.json"))
    assert found.to_dict() == report.to_dict()


def test_folds_do_not_change_its_answers_since_it_learns_from_none_of_them():
    asked = compound(60, 3)
    options = {"singles": False, "resamples": 50, "zero_shot": zero_shot()}
    crossed = cross_compare({"linear": make_head("linear")}, asked, folds=3, repeats=2, **options)
    plain = compare({"linear": make_head("linear")}, compound(60, 1), asked, **options)
    column = crossed.column("zero-shot product")
    np.testing.assert_array_equal(column.proba, plain.column("zero-shot product").proba)
    assert column.spread("accuracy") == 0


def test_every_seed_is_a_fit_of_a_head_that_has_seeds():
    zero = zero_shot(head=make_head("mlp", epochs=2, hidden=[4]))
    found = compare(
        {"linear": make_head("linear")}, compound(60, 1), compound(50, 2), singles=False, seeds=3, resamples=50,
        zero_shot=zero,
    )  # fmt: skip
    assert len({run.y_pred.tobytes() for run in found.column("zero-shot sum").other_runs}) == 2


def test_a_component_without_rows_and_classes_that_are_no_compounds_are_refused_by_name():
    without = basic().take(np.flatnonzero(basic().y != 3))
    with pytest.raises(ExpressionError, match="'Sadly Angry' needs sadness, and no basic class means that: Anger, Con"):
        zero_shot(rows=without).check(compound(9, 1))
    with pytest.raises(ExpressionError, match="there is no compound expression 'Anger'"):
        zero_shot().check(basic())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fingerprints": {"a": "1", "b": "3"}}, r"come from different features \(b\)"),
        ({"blocks": {"b": np.ones((80, 3), np.float32), "a": np.ones((80, 3), np.float32)}}, "the same blocks"),
    ],
)
def test_rows_of_other_features_are_refused_before_anything_is_fitted(changes, message):
    zero = zero_shot(rows=replace(basic(), **changes))
    with pytest.raises(ReportError, match=message):
        compare({"linear": LogisticRegression()}, compound(60, 1), compound(50, 2), zero_shot=zero)


def test_a_head_of_the_same_title_is_refused():
    with pytest.raises(ReportError, match="'zero-shot sum' is the title of a head as well"):
        compare({"zero-shot sum": LogisticRegression()}, compound(60, 1), compound(50, 2), zero_shot=zero_shot())


@pytest.mark.parametrize(
    ("rules", "message"), [(("prodct",), "did you mean 'product'"), ((), "at least one"), (("sum", "sum"), "different")]
)
def test_rules_that_are_none_are_refused(rules, message):
    with pytest.raises(ExpressionError, match=message):
        zero_shot(rules=rules)


# action units


def test_the_table_of_units_says_for_every_expression_of_the_source_what_most_and_what_some_people_show():
    units = (1, 2, 4, 5, 6, 12, 25, 26, 45)
    both, surprised, happy = unit_table(["Happily_Surprised", "surprise", "happy"], units)
    assert happy == (0.1, 0.1, 0.1, 0.1, 0.45, 0.85, 0.85, 0.1, 0.1)
    assert both == (0.85, 0.85, 0.1, 0.45, 0.1, 0.85, 0.85, 0.45, 0.1)
    assert surprised[-2:] == (0.85, 0.1)
    assert set(unit_table(["Neutral"], units)[0]) == {0.1}
    covered = [name for name in compound_names() if name not in ("Happily Fearful", "Happily Sad")]
    assert len({unit_table([name], tuple(range(1, 28)))[0] for name in covered}) == 12  # no two are alike
    with pytest.raises(ExpressionError, match="no action units for Happily Sad, Other"):
        unit_table(["Happily Sad", "Sadly Angry", "Other"], units)


def test_a_setting_of_its_name_becomes_the_table_of_the_rows():
    rows = replace(compound(14, 0), targets={"au": np.zeros((14, 2))})
    with pytest.raises(ExpressionError, match="do not say which unit"):
        with_unit_table({"table": "du2014"}, rows)
    known = replace(rows, units=(4, 12))
    made = with_unit_table({"table": "du2014", "coupling": 1.0}, known)
    assert made == {"coupling": 1.0, "table": unit_table(rows.classes, (4, 12))}
    assert with_unit_table({"coupling": 1.0}, rows) == {"coupling": 1.0}
    with pytest.raises(ReportError, match="must name the columns"):
        replace(rows, units=(4,))
    with pytest.raises(HeadConfigError, match="is not numbers yet"):
        make_head("multitask", epochs=1, coupling=1.0, table="du2014").fit(rows.x(), rows.y, targets=rows.targets)
