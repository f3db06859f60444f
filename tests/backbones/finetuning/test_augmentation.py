from __future__ import annotations

import numpy as np
import pytest
import torch

from cer_fusion.backbones import Recipe
from cer_fusion.backbones.finetuning.examples import DRAWS, OPERATIONS, augment

STILL = Recipe.paper().changed({"flip": False})
MIDDLE = np.full(DRAWS, 0.5, np.float32)


def pictures(n: int = 6, side: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3)).astype(np.uint8)


def numbers(n: int = 6, count: int = DRAWS) -> np.ndarray:
    return np.random.default_rng(1).random((n, count)).astype(np.float32)


def changed(x: np.ndarray, u: np.ndarray, recipe: Recipe) -> np.ndarray:
    return np.stack([augment(picture, own, recipe) for picture, own in zip(x, u, strict=True)])


def drawn(**places: float) -> np.ndarray:
    """One picture's numbers, in the middle but for those named, such as u4=1.0."""
    u = MIDDLE.copy()
    for name, value in places.items():
        u[int(name[1:])] = value
    return u


def test_a_recipe_without_augmentation_leaves_pictures_alone():
    np.testing.assert_array_equal(changed(pictures(), numbers(), STILL), pictures())


def test_half_of_the_pictures_are_mirrored():
    u = numbers()
    u[:, 0] = [0.1, 0.9, 0.4, 0.6, 0.49, 0.51]
    out = changed(pictures(), u, Recipe.paper())
    np.testing.assert_array_equal(out[::2], pictures()[::2, :, ::-1])
    np.testing.assert_array_equal(out[1::2], pictures()[1::2])


def test_a_picture_is_changed_by_its_own_numbers_alone_and_torchs_generator_is_left_where_it_was():
    recipe = Recipe().changed({"randaugment": 2})
    x, u = pictures(), numbers(6, DRAWS + 4)
    before = torch.get_rng_state()
    first = changed(x, u, recipe)
    torch.rand(3)
    np.testing.assert_array_equal(changed(x[::-1], u[::-1], recipe)[::-1], first)
    assert (first != x).any((1, 2, 3)).all()
    torch.set_rng_state(before)
    changed(x, u, recipe)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_picture_that_was_given_stays_as_it_was():
    x = pictures()
    kept = x.copy()
    changed(x, numbers(6, DRAWS + 4), Recipe().changed({"randaugment": 2, "erasing": 1.0}))
    np.testing.assert_array_equal(x, kept)


def test_grey_pictures_stay_grey():
    grey = np.repeat(pictures()[..., :1], 3, axis=-1)
    out = changed(grey, numbers(), Recipe()).astype(int)
    assert (out.max(-1) - out.min(-1)).max() <= 1


def test_a_crop_enlarges_a_part_of_the_picture():
    x = np.zeros((32, 32, 3), np.uint8)
    x[:8] = 255
    quarter = STILL.changed({"crop_area": [0.25, 0.25]})
    assert augment(x, drawn(u4=0.999), quarter).max() == 0
    assert augment(x, drawn(u4=0.0), quarter)[:12].min() == 255


def test_a_crop_has_the_area_and_the_ratio_that_are_drawn():
    """A ramp from left to right, one from top to bottom: their spans tell the crop's sides."""
    side = 200
    x = np.zeros((side, side, 3), np.uint8)
    x[..., 0], x[..., 1] = np.arange(side)[None, :], np.arange(side)[:, None]
    recipe = STILL.changed({"crop_area": [0.25, 0.25], "crop_ratio": [4.0, 4.0]})
    out = augment(x, MIDDLE, recipe).astype(int)
    assert np.ptp(out[..., 0]) == pytest.approx(side, abs=3)  # sqrt(.25 x 4) = 1 of the width
    assert np.ptp(out[..., 1]) == pytest.approx(side / 4, abs=3)
    assert out[..., 1].mean() == pytest.approx((side - 1) / 2, abs=1)  # in the middle


def test_a_quarter_turn_moves_the_top_to_a_side():
    x = np.zeros((33, 33, 3), np.uint8)
    x[:5, 10:23] = 255
    out = augment(x, drawn(u5=1.0), STILL.changed({"rotation_deg": 90}))
    np.testing.assert_array_equal(out, np.rot90(x, 1))


@pytest.mark.parametrize("angle", [10, 45, 80])
def test_a_turn_brings_in_the_edge_of_the_picture_and_no_other_colour(angle: int):
    x = np.full((48, 48, 3), 200, np.uint8)
    x[16:32, 16:32] = 90
    out = augment(x, drawn(u5=1.0), STILL.changed({"rotation_deg": angle}))
    assert out.min() >= 90
    assert (out[0] == 200).all()


