from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.diagnosis.calibration import calibration, losses
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss


def drawn(n: int, sharpness: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 4), and truths drawn from exactly these."""
    rng = np.random.default_rng(seed)
    proba = np.exp(sharpness * rng.normal(size=(n, 4)))
    proba /= proba.sum(axis=1, keepdims=True)
    return (proba.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), proba


def test_truths_drawn_from_the_probabilities_show_no_error_beyond_chance():
    y, proba = drawn(40_000)
    found = calibration(y, proba)
    assert found.ece < 0.01
    assert found.ece_equal_mass < 0.01
    assert found.confidence == pytest.approx(found.accuracy, abs=0.01)


def test_a_head_that_is_too_sure_is_found_out():
    y, proba = drawn(5000)
    sure = proba**3 / (proba**3).sum(axis=1, keepdims=True)
    found = calibration(y, sure)
    gap = sure.max(axis=1).mean() - (sure.argmax(axis=1) == y).mean()
    assert found.confidence - found.accuracy == pytest.approx(gap)
    assert found.ece > 0.1
    assert abs(gap) <= found.ece + 1e-9
    assert found.nll > calibration(y, proba).nll
    assert found.brier > calibration(y, proba).brier


def test_figures_by_hand():
    proba = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    found = calibration(np.array([0, 1, 0, 1]), proba, bins=2)
    # all of them fall into the bin (0.5, 1]: 3 of 4 right, mean confidence 0.775
    assert found.ece == pytest.approx(0.025)
    # two bins of two: {0.6, 0.7} both right, {0.9, 0.9} one right
    assert found.ece_equal_mass == pytest.approx((2 * 0.35 + 2 * 0.4) / 4)
    assert [(one.n, one.accuracy) for one in found.bins] == [(2, 1.0), (2, 0.5)]
    assert found.bins[0].confidence == pytest.approx(0.65)
    assert found.brier == pytest.approx((2 * 0.01 + 2 * 0.81 + 2 * 0.16 + 2 * 0.09) / 4)


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 25))
def test_the_table_holds_every_row_once_and_the_log_loss_is_scikit_learns(seed, bins):
    y, proba = drawn(60, seed=seed)
    found = calibration(y, proba, bins=bins)
    assert sum(one.n for one in found.bins) == 60
    assert max(one.n for one in found.bins) - min(one.n for one in found.bins) <= 1
    assert found.nll == pytest.approx(log_loss(y, proba, labels=range(4)))
    assert all(one.high <= other.low for one, other in zip(found.bins, found.bins[1:], strict=False))


def test_a_truth_that_was_ruled_out_costs_much_but_not_infinity():
    assert losses(np.array([1]), np.array([[1.0, 0.0]]))[0] == pytest.approx(36.04, abs=0.01)


def test_losses_of_many_heads_are_taken_at_once():
    y, proba = drawn(10)
    np.testing.assert_array_equal(losses(y, np.stack([proba, proba]))[1], losses(y, proba))


def test_no_bin_is_refused():
    with pytest.raises(ReportError, match="at least one bin"):
        calibration(np.array([0]), np.array([[1.0, 0.0]]), bins=0)
