from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from cer_fusion.frames import VideoError, VideoReader
from cer_fusion.frames.decoding import quarter_turns
from tests.frames.clips import SIZE, busy, counted, grey, write_clip

# ISO/IEC 14496-12, 6.2.2: what phones write for a picture to be turned 90 degrees clockwise, in FFmpeg's fixed point
CLOCKWISE = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frames_come_in_the_order_in_which_they_are_shown_and_are_numbered_from_one(tmp_path, name):
    path = write_clip(tmp_path / name, counted(30))  # H.264 with B frames: stored in another order
    frames = list(VideoReader(path).frames())
    assert [frame.number for frame in frames] == list(range(1, 31))
    assert [round(float(frame.picture.mean()) / 6) for frame in frames] == list(range(30))
    assert np.allclose([frame.time_s for frame in frames], np.arange(30) / 25)
    assert frames[0].picture.shape == (*SIZE, 3)


def test_a_whole_video_has_no_fault_and_a_fixed_rate(tmp_path):
    reader = VideoReader(write_clip(tmp_path / "a.mp4", counted(30)))
    assert sum(1 for _ in reader.frames()) == reader.promised == 30
    facts = reader.facts()
    assert (facts["faults"], facts["variable_frame_rate"], facts["turned_degrees"]) == ([], False, [0])


def test_a_variable_frame_rate_is_kept_frame_for_frame_and_told(tmp_path):
    times = [0, 40, 55, 200, 240, 700, 705]
    reader = VideoReader(write_clip(tmp_path / "v.mkv", counted(7), times_ms=times))
    assert [round(1000 * frame.time_s) for frame in reader.frames()] == times
    facts = reader.facts()
    assert facts["variable_frame_rate"]
    assert (round(facts["frame_s"]["shortest"], 3), round(facts["frame_s"]["longest"], 3)) == (0.005, 0.46)


def test_a_phone_video_stands_upright(tmp_path):
    stored = grey(40)
    stored[:24, :40] = 255  # top left as stored; turned clockwise it is at the top right
    reader = VideoReader(write_clip(tmp_path / "phone.mp4", [stored] * 3, matrix=CLOCKWISE))
    picture = next(iter(reader.frames())).picture
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    assert picture[:40, -24:].mean() > 240
    assert picture[:40, :24].mean() < 60
    assert picture[-40:].mean() < 60


def test_pixels_that_are_not_square_become_square(tmp_path):
    path = write_clip(tmp_path / "wide.mp4", counted(2), pixel_aspect=Fraction(3, 2))
    assert next(iter(VideoReader(path).frames())).picture.shape == (SIZE[0], SIZE[1] * 3 // 2, 3)


def test_no_damage_raises_anything_but_a_video_error(tmp_path):
    rng = random.Random(0)
    whole = [
        write_clip(tmp_path / name, busy(3) + counted(8), codec=codec).read_bytes()
        for name, codec in (("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"))
    ]
    refused = 0
    for _ in range(60):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.choice([1, 3, 30])):
            near_an_end = rng.choice([rng.randrange(600), rng.randrange(len(data) - 1500, len(data))])
            data[rng.choice([near_an_end, rng.randrange(len(data))])] = rng.randrange(256)
        (tmp_path / "x.bin").write_bytes(data[: rng.choice([len(data), len(data) // 2])])
        reader = VideoReader(tmp_path / "x.bin")
        try:
            count = sum(1 for _ in reader.frames())
        except VideoError:
            refused += 1
        else:
            assert reader.facts()["frames"] == count > 0
    assert 0 < refused < 60


def test_a_video_cut_off_keeps_its_frames_and_says_after_which_one_it_ends(tmp_path):
    whole = write_clip(tmp_path / "a.mp4", busy(40), movflags="faststart").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: int(len(whole) * 0.7)])
    reader = VideoReader(cut)
    count = sum(1 for _ in reader.frames())
    assert 0 < count < 40
    assert f"after frame {count}: the video ends, though the file promises 40 frames" in reader.faults


def test_a_stream_without_a_frame_count_is_measured_by_its_length(tmp_path):
    whole = write_clip(tmp_path / "a.mkv", busy(40)).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: int(len(whole) * 0.5)])
    reader = VideoReader(cut)
    count = sum(1 for _ in reader.frames())
    assert 0 < count < 40
    assert any(fault.startswith(f"after frame {count}: the video ends at") for fault in reader.faults)


