"""Ways in which the bytes of a file go wrong."""

from __future__ import annotations

import random
from collections.abc import Callable

Way = Callable[[bytes, bytes, random.Random], bytes]


def flip(data: bytes, _: bytes, draw: random.Random) -> bytes:
    """One bit is another one, anywhere: what cosmic rays and bad cables do."""
    out = bytearray(data)
    out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
    return bytes(out)


def overwrite(data: bytes, _: bytes, draw: random.Random) -> bytes:
    """A few bytes in a row are anything."""
    start = draw.randrange(len(data))
    length = min(draw.randrange(1, 17), len(data) - start)
    return data[:start] + draw.randbytes(length) + data[start + length :]


def zero(data: bytes, _: bytes, draw: random.Random) -> bytes:
    """A run of bytes is zero, as after a power cut on a file system that journals names only."""
    start = draw.randrange(len(data))
    length = min(draw.choice((16, 512, 4096)), len(data) - start)
    return data[:start] + bytes(length) + data[start + length :]


def truncate(data: bytes, _: bytes, draw: random.Random) -> bytes:
    """The end is missing."""
    return data[: draw.randrange(len(data))]


def extend(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """Something follows that does not belong."""
    return data + draw.choice((b"\0", b"\n", draw.randbytes(100), other))


def drop(data: bytes, _: bytes, draw: random.Random) -> bytes:
    """Bytes in the middle are missing, and all others moved up."""
    start = draw.randrange(len(data))
    return data[:start] + data[start + draw.randrange(1, 64) :]


def splice(data: bytes, other: bytes, draw: random.Random) -> bytes:
    """The first part of one file, the rest of another, as a copy that was resumed from the wrong source."""
    at = draw.randrange(min(len(data), len(other)))
    return data[:at] + other[at:]


WAYS: tuple[Way, ...] = (flip, overwrite, zero, truncate, extend, drop, splice)


def damaged(data: bytes, other: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Damage `data` in a random way that does change it; `other` is a file of the same kind.

    Returns
    -------
    str, bytes
        What was done, and the bytes.
    """
    while True:
        way = draw.choice(WAYS)
        out = way(data, other, draw)
        if out != data:
            return way.__name__, out
