"""A picture: untrusted bytes in, an upright 8-bit RGB image out, or a reason why not.

Only the formats that face data sets come in are opened. Nothing is guessed: a picture that is cut short, far too
large or of an unknown value range is refused rather than shown to a network half grey.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from backbones.errors import PictureError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
"""What Pillow may try to read; of moving pictures the first frame is taken."""

PLUGINS = (BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin)
"""Named so that they are registered at import: Pillow's own lazy registration races when threads open pictures."""

MAX_PIXELS = 89_478_485
"""Largest picture opened, width x height: a quarter of a GiB of RGB (Pillow's own warning level, here an error)."""

MAX_ASPECT = 32
"""Longest side / shortest side: beyond it, scaling the shortest side to a network's input would fill the memory."""

ALPHA = "over black"
"""What transparency becomes: the picture is composited over black, the padding colour of aligned face crops."""

ORIENTATION_TAG = 0x0112

# EXIF 2.32, tag 0x0112: how the stored rows must be turned to stand upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_picture(data: bytes) -> Image.Image:
    """Decode one picture file.

    Parameters
    ----------
    data : bytes
        The whole file. Safe to call from several threads.

    Returns
    -------
    PIL image, mode "RGB"
        Upright (EXIF orientation applied); transparency composited over black; 16-bit grey scaled by 1/257, not
        clipped; palettes, CMYK and grey converted. Colour profiles are not applied.

    Raises
    ------
    PictureError
        With the reason, when the bytes are not a usable picture.
    """
    with _opened(data) as image:
        image.load()
        check_size(*image.size)  # again: loading a TIFF may turn it
        return upright(to_rgb(image), orientation(image))


def picture_header(data: bytes) -> tuple[int, int, str]:
    """Width and height in pixels as stored, and Pillow's name of the pixel mode (`L`, `RGB`, …), without decoding.

    Raises
    ------
    PictureError
        If the bytes are no picture that `open_picture` would try to decode. A file whose pixels are cut short has a
        sound header: only decoding it tells.
    """
    with _opened(data) as image:
        return image.width, image.height, image.mode


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """A picture whose header was read and found sound; whatever goes wrong inside is told as a reason."""
    if not data:
        raise PictureError("the file is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_size(*image.size)
            yield image
    except (PictureError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise PictureError(f"not a {', '.join(FORMATS)} picture (it begins with {data[:8]!r})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"the picture has more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # a boundary: decoders raise nearly anything on damaged bytes, and the reason is kept
        reason = str(error).strip() or type(error).__name__
        raise PictureError(f"the picture is damaged: {reason}") from None


def check_size(width: int, height: int) -> None:
    """Refuse a picture that is empty, too large, or too thin, before its pixels take memory."""
    if width < 1 or height < 1:
        raise PictureError(f"the picture is {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise PictureError(f"the picture is {width} x {height}, more than {MAX_PIXELS:,} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PictureError(f"the picture is {width} x {height}: one side is over {MAX_ASPECT} times the other")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode Pillow decodes to 8-bit RGB, or say why its values have no one meaning."""
    if image.mode.startswith("I;16"):
        return grey16_to_rgb(np.asarray(image, dtype=np.uint16))
    if image.mode == "I" and image.format == "PNG":  # how older Pillow opens a 16-bit grey PNG
        return grey16_to_rgb(np.asarray(image).astype(np.uint16))
    if image.mode in ("I", "F"):
        kind = "32-bit integer" if image.mode == "I" else "floating-point"
        raise PictureError(f"the picture holds {kind} values, whose range is not known; save it with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        ground = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return Image.alpha_composite(ground, coloured).convert("RGB")
    return image.convert("RGB")


def grey16_to_rgb(grey: np.ndarray) -> Image.Image:
    """Scale 0..65535 to 0..255, rounding; Pillow's own conversion clips everything above 255 to white."""
    scaled = ((grey.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB")


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation 1..8; 1 (upright) where there is none."""
    value = image.getexif().get(ORIENTATION_TAG, 1)
    return value if isinstance(value, int) else 1


def upright(image: Image.Image, turn: int) -> Image.Image:
    """Turn the picture as its EXIF orientation says; a value outside 2..8 means it stands already."""
    return image.transpose(UPRIGHT[turn]) if turn in UPRIGHT else image
