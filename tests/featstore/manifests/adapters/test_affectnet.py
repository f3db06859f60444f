from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.adapters import build
from tests.featstore.manifests.adapters.layouts import SAVED, as_folder, fill, npy, tarred, zipped

HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\r\n"


def listed(path: str, expression: int) -> str:
    return f"{path},134,134,899,899,181.64;530.91;188.32,{expression},-0.56,0.48\r\n"


def release(root: Path) -> Path:
    return fill(
        root,
        {
            "AffectNet/train_set/annotations/0_exp.npy": npy("1"),
            "AffectNet/train_set/annotations/0_val.npy": npy("0.5"),
            "AffectNet/train_set/annotations/7_exp.npy": npy(b"7"),
            "AffectNet/train_set/annotations/8_exp.npy": npy("10"),
            "AffectNet/train_set/images/0.jpg": b"a",
            "AffectNet/train_set/images/7.JPG": b"b",
            "AffectNet/val_set/annotations/0_exp.npy": npy(["6"]),
            "__MACOSX/AffectNet/val_set/annotations/._0_exp.npy": b"\0",
        },
    )


@pytest.mark.parametrize("pack", [as_folder, zipped, tarred])
def test_the_release_of_eight_labels_keeps_one_text_a_picture_in_npy_files(tmp_path, pack):
    adapted = build("affectnet", pack(release(tmp_path / "a")))
    assert [(s.sample_id, s.label, s.split) for s in adapted.manifest.samples] == [
        ("train/0", "Happiness", "train"),
        ("train/7", "Contempt", "train"),
        ("valid/0", "Anger", "valid"),
    ]
    assert adapted.manifest.samples[1].path == "AffectNet/train_set/images/7.JPG"
    assert adapted.left_out == {"No-Face (10)": 1}
    assert adapted.missing == ("valid/0",)
    assert "release of eight labels" in adapted.notes[0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy({"a": 1}), "Python objects, as a pickle"),
        (npy(["1", "2"]), "must hold one number, however: <U1 \\(2,\\)"),
        (npy("x" * 2000), "expected one number"),
        (npy("happy"), "expected the number of a class, however: 'happy'"),
        (npy("12"), "run from 0 to 7, however: 12"),
        (npy("1")[:-2], "must hold one number"),
        (b"", "it is empty"),
        (b"\x80\x04K\x01.", "Python pickle"),
    ],
)
def test_npy_files_that_hold_no_number_are_refused_unopened(tmp_path, data, message):
    root = fill(tmp_path / "a", {"train_set/annotations/3_exp.npy": data})
    with pytest.raises(ManifestError, match=message) as caught:
        build("affectnet", root)
    assert "3_exp.npy" in str(caught.value)


def test_numbers_of_any_kind_are_numbers(tmp_path):
    values = {"1": npy(2), "2": npy(np.float32(3)), "3": npy("4.0")}
    root = fill(tmp_path / "a", {f"val_set/annotations/{i}_exp.npy": data for i, data in values.items()})
    assert [s.label for s in build("affectnet", root).manifest.samples] == ["Sadness", "Surprise", "Fear"]


def full(root: Path, validation_header: str) -> Path:
    return fill(
        root,
        {
            "Manually_Annotated_file_lists/training.csv": "\ufeff"
            + HEADER
            + listed("689/aa.jpg", 1)
            + listed("1/bb.png", 8)
            + listed("1/cc.png", 9)
            + listed("1/dd.JPG", 7),
            "Manually_Annotated_file_lists/validation.csv": validation_header + listed("2/ee.jpg", 6) + "\r\n",
            "Manually_Annotated/Manually_Annotated_Images/689/AA.jpg": b"1",
            "Manually_Annotated/Manually_Annotated_Images/1/dd.JPG": b"2",
        },
    )


@pytest.mark.parametrize("header", [HEADER, ""])
def test_the_full_release_lists_pictures_in_csv_files_with_or_without_a_header(tmp_path, header):
    adapted = build("affectnet", full(tmp_path / "a", header))
    below = "Manually_Annotated/Manually_Annotated_Images/"
    assert [tuple(sample) for sample in adapted.manifest.samples] == [
        ("689/aa", below + "689/AA.jpg", "Happiness", "train", ""),
        ("1/dd", below + "1/dd.JPG", "Contempt", "train", ""),
        ("2/ee", below + "2/ee.jpg", "Anger", "valid", ""),
    ]
    assert adapted.left_out == {"None (8)": 1, "Uncertain (9)": 1}
    assert adapted.missing == ("2/ee",)


