from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.fusion.heads.weights import MIXES, mixed, terms


def test_the_harmonic_mix_is_the_weighted_harmonic_mean():
    proba = np.array([[[0.6, 0.3, 0.1]], [[0.2, 0.2, 0.6]]])
    raw = 1 / (0.75 / proba[0] + 0.25 / proba[1])
    np.testing.assert_allclose(mixed(proba, np.array([0.75, 0.25]), "harmonic"), raw / raw.sum())


def test_ranks_are_shares_of_pairs_won_and_equals_share_a_win():
    np.testing.assert_allclose(terms(np.array([0.7, 0.2, 0.1]), "rank"), [2 / 3, 1 / 3, 0], atol=1e-5)
    np.testing.assert_allclose(terms(np.array([0.4, 0.4, 0.2]), "rank"), [0.5, 0.5, 0], atol=1e-5)


def test_probabilities_decide_where_sums_of_ranks_tie():
    proba = np.array([[[0.5, 0.3, 0.2]], [[0.4, 0.5, 0.1]]])
    assert mixed(proba, np.array([0.5, 0.5]), "rank").argmax() == 0
    assert mixed(proba[:, :, [1, 0, 2]], np.array([0.5, 0.5]), "rank").argmax() == 1


def test_ranks_do_not_care_how_sure_a_member_is():
    proba = np.random.default_rng(0).dirichlet(np.ones(5), size=(2, 20))
    sharp = proba**4 / (proba**4).sum(axis=2, keepdims=True)
    weights = np.array([0.3, 0.7])
    np.testing.assert_allclose(mixed(sharp, weights, "rank"), mixed(proba, weights, "rank"), atol=1e-5)
    assert not np.allclose(mixed(sharp, weights, "geometric"), mixed(proba, weights, "geometric"))


@pytest.mark.parametrize("mix", MIXES)
def test_certainty_and_impossibility_stay_finite(mix):
    proba = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    np.testing.assert_allclose(mixed(proba, np.array([0.5, 0.5]), mix), [[0.5, 0.5]])
