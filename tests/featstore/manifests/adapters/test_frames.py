from __future__ import annotations

import pytest

from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.adapters import build
from tests.featstore.manifests.adapters.layouts import as_folder, fill, tarred, zipped


@pytest.mark.parametrize("pack", [as_folder, zipped, tarred])
def test_frames_are_named_as_in_the_challenges_template(tmp_path, pack):
    root = fill(
        tmp_path / "cexpr",
        {
            "C-EXPR/02/00001.jpg": b"1",
            "C-EXPR/01/00010.jpg": b"2",
            "C-EXPR/01/00002.jpg": b"3",
            "C-EXPR/01/3.png": b"4",
            "C-EXPR/01/cover.png": b"5",
            "__MACOSX/C-EXPR/01/._00002.jpg": b"6",
        },
    )
    adapted = build("frames", pack(root))
    assert [tuple(sample) for sample in adapted.manifest.samples] == [
        ("01/00002.jpg", "C-EXPR/01/00002.jpg", "", "", "01"),
        ("01/00003.jpg", "C-EXPR/01/3.png", "", "", "01"),
        ("01/00010.jpg", "C-EXPR/01/00010.jpg", "", "", "01"),
        ("02/00001.jpg", "C-EXPR/02/00001.jpg", "", "", "02"),
    ]
    assert adapted.manifest.classes.name == "abaw7"
    assert adapted.left_out == {"picture whose name is no frame number": 1}
    assert adapted.notes == (
        "2 videos; ids are <video>/<frame in five digits>.jpg, as in the challenge's template",
        "1 frames have other file names; their ids are as if they had that form",
        "7 frames before the last of their video have no picture, in 1 videos: 01 (7)",
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/01/00001.jpg", "b/01/00001.jpg"], "two folders of frames called '01': a/01 and b/01"),
        (["01/00001.jpg", "01/1.png"], "has frame 1 of 01 twice: 01/00001.jpg and 01/1.png"),
        (["01.mp4", "02.mp4"], "these are videos: 01.mp4, 02.mp4; make frames of them with: cer-feat frames"),
        (["cover.jpg"], "expected <video>/00001.jpg\n  left out: 1 × picture whose name is no frame number"),
    ],
)
def test_what_is_not_one_set_of_frames_is_refused(tmp_path, names, message):
    with pytest.raises(ManifestError, match=message):
        build("frames", fill(tmp_path / "f", dict.fromkeys(names, b"x")))


def ids_of(tmp_path, names, **options):
    adapted = build("frames", fill(tmp_path / "f", {name: name.encode() for name in names}), **options)
    return list(adapted.manifest.ids), adapted


def test_frames_that_are_counted_from_zero_are_refused_when_they_are_listed(tmp_path):
    names = ["01/00000.jpg", "01/00001.jpg", "02/00003.jpg"]
    with pytest.raises(ManifestError, match=r"counted from 0 in 1 of 2 videos \(first: 01/00000\.jpg\)") as error:
        ids_of(tmp_path, names)
    assert "say --first-frame 0" in str(error.value)


def test_every_video_is_counted_from_one_where_the_first_frame_is_named(tmp_path):
    ids, adapted = ids_of(tmp_path, ["01/00000.jpg", "01/00001.jpg", "02/00003.jpg"], first_frame=0)
    assert ids == ["01/00001.jpg", "01/00002.jpg", "02/00004.jpg"]
    assert [sample.path for sample in adapted.manifest.samples] == ["01/00000.jpg", "01/00001.jpg", "02/00003.jpg"]
    assert "frames are counted from 0 in the file names; ids count from 1, so 0 is 00001" in adapted.notes
    assert "3 frames before the last of their video have no picture, in 1 videos: 02 (3)" in adapted.notes


def test_a_first_frame_that_no_video_has_is_told(tmp_path):
    _, adapted = ids_of(tmp_path, ["01/00001.jpg"], first_frame=0)
    assert any("no video has a frame of that number" in note for note in adapted.notes)


def test_frames_with_a_word_before_their_number_are_taken_and_it_is_told(tmp_path):
    ids, adapted = ids_of(tmp_path, ["01/frame_00001.jpg", "01/frame_00002.jpg", "02/img0003.png"])
    assert ids == ["01/00001.jpg", "01/00002.jpg", "02/00003.jpg"]
    assert any("3 of them have a word before their number" in note for note in adapted.notes)


def test_a_numbered_picture_beside_plain_frames_is_counted_and_left_out(tmp_path):
    ids, adapted = ids_of(tmp_path, ["01/00001.jpg", "01/thumb1.jpg"])
    assert ids == ["01/00001.jpg"]
    assert adapted.left_out == {"numbered picture of another name beside 00001.jpg": 1}


def test_videos_are_called_as_the_challenge_calls_them_and_it_is_told(tmp_path):
    ids, adapted = ids_of(tmp_path, ["001/000001.jpg", "2/1.jpg"])
    assert ids == ["01/00001.jpg", "02/00001.jpg"]
    assert any("001 is 01, 2 is 02" in note for note in adapted.notes)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["01/face_00_0001.jpg", "01/face_01_0001.jpg"], "2 series of numbered pictures: face_00_… .1., face_01_… .1."),
        (["1/00001.jpg", "01/00001.jpg"], "two folders of frames called '01'"),
        (["01/1596123456789.jpg"], "1596123456789 is no frame's number"),
    ],
)
def test_what_is_not_one_series_a_video_is_refused(tmp_path, names, message):
    with pytest.raises(ManifestError, match=message):
        ids_of(tmp_path, names)


def test_any_kind_of_video_is_named_where_frames_were_expected(tmp_path):
    with pytest.raises(ManifestError, match=r"these are videos: a\.264, b\.wmv; make frames"):
        ids_of(tmp_path, ["a.264", "b.wmv"])
