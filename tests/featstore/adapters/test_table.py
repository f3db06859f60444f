from __future__ import annotations

import pytest

from featstore.adapters import build
from featstore.errors import FormatError, ManifestError
from tests.featstore.adapters.layouts import fill

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
    with pytest.raises(ManifestError, match=r"no column 'vector' of texts \(File, Emo, Fold, Who\)"):
        build("parquet", path, columns="path=vector")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FormatError, match="is not a usable Parquet file"):
        build("parquet", path, columns=COLUMNS)
