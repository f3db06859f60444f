from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.statistics.letters import display, enough, letters_of
from hypothesis import given, settings
from hypothesis import strategies as st


@st.composite
def differences(draw: st.DrawFn) -> np.ndarray:
    h = draw(st.integers(1, 7))
    differ = np.zeros((h, h), bool)
    for i in range(h):
        for j in range(i):
            differ[i, j] = differ[j, i] = draw(st.booleans())
    return differ


@settings(deadline=None)
@given(differences(), st.randoms())
def test_two_columns_share_a_letter_exactly_if_they_do_not_differ(differ, random):
    order = list(range(len(differ)))
    random.shuffle(order)
    found = display(differ, order)
    for i, mine in enumerate(found):
        assert mine
        for j, other in enumerate(found):
            assert bool(set(mine) & set(other)) != differ[i, j]
    assert "a" in found[order[0]]


def test_the_classic_chain_reads_a_ab_b():
    differ = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], bool)
    assert display(differ, [2, 1, 0]) == ["b", "ab", "a"]


def test_columns_far_apart_get_letters_of_their_own_and_near_ones_share():
    rng = np.random.default_rng(0)
    draws = np.array([0.5, 0.7, 0.701]) + rng.normal(scale=0.01, size=(2000, 3))
    assert letters_of(draws, [0.5, 0.7, 0.701], 0.05) == ["b", "a", "a"]


def test_too_few_resamples_are_refused_because_they_would_call_everything_alike():
    assert enough(10_000, 20, 0.05)
    assert not enough(2000, 12, 0.05)
    with pytest.raises(ReportError, match=r"100 resamples cannot tell 4 columns apart.*\n.*at least 240"):
        letters_of(np.zeros((100, 4)), [0, 0, 0, 0], 0.05)
