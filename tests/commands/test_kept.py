"""Kept runs and comparisons: taken away by name, read where their own store is, and named where there is none."""

from __future__ import annotations

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.fixture
def kept(run, filled, tmp_path) -> Path:
    """A run and a comparison in `runs`."""
    run("cer-fuse train --head ncm -o runs/a")
    run("cer-fuse compare --heads ncm --no-singles --figure none -o runs/c.json")
    return tmp_path / "runs"


def test_runs_and_comparisons_go_after_a_word_of_what_they_are(run, kept) -> None:
    told = run("cer-fuse rm runs/a runs/c.json runs/a/ --dry-run")
    assert "runs/a: run, ncm on one, two of faces, judged on test" in told.stderr
    assert "runs/c.json: comparison, of ncm" in told.stderr
    assert told.stdout.startswith("would remove runs/a, runs/c.json: ")
    run("cer-fuse rm runs/a", code=2)  # nobody answers
    assert (kept / "a/run.json").is_file()
    found = json.loads(run("cer-fuse rm runs/a runs/c.json --yes --json").stdout)
    assert [one["kind"] for one in found["removed"]] == ["run", "comparison"]
    assert list(kept.iterdir()) == []


def test_a_comparison_is_printed_without_the_runs_that_it_was_made_of(run, kept) -> None:
    run("cer-fuse train --head lda -o runs/b")
    run("cer-fuse compare runs/a runs/b --figure none -o runs/ab.json")
    run("cer-fuse rm runs/a runs/b --yes")
    assert "ncm" not in run("cer-fuse compare runs/ab.json --format csv").stderr


@pytest.mark.parametrize("damage", ["run.json", "config.json", "head/head.json"])
def test_a_damaged_run_can_be_taken_away(run, kept, damage) -> None:
    file = kept / "a" / damage
    file.write_text(file.read_text().replace('"digest": "', '"digest": "0', 1))
    run("cer-fuse rm runs/a --yes")
    assert not (kept / "a").exists()


def test_what_is_no_run_and_no_comparison_is_never_taken_away(run, kept, filled, tmp_path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "runs/a/notes.txt").write_text("mine")
    shutil.copytree(tmp_path / "runs/a", tmp_path / "runs/b", ignore=shutil.ignore_patterns("notes.txt"))
    (tmp_path / "runs/link").symlink_to("b")
    (tmp_path / "other.json").write_text('{"format": "cer-manifest"}')
    (tmp_path / "runs/.b.0123.part").mkdir()
    for what, why in {
        "runs/a": "holds things that are no run's, and is left as it is: notes.txt",
        "runs/b": "is being written by another command",
        "runs/link": "is a link",
        "runs": "is no run folder, and is left as it is",
        "notes": "is no run folder",
        "features": "is no run folder",
        "features/faces": "is no run folder",
        "faces.csv": "is neither a run nor a kept comparison",
        "other.json": "is neither a run nor a kept comparison",
        "runs/nothing": "there is no folder runs/nothing",
        "runs/a/head": "is no run folder",
    }.items():
        before = sorted(tmp_path.rglob("*"))
        assert why in run(f"cer-fuse rm {what} --yes", code=1).stderr, what
        assert sorted(tmp_path.rglob("*")) == before
    assert "runs/a" in run("cer-fuse rm runs --yes", code=1).stderr.partition("it holds runs: ")[2]


def test_one_that_may_not_go_keeps_all_that_were_named_with_it(run, kept) -> None:
    run("cer-fuse rm runs/a faces.csv --yes", code=1)
    assert (kept / "a/run.json").is_file()


def test_the_rm_of_stores_names_the_one_of_runs(run, kept) -> None:
    for what in ("runs/a", "runs/c.json"):
        told = " ".join(run(f"cer-feat rm {what} --yes", code=2).stderr.replace("│", " ").split())
        assert f"cer-fuse rm {what}" in told


