"""Frames, tracks, gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.challenge import Frame, Timeline, counted_from_zero, frame_name, parse_frame
from cer_fusion.challenge.timeline import at_frames, filled
from cer_fusion.fusion.errors import TimelineError

videos = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(deadline=None)
@given(videos, st.integers(1, 9_999_999), st.sampled_from(["", ".jpg", ".png", ".JPEG"]))
def test_a_frame_survives_its_name(video, number, suffix):
    frame = Frame(video, number, suffix)
    assert parse_frame(frame_name(frame)) == frame


def test_everything_before_the_last_slash_is_the_video():
    assert parse_frame("train/01/00012.jpg") == Frame("train/01", 12, ".jpg")


@pytest.mark.parametrize(
    ("sample_id", "message"),
    [
        ("00001.jpg", "no folder before the file name"),
        ("/00001.jpg", "no folder before the file name"),
        ("01\\00001.jpg", "backslashes, no slash"),
        ("01/0001.jpg", "frame number '0001' has 4 digits"),
        ("01/00000001.jpg", "has 8 digits"),
        ("01/000123.jpg", "zeros to spare"),
        ("01/00000.jpg", "frame 0, but frames are counted from 1"),
        ("01/frame_00001.jpg", "'frame_00001.jpg' is no frame number"),
        ("01/٠٠٠٠١.jpg", "is no frame number"),
        ("", "no folder"),
    ],
)
def test_an_id_that_names_no_frame_is_refused_with_the_reason(sample_id, message):
    with pytest.raises(TimelineError, match=message.replace("\\", "\\\\")) as error:
        parse_frame(sample_id)
    assert repr(sample_id) in str(error.value)


def test_frames_counted_from_zero_are_told_with_the_way_to_list_them_again():
    note = counted_from_zero(["01/00000.jpg", "01/00001.jpg", "02/000.png"])
    assert note is not None
    assert "2 videos have a frame 0 (first: '01/00000.jpg')" in note
    assert "--first-frame 0" in note
    assert counted_from_zero(["01/00001.jpg", "plain.jpg", "10/00010.jpg", "00000.jpg"]) is None


IDS = ("b/00003.jpg", "a/00007.png", "b/00001.jpg", "a/00002.png", "b/00002.jpg")


def test_rows_in_any_order_become_videos_in_time():
    timeline = Timeline.of(IDS)
    b, a = timeline.tracks
    assert (b.video, b.rows.tolist(), b.frames.tolist()) == ("b", [2, 4, 0], [1, 2, 3])
    assert (a.video, a.rows.tolist(), a.frames.tolist()) == ("a", [3, 1], [2, 7])
    assert timeline.groups == ("b", "a", "b", "a", "b")


def test_missing_frames_are_counted_inside_videos_only():
    b, a = Timeline.of(IDS).tracks
    assert (b.missing.size, b.longest_gap) == (0, 0)
    assert (a.missing.tolist(), a.longest_gap) == ([3, 4, 5, 6], 4)
    assert a.sample_id(4) == "a/00004.png"
    assert "4 frames are missing inside 1 of 2 videos (longest gap: 4 frames, video a)" in Timeline.of(IDS).gaps_text()
    assert Timeline.of(IDS[2:3]).gaps_text() == "No frame is missing inside the 1 videos."


def test_two_rows_of_one_frame_are_refused_by_name():
    with pytest.raises(TimelineError, match=r"frame 7 of video 'a': 'a/00007.png' and 'a/00007.jpg'"):
        Timeline.of([*IDS, "a/00007.jpg"])


def test_frame_numbers_that_cannot_be_meant_are_refused_before_memory_is_taken():
    ids = [f"{video}/{frame:05d}.jpg" for video in "ab" for frame in (1, 9_999_999)]
    with pytest.raises(TimelineError, match="4 rows span 19,999,998 frames"):
        Timeline.of(ids)


@settings(deadline=None)
@given(st.sets(st.integers(1, 60), min_size=1, max_size=20), st.lists(st.integers(-5, 70), min_size=1), st.data())
def test_filling_is_linear_in_time_and_holds_the_ends(frames, wanted, data):
    frames, wanted = np.array(sorted(frames)), np.array(wanted)
    values = np.random.default_rng(data.draw(st.integers(0, 99))).random((frames.size, 3))
    expected = np.stack([np.interp(wanted, frames, column) for column in values.T], axis=1)
    found = at_frames(values, frames, wanted)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    own = np.isin(wanted, frames)
    assert (found[own] == values[np.searchsorted(frames, wanted[own])]).all()


def test_gaps_are_closed_within_a_video_and_marked():
    timeline = Timeline.of(["a/00001.jpg", "b/00002.jpg", "a/00004.jpg", "b/00003.jpg"])
    a, b = filled(np.array([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75], [0.0, 1.0]]), timeline)
    np.testing.assert_allclose(a.values[:, 0], [1, 0.75, 0.5, 0.25])
    assert a.observed.tolist() == [True, False, False, True]
    assert b.values.tolist() == [[0.5, 0.5], [0.0, 1.0]]
