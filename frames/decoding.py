"""A video file as a stream of upright RGB frames, one at a time, in the order in which they are shown.

Nothing is resampled in time: a variable frame rate is kept frame for frame, and every frame knows its time. What a
damaged file still gives is given, and every fault is told with the frame at which it was met. Interlaced frames are
deinterlaced, one for one, and high dynamic range is tone-mapped.

The file was made by somebody else: that file is opened and nothing else. FFmpeg reads ``concat:a|b``, ``http:…`` and
``%d`` in a *name*, and lists such as HLS or ffconcat name further files and addresses in their *content*. Here a video
is bytes of an open file: its name is never shown to FFmpeg, formats that refer to others are not among those it may
try, and it may open nothing itself.
"""

from __future__ import annotations

import functools
import math
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ..kit.errors import MissingExtraError
from ..kit.pictures import size_fault
from . import light
from .errors import DiskError, VideoError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.filter import Graph
    from av.video.stream import VideoStream

CODE = 3
"""Version of what stands here; part of the identity."""
_FAULTS_TOLD = 20
_STEADY = 0.1  # share by which the time from frame to frame may vary at a fixed rate: containers round times
_ENDS_EARLY_S = 0.5  # sound may go on so long after the last picture

_REFER_TO_OTHERS = {
    "hls", "concat", "dash", "webm_dash_manifest", "imf", "sdp", "rtp", "rtsp", "sap", "image2", "vobsub",
    "avisynth", "vapoursynth", "lavfi",
}  # fmt: skip
_NO_VIDEOS = {"image2pipe", "ico", "tty", "bin", "xbin", "adf", "idf", "ffmetadata", "alias_pix", "brender_pix"}
"""Single pictures, and text that FFmpeg would draw; the formats that end in `_pipe` are such, too."""
_LISTS = {
    b"#EXTM3U": "an HLS playlist", b"ffconcat version": "an ffconcat list", b"v=0\r\no=": "a session description",
    b"v=0\no=": "a session description", b"[playlist]": "a playlist", b"<asx": "a playlist",
    b"[Reference]": "a playlist",
}  # fmt: skip
_CLOCK = Fraction(1, 90_000)  # where a frame does not say what its time is counted in
_READ_AT_ONCE = 1 << 18
_DEFAULT_COUNTS = 5_000_000  # pixels that "this is the default stream" is worth to the command ffmpeg


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

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        self.path = Path(path)
        self.faults: list[str] = []
        self._untold = 0
        self._count = 0
        self._first: float | None = None
        self._shortest, self._longest = math.inf, 0.0
        self._turns: set[int] = set()
        self._mirrored = False
        self._interlaced = 0
        self._transfer = 0
        self._choice: str | None = None
        self._tag = "0"
        self._size: tuple[int, int] | None = None
        self._promised: dict[str, Any] = {}
        self._pixel_aspect = 1.0

    def frames(self) -> Iterator[VideoFrameRGB]:
        """Yield every frame in presentation order; memory does not grow with the video.

        Raises
        ------
        VideoError
            If the file is no video, or gives no frame.
        DiskError
            If the disk fails while it is read.
        MissingExtraError
            If PyAV is not installed.
        """
        last: float | None = None
        with opened(self.path) as container:
            stream, self._choice = moving_pictures(container, self.path)
            self._promised = _promised(container, stream)
            self._pixel_aspect = float(stream.sample_aspect_ratio or 1)
            self._tag = _tag(stream, "rotate") or "0"
            for raw, shown in self._progressive(
                decoded(container, stream, self.path, where=lambda: f"after frame {self._count}", fault=self._fault)
            ):
                self._count += 1
                self._transfer = self._transfer or int(stream.codec_context.color_trc or 0)
                time_s = None if raw.pts is None or raw.time_base is None else float(raw.pts * raw.time_base)
                self._note_time(last, time_s)
                last = time_s if time_s is not None else last
                self._first = last if self._first is None else self._first
                if raw.is_corrupt:
                    self._fault(f"frame {self._count}: damaged, the decoder filled in what was missing")
                yield VideoFrameRGB(
                    number=self._count, time_s=time_s, picture=self._upright(raw, shown), damaged=bool(raw.is_corrupt)
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
            "stream_choice": self._choice,
            "pixel_aspect": round(self._pixel_aspect, 4),
            "turned_degrees": sorted(self._turns),
            "mirrored": self._mirrored,
            "interlaced": self._interlaced,
            "high_dynamic_range": light.NAMES.get(self._transfer),
            "variable_frame_rate": known and self._longest > (1 + _STEADY) * self._shortest,
            "frame_s": {"shortest": self._shortest, "longest": self._longest} if known else None,
            "faults": [*self.faults, *([f"and {self._untold} more"] if self._untold else [])],
        }

    def _progressive(self, frames: Iterator[VideoFrame]) -> Iterator[tuple[VideoFrame, VideoFrame]]:
        """Every frame, and what is shown of it: itself, or its two half pictures, taken one after the other, as one
        that does not comb.

        From the first interlaced frame on all go through FFmpeg's bwdif, which looks at the frames around each, and
        leaves alone what is not interlaced; one comes out for each that goes in. The first has none before it: the
        second stands there, too, since beside itself bwdif would take it to be still. A change of size begins anew.
        """
        graph, shape = None, None
        inside: deque[VideoFrame | None] = deque()
        while (raw := next(frames, None)) is not None:
            self._interlaced += bool(raw.interlaced_frame)
            if graph is not None and shape != _shape(raw):
                yield from _drained(graph, inside)
                graph = None
            if graph is None:
                if not raw.interlaced_frame:
                    yield raw, raw
                    continue
                graph, shape = _deinterlacer(raw), _shape(raw)
                second = next(frames, None)
                if second is not None:
                    frames = chain([second], frames)
                    if shape == _shape(second):
                        inside.append(None)
                        graph.vpush(second)
            inside.append(raw)
            graph.vpush(raw)
            yield from _pulled(graph, inside)
        if graph is not None:
            yield from _drained(graph, inside)

    def _upright(self, raw: VideoFrame, shown: VideoFrame) -> NDArray[np.uint8]:
        """Square pixels, RGB, turned as the display matrix of `raw` says."""
        width = round(raw.width * self._pixel_aspect)
        fault = size_fault(width, raw.height)
        if fault is not None:
            raise VideoError(f"{self.path}: {fault}")
        if self._size not in (None, (width, raw.height)):
            self._fault(f"frame {self._count}: the picture's size changes to {width} x {raw.height}")
        self._size = (width, raw.height)
        turn, mirrored = self._turn(raw)
        self._turns.add(turn)
        self._mirrored |= mirrored
        pixels = self._rgb(shown, width)
        return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if mirrored else pixels, turn // 90))

    def _rgb(self, raw: VideoFrame, width: int) -> NDArray[np.uint8]:
        """The values as the frame's own matrix and range say; what is transparent over black, as of pictures."""
        import av

        alpha = any(component.is_alpha for component in raw.format.components)
        try:
            # One thread: several take three times as long, and in some directions lose a row of pixels now and then.
            if self._transfer in light.NAMES:
                deep = raw.reformat(width=width, format="rgb48le", threads=1).to_ndarray()
                return light.to_sdr(cast(NDArray[np.uint16], deep), self._transfer)
            pixels = raw.reformat(width=width, format="rgba" if alpha else "rgb24", threads=1).to_ndarray()
        except (av.FFmpegError, ValueError) as error:
            raise VideoError(
                f"{self.path}: frame {self._count} of format {raw.format.name} cannot be made RGB: {reason_of(error)}"
            ) from None
        if not alpha:
            return cast(NDArray[np.uint8], pixels)
        opaque = pixels[..., :3].astype(np.uint16) * pixels[..., 3:]
        return ((opaque + 127) // 255).astype(np.uint8)

    def _turn(self, raw: VideoFrame) -> tuple[int, bool]:
        """Degrees counter-clockwise, after a mirroring from left to right, that the display matrix means."""
        from av.sidedata.sidedata import Type

        stored: Any = cast(Any, raw.side_data).get(Type.DISPLAYMATRIX)
        if stored is None:
            if self._count == 1 and self._tag not in ("", "0"):
                self._fault(
                    f"its tag 'rotate' says {self._tag} degrees, which FFmpeg no longer heeds and no display matrix "
                    "confirms: it is kept as stored"
                )
            return 0, False
        matrix = np.frombuffer(bytes(stored), np.int32)
        a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
        found = quarter_turns(a, b, c, d)
        if found is None:
            degrees = round(math.degrees(math.atan2(b, a))) % 360
            raise VideoError(
                f"{self.path} is to be turned by {degrees} degrees clockwise, or slanted, which is no quarter turn: "
                "turn it upright first"
            )
        return found

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
        elif promised is None and duration is not None and last is not None and self._first is not None:
            shown = last - self._first
            if shown + _ENDS_EARLY_S < duration:
                self._fault(
                    f"after frame {self._count}: the video ends at {shown:.2f} s, though the file promises "
                    f"{duration:.2f} s"
                )

    def _fault(self, text: str) -> None:
        if len(self.faults) < _FAULTS_TOLD:
            self.faults.append(text)
        else:
            self._untold += 1


def decoded(
    container: InputContainer, stream: Any, path: Path, *, where: Callable[[], str], fault: Callable[[str], None]
) -> Iterator[Any]:
    """Yield a stream's frames as the decoder gives them; a packet that is none costs its own frames only.

    Parameters
    ----------
    container, stream
        As `opened` and the choice of a stream give them.
    path : Path
        For messages.
    where : callable
        Says how far one has come: "after frame 7".
    fault : callable
        Told what went wrong, and where.

    Raises
    ------
    DiskError
        If the disk fails.
    """
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            fault(f"{where()}: the file cannot be read on: {reason_of(error)}")
            packet = None
        except OSError as error:  # of the disk, not of the file: another try may have it whole
            raise DiskError(
                f"{path} cannot be read on {where()}: {error.strerror}\n"
                "  what was done is kept; run the same command again"
            ) from None
        try:
            yield from (stream.decode(None) if packet is None else packet.decode())
        except EOFError:  # the demuxer flushes by itself at a proper end
            pass
        except av.FFmpegError as error:
            fault(f"{where()}: a packet cannot be decoded: {reason_of(error)}")
        if packet is None:
            return


def quarter_turns(a: int, b: int, c: int, d: int) -> tuple[int, bool] | None:
    """Read the linear part of a display matrix (ISO/IEC 14496-12, 6.2.2): x' = a x + c y, y' = b x + d y, y down.

    Returns
    -------
    (int, bool) or None
        Degrees counter-clockwise (0, 90, 180, 270), and whether the picture is mirrored from left to right before it
        is turned; None for what is more than a degree away from all of these. A matrix of zeros means nothing.
    """
    if not (a or b or c or d):
        return 0, False
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    turn, upward = (math.degrees(angle) for angle in (math.atan2(b, a), math.atan2(-c, d)))  # clockwise
    quarters = round(turn / 90)
    off = max(abs((angle - 90 * quarters + 180) % 360 - 180) for angle in (turn, upward))
    return (-90 * quarters % 360, mirrored) if off <= 1 else None  # a degree, as ffmpeg has it


def _deinterlacer(like: VideoFrame) -> Graph:
    """One frame out for one frame in; those that say they are interlaced lose it."""
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=like.width, height=like.height, format=like.format, time_base=like.time_base or _CLOCK
    )
    filtering = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    sink = graph.add("buffersink")
    graph.link_nodes(source, filtering, sink).configure()
    return graph


