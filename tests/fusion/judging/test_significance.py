"""Paired tests, letters, power and optimism."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from benchmarks.coverage import EVEN, GOOD, World, coverage, false_letters, false_sets, flattery, rejections
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.metrics import scores
from cer_fusion.fusion.judging.resampling import percentile
from cer_fusion.fusion.judging.significance import (
    Exchange,
    bootstrap_p,
    display,
    exchange,
    holm,
    letters_of,
    mcnemar,
    not_worse,
    optimism,
    sign_test,
    smallest_difference,
    smallest_shift,
)


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


def answers_of(shares: list[float], y: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    """(h, 1, n) answers, each head right on its share of the rows, chosen by one draw: the best knows all others do."""
    rng = np.random.default_rng(seed)
    luck, wrong = rng.random(y.size), (y + rng.integers(1, k, y.size)) % k
    return np.stack([np.where(luck < share, y, wrong) for share in shares])[:, None]


def test_columns_far_apart_get_letters_of_their_own_and_near_ones_share():
    y = np.arange(400) % 4
    p = answers_of([0.5, 0.7, 0.702], y, 4)
    pairs = [(0, 1), (0, 2), (1, 2)]
    found = exchange(y, p, 4, pairs, draws=500).adjusted().tolist()
    assert letters_of(dict(zip(pairs, found, strict=True)), [0.5, 0.7, 0.702], 0.05) == ["b", "a", "a"]


def test_an_exchange_is_scored_like_the_answers_that_changed_hands():
    """Two runs a head; the difference over its standard error, by hand, from the same signs."""
    rng = np.random.default_rng(3)
    member = np.concatenate([np.arange(12), rng.integers(0, 12, 78)])
    groups = [f"v{i}" for i in member]
    y = rng.integers(0, 4, 90)
    p = np.where(rng.random((2, 2, 90)) < 0.6, y, rng.integers(0, 5, (2, 2, 90)))
    p[1, :, member < 3] = p[0, :, member < 3]  # groups that both answer alike
    found = exchange(y, p, 5, [(0, 1)], groups=groups, draws=4, seed=8)
    moves = np.random.default_rng(8).integers(0, 2, size=(4, 12)).astype(bool)
    for moved, t in zip([np.zeros(12, bool), *moves], [found.t[0], *found.null[:, 0]], strict=True):
        swapped = np.where(moved[member], p[::-1], p)
        parts = np.zeros((12, 2))
        score = []
        for h in range(2):
            f1 = [scores(y, run, "abcde") for run in swapped[h]]
            score.append(np.mean([one.macro_f1 for one in f1]))
            for run, one in zip(swapped[h], f1, strict=True):
                whole = one.supports + one.confusion.sum(axis=0)
                for g in range(12):
                    mine = scores(y[member == g], run[member == g], "abcde")
                    share = mine.supports + mine.confusion.sum(axis=0)
                    parts[g, h] += ((2 * mine.correct - one.f1 * share) / whole).mean() / 2
        expected = abs(score[0] - score[1]) / np.sqrt(((parts[:, 0] - parts[:, 1]) ** 2).sum())
        assert t == pytest.approx(expected)


def test_independent_rows_change_hands_as_groups_of_one_row_do():
    y = np.arange(60) % 3
    p = answers_of([0.5, 0.7], y, 3)
    alone = exchange(y, p, 3, [(0, 1)], draws=50)
    assert (alone.null == exchange(y, p, 3, [(0, 1)], groups=[f"{i:02d}" for i in range(60)], draws=50).null).all()
    assert alone.floor == pytest.approx(1 / 51)


def test_a_head_changes_hands_with_itself_and_nothing_shows():
    y = np.arange(30) % 3
    p = answers_of([0.6, 0.6], y, 3)
    found = exchange(y, p, 3, [(0, 1)], draws=20)
    assert found.p().tolist() == found.adjusted().tolist() == [1.0]


@settings(deadline=None)
@given(st.integers(0, 999), st.integers(1, 8))
def test_pairs_corrected_together_are_no_surer_than_alone_and_keep_their_order(seed, pairs):
    rng = np.random.default_rng(seed)
    found = Exchange(np.abs(rng.normal(size=pairs)) * 2, np.abs(rng.normal(size=(99, pairs))))
    assert (found.adjusted() >= found.p() - 1e-12).all()
    assert (found.adjusted() <= 1).all()
    assert (np.diff(found.adjusted()[np.argsort(-found.t)]) >= 0).all()
    weakest = found.t.argmin()
    assert found.adjusted()[weakest] >= found.p()[weakest]


def test_the_set_of_the_best_leaves_out_what_chance_does_not_explain():
    noise = np.random.default_rng(0).normal(scale=0.01, size=(2000, 4))
    assert not_worse(np.array([0.5, 0.7, 0.71, 0.1]), noise, 0.05).tolist() == [False, True, True, False]
    assert not_worse(np.array([0.5]), noise[:, :1], 0.05).tolist() == [True]


def test_dropping_the_worst_one_by_one_is_what_the_set_of_the_best_does():
    rng = np.random.default_rng(1)
    for _ in range(30):
        values, noise = rng.normal(scale=0.02, size=12), rng.normal(scale=0.01, size=(200, 12))
        left = list(range(12))
        while len(left) > 1:
            spread = np.ptp(noise[:, left], axis=1)
            if ((spread >= np.ptp(values[left])).sum() + 1) / 201 > 0.05:
                break
            left.remove(min(left, key=lambda i: values[i]))
        assert np.flatnonzero(not_worse(values, noise, 0.05)).tolist() == left


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


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.integers(0, 99))
def test_the_best_never_looks_worse_for_having_been_chosen(values, seed):
    draws = np.array(values) + np.random.default_rng(seed).normal(scale=0.05, size=(200, len(values)))
    assert optimism(draws, values) >= 0
    assert optimism(draws[:, :1], values[:1]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("world", [World(groups=None), World(groups=56), World(groups=56, smooth=True)])
def test_the_optimism_of_the_best_of_ten_equal_heads_is_what_it_shows_within_a_fifth(world):
    """150 experiments: what the best shows above all heads' common level, against what the estimate says."""
    shown, said = flattery(world, heads=10, runs=150)
    assert 0.8 < said / shown < 1.2


