from __future__ import annotations

import pytest
from cer_fusion.challenge.submission import read_template
from cer_fusion.fusion.errors import SubmissionError

from tests.challenge.submission.templates import CHALLENGE

HEADER = CHALLENGE.header


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\n02/00001.jpg\n01/00001.jpg\n",
        f"{HEADER}\r\n02/00001.jpg,\r\n01/00001.jpg,\r\n\r\n",
        f"\ufeff{HEADER}\n02/00001.jpg,0,0,0,0,0,0,0\n01/00001.jpg,3",
        f"{HEADER}\r02/00001.jpg\r01/00001.jpg\r",
        f"sep=;\r\n{HEADER.replace(',', ';')}\r\n02/00001.jpg;3;;\r\n01/00001.jpg;;;\r\n;;;\r\n",
        '"' + HEADER.replace(",", '","') + '"\n"02/00001.jpg","3"\n"01/00001.jpg",""\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_only_the_first_cell_of_a_row_counts_and_the_order_is_kept(tmp_path, text, encoding):
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    found = read_template(tmp_path / "t.csv", CHALLENGE)
    assert found.names == ("02/00001.jpg", "01/00001.jpg")
    assert found.video_names == ("02", "01")
    assert found.notes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"t\.csv:1: expected the header image_location.*\n.*an empty file"),
        (HEADER, r"t\.csv:1: the template has a header and no row"),
        ("01/00001.jpg\n", r"t\.csv:1: expected the header"),
        (f"{HEADER}\n01/00001.jpg\n\n01/00002.jpg\n", r"t\.csv:3: an empty line between rows"),
        (f"{HEADER}\n01/00001.jpg\n1/00001.jpg\n", r"t\.csv:3: '1/00001.jpg' is no frame"),
        (f"{HEADER}\n01/00000.jpg\n", r"t\.csv:2: '01/00000.jpg' is frame 0"),
        (f"{HEADER}\n01/00001.png\n", r"t\.csv:2: '01/00001.png' is no frame"),
        (f"{HEADER}\n01/00001.jpg\n57/00001.jpg\n", r"t\.csv:3: the challenge has no video '57': they are 01 to 56"),
        (f"{HEADER}\n01/00001.jpg\n01/00002.jpg\n01/00001.jpg\n", r"t\.csv:4: 01/00001.jpg stands in line 2 already"),
    ],
)
def test_a_template_with_a_fault_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SubmissionError, match=message):
        read_template(tmp_path / "t.csv", CHALLENGE)


def test_a_missing_or_binary_template_is_named(tmp_path):
    with pytest.raises(SubmissionError, match=r"cannot read .*t\.csv"):
        read_template(tmp_path / "t.csv", CHALLENGE)
    (tmp_path / "t.csv").write_bytes(b"\xff\xfa")
    with pytest.raises(SubmissionError, match=r"t\.csv is not UTF-8"):
        read_template(tmp_path / "t.csv", CHALLENGE)


def test_frames_that_a_template_leaves_out_are_noted(tmp_path):
    (tmp_path / "t.csv").write_text(f"{HEADER}\n01/00001.jpg\n02/00002.jpg\n")
    assert "leaves out frames of 1 videos (first: 02)" in read_template(tmp_path / "t.csv", CHALLENGE).notes[0]
