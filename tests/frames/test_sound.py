"""Sound by time stamps: what is heard around a frame is what sounded when the frame was shown, or nothing."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from scipy.io import wavfile

from cer_fusion.frames import FolderError, FrameSettings, FrameSound, VideoError, VideoReader, make_frames, read_sound
from cer_fusion.frames.sound import RATE_HZ, Sound, probe
from cer_fusion.kit.errors import Masked
from tests.frames.clips import tones, write_sounding

WINDOW_S = 0.4
STEADY = range(0, 2000, 40)
UNEVEN = [0, 40, 70, 200, 233, 300, 410, 480, 777, 930, 990, 1004, 1011, 1120, 1300, 1420, 1490, 1700, 1960]
STEP_S, LOW, HIGH = 1.0, 500.0, 2000.0


def stepping(rate_hz: int = 48_000, end_s: float = 2.0, start_s: float = 0.0) -> np.ndarray:
    return tones((0, LOW), (STEP_S, HIGH), end_s=end_s, rate_hz=rate_hz, start_s=start_s)


def times(path: Path) -> list[float]:
    return [frame.time_s for frame in VideoReader(path).frames() if frame.time_s is not None]


def share_above(sound: np.ndarray) -> float:
    """Share of a window that has the high pitch: 0 to 1, by the energy on either side of the pitches' middle."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    hz = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    return float(power[hz > (LOW + HIGH) / 2].sum() / max(power.sum(), 1e-9))


def errors_ms(sound: Sound, at: Sequence[float]) -> list[float]:
    """By how much each window that holds the step says that the step is elsewhere than it is."""
    found = []
    for time_s in at:
        if abs(time_s - STEP_S) < 0.4 * WINDOW_S:
            heard = sound.around(time_s, WINDOW_S)
            if len(heard) < WINDOW_S * RATE_HZ:
                continue
            share = share_above(heard)
            found.append(1000 * (time_s + WINDOW_S / 2 - share * WINDOW_S - STEP_S))
    return found


