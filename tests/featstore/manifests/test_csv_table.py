from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from cer_fusion.featstore import Manifest
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.manifests.class_sets import ClassSet
from cer_fusion.featstore.manifests.csv_table import parse_table, table_bytes
from cer_fusion.featstore.manifests.manifest import Sample

_ROWS = [["sample_id", "path", "label"], ["a", "a.png", "glücklich"], ["b", "b,c;d.png", "traurig"]]


def written(folder: Path, data: bytes | str, name: str = "people.csv") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def labels(path: Path) -> list[str]:
    return [sample.label for sample in Manifest.read(path).samples]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_table_is_read_whatever_separates_its_cells_and_lines(tmp_path: Path, separator: str, line_end: str) -> None:
    text = line_end.join(separator.join(f'"{cell}"' for cell in row) for row in _ROWS) + line_end
    found = Manifest.read(written(tmp_path, text))
    assert [sample[:3] for sample in found.samples] == [tuple(row) for row in _ROWS[1:]]
    assert tuple(found.lines) == (2, 3)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_table_is_read_in_every_encoding_that_its_first_bytes_tell(tmp_path: Path, encoding: str) -> None:
    text = "sample_id\tpath\tlabel\r\na\ta.png\tglücklich\r\n"  # Excel's "Unicode text" is UTF-16 with tabs
    assert labels(written(tmp_path, text.encode(encoding))) == ["glücklich"]
    big = "\ufeff" + text
    assert labels(written(tmp_path, big.encode("utf-16-be"))) == ["glücklich"]


@pytest.mark.parametrize(("encoding", "line_end"), [("cp1252", "\r\n"), ("latin-1", "\n"), ("mac_roman", "\r")])
def test_text_in_an_older_encoding_is_refused_with_its_line_and_the_way_to_read_it(
    tmp_path: Path, encoding: str, line_end: str
) -> None:
    text = line_end.join(["sample_id,path,label", "a,a.png,froh", "b,b.png,glücklich", ""])
    path = written(tmp_path, text.encode(encoding))
    with pytest.raises(ManifestError, match=r"people\.csv:3: not UTF-8 text .*--encoding(?s:.*)glücklich"):
        Manifest.read(path)
    table = parse_table(table_bytes(path), path, required=["path"], others=True, encoding=encoding)
    assert table.column("label") == ["froh", "glücklich"]


def test_an_encoding_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "path\na.png\n")
    with pytest.raises(ManifestError, match="no encoding 'win-klingon'"):
        parse_table(table_bytes(path), path, required=["path"], encoding="win-klingon")


def test_utf_16_without_its_mark_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="NUL bytes, as UTF-16"):
        Manifest.read(written(tmp_path, "sample_id,path\na,a.png\n".encode("utf-16-le")))


def test_the_line_that_tells_excel_the_separator_is_no_row(tmp_path: Path) -> None:
    path = written(tmp_path, "sep=;\r\nsample_id;path;label\r\na;a.png;x,y\r\n")
    assert labels(path) == ["x,y"]
    written(tmp_path, "sep=;\r\nsample_id;path;label\r\na;a.png\r\n")
    with pytest.raises(ManifestError, match=r"people\.csv:3: expected 3 fields, however: 2"):
        Manifest.read(path)


def test_rows_and_columns_of_nothing_are_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path, "\r\nsample_id,path,label,,\r\na,a.png,x,,\r\n,,,,\r\n \r\nb,b.png,y\r\n")
    with pytest.raises(ManifestError, match=r":6: expected 5 fields, however: 3"):
        Manifest.read(path)
    path = written(tmp_path, "sample_id,path,label,,\r\na,a.png,x,,\r\n,,,,\r\n\r\nb,b.png,y,,\r\n")
    assert labels(path) == ["x", "y"]


def test_a_cell_below_no_name_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r":3: column 3 has a cell here, but no name"):
        Manifest.read(written(tmp_path, "sample_id,path,\na,a.png,\nb,b.png,happy\n"))


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_the_row_numbers_of_pandas_are_no_column(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, f"{name},sample_id,path,label\n0,a,a.png,x\n1,b,b.png,y\n")
    assert labels(path) == ["x", "y"]


