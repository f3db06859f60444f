"""Agreement, likeness of blocks, mistakes, near-duplicates and calibration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, log_loss

from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging import measures
from cer_fusion.fusion.judging.measures import (
    ConfusedPair,
    HardSample,
    agreement,
    calibration,
    confused_pairs,
    hardest,
    linear_cka,
    losses,
    near_duplicates,
    similarity,
)
from cer_fusion.fusion.judging.metrics import cohen_kappa, scores
from tests.fusion.lazy import LazyBlock

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


def test_agreement_by_hand():
    y = np.array([0, 0, 1, 1])
    found = agreement(y, {"one": np.array([0, 0, 0, 0]), "other": np.array([1, 0, 1, 0])}, 2)
    assert (found.oracle, found.all_right) == (0.75, 0.25)
    assert found.disagreement[0][1] == 0.5
    assert found.double_fault[0][1] == 0.25


def test_kappa_of_two_heads_that_always_say_the_same_is_undefined():
    assert cohen_kappa(np.diag([5, 0, 0])) is None


def blocks(seed: int, n: int = 40, d: int = 5, e: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, x @ rng.normal(size=(d, e)) + rng.normal(size=(n, e))


def gram_cka(x: np.ndarray, y: np.ndarray, *, debiased: bool) -> float:
    """As published: from the kernels, centred, or with Song et al.'s unbiased estimator of HSIC."""

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        n = len(k)
        if not debiased:
            h = np.eye(n) - 1 / n
            return float(np.trace(k @ h @ m @ h))
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        one = np.ones(n)
        return float(
            np.trace(k @ m)
            + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (one @ k @ m @ one)
        )

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize(("n", "d", "e"), [(40, 5, 8), (12, 30, 20), (9, 3, 50)])
def test_it_is_the_published_formula_on_kernels(debiased, n, d, e):
    x, y = blocks(3, n, d, e)
    assert linear_cka(x + 7, y, debiased=debiased) == pytest.approx(gram_cka(x, y, debiased=debiased), abs=1e-9)


@settings(deadline=None)
@given(st.integers(0, 50), st.booleans(), st.floats(0.01, 100), st.floats(-10, 10))
def test_turns_shifts_and_scale_do_not_matter_nor_does_the_order_of_blocks_and_rows(seed, debiased, scale, shift):
    x, y = blocks(seed)
    rng = np.random.default_rng(seed + 1)
    turn, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    expected = linear_cka(x, y, debiased=debiased)
    assert linear_cka(scale * x @ turn + shift, y, debiased=debiased) == pytest.approx(expected, abs=1e-9)
    assert linear_cka(y, x, debiased=debiased) == pytest.approx(expected, abs=1e-12)
    rows = rng.permutation(len(x))
    assert linear_cka(x[rows], y[rows], debiased=debiased) == pytest.approx(expected, abs=1e-9)
    assert linear_cka(x, x, debiased=debiased) == pytest.approx(1)


def test_another_linear_map_does_matter():
    x, _ = blocks(0)
    assert linear_cka(x, x * [100, 1, 1, 1, 1]) < 0.9


def test_noise_on_few_rows_looks_alike_unless_debiased():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 400)), rng.normal(size=(50, 400))
    assert linear_cka(x, y) > 0.8
    assert abs(linear_cka(x, y, debiased=True)) < 0.1


def test_pieces_and_lazy_blocks_give_the_same(monkeypatch):
    x, y = (block.astype(np.float32) for block in blocks(1))
    wide = np.tile(x, 30) + np.arange(150, dtype=np.float32)
    whole = [linear_cka(x, y, debiased=True), linear_cka(wide, y)]
    monkeypatch.setattr(measures, "PIECE", 7)
    lazy = LazyBlock(x), LazyBlock(y)
    assert [linear_cka(*lazy, debiased=True), linear_cka(wide, y)] == pytest.approx(whole)
    assert lazy[0].largest == 7


def test_all_pairs_are_measured_once():
    x, y = blocks(2)
    found = similarity({"x": x, "y": y, "z": -x})
    assert found.names == ("x", "y", "z")
    assert np.allclose(found.cka, np.transpose(found.cka))
    assert found.cka[0][2] == pytest.approx(1)
    assert found.cka[1][0] == linear_cka(y, x, debiased=True)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((5, 2)), np.ones((6, 2)), "however: 5 and 6"),
        (np.ones((3, 2)), np.ones((3, 2)), "4 rows or more"),
        (np.ones((5, 2)), np.eye(5), "all the same"),
    ],
)
def test_blocks_without_a_figure_are_refused(x, y, message):
    with pytest.raises(ReportError, match=message):
        linear_cka(x, y)


