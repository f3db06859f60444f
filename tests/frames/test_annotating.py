from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.frames import Mark, annotated
from cer_fusion.frames.annotating import _BAR, _GROUND, _TEXT
from cer_fusion.fusion.page.colours import READABLE, contrast

PICTURE = np.full((120, 200, 3), 100, np.uint8)


def test_a_box_and_bars_are_drawn_and_the_picture_itself_stays():
    before = PICTURE.copy()
    drawn = annotated(PICTURE, [Mark(box=(40, 20, 90, 70), bars=(("happy", 0.8), ("sad", 0.2)))])
    assert (before == PICTURE).all()
    assert drawn.shape == PICTURE.shape
    assert tuple(drawn[20, 60]) == (255, 196, 0)
    assert (drawn[72:95, 42:80] != 100).any()


def test_a_longer_bar_is_longer():
    def blue(share):
        drawn = annotated(PICTURE, [Mark(box=None, bars=(("x", share),))])
        return int((drawn == _BAR).all(axis=2).sum())

    assert blue(0.9) > 1.5 * blue(0.5) > 1.5 * blue(0.1)


@pytest.mark.parametrize("box", [(-30, -30, 10, 10), (190, 110, 260, 190), (500, 500, 520, 520)])
def test_a_face_at_the_edge_is_no_fault(box):
    assert annotated(PICTURE, [Mark(box=box, bars=(("surprised", 1.0),))]).shape == PICTURE.shape


def test_nothing_to_draw_is_the_same_picture():
    assert (annotated(PICTURE, []) == PICTURE).all()


@pytest.mark.parametrize("ground", [_BAR, _GROUND])
def test_the_words_of_a_bar_can_be_read_on_it_and_beside_it(ground):
    text, under = (tuple(part / 255 for part in colour) for colour in (_TEXT, ground))
    assert contrast(text, under) >= READABLE
