"""Published tables read."""

from __future__ import annotations

from decimal import Decimal

import pytest

from cer_fusion.challenge import check_table, read_table
from cer_fusion.fusion.errors import ReportError

GOOD = "class,support,a,b\nx,4,50.0 %,25.0\ny,2,100,50\nAccuracy,6,66.67,33.33\nMacro F1,,60,30\n"


def test_a_table_is_read_with_the_decimals_that_were_printed(tmp_path):
    (tmp_path / "t.csv").write_text(GOOD)
    found = read_table(tmp_path / "t.csv")
    assert (found.classes, found.supports) == (("x", "y"), (4, 2))
    assert str(found.columns["a"][0]) == "50.0"
    assert found.accuracy == {"a": Decimal("66.67"), "b": Decimal("33.33")}
    assert found.macro_f1 == {"a": Decimal(60), "b": Decimal(30)}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("50.0 %", "about half"), "row 'x', column 'a': expected percent, 0 to 100, however: 'about half'"),
        (("100,50", "101,50"), "row 'y', column 'a'"),
        (("100,50", "nan,50"), "row 'y', column 'a'"),
        (("y,2,", "x,2,"), r"t\.csv:3: .* a row title twice"),
        (("y,2,100,50", "y,2,100"), r"t\.csv:3: expected 4 cells .* 3 cells"),
        (("Accuracy", "Overall"), "expected one row 'accuracy' .* however: x, y, Overall, Macro F1"),
        (("x,4,", "x,four,"), "row 'x': expected a support"),
        (("x,4,", "x,0,"), "row 'x': expected a support"),
        (("a,b", "a,a"), r"t\.csv:1: expected the columns class"),
        (("y,2,100,50\n", ""), "at least two classes, however: x"),
    ],
)
def test_what_is_no_table_is_told_with_file_and_place(tmp_path, changed, message):
    (tmp_path / "t.csv").write_text(GOOD.replace(*changed))
    with pytest.raises(ReportError, match=message):
        read_table(tmp_path / "t.csv")


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path):
    with pytest.raises(ReportError, match="cannot read"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ReportError, match="not utf-16 text"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_table_of_a_spreadsheet_is_read_with_its_decimal_commas(tmp_path, separator, line_end):
    text = GOOD.replace(",", separator).replace(".", ",").replace("\n", line_end)
    (tmp_path / "t.csv").write_bytes(text.encode("utf-16"))
    (tmp_path / "plain.csv").write_text(GOOD, encoding="utf-8")
    assert read_table(tmp_path / "t.csv") == read_table(tmp_path / "plain.csv")


def test_the_line_that_names_the_separator_and_columns_of_nothing_are_passed_over(tmp_path):
    text = "sep=;\nclass;a;;\nx;50;;\n;;;\ny;100;;\naccuracy;66,67;;\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert read_table(tmp_path / "t.csv").columns == {"a": (Decimal(50), Decimal(100))}


@pytest.mark.parametrize(
    "cell",
    ["50.0%", "50.0 %", "50,0", "**50.0**", "50.0*", "50.0†", "50.0¹", "50.0 [a]", r"\textbf{50.0}", "$50.0$",
     "50.0 ± 1.2", "50.0±1,2", "50.0 +/- 1.2", r"50.0 $\pm$ 1.2", "50.0 (1.2)", "50.0 [48.1; 52.3]", "_50.0_"],
)  # fmt: skip
def test_a_figure_is_read_as_it_is_printed(tmp_path, cell):
    (tmp_path / "t.csv").write_text(GOOD.replace("50.0 %", f'"{cell}"'), encoding="utf-8")
    found = read_table(tmp_path / "t.csv")
    assert str(found.columns["a"][0]) == "50.0"
    assert any("means of several runs" in note for note in found.notes) == any(
        sign in cell for sign in ("±", "pm", "/-")
    )


def test_titles_may_have_a_unit_or_a_mark_and_supports_a_comma(tmp_path):
    text = "class;Support;a;b\nx;1,204;50.0;25\ny;2 000;100;50\nAccuracy (%)*;;66.67;33.33\nMacro F1 [%];;60;30\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    found = read_table(tmp_path / "t.csv")
    assert (found.supports, found.classes) == ((1204, 2000), ("x", "y"))
    assert found.macro_f1["a"] == 60


def test_fractions_of_1_are_read_as_percent_and_said_to_be(tmp_path):
    text = "class,support,a,b\nx,4,0.500,0.250\ny,2,1.000,0.5\naccuracy,6,0.6667,0.33\nmacro f1,,0.67,0.3\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    found = read_table(tmp_path / "t.csv")
    assert found.columns["a"] == (Decimal(50), Decimal(100))
    assert found.accuracy == {"a": Decimal("66.67"), "b": Decimal(33)}
    assert found.notes == ("Read as fractions of 1, not as percent: the table. Figures here are percent.",)
    assert check_table(found, found.supports).consistent
    text = text.replace("0.500,0.250", "0.600,0.250")
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert not check_table(read_table(tmp_path / "t.csv"), (4, 2)).consistent


def test_one_column_or_the_macro_f1_alone_may_be_fractions(tmp_path):
    text = "class,a,b\nx,50,0.250\ny,100,0.5\naccuracy,66.67,0.3333\nmacro f1,0.60,0.3\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    found = read_table(tmp_path / "t.csv")
    assert found.accuracy == {"a": Decimal("66.67"), "b": Decimal("33.33")}
    assert found.macro_f1 == {"a": Decimal(60), "b": Decimal(30)}
    assert found.notes == (
        "Read as fractions of 1, not as percent: b. Figures here are percent.",
        "Macro F1 read as fractions of 1: a.",
    )


def test_a_fraction_with_one_decimal_stands_for_ten_percent(tmp_path):
    text = "class,support,a\nx,7,0.4\ny,3,1.0\naccuracy,10,0.6\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert check_table(read_table(tmp_path / "t.csv"), (7, 3)).consistent


def test_bytes_of_an_older_encoding_are_refused_with_their_line(tmp_path):
    (tmp_path / "t.csv").write_bytes("class,a\nfröhlich,50\n".encode("cp1252"))
    with pytest.raises(ReportError, match=r"t\.csv:2: not UTF-8 text(.|\n)*iconv"):
        read_table(tmp_path / "t.csv")
