"""Opening untrusted picture files."""

from __future__ import annotations

import io
import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from PIL import Image

from cer_fusion.backbones.errors import PictureError
from cer_fusion.backbones.picture import MAX_PIXELS, open_picture, orientation, picture_header, to_rgb, upright
from tests.backbones.conftest import Encode, ramp


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(open_picture(data))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_each_format_that_face_data_comes_in_is_opened(encode: Encode, form: str) -> None:
    image = open_picture(encode(ramp(40, 30), form))
    assert image.mode == "RGB"
    assert image.size == (40, 30)


def test_a_lossless_picture_keeps_every_pixel(encode: Encode) -> None:
    assert np.array_equal(pixels(encode(ramp(31, 17))), np.asarray(ramp(31, 17)))


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_turned_by_its_camera_stands_upright(encode: Encode, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encode(ramp(20, 12), "PNG", exif=exif)
    upright = np.asarray(ramp(20, 12))
    expected = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[:, ::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[::-1],
    }[turn]
    assert np.array_equal(pixels(data), expected)


def test_an_orientation_that_does_not_exist_changes_nothing(encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    assert pixels(encode(ramp(20, 12), "PNG", exif=exif)).shape == (12, 20, 3)


def test_grey_becomes_three_equal_channels(encode: Encode) -> None:
    grey = ramp(16, 16).convert("L")
    found = pixels(encode(grey))
    assert np.array_equal(found, np.repeat(np.asarray(grey)[..., None], 3, axis=2))


def test_sixteen_bit_grey_is_scaled_and_not_clipped_to_white(encode: Encode) -> None:
    values = np.array([[0, 256, 257, 32768, 65279, 65535]], dtype=np.uint16)
    found = pixels(encode(Image.fromarray(values)))
    assert found[0, :, 0].tolist() == [round(value / 257) for value in values[0].tolist()] == [0, 1, 1, 128, 254, 255]


def test_transparency_is_composited_over_black(encode: Encode) -> None:
    image = Image.new("RGBA", (4, 1), (200, 100, 50, 255))
    for x, alpha in enumerate((0, 128, 255, 64)):
        image.putpixel((x, 0), (200, 100, 50, alpha))
    found = pixels(encode(image))
    expected = np.array([[round(c * a / 255) for c in (200, 100, 50)] for a in (0, 128, 255, 64)])
    assert np.abs(found[0].astype(int) - expected).max() <= 1
    assert found[0, 0].tolist() == [0, 0, 0]
    assert found[0, 2].tolist() == [200, 100, 50]


def test_a_transparent_palette_colour_is_composited_too(encode: Encode) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([250, 250, 250, 10, 20, 30])
    image.putpixel((1, 0), 1)
    found = pixels(encode(image, transparency=0))
    assert found[0].tolist() == [[0, 0, 0], [10, 20, 30]]


def test_palette_and_bilevel_and_cmyk_pictures_become_rgb(encode: Encode) -> None:
    assert pixels(encode(ramp(16, 16).quantize(16))).shape == (16, 16, 3)
    assert set(pixels(encode(ramp(16, 16).convert("1"))).ravel().tolist()) <= {0, 255}
    cmyk = pixels(encode(ramp(16, 16).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(cmyk.astype(int) - np.asarray(ramp(16, 16)).astype(int)).mean() < 25


def test_the_first_frame_of_a_moving_picture_is_taken(encode: Encode) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_values_of_unknown_range_are_refused(encode: Encode, mode: str) -> None:
    with pytest.raises(PictureError, match="range is not known"):
        open_picture(encode(Image.new(mode, (8, 8)), "TIFF"))


def test_an_empty_file_is_named_as_such() -> None:
    with pytest.raises(PictureError, match="empty"):
        open_picture(b"")


@pytest.mark.parametrize(
    "data", [b"not a picture", b"<html>404</html>", b"%PDF-1.7", b"\x00" * 100, b"P6 2 2 255 " + bytes(12)]
)
def test_what_is_no_picture_is_refused_and_its_first_bytes_shown(data: bytes) -> None:
    with pytest.raises(PictureError, match="not a JPEG, PNG"):
        open_picture(data)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_a_picture_cut_short_anywhere_is_refused_rather_than_shown_half_grey(encode: Encode, form: str) -> None:
    whole = encode(ramp(64, 48), form)
    expected = pixels(whole)
    for length in range(1, len(whole) - 1, max(1, len(whole) // 25)):
        try:
            found = pixels(whole[:length])
        except PictureError:
            continue
        assert np.array_equal(found, expected), f"{form} cut to {length} of {len(whole)} bytes was opened, but differs"


def png(width: int, height: int, body: bytes) -> bytes:
    """Write a PNG whose header claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_500, 20_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_takes_memory(side: int) -> None:
    assert side * side > MAX_PIXELS
    with pytest.raises(PictureError, match="pixels"):
        open_picture(png(side, side, b"\x00" * 1000))


def test_a_picture_as_thin_as_a_hair_is_refused() -> None:
    with pytest.raises(PictureError, match="32 times"):
        open_picture(png(1, 5_000, b"\x00" * 20_000))


def test_threads_decode_to_the_same_pixels(encode: Encode) -> None:
    files = [encode(ramp(40 + n, 30), form) for n in range(8) for form in ("PNG", "JPEG", "WEBP")]
    alone = [pixels(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(pixels, files * 4))
    assert all(np.array_equal(together[n], alone[n % len(files)]) for n in range(len(together)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_bytes_give_a_picture_or_a_reason_and_never_another_exception(
    encode: Encode, data: st.DataObject
) -> None:
    form = data.draw(st.sampled_from(["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"]))
    body = bytearray(encode(ramp(24, 20), form))
    for _ in range(data.draw(st.integers(1, 6))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = open_picture(bytes(body))
    except PictureError as error:
        note(f"refused: {error}")
        return
    assert image.mode == "RGB"


def test_the_bytes_may_be_followed_by_something_else(encode: Encode) -> None:
    assert np.array_equal(pixels(encode(ramp(9, 9)) + b"tail"), np.asarray(Image.open(io.BytesIO(encode(ramp(9, 9))))))


def test_a_header_tells_size_and_mode_without_decoding():
    buffer = io.BytesIO()
    Image.new("L", (48, 20)).save(buffer, format="PNG")
    assert picture_header(buffer.getvalue()) == (48, 20, "L")
    assert picture_header(buffer.getvalue()[:60]) == (48, 20, "L")


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "empty"), (b"text", "not a JPEG"), (b"\x89PNG\r\n\x1a\n", "damaged|not a")]
)
def test_bytes_without_a_picture_header_are_refused(data, message):
    with pytest.raises(PictureError, match=message):
        picture_header(data)


def chunk(kind: bytes, body: bytes, wrong: int = 0) -> bytes:
    """One chunk of a PNG, with a wrong checksum on request."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ wrong)


def beside_the_pixels(data: bytes, extra: bytes, *, behind: bool = False) -> bytes:
    """Put a chunk into a PNG: behind its header, or behind its pixels."""
    at = data.rindex(b"IEND") - 4 if behind else 33
    return data[:at] + extra + data[at:]


LARGE = zlib.compress(bytes(3_000_000))
TRIMMINGS = {
    "a large colour profile": chunk(b"iCCP", b"sRGB\0\0" + LARGE),
    "a colour profile with a wrong checksum": chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(b"x" * 99), 1),
    "a colour profile packed in an unknown way": chunk(b"iCCP", b"sRGB\0\7xyz"),
    "a large packed text": chunk(b"zTXt", b"Comment\0\0" + LARGE),
    "a text packed in an unknown way": chunk(b"zTXt", b"Comment\0\7xyz"),
    "a large international text": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LARGE),
    "a text with a wrong checksum": chunk(b"tEXt", b"Comment\0hello", 1),
    "an international text with a wrong checksum": chunk(b"iTXt", b"Comment\0\0\0\0\0hello", 1),
    "texts of 68 MB": chunk(b"tEXt", b"a\0" + bytes(34_000_000)) * 2,
    "a cut gamma": chunk(b"gAMA", b"\0"),
    "a time with a wrong checksum": chunk(b"tIME", bytes(7), 1),
    "somebody's own chunk with a wrong checksum": chunk(b"prVt", b"?", 1),
    "an EXIF with a wrong checksum": chunk(b"eXIf", b"II*\0\10\0\0\0\0\0\0\0\0\0", 1),
    "an EXIF of rubbish": chunk(b"eXIf", b"rubbish"),
}


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("what", TRIMMINGS)
def test_a_sound_png_is_opened_whatever_stands_beside_its_pixels(encode: Encode, what: str, behind: bool) -> None:
    plain = encode(ramp(40, 30))
    data = beside_the_pixels(plain, TRIMMINGS[what], behind=behind)
    assert np.array_equal(pixels(data), pixels(plain))
    assert picture_header(data) == (40, 30, "RGB")


def test_an_orientation_in_exif_with_a_wrong_checksum_is_still_followed(encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encode(ramp(20, 12), "PNG", exif=exif))
    at = data.index(b"eXIf")
    data[at + 4 + struct.unpack_from(">I", data, at - 4)[0]] ^= 1
    assert np.array_equal(pixels(bytes(data)), np.asarray(ramp(20, 12)).transpose(1, 0, 2)[:, ::-1])


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS", b"IDAT"])
def test_a_wrong_checksum_of_what_pixels_are_made_of_is_damage(encode: Encode, kind: bytes) -> None:
    data = bytearray(encode(ramp(16, 16).quantize(16), transparency=0))
    at = data.index(kind)
    data[at + 4 + struct.unpack_from(">I", data, at - 4)[0]] ^= 1
    with pytest.raises(PictureError, match=rf"damaged: wrong checksum in its chunk {kind.decode()}"):
        open_picture(bytes(data))


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_an_exif_that_cannot_be_read_does_not_make_a_sound_picture_a_damaged_one(encode: Encode, form: str) -> None:
    plain = encode(ramp(20, 12), form)
    data = encode(ramp(20, 12), form, exif=b"Exif\0\0rubbish of some length")
    assert np.array_equal(pixels(data), pixels(plain))


def test_of_moving_pictures_of_any_kind_the_first_is_taken(encode: Encode) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("MPO", {"quality": 100})):
        found = pixels(encode(frames[0], form, save_all=True, append_images=frames[1:], **options))
        assert np.abs(found[0, 0].astype(int) - (255, 0, 0)).max() < 6, form
    separate = encode(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True)
    assert pixels(separate)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture: convert it to PNG or JPEG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC picture"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "an AVIF picture"),
        (b"\xff\x0a\xfa\x7f", "a JPEG XL picture"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
    ],
)
def test_a_picture_of_another_format_is_called_by_its_name(data: bytes, kind: str) -> None:
    with pytest.raises(PictureError, match=kind):
        open_picture(data)


def test_a_file_that_begins_as_a_picture_is_called_damaged_and_not_something_else() -> None:
    for data in (b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n" + bytes(20), b"GIF89a"):
        with pytest.raises(PictureError, match="the picture is damaged"):
            open_picture(data)


def test_sound_pictures_keep_the_pixels_that_pillow_alone_gives(encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    wide, rgb = np.random.default_rng(0).integers(0, 65536, (24, 32), dtype=np.uint16), ramp(32, 24)
    alpha = Image.new("LA", (32, 24), (200, 90))
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="3"/></x:xmpmeta>'
    oriented = beside_the_pixels(encode(rgb), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    files = [
        oriented,
        encode(rgb, "PNG", exif=exif, icc_profile=b"profile", dpi=(72, 72)),
        encode(Image.fromarray(wide)),
        encode(alpha),
        encode(rgb.convert("1"), transparency=1),
        encode(rgb.convert("L"), transparency=90),
        encode(rgb.quantize(8), transparency=bytes(range(0, 240, 30))),
        encode(rgb, "JPEG", exif=exif),
        encode(rgb.convert("CMYK"), "JPEG"),
        encode(rgb, "JPEG") + b"junk behind",
        encode(rgb, "WEBP", exif=exif),
        encode(rgb, "TIFF", exif=exif),
        encode(alpha.convert("RGBA"), "WEBP"),
    ]
    for number, data in enumerate(files):
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            expected = upright(to_rgb(image), orientation(image))
        assert np.array_equal(pixels(data), np.asarray(expected)), number
    assert np.array_equal(pixels(oriented), np.asarray(rgb)[::-1, ::-1])


PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "footage" / "photos"


@pytest.mark.skipif(not PHOTOS.exists(), reason="../shared with real photos is not here")
def test_real_photos_keep_the_pixels_that_pillow_alone_gives() -> None:
    for path in (path for path in sorted(PHOTOS.rglob("*")) if path.suffix in (".jpg", ".png")):
        with Image.open(path) as image:
            image.load()
            expected = upright(to_rgb(image), orientation(image))
        assert np.array_equal(pixels(path.read_bytes()), np.asarray(expected)), path.name


def test_a_header_of_a_picture_that_is_too_large_is_refused():
    buffer = io.BytesIO()
    Image.new("1", (30_000, 4_000)).save(buffer, format="PNG")
    with pytest.raises(PictureError, match="pixels"):
        picture_header(buffer.getvalue())


def test_a_part_of_a_picture_is_cut_out_at_the_network_s_size_and_comes_again_from_its_identity() -> None:
    from cer_fusion.backbones.backbone import PicturePart

    part = PicturePart(part="mouth", box=(0.25, 0.5, 0.75, 1.0))
    picture = np.zeros((40, 80, 3), dtype=np.uint8)
    picture[20:, 20:60] = 200
    box = part.find(picture)
    assert box == (20, 20, 60, 40)
    crop = part.cut(picture, box, 16)
    assert crop.shape == (16, 16, 3)
    assert (crop == 200).all()
    assert PicturePart.again(json.loads(json.dumps(part.identity()))) == part
