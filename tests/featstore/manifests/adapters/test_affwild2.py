from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.adapters import build
from cer_fusion.featstore.manifests.adapters.affwild2 import write_affwild2_targets
from cer_fusion.featstore.manifests.targets import read_targets
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
    }
    assert "1 annotated videos have no frames: nowhere" in adapted.notes[0]
    assert any(note.startswith("1 lists of valence and arousal: columns of the manifest") for note in adapted.notes)
    assert list(adapted.manifest.further) == ["va.valence", "va.arousal"]


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
    assert build("affwild2", affwild2).left_out["text file that is no annotation of expressions"] == 1


def test_an_annotation_that_cannot_be_read_is_refused_and_not_left_out(affwild2):
    fill(affwild2, {"Train_Set/v.txt": HEADER.encode() + b"1\n\xe9\n"})
    with pytest.raises(ManifestError, match=r"v\.txt:3: not UTF-8 text"):
        build("affwild2", affwild2)
    fill(affwild2, {"Train_Set/v.txt": (HEADER + "1\n").encode("utf-16-le")})
    with pytest.raises(ManifestError, match=r"v\.txt is not UTF-8 text: .*utf-16-le"):
        build("affwild2", affwild2)


UNITS = "AU1,AU2,AU12\n"
AFFECT = "valence,arousal\n"


def lists(root: Path, **texts: str) -> Path:
    """Lists of units and affect of the first video, whose parts are others than those of its expressions."""
    units = {"Fourth ABAW/AU_Detection_Challenge/Validation_Set/1-30-1280x720.txt": texts.get("units", "")}
    affect = {"Fourth ABAW/VA_Estimation_Challenge/Train_Set/1-30-1280x720.txt": texts.get("affect", "")}
    return fill(root, {name: text for name, text in (units | affect).items() if text})


@pytest.mark.parametrize("pack", [as_folder, zipped])
def test_lists_of_units_and_affect_are_targets_of_the_frames_with_minus_one_and_minus_five_masked(
    affwild2, tmp_path, pack
):
    (affwild2 / "Third ABAW/VA_Estimation_Challenge/Train_Set/1-30-1280x720.txt").unlink()
    lists(
        affwild2,
        units=UNITS.replace(",", ", ") + "1,0,1\n0,0,0\n-1,-1,-1\n1,1,1\n",
        affect=AFFECT + "0.25,-0.5\n1,1\n-5,-5\n0,0\n\n",
    )
    root = pack(affwild2)
    manifest = build("affwild2", root).manifest
    assert manifest.ids == ("1-30-1280x720/00001", "1-30-1280x720/00003", "9_left/00001")
    assert write_affwild2_targets(root, manifest, tmp_path / "t.csv") == 1  # of the others nothing is known
    found = read_targets(tmp_path / "t.csv")
    assert found.units == (1, 2, 12)
    rows = found.aligned(manifest.ids)
    np.testing.assert_array_equal(rows["au"], [[1, 0, 1], [np.nan] * 3, [np.nan] * 3])
    np.testing.assert_array_equal(rows["va"], [[0.25, -0.5], [np.nan] * 2, [np.nan] * 2])
    columns = np.stack(list(manifest.further.values()), axis=1)
    assert list(manifest.further) == ["au.1", "au.2", "au.12", "va.valence", "va.arousal"]
    np.testing.assert_array_equal(columns, np.concatenate([rows["au"], rows["va"]], axis=1))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"units": UNITS + "1,0,1\n0,2,0\n"}, r"1-30-1280x720\.txt:3: action units such as .* must be 0 or 1"),
        ({"units": UNITS + "1,0\n"}, r"\.txt:2: expected AU1, AU2, AU12, however: 2 numbers"),
        ({"affect": AFFECT + "0.1,1.2\n"}, r"\.txt:2: arousal must lie in \[-1, 1\]"),
        ({"affect": AFFECT + "0.1,x\n"}, r"\.txt:2: arousal must be a number"),
    ],
)
def test_targets_that_cannot_be_are_refused_with_file_and_line(affwild2, tmp_path, texts, message):
    manifest = build("affwild2", affwild2).manifest
    with pytest.raises(ManifestError, match=message):
        write_affwild2_targets(lists(affwild2, **texts), manifest, tmp_path / "t.csv")
    with pytest.raises(ManifestError, match=message):
        build("affwild2", affwild2)


def test_lists_of_other_units_twice_a_video_and_no_list_at_all_are_refused(affwild2, tmp_path):
    manifest = build("affwild2", affwild2).manifest
    other = fill(affwild2, {"AU/Train_Set/a.txt": UNITS + "1,1,1\n", "AU/Train_Set/b.txt": "AU1,AU4\n1,1\n"})
    with pytest.raises(ManifestError, match=r"b\.txt: expected the columns of the other lists, AU1, AU2, AU12"):
        write_affwild2_targets(other, manifest, tmp_path / "t.csv")
    (affwild2 / "AU/Train_Set/b.txt").write_text(UNITS + "1,1,1\n")
    fill(affwild2, {"AU/Validation_Set/b.txt": UNITS + "1,1,1\n"})
    with pytest.raises(ManifestError, match="a second list of action units for this video"):
        write_affwild2_targets(affwild2, manifest, tmp_path / "t.csv")
    alone = fill(tmp_path / "alone", {"Train_Set/v.txt": HEADER + "1\n", "v/00001.jpg": b"1"})
    with pytest.raises(ManifestError, match="has no list of action units, nor of valence and arousal"):
        write_affwild2_targets(alone, build("affwild2", alone).manifest, tmp_path / "t.csv")