def _shape(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _pulled(graph: Graph, inside: deque[VideoFrame | None]) -> Iterator[tuple[VideoFrame, VideoFrame]]:
    """What is ready, each behind the frame that it was made of; what was made of None is nobody's."""
    import av

    while inside:
        try:
            made = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
        raw = inside.popleft()
        if raw is not None:
            yield raw, made


def _drained(graph: Graph, inside: deque[VideoFrame | None]) -> Iterator[tuple[VideoFrame, VideoFrame]]:
    """The frames that were still inside."""
    graph.vpush(None)
    yield from _pulled(graph, inside)


def decoder_versions() -> dict[str, str]:
    """PyAV's version and those of the FFmpeg libraries that it brings."""
    av = require_av()
    libraries = {name: ".".join(map(str, number)) for name, number in sorted(av.library_versions.items())}
    wanted = ("libavcodec", "libavformat", "libavutil", "libswresample", "libswscale")
    return {"av": av.__version__, **{name: libraries[name] for name in wanted if name in libraries}}


def _promised(container: InputContainer, stream: VideoStream) -> dict[str, Any]:
    """What the file says of itself."""
    rate = stream.average_rate
    return {
        "container": container.format.name,
        "codec": stream.codec_context.name,
        "average_rate": None if rate is None else f"{rate.numerator}/{rate.denominator}",
        "frames_promised": stream.frames or None,
        "duration_s": _duration(container, stream),
    }


def _tag(stream: VideoStream, name: str) -> str:
    """What stands in a stream's metadata under a name, however that is capitalised there."""
    return next((value for key, value in stream.metadata.items() if key.lower() == name), "")


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds, of the pictures themselves where the file says it: sound may go on after them."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", _tag(stream, "duration"))  # Matroska
    if tag:
        return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    return None if container.duration is None else container.duration / 1_000_000


