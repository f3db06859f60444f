"""Opening a video file that somebody else made: that file and nothing else, and of its streams the one that is meant.

FFmpeg reads ``concat:a|b``, ``http:…`` and ``%d`` in a *name*, and lists such as HLS or ffconcat name further files and
addresses in their *content*. Here a video is bytes of an open file: its name is never shown to FFmpeg, formats that
refer to others are not among those it may try, and it may open nothing itself.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from cer_fusion.backbones.errors import MissingExtraError, VideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

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
_READ_AT_ONCE = 1 << 18
_DEFAULT_COUNTS = 5_000_000  # pixels that "this is the default stream" is worth to the command ffmpeg


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
        with container:
            yield container


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