def test_damage_in_the_middle_costs_some_frames_and_is_told_with_its_place(tmp_path):
    data = bytearray(write_clip(tmp_path / "a.mp4", busy(30), codec="mpeg4").read_bytes())
    third = len(data) // 3
    data[third : third + 4000] = np.random.default_rng(0).bytes(4000)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    reader = VideoReader(broken)
    frames = list(reader.frames())
    assert 10 < len(frames) <= 30
    assert reader.faults
    assert all("frame " in fault for fault in reader.faults)
    assert sum(frame.damaged for frame in frames) or any("cannot be decoded" in fault for fault in reader.faults)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"not a video at all" * 20, "cannot be opened as a video")],
    ids=["empty", "text"],
)
def test_what_is_no_video_is_refused_by_name(tmp_path, content, words):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=rf"x\.mp4 {words}"):
        list(VideoReader(path).frames())


def test_an_index_that_never_got_written_is_explained(tmp_path):
    data = write_clip(tmp_path / "a.mp4", counted(20)).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoError, match="cut off before its end may lack its index"):
        list(VideoReader(tmp_path / "cut.mp4").frames())


def test_sound_alone_gives_no_frame(tmp_path):
    import av

    with av.open(str(tmp_path / "s.mka"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(VideoError, match="no moving pictures, only: audio"):
        list(VideoReader(tmp_path / "s.mka").frames())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VideoError, match="there is no video"):
        list(VideoReader(tmp_path / "none.mp4").frames())


STORED = np.kron(np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
ONE = 1 << 16
UPRIGHT = {  # a, b, c, d of the matrix, and what a player shows: x' = a x + c y, y' = b x + d y
    "as stored": ((1, 0, 0, 1), lambda p: p),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down mirrored": ((1, 0, 0, -1), lambda p: p[::-1]),
    "half turn": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
    "clockwise": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "counter-clockwise": ((0, -1, 1, 0), lambda p: np.rot90(p)),
    "transposed": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
    "transversed": ((0, -1, -1, 0), lambda p: p[::-1, ::-1].swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", UPRIGHT)
def test_every_turn_and_mirroring_of_a_display_matrix_is_applied(tmp_path, name):
    (a, b, c, d), shown = UPRIGHT[name]
    plain = next(iter(VideoReader(write_clip(tmp_path / "plain.mp4", [STORED])).frames())).picture
    matrix = [a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30]
    reader = VideoReader(write_clip(tmp_path / "turned.mp4", [STORED], matrix=matrix))
    (frame,) = reader.frames()
    assert (frame.picture == shown(plain)).all()
    assert reader.facts()["mirrored"] == (a * d - b * c < 0)


@pytest.mark.parametrize(
    ("matrix", "found"),
    [
        ((0, 0, 0, 0), (0, False)),
        ((2, 0, 0, 3), (0, False)),
        ((65535, 300, -300, 65535), (0, False)),
        ((46341, 46341, -46341, 46341), None),
        ((65536, 0, 65536, 65536), None),
    ],
    ids=["zeros", "scaled", "a quarter degree", "45 degrees", "slanted"],
)
def test_what_is_no_quarter_turn_is_told_from_what_nearly_is(matrix, found):
    assert quarter_turns(*matrix) == found


def test_a_slanted_picture_is_refused_by_its_angle(tmp_path):
    matrix = [46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30]
    path = write_clip(tmp_path / "a.mp4", counted(2), matrix=matrix)
    with pytest.raises(VideoError, match="turned by 45 degrees clockwise"):
        list(VideoReader(path).frames())


@pytest.mark.parametrize(("full", "values"), [(True, (0, 128, 255)), (False, (16, 126, 235))])
def test_full_and_limited_range_give_the_same_grey(tmp_path, full, values):
    """ITU-R BT.601: limited range holds black at 16 and white at 235."""
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv444p"
        stream.codec_context.color_range = 2 if full else 1
        for value in values:
            planes = np.full((3, *SIZE), 128, np.uint8)
            planes[0] = value
            frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
            frame.color_range = 2 if full else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    seen = [int(frame.picture.mean().round()) for frame in VideoReader(tmp_path / "a.mkv").frames()]
    assert np.allclose(seen, (0, 128, 255), atol=1)


@pytest.mark.parametrize("format", ["gray", "yuv444p10le", "yuv420p", "yuv422p", "gray10le", "bgra"])
def test_every_layout_of_pixels_becomes_rgb(tmp_path, format):
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = 37, 51
        stream.pix_fmt = format
        picture = av.VideoFrame.from_ndarray(np.full((37, 51, 3), 200, np.uint8), format="rgb24")
        container.mux(stream.encode(picture.reformat(format=format, threads=1)))  # several lose rows of 10 bits
        container.mux(stream.encode(None))
    (frame,) = VideoReader(tmp_path / "a.mkv").frames()
    assert frame.picture.shape == (37, 51, 3)
    assert abs(frame.picture.astype(int) - 200).max() <= 2


def test_what_is_transparent_lies_over_black_as_in_pictures(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "bgra"
        picture = np.full((*SIZE, 4), 200, np.uint8)
        picture[:, :80, 3], picture[:, 80:, 3] = 0, 255
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgra")))
        container.mux(stream.encode(None))
    (frame,) = VideoReader(tmp_path / "a.mkv").frames()
    assert (frame.picture[:, :80] == 0).all()
    assert (frame.picture[:, 80:] == 200).all()


def test_sound_that_goes_on_after_the_pictures_is_no_fault(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream, sound = container.add_stream("libx264", rate=25), container.add_stream("pcm_s16le", rate=8000)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        sound.layout = "mono"
        for picture in counted(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 24000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(sound.encode(frame))
    reader = VideoReader(tmp_path / "a.mkv")
    assert len(list(reader.frames())) == 5
    assert reader.facts()["faults"] == []


def test_a_transport_stream_that_does_not_begin_at_zero_is_whole(tmp_path):
    reader = VideoReader(write_clip(tmp_path / "a.ts", counted(30)))
    assert len(list(reader.frames())) == 30
    assert reader.facts()["faults"] == []


def test_a_tag_that_tells_another_turn_than_the_matrix_is_told(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        stream.metadata["rotate"] = "90"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(), format="rgb24")))
        container.mux(stream.encode(None))
    reader = VideoReader(tmp_path / "a.mkv")
    (frame,) = reader.frames()
    assert frame.picture.shape == (*SIZE, 3)
    assert "says 90 degrees" in reader.facts()["faults"][0]


def interlaced(path, n=6):
    """A bright bar that moves by eight pixels a frame, and four from one half picture to the other."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1:interlaced=1"})
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        for i in range(n):
            picture = grey(40)
            picture[0::2, 20 + 8 * i : 60 + 8 * i] = 220
            picture[1::2, 24 + 8 * i : 64 + 8 * i] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def combing(picture):
    """How far a line is from both its neighbours, at most."""
    lines = picture.astype(int)
    return int(np.minimum(abs(lines[1:-1] - lines[:-2]), abs(lines[1:-1] - lines[2:])).max())


@pytest.mark.parametrize("n", [1, 2, 6])
def test_interlaced_frames_are_deinterlaced_one_for_one(tmp_path, n):
    reader = VideoReader(interlaced(tmp_path / "i.mkv", n))
    frames = list(reader.frames())
    assert [frame.number for frame in frames] == list(range(1, n + 1))
    assert np.allclose([frame.time_s for frame in frames], np.arange(n) / 25, atol=0.001)
    assert reader.facts()["interlaced"] == n
    assert n == 1 or max(combing(frame.picture) for frame in frames) < 40
    left_edges = [int(np.argmax(frame.picture[48].mean(axis=1) > 128)) for frame in frames]
    assert np.allclose(left_edges, 20 + 8 * np.arange(n), atol=4)  # in their order


def test_what_is_not_interlaced_is_left_as_it_is(tmp_path):
    path = write_clip(tmp_path / "a.mp4", busy(3))
    assert max(combing(frame.picture) for frame in VideoReader(path).frames()) > 100


@pytest.mark.parametrize(("transfer", "name", "white"), [(16, "PQ", 573), (18, "HLG", 721)])
def test_high_dynamic_range_is_tone_mapped_and_told(tmp_path, transfer, name, white):
    """BT.2408: white paper is at 58 % of PQ's signal and at 75 % of HLG's; 10 bits of limited range."""
    import av

    levels = [64, 300, 400, white, white + 80, 940]
    with av.open(str(tmp_path / "h.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.pix_fmt, stream.width, stream.height = "yuv420p10le", 32, 32
        coding = stream.codec_context
        coding.color_trc, coding.color_primaries, coding.colorspace, coding.color_range = transfer, 9, 9, 1
        for i, level in enumerate(levels):
            frame = av.VideoFrame(32, 32, "yuv420p10le")
            for number, plane in enumerate(frame.planes):
                plane.update(np.full(plane.buffer_size // 2, 512 if number else level, np.uint16).tobytes())
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    reader = VideoReader(tmp_path / "h.mkv")
    pictures = [frame.picture for frame in reader.frames()]
    shown = [int(picture.mean()) for picture in pictures]
    assert reader.facts()["high_dynamic_range"] == name
    assert all(np.ptp(picture) <= 2 for picture in pictures)  # grey stays grey
    assert shown == sorted(shown)
    assert shown[0] == 0
    assert shown[-1] >= 250
    assert 215 < shown[3] < 250  # white paper: rolled off, not clipped
