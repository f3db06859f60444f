"""Intervals from resampled rows and groups."""

from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.metrics import scores
from cer_fusion.fusion.judging.resampling import Interval, bootstrap, clustered, percentile, wilson


def flipped(y: np.ndarray, share: float, k: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(y.size) < share, rng.integers(0, k, y.size), y)


@pytest.mark.parametrize(("correct", "low", "high"), [(310, 73.8, 81.9), (321, 76.7, 84.4)])
def test_wilson_gives_the_papers_intervals(correct, low, high):
    found = wilson(correct, 397)
    assert (round(100 * found.low, 1), round(100 * found.high, 1)) == (low, high)


def test_the_papers_vit_and_ensemble_overlap():
    assert wilson(310, 397).high > wilson(321, 397).low


@pytest.mark.parametrize(("correct", "n"), [(0, 5), (5, 5), (1, 1), (0, 1), (17, 400)])
def test_wilson_stays_in_bounds_and_holds_the_share(correct, n):
    found = wilson(correct, n)
    assert 0 <= found.low < found.high <= 1
    assert found.low <= correct / n + 1e-12
    assert found.high >= correct / n - 1e-12


def test_wilson_refuses_what_is_no_proportion():
    for correct, n in [(1, 0), (3, 2), (-1, 2)]:
        with pytest.raises(ReportError, match="proportion"):
            wilson(correct, n)


def test_an_interval_of_a_higher_level_is_wider():
    narrow, wide = wilson(30, 40, 0.8), wilson(30, 40, 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_bootstrap_resample_is_scored_like_the_rows_it_drew():
    """Draw the same rows by hand, from the same generator, and score them with the plain metrics."""
    y = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    p = np.stack([flipped(y, 0.6, 3, seed) for seed in range(4)])
    found = bootstrap(y, p, 3, resamples=5, seed=3)
    rng = np.random.default_rng(3)
    drawn = [np.flatnonzero(y == c)[rng.integers(0, n, size=(5, n))] for c, n in enumerate([3, 4, 1])]
    for r in range(5):
        rows = np.concatenate([part[r] for part in drawn])
        for h in range(4):
            expected = scores(y[rows], p[h, rows], "abc")
            assert found.accuracy[r, h] == pytest.approx(expected.accuracy)
            assert found.macro_f1[r, h] == pytest.approx(expected.macro_f1)


def test_groups_are_drawn_whole():
    y = np.array([0, 0, 1, 1, 1, 0])
    p = np.array([[0, 1, 1, 1, 0, 0]])
    groups = ["a", "a", "b", "b", "b", "c"]
    found = bootstrap(y, p, 2, groups=groups, resamples=6, seed=1)
    members = [np.flatnonzero(np.array(groups) == name) for name in "abc"]
    for r, picks in enumerate(np.random.default_rng(1).integers(0, 3, size=(6, 3))):
        rows = np.concatenate([members[g] for g in picks])
        assert found.accuracy[r, 0] == pytest.approx(scores(y[rows], p[0, rows], "ab").accuracy)
        assert found.macro_f1[r, 0] == pytest.approx(scores(y[rows], p[0, rows], "ab").macro_f1)


def test_groups_of_one_row_each_are_no_groups():
    y = np.array([0, 1, 0, 1, 1])
    p = np.array([[0, 1, 1, 1, 0]])
    assert not clustered(list("abcde"))
    alone = bootstrap(y, p, 2, groups=list("abcde"), seed=5)
    assert (alone.macro_f1 == bootstrap(y, p, 2, seed=5).macro_f1).all()


def test_wide_groups_make_wider_intervals():
    y = np.tile([0, 1], 100)
    hit = np.repeat(np.random.default_rng(0).random(20) < 0.7, 10)
    p = np.where(hit, y, 1 - y)[None]
    by_row = bootstrap(y, p, 2).interval("accuracy", 0)
    by_group = bootstrap(y, p, 2, groups=[f"v{i // 10}" for i in range(200)]).interval("accuracy", 0)
    assert by_group.high - by_group.low > 1.5 * (by_row.high - by_row.low)


def test_the_same_seed_gives_the_same_draws_and_another_seed_others():
    y = np.arange(30) % 3
    p = flipped(y, 0.4, 3, 0)[None]
    first, again, other = (bootstrap(y, p, 3, resamples=50, seed=seed).macro_f1 for seed in (7, 7, 8))
    assert (first == again).all()
    assert (first != other).any()


def test_draws_do_not_depend_on_how_they_are_chunked(monkeypatch):
    y = np.arange(30) % 3
    p = np.stack([flipped(y, 0.4, 3, seed) for seed in range(3)])
    whole = bootstrap(y, p, 3, groups=["a", "b", "c"] * 10, resamples=40)
    monkeypatch.setattr("cer_fusion.fusion.judging.resampling.CELLS", 1)
    assert np.allclose(whole.macro_f1, bootstrap(y, p, 3, groups=["a", "b", "c"] * 10, resamples=40).macro_f1)


def test_a_set_of_predictions_scores_the_same_alone_and_among_others():
    y = np.arange(40) % 4
    p = np.stack([flipped(y, 0.5, 4, seed) for seed in range(5)])
    together = bootstrap(y, p, 4, resamples=30)
    for h in range(5):
        assert np.allclose(together.macro_f1[:, h], bootstrap(y, p[[h]], 4, resamples=30).macro_f1[:, 0])


@pytest.mark.parametrize("groups", [None, ["a", "b", "c", "d"] * 10])
def test_few_and_many_sets_of_predictions_are_scored_alike(monkeypatch, groups):
    y = np.arange(40) % 4
    p = np.stack([flipped(y, 0.5, 5, seed) for seed in range(5)])  # class 4 has no row
    few = bootstrap(y, p, 5, groups=groups, resamples=30)
    monkeypatch.setattr("cer_fusion.fusion.judging.resampling._FEW", 0)
    many = bootstrap(y, p, 5, groups=groups, resamples=30)
    np.testing.assert_allclose(few.accuracy, many.accuracy, rtol=1e-6)
    np.testing.assert_allclose(few.macro_f1, many.macro_f1, rtol=1e-6)


def test_runs_of_a_head_are_averaged_on_each_resample():
    y = np.arange(40) % 4
    p = np.stack([flipped(y, 0.5, 4, seed) for seed in range(6)])
    draws = bootstrap(y, p, 4, resamples=30)
    np.testing.assert_allclose(draws.averaged(3).macro_f1[:, 1], draws.macro_f1[:, 3:].mean(axis=1))
    np.testing.assert_allclose(draws.averaged(3).accuracy[:, 0], draws.accuracy[:, :3].mean(axis=1))


def test_a_head_differs_from_itself_by_nothing():
    y = np.arange(40) % 4
    p = flipped(y, 0.5, 4, 0)
    assert bootstrap(y, np.stack([p, p]), 4).difference("macro_f1", 0, 1) == Interval(0.0, 0.0)


def test_a_paired_difference_is_narrower_than_two_intervals_suggest():
    y = np.arange(400) % 4
    base = flipped(y, 0.4, 4, 0)
    better = np.where(np.arange(400) % 20 == 0, y, base)
    draws = bootstrap(y, np.stack([better, base]), 4)
    paired = draws.difference("accuracy", 0, 1)
    alone = draws.interval("accuracy", 0)
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)
    assert paired.low > 0


