"""The solver of penalised logistic regression finds the optimum, whatever the shape of the rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cer_fusion.fusion.heads.base import softmax
from cer_fusion.fusion.heads.logistic import fit_logistic


def problem(n: int, width: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of unequal variances and a mean far from zero, as embeddings have them; classes; weights."""
    random = np.random.default_rng(seed)
    spread = np.geomspace(1, 0.02, width)
    rows = (random.normal(size=(n, width)) * spread + 0.3).astype(np.float32)
    logits = rows @ random.normal(size=(width, k)) * 2
    codes = np.argmax(logits + random.gumbel(size=(n, k)), axis=1)
    codes[:k] = np.arange(k)
    return rows, codes, random.uniform(0.2, 3, n)


@pytest.mark.parametrize(("n", "width", "k"), [(300, 40, 5), (60, 90, 4), (300, 40, 2), (40, 70, 2)])
@pytest.mark.parametrize("C", [0.1, 30.0])
def test_it_finds_the_optimum_that_scikit_learn_approaches(n, width, k, C):
    rows, codes, weights = problem(n, width, k)
    peer = LogisticRegression(C=C, tol=1e-10, max_iter=20_000).fit(
        rows.astype(np.float64), codes, sample_weight=weights
    )
    found = fit_logistic(rows, np.eye(k)[codes], weights, C=C, tol=1e-6)
    if k == 2:  # one row of weights, the second class's
        assert not found.coef[0].any()
    free = slice(k == 2, None)
    np.testing.assert_allclose(found.coef[free], peer.coef_, atol=5e-3 * np.abs(peer.coef_).max())
    proba = softmax(rows @ found.coef.T + found.intercept)
    np.testing.assert_allclose(proba, peer.predict_proba(rows.astype(np.float64)), atol=3e-3)  # of float32


@pytest.mark.parametrize(("n", "width"), [(300, 40), (60, 90)])
def test_the_gradient_is_within_the_tolerance(n, width):
    rows, codes, weights = problem(n, width, 5)
    found = fit_logistic(rows, np.eye(5)[codes], weights, C=10.0)
    logits = rows.astype(np.float64) @ found.coef.T + found.intercept
    proba = np.exp(logits - logits.max(axis=1, keepdims=True))
    proba /= proba.sum(axis=1, keepdims=True)
    miss = (proba - np.eye(5)[codes]) * weights[:, None] / weights.sum()
    assert np.abs(miss.T @ rows + found.coef / (10.0 * weights.sum())).max() <= 1e-4
    assert np.abs(miss.sum(axis=0)).max() <= 1e-4


def test_a_weight_of_two_is_a_row_twice_and_shared_rows_are_weighted_ones():
    rows, codes, _ = problem(120, 20, 4)
    hard = np.eye(4)[codes]
    weights = np.where(np.arange(120) < 40, 2.0, 1.0)
    twice = fit_logistic(np.vstack([rows, rows[:40]]), np.vstack([hard, hard[:40]]), C=1.0, tol=1e-6)
    weighed = fit_logistic(rows, hard, weights, C=1.0, tol=1e-6)
    np.testing.assert_allclose(weighed.coef, twice.coef, atol=1e-3)
    other = np.eye(4)[(codes + 1) % 4]
    soft = fit_logistic(rows, 0.7 * hard + 0.3 * other, C=1.0, tol=1e-6)
    both = fit_logistic(np.vstack([rows, rows]), np.vstack([hard, other]), np.repeat([0.7, 0.3], 120), C=1.0, tol=1e-6)
    np.testing.assert_allclose(soft.coef, both.coef, atol=1e-3)


def test_rows_without_weight_and_columns_without_variance_say_nothing():
    rows, codes, _ = problem(120, 20, 4)
    rows[:, 3] = 0.0
    weights = np.where(np.arange(120) < 100, 1.0, 0.0)
    found = fit_logistic(rows, np.eye(4)[codes], weights, C=1.0, tol=1e-6)
    alone = fit_logistic(rows[:100], np.eye(4)[codes[:100]], C=1.0, tol=1e-6)
    np.testing.assert_allclose(found.coef, alone.coef, atol=1e-3)
    assert np.abs(found.coef[:, 3]).max() < 1e-6


def test_too_few_steps_are_told():
    rows, codes, _ = problem(300, 40, 5)
    with pytest.warns(ConvergenceWarning, match=r"linear did not converge within 2 passes \(max_iter=2\)"):
        fit_logistic(rows, np.eye(5)[codes], C=100.0, max_iter=2)
