from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cer_fusion.fusion.errors import SweepError
from cer_fusion.fusion.heads.weights import MIXES, SMALLEST, counted, decisions, mixed, totals
from cer_fusion.fusion.judging.metrics import scores
from cer_fusion.fusion.judging.resampling import bootstrap, jackknife, signs
from cer_fusion.fusion.judging.significance import not_worse
from cer_fusion.fusion.sweeps.curve import choose, curve, decision_curve


def members(seed: int, m: int, n: int, k: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(k), size=(m, n))


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 30), st.integers(2, 7), st.integers(1, 20))
def test_arithmetic_decisions_equal_mixing_by_hand(seed, m, n, k, w):
    proba = members(seed, m, n, k)
    weights = np.random.default_rng(seed + 1).dirichlet(np.ones(m), w)
    expected = np.einsum("wm,mnk->wnk", weights, proba).argmax(axis=2)
    assert (decisions(proba, weights) == expected).all()


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 30), st.integers(2, 7), st.integers(1, 20))
def test_geometric_decisions_equal_mixing_by_hand(seed, m, n, k, w):
    proba = members(seed, m, n, k)
    weights = np.random.default_rng(seed + 1).dirichlet(np.ones(m), w)
    expected = np.einsum("wm,mnk->wnk", weights, np.log(np.maximum(proba, SMALLEST))).argmax(axis=2)
    assert (decisions(proba, weights, "geometric") == expected).all()


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 30), st.integers(2, 7), st.sampled_from(MIXES))
def test_decisions_are_those_of_the_mixed_probabilities(seed, m, n, k, mix):
    proba = members(seed, m, n, k)
    weights = np.random.default_rng(seed + 1).dirichlet(np.ones(m))
    found = mixed(proba, weights, mix)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    chosen = np.take_along_axis(found, decisions(proba, weights[None], mix).astype(int).T, axis=1)[:, 0]
    np.testing.assert_allclose(chosen, found.max(axis=1))


def test_a_mix_that_does_not_exist_names_the_nearest():
    with pytest.raises(SweepError, match="did you mean 'harmonic'"):
        decisions(members(0, 2, 3, 4), np.ones((1, 2)), "harmonious")


def test_decisions_do_not_depend_on_the_scale_of_the_weights():
    proba = members(0, 3, 50, 5)
    weights = np.random.default_rng(1).dirichlet(np.ones(3), 10)
    assert (decisions(proba, weights) == decisions(proba, 37 * weights)).all()


def test_all_weight_on_one_member_gives_that_members_decisions():
    proba = members(0, 3, 50, 5)
    for mix in MIXES:
        assert (decisions(proba, np.eye(3), mix) == proba.argmax(axis=2)).all()


def test_the_first_of_equal_classes_is_taken():
    proba = np.array([[[0.0, 0.5, 0.5]], [[0.0, 0.5, 0.5]]])
    assert decisions(proba, np.ones((1, 2))).tolist() == [[1]]
    swapped = np.array([[[0.5, 0.0, 0.5]], [[0.0, 0.5, 0.5]]])
    assert decisions(swapped, np.ones((1, 2))).tolist() == [[2]]


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 7), st.sampled_from(MIXES))
def test_coarse_probabilities_that_tie_often_are_decided_as_argmax_has_it(seed, m, k, mix):
    """Sums of quarters and powers of two are exact, so that ties are ties."""
    rng = np.random.default_rng(seed)
    proba = rng.integers(1, 4, (m, 40, k)) / 4
    weights = np.vstack([np.eye(m), 2.0 ** rng.integers(0, 3, (9, m))])
    weights = weights[np.log2(weights.sum(axis=1)) % 1 == 0]
    if mix == "arithmetic":
        expected = np.einsum("wm,mnk->wnk", weights, proba).argmax(axis=2)
        assert (decisions(proba, weights, mix) == expected).all()
    assert (decisions(proba, np.eye(m), mix) == proba.argmax(axis=2)).all()


def test_many_classes_are_told_apart():
    proba = members(0, 3, 60, 300)
    weights = np.random.default_rng(1).dirichlet(np.ones(3), 7)
    assert (decisions(proba, weights) == np.einsum("wm,mnk->wnk", weights, proba).argmax(axis=2)).all()


def test_one_member_cannot_veto_a_class_alone():
    proba = np.array([[[0.0, 1.0]], [[0.9, 0.1]]])
    assert decisions(proba, np.array([[0.001, 0.999]]), "geometric").tolist() == [[0]]


