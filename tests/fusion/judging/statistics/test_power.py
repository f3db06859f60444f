from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.statistics.paired import sign_test
from cer_fusion.fusion.judging.statistics.power import smallest_difference, smallest_shift


def test_mcnemars_test_finds_the_smallest_shift_about_as_often_as_promised():
    n, discordance = 400, 0.2
    shift = smallest_shift(n, discordance, power=0.8)
    rng = np.random.default_rng(0)
    apart = rng.binomial(n, discordance, size=1500)
    wins = rng.binomial(apart, (1 + shift / discordance) / 2)
    found = np.mean([sign_test(w, a - w) <= 0.05 for w, a in zip(wins.tolist(), apart.tolist(), strict=True)])
    assert 0.72 < found < 0.84  # the exact test is a little shy


@pytest.mark.parametrize("discordance", [0.05, 0.2, 0.6])
def test_the_smallest_shift_solves_connors_equation(discordance):
    d = smallest_shift(500, discordance)
    needed = (1.959964 * discordance**0.5 + 0.841621 * (discordance - d**2) ** 0.5) ** 2 / d**2
    assert needed == pytest.approx(500, rel=1e-4)


def test_more_rows_show_smaller_differences_and_heads_that_hardly_differ_show_none():
    assert smallest_shift(4000, 0.2) < smallest_shift(400, 0.2)
    assert smallest_shift(50, 0.02) is None
    assert smallest_shift(50, 0.0) is None


def test_a_z_test_finds_the_smallest_difference_as_often_as_promised():
    shift = smallest_difference(0.02, power=0.9)
    estimates = np.random.default_rng(1).normal(shift, 0.02, 20_000)
    assert np.mean(np.abs(estimates) > 1.959964 * 0.02) == pytest.approx(0.9, abs=0.01)


def test_impossible_questions_are_refused():
    with pytest.raises(ReportError, match="discordance of 0-1"):
        smallest_shift(10, 1.5)
    with pytest.raises(ReportError, match="between 0 and 1"):
        smallest_difference(0.1, power=1.0)
