from __future__ import annotations

from pathlib import Path

import pytest

from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.adapters import build
from tests.featstore.manifests.adapters.layouts import as_folder, fill, tarred, zipped

HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other\n"


@pytest.fixture
def affwild2(tmp_path) -> Path:
    sets = "Third ABAW/EXPR_Classification_Challenge"
    return fill(
        tmp_path / "Aff-Wild2",
        {
            f"{sets}/Train_Set/1-30-1280x720.txt": HEADER + "0\n-1\n7\n4\n\n",
            f"{sets}/Validation_Set/9_left.txt": HEADER.replace("\n", "\r\n") + "6\r\n",
            f"{sets}/Validation_Set/nowhere.txt": HEADER + "1\n2\n",
            "Third ABAW/VA_Estimation_Challenge/Train_Set/1-30-1280x720.txt": "valence,arousal\n0.1,0.2\n",
            "cropped_aligned/1-30-1280x720/00001.jpg": b"1",
            "cropped_aligned/1-30-1280x720/00002.jpg": b"2",
            "cropped_aligned/1-30-1280x720/00003.jpg": b"3",
            "cropped_aligned/1-30-1280x720/00005.jpg": b"5",
            "cropped_aligned/9_left/00001.jpg": b"6",
            "cropped_aligned/.DS_Store": b"x",
        },
    )


@pytest.mark.parametrize("pack", [as_folder, zipped, tarred])
def test_a_line_is_a_frame_and_a_video_is_a_group(affwild2, pack):
    adapted = build("affwild2", pack(affwild2))
    assert [(s.sample_id, s.label, s.split, s.group) for s in adapted.manifest.samples] == [
        ("1-30-1280x720/00001", "Neutral", "train", "1-30-1280x720"),
        ("1-30-1280x720/00003", "Other", "train", "1-30-1280x720"),
        ("9_left/00001", "Surprise", "valid", "9_left"),
    ]
    assert adapted.left_out == {
        "invalid frame (-1)": 1,
        "labelled frame without a picture": 3,
        "frame after the last line of its annotation": 1,
        "text file that is no annotation of expressions": 1,
    }
    assert "1 annotated videos have no frames: nowhere" in adapted.notes[0]


def test_expressions_map_onto_unity_without_other(affwild2):
    adapted = build("affwild2", affwild2, map_to="unity8")
    assert [s.label for s in adapted.manifest.samples] == ["Neutral", "Surprise"]
    assert adapted.left_out["Other: no class of basic8"] == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Train_Set/a.txt", HEADER + "0\n8\n", r"a.txt:3: ids .* run from 0 to 7, however: 8"),
        ("Train_Set/a.txt", HEADER + "0\n\n1\n", r"a.txt:3: expected the number of a class, however: ''"),
        ("a.txt", HEADER + "0\n", "lies in no set: expected a folder such as Train_Set"),
    ],
)
def test_faulty_annotations_are_refused_with_file_and_line(tmp_path, name, text, message):
    root = fill(tmp_path / "a", {name: text, "a/00001.jpg": b"1"})
    with pytest.raises(ManifestError, match=message):
        build("affwild2", root)


@pytest.mark.parametrize(
    "data",
    [
        HEADER.replace(",", ";").encode("utf-16") + '3.0\r\n"4"\r\n'.encode("utf-16-le"),
        b"\xef\xbb\xbf" + HEADER.replace(",", "\t").encode() + b"3,0  \t\n 4 ;;;\n;;;\n",
        (HEADER.replace(",", ", ") + "3\n4\n\n \n").replace("\n", "\r").encode(),
        b"sep=;\r\n" + HEADER.replace(",", ";").encode() + b"3;;;;;;;\r\n4;;;;;;;\r\n",
    ],
)
@pytest.mark.parametrize("ending", ["txt", "csv"])
def test_annotations_are_read_however_they_were_saved(tmp_path, data, ending):
    root = fill(tmp_path / "a", {f"Train_Set/v.{ending}": data, "v/00001.jpg": b"1", "v/00002.jpg": b"2"})
    adapted = build("affwild2", root)
    assert [(s.sample_id, s.label) for s in adapted.manifest.samples] == [("v/00001", "Fear"), ("v/00002", "Happiness")]
    assert adapted.left_out == {}


@pytest.mark.parametrize("data", ["für alle\n".encode("cp1252"), "Read me\n".encode("utf-16-le"), b"", b"\0" * 99])
def test_texts_that_are_no_annotations_are_counted_whatever_their_encoding(affwild2, data):
    fill(affwild2, {"readme.txt": data})
    assert build("affwild2", affwild2).left_out["text file that is no annotation of expressions"] == 2


def test_an_annotation_that_cannot_be_read_is_refused_and_not_left_out(affwild2):
    fill(affwild2, {"Train_Set/v.txt": HEADER.encode() + b"1\n\xe9\n"})
    with pytest.raises(ManifestError, match=r"v\.txt:3: not UTF-8 text"):
        build("affwild2", affwild2)
    fill(affwild2, {"Train_Set/v.txt": (HEADER + "1\n").encode("utf-16-le")})
    with pytest.raises(ManifestError, match=r"v\.txt is not UTF-8 text: .*utf-16-le"):
        build("affwild2", affwild2)
