from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.statistics.intervals import percentile
from cer_fusion.fusion.judging.statistics.paired import bootstrap_p, holm, mcnemar, sign_test
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_sign_test_equals_the_exact_binomial_test(wins, losses):
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test(wins, losses) == pytest.approx(expected)


def test_the_sign_test_is_exact_far_out_in_the_tail():
    assert sign_test(0, 100) == 2 / 2**100
    assert sign_test(3000, 2000) == pytest.approx(binomtest(2000, 5000).pvalue)


def test_mcnemar_counts_the_rows_only_one_head_got_right():
    y = np.array([0, 0, 0, 0, 1, 1])
    found = mcnemar(y, np.array([0, 0, 0, 1, 1, 0]), np.array([1, 1, 0, 0, 0, 0]))
    assert (found.only_first, found.only_second) == (3, 1)
    assert found.p == pytest.approx(0.625)


def test_mcnemar_of_a_head_against_itself_sees_no_difference():
    y = np.array([0, 1, 1])
    assert mcnemar(y, y, y).p == 1.0


def test_mcnemar_refuses_other_rows():
    with pytest.raises(ReportError, match="same rows"):
        mcnemar(np.array([0]), np.array([0]), np.array([0, 1]))


def test_holm_on_the_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_lies_between_the_raw_values_and_bonferronis(p_values):
    adjusted = holm(p_values)
    for raw, new in zip(p_values, adjusted, strict=True):
        assert raw <= new <= min(1.0, raw * len(p_values)) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all() if p_values else adjusted == []


@settings(deadline=None)
@given(st.integers(0, 999), st.floats(-0.04, 0.04))
def test_a_bootstrap_p_value_says_what_the_percentile_interval_says(seed, shift):
    draws = np.random.default_rng(seed).normal(shift, 0.01, 999)
    p = bootstrap_p(draws)
    interval = percentile(draws, 0.9)
    if abs(p - 0.1) > 0.01:  # counts and quantiles may round apart next to the level itself
        assert (0 not in interval) == (p < 0.1)


def test_bootstrap_p_values_are_never_zero_and_no_difference_is_certain():
    assert bootstrap_p(np.ones(999)) == pytest.approx(2 / 1000)
    assert bootstrap_p(np.zeros(999)) == 1
    assert bootstrap_p(-np.arange(1.0, 100)) == bootstrap_p(np.arange(1.0, 100))
