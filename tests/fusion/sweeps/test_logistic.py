from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from cer_fusion.fusion.heads.base import softmax
from cer_fusion.fusion.sweeps.block_axes import BlockAxes
from cer_fusion.fusion.sweeps.logistic import batch_size, fit_batch

SCALES = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.3, 2.0]])
STRENGTHS = np.array([1.0, 10.0, 100.0, 0.1])


def blocks(seed: int, n: int, k: int, widths=(5, 9)) -> tuple[list[np.ndarray], np.ndarray]:
    random = np.random.default_rng(seed)
    y = np.arange(n) % k
    parts = [random.normal(size=(k, d))[y] + random.normal(size=(n, d)) for d in widths]
    return [(part / np.linalg.norm(part, axis=1, keepdims=True)).astype(np.float32) for part in parts], y


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("weighed", [False, True])
def test_every_problem_is_solved_as_scikit_learn_solves_it_alone(k, weighed):
    parts, y = blocks(0, 60, k)
    class_weights = np.arange(1.0, k + 1) if weighed else np.ones(k)
    solved = fit_batch(parts, y, SCALES, STRENGTHS, class_weights, tol=1e-7)
    assert solved.gradient.max() <= 1e-7
    for i, (scales, C) in enumerate(zip(SCALES, STRENGTHS, strict=True)):
        x = np.hstack([part * scale for part, scale in zip(parts, scales, strict=True)]).astype(np.float64)
        alone = LogisticRegression(C=C, tol=1e-10, max_iter=5000, class_weight=dict(enumerate(class_weights)))
        expected = alone.fit(x, y).predict_proba(x)
        found = softmax(np.hstack(parts).astype(np.float64) @ solved.coef[i].T + solved.intercept[i])
        assert found == pytest.approx(expected, abs=1e-5)


def test_a_problem_does_not_depend_on_its_company():
    parts, y = blocks(1, 50, 3)
    together = fit_batch(parts, y, SCALES, STRENGTHS, np.ones(3), tol=1e-6)
    for i in range(len(SCALES)):
        alone = fit_batch(parts, y, SCALES[[i]], STRENGTHS[[i]], np.ones(3), tol=1e-6)
        assert together.coef[i] == pytest.approx(alone.coef[0], abs=2e-3)
        assert together.intercept[i] == pytest.approx(alone.intercept[0], abs=2e-3)


def test_a_block_of_no_weight_gets_none():
    parts, y = blocks(2, 40, 3)
    solved = fit_batch(parts, y, SCALES[[0]], STRENGTHS[[0]], np.ones(3))
    assert (solved.coef[0][:, 5:] == 0).all()
    assert solved.coef[0][:, :5].any()


def test_the_stated_gradient_is_the_gradient():
    parts, y = blocks(3, 60, 4)
    solved = fit_batch(parts, y, SCALES[[1]], STRENGTHS[[1]], np.ones(4), tol=1e-4)
    x = 0.5 * np.hstack(parts).astype(np.float64)
    weights = solved.coef[0].astype(np.float64) / 0.5
    residuals = (softmax(x @ weights.T + solved.intercept[0]) - np.eye(4)[y]) / 60
    by_coef = residuals.T @ x + weights / (10 * 60)
    norm = np.sqrt((by_coef**2).sum() + (residuals.sum(axis=0) ** 2).sum())
    assert norm == pytest.approx(solved.gradient[0], abs=1e-6)


def test_stopping_early_is_said():
    parts, y = blocks(4, 60, 4)
    with pytest.warns(ConvergenceWarning, match="4 of 4 heads of the sweep did not converge within 2 iterations"):
        solved = fit_batch(parts, y, SCALES, STRENGTHS, np.ones(4), max_iter=2)
    assert (solved.iterations == 2).all()
    assert solved.coef.any()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.25, 2.0, 5.0]), st.sampled_from([0.1, 1.0, 10.0]))
def test_scaling_a_block_only_rescales_its_penalty(seed, factor, C):
    """Weight w under a penalty of 1/C is weight 1 under 1/(C w^2)."""
    parts, y = blocks(seed, 30, 3)
    scaled = fit_batch(parts, y, np.array([[factor, factor]]), np.array([C]), np.ones(3), tol=1e-7)
    penalised = fit_batch(parts, y, np.array([[1.0, 1.0]]), np.array([C * factor**2]), np.ones(3), tol=1e-7)
    a, b = (softmax(np.hstack(parts).astype(np.float64) @ s.coef[0].T + s.intercept[0]) for s in (scaled, penalised))
    assert a == pytest.approx(b, abs=1e-4)


@pytest.mark.parametrize("widths", [(5, 9), (50, 9)])  # the second has a block wider than there are rows
def test_turned_blocks_give_the_same_functions(widths):
    parts, y = blocks(5, 30, 3, widths)
    new, _ = blocks(6, 20, 3, widths)
    axes = BlockAxes(parts, [np.zeros(d, np.float32) for d in widths])
    plain = fit_batch(parts, y, SCALES, STRENGTHS, np.ones(3), tol=1e-7)
    turned = fit_batch(axes.turned(parts), y, SCALES, STRENGTHS, np.ones(3), tol=1e-7)
    for i in range(len(SCALES)):
        a = np.hstack(new) @ plain.coef[i].T + plain.intercept[i]
        b = np.hstack(axes.turned(new)) @ turned.coef[i].T + turned.intercept[i]
        assert a == pytest.approx(b, abs=2e-3)
    assert sum(part.shape[1] for part in axes.turned(parts)) == min(widths[0], 31) + 9


def test_a_batch_is_as_large_as_memory_allows_and_never_empty():
    assert batch_size(10**9, 10, 7) == 1
    assert batch_size(2500, 3072, 7) > batch_size(2500, 6144, 7) > 1