def test_confused_pairs_are_ranked_by_rows_and_then_by_share():
    y = [0, 0, 0, 0, 1, 1, 2]
    p = [1, 1, 0, 2, 0, 1, 2]
    found = confused_pairs(scores(y, p, "abc"), 2)
    assert found == (
        ConfusedPair(truth="a", answer="b", count=2, share=0.5),
        ConfusedPair(truth="b", answer="a", count=1, share=0.5),
    )
    assert len(confused_pairs(scores(y, p, "abc"), 9)) == 3
    assert confused_pairs(scores(y, y, "abc"), 9) == ()


def test_the_hardest_samples_are_those_whose_label_was_held_least_likely():
    proba = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.95, 0.05]])
    y = np.array([0, 0, 0, 1])
    singles = [np.array([0, 0, 1, 0]), np.array([0, 0, 0, 0])]
    found = hardest(["w", "x", "y", "z"], "ab", y, proba, singles, 3)
    assert [one.sample_id for one in found] == ["z", "x", "y"]
    assert found[0] == HardSample(sample_id="z", truth="b", answer="a", of_truth=0.05, of_answer=0.95, right=0)
    assert [one.right for one in found] == [0, 2, 1]


def rows(x: np.ndarray, name: str, *, lazy: bool = False) -> Rows:
    x = x.astype(np.float32)
    blocks = {"vit": x[:, :6], "manet.local": 30 * x[:, 6:]}
    return Rows(
        blocks={key: LazyBlock(block) for key, block in blocks.items()} if lazy else blocks,
        y=np.arange(len(x)) % 2,
        classes=("a", "b"),
        ids=tuple(f"{name}{i}" for i in range(len(x))),
    )


def twins() -> tuple[np.ndarray, np.ndarray]:
    """Forty rows, and ten others of which the fourth and the eighth are nearly two of them; all far from the origin."""
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(40, 10)), rng.normal(size=(10, 10))
    test[3], test[7] = train[30] + 0.05 * rng.normal(size=10), train[5] + 0.2 * rng.normal(size=10)
    return train + 20, test + 20


@pytest.mark.parametrize("piece", [3, 2048])
@pytest.mark.parametrize("lazy", [False, True])
def test_rows_that_nearly_stand_on_the_other_side_are_found_with_their_ids(piece, lazy, monkeypatch):
    monkeypatch.setattr(measures, "PIECE", piece)
    train, test = twins()
    found, which = near_duplicates(rows(test, "t", lazy=lazy), rows(train, "l", lazy=lazy), threshold=0.9)
    assert [(pair.sample_id, pair.other_id) for pair in found.pairs] == [("t3", "l30"), ("t7", "l5")]
    assert found.pairs[0].cosine > found.pairs[1].cosine > 0.9
    assert (found.found, found.samples) == (2, 2)
    assert np.flatnonzero(which).tolist() == [3, 7]


def test_the_cosine_is_the_mean_of_the_blocks_own_after_the_mean_is_taken_off():
    train, test = twins()
    found, _ = near_duplicates(rows(test, "t"), rows(train, "l"), threshold=-1)
    assert found.found == 400
    one = next(pair for pair in found.pairs if (pair.sample_id, pair.other_id) == ("t2", "l9"))
    parts = [slice(0, 6), slice(6, 10)]
    centred = [(test[2] - train.mean(axis=0))[part] for part in parts]
    others = [(train[9] - train.mean(axis=0))[part] for part in parts]
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(centred, others, strict=True)]
    assert one.cosine == pytest.approx(np.mean(cosines), abs=1e-4)


@pytest.mark.parametrize("piece", [3, 2048])
def test_within_one_split_each_pair_is_told_once_and_no_row_is_its_own_twin(piece, monkeypatch):
    monkeypatch.setattr(measures, "PIECE", piece)
    train, test = twins()
    found, which = near_duplicates(rows(np.concatenate([test, train]), "r"), threshold=0.9)
    assert [{pair.sample_id, pair.other_id} for pair in found.pairs] == [{"r3", "r40"}, {"r7", "r15"}]
    assert np.flatnonzero(which).tolist() == [3, 7, 15, 40]


