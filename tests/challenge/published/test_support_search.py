from __future__ import annotations

import pytest
from cer_fusion.challenge.published.report import check_table
from cer_fusion.challenge.published.support_search import find_supports
from cer_fusion.challenge.published.table import read_table
from cer_fusion.fusion.errors import ReportError

from tests.challenge.published.paper import CORRECT, PAPER, SUPPORTS


def table(tmp_path, text: str):
    (tmp_path / "t.csv").write_text(text)
    return read_table(tmp_path / "t.csv")


def test_the_papers_supports_are_found_although_one_cell_is_wrong(tmp_path):
    found = find_supports(table(tmp_path, PAPER), limit=140)
    assert found.supports == SUPPORTS
    assert found.contradictions == 1


def test_without_the_wrong_column_they_are_found_without_a_contradiction(tmp_path):
    three = "\n".join(line.rpartition(",")[0] for line in PAPER.splitlines())
    paper = table(tmp_path, three)
    found = find_supports(paper, limit=140)
    assert (found.supports, found.contradictions) == (SUPPORTS, 0)
    assert [column.correct for column in check_table(paper, found.supports).columns] == list(CORRECT.values())[:3]


def test_a_known_total_chooses_among_multiples(tmp_path):
    halves = table(tmp_path, "class,a\nx,50.00\ny,25.00\naccuracy,37.50\n")
    assert find_supports(halves, limit=20).supports == (4, 4)
    assert find_supports(halves, limit=20, n=16).supports == (8, 8)


def test_what_no_supports_explain_is_told_with_what_to_do(tmp_path):
    broken = table(tmp_path, "class,a,b\nx,12.34,56.78\ny,50.00,50.00\naccuracy,33.33,33.33\n")
    with pytest.raises(ReportError, match=r"at most 5 rows a class .* nothing fits x\n.*--supports"):
        find_supports(broken, limit=5)
