"""What kind of picture a file is by its first bytes, and how large a picture may be, before anything decodes it."""

from __future__ import annotations

HEAD_BYTES = 32
"""As many as `picture_kind` looks at."""

MAX_PIXELS = 89_478_485
"""Largest picture opened, width x height: a quarter of a GiB of RGB (Pillow's own warning level, here an error)."""

MAX_ASPECT = 32
"""Longest side / shortest side: beyond it, scaling the shortest side to a network's input would fill the memory."""

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF", b"II*\0": "TIFF",
    b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF",
}  # fmt: skip
_BMP_HEADERS = {size.to_bytes(4, "little") for size in (12, 40, 52, 56, 64, 108, 124)}
_OTHERS = {
    b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL", b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000", b"8BPS": "Photoshop", b"\x76\x2f\x31\x01": "OpenEXR",
}  # fmt: skip
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
    **dict.fromkeys((b"mif1", b"mif2", b"msf1", b"miaf"), "HEIC"),
    b"crx ": "Canon raw",
}
"""Of ISO 14496-12, which videos are of, too: ISO/IEC 23008-12, AV1 image format, Canon's CR3."""


def picture_kind(head: bytes) -> tuple[str, bool]:
    """What kind of picture a file is by its first bytes, empty if none, and whether backbones open that kind."""
    for magic, kind in _SIGNATURES.items():
        if head.startswith(magic):
            return kind, True
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP", True
    if head[:2] == b"BM" and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS:  # two letters alone say little
        return "BMP", True
    if head[4:8] == b"ftyp":  # the brand tells pictures from videos
        return _BRANDS.get(head[8:12], ""), False
    return next((kind for magic, kind in _OTHERS.items() if head.startswith(magic)), ""), False


def size_fault(width: int, height: int) -> str | None:
    """Say why a picture is not to be decoded, being empty, too large, or too thin; None where it may be."""
    if width < 1 or height < 1:
        return f"the picture is {width} x {height} pixels"
    if width * height > MAX_PIXELS:
        return f"the picture is {width} x {height}, more than {MAX_PIXELS:,} pixels"
    if max(width, height) > MAX_ASPECT * min(width, height):
        return f"the picture is {width} x {height}: one side is over {MAX_ASPECT} times the other"
    return None
