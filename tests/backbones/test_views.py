"""Views: what a row is the mean of, and that the identity says so."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from PIL import Image

from cer_fusion import backbones
from cer_fusion.backbones import OptionError, ShapeError
from cer_fusion.backbones.backbone import VOCABULARY, crops_of, each_view, transform_for, views_named
from cer_fusion.backbones.picture import Transform
from tests.backbones.conftest import Encode, ramp

TINY = "timm:test_resnet"


def make(views: str = "none", name: str = TINY) -> backbones.Backbone:
    backbone = backbones.create(name, weights="random")
    backbone.take_views(views)
    return backbone


def test_without_views_nothing_is_different(encode: Encode) -> None:
    plain, none = backbones.create(TINY, weights="random"), make("none")
    assert none.spec() == plain.spec()
    picture = plain.decode(encode(ramp(50, 40)))[None]
    assert np.array_equal(none.embed(picture)["pooled"], plain.embed(picture)["pooled"])


def test_a_flipped_row_is_the_mean_of_the_picture_and_its_mirror_image(encode: Encode) -> None:
    plain, flip = make(), make("flip")
    pictures = np.stack([plain.decode(encode(ramp(50, 40))), plain.decode(encode(ramp(80, 90)))])
    both = [plain.embed(each)["pooled"] for each in (pictures, pictures[:, :, ::-1])]
    rows = flip.embed(pictures)["pooled"]
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, (both[0] + both[1]) / 2, rtol=1e-6)
    assert np.array_equal(flip.embed(pictures[:, :, ::-1])["pooled"], rows), "a mirror image has the same row"


def test_five_crops_are_the_corners_and_the_centre_of_the_resized_picture() -> None:
    transform = Transform(size_px=4, crop_pct=0.5)
    image = ramp(8, 8)
    pixels = np.asarray(image)
    crops = transform.five_crop(image)
    expected = [pixels[:4, :4], pixels[:4, 4:], pixels[4:, :4], pixels[4:, 4:], pixels[2:6, 2:6]]
    assert np.array_equal(crops, np.stack(expected))
    assert np.array_equal(crops[4], transform.apply(image))


def test_crops_of_a_wide_picture_reach_its_ends() -> None:
    transform = Transform(size_px=4, crop_pct=1.0, resize="shorter")
    image = Image.new("RGB", (12, 4), (0, 0, 0))
    image.paste((255, 0, 0), (8, 0, 12, 4))
    assert [crop.max() for crop in transform.five_crop(image)] == [0, 255, 0, 255, 0]


def test_a_row_of_crops_is_the_mean_over_the_crops(encode: Encode) -> None:
    crops, both = make("five-crop"), make("five-crop+flip")
    picture = crops.decode(encode(ramp(300, 200)))
    side = crops.transform.size_px
    assert picture.shape == (5, side, side, 3)
    plain = make()
    single = plain.embed(picture)["pooled"]
    np.testing.assert_allclose(crops.embed(picture[None])["pooled"][0], single.mean(0), rtol=1e-5)
    mirrored = plain.embed(picture[:, :, ::-1])["pooled"]
    np.testing.assert_allclose(
        both.embed(picture[None])["pooled"][0], np.concatenate([single, mirrored]).mean(0), rtol=1e-5
    )


@pytest.mark.parametrize("views", VOCABULARY)
def test_a_row_has_the_same_bits_whatever_it_is_embedded_with(views: str, encode: Encode) -> None:
    backbone = make(views)
    pictures = np.stack([backbone.decode(encode(ramp(60 + i, 50))) for i in range(11)])
    together, alone = backbone.embed(pictures)["pooled"], backbone.embed(pictures[6:7])["pooled"]
    assert np.array_equal(together[6:7], alone)


def test_each_set_of_views_is_an_identity_of_its_own() -> None:
    specs = {views: make(views).spec() for views in VOCABULARY}
    assert len({str(spec) for spec in specs.values()}) == len(VOCABULARY)
    assert "views" not in specs["none"]["options"]
    assert specs["flip"] == specs["none"] | {"options": {**specs["none"]["options"], "views": "flip"}}
    assert specs["five-crop"]["transform"]["crop_pct"] == 0.875
    assert list(specs["five-crop"]["options"]) == sorted(specs["five-crop"]["options"])


def test_crops_keep_a_margin_that_the_transform_already_has() -> None:
    wide = Transform(size_px=8, crop_pct=0.5)
    assert transform_for("five-crop", wide) == wide
    assert transform_for("flip", Transform(size_px=8)) == Transform(size_px=8)
    assert transform_for("five-crop", Transform(size_px=8)) == dataclasses.replace(wide, crop_pct=0.875)


def test_pictures_of_another_number_of_views_are_refused() -> None:
    backbone = make("five-crop")
    side = backbone.transform.size_px
    with pytest.raises(ShapeError, match=rf"\(b, 5, {side}, {side}, 3\)"):
        backbone.embed(np.zeros((2, side, side, 3), np.uint8))


def test_views_are_taken_once_and_by_name() -> None:
    backbone = make("flip")
    backbone.take_views("flip")
    with pytest.raises(OptionError, match="takes the views 'flip' already"):
        backbone.take_views("none")
    with pytest.raises(OptionError, match="nearest: 'flip'"):
        views_named("flop")


def test_views_are_counted() -> None:
    pictures = np.zeros((2, 5, 3, 3, 3), np.uint8)
    assert [len(list(each_view(pictures[:, 0] if crops_of(v) == 1 else pictures, v))) for v in VOCABULARY] == [
        1,
        2,
        5,
        10,
    ]


def test_the_two_halves_of_decoding_are_equal_across_backbones_and_can_be_sent_to_a_process(encode: Encode) -> None:
    one, other = make(), make("five-crop", "timm:test_vit")
    assert one.open == other.open
    data = encode(ramp(70, 60))
    for backbone in (one, other):
        opened, prepare = backbone.open(data), pickle.loads(pickle.dumps(backbone.prepare))
        before = np.array(opened)
        assert np.array_equal(prepare(opened), backbone.decode(data))
        assert np.array_equal(np.array(opened), before), "others use the opened picture too"
        assert len(pickle.dumps(backbone.prepare)) < 10_000, "no network goes with it"