@pytest.mark.parametrize(("groups", "least"), [(30, 0.9), (56, 0.93)])
def test_intervals_over_groups_cover_the_truth_as_often_as_they_say(groups, least):
    """7 unbalanced classes, videos of mostly one; percentiles of resampled groups cover .69 and .80 here."""
    found = coverage(World(groups=groups), runs=400, before=False)
    assert found["macro_f1"] >= least
    assert found["accuracy"] >= least


@pytest.mark.parametrize("world", [World(groups=30), World(groups=15, shares=EVEN, recall=GOOD[::-1])])
def test_equal_heads_are_told_apart_by_exchanged_groups_as_rarely_as_promised(world):
    """1,000 experiments at 5 %; resampled groups told 7 to 9 % apart. 4,000 and more worlds: `benchmarks.coverage`."""
    assert 0.03 <= rejections(world, 1000, draws=199) <= 0.065


@pytest.mark.parametrize(("groups", "heads"), [(None, 10), (30, 10), (30, 66)])
def test_no_vector_of_many_equal_ones_is_told_from_the_best_more_often_than_promised(groups, heads):
    assert false_sets(World(groups=groups, smooth=True), heads, 200, draws=199) <= 0.06


def test_no_letters_tell_equal_heads_apart_more_often_than_promised():
    assert false_letters(World(groups=30, smooth=True), 6, 300, draws=199) <= 0.07


def test_a_clear_winner_needs_no_correction():
    draws = np.array([0.9, 0.2]) + np.random.default_rng(0).normal(scale=0.01, size=(500, 2))
    assert optimism(draws, [0.9, 0.2]) == pytest.approx(0, abs=1e-9)
