from __future__ import annotations

import pytest

from cer_fusion.featstore.errors import FormatError, ManifestError
from cer_fusion.featstore.manifests.adapters import build
from tests.featstore.manifests.adapters.layouts import fill

TEXT = "\ufeffFile,Emo,Fold,Who\r\na.png,happy,train,p1\r\nb.png,SAD,test,p2\r\nc.png,,test,\r\n"
COLUMNS = "path=File,label=Emo,split=Fold,group=Who"


def test_columns_are_mapped_in_one_text(tmp_path):
    root = fill(tmp_path / "t", {"t.csv": TEXT, "a.png": b"1", "c.png": b"2"})
    adapted = build("csv", root / "t.csv", columns=COLUMNS, classes="unity8")
    assert [tuple(sample) for sample in adapted.manifest.samples] == [
        ("a.png", "a.png", "Happiness", "train", "p1"),
        ("b.png", "b.png", "Sadness", "test", "p2"),
        ("c.png", "c.png", "", "test", ""),
    ]
    assert adapted.missing == ("b.png",)


@pytest.mark.parametrize(
    ("columns", "more", "message"),
    [
        ("path", {}, "--columns must be such as path=file,label=emotion, however: 'path'"),
        ("file=File", {}, "the words before = are id, path, label, split, group"),
        ("path=Fil", {}, r"t.csv:1: no column 'Fil' in the header"),
        ("path=File,label=Emotion", {}, r"no column 'Emotion' \(--label-column\)"),
        ("path=File", {"path_column": "Fold"}, "--columns says path=File, --path-column says Fold: name it once"),
    ],
)
def test_columns_that_are_none_are_refused(tmp_path, columns, more, message):
    root = fill(tmp_path / "t", {"t.csv": TEXT})
    with pytest.raises(ManifestError, match=message):
        build("csv", root / "t.csv", columns=columns, **more)


def test_a_parquet_file_is_a_table_like_any_other(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "File": ["a.png", "b.png", "c.png"], "Emo": [6.0, 0.0, float("nan")], "Fold": ["train", "test", None],
        "Who": [7, 8, None], "vector": [[1.0], [2.0], [3.0]], "bytes": [b"1", b"2", b"3"],
    }  # fmt: skip
    path = tmp_path / "t.parquet"
    parquet.write_table(arrow.table(columns), path)
    for kind in ("parquet", "csv"):
        adapted = build(kind, path, columns=COLUMNS, classes="abaw7")
        assert [tuple(sample) for sample in adapted.manifest.samples] == [
            ("a.png", "a.png", "Sadly Angry", "train", "7"),
            ("b.png", "b.png", "Fearfully Surprised", "test", "8"),
            ("c.png", "c.png", "", "", ""),
        ]
    with pytest.raises(ManifestError, match=r"column 'vector' has the type list<.*>, which is no cell"):
        build("parquet", path, columns="path=vector")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FormatError, match="cannot be read as Parquet"):
        build("parquet", path, columns=COLUMNS)


def test_a_table_of_a_spreadsheet_is_read_as_its_user_means_it(tmp_path):
    text = "Datei;Emotion ;Split\r\nä.jpg;3,0;Training\r\nb.jpg;10,0;TRAINING\r\nc.jpg;#NV;dev\r\nd.jpg;NaN;dev\r\n"
    (tmp_path / "t.csv").write_bytes(text.replace("#NV", "#N/A").encode("cp1252"))
    with pytest.raises(ManifestError, match=r"t\.csv:2: not UTF-8 text(?s:.*)'ä\.jpg;3,0;Training'"):
        build("csv", tmp_path / "t.csv", columns="path=datei,label=emotion")
    found = build("csv", tmp_path / "t.csv", columns="path=datei,label=emotion", encoding="cp1252")
    assert [(s.path, s.label, s.split) for s in found.manifest.samples] == [
        ("ä.jpg", "3", "train"),
        ("b.jpg", "10", "train"),
        ("c.jpg", "", "valid"),
        ("d.jpg", "", "valid"),
    ]
    assert found.manifest.classes.labels == ("3", "10")
    assert any("2 labels are '#N/A', 'NaN', first in line 4: read as no label" in note for note in found.notes)
    assert any("2 splits are 'dev', first in line 4: read as valid" in note for note in found.notes)


def test_two_words_for_one_split_stay_two_splits(tmp_path):
    (tmp_path / "t.csv").write_text("path,split\na.png,val\nb.png,dev\nc.png,training\n")
    assert build("csv", tmp_path / "t.csv").manifest.splits == ("val", "dev", "train")


def test_classes_of_ones_own_are_declared_in_their_order_and_may_be_called_none(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\na.png,None\nb.png,happy\nc.png,nan\nd.png,2\n")
    found = build("csv", tmp_path / "t.csv", classes="happy,none,2,1").manifest
    assert found.classes.labels == ("happy", "none", "2", "1")
    assert [s.label for s in found.samples] == ["none", "happy", "", "2"]


def test_a_table_without_a_label_column_says_so(tmp_path):
    (tmp_path / "t.csv").write_text("path,emotion\na.png,happy\n")
    found = build("csv", tmp_path / "t.csv")
    assert any("no column 'label', so no labels" in note and "path, emotion" in note for note in found.notes)


def test_folders_named_by_numbers_are_classes_in_the_order_of_the_numbers(tmp_path):
    for name in ("1", "2", "10", "0"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        (tmp_path / "faces" / name / "a.png").write_bytes(b"1")
    assert build("folder", tmp_path / "faces").manifest.classes.labels == ("0", "1", "2", "10")


def test_folders_that_only_spelling_parts_are_told(tmp_path):
    for name in ("Happy", "happy"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        (tmp_path / "faces" / name / "a.png").write_bytes(b"1")
    found = build("folder", tmp_path / "faces")
    assert found.notes == ("labels 'Happy' (1) and 'happy' (1) differ in spelling alone, but are 2 classes: "
                           "write them alike",)  # fmt: skip