def switches_ms(sound: Sound) -> float:
    """When the high pitch takes over, in blocks of 5 ms: what a lossy coding leaves of the step."""
    (piece,) = sound.pieces
    blocks = piece.samples[: len(piece.samples) // 80 * 80].reshape(-1, 80)
    high = [share_above(block) > 0.5 for block in blocks]
    return 1000 * piece.start_s + 5.0 * high.index(True)


@pytest.mark.parametrize(
    ("ending", "codec", "rate_hz"),
    [("mkv", "pcm_s16le", 48_000), ("mov", "pcm_s16le", 44_100), ("mp4", "aac", 44_100), ("mp4", "aac", 48_000),
     ("mkv", "libopus", 48_000), ("mp4", "libmp3lame", 44_100), ("avi", "pcm_s16le", 8_000)],
)  # fmt: skip
def test_the_step_of_a_tone_is_heard_at_its_frame_whatever_the_container_and_rate(tmp_path, ending, codec, rate_hz):
    path = write_sounding(tmp_path / f"1.{ending}", STEADY, stepping(rate_hz), rate_hz=rate_hz, codec=codec)
    sound, at = read_sound(path), times(path)
    assert len(at) == len(STEADY)
    assert abs(switches_ms(sound) - 1000 * STEP_S) <= 20  # an encoder smears the step over what it codes at once
    if codec == "pcm_s16le":
        assert max(map(abs, errors_ms(sound, at))) < 1
    for time_s in at:
        if abs(time_s - STEP_S) > 0.02:
            assert (share_above(sound.around(time_s, WINDOW_S)) > 0.5) is (time_s > STEP_S)


def test_a_variable_frame_rate_counts_by_its_time_stamps(tmp_path):
    path = write_sounding(tmp_path / "1.mkv", UNEVEN, stepping())
    found = errors_ms(read_sound(path), times(path))
    assert len(found) >= 5
    assert max(map(abs, found)) < 1


def test_sound_that_begins_later_is_where_it_sounded_and_frames_before_it_are_masked(tmp_path):
    late = stepping(start_s=0.5)
    path = write_sounding(tmp_path / "1.mkv", STEADY, late, offset_s=0.5)
    sound = read_sound(path)
    assert sound.pieces[0].start_s == pytest.approx(0.5, abs=0.001)
    assert max(map(abs, errors_ms(sound, times(path)))) < 1
    with pytest.raises(Masked, match="begins later"):
        sound.around(0.44, WINDOW_S)
    assert len(sound.around(0.5, WINDOW_S)) == pytest.approx(WINDOW_S / 2 * RATE_HZ, abs=16), "shortened, not filled"


def test_a_causal_window_ends_with_its_frame_and_the_future_changes_nothing_in_it(tmp_path):
    at = [i / 25 for i in range(50)]
    whole, rng = stepping(rate_hz=RATE_HZ), np.random.default_rng(0)
    path = write_sounding(tmp_path / "1.mkv", STEADY, whole, rate_hz=RATE_HZ)
    sound = read_sound(path)
    for time_s in at[5:]:
        heard = sound.around(time_s, WINDOW_S, causal=True)
        assert len(heard) in (n := int(min(time_s, WINDOW_S) * RATE_HZ), n - 1)
        assert (share_above(heard[-400:]) > 0.5) is (time_s > STEP_S + 0.013), time_s
    for time_s in (0.4, 1.0, 1.52):
        other = whole.copy()
        other[round(time_s * RATE_HZ) :] = rng.normal(0, 0.1, len(other) - round(time_s * RATE_HZ))
        changed = read_sound(write_sounding(tmp_path / f"{time_s}.mkv", STEADY, other, rate_hz=RATE_HZ))
        assert np.array_equal(
            sound.around(time_s, WINDOW_S, causal=True), changed.around(time_s, WINDOW_S, causal=True)
        ), time_s
        assert not np.array_equal(sound.around(time_s, WINDOW_S), changed.around(time_s, WINDOW_S)), "the test can fail"


def test_a_causal_window_between_two_pieces_hears_the_one_before(tmp_path):
    path = write_sounding(tmp_path / "1.mkv", STEADY, stepping(), holes_s=[(0.5, 0.58)])
    sound = read_sound(path)
    before, after = sound.pieces
    heard = sound.around(before.end_s + 0.02, WINDOW_S, causal=True)
    assert np.array_equal(heard, before.samples[-len(heard) :])
    assert len(heard) == pytest.approx(WINDOW_S * RATE_HZ, abs=1)
    soon = after.start_s - 0.01
    assert soon - before.end_s > 0.05
    assert len(sound.around(soon, WINDOW_S)) == pytest.approx(WINDOW_S / 2 * RATE_HZ, abs=1)
    with pytest.raises(Masked, match="hole"):
        sound.around(soon, WINDOW_S, causal=True)


def test_frames_behind_the_end_of_a_shorter_track_are_masked_and_windows_at_it_are_shortened(tmp_path):
    path = write_sounding(tmp_path / "1.mkv", STEADY, stepping(end_s=1.2))
    sound = read_sound(path)
    assert len(sound.around(1.16, WINDOW_S)) == pytest.approx((WINDOW_S / 2 + 0.04) * RATE_HZ, abs=16)
    assert len(sound.around(0.6, WINDOW_S)) == WINDOW_S * RATE_HZ
    for time_s in (1.28, 1.96):
        with pytest.raises(Masked, match="has ended"):
            sound.around(time_s, WINDOW_S)


def test_a_hole_in_the_sound_shifts_nothing_behind_it_and_is_heard_by_nobody(tmp_path):
    path = write_sounding(tmp_path / "1.mkv", STEADY, stepping(), holes_s=[(0.3, 0.7)])
    sound = read_sound(path)
    assert len(sound.pieces) == 2
    assert max(map(abs, errors_ms(sound, times(path)))) < 1
    with pytest.raises(Masked, match="hole"):
        sound.around(0.5, WINDOW_S)
    assert len(sound.around(0.8, WINDOW_S)) < WINDOW_S * RATE_HZ


def test_a_video_without_a_track_and_one_that_does_not_say_times_give_nothing(tmp_path):
    silent = read_sound(write_sounding(tmp_path / "1.mkv", STEADY))
    assert (silent.has_track, silent.pieces) == (False, ())
    with pytest.raises(Masked, match="no sound track"):
        silent.around(0.5, WINDOW_S)
    with pytest.raises(Masked, match="does not say when"):
        read_sound(write_sounding(tmp_path / "2.mkv", STEADY, stepping())).around(None, WINDOW_S)


def test_a_track_of_silence_is_sound_that_is_silent_and_is_told(tmp_path):
    sound = read_sound(write_sounding(tmp_path / "1.mkv", STEADY, np.zeros(96_000, np.float32)))
    assert sound.is_silent
    assert sound.around(1.0, WINDOW_S).shape == (WINDOW_S * RATE_HZ,)
    assert not read_sound(write_sounding(tmp_path / "2.mkv", STEADY, stepping())).is_silent


@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
def test_stereo_becomes_the_mean_of_its_channels_in_every_coding(tmp_path, codec):
    left = tones((0, 440), end_s=1.0)
    path = write_sounding(
        tmp_path / "1.mkv", range(0, 1000, 40), np.stack([left, np.zeros_like(left)], axis=1), codec=codec
    )
    loudness = np.sqrt(np.mean(read_sound(path).around(0.5, WINDOW_S) ** 2))
    assert loudness == pytest.approx(0.5 / 2 / np.sqrt(2), rel=0.03)


def test_of_two_tracks_the_one_that_ffmpeg_takes_is_heard_and_told(tmp_path):
    mono, stereo = tones((0, LOW), end_s=1.0), tones((0, HIGH), end_s=1.0)
    path = write_sounding(tmp_path / "1.mkv", range(0, 1000, 40), mono, np.stack([stereo, stereo], axis=1))
    with_default = read_sound(path)
    assert with_default.choice is not None
    assert "of 2 sound streams" in with_default.choice
    heard = share_above(with_default.around(0.5, WINDOW_S)) > 0.5
    assert heard is ("(2 channels" in with_default.choice.partition(" is taken")[0])


def test_damaged_sound_costs_itself_and_is_told(tmp_path):
    path = write_sounding(tmp_path / "1.mp4", STEADY, stepping(44_100), rate_hz=44_100, codec="aac")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = os.urandom(400)
    path.write_bytes(data)
    try:
        sound = read_sound(path)
    except VideoError:
        pytest.skip("the damage met what no sound is found without")
    assert sum(piece.end_s - piece.start_s for piece in sound.pieces) > 1


def test_values_that_are_no_numbers_are_told_and_spoil_nothing_around_them(tmp_path):
    track = stepping()
    track[48_000:49_000] = np.nan
    sound = read_sound(write_sounding(tmp_path / "1.mkv", STEADY, track, codec="pcm_f32le"))
    assert "no numbers" in sound.faults[0]
    assert np.isfinite(sound.pieces[0].samples).all()


def test_the_probe_is_one_everywhere():
    assert probe() == "cc4b39a43614d6ea0546b786346b17ca393ef1089277bdae524669c15b9ea46b"


def framed(folder: Path, *names: str) -> None:
    """Whole frames of videos in `folder/videos`, as the command makes them."""
    for name in names:
        (path,) = (folder / "videos").glob(f"{name}.*")
        make_frames(path, name, folder / "frames", FrameSettings(faces="none"), None)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "videos").mkdir()
    write_sounding(tmp_path / "videos" / "a.mkv", UNEVEN, stepping())
    write_sounding(tmp_path / "videos" / "b.mkv", STEADY)
    framed(tmp_path, "a", "b")
    return tmp_path


