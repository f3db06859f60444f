from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.challenge.prior_shift import em_prior
from cer_fusion.fusion.errors import PriorShiftError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.challenge.prior_shift.worlds import calibrated, world

priors = st.lists(st.floats(0.1, 1.0), min_size=3, max_size=3).map(lambda x: np.array(x) / sum(x))


@settings(deadline=None, max_examples=25)
@given(priors, priors, st.integers(0, 99))
def test_em_recovers_a_shifted_prior_from_calibrated_rows(source, target, seed):
    points, y = world(target, 6000, seed)
    found, _ = em_prior(calibrated(points, source), source)
    np.testing.assert_allclose(found, np.bincount(y, minlength=3) / y.size, atol=0.035)
    assert found.sum() == pytest.approx(1)


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(2, 7))
def test_nothing_changes_where_the_rows_average_to_the_prior(seed, k):
    proba = np.random.default_rng(seed).dirichlet(np.ones(k), size=200)
    source = proba.mean(axis=0)
    found, rounds = em_prior(proba, source)
    np.testing.assert_allclose(found, source, atol=1e-12)
    assert rounds == 1


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 99))
def test_every_round_makes_the_rows_no_less_likely(seed):
    rng = np.random.default_rng(seed)
    proba, source = rng.dirichlet(np.ones(4), size=50), rng.dirichlet(np.full(4, 5.0))
    found, _ = em_prior(proba, source)

    def likelihood(prior: np.ndarray) -> float:
        return float(np.log((proba / source) @ prior).sum())

    assert likelihood(found) >= likelihood(source) - 1e-9
    for other in rng.dirichlet(np.ones(4), size=20):
        assert likelihood(found) >= likelihood(other) - 1e-6


def test_certain_rows_are_counted():
    found, _ = em_prior(np.eye(3)[[0, 0, 1, 2, 2, 2]], np.full(3, 1 / 3))
    np.testing.assert_allclose(found, [2 / 6, 1 / 6, 3 / 6])


def test_em_that_does_not_settle_says_so(monkeypatch):
    monkeypatch.setattr("cer_fusion.challenge.prior_shift.em.MOST_ROUNDS", 2)
    points, _ = world(np.array([0.8, 0.1, 0.1]), 200, 0)
    with pytest.raises(PriorShiftError, match="has not settled after 2 rounds"):
        em_prior(calibrated(points, np.full(3, 1 / 3)), np.full(3, 1 / 3))