def test_weights_of_another_number_of_members_are_refused():
    with pytest.raises(SweepError, match=r"\(w, m\)"):
        decisions(members(0, 3, 5, 2), np.ones((4, 2)))


@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(2, 5), st.integers(1, 6))
def test_counts_and_totals_equal_the_plain_metrics(seed, n, k, w):
    rng = np.random.default_rng(seed)
    y, p = rng.integers(0, k, n), rng.integers(0, k, (w, n))
    confusions = counted(y, p, k)
    accuracy, macro_f1 = totals(confusions)
    for i in range(w):
        expected = scores(y, p[i], "abcdefg"[:k])
        assert (confusions[i] == expected.confusion).all()
        assert accuracy[i] == pytest.approx(expected.accuracy)
        assert macro_f1[i] == pytest.approx(expected.macro_f1)


def test_chunks_change_nothing(monkeypatch):
    proba, weights = members(0, 3, 40, 4), np.random.default_rng(1).dirichlet(np.ones(3), 30)
    y = np.arange(40) % 4
    whole = decisions(proba, weights)
    counts = counted(y, whole, 4)
    monkeypatch.setattr("cer_fusion.fusion.heads.weights._CHUNK", 1)
    assert (decisions(proba, weights) == whole).all()
    assert (counted(y, whole, 4) == counts).all()


def test_a_curve_holds_the_scores_and_bands_of_every_vector():
    proba = members(0, 3, 60, 4)
    y = np.arange(60) % 4
    weights = np.random.default_rng(1).dirichlet(np.ones(3), 25)
    found = decision_curve(proba, y, weights, resamples=100, seed=2)
    y_pred = decisions(proba, weights)
    draws = bootstrap(y, y_pred, 4, resamples=100, seed=2)
    for i in range(25):
        expected = scores(y, y_pred[i], "abcd")
        assert found.macro_f1.value[i] == pytest.approx(expected.macro_f1)
        assert found.accuracy.value[i] == pytest.approx(expected.accuracy)
        interval = draws.interval("macro_f1", i)
        assert (found.macro_f1.low[i], found.macro_f1.high[i]) == (
            pytest.approx(interval.low, abs=1e-6),
            pytest.approx(interval.high, abs=1e-6),
        )
    left = jackknife(y, y_pred, 4, np.arange(60))["macro_f1"]
    assert (found.alike == not_worse(left.whole, signs(100, 60, 2) @ left.parts, 0.05)).all()
    assert found.macro_f1.value[found.best] == found.macro_f1.value.max()
    assert found.alike[found.best]
    assert found.n == 60


def test_bands_of_rows_that_share_groups_are_those_of_the_groups(monkeypatch):
    proba = members(0, 3, 60, 4)
    y, groups = np.arange(60) % 4, [f"v{i // 5}" for i in range(60)]
    weights = np.random.default_rng(1).dirichlet(np.ones(3), 25)
    found = decision_curve(proba, y, weights, groups=groups, resamples=100, seed=2)
    draws = bootstrap(y, decisions(proba, weights), 4, groups=groups, resamples=2)
    for i in range(25):
        for band, metric in ((found.accuracy, "accuracy"), (found.macro_f1, "macro_f1")):
            interval = draws.interval(metric, i)
            assert (band.low[i], band.high[i]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    monkeypatch.setattr("cer_fusion.fusion.sweeps.curve.CELLS", 1)
    again = decision_curve(proba, y, weights, groups=groups, resamples=100, seed=2)
    assert (again.alike == found.alike).all()
    assert again.macro_f1.low == pytest.approx(found.macro_f1.low)


def test_vectors_that_decide_alike_share_their_band():
    y = np.array([0, 1, 0, 1])
    y_pred = np.array([[0, 1, 0, 0], [1, 1, 0, 1], [0, 1, 0, 0]])
    found = curve(y, y_pred, 2, np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]), resamples=20)
    assert found.macro_f1.low[0] == found.macro_f1.low[2]
    assert found.macro_f1.high[0] == found.macro_f1.high[2]


def test_among_equals_accuracy_decides_then_evenness_then_order():
    weights = np.array([[1.0, 0.0], [0.5, 0.5], [0.4, 0.6], [0.6, 0.4]])
    assert choose(np.array([0.5, 0.5, 0.6, 0.5]), np.array([0.7, 0.7, 0.7, 0.6]), weights) == 2
    assert choose(np.full(4, 0.5), np.full(4, 0.7), weights) == 1
    assert choose(np.full(2, 0.5), np.full(2, 0.7), weights[[2, 3]]) == 0
