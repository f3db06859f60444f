"""The hidden Markov model against brute force, and learned transitions."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.challenge import Timeline, learned_transitions, smoothed, sweep_smoothing
from cer_fusion.challenge.smoothing import (
    Smoothing,
    best_path,
    em_stay,
    evidence_of,
    expected_stays,
    posterior,
    smooth_tracks,
    step_counts,
    sticky,
    sticky_towards,
)
from cer_fusion.fusion.errors import TimelineError
from cer_fusion.fusion.keeping.answers import Predictions
from tests.challenge.videos import video_predictions


def problem(seed: int, lengths: tuple[int, ...], k: int = 3) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.dirichlet(np.ones(k), size=t) for t in lengths], rng.dirichlet(np.ones(k), size=k)


def by_enumeration(evidence: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Posterior, best path and expected number of stays, over every path there is."""
    t, k = evidence.shape
    paths = np.array(list(product(range(k), repeat=t)))
    weights = np.array(
        [np.prod(evidence[range(t), path]) * np.prod([moves[a, b] for a, b in pairwise(path)]) for path in paths]
    )
    shares = weights / weights.sum()
    marginals = np.stack([(shares[:, None] * (paths == c)).sum(axis=0) for c in range(k)], axis=1)
    stays = float((shares * (np.diff(paths, axis=1) == 0).sum(axis=1)).sum())
    return marginals, paths[weights.argmax()], stays


@settings(deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple))
def test_videos_side_by_side_get_what_enumeration_gives_each_alone(seed, lengths):
    evidence, moves = problem(seed, lengths)
    truth = [by_enumeration(one, moves) for one in evidence]
    for found, (marginals, _, _) in zip(posterior(evidence, moves), truth, strict=True):
        np.testing.assert_allclose(found, marginals, atol=1e-9)
    for path, (_, best, _) in zip(best_path(evidence, moves), truth, strict=True):
        assert path.tolist() == best.tolist()
    stays, steps = expected_stays(evidence, moves)
    assert steps == sum(lengths) - len(lengths)
    np.testing.assert_allclose(stays, sum(stays for _, _, stays in truth), atol=1e-9)


def test_batches_do_not_change_the_answer(monkeypatch):
    evidence, moves = problem(0, (4, 9, 30, 2, 17))
    whole, paths = posterior(evidence, moves), best_path(evidence, moves)
    monkeypatch.setattr("cer_fusion.challenge.smoothing._CELLS", 1)
    for one, other in zip(whole, posterior(evidence, moves), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert all((a == b).all() for a, b in zip(paths, best_path(evidence, moves), strict=True))


def test_long_videos_and_certain_rows_do_not_underflow():
    evidence = [np.eye(3)[np.arange(5000) % 3]]
    found = posterior(evidence, sticky(3, 1e6))[0]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert set(best_path(evidence, sticky(3, 2))[0].tolist()) == {0, 1, 2}


def test_transitions_that_forget_leave_the_rows_as_they_are():
    evidence, _ = problem(0, (20,))
    np.testing.assert_allclose(posterior(evidence, np.full((3, 3), 1 / 3))[0], evidence[0], atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 7])
@pytest.mark.parametrize("stay", [2, 25.5, 1e6])
def test_sticky_transitions_stay_as_long_as_stated(k, stay):
    moves = sticky(k, stay)
    np.testing.assert_allclose(moves.sum(axis=1), 1)
    assert (moves > 0).all()
    if k > 1:
        np.testing.assert_allclose(1 / (1 - np.diagonal(moves)), stay)


def test_steps_are_counted_between_neighbouring_labelled_frames_of_one_video():
    ids = ("v/00001.jpg", "v/00002.jpg", "v/00003.jpg", "v/00005.jpg", "w/00006.jpg", "w/00007.jpg")
    counts = step_counts(np.array([0, 0, 1, 1, 1, -1]), Timeline.of(ids), 2)
    assert counts.tolist() == [[[1, 1], [0, 0]], [[0, 0], [0, 0]]]


def test_transitions_learned_from_labels_are_those_of_the_videos():
    found = video_predictions([3000] * 3, stay=40)
    moves = learned_transitions(found, "labels")
    # a third of the changes comes back to the same class
    np.testing.assert_allclose(np.diagonal(moves), 1 - (2 / 3) / 40, atol=0.006)
    assert (moves > 0).all()


def test_em_finds_the_stickiness_without_a_label():
    found = video_predictions([2000] * 4, stay=40, signal=2.5, missing=0.1, labelled=False)
    stay = em_stay(evidence_of(found.proba, Timeline.of(found.ids)))
    assert 45 < stay < 80  # 60 frames: a third of the changes comes back to the same class


