"""Templates answered."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.challenge import Smoothing, answer, check, choose_by_prior, difference, read_submission, smoothed
from cer_fusion.challenge.answering import candidates_table
from cer_fusion.fusion.errors import PredictionsError, SubmissionError, TimelineError
from cer_fusion.fusion.keeping.answers import Predictions, read_predictions, write_predictions
from cer_fusion.kit.table import render
from tests.challenge.templates import CHALLENGE, certain, names_of, template_of


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return template_of(tmp_path_factory.mktemp("t"), {"02": 6, "01": 4})


@settings(deadline=None)
@given(data=st.data())
def test_every_row_is_answered_once_in_order_and_predictions_are_kept(template, data):
    rows = data.draw(st.sets(st.sampled_from(template.names)).filter(lambda s: {n[:2] for n in s} == {"01", "02"}))
    ids = data.draw(st.permutations(sorted(rows)))
    y = data.draw(st.lists(st.integers(0, 6), min_size=len(ids), max_size=len(ids)))
    found = answer(template, certain(ids, y), CHALLENGE)
    assert found.submission.names == template.names
    own = dict(zip(ids, y, strict=True))
    for name, given_id in zip(template.names, found.submission.y.tolist(), strict=True):
        assert given_id == own.get(name, given_id)
        assert given_id in {own[other] for other in ids if other[:2] == name[:2]}  # never from another video
    assert sum(one.predicted for one in found.coverage) == len(ids)
    assert all(one.filled == one.inside + one.before + one.after for one in found.coverage)


def test_frames_without_a_face_are_filled_in_time(template):
    ids = ["02/00002.jpg", "02/00005.jpg", "01/00004.jpg"]
    proba = np.zeros((3, 7))
    proba[0, :2], proba[1, :2], proba[2, 6] = [0.9, 0.1], [0.0, 1.0], 1.0
    found = answer(template, replace(certain(ids, [0, 0, 0]), proba=proba), CHALLENGE)
    assert found.submission.y.tolist() == [0, 0, 0, 1, 1, 1, 6, 6, 6, 6]
    second, first = found.coverage
    assert (second.rows, second.predicted, second.inside, second.before, second.after) == (6, 2, 2, 1, 1)
    assert (first.before, first.after, first.longest_gap) == (3, 0, 3)
    assert "7 (70.0%) have no prediction of their own" in found.notes[0]


def test_a_frame_more_or_less_than_the_template_is_reported(template):
    ids = [*names_of({"02": 7}), *names_of({"01": 3})]
    found = answer(template, certain(ids, [1] * 10), CHALLENGE)
    assert [(one.video, one.beyond, one.after) for one in found.coverage] == [("02", 1, 0), ("01", 0, 1)]
    assert "more frames than the template in 1 videos (02: +1)" in found.notes[1]
    assert "end before the template in 1 videos (01: -1)" in found.notes[2]


def test_far_more_frames_than_the_template_is_a_mistake_unless_allowed(template):
    many = certain(names_of({"02": 6, "01": 9}), [1] * 15)
    with pytest.raises(SubmissionError, match=r"more than 1 in 1 videos \(most: 5 frames, video 01\)"):
        answer(template, many, CHALLENGE)
    assert answer(template, many, CHALLENGE, slack=5).coverage[1].beyond == 5


def test_a_video_without_any_prediction_needs_a_class_by_name(template):
    some = certain(names_of({"02": 6}), [2] * 6)
    with pytest.raises(SubmissionError, match=r"1 videos of the template have no prediction at all: 01\n.*fallback"):
        answer(template, some, CHALLENGE)
    found = answer(template, some, CHALLENGE, fallback="sadly angry")
    assert found.submission.y.tolist() == [2] * 6 + [6] * 4
    assert "1 videos have no prediction and are all Sadly_Angry: 01" in found.notes[-2]
    assert answer(template, some, CHALLENGE, fallback="prior").fallback == "Happily_Surprised"
    with pytest.raises(SubmissionError, match="did you mean 'Sadly_Angry'"):
        answer(template, some, CHALLENGE, fallback="sadly hangry")


def test_no_predictions_at_all_can_be_answered_with_a_class_by_name(template):
    none = certain([], [])
    with pytest.raises(SubmissionError, match="2 videos of the template have no prediction at all: 02, 01"):
        answer(template, none, CHALLENGE)
    found = answer(template, none, CHALLENGE, fallback="prior", smoothing=Smoothing.parse("hmm:5"))
    assert set(found.submission.y.tolist()) == {1}


def test_predictions_of_other_videos_are_refused(template):
    ids = [*names_of({"02": 6, "01": 4}), "1/00001.jpg"]
    with pytest.raises(SubmissionError, match=r"1 videos that the template has not \(first: '1'\)"):
        answer(template, certain(ids, [0] * 11), CHALLENGE)
    with pytest.raises(TimelineError, match="names no frame"):
        answer(template, certain(["face.jpg"], [0]), CHALLENGE)
    with pytest.raises(PredictionsError, match="no probabilities"):
        answer(template, replace(certain(["01/00001.jpg"], [0]), proba=np.full((1, 7), 0.5)), CHALLENGE)


def test_frames_the_template_does_not_ask_for_are_counted(tmp_path):
    (tmp_path / "t.csv").write_text(f"{CHALLENGE.header}\n01/00002.jpg\n01/00004.jpg\n")
    from cer_fusion.challenge import read_template

    found = answer(
        read_template(tmp_path / "t.csv", CHALLENGE), certain(names_of({"01": 5}), [0, 1, 2, 3, 4]), CHALLENGE
    )
    assert found.submission.y.tolist() == [1, 3]
    assert (found.coverage[0].unasked, found.coverage[0].beyond) == (2, 1)
    assert "2 predicted frames are not asked for" in found.notes[-2]


def test_classes_without_a_chance_are_named(template):
    few = certain(names_of({"02": 6, "01": 4}), [0] * 10, CHALLENGE.classes[:2])
    expected = f"No prediction gives any chance to {', '.join(CHALLENGE.classes[1:])}."
    assert answer(template, few, CHALLENGE).notes[-1] == expected


def test_smoothing_on_the_way_is_smoothing_before_and_still_tells_what_was_filled(template):
    rng = np.random.default_rng(0)
    ids = [name for name in names_of({"02": 6, "01": 4}) if name not in ("02/00003.jpg", "01/00004.jpg")]
    rows = replace(certain(ids, [0] * 8), proba=rng.dirichlet(np.ones(7), size=8))
    for text in ("box:3", "viterbi:4", "hmm:em"):
        setting = Smoothing.parse(text)
        found = answer(template, rows, CHALLENGE, smoothing=setting)
        before = answer(template, smoothed(rows, setting, fill=True), CHALLENGE)
        assert (found.submission.y == before.submission.y).all()
        assert sum(one.filled for one in found.coverage) == 2
        assert json.loads(json.dumps(found.to_dict(CHALLENGE), allow_nan=False))["smoothing"] == text


def test_the_answers_spread_most_like_the_prior_are_chosen():
    near = np.repeat(np.arange(7), np.array(CHALLENGE.prior_counts) // 100)
    even = np.arange(near.size) % 7
    ranked = choose_by_prior({"one class": np.zeros_like(near), "even": even, "near": near}, CHALLENGE)
    assert [one.name for one in ranked] == ["near", "even", "one class"]
    assert ranked[0].divergence < 1e-4
    text = render(candidates_table(ranked), "markdown")
    assert "Chosen: near." in text
    assert "a model that answers at random with the right frequencies would win" in text


def test_equal_candidates_keep_their_order():
    y = np.arange(7)
    assert [one.name for one in choose_by_prior({"b": y, "a": y[::-1]}, CHALLENGE)] == ["b", "a"]


def test_candidates_must_answer_the_same_frames():
    with pytest.raises(SubmissionError, match="a 7, b 6"):
        choose_by_prior({"a": np.arange(7), "b": np.arange(6)}, CHALLENGE)
    with pytest.raises(SubmissionError, match="two candidates or more, however: 1"):
        choose_by_prior({"a": np.arange(7)}, CHALLENGE)


@pytest.fixture(scope="module")
def lengths():
    extra = np.random.default_rng(0).multinomial(CHALLENGE.rows - 100 * 56, np.full(56, 1 / 56))
    return dict(zip(CHALLENGE.video_names, (100 + extra).tolist(), strict=True))


@pytest.fixture(scope="module")
def predictions(lengths):
    rng = np.random.default_rng(1)
    decoded = {video: count + (i < 8) - (8 <= i < 15) for i, (video, count) in enumerate(lengths.items())}
    seen = [name for name in names_of(decoded) if rng.random() > 0.13]
    last = [f"{video}/{count:05d}.jpg" for video, count in decoded.items()]
    ids = tuple(dict.fromkeys([*seen, *last]))
    return Predictions(ids=ids, classes=CHALLENGE.classes[::-1], proba=rng.dirichlet(np.ones(7), size=len(ids)))


def test_the_whole_template_makes_the_round_trip(tmp_path, lengths, predictions):
    template = template_of(tmp_path, lengths)
    assert len(template.names) == 26_145
    assert len(template.video_names) == 56
    read = read_predictions(write_predictions(tmp_path / "p.csv", predictions))
    found = answer(template, read, CHALLENGE)
    assert [(one.beyond, one.after) for one in found.coverage] == [(1, 0)] * 8 + [(0, 1)] * 7 + [(0, 0)] * 41
    path = found.submission.write(tmp_path / "s.txt", CHALLENGE)
    assert check(path.read_bytes(), CHALLENGE, template) == ()
    assert check(path.read_bytes(), CHALLENGE) == ()  # it is the official size
    again = read_submission(path, CHALLENGE)
    assert again.names == template.names
    own = dict(zip(read.ids, (6 - read.y_pred).tolist(), strict=True))
    wrong = [n for n, y in zip(again.names, again.y.tolist(), strict=True) if own.get(n, y) != y]
    assert wrong == []
    assert sum(one.predicted for one in found.coverage) == len(read.ids) - 8


def test_smoothing_the_whole_template_calms_every_video(tmp_path, lengths, predictions):
    template = template_of(tmp_path, lengths)
    plain, calm = (
        answer(template, predictions, CHALLENGE, smoothing=setting).submission
        for setting in (None, Smoothing.parse("gaussian:101"))
    )
    assert all(one.changes[1] < one.changes[0] / 3 for one in difference(plain, calm, CHALLENGE).videos)
