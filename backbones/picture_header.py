"""What a picture's header says: its size and pixel mode, without decoding its pixels."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from backbones.errors import PictureError
from backbones.picture import FORMATS, check_size


def picture_header(data: bytes) -> tuple[int, int, str]:
    """Width and height in pixels as stored, and Pillow's name of the pixel mode (`L`, `RGB`, …).

    Raises
    ------
    PictureError
        If the bytes are none of the formats that `open_picture` takes, or the size is one that it refuses. A file whose
        pixels are cut short has a sound header: only decoding it tells.
    """
    if not data:
        raise PictureError("the file is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_size(*image.size)
            return image.width, image.height, image.mode
    except (PictureError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise PictureError(f"not a {', '.join(FORMATS)} picture (it begins with {data[:8]!r})") from None
    except Exception as error:  # a boundary, as in open_picture
        raise PictureError(f"the header is damaged: {str(error).strip() or type(error).__name__}") from None
