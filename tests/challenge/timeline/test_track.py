from __future__ import annotations

import pytest
from cer_fusion.challenge.timeline import Timeline
from cer_fusion.fusion.errors import TimelineError

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
