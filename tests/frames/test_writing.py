from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from cer_fusion.frames import VideoError, VideoReader, write_video
from cer_fusion.kit import OutputExistsError
from tests.frames.clips import counted, grey


def test_written_frames_are_read_back_at_their_times(tmp_path):
    times = [0.0, 0.04, 0.3, 0.31]
    assert write_video(tmp_path / "a.mp4", zip(times, counted(4), strict=True)) == 4
    frames = list(VideoReader(tmp_path / "a.mp4").frames())
    assert np.allclose([frame.time_s for frame in frames], times, atol=1e-4)
    assert [round(float(frame.picture.mean()) / 6) for frame in frames] == [0, 1, 2, 3]


def test_odd_sides_lose_a_line(tmp_path):
    write_video(tmp_path / "a.mkv", [(None, np.zeros((51, 33, 3), np.uint8))] * 2)
    assert next(iter(VideoReader(tmp_path / "a.mkv").frames())).picture.shape == (50, 32, 3)


def test_a_run_that_fails_leaves_nothing_behind(tmp_path):
    def frames():
        yield 0.0, grey()
        raise OSError("the source is gone")

    with pytest.raises(OSError, match="gone"):
        write_video(tmp_path / "a.mp4", frames())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "frames", "words"),
    [
        ("a.mp4", [], "no frame to write"),
        ("a.gif", [(0.0, grey())], "written as .mp4"),
        ("a.mp4", [(0.0, grey()), (0.1, grey()[:50])], "frame 2 is 160 x 50, the first 160 x 96"),
    ],
)
def test_what_cannot_be_a_video_is_refused(tmp_path, name, frames, words):
    with pytest.raises(VideoError, match=words):
        write_video(tmp_path / name, frames)
    assert not list(tmp_path.iterdir())


def test_a_video_that_is_there_is_replaced_only_when_that_is_asked_for(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match=r"a\.mp4 is there already(.|\n)*--overwrite"):
        write_video(path, [(None, np.zeros((50, 32, 3), np.uint8))] * 2, overwrite=False)
    assert path.read_bytes() == b"precious"
    assert [one.name for one in tmp_path.iterdir()] == ["a.mp4"]
    write_video(path, [(None, np.zeros((50, 32, 3), np.uint8))] * 2)
    assert path.read_bytes() != b"precious"
    write_video(tmp_path / "b.mp4", [(None, np.zeros((50, 32, 3), np.uint8))] * 2, overwrite=False)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize("name", ["12:30.mp4", "pipe:1.mov", "take %d.mkv", "-i.mp4"])
def test_a_name_is_a_name_whatever_ffmpeg_would_read_in_it(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert write_video(Path(name), [(None, picture) for picture in counted(3)]) == 3
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert sum(1 for _ in VideoReader(Path(name)).frames()) == 3