class _Bytes:
    """An open file as PyAV takes it, under a name that only hints at the format."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.name = "video" + (path.suffix if path.suffix.isascii() and path.suffix[1:].isalnum() else "")
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open a video; nothing else is opened on its behalf.

    Raises
    ------
    VideoError
        If the file cannot be read, is empty, is a list of other files, or no format that FFmpeg knows.
    MissingExtraError
        If PyAV is not installed.
    """
    av = require_av()
    if not path.is_file():
        raise VideoError(f"there is no video {path}")
    try:
        file = path.open("rb")
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}") from None
    with file:
        try:
            head = file.read(64)
            if not head:
                raise VideoError(f"{path} is empty (0 bytes): it is no video")
            kind = list_kind(head)
            if kind is not None:
                raise VideoError(f"{path} is {kind}: what it names is not opened; name the videos themselves")
            file.seek(0)
            container = av.open(
                _Bytes(file, path),
                metadata_errors="replace",
                buffer_size=_READ_AT_ONCE,
                container_options={"format_whitelist": _formats(), "protocol_whitelist": "none"},
            )
        except (av.FFmpegError, ValueError) as error:
            if isinstance(error, VideoError):
                raise
            raise VideoError(
                f"{path} cannot be opened as a video: {reason_of(error)}\n"
                "  a recording that was cut off before its end may lack its index; get the whole file"
            ) from None
        except OSError as error:
            raise VideoError(f"{path} cannot be read: {error.strerror}") from None
        try:
            with container:
                yield container
        finally:
            require_av()  # what was imported meanwhile may have turned its log on