def samples_of(data: bytes) -> np.ndarray:
    rate_hz, samples = wavfile.read(io.BytesIO(data))
    assert (rate_hz, samples.dtype) == (RATE_HZ, np.float32)
    return np.asarray(samples)


def test_the_sound_of_a_frame_is_found_by_its_picture_and_time(folder):
    source = FrameSound(folder / "frames", folder / "videos", WINDOW_S)
    whole = read_sound(folder / "videos" / "a.mkv")
    for i, time_ms in enumerate(UNEVEN, start=1):
        data, digest, _ = source.content(f"a/{i:05d}.jpg")
        assert np.array_equal(samples_of(data), whole.around(time_ms / 1000, WINDOW_S))
        assert digest == source.digest(f"a/{i:05d}.jpg")
    assert len({source.digest(f"{v}/{i:05d}.jpg") for v in "ab" for i in range(1, 20)}) == 38
    with pytest.raises(Masked, match="no sound track"):
        source.content("b/00001.jpg")


def test_the_digest_follows_from_video_and_time_and_not_from_the_picture(folder):
    source = FrameSound(folder / "frames", folder / "videos", WINDOW_S)
    before = source.digest("a/00003.jpg")
    (folder / "frames" / "a" / "00003.jpg").write_bytes(b"another picture")
    assert FrameSound(folder / "frames", folder / "videos", WINDOW_S).digest("a/00003.jpg") == before
    assert FrameSound(folder / "frames", folder / "videos", 2 * WINDOW_S).digest("a/00003.jpg") == before


def test_a_changed_video_a_missing_one_and_frames_of_nobody_are_refused(folder):
    video = folder / "videos" / "a.mkv"
    stat = video.stat()
    data = bytearray(video.read_bytes())
    data[-100] ^= 1
    video.write_bytes(data)
    os.utime(video, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(VideoError, match="is not the video that its frames were made of"):
        FrameSound(folder / "frames", folder / "videos", WINDOW_S).digest("a/00001.jpg")
    video.rename(folder / "videos" / "z.mkv")
    with pytest.raises(VideoError, match=r"holds no video 'a' \(a\.mkv\); it holds b, z"):
        FrameSound(folder / "frames", folder / "videos", WINDOW_S).digest("a/00001.jpg")
    (folder / "frames" / "c").mkdir()
    with pytest.raises(FolderError, match="no index beside"):
        FrameSound(folder / "frames", folder / "videos", WINDOW_S).digest("c/00001.jpg")
    with pytest.raises(FolderError, match=r"has no picture b/00099\.jpg"):
        FrameSound(folder / "frames", folder / "videos", WINDOW_S).digest("b/00099.jpg")
    table = folder / "frames" / "b.frames.csv"
    table.write_text(table.read_text().replace("0.040000", "0.050000"))
    with pytest.raises(FolderError, match="is not the table"):
        FrameSound(folder / "frames", folder / "videos", WINDOW_S).digest("b/00001.jpg")


def test_a_video_that_changes_while_it_is_read_gives_no_row(folder, monkeypatch):
    source = FrameSound(folder / "frames", folder / "videos", WINDOW_S)
    source.digest("a/00001.jpg")
    video = folder / "videos" / "a.mkv"
    video.write_bytes(video.read_bytes() + b"\0")
    with pytest.raises(OSError, match="changed while it was read"):
        source.content("a/00001.jpg")
