from __future__ import annotations

import json
from fractions import Fraction

import pytest

pytest.importorskip("av", reason="PyAV, the extra `video`, is not installed")

from cer_fusion.featstore import Manifest
from cer_fusion.featstore.manifests.class_sets import class_set
from cer_fusion.featstore.manifests.manifest import Sample
from tests.frames.clips import busy, counted, shots, write_clip

FACES_AND_CUTS = [(4, [(0, 60, 30)]), (3, []), (4, [(3, 20, 40), (5, 180, 30)])]


@pytest.fixture
def detector():
    """Skip where the detector is not installed."""
    pytest.importorskip("onnxruntime", reason="onnxruntime, of the extra `faces`, is not installed")
    from cer_fusion.backbones import MissingExtraError
    from cer_fusion.frames import MTCNN

    try:
        MTCNN()
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    write_clip(folder / "1.mp4", shots(FACES_AND_CUTS))
    write_clip(folder / "2.mp4", shots([(3, [(1, 60, 30)])]))
    return folder


def test_frames_of_faces_become_a_manifest_that_knows_what_made_them(run, detector, videos, tmp_path):
    result = run("cer-feat frames videos -o frames")
    assert "no picture of 3 frames: 5-7" in result.stderr
    assert "several in 4 frames" in result.stderr
    run("cer-feat manifest frames frames -o ce.csv")
    listed = Manifest.read(tmp_path / "ce.csv")
    assert listed.ids == tuple(
        [f"01/{i:05d}.jpg" for i in (1, 2, 3, 4, 8, 9, 10, 11)] + [f"02/{i:05d}.jpg" for i in (1, 2, 3)]
    )
    assert set(listed.group_of_each) == {"01", "02"}
    (way,) = listed.origin["frames"]
    assert way["identity"]["detector"]["detector"] == "mtcnn"
    assert way["videos"]["01"]["file"] == "1.mp4"


def test_a_manifest_knows_the_frames_of_a_video_whose_name_has_other_letters_than_ascii(run, videos, tmp_path):
    (videos / "1.mp4").rename(videos / "fröhlich.mp4")
    run("cer-feat frames videos -o frames --faces none")
    run("cer-feat manifest frames frames -o ce.csv")
    (way,) = Manifest.read(tmp_path / "ce.csv").origin["frames"]
    assert way["videos"]["fröhlich"]["file"] == "fröhlich.mp4"


def test_a_second_run_says_that_all_is_there(run, videos):
    first = json.loads(run("cer-feat frames videos -o frames --faces none --json").stdout)
    again = json.loads(run("cer-feat frames videos -o frames --faces none --json").stdout)
    assert [one["made"] for one in first["videos"]] == [True, True]
    assert [one["made"] for one in again["videos"]] == [False, False]
    assert [one["pictures"] for one in again["videos"]] == [11, 3]


def test_a_broken_video_is_named_and_the_others_are_made(run, videos):
    (videos / "3.mp4").write_bytes(b"this is no video")
    result = run("cer-feat frames videos -o frames --faces none --json", code=1)
    found = json.loads(result.stdout)
    assert [one["video"] for one in found["videos"]] == ["01", "02"]
    assert "cannot be opened as a video" in found["failed"]["03"]


def test_a_cut_off_video_tells_its_fault(run, tmp_path):
    whole = write_clip(tmp_path / "a.mp4", busy(30), movflags="faststart").read_bytes()
    (tmp_path / "9.mp4").write_bytes(whole[: int(len(whole) * 0.7)])
    talk = run("cer-feat frames 9.mp4 -o frames --faces none").stderr
    assert "the video ends, though the file promises 30 frames" in talk
    assert "later frames are numbered as decoded" in talk


def test_a_variable_frame_rate_is_told(run, tmp_path):
    write_clip(tmp_path / "v.mkv", counted(4), times_ms=[0, 10, 200, 240])
    assert "variable frame rate, from 10 to 190 ms a frame" in run("cer-feat frames v.mkv -o f --faces none").stderr