def moving_pictures(container: InputContainer, path: Path) -> tuple[VideoStream, str | None]:
    """The stream that is meant, and in words which it is where there was a choice.

    As the command `ffmpeg` chooses (its manual, "Automatic stream selection"; `map_auto_video` in its source): the most
    pixels, where being marked as the default counts as five million; the first of equals. A cover is none.

    Raises
    ------
    VideoError
        If there is none, or none whose coding this FFmpeg knows.
    """
    from av.stream import Disposition

    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        if streams:
            raise VideoError(f"{path} holds pictures in a coding that this FFmpeg does not know")
        kinds = sorted({"a cover picture" if one.type == "video" else str(one.type) for one in container.streams})
        raise VideoError(f"{path} holds no moving pictures, only: {', '.join(kinds) or 'nothing'}")

    def worth(stream: VideoStream) -> int:
        default = bool(stream.disposition & Disposition.default)
        return stream.codec_context.width * stream.codec_context.height + _DEFAULT_COUNTS * default

    chosen = max(known, key=worth)  # the first of equals
    chosen.thread_type = "AUTO"
    others = [_stream_text(stream) for stream in streams if stream is not chosen]
    if not others:
        return chosen, None
    taken = f"of {len(streams)} video streams {_stream_text(chosen)} is taken, as ffmpeg would"
    return chosen, f"{taken}: not {', '.join(others)}"


def list_kind(head: bytes) -> str | None:
    """What a file is that begins so, if it is a list of other files."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((kind for start, kind in _LISTS.items() if text.lower().startswith(start.lower())), None)


def require_av() -> Any:
    """PyAV, or what to install."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(
            f"reading videos needs PyAV: {error}\n  install it with: pip install 'cer-fusion[video]'"
        ) from None
    # Its log's callback waits for Python's lock, which who closes a decoder holds while the decoder's threads come to
    # their end, and these may log: neither goes on. It is off unless turned on, as some torchvisions do when imported.
    av.logging.set_level(None)
    return av


def reason_of(error: Exception) -> str:
    """An error of FFmpeg in its own words, without the name that it knows the file by."""
    return str(getattr(error, "strerror", None) or error)


@functools.cache
def _formats() -> str:
    """What FFmpeg may try."""
    barred = _REFER_TO_OTHERS | _NO_VIDEOS
    return ",".join(
        name
        for name in sorted(require_av().formats_available)
        if not barred & set(name.split(",")) and not name.endswith("_pipe")
    )


def _stream_text(stream: VideoStream) -> str:
    coding: Any = stream.codec_context  # None where the coding is unknown, which its stub does not say
    if coding is None:
        return f"stream {stream.index} (unknown coding)"
    return f"stream {stream.index} ({coding.width} x {coding.height}, {coding.name})"
