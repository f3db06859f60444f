"""Faults of submissions, and two side by side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.challenge import Submission, check, difference, read_submission
from cer_fusion.fusion.errors import SubmissionError
from cer_fusion.fusion.judging.metrics import cohen_kappa
from tests.challenge.templates import CHALLENGE, names_of, template_of

HEADER = CHALLENGE.header
ROWS = [f"{name},3" for name in names_of({"01": 4, "02": 3})]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return template_of(tmp_path_factory.mktemp("t"), {"01": 4, "02": 3})


def faults(lines: list[str], template=None, *, end: str = "\n", **options: bool) -> list[tuple[str, str]]:
    found = check((end.join(lines) + end).encode(), CHALLENGE, template, **options)
    return [(fault.where, fault.text) for fault in found]


def changed(position: int, *lines: str) -> list[str]:
    """The right file with the line at a position (the header is 0) replaced."""
    right = [HEADER, *ROWS]
    return [*right[:position], *lines, *right[position + 1 :]]


def test_a_right_file_has_no_fault(template):
    assert faults([HEADER, *ROWS], template) == []
    assert check("\n".join([HEADER, *ROWS]).encode(), CHALLENGE, template) == ()  # no line feed at the very end


@pytest.mark.parametrize(
    ("lines", "where", "text"),
    [
        (changed(0, HEADER.lower()), "line 1", "expected the header"),
        (changed(2, "01/00002.jpg,7"), "line 3", "expected a class id 0 to 6, however: '7'"),
        (changed(2, "01/00002.jpg,-1"), "line 3", "however: '-1'"),
        (changed(2, "01/00002.jpg,3.0"), "line 3", "however: '3.0'"),
        (changed(2, "01/00002.jpg, 3"), "line 3", "however: ' 3'"),
        (changed(2, "01/00002.jpg,Sadly_Angry"), "line 3", "however: 'Sadly_Angry'"),
        (changed(2, "01/00002.jpg,٣"), "line 3", "however: '٣'"),
        (changed(2, "01/00002.jpg,3,1"), "line 3", "expected 2 cells (frame, class id), however: 3"),
        (changed(2, "01/00002.jpg,3", "01/00002.jpg,3"), "line 4", "01/00002.jpg stands in line 3 already"),
        (changed(2, "01/00002.jpg,3", HEADER), "line 4", "the header stands again"),
        (changed(2, "01/00002.jpg,3", ""), "line 4", "blank line between rows"),
        (changed(7, "02/00003.jpg,3", "02/00004.jpg,1"), "line 9", "02/00004.jpg: the template has no such frame"),
        (changed(7, "02/00003.jpg,3", "03/00001.jpg,1"), "line 9", "03/00001.jpg: the template has no video '03'"),
        (changed(7, "02/00003.jpg,3", "", " "), "lines 9-10", "blank at the end of the file"),
        (changed(2), "line 2", "01/00002.jpg is missing: expected behind this line"),
        ([HEADER, ROWS[0], *ROWS[3:]], "line 2", "01/00002.jpg to 01/00003.jpg are missing (2 rows)"),
        ([HEADER, *ROWS[:4]], "line 5", "video 02 is missing altogether"),
        ([HEADER, *ROWS[4:], *ROWS[:4]], "line 5", "out of order: 01/00001.jpg stands behind 02/00003.jpg"),
    ],
)
def test_each_fault_is_found_alone_with_its_line(template, lines, where, text):
    found = faults(lines, template)
    assert len(found) == 1
    assert found[0][0] == where
    assert text in found[0][1]


def test_a_row_that_cannot_be_read_is_also_missing(template):
    found = faults(changed(2, "01/2.jpg,3"), template)
    assert [where for where, _ in found] == ["line 2", "line 3"]
    assert "'01/2.jpg' is no frame" in found[1][1]


def test_windows_line_ends_and_byte_order_marks_are_told_once(template):
    found = faults(["\ufeff" + HEADER, *ROWS], template, end="\r\n")
    assert [where for where, _ in found] == ["line 1", "lines 1-8"]
    assert "byte order mark" in found[0][1]
    assert "CRLF" in found[1][1]


@pytest.mark.parametrize(
    ("save", "told"),
    [
        (lambda text: text.encode("utf-16"), "is UTF-16 text: expected UTF-8"),
        (lambda text: text.replace("\n", "\r").encode(), "lines end in a carriage return (CR)"),
        (lambda text: text.replace(",", ";").encode(), "cells are separated by ';': expected a comma"),
        (lambda text: text.replace(",", "\t").encode(), "cells are separated by '\\t': expected a comma"),
    ],
)
def test_what_spoils_every_line_is_told_once_and_does_not_hide_the_rest(template, save, told):
    found = check(save("\n".join([HEADER, *ROWS]) + "\n"), CHALLENGE, template)
    assert [(fault.where, told in fault.text) for fault in found] == [("lines 1-8", True)]
    found = check(save("\n".join(changed(2, "01/00002.jpg,7")) + "\n"), CHALLENGE, template)
    assert [told in fault.text for fault in found].count(True) == 1
    assert ("line 3", "expected a class id 0 to 6, however: '7'") in [(fault.where, fault.text) for fault in found]


def test_a_file_without_header_is_told_so_and_its_first_row_counts(template):
    found = faults(ROWS, template)
    assert len(found) == 1
    assert "expected the header" in found[0][1]


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\r\n"])
def test_an_empty_file_is_told_so(template, data):
    assert "the file is empty" in check(data, CHALLENGE, template)[-1].text


def test_bytes_that_are_no_text_are_told_with_their_line(template):
    data = "\n".join([HEADER, *ROWS]).encode() + b"\n\xff\xfe,1\n"
    found = check(data, CHALLENGE, template)
    assert ("line 9", "is not UTF-8 text") in [(fault.where, fault.text) for fault in found]


def test_many_faults_are_all_told(template):
    lines = [HEADER, "01/00001.jpg,9", "01/00003.jpg,1", "01/00001.jpg,2", "1/1.jpg,0", "02/00001.jpg,8", "", ""]
    found = faults(lines, template)
    for where, text in (
        ("line 2", "however: '9'"),
        ("line 2", "01/00002.jpg is missing"),
        ("line 3", "01/00004.jpg is missing"),
        ("line 4", "stands in line 2 already"),
        ("line 5", "'1/1.jpg' is no frame"),
        ("line 6", "however: '8'"),
        ("line 6", "02/00002.jpg to 02/00003.jpg are missing (2 rows)"),
        ("lines 7-8", "blank at the end"),
    ):
        assert any(place == where and text in told for place, told in found), (where, text)
    assert len(found) == 8


def test_without_a_template_the_official_numbers_are_expected():
    found = faults([HEADER, *ROWS[:2], ROWS[3], *ROWS[4:]])
    told = {text: where for where, text in found}
    assert told["01/00003.jpg is missing: expected behind this line"] == "line 3"
    assert told["the official template has 26,145 frames, however: 6"] == "line 7"
    assert sum("is missing altogether" in text for text in told) == 54
    assert any("the challenge has no video '57'" in text for _, text in faults([HEADER, "57/00001.jpg,1"]))


def test_the_form_alone_can_be_checked():
    assert faults([HEADER, *ROWS[4:], *ROWS[:2]], whole=False) == []
    assert len(faults([HEADER, *ROWS[4:], "x,1"], whole=False)) == 1


def test_a_submission_is_the_file_the_challenge_describes(tmp_path):
    found = Submission(names=("01/00001.jpg", "01/00002.jpg"), y=np.array([0, 6]))
    found.write(tmp_path / "s.txt", CHALLENGE)
    assert (tmp_path / "s.txt").read_bytes() == (
        b"image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,Disgustedly_Surprised,"
        b"Angrily_Surprised,Sadly_Fearful,Sadly_Angry\n01/00001.jpg,0\n01/00002.jpg,6\n"
    )


def test_a_submission_survives_its_file(tmp_path):
    names = tuple(names_of({"07": 20, "03": 5}))
    given = Submission(names=names, y=np.random.default_rng(0).integers(0, 7, 25))
    again = read_submission(given.write(tmp_path / "s.txt", CHALLENGE), CHALLENGE)
    assert again.names == names
    assert (again.y == given.y).all()


def test_a_file_with_faults_is_refused_naming_the_first(tmp_path):
    (tmp_path / "s.txt").write_text(f"{CHALLENGE.header}\n01/00001.jpg,7\nx,1\n")
    with pytest.raises(SubmissionError, match=r"s\.txt:2: expected a class id .*\(and 1 more faults\)\n.*--check"):
        read_submission(tmp_path / "s.txt", CHALLENGE)
    with pytest.raises(SubmissionError, match="cannot read"):
        read_submission(tmp_path / "none.txt", CHALLENGE)


NAMES = tuple(names_of({"01": 4, "02": 2}))


def test_two_submissions_are_compared_frame_by_frame_whatever_their_order():
    first = Submission(names=NAMES, y=np.array([0, 0, 1, 1, 5, 5]))
    second = Submission(names=NAMES[::-1], y=np.array([5, 6, 1, 0, 1, 0]))
    found = difference(first, second, CHALLENGE)
    assert found.agreement == pytest.approx(3 / 6)
    one, two = found.videos
    assert (one.video, one.rows, one.flips, one.changes) == ("01", 4, 2, (1, 3))
    assert (two.video, two.rows, two.flips, two.changes) == ("02", 2, 1, (0, 1))
    assert found.confusion[0].tolist() == [1, 1, 0, 0, 0, 0, 0]
    assert found.to_dict(CHALLENGE)["rows"] == 6


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=6, max_size=6))
def test_kappa_is_scikit_learns(pairs):
    from sklearn.metrics import cohen_kappa_score

    a, b = np.array(pairs).T
    found = difference(Submission(names=NAMES, y=a), Submission(names=NAMES, y=b), CHALLENGE).kappa
    if len({*a.tolist(), *b.tolist()}) == 1:
        assert found is None
    else:
        assert found == pytest.approx(cohen_kappa_score(a, b))


def test_kappa_is_one_for_equals_and_nothing_by_chance():
    assert cohen_kappa(np.diag([3, 4])) == pytest.approx(1)
    assert cohen_kappa(np.full((2, 2), 5)) == pytest.approx(0)


def test_different_frames_cannot_be_compared():
    first = Submission(names=NAMES, y=np.zeros(6, dtype=np.int64))
    second = Submission(names=NAMES[:5], y=np.zeros(5, dtype=np.int64))
    with pytest.raises(SubmissionError, match=r"1 stand in one only \(first: 02/00002.jpg, in the first\)"):
        difference(first, second, CHALLENGE)
