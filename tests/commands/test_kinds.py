"""Packages that may not import each other tell pictures by their first bytes, by one table."""

from __future__ import annotations

import io

import pytest
from PIL import Image

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from cer_fusion.backbones import PictureError
from cer_fusion.backbones import picture as backbones_picture
from cer_fusion.frames.finding import kind_of
from cer_fusion.kit.pictures import HEAD_BYTES, picture_kind
from tests.frames.clips import counted, write_clip

FRAMES = [Image.fromarray(picture) for picture in counted(3)]


def saved(form: str, *, moving: bool = False, **options: object) -> bytes:
    out = io.BytesIO()
    more = {"save_all": True, "append_images": FRAMES[1:]} if moving else {}
    FRAMES[0].save(out, form, **more, **options)
    return out.getvalue()


def box(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand + bytes(64)


# name, bytes, kind, whether it is opened, what `predict` and `frames` take it for
KINDS = [
    ("a.jpg", saved("JPEG"), "JPEG", True, "picture"),
    ("a.mpo", saved("MPO", moving=True), "JPEG", True, "picture"),
    ("a.png", saved("PNG"), "PNG", True, "picture"),
    ("a.apng", saved("PNG", moving=True), "PNG", True, "video"),
    ("a.gif", saved("GIF"), "GIF", True, "picture"),
    ("moves.gif", saved("GIF", moving=True), "GIF", True, "video"),
    ("a.bmp", saved("BMP"), "BMP", True, "picture"),
    ("a.webp", saved("WEBP"), "WebP", True, "picture"),
    ("moves.webp", saved("WEBP", moving=True), "WebP", True, "picture"),
    ("little.tif", saved("TIFF"), "TIFF", True, "picture"),
    ("big.tif", b"MM\0*" + bytes(60), "TIFF", True, "picture"),
    ("large.tif", saved("TIFF", big_tiff=True), "TIFF", True, "picture"),
    ("a.heic", box(b"heic"), "HEIC", False, "picture"),
    ("no ending", box(b"mif1"), "HEIC", False, "picture"),
    ("a.avif", box(b"avif"), "AVIF", False, "picture"),
    ("raw.cr3", box(b"crx "), "Canon raw", False, "picture"),
    ("a.jxl", b"\xff\x0a" + bytes(60), "JPEG XL", False, "picture"),
    ("boxed.jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), "JPEG XL", False, "picture"),
    ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60), "JPEG 2000", False, "picture"),
    ("a.j2k", b"\xff\x4f\xff\x51" + bytes(60), "JPEG 2000", False, "picture"),
    ("a.psd", b"8BPS\0\1" + bytes(60), "Photoshop", False, "picture"),
    ("film.mp4", box(b"isom"), "", False, "video"),
    ("film.jpg", box(b"isom"), "", False, "video"),
    ("script.ts", b"export const a: number = 1\n", "", False, "other"),
    ("notes.txt", b"BM is how bitmaps begin, and this is a text about them\n", "", False, "other"),
    ("two.txt", b"II is a Roman two, MM two thousand, GIF8 nothing\n", "", False, "other"),
    ("sound.wav", b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "", False, "other"),
    ("empty", b"", "", False, "other"),
]


@pytest.mark.parametrize(("name", "data", "kind", "opened", "taken_for"), KINDS, ids=[row[0] for row in KINDS])
def test_what_a_file_is_and_whether_it_is_opened_is_told_alike(tmp_path, name, data, kind, opened, taken_for):
    (tmp_path / name).write_bytes(data)
    assert picture_kind(data[:HEAD_BYTES]) == (kind, opened)
    assert kind_of(tmp_path / name) == taken_for
    try:
        backbones_picture.open_picture(data)
    except PictureError as error:
        told = str(error)
        assert ("the picture is damaged" in told) == (opened and bool(data))
        assert f" {kind} picture: convert it" in told or opened or not kind
    else:
        assert opened


def test_beginnings_of_files_are_known_whatever_follows():
    known = dict.fromkeys((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"), ("TIFF", True))
    known |= {b"\xff\xd8\xff": ("JPEG", True), b"GIF87a": ("GIF", True), b"RIFF\0\0\0\0WEBP": ("WebP", True)}
    known |= {b"BM" + bytes(12) + b"\x0c\0\0\0": ("BMP", True), b"\x76\x2f\x31\x01": ("OpenEXR", False)}
    known |= {box(brand): ("HEIC", False) for brand in (b"heim", b"heis", b"hevc", b"msf1", b"mif2")}
    known |= {box(b"avis"): ("AVIF", False)}
    known |= {box(brand): ("", False) for brand in (b"msdh", b"qt  ", b"M4A ")}
    known |= dict.fromkeys((b"RIFF\x00\x00\x00\x00AVI ", b"BM", b"II", b"GIF8"), ("", False))
    assert {head: picture_kind(head[:HEAD_BYTES]) for head in known} == known


def test_a_transport_stream_is_a_video_though_typescript_has_its_ending(tmp_path):
    path = write_clip(tmp_path / "a.ts", counted(3))
    assert path.read_bytes()[:1] == b"G"
    assert kind_of(path) == "video"
    assert picture_kind(path.read_bytes()[:32]) == ("", False)
