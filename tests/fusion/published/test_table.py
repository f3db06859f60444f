from __future__ import annotations

from decimal import Decimal

import pytest

from fusion.errors import ReportError
from fusion.published.table import read_table

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
    with pytest.raises(ReportError, match="not UTF-8"):
        read_table(tmp_path / "t.csv")
