from __future__ import annotations

import logging

import numpy as np
import pytest

from cer_fusion.fusion import HeadConfigError, load_head, make_head, save_head
from cer_fusion.fusion.heads.base import NOTHING, softmax
from cer_fusion.fusion.heads.weighted import FOLDS, _votes, learned_block_weights
from cer_fusion.fusion.heads.weights import stratified_folds

WIDTHS = {"clear": 16, "blurred": 16, "noise": 16}


def blocks_of_signal_and_noise(seed: int, n: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Joined blocks around a centre a class, near, farther, and none at all; and the classes."""
    random = np.random.default_rng(seed)
    y, centres = np.arange(n) % 4, random.normal(size=(4, 16))
    parts = [centres[y] + random.normal(size=(n, 16)), centres[y] + 2 * random.normal(size=(n, 16))]
    return np.hstack([*parts, random.normal(size=(n, 16))]).astype(np.float32), y


@pytest.mark.parametrize("mode", ["concat", "sum"])
@pytest.mark.parametrize("seed", range(3))
def test_noise_gets_little_weight_and_the_clearest_block_most(mode, seed):
    X, y = blocks_of_signal_and_noise(seed)
    weights = make_head("weighted", blocks=WIDTHS, weights="learned", mode=mode).fit(X, y).weights_
    assert weights["noise"] < 0.4 * weights["clear"]
    assert weights["noise"] < weights["blurred"] < weights["clear"]


def test_noise_wider_than_there_are_rows_gets_little_weight():
    """Here a linear classifier fits every training row, and no loss on them could tell noise from signal."""
    X, y = blocks_of_signal_and_noise(0)
    wide = np.random.default_rng(1).normal(size=(len(X), 400)).astype(np.float32)
    widths = {"clear": 16, "blurred": 16, "noise": 416}
    head = make_head("weighted", blocks=widths, weights="learned").fit(np.hstack([X, wide]), y)
    assert head.weights_["noise"] < 0.4 * head.weights_["clear"]


def test_learned_weights_make_a_better_head_than_equal_ones_where_noise_is_loud():
    X, y = blocks_of_signal_and_noise(0, n=400)
    random = np.random.default_rng(5)
    widths = {"blurred": 16, "noise": 400}
    more = np.hstack([X[:, 16:32], random.normal(size=(400, 400))]).astype(np.float32)
    learn = np.arange(400) < 120
    scores = [
        make_head("weighted", blocks=widths, weights=weights).fit(more[learn], y[learn]).score(more[~learn], y[~learn])
        for weights in (None, "learned")
    ]
    assert scores[1] > scores[0]


def test_weights_have_the_scale_of_given_ones():
    X, y = blocks_of_signal_and_noise(0)
    joined, summed = (
        make_head("weighted", blocks=WIDTHS, weights="learned", mode=mode).fit(X, y).weights_
        for mode in ("concat", "sum")
    )
    assert np.mean(np.square(list(joined.values()))) == pytest.approx(1)
    assert sum(summed.values()) == pytest.approx(1)


def test_learned_weights_given_by_hand_make_the_same_head():
    X, y = blocks_of_signal_and_noise(0)
    learned = make_head("weighted", blocks=WIDTHS, weights="learned").fit(X, y)
    given = make_head("weighted", blocks=WIDTHS, weights=learned.weights_).fit(X, y)
    np.testing.assert_allclose(given.predict_proba(X), learned.predict_proba(X), atol=1e-6)


def test_learned_weights_are_kept(tmp_path):
    X, y = blocks_of_signal_and_noise(0)
    head = make_head("weighted", blocks=WIDTHS, weights="learned").fit(X, y)
    info = save_head(head, tmp_path / "head", fingerprints={})
    loaded = load_head(tmp_path / "head")
    assert loaded.weights_ == head.weights_ == info.values["weights"]
    np.testing.assert_array_equal(loaded.predict_proba(X), head.predict_proba(X))


def test_the_votes_of_all_blocks_are_the_logits_of_rows_not_seen():
    X, y = blocks_of_signal_and_noise(0)
    votes, others = _votes(X, y, WIDTHS, NOTHING, summed=False, seed=3)
    fold = stratified_folds(y, FOLDS, seed=3)
    for number in range(FOLDS):
        seen = fold != number
        head = make_head("linear", standardize="none").fit(X[seen], y[seen])
        found = softmax(votes.sum(axis=0) + others)[~seen]
        np.testing.assert_allclose(found, head.predict_proba(X[~seen]), atol=1e-6)


def test_a_class_of_one_row_does_not_stop_the_learning():
    X, y = blocks_of_signal_and_noise(0)
    y[0] = 4
    weights = learned_block_weights(X, y, WIDTHS, summed=False, seed=0)
    assert weights["noise"] < weights["clear"]


def test_weights_are_logged(caplog):
    X, y = blocks_of_signal_and_noise(0)
    with caplog.at_level(logging.INFO, logger="cer_fusion.fusion.heads.weighted"):
        make_head("weighted", blocks=WIDTHS, weights="learned").fit(X, y)
    assert "learned weights: clear=0." in caplog.text


def test_another_word_for_weights_is_refused():
    X, y = blocks_of_signal_and_noise(0)
    with pytest.raises(HeadConfigError, match="must name their blocks or be 'learned', got 'learnt'"):
        make_head("weighted", blocks=WIDTHS, weights="learnt").fit(X, y)
