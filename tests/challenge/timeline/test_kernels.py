from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
from cer_fusion.challenge.timeline.kernels import box, exponential, gaussian, median
from hypothesis import given, settings
from hypothesis import strategies as st

KERNELS = (box, gaussian, exponential, median)


def rows(t: int, k: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(k), size=t)


def weighted(values: np.ndarray, weight: Callable[[int], float]) -> np.ndarray:
    """The mean over all frames of a video, written out."""
    t = len(values)
    weights = np.array([[weight(abs(i - j)) for j in range(t)] for i in range(t)])
    return weights @ values / weights.sum(axis=1, keepdims=True)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 30).map(lambda half: 2 * half + 1), st.integers(0, 50))
def test_windows_are_means_over_the_frames_that_are_there(t, window, seed):
    values = rows(t, seed=seed)
    inside = lambda distance: float(distance <= window // 2)  # noqa: E731
    bell = lambda distance: inside(distance) * np.exp(-0.5 * (distance / (window / 6)) ** 2)  # noqa: E731
    decay = (window - 1) / (window + 1)
    np.testing.assert_allclose(box(values, window), weighted(values, inside), atol=1e-9)
    np.testing.assert_allclose(gaussian(values, window), weighted(values, bell), atol=1e-9)
    np.testing.assert_allclose(exponential(values, window), weighted(values, lambda d: decay**d), atol=1e-9)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 30).map(lambda half: 2 * half + 1), st.integers(0, 50))
def test_the_median_is_that_of_the_frames_that_are_there(t, window, seed):
    values = rows(t, seed=seed)
    found = median(values, window)
    for i in range(t):
        part = np.sort(values[max(0, i - window // 2) : i + window // 2 + 1], axis=0)
        middles = {(len(part) - 1) // 2, len(part) // 2}
        fitting = [part[m] / part[m].sum() for m in middles]
        assert min(np.abs(found[i] - fit).max() for fit in fitting) < 1e-9


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_stay_probabilities_and_a_window_of_one_changes_nothing(kernel):
    values = rows(50)
    for window in (1, 5, 51, 999):
        found = kernel(values, window)
        assert (found >= 0).all()
        np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(kernel(values, 1), values, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_does_not_change_over_time_is_left_alone_and_time_has_no_direction(kernel):
    still = np.tile(rows(1), (20, 1))
    np.testing.assert_allclose(kernel(still, 7), still)
    values = rows(21)
    if kernel is not median:  # an even number of frames at an end has two middles, and the two ends take different ones
        np.testing.assert_allclose(kernel(values[::-1], 7)[::-1], kernel(values, 7), atol=1e-12)


def test_a_median_of_nothing_keeps_the_row_and_says_so(caplog):
    certain = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    with caplog.at_level(logging.WARNING):
        found = median(certain, 3)
    assert (found[1:5] == certain[1:5]).all()
    assert "keep their own row" in caplog.text
