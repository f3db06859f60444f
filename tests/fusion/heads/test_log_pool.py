from __future__ import annotations

import numpy as np
import pytest
from cer_fusion.fusion.heads.base import softmax
from cer_fusion.fusion.heads.log_pool import learned_factors, pooled
from hypothesis import given, settings
from hypothesis import strategies as st


def world(seed: int, n: int = 3000, scale: tuple[float, ...] = (1.0, 1.0)) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated members that err independently, made too sure or too unsure by `scale`, and the truth."""
    random = np.random.default_rng(seed)
    codes = random.integers(4, size=n)
    logits = [1.5 * np.eye(4)[codes] + random.normal(size=(n, 4)) * np.sqrt(1.5) for _ in scale]
    return np.stack([softmax(s * one) for s, one in zip(scale, logits, strict=True)]), codes


def test_independent_calibrated_members_count_once_each():
    planes, codes = world(0, n=20_000)
    assert learned_factors(planes, codes) == pytest.approx([1, 1], abs=0.08)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.3, 3))
def test_a_member_that_is_too_sure_by_a_factor_counts_so_much_less(factor):
    plain, codes = world(1)
    sure, _ = world(1, scale=(1.0, factor))
    expected = learned_factors(plain, codes) / [1, factor]
    np.testing.assert_allclose(learned_factors(sure, codes), expected, rtol=0.02, atol=0.01)


def test_factors_are_where_likelihood_times_prior_is_largest():
    planes, codes = world(2, n=400, scale=(0.5, 2.0))

    def loss(factors: np.ndarray) -> float:
        likelihood = np.log(pooled(planes, factors)[np.arange(400), codes]).sum()
        return float(((factors - 0.5) ** 2).sum() / 2 - likelihood)

    best = learned_factors(planes, codes)
    for step in ([0.02, 0], [-0.02, 0], [0, 0.02], [0, -0.02]):
        assert loss(best) <= loss(np.maximum(best + step, 0))


def test_members_that_are_never_wrong_on_few_rows_get_no_boundless_factors():
    planes = np.stack([softmax(2 * np.eye(3)[np.arange(6) % 3])] * 2)
    factors = learned_factors(planes, np.arange(6) % 3)
    assert factors[0] == pytest.approx(factors[1])
    assert 0.5 < factors[0] < 4


def test_members_that_know_nothing_count_alike():
    planes = np.full((3, 30, 2), 0.5)
    factors = learned_factors(planes, np.arange(30) % 2)
    assert len(set(factors)) == 1
    np.testing.assert_allclose(pooled(planes, factors), 0.5)
    against = np.stack([softmax(5 * np.eye(2)[1 - np.arange(30) % 2])] * 2)
    assert learned_factors(against, np.arange(30) % 2) == pytest.approx([0.5, 0.5])


def test_an_impossible_answer_of_one_member_does_not_silence_the_others():
    planes = np.array([[[1.0, 0.0]], [[0.4, 0.6]]])
    assert np.isfinite(pooled(planes, np.ones(2))).all()
