"""Small videos made in the test, and a detector for them: faces are squares of pure colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from cer_fusion.frames import Box, Face, overlap
from tests.frames.drawn import canvas

SIZE = (96, 160)
"""Height and width."""


def write_clip(
    path: Path,
    pictures: Iterable[np.ndarray],
    *,
    times_ms: Sequence[int] | None = None,
    matrix: list[int] | None = None,
    codec: str = "libx264",
    pixel_aspect: Fraction | None = None,
    **options: str,
) -> Path:
    """Encode pictures at 25 frames a second, or at the times given; `options` are the container's."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for i, picture in enumerate(pictures):
            if not i:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def grey(level: int = 90) -> np.ndarray:
    return np.full((*SIZE, 3), level, np.uint8)


def counted(n: int) -> list[np.ndarray]:
    """Frames that tell their number: a grey that rises by six."""
    return [grey(6 * i) for i in range(n)]


def busy(n: int) -> list[np.ndarray]:
    """Frames of noise, so that each takes its share of the file."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8) for _ in range(n)]


def squares(*places: tuple[int, int], side: int = 24) -> np.ndarray:
    """A frame with a white square at each (left, top)."""
    frame = grey()
    for left, top in places:
        frame[top : top + side, left : left + side] = 255
    return frame


class SquareDetector:
    """Finds white squares, left to right, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def detect(self, picture: np.ndarray) -> list[Face]:
        self.asked += 1
        white = picture.min(axis=2) > 200
        columns = np.flatnonzero(white.sum(axis=0) > 8)
        found = []
        for run in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1) if columns.size else []:
            rows = np.flatnonzero(white[:, run].sum(axis=1) > 8)
            left, top, right, bottom = float(run[0]), float(rows[0]), float(run[-1] + 1), float(rows[-1] + 1)
            points = [(0.35, 0.4), (0.65, 0.4), (0.5, 0.6), (0.38, 0.8), (0.62, 0.8)]
            landmarks = tuple((left + x * (right - left), top + y * (bottom - top)) for x, y in points)
            found.append(Face(box=(left, top, right, bottom), score=0.9, landmarks=landmarks))
        return found

    def identity(self) -> dict[str, object]:
        return {"detector": "squares"}

    def versions(self) -> dict[str, str]:
        return {"squares": "1"}


def shots(lengths_and_faces: Sequence[tuple[int, Sequence[tuple[int, int, int]]]]) -> list[np.ndarray]:
    """Frames of several shots, with a cut between them; faces drift by a pixel a frame."""
    return [
        canvas(*((number, left + i, top) for number, left, top in faces))[0]
        for length, faces in lengths_and_faces
        for i in range(length)
    ]


class FollowingDetector(SquareDetector):
    """Finds squares near where they were, too, and notes in which way each frame was looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.ways: list[str] = []

    def detect(self, picture: np.ndarray) -> list[Face]:
        self.ways.append("everywhere")
        return super().detect(picture)

    def follow(self, picture: np.ndarray, boxes: Sequence[Box]) -> list[Face]:
        self.ways.append("near")
        found = super().detect(picture)
        return [face for face in found if any(overlap(face.box, box) > 0.3 for box in boxes)]


def tones(*steps: tuple[float, float], end_s: float, rate_hz: int = 48_000, start_s: float = 0.0) -> np.ndarray:
    """Sound (n,) float32 whose pitch changes: (time, Hz) each; 0 Hz is silence. It begins at `start_s`."""
    t = start_s + np.arange(round((end_s - start_s) * rate_hz)) / rate_hz
    pitch = np.zeros(len(t))
    for time_s, hz in steps:
        pitch[t >= time_s] = hz
    return (0.5 * np.sin(2 * np.pi * np.cumsum(pitch) / rate_hz)).astype(np.float32)


def write_sounding(
    path: Path,
    times_ms: Sequence[int],
    *tracks: np.ndarray,
    rate_hz: int = 48_000,
    codec: str = "pcm_s16le",
    offset_s: float = 0.0,
    holes_s: Sequence[tuple[float, float]] = (),
    shown: Sequence[np.ndarray] | None = None,
    **options: str,
) -> Path:
    """Encode pictures (grey, unless `shown`) at the times given, and tracks of sound beside; (n,) or (n, channels).

    A track begins at `offset_s`; what of it lies in a hole is not written, and time goes on behind it.
    """
    with av.open(str(path), "w", options=options) as container:
        pictures = container.add_stream("mpeg4", rate=25)
        pictures.height, pictures.width, pictures.pix_fmt = *SIZE, "yuv420p"
        pictures.codec_context.time_base = Fraction(1, 1000)
        sounds = []
        for track in tracks:
            channels = 1 if track.ndim == 1 else track.shape[1]
            sounds.append(container.add_stream(codec, rate=rate_hz, layout={1: "mono", 2: "stereo"}[channels]))
        for i, time_ms in enumerate(times_ms):
            picture = grey(90 + 20 * (i % 2)) if shown is None else shown[i]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        for stream, track in zip(sounds, tracks, strict=True):
            whole = track[:, None] if track.ndim == 1 else track
            kind = stream.codec_context.format.name
            for first in range(0, len(whole), 1024):
                if any(a <= offset_s + first / rate_hz < b for a, b in holes_s):
                    continue
                part = whole[first : first + 1024]
                if kind == "s16":
                    values, form = np.round(part * 32767).astype(np.int16).reshape(1, -1), "s16"
                elif kind == "flt":
                    values, form = np.ascontiguousarray(part.reshape(1, -1)), "flt"
                else:
                    values, form = np.ascontiguousarray(part.T.astype(np.float32)), "fltp"
                layout = stream.codec_context.layout.name
                frame = av.AudioFrame.from_ndarray(values, format=form, layout=layout)
                frame.sample_rate, frame.time_base = rate_hz, Fraction(1, rate_hz)
                frame.pts = round(offset_s * rate_hz) + first
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def numbered(number: int) -> np.ndarray:
    """A frame that says its number, 0 to 255, in eight bars, whatever a codec makes of it."""
    frame = grey(40)
    for bit in range(8):
        frame[:, 20 * bit : 20 * (bit + 1)] = 210 if number >> bit & 1 else 40
    return frame


def number_on(picture: np.ndarray) -> int:
    """The number that `numbered` wrote."""
    return sum((picture[:, 20 * bit + 5 : 20 * bit + 15].mean() > 125) << bit for bit in range(8))


def cut_out(source: Path, target: Path, first_s: float, last_s: float, **options: str) -> Path:
    """Copy what lies between two times without coding it again, from the key frame before, as `ffmpeg -c copy` does.

    What is before the first time has negative time stamps; `options` of the container say what becomes of them.
    """
    with av.open(str(source)) as given, av.open(str(target), "w", options=options) as made:
        streams = {one.index: made.add_stream_from_template(one) for one in given.streams if one.type != "data"}
        packets = [packet for packet in given.demux(list(given.streams)) if packet.dts is not None]
        began = max(
            (packet.pts * packet.time_base for packet in packets
             if packet.stream.type == "video" and packet.is_keyframe and packet.pts * packet.time_base <= first_s),
        )  # fmt: skip
        for packet in packets:
            time_s = float(packet.pts * packet.time_base)
            earliest = float(began) if packet.stream.type == "video" else first_s - 0.02
            if earliest <= time_s < last_s:
                shift = round(first_s / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream.index]
                made.mux(packet)
    return target
