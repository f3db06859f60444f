from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.fusion.judging.diagnosis.agreement import agreement
from cer_fusion.fusion.judging.statistics.kappa import cohen_kappa
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

answers = st.integers(2, 30).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 3), min_size=n, max_size=n), min_size=3, max_size=4).map(np.array)
)


@settings(deadline=None)
@given(answers)
def test_kappa_is_scikit_learns(called):
    y, *heads = called
    found = agreement(y, {f"h{i}": head for i, head in enumerate(heads)}, 4)
    for i, one in enumerate(heads):
        for j, other in enumerate(heads):
            if len({*one.tolist(), *other.tolist()}) > 1:
                expected = cohen_kappa_score(one, other, labels=range(4))
                assert found.kappa[i][j] == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(answers)
def test_no_head_exceeds_the_oracle_and_the_parts_add_up(called):
    y, *heads = called
    found = agreement(y, {f"h{i}": head for i, head in enumerate(heads)}, 4)
    assert found.oracle >= max(found.accuracy) - 1e-12
    assert found.all_right <= min(found.accuracy) + 1e-12
    for i, mine in enumerate(found.accuracy):
        assert found.disagreement[i][i] == 0
        assert found.double_fault[i][i] == pytest.approx(1 - mine)
        for j, other in enumerate(found.accuracy):
            wrong = (1 - mine) + (1 - other)
            assert 2 * found.double_fault[i][j] + found.disagreement[i][j] == pytest.approx(wrong)


def test_figures_by_hand():
    y = np.array([0, 0, 1, 1])
    found = agreement(y, {"one": np.array([0, 0, 0, 0]), "other": np.array([1, 0, 1, 0])}, 2)
    assert (found.oracle, found.all_right) == (0.75, 0.25)
    assert found.disagreement[0][1] == 0.5
    assert found.double_fault[0][1] == 0.25


def test_kappa_of_two_heads_that_always_say_the_same_is_undefined():
    assert cohen_kappa(np.diag([5, 0, 0])) is None