def test_bootstrap_intervals_of_accuracy_cover_the_truth_about_as_often_as_they_say():
    """300 experiments of 240 rows with a known accuracy of 0.7; 95 % nominal, exact binomial 3-sigma is 91.2-98.8 %."""
    rng = np.random.default_rng(11)
    y = np.arange(240) % 3
    covered = 0
    for trial in range(300):
        p = np.where(rng.random(y.size) < 0.7, y, (y + 1) % 3)
        covered += 0.7 in bootstrap(y, p[None], 3, resamples=300, seed=trial).interval("accuracy", 0)
    assert 0.90 <= covered / 300 <= 0.99


def test_percentiles_are_of_the_draws():
    found = percentile(np.linspace(0, 1, 101), 0.9)
    assert (found.low, found.high, found.level) == (pytest.approx(0.05), pytest.approx(0.95), 0.9)


def test_predictions_of_another_length_are_refused():
    with pytest.raises(ReportError, match=r"shape \(h, n\)"):
        bootstrap(np.array([0, 1]), np.array([[0, 1, 1]]), 2)


def test_intervals_of_macro_f1_and_of_paired_differences_cover_the_truth_about_as_often_as_they_say():
    """Two heads of known confusion; the truth is their macro F1 on a large sample of the same class shares."""
    rng = np.random.default_rng(5)
    recall = np.array([[0.8, 0.5, 0.6], [0.7, 0.6, 0.6]])

    def answers(y: np.ndarray) -> np.ndarray:
        wrong = (y + rng.integers(1, 3, y.size)) % 3
        return np.where(rng.random((2, y.size)) < recall[:, y], y, wrong)

    large = np.repeat([0, 1, 2], [60_000, 30_000, 30_000])
    truth = [scores(large, p, "abc").macro_f1 for p in answers(large)]
    y = np.repeat([0, 1, 2], [100, 50, 50])
    covered = []
    for _ in range(200):
        draws = bootstrap(y, answers(y), 3, resamples=300)
        covered.append(
            (truth[0] in draws.interval("macro_f1", 0), truth[0] - truth[1] in draws.difference("macro_f1", 0, 1))
        )
    assert (np.mean(covered, axis=0) > 0.89).all()
    assert (np.mean(covered, axis=0) < 0.99).all()
