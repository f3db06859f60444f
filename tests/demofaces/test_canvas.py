"""Curves and the anti-aliased canvas."""

from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.demofaces import Style
from cer_fusion.demofaces.canvas import Canvas, ellipse, mix, ribbon, smooth

WHITE = Style(background=(255, 255, 255))


def darkness(canvas):
    return 1 - np.asarray(canvas.finish().convert("L"), dtype=float) / 255


def test_a_smooth_curve_passes_through_its_points():
    knots = np.array([(0, 0), (1, 2), (3, 1), (4, 4)], dtype=float)
    curve = smooth(knots, steps=8)
    assert np.allclose(curve[::8], knots)
    assert np.allclose(smooth(knots, closed=True, steps=8)[::8], knots)


def test_a_straight_ribbon_is_as_wide_as_asked():
    line = np.stack([np.linspace(0, 1, 5), np.zeros(5)], axis=1)
    outline = ribbon(line, np.full(5, 0.2))
    assert outline[:, 1].min() == pytest.approx(-0.1)
    assert outline[:, 1].max() == pytest.approx(0.1)


def test_a_filled_disc_covers_its_area_with_soft_edges():
    canvas = Canvas(64, WHITE)
    canvas.fill(ellipse((0, 0), 0.25, steps=200), (0, 0, 0))
    dark = darkness(canvas)
    assert dark.mean() == pytest.approx(np.pi * 0.25**2, rel=0.03)
    assert ((dark > 0.1) & (dark < 0.9)).sum() > 30


def test_nothing_is_painted_outside_a_clip():
    canvas = Canvas(64, WHITE)
    left = canvas.mask([(-0.5, -0.5), (0, -0.5), (0, 0.5), (-0.5, 0.5)])
    canvas.fill(ellipse((0, 0), 0.3), (0, 0, 0), clip=left)
    canvas.soft(ellipse((0.1, 0.2), 0.2), (0, 0, 0), alpha=1.0, blur=0.05, clip=left)
    dark = darkness(canvas)
    assert dark[:, 33:].max() == 0
    assert dark[:, :31].max() == 1


def test_shapes_beyond_the_edge_are_cut_or_left_out():
    canvas = Canvas(32, WHITE)
    canvas.fill(ellipse((0.5, 0), 0.2), (0, 0, 0))
    canvas.soft(ellipse((3, 3), 0.1), (0, 0, 0), alpha=1.0, blur=0.01)
    canvas.fill(ellipse((3, 3), 0.1), (0, 0, 0), clip=canvas.mask(ellipse((0, 0), 0.1)))
    assert 0 < darkness(canvas).mean() < 0.1


def test_roll_turns_the_picture_and_shift_moves_it():
    upright, turned, moved = (
        Canvas(64, Style(background=(255, 255, 255), **pose)) for pose in ({}, {"roll_deg": 90.0}, {"shift_x": 0.25})
    )
    for canvas in (upright, turned, moved):
        canvas.stroke([(-0.2, 0), (0.2, 0)], 0.1, (0, 0, 0))
    assert np.allclose(darkness(turned), darkness(upright).T, atol=0.3)
    assert np.allclose(darkness(moved)[:, 16:], darkness(upright)[:, :-16], atol=0.05)


def test_a_mix_of_colours_runs_from_the_one_to_the_other():
    assert mix((0, 10, 20), (100, 110, 120), 0.0) == (0, 10, 20)
    assert mix((0, 10, 20), (100, 110, 120), 0.5) == (50, 60, 70)
    assert mix((0, 10, 20), (100, 110, 120), 1.0) == (100, 110, 120)
