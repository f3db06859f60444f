"""Sound against pictures, frame by frame, by what both say of their moment: whole clips, cut ones, real ones.

In made clips each picture has its number on it, and the sound is a melody that is nowhere twice the same: where in it a
frame's window lies is found by correlation, to a sample of 16 kHz, whatever the containers' time stamps say.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

import av
from PIL import Image
from scipy.io import wavfile
from scipy.signal import correlate, resample_poly

from cer_fusion.frames import FrameSettings, FrameSound, make_frames, read_sound, read_table, table_path
from cer_fusion.frames.sound import RATE_HZ
from cer_fusion.kit.errors import Masked
from tests.backbones.conftest import SHARED
from tests.frames.clips import cut_out, number_on, numbered, tones, write_sounding

CLIPS = SHARED / "footage" / "videos"
WINDOW_S, ROOM_S, LEAST_S = 0.4, 0.1, 0.1
STEADY = range(0, 3200, 40)
UNEVEN = np.cumsum(np.random.default_rng(1).integers(11, 110, 60)).tolist()


class Aligned(NamedTuple):
    """How a clip's frames and sound lie to each other."""

    frames: int
    compared: int
    masked: dict[str, int]
    most_ms: float
    """The largest misalignment."""


def melody(end_s: float, rate_hz: int = 48_000) -> np.ndarray:
    rng = np.random.default_rng(0)
    steps = [(0.03 * i, float(rng.uniform(300, 3000))) for i in range(int(end_s / 0.03) + 1)]
    return tones(*steps, end_s=end_s, rate_hz=rate_hz)


