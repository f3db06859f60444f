from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.backbones.finetuning.examples import OPERATIONS, randaugment

PICTURES = np.random.default_rng(0).integers(40, 200, (3, 24, 24, 3)).astype(np.uint8)


def choosing(name: str, direction: float) -> np.ndarray:
    place = (list(OPERATIONS).index(name) + 0.5) / len(OPERATIONS)
    return np.array([[place, direction]] * len(PICTURES), dtype=np.float32)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_changes_a_picture_and_leaves_its_shape(name):
    there = randaugment(PICTURES, choosing(name, 0.1), operations=1, magnitude=9)
    assert (there.shape, there.dtype) == (PICTURES.shape, np.uint8)
    assert (there != PICTURES).any()
    back = randaugment(PICTURES, choosing(name, 0.9), operations=1, magnitude=9)
    assert (back != there).any() == (name not in ("AutoContrast", "Equalize"))


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"AutoContrast", "Equalize"}))
def test_without_magnitude_a_picture_stays_as_it_is(name):
    np.testing.assert_array_equal(randaugment(PICTURES, choosing(name, 0.1), operations=1, magnitude=0), PICTURES)


def test_a_translation_is_the_share_of_the_width_that_it_says():
    moved = randaugment(PICTURES, choosing("TranslateXRel", 0.9), operations=1, magnitude=10 / 0.45 * 0.25)
    np.testing.assert_array_equal(moved[:, :, 6:], PICTURES[:, :, :18])
    assert (moved[:, :, :5] == 128).all()


def test_a_picture_is_changed_the_same_way_in_any_batch():
    u = np.random.default_rng(1).random((3, 4)).astype(np.float32)
    whole = randaugment(PICTURES, u, operations=2, magnitude=7)
    np.testing.assert_array_equal(randaugment(PICTURES[[2, 0]], u[[2, 0]], operations=2, magnitude=7), whole[[2, 0]])


def test_switched_off_it_does_nothing():
    assert randaugment(PICTURES, np.empty((3, 0), np.float32), operations=0, magnitude=9) is PICTURES