def test_em_does_not_depend_on_where_it_starts():
    found = video_predictions([500] * 4, signal=2.5)
    evidence = evidence_of(found.proba, Timeline.of(found.ids))
    assert em_stay(evidence, 3.0) == pytest.approx(em_stay(evidence, 300.0), rel=0.05)


def test_a_missing_frame_is_no_evidence():
    found = Predictions(ids=("v/00001.jpg", "v/00003.jpg"), classes=("a", "b"), proba=np.eye(2))
    assert evidence_of(found.proba, Timeline.of(found.ids))[0].tolist() == [[1, 0], [1, 1], [0, 1]]


def test_nothing_to_learn_from_is_said():
    one = video_predictions([1, 1])
    with pytest.raises(TimelineError, match="no two labelled frames that follow each other"):
        learned_transitions(replace(one, labels=None), "labels")
    with pytest.raises(TimelineError, match="no video has two frames"):
        learned_transitions(one, "em")


def test_a_class_prior_is_divided_out_so_that_a_chain_without_memory_gives_the_answers_back():
    prior = np.array([0.7, 0.2, 0.1])
    given = np.random.default_rng(0).dirichlet(np.ones(3), size=30)
    timeline = Timeline.of([f"v/{i + 1:05d}.jpg" for i in range(30)])
    memoryless = np.tile(prior, (3, 1))
    setting = Smoothing(method="hmm", stickiness="labels")
    found = smooth_tracks(given, timeline, setting, memoryless, prior)[0]
    np.testing.assert_allclose(found, given, atol=1e-9)


def test_the_chain_of_a_class_prior_has_that_prior_in_the_long_run_and_the_stay_asked_for():
    prior = np.array([0.7, 0.2, 0.1])
    moves = sticky_towards(prior, 25.0)
    np.testing.assert_allclose(prior @ moves, prior)
    assert 1 / (1 - prior @ np.diag(moves)) == pytest.approx(25)
    np.testing.assert_allclose(sticky_towards(np.full(3, 1 / 3), 25.0), sticky(3, 25.0))


def unequal_videos(frames: int, seed: int, stay: float = 20.0) -> Predictions:
    """One video of classes that are unequally frequent, and the posteriors of someone who knows how frequent."""
    rng, centres = np.random.default_rng(seed), np.array([0.0, 1.2, 2.4])
    moves = sticky_towards(PRIOR, stay)
    y = [int(rng.choice(3, p=PRIOR))]
    while len(y) < frames:
        y.append(int(rng.choice(3, p=moves[y[-1]])))
    points = centres[y] + rng.normal(size=len(y))
    proba = np.exp(-0.5 * (points[:, None] - centres) ** 2) * PRIOR
    return Predictions(
        ids=tuple(f"v{seed}/{i + 1:05d}.jpg" for i in range(frames)),
        classes=("a", "b", "c"),
        proba=proba / proba.sum(axis=1, keepdims=True),
        labels=tuple("abc"[i] for i in y),
    )


PRIOR = np.array([0.85, 0.1, 0.05])


@pytest.mark.parametrize("setting", ["hmm:20", "hmm:em", "viterbi:20"])
def test_scaled_likelihoods_are_right_more_often_where_classes_are_unequal(setting):
    given = unequal_videos(6_000, 1)
    scaled, plain = (smoothed(given, Smoothing.parse(setting), prior=p).y_pred for p in (PRIOR, None))
    assert (scaled == given.y_true).mean() > (plain == given.y_true).mean() + 0.005


def test_em_finds_the_stay_of_unequal_classes_when_told_their_prior():
    given = unequal_videos(6_000, 2)
    moves = learned_transitions(given, "em", PRIOR)
    assert 1 / (1 - PRIOR @ np.diag(moves)) == pytest.approx(20, rel=0.25)
    np.testing.assert_allclose(PRIOR @ moves, PRIOR)


def test_a_sweep_scores_every_chain_under_the_prior():
    parts = [unequal_videos(1500, seed) for seed in range(4)]
    given = Predictions(
        ids=tuple(name for part in parts for name in part.ids),
        classes=parts[0].classes,
        proba=np.concatenate([part.proba for part in parts]),
        labels=tuple(label for part in parts for label in part.labels or ()),
    )
    settings = [Smoothing.parse(text) for text in ("hmm:20", "hmm:em", "hmm:labels")]
    with_prior, without = (sweep_smoothing(given, settings, prior=p, resamples=50).settings for p in (PRIOR, None))
    assert with_prior[0].scores.accuracy == without[0].scores.accuracy  # nothing is smoothed
    for one, other in zip(with_prior[1:], without[1:], strict=True):
        assert one.scores.accuracy > other.scores.accuracy
