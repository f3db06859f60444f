from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cer_fusion.challenge.timeline import Timeline, learned_transitions
from cer_fusion.challenge.timeline.learned import em_stay, evidence_of, step_counts, sticky
from cer_fusion.fusion.errors import TimelineError
from cer_fusion.fusion.keeping.predictions import Predictions

from tests.challenge.timeline.videos import video_predictions


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
