"""Choosing how to smooth."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cer_fusion.challenge import Smoothing, Timeline, learned_transitions, smoothed, sweep_smoothing
from cer_fusion.challenge.smoothing_sweep import smoothing_table
from cer_fusion.fusion import scores
from cer_fusion.fusion.errors import TimelineError
from cer_fusion.kit.table import render
from tests.challenge.videos import video_predictions

BOXES = [Smoothing("box", window) for window in (3, 9, 31)]


def macro(found, rows=slice(None)):
    return scores(found.y_true[rows], found.y_pred[rows], found.classes).macro_f1


def test_every_setting_scores_as_its_own_smoothing_does():
    found = video_predictions([80] * 6, missing=0.1)
    swept = sweep_smoothing(found, [*BOXES, Smoothing.parse("hmm:em")], resamples=20)
    assert [one.setting.text for one in swept.settings] == ["none", "box:3", "box:9", "box:31", "hmm:em"]
    for one in swept.settings:
        assert one.scores.macro_f1 == pytest.approx(macro(smoothed(found, one.setting)))
    assert swept.chosen_setting == max(swept.settings, key=lambda one: one.scores.macro_f1).setting


def test_each_left_out_video_is_smoothed_as_the_others_chose():
    found = video_predictions([60, 80, 50, 70], signal=1.0, seed=3)
    swept = sweep_smoothing(found, BOXES, resamples=20)
    groups = np.array(Timeline.of(found.ids).groups)
    lines = [smoothed(found, one.setting) for one in swept.settings]
    y_pred, picked = np.empty(len(found.ids), dtype=np.int64), []
    for video in np.unique(groups):
        others = np.flatnonzero(groups != video)
        best = int(np.argmax([macro(line, others) for line in lines]))
        picked.append(best)
        y_pred[groups == video] = lines[best].y_pred[groups == video]
    assert swept.held_out is not None
    assert swept.held_out.scores.macro_f1 == pytest.approx(scores(found.y_true, y_pred, found.classes).macro_f1)
    assert [one.picked for one in swept.settings] == np.bincount(picked, minlength=4).tolist()


def test_stickiness_from_labels_comes_from_the_other_videos():
    found = video_predictions([60, 80, 50])
    swept = sweep_smoothing(found, [Smoothing.parse("hmm:labels")], resamples=20)
    groups = np.array(Timeline.of(found.ids).groups)
    y_pred = np.empty(len(found.ids), dtype=np.int64)
    for video in np.unique(groups):
        own, others = ([i for i, g in enumerate(groups) if (g == video) == same] for same in (True, False))
        moves = learned_transitions(
            replace(
                found,
                ids=tuple(found.ids[i] for i in others),
                proba=found.proba[others],
                labels=tuple(found.labels[i] for i in others),
            ),
            "labels",
        )
        alone = replace(found, ids=tuple(found.ids[i] for i in own), proba=found.proba[own], labels=None)
        y_pred[own] = smoothed(alone, Smoothing.parse("hmm:labels"), transitions=moves).y_pred
    assert swept.settings[1].scores.macro_f1 == pytest.approx(scores(found.y_true, y_pred, found.classes).macro_f1)


def test_unlabelled_frames_are_smoothed_with_but_not_scored():
    found = video_predictions([40, 40, 40])
    labels = tuple(label if i % 3 else None for i, label in enumerate(found.labels))
    swept = sweep_smoothing(replace(found, labels=labels), BOXES, resamples=20)
    assert swept.frames == sum(label is not None for label in labels)
    known = np.flatnonzero([label is not None for label in labels])
    assert swept.settings[2].scores.macro_f1 == pytest.approx(macro(smoothed(found, BOXES[1]), known))


def test_intervals_come_from_whole_videos_and_repeat_with_the_seed():
    found = video_predictions([60] * 8)
    first, again, other = (sweep_smoothing(found, BOXES, resamples=50, seed=seed) for seed in (0, 0, 1))
    assert first.to_dict() == again.to_dict()
    assert first.to_dict() != other.to_dict()
    assert first.gain is not None
    assert first.settings[0].macro_f1.low < first.settings[0].scores.macro_f1 < first.settings[0].macro_f1.high
    assert "8 videos: intervals from so few are a hint" in first.notes[1]


def test_one_video_is_scored_without_intervals_and_never_chosen_on():
    found = video_predictions([80])
    swept = sweep_smoothing(found, BOXES[:1])
    assert swept.held_out is None
    assert swept.settings[1].macro_f1 is None
    assert "One video" in swept.notes[1]
    assert "held" not in render(smoothing_table(swept), "markdown")
    with pytest.raises(TimelineError, match="2 videos or more, however: 1 video"):
        sweep_smoothing(found, BOXES)


def test_no_label_is_nothing_to_choose_by():
    with pytest.raises(TimelineError, match="no frame has a label"):
        sweep_smoothing(video_predictions([20, 20], labelled=False), BOXES)


def test_the_table_and_the_json_say_what_choosing_is_worth():
    swept = sweep_smoothing(video_predictions([60] * 4), BOXES, resamples=20)
    text = render(smoothing_table(swept), "markdown")
    for words in ("chosen by other videos", "the figure to report", "that is the optimism", "Against no smoothing: +"):
        assert words in text
    plain = json.loads(json.dumps(swept.to_dict(), allow_nan=False))
    assert plain["chosen"] == swept.chosen_setting.text
    assert [one["setting"] for one in plain["settings"]] == ["none", "box:3", "box:9", "box:31"]