def at_16k(track: np.ndarray, rate_hz: int) -> np.ndarray:
    common = np.gcd(rate_hz, RATE_HZ)
    return resample_poly(track, RATE_HZ // common, rate_hz // common)


def aligned(
    video: Path, work: Path, moment: Callable[[np.ndarray, float], float], line: np.ndarray, *, causal: bool = False
) -> Aligned:
    """Take a clip through frames, table and `FrameSound`, and look for what each frame hears in the whole sound.

    Parameters
    ----------
    moment : callable (picture, time_s)
        When the frame is shown by the time of `line`.
    line : ndarray of shape (n,)
        The whole sound, 16 kHz.
    """
    make_frames(video, "v", work, FrameSettings(faces="none"), None)
    rows = [row for row in read_table(table_path(work, "v")) if row.picture]
    source = FrameSound(work, {"v": video}, WINDOW_S, causal=causal)
    pieces, room = read_sound(video).pieces, round(ROOM_S * RATE_HZ)
    padded = np.concatenate([np.zeros(RATE_HZ), line, np.zeros(RATE_HZ)])
    most_ms, compared, masked = 0.0, 0, dict[str, int]()
    for row in rows:
        try:
            _, heard = wavfile.read(io.BytesIO(source.content(row.picture)[0]))
        except Masked as error:
            masked[str(error)] = masked.get(str(error), 0) + 1
            continue
        if len(heard) < LEAST_S * RATE_HZ or heard.std() < 1e-3:
            continue
        begins = next(p.start_s for p in pieces if p.start_s - 0.06 <= row.time_s <= p.end_s + 0.06)
        starts_s = max(row.time_s - WINDOW_S / (1 if causal else 2), begins)
        there_s = starts_s + moment(np.asarray(Image.open(work / row.picture)), row.time_s) - row.time_s
        first = RATE_HZ + round(there_s * RATE_HZ) - room
        if first < 0:
            continue
        there = padded[first : first + len(heard) + 2 * room]
        power = np.convolve(there**2, np.ones(len(heard)), "valid") + 1e-6  # so that what is loud does not draw it
        found = (first + int(np.argmax(correlate(there, heard, "valid") / np.sqrt(power))) - RATE_HZ) / RATE_HZ
        most_ms, compared = max(most_ms, abs(1000 * (found - there_s))), compared + 1
    return Aligned(len(rows), compared, masked, most_ms)


CODED = [
    ("mkv", "pcm_s16le", 48_000), ("mp4", "aac", 44_100), ("mov", "pcm_s16le", 44_100), ("mp4", "libmp3lame", 44_100),
    ("mkv", "libopus", 48_000),
]  # fmt: skip


@pytest.mark.parametrize("causal", [False, True], ids=["around", "causal"])
@pytest.mark.parametrize(("ending", "codec", "rate_hz"), CODED)
def test_every_frame_of_a_clip_hears_its_moment_the_first_and_the_last_too(tmp_path, ending, codec, rate_hz, causal):
    track = melody(3.3, rate_hz)
    shown = [numbered(i) for i in range(len(STEADY))]
    path = write_sounding(tmp_path / f"1.{ending}", STEADY, track, rate_hz=rate_hz, codec=codec, shown=shown)
    found = aligned(path, tmp_path / "f", lambda p, _: number_on(p) * 0.04, at_16k(track, rate_hz), causal=causal)
    assert found.frames == 80
    assert found.masked == {}
    assert found.compared >= (76 if causal else 80)
    assert found.most_ms < 2


@pytest.mark.parametrize("late_s", [0.5, -0.5], ids=["later", "earlier"])
@pytest.mark.parametrize(
    ("ending", "codec", "options"),
    [("mkv", "pcm_s16le", {}), ("mkv", "pcm_s16le", {"avoid_negative_ts": "disabled"}), ("mp4", "aac", {}),
     ("mov", "pcm_s16le", {"avoid_negative_ts": "disabled", "use_editlist": "1"})],
)  # fmt: skip
@pytest.mark.parametrize("times_ms", [STEADY, UNEVEN], ids=["steady", "uneven"])
def test_a_track_that_begins_before_or_after_the_picture_is_heard_where_it_sounded(
    tmp_path, late_s, ending, codec, options, times_ms
):
    track = melody(4.0, 48_000)
    shown = [numbered(i) for i in range(len(times_ms))]
    path = write_sounding(
        tmp_path / f"1.{ending}", times_ms, track, codec=codec, offset_s=late_s, shown=shown, **options
    )
    found = aligned(path, tmp_path / "f", lambda p, _: times_ms[number_on(p)] / 1000 - late_s, at_16k(track, 48_000))
    assert found.most_ms < 2
    early = sum(time_ms < 1000 * late_s - 50 for time_ms in times_ms)
    assert sum(found.masked.values()) == pytest.approx(early, abs=1)
    assert found.compared >= found.frames - early - 2


CUTS = [
    ("mkv", "pcm_s16le", "mkv", {}), ("mp4", "aac", "mp4", {}), ("mp4", "aac", "mkv", {}),
    ("mp4", "aac", "mp4", {"avoid_negative_ts": "make_zero"}),
    ("mov", "pcm_s16le", "mov", {"avoid_negative_ts": "disabled"}),
]  # fmt: skip


def cut_and_aligned(folder: Path, first_s: float, last_s: float, ending: str, codec: str, cut: str, **options: str):
    track = melody(3.3, 44_100)
    shown = [numbered(i) for i in range(len(STEADY))]
    whole = write_sounding(folder / f"w.{ending}", STEADY, track, rate_hz=44_100, codec=codec, shown=shown)
    clip = cut_out(whole, folder / f"clip.{cut}", first_s, last_s, **options)
    return aligned(clip, folder / "frames", lambda p, _: number_on(p) * 0.04, at_16k(track, 44_100))


@pytest.mark.parametrize(("first_s", "last_s"), [(0.0, 1.0), (1.04, 2.2), (2.2, 3.2)])
@pytest.mark.parametrize(("ending", "codec", "cut", "options"), CUTS)
def test_clips_that_are_cut_from_one_video_hear_what_the_whole_has_at_their_frames(
    tmp_path, first_s, last_s, ending, codec, cut, options
):
    found = cut_and_aligned(tmp_path, first_s, last_s, ending, codec, cut, **options)
    assert found.frames >= (last_s - first_s) / 0.04 - 1
    assert found.compared >= (last_s - first_s) / 0.04 - 3
    assert found.most_ms < 2, found


@pytest.mark.parametrize(("ending", "codec", "cut", "options"), CUTS)
def test_a_cut_between_two_pictures_shifts_less_than_a_picture_and_only_where_ffmpeg_moves_the_first_to_zero(
    tmp_path, ending, codec, cut, options
):
    """FFmpeg's reader of MP4 moves the first whole picture behind the start of an edit list to that start."""
    found = cut_and_aligned(tmp_path, 1.03, 2.2, ending, codec, cut, **options)
    assert found.compared >= 26
    assert found.most_ms < (12 if cut in ("mp4", "mov") and options != {"avoid_negative_ts": "make_zero"} else 2)


def heard_in_packets(path: Path) -> np.ndarray:
    """The whole sound of a file, 16 kHz from its own zero, made in another way: each packet at its own time stamp.

    At the file's own rate, and the whole is resampled by scipy.
    """
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [
            (float(f.pts * f.time_base), f.to_ndarray(), f.format.is_planar, f.layout.nb_channels, f.sample_rate)
            for f in container.decode(stream)
        ]
    rate_hz = packets[0][-1]
    line = np.zeros(round((packets[-1][0] + 2) * rate_hz))
    for time_s, values, is_planar, channels, _ in packets:
        mono = values.mean(axis=0) if is_planar else values.reshape(-1, channels).mean(axis=1)
        line[round(time_s * rate_hz) :][: len(mono)] = mono
    return at_16k(line, rate_hz)


REAL = {
    "cartoon_no_face.mp4": 0.1, "cartoon_bunny_vp8.webm": 1.0, "face_then_cartoon_hevc_vfr.mov": 0.1,
    "chaplin_bw_small_faces.mp4": 0.1,
}  # fmt: skip
"""Clip to the most that a frame's sound may be off, in ms: Matroska's times are whole milliseconds."""


@pytest.mark.slow
@pytest.mark.parametrize("causal", [False, True], ids=["around", "causal"])
@pytest.mark.parametrize("name", REAL)
@pytest.mark.skipif(not CLIPS.is_dir(), reason="../shared/footage is not here")
def test_every_frame_of_a_real_clip_hears_its_moment(tmp_path, name, causal):
    found = aligned(CLIPS / name, tmp_path, lambda _, time_s: time_s, heard_in_packets(CLIPS / name), causal=causal)
    assert found.compared + sum(found.masked.values()) >= found.frames - 5  # causal windows of the first are short
    assert found.most_ms <= REAL[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first_s", "last_s"), [("cartoon_no_face.mp4", 1.5, 3.5), ("chaplin_bw_small_faces.mp4", 4.0, 6.0)]
)
@pytest.mark.skipif(not CLIPS.is_dir(), reason="../shared/footage is not here")
def test_a_clip_cut_from_a_real_one_hears_what_the_whole_has_at_the_same_pictures(tmp_path, name, first_s, last_s):
    found = cut_of_real(CLIPS / name, tmp_path, first_s, last_s)
    assert found.compared >= 40
    assert found.most_ms < 0.1


def cut_of_real(video: Path, folder: Path, first_s: float, last_s: float) -> Aligned:
    """Align the frames of a clip that is cut from a real one by where the whole has the very same pictures."""
    make_frames(video, "w", folder / "whole", FrameSettings(faces="none"), None)
    rows = [row for row in read_table(table_path(folder / "whole", "w")) if row.picture]
    shown = [(row.time_s - first_s, seen(np.asarray(Image.open(folder / "whole" / row.picture)))) for row in rows]
    clip = cut_out(video, folder / f"clip{video.suffix}", first_s, last_s)

    def moment(picture: np.ndarray, time_s: float) -> float:
        unlike = [
            (float(np.abs(seen(picture) - one).mean()), abs(there_s - time_s), there_s)
            for there_s, one in shown
            if abs(there_s - time_s) < 1
        ]
        least = min(unlike)[0]
        return first_s + min(one[1:] for one in unlike if one[0] <= 1.05 * least + 0.05)[1]

    return aligned(clip, folder / "frames", moment, heard_in_packets(video))


def seen(picture: np.ndarray) -> np.ndarray:
    """A picture, coarsely."""
    return picture[::4, ::4].mean(axis=2)
