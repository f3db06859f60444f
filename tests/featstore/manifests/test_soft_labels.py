from __future__ import annotations

import pytest

from cer_fusion.featstore import read_soft_labels
from cer_fusion.featstore.errors import ManifestError

CLASSES = ("anger", "fear", "joy")


def test_votes_become_shares_in_class_order(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("sample_id,joy,anger\na,3,1\nb,0,2\n")
    found = read_soft_labels(path, CLASSES)
    assert found["a"].tolist() == [0.25, 0, 0.75]
    assert found["b"].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,joy\na,1\n", "first column must be sample_id"),
        ("sample_id,jov\na,1\n", "did you mean 'joy'"),
        ("sample_id,joy,joy\na,1,1\n", "stands twice"),
        ("sample_id,joy\na,x\n", "votes.csv:2: votes must be numbers"),
        ("sample_id,joy\na,-1\n", "must not be negative"),
        ("sample_id,joy\na,0\n", "at least one positive"),
        ("sample_id,joy\na,nan\n", "votes.csv:2"),
        ("sample_id,joy\na,1\na,1\n", "votes.csv:3: sample_id 'a' stands twice"),
        ("sample_id,joy\na,1,2\n", "expected 2 fields, however: 3"),
        ("", "first column must be sample_id"),
    ],
)
def test_odd_tables_are_refused_with_file_and_line(tmp_path, text, message):
    path = tmp_path / "votes.csv"
    path.write_text(text)
    with pytest.raises(ManifestError, match=message):
        read_soft_labels(path, CLASSES)


def test_votes_that_a_spreadsheet_saved_are_read_and_others_refused_in_words(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_bytes("\ufeffsample_id;happy;sad\r\n1;1,5;0,5\r\n;;\r\n\r\n2;;3\r\n".encode())
    assert read_soft_labels(path, ["happy", "sad"])["1"].tolist() == [0.75, 0.25]
    path.write_bytes("sample_id,happy,sad\nfröhlich,1,0\n".encode("cp1252"))
    with pytest.raises(ManifestError, match=r"votes\.csv:2: not UTF-8 text"):
        read_soft_labels(path, ["happy", "sad"])
    path.write_text('sample_id,happy,sad\n"1,1,0\n2,1,0\n', encoding="utf-8")
    with pytest.raises(ManifestError, match=r"votes\.csv:2: a quote is never closed"):
        read_soft_labels(path, ["happy", "sad"])


@pytest.mark.parametrize(
    "data",
    [
        "sample_id\thappy\tsad\r\n1\t1,5\t0,5\r\n".encode("utf-16"),
        b"sep=;\r\nsample_id;happy;sad\r\n1;1,5;0,5\r\n",
        b"Sample ID, Happy ,SAD,,\r1,1.5,0.5,,\r",
        b'"sample_id"|"happy"|"sad"\n"1"|"1.5"|"0.5"\n',
    ],
)
def test_votes_are_read_however_they_were_saved(tmp_path, data):
    (tmp_path / "votes.csv").write_bytes(data)
    found = read_soft_labels(tmp_path / "votes.csv", ["happy", "sad"])
    assert {name: shares.tolist() for name, shares in found.items()} == {"1": [0.75, 0.25]}


def test_the_line_of_a_fault_counts_excels_first_line(tmp_path):
    (tmp_path / "votes.csv").write_bytes(b"sep=;\nsample_id;happy\n1;x\n")
    with pytest.raises(ManifestError, match=r"votes\.csv:3: votes must be numbers"):
        read_soft_labels(tmp_path / "votes.csv", ["happy", "sad"])
