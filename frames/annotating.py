"""What people look at: pictures with boxes around faces and bars for what was predicted, and videos of such pictures.

A video is written whole or not at all, its frames at the times they had.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..kit.files import whole_file
from .decoding import require_av
from .errors import VideoError
from .faces import Box

_LINE, _GROUND, _BAR, _TEXT = (255, 196, 0), (16, 16, 16), (50, 110, 205), (255, 255, 255)
_CLOCK = 90_000  # ticks a second, as MPEG counts time
_RATE = 25.0  # frames a second where nothing tells
_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".mov": "mov"}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What is drawn about one face."""

    box: Box | None
    """Around the face; None: the whole picture is meant, and no box is drawn."""
    bars: tuple[tuple[str, float], ...]
    """Words and shares from 0 to 1, from top to bottom."""


def annotated(picture: NDArray[np.uint8], marks: Sequence[Mark]) -> NDArray[np.uint8]:
    """Draw marks: (h, w, 3) uint8 RGB -> the same shape, a new array.

    Bars stand below the box; where there is no room, inside it or at the picture's lower edge.
    """
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    size = max(9, round(min(image.size) / 28))
    font = ImageFont.load_default(size)
    for mark in marks:
        left, top, right, bottom = mark.box or (0, 0, image.width, image.height)
        if mark.box is not None:
            draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=_LINE, width=max(1, size // 6))
        _bars(draw, mark, (left, bottom), image.size, font, size)
    return np.asarray(image)


def write_video(
    path: Path | str, frames: Iterable[tuple[float | None, NDArray[np.uint8]]], *, overwrite: bool = True
) -> int:
    """Write frames as H.264.

    Parameters
    ----------
    path : Path
        Ends in `.mp4`, `.mkv` or `.mov`; put there in one step when all frames are there.
    frames : iterable of (time in seconds or None, (h, w, 3) uint8 RGB)
        In rising time and of one size; a side of odd length loses its last line, which the codec cannot hold.
    overwrite : bool
        Replace a file of that name.

    Returns
    -------
    int
        Frames written.

    Raises
    ------
    VideoError
        If the ending is another, there is no frame, one has another size, or this FFmpeg has no H.264 encoder.
    OutputExistsError
        If the name is taken and not to be overwritten.
    """
    path = Path(path)
    av = require_av()
    check_video_name(path)
    check_encoder()
    count, last, size = 0, -1, None
    # as an open file: in a name FFmpeg would read `12:30.mp4` as a protocol
    with (
        whole_file(path, overwrite=overwrite) as temporary,
        temporary.open("w+b") as file,
        av.open(file, "w", format=_FORMATS[path.suffix.lower()]) as container,
    ):
        stream = container.add_stream("libx264", rate=round(_RATE), options={"crf": "20", "preset": "veryfast"})
        for time_s, picture in frames:
            height, width = (side - side % 2 for side in picture.shape[:2])
            if size is None:
                size = (height, width)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.time_base = Fraction(1, _CLOCK)
            if size != (height, width):
                raise VideoError(f"frame {count + 1} is {width} x {height}, the first {size[1]} x {size[0]}")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            due = round((count / _RATE if time_s is None else time_s) * _CLOCK)
            last = max(due, last + 1)
            frame.pts, frame.time_base = last, Fraction(1, _CLOCK)
            container.mux(stream.encode(frame))
            count += 1
        if not count:
            raise VideoError(f"there is no frame to write to {path}")
        container.mux(stream.encode(None))
    return count


def check_encoder() -> None:
    """Refuse a PyAV that cannot write H.264."""
    if "libx264" not in require_av().codecs_available:
        raise VideoError(
            "this PyAV has no H.264 encoder (libx264)\n  install its wheel: pip install --only-binary av av"
        )


def check_video_name(path: Path | str) -> None:
    """Refuse a name whose ending says no form that is written here."""
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise VideoError(f"a video is written as {', '.join(_FORMATS)}, however: {path}")


def _bars(
    draw: ImageDraw.ImageDraw,
    mark: Mark,
    corner: tuple[float, float],
    picture: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: int,
) -> None:
    if not mark.bars:
        return
    texts = [f"{word} {100 * share:.0f} %" for word, share in mark.bars]
    width = max(draw.textlength(text, font=font) for text in texts) + size
    height = round(1.3 * size)
    x = max(0.0, min(corner[0], picture[0] - width))
    y = max(0.0, min(corner[1], picture[1] - height * len(texts)))
    for text, (_, share) in zip(texts, mark.bars, strict=True):
        draw.rectangle((x, y, x + width, y + height), fill=_GROUND)
        draw.rectangle((x, y, x + width * min(1.0, max(0.0, share)), y + height), fill=_BAR)
        draw.text((x + size / 3, y), text, fill=_TEXT, font=font)
        y += height
