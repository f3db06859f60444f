from __future__ import annotations

import pytest

from backbones import ExamplesError, read_soft_labels

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
        ("sample_id,jov\na,1\n", "nearest: 'joy'"),
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
    with pytest.raises(ExamplesError, match=message):
        read_soft_labels(path, CLASSES)
