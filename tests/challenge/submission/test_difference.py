from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.challenge.submission import Submission, difference
from cer_fusion.fusion.errors import SubmissionError
from cer_fusion.fusion.judging.statistics.kappa import cohen_kappa
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.challenge.submission.templates import CHALLENGE, names_of

NAMES = tuple(names_of({"01": 4, "02": 2}))


def test_two_submissions_are_compared_frame_by_frame_whatever_their_order():
    first = Submission(names=NAMES, y=np.array([0, 0, 1, 1, 5, 5]))
    second = Submission(names=NAMES[::-1], y=np.array([5, 6, 1, 0, 1, 0]))
    found = difference(first, second, CHALLENGE)
    assert found.agreement == pytest.approx(3 / 6)
    one, two = found.videos
    assert (one.video, one.rows, one.flips, one.changes) == ("01", 4, 2, (1, 3))
    assert (two.video, two.rows, two.flips, two.changes) == ("02", 2, 1, (0, 1))
    assert found.confusion[0].tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert found.to_dict(CHALLENGE)["rows"] == 6


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=6, max_size=6))
def test_kappa_is_scikit_learns(pairs):
    from sklearn.metrics import cohen_kappa_score

    a, b = np.array(pairs).T
    found = difference(Submission(names=NAMES, y=a), Submission(names=NAMES, y=b), CHALLENGE).kappa
    if len({*a.tolist(), *b.tolist()}) == 1:
        assert found is None
    else:
        assert found == pytest.approx(cohen_kappa_score(a, b))


def test_kappa_is_one_for_equals_and_nothing_by_chance():
    assert cohen_kappa(np.diag([3, 4])) == pytest.approx(1)
    assert cohen_kappa(np.full((2, 2), 5)) == pytest.approx(0)


def test_different_frames_cannot_be_compared():
    first = Submission(names=NAMES, y=np.zeros(6, dtype=np.int64))
    second = Submission(names=NAMES[:5], y=np.zeros(5, dtype=np.int64))
    with pytest.raises(SubmissionError, match=r"1 stand in one only \(first: 02/00002.jpg, in the first\)"):
        difference(first, second, CHALLENGE)
