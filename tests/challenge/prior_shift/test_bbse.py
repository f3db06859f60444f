from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.challenge.prior_shift import bbse_prior
from cer_fusion.fusion.errors import PriorShiftError
from cer_fusion.fusion.judging.metrics import confusion_matrix
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.challenge.prior_shift.test_em import priors
from tests.challenge.prior_shift.worlds import calibrated, world

NAMES = ("a", "b", "c")


def decisions(points: np.ndarray) -> np.ndarray:
    """Decisions of a head that is too sure and too fond of the first class: BBSE need not have it calibrated."""
    return (calibrated(points, np.array([0.6, 0.2, 0.2])) ** 3).argmax(axis=1)


@settings(deadline=None, max_examples=25)
@given(priors, priors, st.integers(0, 99))
def test_bbse_recovers_a_shifted_prior_from_any_head(source, target, seed):
    known, y_known = world(source, 6000, seed)
    new, y_new = world(target, 6000, seed + 1000)
    found, _ = bbse_prior(confusion_matrix(y_known, decisions(known), 3), decisions(new), NAMES)
    np.testing.assert_allclose(found, np.bincount(y_new, minlength=3) / y_new.size, atol=0.08)


@settings(deadline=None)
@given(st.integers(0, 99))
def test_nothing_changes_on_the_validation_rows_themselves(seed):
    points, y = world(np.array([0.5, 0.3, 0.2]), 500, seed)
    found, raised = bbse_prior(confusion_matrix(y, decisions(points), 3), decisions(points), NAMES)
    np.testing.assert_allclose(found, np.bincount(y, minlength=3) / y.size)
    assert raised == ()


def test_a_weight_below_nothing_is_raised_and_named():
    confusion = np.array([[80, 20, 0], [20, 80, 0], [0, 0, 100]])
    found, raised = bbse_prior(confusion, np.zeros(50, dtype=np.int64), NAMES)
    assert raised == ("b", "c")
    assert (found > 0).all()
    assert found[0] > 0.99


@pytest.mark.parametrize(
    ("confusion", "message"),
    [
        ([[5, 5, 0], [5, 5, 0], [0, 0, 0]], "class 'c' has no validation row"),
        ([[5, 5, 0], [5, 5, 0], [4, 6, 0]], "class 'c' is never decided"),
        ([[5, 5, 0], [5, 5, 0], [0, 0, 9]], "tell too little about the truth"),
    ],
)
def test_a_confusion_matrix_that_says_nothing_is_refused(confusion, message):
    with pytest.raises(PriorShiftError, match=message):
        bbse_prior(np.array(confusion), np.array([0, 1, 2]), NAMES)
