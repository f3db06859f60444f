from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.fusion import ExpressionError, ZeroShot, compound_proba, make_head
from hypothesis import given
from hypothesis import strategies as st

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
RULES = ("sum", "product", "harmonic", "minimum")


@pytest.mark.parametrize(
    ("rule", "scores"),
    [("sum", (0.7, 0.5)), ("product", (0.12, 0.06)), ("harmonic", (0.24 / 0.7, 0.12 / 0.5)), ("minimum", (0.3, 0.2))],
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