def test_a_short_row_is_refused_with_file_and_line(tmp_path):
    root = fill(tmp_path / "a", {"training.csv": HEADER + "1/a.jpg,1\r\n"})
    with pytest.raises(ManifestError, match=r"training.csv:2: expected 9 fields, however: 2"):
        build("affectnet", root)
    fill(root, {"training.csv": "subDirectory_filePath,label\r\n"})
    with pytest.raises(ManifestError, match=r"training.csv:1: no column 'expression'"):
        build("affectnet", root)


@pytest.mark.parametrize("pack", [as_folder, zipped])
def test_plain_folders_are_named_by_the_classes_numbers(tmp_path, pack):
    root = fill(
        tmp_path / "a",
        {"A/train/0/x.jpg": b"1", "A/train/10/x.jpg": b"2", "A/VAL/7/x.png": b"3", "A/cover.png": b"4"},
    )
    adapted = build("affectnet", pack(root), map_to="unity8")
    assert [(s.sample_id, s.label, s.split) for s in adapted.manifest.samples] == [
        ("valid/7/x", "Contempt", "valid"),
        ("train/0/x", "Neutral", "train"),
    ]
    assert adapted.left_out == {"No-Face (10)": 1, "not in {train,val}/{0..7}/": 1}


def test_no_layout_at_all_names_all_three(tmp_path):
    with pytest.raises(ManifestError, match=r"expected AffectNet: .*_exp.npy.*training.*\{0\.\.7\}"):
        build("affectnet", fill(tmp_path / "a", {"readme.txt": "x"}))
    with pytest.raises(ManifestError, match="lies in no set"):
        build("affectnet", fill(tmp_path / "b", {"annotations/3_exp.npy": npy("1")}))


@pytest.mark.parametrize("how", SAVED)
@pytest.mark.parametrize("header", [HEADER, HEADER.replace("subDirectory_filePath", "Subdirectory file path"), ""])
def test_lists_are_read_however_a_spreadsheet_saved_them(tmp_path, how, header):
    text = header + listed("689/aa.jpg", 1) + listed("1/dd.JPG", 7)
    rows = [line.split(",") for line in text.splitlines()]
    adapted = build("affectnet", fill(tmp_path / "a", {"training.csv": SAVED[how](rows)}))
    assert [(s.sample_id, s.label) for s in adapted.manifest.samples] == [("689/aa", "Happiness"), ("1/dd", "Contempt")]


def test_a_quote_that_never_closes_is_told_where_it_opens(tmp_path):
    root = fill(tmp_path / "a", {"training.csv": HEADER + '"1/a.jpg,1\r\n' + listed("1/dd.JPG", 7) * 9})
    with pytest.raises(ManifestError, match=r"training.csv:2: a quote is never closed"):
        build("affectnet", root)
    fill(root, {"training.csv": HEADER + '"1/a.jpg,1\r\n' + listed("1/dd.JPG", 7) * 9999})
    with pytest.raises(ManifestError, match=r"training.csv:2: a cell of more than 131,072 letters .* never closed\?"):
        build("affectnet", root)


@pytest.mark.parametrize("header", [HEADER, ""])
def test_valence_and_arousal_of_the_lists_are_columns_and_minus_two_is_not_known(tmp_path, header):
    lines = [listed(f"1/{name}.jpg", 1).rsplit(",", 2)[0] + f",{said}\r\n" for name, said in
             {"a": "0.25,-0.5", "b": "-2,-2", "c": "-2,0.1", "d": "0,1"}.items()]  # fmt: skip
    manifest = build("affectnet", fill(tmp_path / "a", {"training.csv": header + "".join(lines)})).manifest
    np.testing.assert_array_equal(manifest.further["va.valence"], [0.25, np.nan, np.nan, 0])
    np.testing.assert_array_equal(manifest.further["va.arousal"], [-0.5, np.nan, np.nan, 1])
    fill(tmp_path / "b", {"training.csv": header + lines[0] + lines[0].replace("1/a", "1/e").replace("0.25", "1.5")})
    with pytest.raises(ManifestError, match=r"training.csv:\d: valence must lie in \[-1, 1\], .* however: '1.5'"):
        build("affectnet", tmp_path / "b")
