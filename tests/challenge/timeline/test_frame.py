from __future__ import annotations

import pytest
from cer_fusion.challenge.timeline import Frame, counted_from_zero, frame_name, parse_frame
from cer_fusion.fusion.errors import TimelineError
from hypothesis import given, settings
from hypothesis import strategies as st

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
