from __future__ import annotations

import pytest
from cer_fusion.featstore import Manifest
from cer_fusion.featstore.errors import FormatError
from cer_fusion.featstore.manifests.adapters import build
from cer_fusion.featstore.manifests.frames_origin import FORMAT, frames_origin
from cer_fusion.featstore.rows import document


def index(folder, video, size_px=224):
    body = {
        "video": video,
        "source": {"file": f"{video}.mp4", "bytes": 1, "sha256": video * 8},
        "identity": {"alignment": {"size_px": size_px}},
        "versions": {"av": "1"},
        "counts": {},
    }
    document.write(folder / f"{video}.frames.json", FORMAT, 1, body)
    (folder / video).mkdir()
    (folder / video / "00001.jpg").write_bytes(b"x")


def test_a_manifest_of_frames_says_what_made_them_and_keeps_saying_so(tmp_path):
    for video, size in (("01", 224), ("02", 224), ("03", 112)):
        index(tmp_path, video, size)
    listed = build("frames", tmp_path).manifest
    listed.write(tmp_path / "ce.csv")
    again = Manifest.read(tmp_path / "ce.csv").keep([True, True, False]).origin["frames"]
    assert [(one["identity"]["alignment"]["size_px"], list(one["videos"])) for one in again] == [
        (224, ["01", "02"]),
        (112, ["03"]),
    ]


def test_frames_made_elsewhere_have_no_origin(tmp_path):
    (tmp_path / "01").mkdir()
    (tmp_path / "01" / "00001.jpg").write_bytes(b"x")
    listed = build("frames", tmp_path).manifest
    assert listed.origin == {}
    listed.write(tmp_path / "ce.csv")
    assert "origin" not in (tmp_path / "ce.json").read_text()


def test_a_damaged_index_is_an_error(tmp_path):
    index(tmp_path, "01")
    path = tmp_path / "01.frames.json"
    path.write_text(path.read_text().replace("224", "225"))
    with pytest.raises(FormatError, match="not as it was written"):
        frames_origin(tmp_path)