@pytest.mark.parametrize("change", [{"brightness": 0.5}, {"contrast": 0.5}, {"saturation": 0.5}, {"grey": 1.0}])
def test_every_colour_change_changes_colours(change):
    assert (changed(pictures(), numbers(), STILL.changed(change)) != pictures()).any()


def test_brightness_is_the_factor_that_is_drawn():
    x = np.full((8, 8, 3), 100, np.uint8)
    assert (augment(x, drawn(u6=1.0), STILL.changed({"brightness": 0.5})) == 150).all()
    assert (augment(x, drawn(u6=0.0), STILL.changed({"brightness": 0.5})) == 50).all()


def test_erasing_covers_one_rectangle_of_at_most_a_fifth_with_the_mean_colour():
    x, u = pictures(40), numbers(40)
    out = changed(x, u, STILL.changed({"erasing": 1.0}))
    other = (out != x).any(-1)
    assert (other.mean((1, 2)) > 0.005).all()
    assert (other.mean((1, 2)) < 0.25).all()
    for one, there, where in zip(x, out, other, strict=True):
        np.testing.assert_array_equal(np.unique(there[where], axis=0), [one.mean((0, 1)).round()])


# RandAugment

FACES = np.random.default_rng(0).integers(40, 200, (3, 24, 24, 3)).astype(np.uint8)


def randaugmented(name: str, direction: float, magnitude: float) -> np.ndarray:
    place = (list(OPERATIONS).index(name) + 0.5) / len(OPERATIONS)
    recipe = STILL.changed({"randaugment": 1, "randaugment_magnitude": magnitude})
    return changed(FACES, np.stack([np.append(MIDDLE, [place, direction]).astype(np.float32)] * 3), recipe)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_changes_a_picture_and_leaves_its_shape(name):
    there = randaugmented(name, 0.1, 9)
    assert (there.shape, there.dtype) == (FACES.shape, np.uint8)
    assert (there != FACES).any()
    back = randaugmented(name, 0.9, 9)
    assert (back != there).any() == (name not in ("AutoContrast", "Equalize"))


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"AutoContrast", "Equalize"}))
def test_without_magnitude_a_picture_stays_as_it_is(name):
    np.testing.assert_array_equal(randaugmented(name, 0.1, 0), FACES)


def test_a_translation_is_the_share_of_the_width_that_it_says_and_brings_in_grey():
    right = randaugmented("TranslateX", 0.1, 10)  # 0.45 x 24 = 10.8, and by whole pixels
    np.testing.assert_array_equal(right[:, :, 11:], FACES[:, :, :13])
    assert (right[:, :, :11] == 128).all()
    up = randaugmented("TranslateY", 0.9, 10)
    np.testing.assert_array_equal(up[:, :13], FACES[:, 11:])


@pytest.mark.parametrize("name", OPERATIONS)
def test_timms_operations_are_the_peers(name):
    """Where timm's RandAugment has the same operation at the same strength, pictures are nearly the same."""
    auto = pytest.importorskip("timm.data.auto_augment")
    from PIL import Image

    smooth = np.linspace(40, 200, 48, dtype=np.float64)
    face = (smooth[:, None, None] * 0.5 + smooth[None, :, None] * 0.5 + np.array([0, 20, 40])).astype(np.uint8)
    given = {
        "Rotate": (27.0,), "Color": (1.81,), "Contrast": (1.81,), "Brightness": (1.81,), "Sharpness": (1.81,),
        "ShearX": (0.27,), "ShearY": (0.27,), "TranslateX": (-0.405,), "TranslateY": (-0.405,),
    }  # fmt: skip
    operation = auto.NAME_TO_OP[{"TranslateX": "TranslateXRel", "TranslateY": "TranslateYRel"}.get(name, name)]
    expected = operation(Image.fromarray(face), *given.get(name, ()), fillcolor=(128,) * 3, resample=Image.BILINEAR)
    place = (list(OPERATIONS).index(name) + 0.5) / len(OPERATIONS)
    u = np.append(MIDDLE, [place, 0.1]).astype(np.float32)
    out = augment(face, u, STILL.changed({"randaugment": 1, "randaugment_magnitude": 9.0}))
    differences = np.abs(out.astype(int) - np.asarray(expected).astype(int))
    assert np.median(differences) <= 4
