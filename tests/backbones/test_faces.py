"""Faces cut out on the way in: by whatever finds them, at the size that the network takes, named in the identity."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from cer_fusion import backbones
from cer_fusion.backbones import OptionError, PictureError
from cer_fusion.backbones.backbone import NO_FACE
from cer_fusion.backbones.making import recreate
from tests.backbones.conftest import Encode, ramp

TINY = "timm:test_resnet"


class Middle:
    """Takes the middle of a picture for a face, if that is wide enough; notes what it was asked for."""

    def __init__(self) -> None:
        self.found = 0
        self.sides: list[int] = []

    def find(self, picture: np.ndarray) -> tuple[int, int] | None:
        self.found += 1
        return (picture.shape[0] // 2, picture.shape[1] // 2) if picture.shape[1] >= 50 else None

    def cut(self, picture: np.ndarray, face: tuple[int, int], size_px: int) -> np.ndarray:
        self.sides.append(size_px)
        return np.full((size_px, size_px, 3), picture[face], np.uint8)

    def identity(self) -> dict[str, Any]:
        return {"method": "middle"}


def made(faces: Middle, **options: str) -> backbones.Backbone:
    backbone = backbones.create(TINY, weights="random", crop_pct=0.8)
    backbone.take_faces(faces, **options)
    return backbone


def test_the_face_is_cut_out_at_the_size_before_the_networks_own_crop(encode: Encode) -> None:
    faces = Middle()
    backbone = made(faces)
    picture = backbone.decode(encode(ramp(80, 60)))
    assert faces.sides == [int(backbone.transform.size_px / 0.8)]
    assert (picture == picture[0, 0]).all()
    backbone.take_views("five-crop")
    assert backbone.decode(encode(ramp(80, 60))).shape == (5, *picture.shape)


def test_a_picture_without_a_face_is_resized_with_a_remark_or_refused(encode: Encode) -> None:
    small = encode(ramp(40, 40))
    kept = made(Middle())
    assert np.array_equal(kept.decode(small), backbones.create(TINY, weights="random", crop_pct=0.8).decode(small))
    assert NO_FACE in kept.open(small).remark
    assert kept.open(encode(ramp(80, 60))).remark == ""
    with pytest.raises(PictureError, match=NO_FACE):
        made(Middle(), missing="refuse").decode(small)


def test_how_faces_are_cut_out_is_part_of_the_identity_and_can_be_made_again() -> None:
    plain, taken = backbones.create(TINY, weights="random", crop_pct=0.8), made(Middle())
    assert {**plain.spec(), "faces": {"method": "middle", "missing": "resize"}} == taken.spec()
    assert taken.spec() != made(Middle(), missing="refuse").spec()
    again = recreate("x", taken.spec(), taken.describe(), faces=lambda way: Middle())
    assert again.spec() == taken.spec()
    with pytest.raises(OptionError, match="aligned on the way in"):
        recreate("x", taken.spec(), taken.describe())


def test_backbones_with_the_same_faces_share_the_search_and_others_do_not() -> None:
    faces = Middle()
    assert made(faces).open == made(faces).open
    assert made(faces).open != made(Middle()).open
    assert made(faces).open != backbones.create(TINY, weights="random").open
    assert len(pickle.dumps(made(faces).prepare)) < 10_000


def test_faces_are_taken_once_and_by_a_word_that_is_known() -> None:
    with pytest.raises(OptionError, match="already"):
        made(Middle()).take_faces(Middle())
    with pytest.raises(OptionError, match="resize, refuse"):
        made(Middle(), missing="skip")
