"""Manifests that other programs wrote as Parquet."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from cer_fusion.featstore import Manifest
from cer_fusion.featstore.errors import FeatstoreError, FormatError, ManifestError
from cer_fusion.featstore.manifests import manifest as manifests
from cer_fusion.featstore.manifests import parquet_table
from cer_fusion.featstore.manifests import sidecar as sidecars
from cer_fusion.featstore.manifests.columns import Texts, Words

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
CELLS = {
    "sample_id": ["a", "b", "é c"],
    "path": ["1.png", "2, 3.png", "x/4.png"],
    "label": ["Sad", None, "Happy"],
    "split": ["train", "test", "train"],
    "group": ["v 1", None, None],
}


def written(folder, columns, **options):
    parquet.write_table(pa.table(columns), folder / "faces.parquet", **options)
    return folder / "faces.parquet"


def csv_of(folder, columns):
    rows = [
        ",".join(columns),
        *(",".join("" if c is None else f'"{c}"' for c in row) for row in zip(*columns.values(), strict=True)),
    ]
    (folder / "faces.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "faces.csv"


KINDS = {
    "text": pa.string(),
    "large text, as polars writes it": pa.large_string(),
    "bytes, as old Spark writes it": pa.binary(),
    "coded, as a pandas Categorical": pa.dictionary(pa.int8(), pa.string()),
    "coded large text": pa.dictionary(pa.uint32(), pa.large_string()),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("rows", [1, 1000], ids=["a row group a row", "one row group"])
def test_texts_of_every_kind_are_those_of_the_csv(tmp_path, kind, rows):
    columns = {name: pa.array(cells, pa.string()) for name, cells in CELLS.items()}
    columns = {name: cells.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else cells.cast(kind)
               for name, cells in columns.items()}  # fmt: skip
    read = Manifest.read(written(tmp_path, columns, row_group_size=rows))
    assert read == Manifest.read(csv_of(tmp_path, CELLS))
    assert read.counts() == {"Happy": 1, "Sad": 1}


def test_whole_numbers_are_ids_and_labels(tmp_path):
    columns = {"sample_id": pa.array([10, 2], pa.int64()), "path": ["a", "b"], "label": pa.array([3, 11], pa.uint8())}
    read = Manifest.read(written(tmp_path, columns))
    assert read.ids == ("10", "2")
    assert read.classes.labels == ("3", "11")


def test_whole_numbers_with_gaps_are_no_decimals_and_that_is_told(tmp_path, caplog):
    columns = {"sample_id": ["a", "b", "c"], "path": ["a", "b", "c"], "group": pa.array([12.0, None, np.nan]),
               "label": pa.array([1.0, 0.0, None], pa.float32())}  # fmt: skip
    with caplog.at_level(logging.WARNING):
        read = Manifest.read(written(tmp_path, columns))
    assert [(s.group, s.label) for s in read.samples] == [("12", "1"), ("", "0"), ("", "")]
    assert "column group has whole numbers kept as decimals: 3.0 is read as 3" in caplog.text


def test_empty_columns_and_indexes_of_pandas_are_no_cells(tmp_path):
    columns = {"sample_id": ["a"], "path": ["a"], "label": pa.nulls(1), "__index_level_0__": pa.array([7])}
    read = Manifest.read(written(tmp_path, columns))
    assert [*read.samples] == [("a", "a", "", "", "")]


def test_words_for_nothing_and_spellings_are_read_as_in_a_csv(tmp_path):
    cells = {"Sample-ID": ["a", "b"], "Path": ["a", "b"], "label": ["nan", "Happy"], "split": ["Train", "none"]}
    assert Manifest.read(written(tmp_path, cells)) == Manifest.read(csv_of(tmp_path, cells))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sample_id": ["a"]}, "no column 'path' among sample_id"),
        ({"sample_id": ["a"], "path": ["a"], "lable": ["x"]}, "unknown column 'lable'; did you mean 'label'"),
        ({"sample_id": pa.array([1.0]), "path": ["a"]}, "column 'sample_id' has the type double"),
        ({"sample_id": ["a"], "path": [["a"]]}, "column 'path' has the type list"),
        ({"sample_id": ["a"], "path": ["a"], "label": [0.5]}, "column 'label' holds the number 0.5"),
        ({"sample_id": ["a"], "path": ["a"], "label": [float("inf")]}, "column 'label' holds the number inf"),
        ({"sample_id": ["a", None], "path": ["a", "b"]}, "sample 1: sample_id and path must not be empty"),
        ({"sample_id": ["a", "a"], "path": ["a", "b"]}, "'a' stands twice"),
        ({"sample_id": pa.array([], pa.string()), "path": pa.array([], pa.string())}, "no samples"),
    ],
)
def test_what_is_no_manifest_is_refused_by_name(tmp_path, columns, message):
    with pytest.raises(ManifestError, match=message):
        Manifest.read(written(tmp_path, columns))


def test_a_damaged_file_is_told(tmp_path):
    path = written(tmp_path, CELLS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FormatError, match="cannot be read as Parquet"):
        Manifest.read(path)


def test_bytes_that_are_no_text_are_told(tmp_path):
    with pytest.raises(FormatError, match="cannot be read as Parquet"):
        Manifest.read(written(tmp_path, {"sample_id": ["a"], "path": [b"\xff.png"]}))


def test_the_class_list_beside_it_counts(tmp_path):
    made = Manifest.read(csv_of(tmp_path, CELLS))
    made.write(tmp_path / "faces.csv")
    path = written(tmp_path, CELLS)
    assert Manifest.read(path) == made


def test_without_its_library_it_says_what_to_install(tmp_path, monkeypatch):
    path = written(tmp_path, CELLS)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(FeatstoreError, match=r"pip install 'cer-fusion\[parquet\]'"):
        Manifest.read(path)


def test_no_manifest_is_written_as_csv_under_the_name_of_parquet(tmp_path):
    with pytest.raises(ManifestError, match=r"manifests are written as CSV: write it to .*out\.csv"):
        Manifest.read(written(tmp_path, CELLS)).write(tmp_path / "out.parquet")


def test_a_store_knows_the_parquet_file_that_its_manifest_was_made_from(tmp_path, monkeypatch, store):
    monkeypatch.setattr(manifests, "BLOCK_ROWS", 2)
    monkeypatch.setattr(sidecars, "BLOCK_ROWS", 2)
    path = written(tmp_path, CELLS)
    store.use_manifest("d", Manifest.read(path))
    sealed = store.sealed_manifest("d")
    assert sealed.is_made_from(path, None)
    assert sealed.rows(np.array([2])).ids == ("é c",)


def categorical(cells):
    return pytest.importorskip("pandas").Categorical(cells, categories=["z", "y", "x"])


def of_pandas(**columns):
    frame = pytest.importorskip("pandas").DataFrame({"sample_id": ["b", "a", "c"], "path": ["1", "2", "3"], **columns})
    return pa.Table.from_pandas(frame.set_index("sample_id"))


ODD = {
    "an index of pandas that is the ids": (lambda: of_pandas(label=["x", "y", None]), ["x", "y", ""]),
    "a label that is a Categorical with gaps": (
        lambda: of_pandas(label=categorical(["x", None, "y"])),
        ["x", "", "y"],
    ),
    "whole numbers with pandas' own missing value": (
        lambda: of_pandas(label=pytest.importorskip("pandas").array([7, None, 10], dtype="Int8")), ["7", "", "10"],
    ),
    "true and false": (lambda: of_pandas(label=[True, False, True]), ["True", "False", "True"]),
    "codes of numbers": (
        lambda: of_pandas().append_column("label", pa.array([5, None, 6]).dictionary_encode()),
        ["5", "", "6"],
    ),
    "bytes with blanks around": (lambda: of_pandas(label=[b" x ", b"\xc2\xa0y", None]), ["x", "y", ""]),
    "texts without a copy": (
        lambda: of_pandas().append_column("label", pa.array(["x", "y", None]).cast(pa.string_view())),
        ["x", "y", ""],
    ),
    "decimals of two bytes": (
        lambda: of_pandas().append_column("label", pa.array([np.float16(2), None, np.float16(3)])),
        ["2", "", "3"],
    ),
    "one null beside two": (lambda: of_pandas(label=[None, None, None]), ["", "", ""]),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("batch", [1, 2, 65536])
def test_columns_of_other_programs_are_the_texts_that_a_csv_of_them_would_hold(tmp_path, monkeypatch, name, batch):
    monkeypatch.setattr(parquet_table, "_BATCH", batch)
    table, labels = ODD[name]
    try:
        parquet.write_table(table(), tmp_path / "faces.parquet")
    except (pa.ArrowNotImplementedError, AttributeError):
        pytest.skip("this pyarrow does not write such a column")
    found = Manifest.read(tmp_path / "faces.parquet")
    assert [s.label for s in found.samples] == labels
    assert sorted(found.ids) == ["a", "b", "c"]


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize(
    ("name", "cells", "error", "message"),
    [
        ("label", [1.0, 2.0, None, 2.5], ManifestError, "faces.parquet, sample 3: column 'label' holds the number 2.5"),
        ("path", [b"a", b"b", b"c", b"\xff"], FormatError, r"sample 3: column 'path' cannot .* b'\\xff' is no UTF-8"),
        (
            "label",
            [b"a", None, b"\xc3", b"\xa9"],
            FormatError,
            r"sample 2: column 'label' cannot .* b'\\xc3' is no UTF-8",
        ),
    ],
)
def test_what_is_no_cell_is_refused_with_its_sample(tmp_path, monkeypatch, coded, name, cells, error, message):
    monkeypatch.setattr(parquet_table, "_BATCH", 3)
    array = pa.array(cells)
    columns = {"sample_id": list("abcd"), "path": list("abcd"), name: array.dictionary_encode() if coded else array}
    with pytest.raises(error, match=message):
        Manifest.read(written(tmp_path, columns))


def test_a_part_of_a_larger_array_is_read_where_it_begins(tmp_path):
    column = pa.array(["no", None, "é", None, "a"])
    cells = parquet_table._Cells(pa, Texts, "path", tmp_path)
    assert list(cells.of(column.slice(1, 3))) == ["", "é", ""]
    cells = parquet_table._Cells(pa, Words, "label", tmp_path)
    assert list(cells.of(column.dictionary_encode().slice(1, 4))) == ["", "é", "", "a"]
