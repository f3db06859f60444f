from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cer_fusion.frames import Alignment, Face, LooseCrops, OptionError
from cer_fusion.frames.faces import PLACES

GROUND, SKIN = 90, 255


class Squares:
    """Finds a white square as a face; its points lie as ArcFace's."""

    least = 16

    def detect(self, picture):
        found = []
        rest = picture.min(axis=2) > 200
        while rest.any():
            top, left = np.argwhere(rest)[0]
            right = left + np.argmin([*rest[top, left:], False])
            bottom = top + np.argmin([*rest[top:, left], False])
            rest[top:bottom, left:right] = False
            if min(right - left, bottom - top) >= self.least:
                points = np.array(PLACES) / 112 * (right - left, bottom - top) + (left, top)
                box = (float(left), float(top), float(right), float(bottom))
                found.append(Face(box=box, score=0.9, landmarks=tuple(map(tuple, points.tolist()))))
        return found

    def identity(self):
        return {"detector": "squares"}

    def versions(self):
        return {}


CROPS = LooseCrops(detector=Squares())


def picture(*squares, size=(48, 48)):
    """Grey with a white square at each (left, top, side)."""
    made = np.full((*size, 3), GROUND, np.uint8)
    for left, top, side in squares:
        made[top : top + side, left : left + side] = SKIN
    return made


@pytest.mark.parametrize("size", [(48, 48), (160, 200), (700, 500)])
def test_the_face_of_a_small_or_large_picture_is_found_in_its_own_pixels(size):
    side = min(size) // 2
    face = CROPS.find(picture((side // 2, side // 3, side), size=size))
    assert face is not None
    assert np.allclose(face.box, (side // 2, side // 3, side // 2 + side, side // 3 + side), atol=size[0] / 40)
    crop = CROPS.cut(picture((side // 2, side // 3, side), size=size), face, 64)
    assert crop.shape == (64, 64, 3)
    assert (crop[4:-4, 4:-4] > 200).all()


def test_a_picture_without_a_face_has_none():
    assert CROPS.find(picture()) is None


def test_the_face_nearest_the_middle_is_meant_but_no_small_one_beside_a_large_one():
    beside = CROPS.find(picture((4, 60, 60), (90, 70, 60), size=(200, 200)))
    assert beside is not None
    assert beside.box[0] > 80
    large = CROPS.find(picture((0, 20, 80), (97, 97, 20), size=(200, 200)))
    assert large is not None
    assert large.box[0] < 10


def test_what_a_crop_shows_beyond_a_tight_picture_is_its_edge_and_not_black():
    face = CROPS.find(picture((2, 2, 44)))
    assert face is not None
    wide = replace(CROPS, margin=0.2).cut(picture((2, 2, 44)), face, 64)
    assert abs(wide[:2].astype(int) - GROUND).max() <= 3


def test_how_faces_are_cut_out_is_in_the_identity_but_not_the_size():
    others = [replace(CROPS, margin=0.1), replace(CROPS, convention="box"), replace(CROPS, convention="affectnet")]
    found = [repr(one.identity()) for one in (CROPS, *others)]
    assert len(set(found)) == 4
    assert "size_px" not in found[0]


@pytest.mark.parametrize(("margin", "side"), [(None, 50), (0.2, 70)])
def test_a_box_is_squared_and_never_turned(margin, side):
    face = Face(box=(20, 30, 60, 80), score=1, landmarks=((50.0, 40.0),) * 5)
    matrix = Alignment(size_px=50, convention="box", margin=margin).matrix(face)
    assert np.allclose(
        matrix @ [[0, 50], [0, 50], [1, 1]], [[40 - side / 2, 40 + side / 2], [55 - side / 2, 55 + side / 2]]
    )


def test_the_named_conventions_have_margins_of_their_own():
    assert Alignment(convention="affectnet").identity() != Alignment(convention="affectnet", margin=0).identity()
    assert Alignment().identity() == Alignment(convention="face", margin=0.1).identity()
    assert Alignment().identity() != Alignment(convention="arcface112", margin=0.1).identity()
    assert (Alignment(convention="box").added, Alignment(convention="arcface112").added) == (0, 0)
    with pytest.raises(OptionError, match="face, arcface112, box, affectnet"):
        Alignment(convention="arcface")  # type: ignore[arg-type]
