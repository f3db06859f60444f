from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx", reason="onnx, of the extra `test`, is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime, of the extra `faces`, is not installed")

from cer_fusion.frames import (
    MTCNN,
    DetectorError,
    FileDetector,
    FileSettings,
    OptionError,
    detector_for_crops,
    detector_named,
)
from cer_fusion.frames.detectors import detector_again
from tests.backbones.conftest import SHARED

YUNET = SHARED / "weights" / "face_detection_yunet_2026may.onnx"
PHOTOS = SHARED / "footage" / "photos"
FIVE = np.array([[-8, -6], [8, -6], [0, 2], [-6, 10], [6, 10]], np.float32)
"""Points of the face that `network` finds, about its centre."""


def network(path, kind, side=64, *, score=0.81, outputs=None):
    """A file that finds one face of 32 x 40 pixels about (24, 16), whatever it is shown."""
    from onnx import TensorProto, helper, numpy_helper

    found = {}
    for stride in (8, 16, 32):
        n = (side // stride) ** 2 * (2 if kind == "scrfd" else 1)
        at = (2 * (side // 8) + 3) * (2 if kind == "scrfd" else 1)
        sure, box, points = (np.zeros((n, width), np.float32) for width in (1, 4, 10))
        if stride == 8:
            sure[at] = score
            centre = np.array([24, 16], np.float32)
            if kind == "yunet":
                box[at] = [0, 0, np.log(32 / 8), np.log(40 / 8)]
            else:
                box[at] = np.array([16, 20, 16, 20]) / 8
            points[at] = (FIVE / 8).ravel()
            assert (centre == [3 * 8, 2 * 8]).all()
        if kind == "yunet":
            found |= {f"cls_{stride}": sure[None], f"obj_{stride}": np.ones_like(sure)[None],
                      f"bbox_{stride}": box[None], f"kps_{stride}": points[None]}  # fmt: skip
        else:
            found |= {f"score{stride}": sure, f"box{stride}": box, f"points{stride}": points}
    if kind == "scrfd":
        found = {
            f"{what}{stride}": found[f"{what}{stride}"] for what in ("score", "box", "points") for stride in (8, 16, 32)
        }
    found = {name: found[name] for name in outputs or found}
    zero = helper.make_node("ReduceSum", ["input"], ["sum"], keepdims=0)
    nodes = [zero, helper.make_node("Mul", ["sum", "nil"], ["nothing"])]
    nodes += [helper.make_node("Add", [f"{name}_kept", "nothing"], [name]) for name in found]
    graph = helper.make_graph(
        nodes, "detector",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(value.shape)) for name, value in found.items()],
        [numpy_helper.from_array(value, f"{name}_kept") for name, value in found.items()]
        + [numpy_helper.from_array(np.float32(0), "nil")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("kind", ["yunet", "scrfd"])
def test_boxes_and_points_come_back_in_pixels_of_the_picture(tmp_path, kind):
    settings = FileSettings(points="own", min_score=0.5)
    detector = FileDetector(kind, network(tmp_path / "d.onnx", kind), settings)
    (face,) = detector.detect(np.zeros((100, 200, 3), np.uint8))  # shown as 64 x 32: 3.125 pixels a pixel
    assert face.score == pytest.approx(0.9 if kind == "yunet" else 0.81)
    assert np.allclose(face.box, np.array([8, -4, 40, 36]) * 3.125, atol=0.01)
    assert np.allclose(face.landmarks, (FIVE + np.array([24, 16])) * 3.125, atol=0.01)


def test_a_score_below_the_least_is_no_face(tmp_path):
    file = network(tmp_path / "d.onnx", "scrfd", score=0.4)
    assert (
        FileDetector("scrfd", file, FileSettings(points="own", min_score=0.5)).detect(np.zeros((64, 64, 3), np.uint8))
        == []
    )


def test_what_fixes_the_faces_is_in_the_identity_and_can_be_made_again(tmp_path):
    file = network(tmp_path / "d.onnx", "yunet")
    detector = detector_named(f"yunet:{file}", min_face_px=30, points="own")
    again = detector_again(detector.identity(), f"yunet:{file}")
    assert again.identity() == detector.identity()
    assert detector.identity() != detector_named(f"yunet:{file}", points="own").identity()
    network(file, "yunet", score=0.9)
    with pytest.raises(OptionError, match="cannot be found as they were"):
        detector_again(detector.identity(), f"yunet:{file}")
    with pytest.raises(OptionError, match="say where it is now, --detector yunet:FILE"):
        detector_again(detector.identity(), "mtcnn")
    assert detector_again(MTCNN().identity(), "mtcnn").identity() == MTCNN().identity()


def test_detectors_go_to_other_processes_as_names_and_settings(tmp_path):
    file = network(tmp_path / "d.onnx", "yunet")
    for detector in (detector_for_crops("mtcnn"), detector_for_crops(f"yunet:{file}")):
        sent = pickle.dumps(detector)
        assert len(sent) < 2_000
        assert pickle.loads(sent).identity() == detector.identity()


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("yunett:x.onnx", {}, "mtcnn, yunet:FILE or scrfd:FILE"),
        ("yunet", {}, "needs the ONNX file"),
        ("mtcnn:x.onnx", {}, "comes with its weights"),
        ("mtcnn", {"points": "own"}, "one kind of points"),
        ("mtcnn", {"device": "cuda"}, "runs on the CPU"),
        ("yunet:x", {"points": "theirs"}, "points are one of mtcnn, own"),
        ("yunet:x", {"min_score": 1.5}, "between 0 and 1"),
        ("yunet:x", {"min_face_px": 2}, "at least 8"),
    ],
)
def test_a_detector_that_is_none_is_refused(text, options, words):
    with pytest.raises(OptionError, match=words):
        detector_named(text, **options)


def test_a_file_that_is_no_detector_is_told_with_what_it_holds(tmp_path):
    with pytest.raises(DetectorError, match="cannot be read"):
        detector_named(f"yunet:{tmp_path / 'nowhere.onnx'}")
    (tmp_path / "x.onnx").write_bytes(b"this is no model")
    with pytest.raises(DetectorError):
        detector_named(f"scrfd:{tmp_path / 'x.onnx'}")
    other = network(tmp_path / "d.onnx", "scrfd")
    with pytest.raises(DetectorError, match=r"no yunet with points: its outputs are score8.*expected cls_8"):
        detector_named(f"yunet:{other}")
    few = network(tmp_path / "few.onnx", "scrfd", outputs=["score8", "box8"])
    with pytest.raises(DetectorError, match="expected nine"):
        detector_named(f"scrfd:{few}")


def test_a_device_that_is_not_there_is_refused_and_auto_takes_what_is(tmp_path):
    import onnxruntime

    file = network(tmp_path / "d.onnx", "yunet")
    detector_named(f"yunet:{file}", device="auto")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime knows CUDA")
    with pytest.raises(DetectorError):
        detector_named(f"yunet:{file}", device="cuda")
    with pytest.raises(OptionError, match="cpu, cuda"):
        detector_named(f"yunet:{file}", device="mps")


def eye_line(face):
    (left, top), (right, bottom) = face.landmarks[:2]
    return np.degrees(np.arctan2(bottom - top, right - left))


@pytest.mark.skipif(not YUNET.is_file(), reason="../shared/weights is not here")
@pytest.mark.parametrize("degrees", [-30, 30])
def test_points_of_a_rolled_head_follow_its_roll_where_the_files_own_do_not(degrees):
    portrait = Image.open(PHOTOS / "astronaut.png").convert("RGB")
    both = {points: detector_named(f"yunet:{YUNET}", points=points) for points in ("mtcnn", "own")}
    (upright,) = both["mtcnn"].detect(np.asarray(portrait))
    centre = np.mean(upright.landmarks, axis=0)
    rolled = np.asarray(portrait.rotate(-degrees, Image.Resampling.BICUBIC, center=tuple(centre)))
    off = {}
    for points, detector in both.items():
        (face,) = detector.detect(rolled)
        off[points] = abs(eye_line(face) - eye_line(upright) - degrees)
    assert off["mtcnn"] < 5 < off["own"]


@pytest.mark.parametrize(("sure", "found"), [(0.9, 1), (0.1, 0)])
def test_a_doubtful_face_counts_where_the_network_that_gives_the_points_is_sure(tmp_path, monkeypatch, sure, found):
    def points(self, picture, boxes):
        return np.zeros((len(boxes), 5, 2), np.float32), np.full(len(boxes), sure, np.float32)

    monkeypatch.setattr(MTCNN, "points", points)
    file = network(tmp_path / "d.onnx", "scrfd", score=0.4)
    detector = FileDetector("scrfd", file, FileSettings(min_score=0.5))
    assert len(detector.detect(np.zeros((64, 64, 3), np.uint8))) == found


def test_what_has_mtcnns_points_follows_faces_by_it_and_what_has_its_own_does_not(tmp_path):
    from cer_fusion.frames import Follows

    file = network(tmp_path / "d.onnx", "yunet")
    assert isinstance(detector_named(f"yunet:{file}"), Follows)
    assert not isinstance(detector_named(f"yunet:{file}", points="own"), Follows)
