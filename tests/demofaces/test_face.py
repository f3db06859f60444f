"""Drawn faces: each action unit is seen where it belongs."""

from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.demofaces import COMPOUNDS, ActionUnits, Style, StyleError, draw_face, prototype
from cer_fusion.demofaces.features import mouth_shape
from cer_fusion.demofaces.style import HAIRCUTS, SKINS

REST = ActionUnits()


def pixels(units, **style):
    return np.asarray(draw_face(units, style=Style(**style)), dtype=float)


def dark_pixels(face, rows, columns=slice(30, 70)):
    return int((face[rows, columns].mean(axis=2) < 90).sum())


def test_a_face_is_a_square_rgb_picture_of_the_size_asked_for():
    picture = draw_face(REST, size_px=64)
    assert picture.mode == "RGB"
    assert picture.size == (64, 64)


@pytest.mark.parametrize("size_px", [0, 15, 4096])
def test_a_size_that_cannot_be_drawn_is_refused(size_px):
    with pytest.raises(StyleError, match="16 to 2048"):
        draw_face(REST, size_px=size_px)


def test_the_same_arguments_give_the_same_pixels_and_the_noise_has_its_own_seed():
    noisy = Style(noise=4.0, noise_seed=1, blur_px=0.4, exposure=0.95)
    assert draw_face(REST, style=noisy).tobytes() == draw_face(REST, style=noisy).tobytes()
    other = Style(noise=4.0, noise_seed=2, blur_px=0.4, exposure=0.95)
    assert draw_face(REST, style=noisy).tobytes() != draw_face(REST, style=other).tobytes()


def test_the_mouth_opens_the_further_the_jaw_drops():
    openings = [dark_pixels(pixels(ActionUnits(lips_part=1.0, jaw_drop=jaw)), slice(68, 90)) for jaw in (0.0, 0.5, 1.0)]
    assert openings[0] < openings[1] < openings[2]
    assert openings[2] > openings[0] + 60


def test_the_corners_of_the_mouth_follow_smile_frown_and_stretch():
    rest, smile, frown, stretch = (
        mouth_shape(ActionUnits(**units))
        for units in ({}, {"lip_corner_pull": 1.0}, {"lip_corner_depress": 1.0}, {"lip_stretch": 1.0})
    )
    assert smile.corner_y < rest.corner_y < frown.corner_y
    assert smile.corner_x > rest.corner_x
    assert stretch.corner_x > rest.corner_x
    assert rest.opening < 0.006


def test_the_lips_never_cross_whatever_the_expression():
    rng = np.random.default_rng(0)
    names = list(REST.by_number())
    for _ in range(200):
        shape = mouth_shape(ActionUnits.from_numbers(dict(zip(names, rng.random(len(names)), strict=True))))
        assert (shape.upper_outer[:, 1] <= shape.upper_inner[:, 1] + 1e-9).all()
        assert (shape.upper_inner[:, 1] <= shape.lower_inner[:, 1] + 1e-9).all()
        assert (shape.lower_inner[:, 1] <= shape.lower_outer[:, 1] + 1e-9).all()


def test_raised_lids_show_more_white_and_tightened_lids_less():
    def white(units):
        return int((pixels(units)[34:56, 24:76].min(axis=2) > 215).sum())

    assert white(ActionUnits(upper_lid_raise=1.0)) > white(REST) > white(ActionUnits(lid_tighten=1.0))


def test_the_brows_go_up_with_units_1_and_2_and_down_with_unit_4():
    def brow_height(units):
        region = pixels(units, haircut="bald")[18:44, 24:76].mean(axis=2)
        rows = np.nonzero(region < 80)[0]
        return np.sort(rows)[: len(rows) // 4].mean()  # the highest dark pixels are the brows; rows count downwards

    raised = brow_height(ActionUnits(inner_brow_raise=1.0, outer_brow_raise=1.0))
    assert raised < brow_height(REST) < brow_height(ActionUnits(brow_lower=1.0))


def test_units_of_the_upper_face_leave_the_mouth_alone():
    brows = ActionUnits(inner_brow_raise=1.0, outer_brow_raise=1.0, upper_lid_raise=1.0)
    assert (pixels(brows)[70:] == pixels(REST)[70:]).all()


def test_each_action_unit_changes_the_picture():
    rest = pixels(REST)
    for number in REST.by_number():
        partner = {25: 1.0} if number == 26 else {}
        changed = np.abs(pixels(ActionUnits.from_numbers({number: 1.0, **partner})) - rest).max(axis=2) > 20
        assert changed.sum() >= 12, f"AU{number}"


def test_every_haircut_and_skin_can_be_drawn_and_hair_spares_the_raised_brows():
    surprised = ActionUnits(inner_brow_raise=1.0, outer_brow_raise=1.0)
    bald = pixels(surprised, haircut="bald", hair=(230, 190, 110))
    for haircut in HAIRCUTS:
        face = pixels(surprised, haircut=haircut, hair=(230, 190, 110))
        assert np.abs(face - bald)[26:29, 34:66].max() < 30, haircut
    assert len({draw_face(REST, style=Style(skin=skin)).tobytes() for skin in SKINS}) == len(SKINS)


def test_the_head_turns_tilts_and_moves():
    still = pixels(REST)
    for pose in ({"yaw_deg": 8.0}, {"pitch_deg": 6.0}, {"roll_deg": 7.0}, {"scale": 0.9}, {"shift_x": 0.05}):
        assert np.abs(pixels(REST, **pose) - still).mean() > 1.0, pose


def test_the_prototypes_of_the_seven_compounds_look_different():
    faces = [pixels(prototype(expression)) for expression in COMPOUNDS]
    for i, one in enumerate(faces):
        for other in faces[:i]:
            assert np.abs(one - other).mean() > 1.0