def test_a_video_in_which_nobody_is_seen_is_an_error(run, detector, tmp_path):
    write_clip(tmp_path / "empty.mp4", shots([(3, [])]))
    assert "no picture was made" in run("cer-feat frames empty.mp4 -o frames", code=1).stderr


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("cer-feat frames nowhere.mp4 -o f --faces none", 1, "there is no video or folder"),
        ("cer-feat frames videos -o f --faces tracks", 2, "'tracks' is not one of 'track'"),
        ("cer-feat frames videos -o f --faces none --format gif", 2, "'gif' is not one of 'jpg', 'png'"),
    ],
)
def test_what_cannot_be_done_is_said(run, videos, command, code, words):
    assert words in run(command, code=code).stderr


def test_videos_of_all_folders_are_made_and_what_is_left_out_is_counted(run, tmp_path):
    for path in ("videos/1.mp4", "videos/deeper/2.asf", "videos/deeper/3.bin"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        write_clip(tmp_path / "made.mkv", counted(2)).rename(tmp_path / path)
    (tmp_path / "videos" / "notes.txt").write_text("hello")
    result = run("cer-feat frames videos -o videos/frames --faces none --json")
    found = json.loads(result.stdout)
    assert [one["video"] for one in found["videos"]] == ["01", "02", "03"]
    assert found["left_out"] == {".txt": 1}
    assert "3 videos; left out: 1 × .txt" in result.stderr


def test_a_mirrored_video_is_made_and_it_is_told(run, tmp_path):
    write_clip(tmp_path / "1.mp4", counted(2), matrix=[-(1 << 16), 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30])
    assert "mirrored, as the file says" in run("cer-feat frames 1.mp4 -o f --faces none").stderr


def test_pixels_that_are_not_square_are_told(run, tmp_path):
    write_clip(tmp_path / "1.mp4", counted(2), pixel_aspect=Fraction(3, 2))
    assert "1.5 times as wide as high" in run("cer-feat frames 1.mp4 -o f --faces none").stderr


def test_frames_counted_from_zero_are_told_when_listed_and_when_extracted(run, drawn, tmp_path):
    import shutil

    picture = next(drawn.rglob("*.jpg"))
    (tmp_path / "shots" / "01").mkdir(parents=True)
    for i in range(2):
        shutil.copy(picture, tmp_path / "shots" / "01" / f"{i:05d}.jpg")
    assert "say --first-frame 0" in run("cer-feat manifest frames shots -o z.csv", code=1).stderr
    run("cer-feat manifest frames shots -o z.csv --first-frame 0 --repeats ignore")
    assert Manifest.read(tmp_path / "z.csv").ids == ("01/00001.jpg", "01/00002.jpg")
    sample = Sample("01/00000.jpg", "shots/01/00000.jpg", "", "", "01")
    Manifest(samples=(sample,), classes=class_set("abaw7"), root=tmp_path).write(tmp_path / "old.csv")
    line = "cer-feat extract --backbone timm:resnet18 --weights random --option img_size=64 --device cpu --data"
    assert "have a frame 0 (first: '01/00000.jpg')" in run(f"{line} old.csv").stderr


def test_a_name_that_is_no_text_is_made_and_told_in_text(run, tmp_path):
    (tmp_path / "v").mkdir()
    try:
        write_clip(tmp_path / "made.mp4", counted(2)).rename(tmp_path / "v" / "caf\udce9.mp4")
        (tmp_path / "v" / "b\udce9.mp4").write_text("this is no video")
    except (OSError, UnicodeError) as error:
        pytest.skip(f"this file system holds no such name: {error}")
    found = json.loads(run("cer-feat frames v -o f --faces none --json", code=1).stdout)
    assert [(one["video"], one["file"]) for one in found["videos"]] == [("caf%E9", "caf%E9.mp4")]
    assert "b%E9.mp4 cannot be opened" in found["failed"]["b%E9"]
    assert (tmp_path / "f" / "caf%E9" / "00002.jpg").is_file()


def test_several_processes_make_what_one_makes_and_a_broken_video_stops_none(run, videos, tmp_path):
    (videos / "3.mp4").write_bytes(b"this is no video")
    one = json.loads(run("cer-feat frames videos -o one --faces none --json", code=1).stdout)
    two = json.loads(run("cer-feat frames videos -o two --faces none --workers 2 --json", code=1).stdout)
    assert two["videos"] == one["videos"]
    assert "cannot be opened as a video" in two["failed"]["03"]
    for path in (tmp_path / "one").rglob("*.jpg"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
