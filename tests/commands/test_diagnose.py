from __future__ import annotations

import json

import pytest

from cer_fusion.fusion import Diagnosis


def test_diagnose_prints_tables_keeps_the_result_and_draws(run, filled, tmp_path):
    result = run("cer-fuse diagnose --most 3 -o d.json")
    assert "learning from 28 rows of train, judged on 14 rows of test" in result.stderr
    assert "What each block brings to LinearHead (14 test rows)" in result.stdout
    assert "Hardest samples" in result.stdout
    found = Diagnosis.load(tmp_path / "d.json")
    assert [one.name for one in found.contributions] == ["one", "two"]
    assert (tmp_path / "runs" / "faces-diagnose.png").exists()


def test_diagnose_can_leave_the_test_split_alone_and_speak_json(run, filled, tmp_path):
    result = run("cer-fuse diagnose --cv 2 --of features --near 0.999 --figure none --json")
    found = json.loads(result.stdout)
    assert (found["folds"], found["n"], found["near"]["threshold"]) == (2, 28, 0.999)
    assert "cross-validating on 28 rows of train" in result.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("format", ["markdown", "json"])
def test_diagnose_writes_every_table_in_the_format_asked_for(run, filled, format):
    text = run(f"cer-fuse diagnose --figure none --format {format}").stdout
    assert "Near-duplicates in the training split" in text
    if format == "json":
        assert len(json.loads(text)["tables"]) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [("--of rows", "'rows' is not one of 'blocks', 'features'"), ("--cv 3 --test-split test", "fold by fold")],
)
def test_diagnose_refuses_what_it_cannot_do(run, filled, options, message):
    assert message in " ".join(run(f"cer-fuse diagnose {options}", code=2).stderr.replace("│", "").split())
