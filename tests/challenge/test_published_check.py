"""Whole numbers behind published figures."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.challenge import check_report, check_table, published_check
from cer_fusion.challenge.published_check import (
    allowed,
    check_column,
    find_supports,
    macro_f1_range,
    neighbours,
    printed,
)
from cer_fusion.challenge.published_table import PublishedTable, read_table
from cer_fusion.fusion.errors import ReportError
from cer_fusion.fusion.judging.metrics import Scores
from tests.challenge.paper import CORRECT, PAPER, SUPPORTS


@pytest.fixture(scope="module")
def paper(tmp_path_factory) -> PublishedTable:
    path = tmp_path_factory.mktemp("paper") / "paper.csv"
    path.write_text(PAPER)
    return read_table(path)


@pytest.mark.parametrize("name", ["ViT", "MANet", "ResNet"])
def test_the_papers_single_encoders_turn_back_into_whole_numbers(paper, name):
    column = next(one for one in check_table(paper, SUPPORTS).columns if one.name == name)
    assert column.correct == CORRECT[name]
    assert column.total == range(sum(CORRECT[name]), sum(CORRECT[name]) + 1)
    assert column.consistent
    assert (column.impossible, column.corrections, column.macro_f1) == ({}, (), "possible")


def test_the_papers_8748_is_found_with_its_neighbours_and_its_only_correction(paper):
    checked = check_table(paper, SUPPORTS)
    column = checked.columns[3]
    assert not checked.consistent
    assert column.impossible == {"Fearfully Surprised": (Decimal("87.07"), Decimal("87.93"))}
    (correction,) = column.corrections
    assert (correction.row, correction.printed) == ("Fearfully Surprised", Decimal("87.48"))
    assert correction.instead == (Decimal("84.48"),)
    others = [counts[0] for counts in column.counts if counts]
    assert others == [k for c, k in enumerate(CORRECT["Ensemble"]) if c != 2]
    assert column.total == range(321, 322)
    notes = " ".join(check_report(checked).notes)
    assert "Ensemble: the one correction that makes it consistent: Fearfully Surprised 87.48 → 84.48." in notes


def test_the_paper_with_8448_instead_is_consistent(paper):
    ensemble = dict(zip(paper.classes, paper.columns["Ensemble"], strict=True)) | {
        "Fearfully Surprised": Decimal("84.48")
    }
    column = check_column("Ensemble", ensemble, SUPPORTS, paper.accuracy["Ensemble"], paper.macro_f1["Ensemble"])
    assert column.consistent
    assert column.correct == CORRECT["Ensemble"]


def test_cells_that_were_cut_off_are_accepted_and_named(paper):
    cut = {column.name: column.cut for column in check_table(paper, SUPPORTS).columns}
    assert cut == {"ViT": ("Sadly Fearful",), "MANet": ("Sadly Angry",), "ResNet": (), "Ensemble": ()}


def test_a_total_that_is_no_sum_offers_every_single_correction(paper):
    cells = dict(zip(paper.classes, paper.columns["ViT"], strict=True)) | {"Sadly Angry": Decimal("81.82")}
    column = check_column("ViT", cells, SUPPORTS, Decimal("78.09"))
    assert not column.sums_up
    assert not column.impossible
    offered = {one.row: one.instead for one in column.corrections}
    assert offered["Sadly Angry"] == (Decimal("84.85"),)
    assert offered["accuracy"] == (Decimal("77.83"),)


def test_two_impossible_cells_have_no_single_correction(paper):
    cells = dict(zip(paper.classes, paper.columns["Ensemble"], strict=True)) | {"Sadly Angry": Decimal("82.00")}
    column = check_column("Ensemble", cells, SUPPORTS, paper.accuracy["Ensemble"])
    assert set(column.impossible) == {"Fearfully Surprised", "Sadly Angry"}
    assert column.corrections == ()


def test_a_macro_f1_that_no_matrix_has_is_told(paper):
    cells = dict(zip(paper.classes, paper.columns["ViT"], strict=True))
    column = check_column("ViT", cells, SUPPORTS, paper.accuracy["ViT"], Decimal("80.25"))
    assert column.sums_up
    assert column.macro_f1 == "impossible"
    assert not column.consistent


@settings(max_examples=200)
@given(st.integers(1, 2000), st.data(), st.integers(0, 4), st.booleans())
def test_every_printed_share_allows_the_number_it_was_printed_from(support, data, digits, cut):
    k = data.draw(st.integers(0, support))
    unit = Decimal(1).scaleb(-digits)
    share = Fraction(100 * k, support)
    cell = Decimal(int(share / Fraction(unit))) * unit if cut else printed(k, support, unit)
    counts = allowed(cell, support)
    assert k in counts
    assert all(abs(Fraction(100 * one, support) - Fraction(cell)) < Fraction(unit) for one in counts)
    low, high = neighbours(cell, support)
    assert low <= cell + unit
    assert high >= cell - unit


@settings(max_examples=60)
@given(st.lists(st.integers(0, 6), min_size=9, max_size=9).filter(any))
def test_the_macro_f1_of_every_matrix_lies_within_the_range(cells):
    confusion = np.array(cells).reshape(3, 3)
    found = Scores(classes=("a", "b", "c"), confusion=confusion)
    low, high = macro_f1_range(found.correct.tolist(), found.supports.tolist())
    assert float(low) - 1e-12 <= found.macro_f1 <= float(high) + 1e-12


@pytest.mark.parametrize(
    ("correct", "supports"), [((2, 1, 0), (3, 3, 2)), ((0, 0, 4), (1, 2, 4)), ((1, 1, 1), (1, 4, 2))]
)
def test_the_ends_of_the_range_are_reached_by_matrices(correct, supports):
    wrong = [s - k for k, s in zip(correct, supports, strict=True)]
    found = []
    for splits in product(*(range(w + 1) for w in wrong)):
        confusion = np.diag(correct)
        for c, first in enumerate(splits):
            confusion[c, (c + 1) % 3] += first
            confusion[c, (c + 2) % 3] += wrong[c] - first
        found.append(Scores(classes=("a", "b", "c"), confusion=confusion).macro_f1)
    low, high = macro_f1_range(correct, supports)
    assert (min(found), max(found)) == (pytest.approx(float(low)), pytest.approx(float(high)))


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


def test_a_column_alone_is_explained_where_the_rows_are_known(tmp_path):
    """One cell of it cannot be (87.48), and the sums of seven supports are too many to go through one by one."""
    lines = [line.split(",") for line in PAPER.splitlines()]
    alone = "\n".join(f"{line[0]},{line[4]}" for line in lines)
    found = find_supports(table(tmp_path, alone), n=397)
    assert (sum(found.supports), found.contradictions) == (397, 1)
    notes = " ".join(check_report(check_table(table(tmp_path, alone), found.supports, found)).notes)
    assert "with others one may: give them" in notes, "84.48 is one, with the supports that four columns tell"
    assert "every column but one cell" not in notes
    mended = find_supports(table(tmp_path, alone.replace("87.48", "84.48")), n=397)
    assert (mended.supports, mended.contradictions) == (SUPPORTS, 0)


@pytest.mark.parametrize("seed", range(12))
def test_supports_of_a_known_total_are_found_exactly_where_there_are_any(tmp_path, seed):
    rng = np.random.default_rng(seed)
    limit, n, systems = 7, int(rng.integers(8, 20)), int(rng.integers(1, 3))
    cells = [[Decimal(int(rng.integers(0, 101))) for _ in range(systems)] for _ in range(3)]
    true = rng.integers(1, limit + 1, 3)
    right = [rng.integers(0, true + 1) for _ in range(systems)]
    if seed % 2:  # otherwise nothing explains the figures, but by chance
        n = int(true.sum())
        cells = [[Decimal(round(100 * int(right[j][c]) / int(true[c]))) for j in range(systems)] for c in range(3)]
    accuracy = [Decimal(round(100 * int(one.sum()) / n)) if seed % 2 else Decimal(50) for one in right]
    text = "class," + ",".join(f"s{j}" for j in range(systems)) + "\n"
    text += "".join(f"{name}," + ",".join(map(str, row)) + "\n" for name, row in zip("abc", cells, strict=True))
    published = table(tmp_path, text + "accuracy," + ",".join(map(str, accuracy)) + "\n")

    def contradictions(supports):
        columns = check_table(published, supports).columns
        odd = sum(len(set(one.impossible) - {"accuracy"}) for one in columns)
        return odd, sum(not one.sums_up for one in columns)

    tried = [contradictions(s) for s in product(range(1, limit + 1), repeat=3) if sum(s) == n]
    possible = [odd <= 1 and wrong <= 1 for odd, wrong in tried]
    try:
        found = find_supports(published, limit=limit, n=n)
    except ReportError:
        assert not any(possible)
        return
    assert contradictions(found.supports)[1] == found.contradictions
    assert found.contradictions == min(wrong for (_, wrong), fits in zip(tried, possible, strict=True) if fits)


@pytest.mark.parametrize(("limited", "n"), [("TRIED", None), ("_MOST_SUMS", 397)])
def test_a_search_that_was_cut_short_proves_nothing(tmp_path, monkeypatch, limited, n):
    monkeypatch.setattr(published_check, limited, 0)
    with pytest.raises(ReportError, match=r"is not known: the search was cut short\n.*--supports"):
        find_supports(table(tmp_path, PAPER), n=n)


def test_what_no_supports_explain_is_told_with_what_to_do(tmp_path):
    broken = table(tmp_path, "class,a,b\nx,12.34,56.78\ny,50.00,50.00\naccuracy,33.33,33.33\n")
    with pytest.raises(ReportError, match=r"at most 5 rows a class .* nothing fits x\n.*--supports"):
        find_supports(broken, limit=5)
