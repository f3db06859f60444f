from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cer_fusion.challenge.timeline import Smoothing, learned_transitions, smoothed
from cer_fusion.fusion.errors import PredictionsError, TimelineError
from cer_fusion.fusion.keeping.predictions import Predictions
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.challenge.timeline.videos import video_predictions

SETTINGS = ("none", "box:9", "gaussian:9", "median:9", "exponential:9", "hmm:30", "viterbi:30")


def taken(found: Predictions, rows: np.ndarray) -> Predictions:
    labels = None if found.labels is None else tuple(found.labels[row] for row in rows)
    return replace(found, ids=tuple(found.ids[row] for row in rows), proba=found.proba[rows], labels=labels)


@pytest.mark.parametrize("text", SETTINGS)
def test_a_video_is_smoothed_as_if_it_were_alone_and_in_any_order(text):
    both = video_predictions([40, 60], missing=0.2)
    setting = Smoothing.parse(text)
    whole = smoothed(both, setting)
    assert (whole.ids, whole.labels) == (both.ids, both.labels)
    second = np.flatnonzero([name.startswith("02/") for name in both.ids])
    np.testing.assert_allclose(smoothed(taken(both, second), setting).proba, whole.proba[second], atol=1e-12)
    order = np.random.default_rng(0).permutation(len(both.ids))
    np.testing.assert_allclose(smoothed(taken(both, order), setting).proba, whole.proba[order], atol=1e-12)


@pytest.mark.parametrize("text", SETTINGS[1:])
def test_every_method_makes_noisy_frames_of_lasting_classes_better(text):
    noisy = video_predictions([300] * 4, signal=1.0)
    before = (noisy.y_pred == noisy.y_true).mean()
    after = smoothed(noisy, Smoothing.parse(text))
    assert (after.y_pred == after.y_true).mean() > before + 0.15
    np.testing.assert_allclose(after.proba.sum(axis=1), 1)


def test_no_smoothing_keeps_every_bit():
    found = video_predictions([30], missing=0.3)
    assert (smoothed(found, Smoothing()).proba == found.proba).all()


def test_a_path_is_made_of_decisions():
    found = smoothed(video_predictions([30]), Smoothing.parse("viterbi:10"))
    assert set(found.proba.ravel().tolist()) == {0.0, 1.0}


def test_missing_frames_are_answered_when_asked_for():
    found = Predictions(
        ids=("v/00005.png", "w/00001.jpg", "v/00002.png"),
        classes=("a", "b"),
        proba=np.array([[0.0, 1.0], [0.5, 0.5], [0.9, 0.1]]),
        labels=("b", None, "a"),
    )
    every = smoothed(found, Smoothing(), fill=True)
    assert every.ids == ("v/00002.png", "v/00003.png", "v/00004.png", "v/00005.png", "w/00001.jpg")
    assert every.labels == ("a", None, None, "b", None)
    np.testing.assert_allclose(every.proba[:, 0], [0.9, 0.6, 0.3, 0.0, 0.5])


@settings(deadline=None)
@given(st.integers(0, 200), st.sampled_from(SETTINGS))
def test_filling_does_not_change_the_frames_that_are_there(seed, text):
    found = video_predictions([12, 7], missing=0.4, seed=seed)
    every = smoothed(found, Smoothing.parse(text), fill=True)
    place = {name: row for row, name in enumerate(every.ids)}
    rows = [place[name] for name in found.ids]
    if rows:
        np.testing.assert_allclose(every.proba[rows], smoothed(found, Smoothing.parse(text)).proba)


def test_no_rows_are_no_rows_smoothed():
    empty = Predictions(ids=(), classes=("a", "b"), proba=np.empty((0, 2)))
    assert smoothed(empty, Smoothing.parse("box:5")) is empty


def test_stickiness_from_labels_is_never_taken_from_the_videos_themselves():
    found = video_predictions([50, 50])
    with pytest.raises(TimelineError, match="labelled videos other than these"):
        smoothed(found, Smoothing.parse("hmm:labels"))
    others = learned_transitions(video_predictions([50, 50], seed=1), "labels")
    assert smoothed(found, Smoothing.parse("hmm:labels"), transitions=others).ids == found.ids
    with pytest.raises(TimelineError, match=r"must have shape \(3, 3\)"):
        smoothed(found, Smoothing.parse("hmm:labels"), transitions=np.eye(2))


def test_em_needs_nothing_but_the_rows():
    found = video_predictions([200] * 3, labelled=False)
    stated = smoothed(found, Smoothing.parse("hmm:em"), transitions=learned_transitions(found, "em"))
    assert (smoothed(found, Smoothing.parse("hmm:em")).proba == stated.proba).all()


@pytest.mark.parametrize(("row", "message"), [([0.5, 0.6], "sum 1.1000"), ([1.5, -0.5], "least -0.5")])
def test_rows_that_are_no_probabilities_are_refused(row, message):
    found = Predictions(ids=("v/00001.jpg", "v/00002.jpg"), classes=("a", "b"), proba=np.array([[0.5, 0.5], row]))
    with pytest.raises(PredictionsError, match="1 of 2 rows are no probabilities") as error:
        smoothed(found, Smoothing.parse("box:3"))
    assert message in str(error.value)
    assert "v/00002.jpg" in str(error.value)