def test_column_names_are_taken_in_any_letter_case_and_between_blanks_and_quotes(tmp_path: Path) -> None:
    text = "\ufeffSample_ID, Path ,'LABEL',\"Split\",GROUP\na,a.png,x,train,g\n"
    assert Manifest.read(written(tmp_path, text)).samples[0] == ("a", "a.png", "x", "train", "g")
    assert labels(written(tmp_path, "sample id;PATH;Label\na;a.png;x\n")) == ["x"]


def test_two_columns_that_look_like_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="'Label' and 'LABEL' both look like 'label'"):
        Manifest.read(written(tmp_path, "sample_id,path,Label,LABEL\na,a.png,x,y\n"))
    with pytest.raises(ManifestError, match="a column stands twice"):
        Manifest.read(written(tmp_path, "sample_id,path,label,label\na,a.png,x,y\n"))


def test_a_quote_that_never_closes_swallows_no_rows(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"people\.csv:3: a quote is never closed"):
        Manifest.read(written(tmp_path, 'sample_id,path,label\na,a.png,x\nb,b.png,"happy\nc,c.png,sad\n'))


def test_a_quoted_cell_may_hold_a_line_end(tmp_path: Path) -> None:
    path = written(tmp_path, 'path;note\na.png;"one\ntwo"\nb.png;x\n')
    table = parse_table(table_bytes(path), path, required=["path"], others=True)
    assert (table.rows, table.lines) == ([["a.png", "one\ntwo"], ["b.png", "x"]], [3, 4])


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "NULL", "NA", "N/A", "n/a", "-", "#N/A", "NaT", "<NA>", "?"])
def test_a_word_for_nothing_is_no_class_and_is_told(
    tmp_path: Path, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, f"sample_id,path,label,split\nNA,a.png,happy,train\nNull,b.png,{word},{word}\n")
    with caplog.at_level(logging.WARNING):
        found = Manifest.read(path)
    assert found.classes.labels == ("happy",)
    assert [(s.sample_id, s.label, s.split) for s in found.samples] == [("NA", "happy", "train"), ("Null", "", "")]
    assert f"one label is {word!r}, first in line 3: read as no label" in caplog.text
    assert f"one split is {word!r}, first in line 3: read as no split" in caplog.text


def test_a_word_for_nothing_is_a_class_where_the_classes_say_so(tmp_path: Path) -> None:
    first = Manifest.read(written(tmp_path, "sample_id,path,label\na,a.png,happy\nb,b.png,sad\n"))
    declared = Manifest(
        samples=(first.samples[0], first.samples[1]._replace(label="None")),
        classes=ClassSet(name="custom", labels=("None", "happy")),
        root=tmp_path,
    )
    declared.write(tmp_path / "declared.csv")
    assert labels(tmp_path / "declared.csv") == ["happy", "None"]


def test_whole_numbers_are_classes_without_their_decimals_and_in_their_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(f"s{i},{i}.png,{label}\n" for i, label in enumerate(["10.0", "2.0", "-1.0", "nan", "1", "11.0"]))
    found = Manifest.read(written(tmp_path, "sample_id,path,label\n" + rows))
    assert found.classes.labels == ("-1", "1", "2", "10", "11")
    assert found.y.tolist() == [3, 2, 0, -1, 1, 4]
    assert "read as the number of a class" in caplog.text
    rows = "".join(f"s{i};{i}.png;{label}\n" for i, label in enumerate(["10,0", "9,00"]))
    assert Manifest.read(written(tmp_path, "sample_id;path;label\n" + rows)).classes.labels == ("9", "10")


def test_decimals_that_are_no_whole_numbers_stay_as_they_are(tmp_path: Path) -> None:
    assert labels(written(tmp_path, "sample_id,path,label\na,a.png,3.0\nb,b.png,3.5\n")) == ["3.0", "3.5"]


