from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.fusion.judging.metrics import scores
from cer_fusion.fusion.judging.statistics.intervals import bootstrap
from cer_fusion.fusion.judging.statistics.optimism import optimism
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(0, 99))
def test_the_best_never_looks_worse_for_having_been_chosen(values, seed):
    draws = np.array(values) + np.random.default_rng(seed).normal(scale=0.05, size=(200, len(values)))
    assert optimism(draws, values) >= 0
    assert optimism(draws[:, :1], values[:1]) == pytest.approx(0, abs=1e-12)


def test_of_many_heads_that_guess_the_best_flatters_by_what_the_bootstrap_says():
    """All heads are right with probability 1/2, so whatever the best one shows above 1/2 is flattery."""
    rng = np.random.default_rng(0)
    shown, said = [], []
    for _ in range(40):
        y = np.arange(120) % 2
        p = np.where(rng.random((8, 120)) < 0.5, y, 1 - y)
        draws = bootstrap(y, p, 2, resamples=300)
        values = [scores(y, one, "ab").macro_f1 for one in p]
        shown.append(max(values) - 0.5)
        said.append(optimism(draws.macro_f1, values))
    assert 0.5 * np.mean(shown) < np.mean(said) < 1.5 * np.mean(shown)


def test_a_clear_winner_needs_no_correction():
    draws = np.array([0.9, 0.2]) + np.random.default_rng(0).normal(scale=0.01, size=(500, 2))
    assert optimism(draws, [0.9, 0.2]) == pytest.approx(0, abs=1e-9)
