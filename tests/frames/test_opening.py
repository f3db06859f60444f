from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

import av

from cer_fusion.frames import DiskError, FrameSettings, VideoError, VideoReader, make_frames
from cer_fusion.frames import decoding as decoding_module
from tests.frames.clips import busy, counted, write_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", counted(2)).read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        "12:30.mp4", "concat:a|b.mp4", "http:x.mp4", "pipe:0.mp4", "subfile,,start,1,end,2,,:a.mp4", "take %d.mp4",
        "%03d.gif.mp4", "[1]*?.mp4", "-i.mp4", "file:a.mp4", "caf\udce9.mp4", "no ending",
    ],
)  # fmt: skip
def test_a_name_is_a_name_whatever_ffmpeg_would_read_in_it(tmp_path, monkeypatch, clip, name):
    monkeypatch.chdir(tmp_path)
    try:
        Path(name).write_bytes(clip)
    except (OSError, UnicodeError) as error:
        pytest.skip(f"this file system holds no such name: {error}")
    assert sum(1 for _ in VideoReader(Path(name)).frames()) == 2


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        (".m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"),
        (".mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"),
        (".ffconcat", "ffconcat version 1.0\nfile '{}'\n"),
        (".mp4", "ffconcat version 1.0\nfile '{}'\n"),
        (".sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"),
    ],
)
def test_a_list_that_names_other_files_is_refused_and_not_followed(tmp_path, monkeypatch, clip, ending, text):
    (tmp_path / "other.mp4").write_bytes(clip)
    path = tmp_path / f"list{ending}"
    path.write_text(text.format("other.mp4"))
    with pytest.raises(VideoError, match="what it names is not opened; name the videos themselves"):
        list(VideoReader(path).frames())
    monkeypatch.setattr(decoding_module, "list_kind", lambda head: None)  # FFmpeg's own probing is not trusted either
    with pytest.raises(VideoError, match="cannot be opened as a video"):
        list(VideoReader(path).frames())


@pytest.mark.parametrize("ending", [".avi", ".mkv", ".ts"])
@pytest.mark.parametrize("first_is_large", [False, True])
def test_of_two_streams_the_larger_is_taken_and_it_is_said(tmp_path, ending, first_is_large):
    small, large = np.full((48, 64, 3), 30, np.uint8), np.full((96, 160, 3), 200, np.uint8)
    pictures = [large, small] if first_is_large else [small, large]
    path = several_streams(tmp_path / f"two{ending}", pictures)
    reader = VideoReader(path)
    assert {frame.picture.shape for frame in reader.frames()} == {(96, 160, 3)}
    taken = 0 if first_is_large else 1
    assert reader.facts()["stream_choice"] == (
        f"of 2 video streams stream {taken} (160 x 96, h264) is taken, as ffmpeg would: not stream {1 - taken} "
        "(64 x 48, h264)"
    )


def test_the_default_stream_is_taken_before_a_larger_one(tmp_path):
    small, large = np.full((48, 64, 3), 30, np.uint8), np.full((96, 160, 3), 200, np.uint8)
    path = several_streams(tmp_path / "two.mkv", [large, small], default=1)
    assert next(iter(VideoReader(path).frames())).picture.shape == (48, 64, 3)


def test_one_stream_is_no_choice(tmp_path):
    reader = VideoReader(write_clip(tmp_path / "a.mp4", counted(2)))
    assert len(list(reader.frames())) == 2
    assert reader.facts()["stream_choice"] is None


def several_streams(path: Path, pictures: list[np.ndarray], default: int | None = None) -> Path:
    from av.stream import Disposition

    with av.open(str(path), "w") as container:
        streams = []
        for i, picture in enumerate(pictures):
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width = picture.shape[:2]
            stream.pix_fmt = "yuv420p"
            if default is not None:
                stream.disposition = Disposition.default if i == default else Disposition.dub
            streams.append(stream)
        for _ in range(3):
            for stream, picture in zip(streams, pictures, strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def test_a_disk_that_fails_midway_loses_nothing_and_the_next_run_goes_on(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "1.mp4", busy(40), movflags="faststart")
    settings = FrameSettings(faces="none")
    whole = decoding_module._Bytes
    limit = path.stat().st_size // 2

    class Failing(whole):  # type: ignore[valid-type,misc]
        def __init__(self, file, name):
            super().__init__(file, name)
            self.read = self._read
            self._file = file

        def _read(self, n):
            if self._file.tell() >= limit:
                raise OSError(5, "Input/output error")
            return self._file.read(min(n, 1 << 12))

    monkeypatch.setattr(decoding_module, "_Bytes", Failing)
    with pytest.raises(DiskError, match=r"cannot be read on after frame \d+: Input/output error"):
        make_frames(path, "01", tmp_path / "out", settings, None)
    begun = len(list((tmp_path / "out" / ".01.frames" / "pictures").iterdir()))
    assert 0 < begun < 40
    monkeypatch.setattr(decoding_module, "_Bytes", whole)
    made = make_frames(path, "01", tmp_path / "out", settings, None)
    assert (made.counts["pictures"], made.facts["faults"]) == (40, [])


def test_a_video_that_may_not_be_read_is_told(tmp_path, clip):
    path = tmp_path / "a.mp4"
    path.write_bytes(clip)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(VideoError, match="cannot be read: Permission denied"):
        make_frames(path, "a", tmp_path / "out", FrameSettings(faces="none"), None)
