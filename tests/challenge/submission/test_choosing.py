from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.challenge.submission import choose_by_prior
from cer_fusion.challenge.submission.tables import candidates_table
from cer_fusion.fusion.errors import SubmissionError
from cer_fusion.fusion.page.table import render

from tests.challenge.submission.templates import CHALLENGE


def test_the_answers_spread_most_like_the_prior_are_chosen():
    near = np.repeat(np.arange(7), np.array(CHALLENGE.prior_counts) // 100)
    even = np.arange(near.size) % 7
    ranked = choose_by_prior({"one class": np.zeros_like(near), "even": even, "near": near}, CHALLENGE)
    assert [one.name for one in ranked] == ["near", "even", "one class"]
    assert ranked[0].divergence < 1e-4
    text = render(candidates_table(ranked), "markdown")
    assert "Chosen: near." in text
    assert "a model that answers at random with the right frequencies would win" in text


def test_equal_candidates_keep_their_order():
    y = np.arange(7)
    assert [one.name for one in choose_by_prior({"b": y, "a": y[::-1]}, CHALLENGE)] == ["b", "a"]


def test_candidates_must_answer_the_same_frames():
    with pytest.raises(SubmissionError, match="a 7, b 6"):
        choose_by_prior({"a": np.arange(7), "b": np.arange(6)}, CHALLENGE)
    with pytest.raises(SubmissionError, match="two candidates or more, however: 1"):
        choose_by_prior({"a": np.arange(7)}, CHALLENGE)