ASKS = [
    "cer-fuse evaluate --head {}", "cer-fuse predict --head {} --split test", "cer-fuse explore {} -o out.parquet",
    "cer-fuse report {} --errors -o out.html",
]  # fmt: skip
"""Commands that read rows of a run's own dataset."""


@pytest.mark.parametrize("line", ASKS)
def test_a_run_is_read_from_its_own_store_whatever_else_is_there(run, kept, tmp_path, line, monkeypatch) -> None:
    (tmp_path / "features").rename(tmp_path / "mine")
    run("cer-fuse train --head ncm --store mine -o runs/m")
    run("cer-feat import one.npy --names names.txt --as one --data faces.csv")  # the usual store, with other features
    assert "store: mine, as the run's" in run(line.format("runs/m")).stderr
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert f"store: {tmp_path / 'mine'}, as the run's" in run(line.format("../runs/m")).stderr


@pytest.mark.parametrize("line", ASKS)
def test_a_store_that_is_gone_or_has_other_data_is_asked_for(run, kept, tmp_path, line) -> None:
    rows = (tmp_path / "faces.csv").read_text().splitlines()
    at = next(i for i, row in enumerate(rows) if ",test," in row)
    shutil.copytree(tmp_path / "features", tmp_path / "before")
    (tmp_path / "faces.csv").write_text("\n".join(rows[:at] + rows[at + 1 :]) + "\n")
    run("cer-feat use-manifest faces.csv")
    told = run(line.format("runs/a"), code=2).stderr
    assert "--store" in told
    assert "has other data by now" in " ".join(told.replace("│", " ").split())
    (tmp_path / "features").rename(tmp_path / "now")
    told = " ".join(run(line.format("runs/a"), code=2).stderr.replace("│", " ").split())
    assert "learned from the store features, which is not there" in told
    run(line.format("runs/a") + " --store before")


def test_a_store_that_is_asked_for_is_the_one_that_is_taken(run, kept, monkeypatch) -> None:
    exports = ("cer-fuse export {} -o x.onnx --head-only",) if find_spec("onnxscript") else ()
    for line in (*ASKS, *exports):
        assert "no feature store at nowhere" in run(line.format("runs/a") + " --store nowhere", code=1).stderr
    monkeypatch.setenv("CER_STORE", "nowhere")
    assert "no feature store at nowhere" in run("cer-fuse evaluate --head runs/a", code=1).stderr


@pytest.mark.parametrize("line", [*ASKS, "cer-fuse export {} -o x.onnx", "cer-fuse compare {} runs/a"])
def test_what_is_no_run_is_told_with_the_runs_that_are_there(run, kept, line) -> None:
    assert "did you mean 'runs/a'" in run(line.format("runs/aa"), code=1).stderr
    assert "it holds runs: runs/a" in run(line.format("runs"), code=1).stderr
    assert "is a file, and a run is a folder" in run(line.format("runs/c.json"), code=1).stderr


def test_a_terminal_gets_answers_as_a_table_of_four_digits_and_a_pipe_as_csv(run, kept, monkeypatch) -> None:
    from cer_fusion.commands.fuse import predict

    assert run("cer-fuse predict --head runs/a --split test").stdout.startswith("sample_id,label,predicted,Fearfully")
    monkeypatch.setattr(predict, "_is_read_by_people", lambda: True)
    told = run("cer-fuse predict --head runs/a --split test").stdout
    assert "Sadly Angry (%)" in told
    assert not re.search(r"\d\.\d{3}", told)


def test_a_run_that_gets_another_name_since_its_own_is_taken_says_so(run, kept) -> None:
    assert "is there already" not in run("cer-fuse train --head ncm").stderr
    assert "runs/faces-ncm is there already, and is left as it is: this run is runs/faces-ncm-2" in " ".join(
        run("cer-fuse train --head ncm").stderr.split()
    )
