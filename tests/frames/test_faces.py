from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cer_fusion.frames import Alignment, Face, OptionError
from cer_fusion.frames.faces import PLACES, similarity

ANGLES = st.floats(-math.pi, math.pi)
SCALES = st.floats(0.1, 10)
SHIFTS = st.floats(-500, 500)


def moved(points, angle, scale, dx, dy):
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.asarray(points) @ turn.T + (dx, dy)


def face_at(points) -> Face:
    points = np.asarray(points)
    low, high = points.min(axis=0), points.max(axis=0)
    return Face(box=(*low, *high), score=1.0, landmarks=tuple(map(tuple, points.tolist())))


@given(ANGLES, SCALES, SHIFTS, SHIFTS)
def test_a_similarity_is_found_again_from_the_points_it_moved(angle, scale, dx, dy):
    found = similarity(np.array(PLACES), moved(PLACES, angle, scale, dx, dy))
    again = np.array(PLACES) @ found[:, :2].T + found[:, 2]
    assert np.allclose(again, moved(PLACES, angle, scale, dx, dy), atol=1e-6 * max(1, scale))


def test_the_similarity_is_the_least_squares_one():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    # a x - b y + c, b x + a y + d: linear in (a, b, c, d), so NumPy's solver knows the answer
    rows = [[x, -y, 1, 0] for x, y in source] + [[y, x, 0, 1] for x, y in source]
    a, b, c, d = np.linalg.lstsq(np.array(rows), target.T.ravel(), rcond=None)[0]
    assert np.allclose(similarity(source, target), [[a, -b, c], [b, a, d]])


def picture_with_dots(points, size=400):
    """Black, with a white dot of 9 pixels' radius at each point."""
    across, down = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    lit = np.zeros((size, size), dtype=bool)
    for x, y in points:
        lit |= (across - x) ** 2 + (down - y) ** 2 < 81
    return np.repeat(np.where(lit, 255, 0).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("angle", [0.0, 0.5, -1.2, 3.0])
@pytest.mark.parametrize("size_px", [112, 56])
def test_eyes_nose_and_mouth_come_to_their_places_whatever_the_heads_turn(angle, size_px):
    eyes = moved(np.array(PLACES) - 56, angle, 2.0, 200, 190)
    crop = Alignment(size_px=size_px, convention="arcface112").crop(picture_with_dots(eyes), face_at(eyes))
    assert crop.shape == (size_px, size_px, 3)
    for x, y in np.array(PLACES) * size_px / 112:
        assert crop[round(y), round(x)].min() > 200
    assert crop[0].max() < 60


def test_a_margin_shows_more_of_the_same():
    eyes = moved(np.array(PLACES) - 56, 0, 2.0, 200, 190)
    picture, face = picture_with_dots(eyes), face_at(eyes)
    tight, wide = (Alignment(size_px=112, margin=margin).crop(picture, face) for margin in (0.0, 0.5))
    assert 3 < (tight > 127).sum() / (wide > 127).sum() < 5  # half the scale, a quarter of the area


def test_what_lies_beyond_the_picture_is_black():
    corner = moved(np.array(PLACES) - 56, 0, 1.0, 10, 10)
    crop = Alignment(size_px=112).crop(np.full((300, 300, 3), 255, np.uint8), face_at(corner))
    assert crop[:40, :40].max() == 0
    assert crop[60:, 60:].min() == 255


def test_a_face_outside_the_picture_gives_a_black_crop():
    away = moved(np.array(PLACES), 0, 1.0, -900, -900)
    assert Alignment(size_px=32).crop(np.full((50, 50, 3), 255, np.uint8), face_at(away)).max() == 0


def test_fine_structure_of_a_large_face_is_averaged_and_not_sampled():
    checks = np.indices((1200, 1200)).sum(axis=0) % 2 * 255
    picture = np.repeat(checks.astype(np.uint8)[..., None], 3, axis=2)
    crop = Alignment(size_px=64).crop(picture, face_at(moved(np.array(PLACES) - 56, 0, 9.0, 600, 600)))
    assert crop.std() < 5


@pytest.mark.parametrize(("settings", "word"), [({"size_px": 8}, "side"), ({"margin": -0.5}, "margin")])
def test_settings_that_give_no_picture_are_refused(settings, word):
    with pytest.raises(OptionError, match=word):
        Alignment(**settings)
