from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from cer_fusion.kit import (
    TextError,
    decoded,
    find_separator,
    first_line,
    is_told_separator,
    lines_of,
    read_cells,
    read_text,
    stream_cells,
)

ROWS = [["sample_id", "path", "label"], ["a", "a.png", "glücklich"], ["b", "b,c;d.png", "traurig"]]


class OursError(ValueError):
    pass


def written(folder: Path, data: bytes | str) -> Path:
    path = folder / "people.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def streamed(data: bytes, **options) -> list[tuple[int, list[str]]]:
    return list(stream_cells(lambda: io.BytesIO(data), Path("people.csv"), **options))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("told", ["", "sep={}"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_table_is_read_whatever_separates_its_cells_and_lines_and_in_every_encoding_that_tells_itself(
    tmp_path, separator, line_end, told, encoding
):
    head = told.format(separator) + line_end if told else ""
    text = head + line_end.join(separator.join(f'"{cell}"' for cell in row) for row in ROWS) + line_end
    expected = [(i + 1 + bool(told), row) for i, row in enumerate(ROWS)]
    assert read_cells(written(tmp_path, text.encode(encoding)), known=ROWS[0]) == expected
    assert streamed(text.encode(encoding), known=ROWS[0]) == expected


def test_the_separator_is_the_one_that_gives_the_known_titles_else_even_rows():
    assert find_separator("a;b,c\n1;2,3\n", ["a", "b,c"]).letter == ";"
    assert find_separator("1,5;2,5\n3;4\n").letter == ";"
    assert find_separator("a b").letter == ","
    assert find_separator("a,b;c,d\n", width=2).letter == ";"


def test_blank_rows_and_columns_of_nothing_are_left_out_and_titles_are_taken_as_meant(tmp_path):
    path = written(tmp_path, "\r\nSample ID,Label, \r\n , ,\r\na, x ,\r\n")
    assert read_cells(path, known=["sample_id", "label"]) == [(2, ["sample_id", "label"]), (4, ["a", "x"])]
    assert read_cells(path, known=["sample_id"], strip=False)[1] == (4, ["a", " x "])
    assert read_cells(written(tmp_path, "")) == []


def test_two_titles_that_look_like_one_are_refused(tmp_path):
    with pytest.raises(OursError, match="'Label' and 'LABEL' both look like 'label'"):
        read_cells(written(tmp_path, "Label,LABEL\nx,y\n"), known=["label"], error=OursError)


@pytest.mark.parametrize(("encoding", "line_end"), [("cp1252", "\r\n"), ("latin-1", "\n"), ("mac_roman", "\r")])
def test_text_in_an_older_encoding_is_refused_with_its_line_and_the_way_to_read_it(tmp_path, encoding, line_end):
    text = line_end.join(["path,label", "a.png,froh", "b.png,glücklich", ""])
    path = written(tmp_path, text.encode(encoding))
    expected = r"people\.csv:3: not UTF-8 text \(byte \d+\): .*iconv -f cp1252.*--encoding cp1252(?s:.*)glücklich"
    with pytest.raises(OursError, match=expected) as told:
        read_text(path, advice="or give --encoding {0}", error=OursError)
    with pytest.raises(OursError) as again:
        streamed(path.read_bytes(), advice="or give --encoding {0}", error=OursError)
    assert str(again.value) == str(told.value).replace(str(path), "people.csv")
    assert read_cells(path, encoding=encoding)[2] == (3, ["b.png", "glücklich"])
    assert streamed(path.read_bytes(), encoding=encoding)[2] == (3, ["b.png", "glücklich"])


@pytest.mark.parametrize("at", [10, (1 << 16) - 1, 1 << 16, 150_001])
@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
def test_a_byte_that_is_no_text_is_found_in_a_table_of_many_pieces(at, line_end):
    data = bytearray((f"a,b{line_end}" * 50_000).encode())
    while data[at : at + 1] in (b"\r", b"\n"):
        at += 1
    data[at] = 0xFF
    with pytest.raises(TextError) as told:
        decoded(bytes(data), Path("people.csv"))
    with pytest.raises(TextError) as again:
        streamed(bytes(data))
    assert str(again.value).splitlines()[0] == str(told.value).splitlines()[0]
    assert f"(byte {at})" in str(told.value)


def test_an_encoding_that_nobody_knows_and_utf_16_without_its_mark_are_refused(tmp_path):
    with pytest.raises(TextError, match="no encoding 'win-klingon'"):
        read_text(written(tmp_path, "a"), encoding="win-klingon")
    with pytest.raises(TextError, match="NUL bytes, as UTF-16"):
        read_text(written(tmp_path, "sample_id,path\n".encode("utf-16-le")))
    with pytest.raises(TextError, match="NUL bytes, as UTF-16"):
        streamed("sample_id,path\n".encode("utf-16-le"))


def test_a_quote_that_never_closes_swallows_no_rows(tmp_path):
    data = b'path,label\na.png,x\nb.png,"happy\nc.png,sad\n'
    with pytest.raises(TextError, match=r"people\.csv:3: a quote is never closed"):
        read_cells(written(tmp_path, data))
    with pytest.raises(TextError, match=r"people\.csv:3: a quote is never closed"):
        streamed(data)
    assert read_cells(written(tmp_path, 'a,b\n"x\ny",z\n1,2\n'))[1:] == [(3, ["x\ny", "z"]), (4, ["1", "2"])]


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OursError, match=r"cannot read .*people\.csv: No such file"):
        read_text(tmp_path / "people.csv", error=OursError)


def test_lines_end_at_line_ends_alone():
    assert lines_of("a\u2028b\r\nc\rd\n") == ["a\u2028b", "c", "d", ""]
    assert first_line("sep=;\r\na;b\r\n".encode("utf-16")) == "a;b"
    assert is_told_separator('"sep=;"')
    assert not is_told_separator("sep=a;b")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG picture"),
        (b"PK\x03\x04\x14\0\xff", "a zip file"),
        (b"\x93NUMPY\x01\0v\0", "a .npy file"),
        (b"\x1f\x8b\x08\0", "a gzip file"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is_and_not_a_text_in_another_encoding(tmp_path, data, kind):
    path = written(tmp_path, data + bytes(range(256)))
    for read in (read_text, read_cells):
        with pytest.raises(TextError, match=rf"people\.csv: {re.escape(kind)}.*, where a text is expected") as caught:
            read(path)
        assert "iconv" not in str(caught.value)
