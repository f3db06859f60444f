from __future__ import annotations

import pytest

from featstore.adapters import build
from featstore.errors import ManifestError
from tests.featstore.adapters.layouts import as_folder, fill, tarred, zipped


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
