"""Settings, windows and smoothed predictions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.challenge import METHODS, Smoothing, learned_transitions, parse_windows, settings_of, smoothed
from cer_fusion.challenge.smoothing import box, exponential, gaussian, median
from cer_fusion.fusion.errors import PredictionsError, TimelineError
from cer_fusion.fusion.keeping.answers import Predictions
from tests.challenge.videos import video_predictions


@pytest.mark.parametrize("text", ["none", "box:51", "gaussian:1", "median:7", "exponential:12", "hmm:2", "viterbi:em"])
def test_a_setting_survives_its_notation(text):
    assert Smoothing.parse(text).text == text


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("51", (51,)),
        ("5:101:8", (5, 13, 21, 29, 37, 45, 53, 61, 69, 77, 85, 93, 101)),
        ("25, 5,5", (5, 25)),
        ("3:9:4,101", (3, 7, 101)),
    ],
)
def test_windows_are_read_with_both_ends(text, windows):
    assert parse_windows(text) == windows


@pytest.mark.parametrize("text", ["", "five", "5:101", "5:101:0", "101:5:8", "-5", "5.5", "5:101:8:2", "1:99999999:1"])
def test_windows_that_are_none_are_refused(text):
    with pytest.raises(TimelineError, match="window"):
        parse_windows(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("boks:5", "did you mean 'box'"),
        ("box", "write METHOD:FRAMES"),
        ("box:5:7", "write METHOD:FRAMES"),
        ("box:50", "take 49 or 51"),
        ("box:em", "learns no stickiness"),
        ("hmm:1", "between 2 and"),
        ("box:0", "between 1 and"),
        ("none:3", "none:3 needs no window"),
    ],
)
def test_a_setting_that_cannot_be_followed_is_refused(text, message):
    with pytest.raises(TimelineError, match=message):
        Smoothing.parse(text)


def test_settings_are_all_methods_with_all_windows():
    found = settings_of(["none", "box", "hmm"], [5, 25], ["window", "em"])
    assert [one.text for one in found] == ["none", "box:5", "box:25", "hmm:em", "hmm:5", "hmm:25"]
    assert [one.text for one in settings_of(["viterbi"], (), ["labels"])] == ["viterbi:labels"]
    with pytest.raises(TimelineError, match="box needs a window"):
        settings_of(["box"])
    with pytest.raises(TimelineError, match=", ".join(METHODS)):
        settings_of([])
    with pytest.raises(TimelineError, match="did you mean 'labels'"):
        settings_of(["hmm"], [], ["label"])


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


KERNELS = (box, gaussian, exponential, median)


def rows(t: int, k: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(k), size=t)


def weighted(values: np.ndarray, weight: Callable[[int], float]) -> np.ndarray:
    """The mean over all frames of a video, written out."""
    t = len(values)
    weights = np.array([[weight(abs(i - j)) for j in range(t)] for i in range(t)])
    return weights @ values / weights.sum(axis=1, keepdims=True)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 30).map(lambda half: 2 * half + 1), st.integers(0, 50))
def test_windows_are_means_over_the_frames_that_are_there(t, window, seed):
    values = rows(t, seed=seed)
    inside = lambda distance: float(distance <= window // 2)  # noqa: E731
    bell = lambda distance: inside(distance) * np.exp(-0.5 * (distance / (window / 6)) ** 2)  # noqa: E731
    decay = (window - 1) / (window + 1)
    np.testing.assert_allclose(box(values, window), weighted(values, inside), atol=1e-9)
    np.testing.assert_allclose(gaussian(values, window), weighted(values, bell), atol=1e-9)
    np.testing.assert_allclose(exponential(values, window), weighted(values, lambda d: decay**d), atol=1e-9)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 30).map(lambda half: 2 * half + 1), st.integers(0, 50))
def test_the_median_is_that_of_the_frames_that_are_there(t, window, seed):
    values = rows(t, seed=seed)
    found = median(values, window)
    for i in range(t):
        part = np.sort(values[max(0, i - window // 2) : i + window // 2 + 1], axis=0)
        middles = {(len(part) - 1) // 2, len(part) // 2}
        fitting = [part[m] / part[m].sum() for m in middles]
        assert min(np.abs(found[i] - fit).max() for fit in fitting) < 1e-9


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_stay_probabilities_and_a_window_of_one_changes_nothing(kernel):
    values = rows(50)
    for window in (1, 5, 51, 999):
        found = kernel(values, window)
        assert (found >= 0).all()
        np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(kernel(values, 1), values, atol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_does_not_change_over_time_is_left_alone_and_time_has_no_direction(kernel):
    still = np.tile(rows(1), (20, 1))
    np.testing.assert_allclose(kernel(still, 7), still)
    values = rows(21)
    if kernel is not median:  # an even number of frames at an end has two middles, and the two ends take different ones
        np.testing.assert_allclose(kernel(values[::-1], 7)[::-1], kernel(values, 7), atol=1e-12)


def test_a_median_of_nothing_keeps_the_row_and_says_so(caplog):
    certain = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    with caplog.at_level(logging.WARNING):
        found = median(certain, 3)
    assert (found[1:5] == certain[1:5]).all()
    assert "keep their own row" in caplog.text
