"""Real videos beside the checkout, whose right answers were found with other decoders (its README.md)."""

from __future__ import annotations

import av
import pytest

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from cer_fusion.frames import VideoError, VideoReader, held_by
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

pytestmark = pytest.mark.skipif(not VIDEOS.is_dir(), reason="../shared/footage is not here")


@pytest.mark.parametrize("name", FACTS)
def test_every_frame_is_there_upright_and_every_fault_is_told(name):
    frames, size, turned, faults = FACTS[name]
    if name == "derived_truncated_faststart.mp4" and av.__version__.startswith("17."):
        frames, faults = frames - 1, faults + 1  # its FFmpeg refuses the packet that is cut
    reader = VideoReader(VIDEOS / name)
    shapes = [frame.picture.shape[:2] for frame in reader.frames()]
    facts = reader.facts()
    assert (len(shapes), facts["turned_degrees"], len(facts["faults"])) == (frames, [turned], faults)
    assert len(set(shapes)) == 1
    assert size in (None, shapes[0])


def test_a_file_without_its_index_is_refused():
    with pytest.raises(VideoError, match="may lack its index"):
        list(VideoReader(VIDEOS / NO_INDEX).frames())


def test_all_of_the_folder_are_videos():
    held = held_by(VIDEOS)
    assert {path.name for path in held.videos} == {*FACTS, NO_INDEX}
    assert not held.with_pictures_left_out()
