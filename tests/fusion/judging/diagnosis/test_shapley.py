from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.diagnosis.shapley import left_out, shapley
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

games = st.integers(1, 5).flatmap(lambda p: arrays(np.float64, 1 << p, elements=st.floats(-1, 1, width=32)))


def players(values: np.ndarray) -> int:
    return len(values).bit_length() - 1


@settings(deadline=None)
@given(games)
def test_the_values_sum_to_what_all_players_bring(values):
    assert shapley(values).sum() == pytest.approx(values[-1] - values[0], abs=1e-9)


@settings(deadline=None)
@given(games)
def test_they_are_the_mean_gain_over_all_orders(values):
    p = players(values)
    gains = np.zeros(p)
    orders = list(permutations(range(p)))
    for order in orders:
        there = 0
        for i in order:
            gains[i] += values[there | 1 << i] - values[there]
            there |= 1 << i
    np.testing.assert_allclose(shapley(values), gains / len(orders), atol=1e-9)


@settings(deadline=None)
@given(games)
def test_a_player_that_changes_nothing_gets_nothing(values):
    p = players(values)
    longer = np.concatenate([values, values])  # the new player is the highest bit, and is never missed
    found = shapley(longer)
    assert found[p] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found[:p], shapley(values), atol=1e-9)
    assert left_out(longer)[p] == 0


@settings(deadline=None)
@given(games.filter(lambda values: len(values) >= 4))
def test_players_that_could_be_exchanged_get_the_same(values):
    numbers = np.arange(len(values))
    swapped = numbers & ~3 | (numbers & 1) << 1 | (numbers & 2) >> 1
    found = shapley((values + values[swapped]) / 2)
    assert found[0] == pytest.approx(found[1], abs=1e-9)


def test_resamples_are_taken_line_by_line():
    values = np.random.default_rng(0).random((7, 8))
    np.testing.assert_allclose(shapley(values), [shapley(line) for line in values])
    np.testing.assert_allclose(left_out(values), [[v[7] - v[6], v[7] - v[5], v[7] - v[3]] for v in values])


@pytest.mark.parametrize("count", [1, 3, 6])
def test_other_numbers_of_subsets_are_refused(count):
    with pytest.raises(ReportError, match=f"however: {count} values"):
        shapley(np.zeros(count))