def test_no_more_pairs_are_kept_than_fit_but_all_are_counted(monkeypatch):
    monkeypatch.setattr(measures, "MOST_PAIRS", 3)
    monkeypatch.setattr(measures, "PIECE", 4)
    train, test = twins()
    found, _ = near_duplicates(rows(test, "t"), rows(train, "l"), threshold=-1)
    assert (found.found, found.samples, len(found.pairs)) == (400, 10, 3)
    assert found.pairs[0].sample_id == "t3"


def test_a_row_at_the_mean_is_like_nothing():
    train = np.array([[1.0] * 10, [3.0] * 10])
    found, _ = near_duplicates(rows(np.full((1, 10), 2.0), "t"), rows(train, "l"), threshold=0.1)
    assert found.pairs == ()


def test_a_threshold_that_is_no_cosine_is_refused():
    with pytest.raises(ReportError, match=r"threshold 1\.5"):
        near_duplicates(rows(np.eye(10), "t"), threshold=1.5)


def drawn(n: int, sharpness: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, 4), and truths drawn from exactly these."""
    rng = np.random.default_rng(seed)
    proba = np.exp(sharpness * rng.normal(size=(n, 4)))
    proba /= proba.sum(axis=1, keepdims=True)
    return (proba.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), proba


def test_truths_drawn_from_the_probabilities_show_no_error_beyond_chance():
    y, proba = drawn(40_000)
    found = calibration(y, proba)
    assert found.ece < 0.01
    assert found.ece_equal_mass < 0.01
    assert found.confidence == pytest.approx(found.accuracy, abs=0.01)


def test_a_head_that_is_too_sure_is_found_out():
    y, proba = drawn(5000)
    sure = proba**3 / (proba**3).sum(axis=1, keepdims=True)
    found = calibration(y, sure)
    gap = sure.max(axis=1).mean() - (sure.argmax(axis=1) == y).mean()
    assert found.confidence - found.accuracy == pytest.approx(gap)
    assert found.ece > 0.1
    assert abs(gap) <= found.ece + 1e-9
    assert found.nll > calibration(y, proba).nll
    assert found.brier > calibration(y, proba).brier


def test_calibration_by_hand():
    proba = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.3, 0.7]])
    found = calibration(np.array([0, 1, 0, 1]), proba, bins=2)
    # all of them fall into the bin (0.5, 1]: 3 of 4 right, mean confidence 0.775
    assert found.ece == pytest.approx(0.025)
    # two bins of two: {0.6, 0.7} both right, {0.9, 0.9} one right
    assert found.ece_equal_mass == pytest.approx((2 * 0.35 + 2 * 0.4) / 4)
    assert [(one.n, one.accuracy) for one in found.bins] == [(2, 1.0), (2, 0.5)]
    assert found.bins[0].confidence == pytest.approx(0.65)
    assert found.brier == pytest.approx((2 * 0.01 + 2 * 0.81 + 2 * 0.16 + 2 * 0.09) / 4)


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 25))
def test_the_table_holds_every_row_once_and_the_log_loss_is_scikit_learns(seed, bins):
    y, proba = drawn(60, seed=seed)
    found = calibration(y, proba, bins=bins)
    assert sum(one.n for one in found.bins) == 60
    assert max(one.n for one in found.bins) - min(one.n for one in found.bins) <= 1
    assert found.nll == pytest.approx(log_loss(y, proba, labels=range(4)))
    assert all(one.high <= other.low for one, other in zip(found.bins, found.bins[1:], strict=False))


def test_a_truth_that_was_ruled_out_costs_much_but_not_infinity():
    assert losses(np.array([1]), np.array([[1.0, 0.0]]))[0] == pytest.approx(36.04, abs=0.01)


def test_losses_of_many_heads_are_taken_at_once():
    y, proba = drawn(10)
    np.testing.assert_array_equal(losses(y, np.stack([proba, proba]))[1], losses(y, proba))


def test_no_bin_is_refused():
    with pytest.raises(ReportError, match="at least one bin"):
        calibration(np.array([0]), np.array([[1.0, 0.0]]), bins=0)
