from __future__ import annotations

from pathlib import Path

import pytest

from cer_fusion.frames import VideoError, frame_name, named_videos, video_name


@pytest.mark.parametrize(
    ("file", "name"),
    [("1.mp4", "01"), ("01.mp4", "01"), ("56.avi", "56"), ("120.mp4", "120"), ("talk.mp4", "talk"), ("a.b.mov", "a.b")],
)
def test_videos_are_named_as_the_challenge_does(file, name):
    assert video_name(Path(file)) == name


def test_frames_have_five_digits_at_least():
    assert (frame_name(1, "jpg"), frame_name(123456, "png")) == ("00001.jpg", "123456.png")


def test_two_files_of_one_name_are_refused(tmp_path):
    for name in ("1.mp4", "01.avi"):
        (tmp_path / name).touch()
    with pytest.raises(VideoError, match=r"01\.avi and 1\.mp4 would both be the folder '01'"):
        named_videos(tmp_path)


def test_a_folder_without_videos_says_what_it_holds(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(VideoError, match=r"it holds notes\.txt"):
        named_videos(tmp_path)


def test_bytes_that_are_no_text_are_written_out_in_a_name():
    assert video_name(Path("caf\udce9.mp4")) == "caf%E9"
