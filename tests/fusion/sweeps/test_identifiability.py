from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from cer_fusion.fusion import make_head
from cer_fusion.fusion.heads.scaling import BlockScaler
from cer_fusion.fusion.heads.weights import decisions
from cer_fusion.fusion.sweeps.block_axes import caveat, undone, unidentifiable


class Concatenating(BaseEstimator):
    """A weighted head of somebody's own."""

    def __init__(self, weights=None, head="linear", standardize="none", head_params=None):
        self.weights = weights
        self.head = head
        self.standardize = standardize
        self.head_params = head_params


@pytest.mark.parametrize("head", [make_head("late"), make_head("weighted"), make_head("weighted", mode="sum")])
def test_weights_matter_where_decisions_or_normalised_blocks_are_mixed(head):
    assert unidentifiable(head) is None


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_a_head_without_block_weights_cannot_be_swept(name):
    reason = unidentifiable(make_head(name))
    assert reason is not None
    assert "no block weights to sweep" in reason
    assert "head 'late'" in reason


@pytest.mark.parametrize("trees", ["xgboost", "histgb", "lightgbm", "catboost"])
def test_scaling_blocks_is_a_no_op_for_trees(trees):
    assert "exact no-op for trees" in unidentifiable(Concatenating(head=trees))


def test_a_standardiser_after_the_weights_undoes_them():
    assert "undoes them" in unidentifiable(Concatenating(standardize="standard"))
    assert "undoes them" in unidentifiable(Concatenating(head_params={"standardize": "standard"}))
    assert unidentifiable(Concatenating()) is None


def test_blocks_of_their_own_scale_blur_the_weights():
    assert "cannot be compared" in caveat(make_head("weighted", normalize="none"))


def test_what_a_weight_means_under_a_linear_head_is_said():
    assert "penalty over w\u00b2" in caveat(make_head("weighted"))
    assert caveat(make_head("weighted", mode="sum")) is None
    assert caveat(make_head("late")) is None


def test_a_head_that_undoes_scales_says_so_before_it_is_swept():
    assert "unit length" in unidentifiable(make_head("linear"))
    assert "no-op for trees" in unidentifiable(make_head("histgb"))
    assert "could not matter" not in unidentifiable(make_head("linear", standardize="none"))


@pytest.mark.parametrize(
    ("name", "params", "reason"),
    [
        ("svm", {"standardize": "power"}, "unit length"),
        ("knn", {"standardize": "standard"}, "standardiser"),
        ("lda", {"shrinkage": None}, "without shrinkage"),
        ("lda", {"shrinkage": "auto"}, None),
        ("linear", {"C": np.inf}, "without a penalty"),
        ("ridge", {"alpha": 0}, "without a penalty"),
        ("ridge", {"alpha": 1.0}, None),
        ("ridge", {"alpha": np.array([1.0, 2.0])}, None),
        ("linear", {"C": 10.0, "standardize": "none"}, None),
    ],
)
def test_capabilities_decide_and_not_only_names(name, params, reason):
    found = undone(name, params)
    assert found is None if reason is None else reason in found


# What is claimed above, proven. Powers of two scale floats exactly, so that "exact" can be taken at its word.
FACTORS = st.lists(st.sampled_from([0.25, 0.5, 2.0, 8.0]), min_size=2, max_size=2)
WIDTHS = {"a": 3, "b": 4}


def blocks(seed: int, n: int = 36) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return (random.normal(size=(3, 7))[y] + random.normal(size=(n, 7))).astype(np.float32), y


def scaled(x: np.ndarray, factors: list[float]) -> np.ndarray:
    return x * np.repeat(np.array(factors, np.float32), list(WIDTHS.values()))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), FACTORS)
def test_scaling_blocks_changes_no_bit_of_what_trees_answer(seed, factors):
    x, y = blocks(seed)
    plain, weighed = (
        make_head("histgb", blocks=WIDTHS, trees=4, min_leaf_rows=2).fit(part, y) for part in (x, scaled(x, factors))
    )
    assert (plain.predict_proba(x) == weighed.predict_proba(scaled(x, factors))).all()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), FACTORS, st.sampled_from(["standard", "l2", "power"]))
def test_what_follows_a_standardiser_never_sees_the_weights(seed, factors, standardize):
    x, y = blocks(seed)
    weighed = scaled(x, factors)
    ready, same = (BlockScaler(standardize, WIDTHS).fit(part).transform(part) for part in (x, weighed))
    assert ready == pytest.approx(same, rel=1e-5, abs=1e-6)  # float32 rounding, and nothing else
    one, other = (make_head("linear", blocks=WIDTHS, standardize=standardize).fit(part, y) for part in (x, weighed))
    # From there on only where the fit stops can differ: at a gradient of 1e-4, coming from either side.
    assert one.predict_proba(x) == pytest.approx(other.predict_proba(weighed), abs=1e-3)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), FACTORS)
def test_without_a_penalty_scales_are_made_up_for(seed, factors):
    x, y = blocks(seed)
    for alone in (LinearDiscriminantAnalysis(), LogisticRegression(C=1e12, tol=1e-9, max_iter=5000)):
        rows = x.astype(np.float64) + 2 * np.random.default_rng(seed + 1).normal(size=x.shape)  # not separable
        plain = alone.fit(rows, y).predict_proba(rows)
        weighed = alone.fit(scaled(rows, factors), y).predict_proba(scaled(rows, factors))
        assert plain == pytest.approx(weighed, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-3, 1e3), st.sampled_from(["arithmetic", "geometric"]))
def test_of_decision_weights_only_proportions_matter(seed, factor, mix):
    random = np.random.default_rng(seed)
    proba, weights = random.dirichlet(np.ones(4), size=(3, 20)), random.dirichlet(np.ones(3), 5)
    assert (decisions(proba, weights, mix) == decisions(proba, factor * weights, mix)).all()


def test_under_a_penalty_weights_do_matter():
    x, y = blocks(0)
    heads = [make_head("weighted", blocks=WIDTHS, weights={"a": 1, "b": w}).fit(x, y) for w in (0.1, 1.0)]
    assert np.abs(heads[0].predict_proba(x) - heads[1].predict_proba(x)).max() > 0.05