def test_labels_that_only_spelling_parts_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cells = ["Happy", "happy ", "happy\xa0", "so_sad", "So sad", "1", "01", "e\u0301", "\xe9", "fine"]
    text = "sample_id,path,label\n" + "".join(f"s{i},{i}.png,{cell}\n" for i, cell in enumerate(cells))
    found = Manifest.read(written(tmp_path, text))
    assert len(found.classes.labels) == 9
    assert "labels 'Happy' (1) and 'happy' (2) differ in spelling alone, but are 2 classes" in caplog.text
    assert "'so_sad' (1) and 'So sad' (1)" in caplog.text
    assert "'1' (1) and '01' (1)" in caplog.text
    assert "'e\u0301' (1) and '\xe9' (1)" in caplog.text
    assert "fine" not in caplog.text


def test_a_split_in_capitals_is_the_same_split(tmp_path: Path) -> None:
    text = "sample_id,path,split\na,a.png,Train\nb,b.png,train\nc,c.png,TEST\nd,d.png,fold1\ne,e.png,dev\n"
    assert Manifest.read(written(tmp_path, text)).split_of_each == ("train", "train", "test", "fold1", "dev")


def test_a_subject_called_na_stays_a_group_and_nan_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "sample_id,path,group\na,a.png,NA\nb,b.png,NA\nc,c.png,nan\nd,d.png,nan\n"
    assert [s.group for s in Manifest.read(written(tmp_path, text)).samples] == ["NA", "NA", "", ""]
    assert "2 groups are 'NA'" in caplog.text
    assert "2 groups are 'nan', first in line 4: read as no group" in caplog.text


def test_ids_that_a_spreadsheet_rounded_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Manifest.read(written(tmp_path, "sample_id,path\n1.23E+11,a.png\n1e5,b.png\n"))
    assert "one id is '1.23E+11', first in line 2" in caplog.text
    with pytest.raises(ManifestError, match=r"'1\.23E\+11' stands twice(?s:.*)a spreadsheet rounded it"):
        Manifest.read(written(tmp_path, "sample_id,path\n1.23E+11,a.png\n1.23E+11,b.png\n"))


def test_ids_that_only_forms_of_unicode_part_are_two_samples_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, "sample_id,path\ncaf\u00e9,1.png\nx\u0301,2.png\ncafe\u0301,3.png\n")
    assert Manifest.read(path).ids == ("caf\u00e9", "x\u0301", "cafe\u0301")
    [told] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "one id is there in several forms of Unicode" in told
    assert r"('caf\xe9' in line 2, 'cafe\u0301' in line 4)" in told


def test_what_a_store_has_sealed_is_read_to_the_letter(tmp_path: Path) -> None:
    labels_ = ("1", "10", "2", "nan")  # in the order of an older release
    samples = tuple(Sample(f"s{i}", f"{i}.png", label, "Train") for i, label in enumerate(labels_))
    sealed = Manifest(samples=samples, classes=ClassSet(name="custom", labels=labels_), root=tmp_path)
    sealed.write(tmp_path / "manifest.csv", sealed=True)
    found = Manifest.read(tmp_path / "manifest.csv")
    assert (found.samples, found.classes) == (sealed.samples, sealed.classes)


def test_a_file_name_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    from cer_fusion.featstore.manifests.adapters import build

    (tmp_path / "faces" / "happy").mkdir(parents=True)
    (tmp_path / "faces" / "happy" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"1")
    with pytest.raises(ManifestError, match=r"caf.udce9(?s:.*)holds bytes that are no UTF-8|control characters"):
        build("folder", tmp_path / "faces")
    samples = (Sample("a", os.fsdecode(b"caf\xe9.png")),)
    with pytest.raises(ManifestError, match=r"path 'caf.udce9\.png' holds bytes that are no UTF-8 text"):
        Manifest(samples=samples, classes=ClassSet(name="custom", labels=()), root=tmp_path)


def test_a_document_that_names_such_a_file_is_read_back(tmp_path: Path) -> None:
    from cer_fusion.featstore.rows import files

    body = {"source": os.fsdecode(b"caf\xe9.npy")}
    files.write_document(tmp_path / "d.json", "kind", 1, body)
    assert files.read_document(tmp_path / "d.json", "kind", 1) == body
