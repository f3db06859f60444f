"""Real videos beside the checkout, whose right answers were found with other decoders (its README.md)."""

from __future__ import annotations

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from cer_fusion.frames import MTCNN, MissingExtraError, VideoError, VideoReader, held_by
from cer_fusion.frames.tracks import Changes, CutSettings, with_cuts
from tests.backbones.conftest import SHARED

VIDEOS = SHARED / "footage" / "videos"
FACTS = {  # frames, (height, width) where the README says it, degrees counter-clockwise, faults
    "asl_school_fullrange.mkv": (72, None, 0, 0),
    "asl_sister_fullrange.mkv": (87, None, 0, 0),
    "asl_yes_fullrange.mkv": (65, None, 0, 0),
    "carphone_qcif.mp4": (120, (144, 193), 0, 0),  # stored 176 wide; a pixel is 128:117
    "carphone_qcif_distorted.mp4": (120, (144, 193), 0, 0),
    "cartoon_bunny_vp8.webm": (24, None, 0, 0),
    "cartoon_no_face.mp4": (95, None, 0, 1),
    "chaplin_bw_small_faces.mp4": (241, None, 0, 0),
    "derived_mjpeg.avi": (58, None, 0, 0),
    "derived_rotation_90.mp4": (72, (360, 640), 270, 0),
    "derived_truncated_faststart.mp4": (175, (360, 640), 0, 1),
    "derived_vfr.mkv": (120, (360, 640), 0, 0),
    "derived_vp9_opus.webm": (144, (360, 640), 0, 0),
    "expressions_woman_pexels.mp4": (472, (360, 640), 0, 0),
    "face_then_cartoon_hevc_vfr.mov": (169, None, 0, 0),
    "foreman_cif_299.264": (299, (288, 352), 0, 0),
    "foreman_qcif_100.264": (100, None, 0, 0),
    "head_turn_woman.gif": (23, (270, 480), 0, 0),
}
NO_INDEX = "derived_truncated_no_moov.mp4"
FACES = {  # frames from 1, from and to, and how many faces are found in each of them
    "asl_school_fullrange.mkv": [(1, 72, {1})],
    "asl_sister_fullrange.mkv": [(1, 87, {1})],
    "asl_yes_fullrange.mkv": [(1, 65, {1, 2})],  # a skull is printed on the pullover
    "carphone_qcif.mp4": [(1, 120, {1})],
    "carphone_qcif_distorted.mp4": [(1, 40, {1}), (41, 120, {0, 1})],
    "cartoon_bunny_vp8.webm": [(1, 24, {0})],
    "cartoon_no_face.mp4": [(1, 95, {0})],
    "chaplin_bw_small_faces.mp4": [(1, 241, {0, 1, 2})],
    "derived_mjpeg.avi": [(1, 58, {2})],
    "derived_rotation_90.mp4": [(1, 72, {1})],
    "derived_truncated_faststart.mp4": [(1, 175, {1})],
    "derived_vfr.mkv": [(1, 120, {1})],
    "derived_vp9_opus.webm": [(1, 144, {1})],
    "expressions_woman_pexels.mp4": [(1, 472, {1})],
    "face_then_cartoon_hevc_vfr.mov": [(1, 72, {1}), (73, 169, {0})],
    "foreman_cif_299.264": [(1, 170, {1}), (191, 299, {0})],
    "foreman_qcif_100.264": [(1, 100, {1})],
    "head_turn_woman.gif": [(1, 23, {1})],
}
CUTS = {"face_then_cartoon_hevc_vfr.mov": [73, 74]}  # a black frame lies between
LOOKED_AT = 16
"""Every so many frames: each costs 10 to 50 ms."""
PHOTOS = SHARED / "footage" / "photos"
PEOPLE = {
    "astronaut.png": 1, "dogs_no_human.jpg": 0, "giunchedi.jpg": 1, "giunchedi_gray.jpg": 1,
    "giunchedi_cmyk_wrong_exif6.jpg": 1, "grace_hopper_glasses.jpg": 1, "obama_240p.jpg": 1, "obama_portrait.jpg": 1,
    "reagan_mlk_signing_7faces.jpg": 7, "two_people.jpg": 2,
}  # fmt: skip

pytestmark = pytest.mark.skipif(not VIDEOS.is_dir(), reason="../shared/footage is not here")


@pytest.fixture(scope="module")
def detector():
    try:
        return MTCNN()
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", FACTS)
def test_every_frame_is_there_upright_and_every_fault_is_told(name):
    frames, size, turned, faults = FACTS[name]
    if name == "derived_truncated_faststart.mp4" and av.__version__.startswith("17."):
        frames, faults = frames - 1, faults + 1  # its FFmpeg refuses the packet that is cut
    reader, changes = VideoReader(VIDEOS / name), Changes()
    seen = [(frame.number, frame.picture.shape[:2], changes.of(frame.picture)) for frame in reader.frames()]
    shapes = [shape for _, shape, _ in seen]
    facts = reader.facts()
    assert (len(shapes), facts["turned_degrees"], len(facts["faults"])) == (frames, [turned], faults)
    assert (facts["interlaced"], facts["high_dynamic_range"]) == (0, None)
    assert len(set(shapes)) == 1
    assert size in (None, shapes[0])
    cuts = [one[0] for one, cut in with_cuts(iter(seen), lambda one: one[2], CutSettings()) if cut]
    assert cuts == CUTS.get(name, [])


@pytest.mark.parametrize("name", FACTS)
def test_faces_are_found_where_there_are_some_and_nowhere_else(name, detector):
    for frame in VideoReader(VIDEOS / name).frames():
        if frame.number % LOOKED_AT == 1:
            found = len(detector.detect(frame.picture))
            for first, last, wanted in FACES[name]:
                assert not first <= frame.number <= last or found in wanted, (frame.number, found)


@pytest.mark.parametrize("name", PEOPLE)
def test_faces_of_photos_are_counted_right(name, detector):
    with Image.open(PHOTOS / name) as picture:
        shown = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    assert len(detector.detect(shown)) == PEOPLE[name]


def test_a_file_without_its_index_is_refused():
    with pytest.raises(VideoError, match="may lack its index"):
        list(VideoReader(VIDEOS / NO_INDEX).frames())


def test_all_of_the_folder_are_videos():
    held = held_by(VIDEOS)
    assert {path.name for path in held.videos} == {*FACTS, *FACES, NO_INDEX}
    assert not held.with_pictures_left_out()
