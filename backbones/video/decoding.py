"""A video file as a stream of upright RGB frames, one at a time, in the order in which they are shown.

Nothing is resampled in time: a variable frame rate is kept frame for frame, and every frame knows its time. What a
damaged file still gives is given, and every fault is told with the frame at which it was met.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backbones.errors import MissingExtraError, PictureError, VideoError
from backbones.picture import check_size

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

CODE = 1
"""Version of what stands here; part of the identity."""
_FAULTS_TOLD = 20
_STEADY = 0.1  # share by which the time from frame to frame may vary at a fixed rate: containers round times
_ENDS_EARLY_S = 0.5  # sound may go on so long after the last picture


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFrameRGB:
    """One frame."""

    number: int
    """From 1, counting the frames that could be decoded."""
    time_s: float | None
    """When it is shown, from the file's own zero; None where the file does not say."""
    picture: NDArray[np.uint8]
    """(h, w, 3) RGB, upright, with square pixels."""
    damaged: bool
    """The decoder had to guess parts of it."""


class VideoReader:
    """Reads one video from its start to its end; `frames` is to be used once.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    faults : list of str
        What went wrong, in the order in which it was met; complete when `frames` has ended.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.faults: list[str] = []
        self._untold = 0
        self._count = 0
        self._shortest, self._longest = math.inf, 0.0
        self._turns: set[int] = set()
        self._size: tuple[int, int] | None = None
        self._promised: dict[str, Any] = {}
        self._pixel_aspect = 1.0

    def frames(self) -> Iterator[VideoFrameRGB]:
        """Yield every frame in presentation order; memory does not grow with the video.

        Raises
        ------
        VideoError
            If the file is no video, or gives no frame.
        MissingExtraError
            If PyAV is not installed.
        """
        last: float | None = None
        with _opened(self.path) as container:
            stream = _pictures_of(container, self.path)
            self._promised = _promised(container, stream)
            self._pixel_aspect = float(stream.sample_aspect_ratio or 1)
            for raw in self._decoded(container, stream):
                self._count += 1
                time_s = None if raw.pts is None or raw.time_base is None else float(raw.pts * raw.time_base)
                self._note_time(last, time_s)
                last = time_s if time_s is not None else last
                if raw.is_corrupt:
                    self._fault(f"frame {self._count}: damaged, the decoder filled in what was missing")
                yield VideoFrameRGB(
                    number=self._count, time_s=time_s, picture=self._upright(raw), damaged=bool(raw.is_corrupt)
                )
        self._note_the_end(last)
        if not self._count:
            reason = self.faults[0] if self.faults else "it holds no picture"
            raise VideoError(f"{self.path} gives no frame: {reason}")

    @property
    def promised(self) -> int | None:
        """Frames that the file says it has; known with the first frame, None where it does not say."""
        number: int | None = self._promised.get("frames_promised")
        return number

    def facts(self) -> dict[str, Any]:
        """What the file turned out to be, once `frames` has ended; JSON values."""
        known = self._longest > 0
        return {
            **self._promised,
            "frames": self._count,
            "turned_degrees": sorted(self._turns),
            "variable_frame_rate": known and self._longest > (1 + _STEADY) * self._shortest,
            "frame_s": {"shortest": self._shortest, "longest": self._longest} if known else None,
            "faults": [*self.faults, *([f"and {self._untold} more"] if self._untold else [])],
        }

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
        """Frames as the decoder gives them; a packet that is none costs its own frames only."""
        import av

        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self._fault(f"after frame {self._count}: the file cannot be read on: {_reason(error)}")
                packet = None
            try:
                yield from (stream.decode(None) if packet is None else packet.decode())
            except EOFError:  # the demuxer flushes by itself at a proper end
                pass
            except av.FFmpegError as error:
                self._fault(f"after frame {self._count}: a packet cannot be decoded: {_reason(error)}")
            if packet is None:
                return

    def _upright(self, raw: VideoFrame) -> NDArray[np.uint8]:
        """Square pixels, RGB, turned as the file's display matrix says."""
        width = round(raw.width * self._pixel_aspect)
        try:
            check_size(width, raw.height)
        except PictureError as error:
            raise VideoError(f"{self.path}: {error}") from None
        if self._size not in (None, (width, raw.height)):
            self._fault(f"frame {self._count}: the picture's size changes to {width} x {raw.height}")
        self._size = (width, raw.height)
        turn = round(raw.rotation) % 360  # counter-clockwise
        self._turns.add(turn)
        if turn % 90:
            raise VideoError(
                f"{self.path} is turned by {turn} degrees, which is no quarter turn: turn it upright first"
            )
        pixels = raw.reformat(width=width, format="rgb24").to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, turn // 90))

    def _note_time(self, last: float | None, time_s: float | None) -> None:
        if last is None or time_s is None:
            return
        if time_s <= last:
            self._fault(f"frame {self._count}: its time, {time_s:.3f} s, is not after {last:.3f} s")
            return
        self._shortest, self._longest = min(self._shortest, time_s - last), max(self._longest, time_s - last)

    def _note_the_end(self, last: float | None) -> None:
        promised, duration = self._promised["frames_promised"], self._promised["duration_s"]
        if promised is not None and self._count < promised:
            self._fault(f"after frame {self._count}: the video ends, though the file promises {promised} frames")
        elif promised is None and duration is not None and last is not None and last + _ENDS_EARLY_S < duration:
            self._fault(
                f"after frame {self._count}: the video ends at {last:.2f} s, though the file promises {duration:.2f} s"
            )

    def _fault(self, text: str) -> None:
        if len(self.faults) < _FAULTS_TOLD:
            self.faults.append(text)
        else:
            self._untold += 1


def decoder_versions() -> dict[str, str]:
    """PyAV's version and those of the FFmpeg libraries that it brings."""
    av = require_av()
    libraries = {name: ".".join(map(str, number)) for name, number in sorted(av.library_versions.items())}
    wanted = ("libavcodec", "libavformat", "libavutil", "libswscale")
    return {"av": av.__version__, **{name: libraries[name] for name in wanted if name in libraries}}


def require_av() -> Any:
    """PyAV, or what to install."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(
            f"reading videos needs PyAV: {error}\n  install it with: pip install 'cer-fusion[video]'"
        ) from None
    return av


def _opened(path: Path) -> InputContainer:
    av = require_av()
    if not path.is_file():
        raise VideoError(f"there is no video {path}")
    if not path.stat().st_size:
        raise VideoError(f"{path} is empty (0 bytes): it is no video")
    try:
        found: InputContainer = av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(
            f"{path} cannot be opened as a video: {_reason(error)}\n"
            "  a recording that was cut off before its end may lack its index; get the whole file"
        ) from None
    return found


def _pictures_of(container: InputContainer, path: Path) -> VideoStream:
    """The first stream of moving pictures; a cover is none."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None:
                raise VideoError(f"{path} holds pictures in a coding that this FFmpeg does not know")
            stream.thread_type = "AUTO"
            return stream
    kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
    raise VideoError(f"{path} holds no moving pictures, only: {kinds}")


def _promised(container: InputContainer, stream: VideoStream) -> dict[str, Any]:
    """What the file says of itself."""
    rate = stream.average_rate
    return {
        "container": container.format.name,
        "codec": stream.codec_context.name,
        "average_rate": None if rate is None else f"{rate.numerator}/{rate.denominator}",
        "frames_promised": stream.frames or None,
        "duration_s": None if container.duration is None else container.duration / 1_000_000,
    }


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
