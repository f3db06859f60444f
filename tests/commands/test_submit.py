from __future__ import annotations

import json

import pytest

from cer_fusion.challenge import Smoothing, abaw_ce, answer, read_submission, read_template
from cer_fusion.fusion.keeping.answers import read_predictions
from tests.commands.videos import LENGTHS, write_miniature

MAKE = "cer-fuse submit predictions.csv --template template.csv"


@pytest.fixture
def folder(run, tmp_path):
    write_miniature(tmp_path)
    return tmp_path


def words(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


def test_a_submission_is_made_checked_and_reported(run, folder):
    result = run(f"{MAKE} -o s.txt")
    assert "have no prediction of their own" in result.stderr
    assert "more frames than the template in 1 videos (01: +1)" in result.stderr
    assert "KL divergence" in result.stdout
    found = read_submission(folder / "s.txt", abaw_ce())
    assert len(found.names) == sum(LENGTHS)
    given = abaw_ce().in_order(read_predictions(folder / "predictions.csv"))
    own = dict(zip(given.ids, given.y_pred.tolist(), strict=True))
    assert all(own.get(name, y) == y for name, y in zip(found.names, found.y.tolist(), strict=True))
    assert "no fault found" in run("cer-fuse submit --check s.txt --template template.csv").stderr


def test_the_report_is_there_for_machines_and_in_every_format(run, folder):
    plain = json.loads(
        run(f"{MAKE} -o s.txt --overwrite --correct bbse --validation valid.csv --smooth box:5 --json").stdout
    )
    assert sum(plain["histogram"].values()) == plain["rows"] == sum(LENGTHS)
    assert [one["rows"] for one in plain["videos"]] == list(LENGTHS)
    assert (plain["smoothing"], plain["correction"]["kind"]) == ("box:5", "bbse")
    for format in ("markdown", "latex", "csv", "json"):
        assert "Sadly" in run(f"{MAKE} -o s.txt --overwrite --format {format}").stdout
    assert "longest gap" in run(f"{MAKE} -o s.txt --overwrite --videos").stdout


def test_the_order_is_correct_then_smooth_then_fill(run, folder):
    run(f"{MAKE} -o s.txt --correct known --source-prior uniform --smooth hmm:20")
    challenge = abaw_ce()
    given = challenge.in_order(read_predictions(folder / "predictions.csv"))
    shares = given.proba * challenge.prior
    corrected = type(given)(ids=given.ids, classes=given.classes, proba=shares / shares.sum(axis=1, keepdims=True))
    expected = answer(
        read_template(folder / "template.csv", challenge),
        corrected,
        challenge,
        smoothing=Smoothing.parse("hmm:20"),
        prior=challenge.prior,
    )
    assert (read_submission(folder / "s.txt", challenge).y == expected.submission.y).all()


@pytest.mark.parametrize("kind", ["em", "known"])
def test_a_correction_says_what_it_assumes(run, folder, kind):
    result = run(f"{MAKE} -o s.txt --correct {kind} --validation valid.csv")
    assert f"Correcting the class prior ({kind}) assumes that" in result.stderr
    assert "label shift" in result.stderr
    assert f"Class prior corrected ({kind})" in result.stdout


def test_a_video_without_prediction_stops_unless_a_class_is_named(run, folder):
    lines = (folder / "predictions.csv").read_text().splitlines()
    (folder / "predictions.csv").write_text("\n".join(line for line in lines if not line.startswith("02/")) + "\n")
    assert "have no prediction at all: 02" in run(f"{MAKE} -o s.txt", code=1).stderr
    assert not (folder / "s.txt").exists()
    result = run(f"{MAKE} -o s.txt --fallback-class prior")
    assert "are all Happily_Surprised: 02" in result.stderr
    run("cer-fuse submit --check s.txt --template template.csv")


def test_check_tells_every_fault_and_ends_with_one(run, folder):
    run(f"{MAKE} -o s.txt")
    lines = (folder / "s.txt").read_text().splitlines()
    lines[3] = lines[3][:-1] + "9"
    del lines[9]
    (folder / "s.txt").write_text("\n".join(lines) + "\n")
    result = run("cer-fuse submit --check s.txt --template template.csv", code=1)
    assert result.stdout.splitlines() == [
        "s.txt: line 4: expected a class id 0 to 6, however: '9'",
        "s.txt: line 9: 01/00009.jpg is missing: expected behind this line",
    ]
    assert "2 faults in s.txt" in result.stderr
    plain = json.loads(run("cer-fuse submit --check s.txt --template template.csv --json", code=1).stdout)
    assert [fault["line"] for fault in plain["faults"]] == [4, 9]
    assert "26,145 frames" in run("cer-fuse submit --check s.txt", code=1).stdout


def test_diff_sets_two_files_side_by_side(run, folder):
    run(f"{MAKE} -o a.txt")
    run(f"{MAKE} -o b.txt --smooth box:25")
    result = run("cer-fuse submit --diff a.txt b.txt")
    assert "Cohen's kappa" in result.stdout
    assert "Commonest flips" in result.stdout
    plain = json.loads(run("cer-fuse submit --diff a.txt b.txt --json").stdout)
    assert 0 < plain["kappa"] < 1
    same = json.loads(run("cer-fuse submit --diff a.txt a.txt --json").stdout)
    assert (same["agreement"], same["kappa"]) == (1.0, 1.0)


def test_choose_ranks_and_warns(run, folder):
    run("cer-fuse smooth predictions.csv --window 25 -o smoothed.csv")
    result = run("cer-fuse choose predictions.csv smoothed.csv --template template.csv")
    assert "Chosen:" in result.stdout
    assert "This choice assumes" in result.stderr
    plain = json.loads(run("cer-fuse choose predictions.csv smoothed.csv --json").stdout)
    assert plain["candidates"][0]["divergence"] <= plain["candidates"][1]["divergence"]
    assert plain["chosen"] in ("predictions.csv", "smoothed.csv")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("cer-fuse submit", 2, "or --check FILE, or --diff FILE FILE"),
        ("cer-fuse submit predictions.csv --check predictions.csv", 2, "or --check FILE, or --diff FILE FILE"),
        ("cer-fuse submit predictions.csv -o s.txt", 2, "--template"),
        (MAKE, 2, "--output"),
        (f"{MAKE} -o s.txt --correct guess --source-prior uniform", 2, "'guess' is not one of 'em'"),
        (f"{MAKE} -o s.txt --correct em", 1, "em needs to know the class prior"),
        (f"{MAKE} -o s.txt --correct em --source-prior uniform", 1, "labelled rows to calibrate"),
        (f"{MAKE} -o s.txt --correct em --source-prior even", 2, "'even' is not one of 'uniform'"),
        (f"{MAKE} -o s.txt --source-prior uniform", 2, "--correct"),
        (f"{MAKE} -o s.txt --smooth box", 1, "write METHOD:FRAMES"),
        (f"{MAKE} -o s.txt --slack 0", 1, "allow it with --slack 1"),
        ("cer-fuse submit --check gone.txt", 1, "gone.txt"),
        ("cer-fuse submit --diff template.csv template.csv", 1, "template.csv:2: expected a class id"),
        ("cer-fuse submit predictions.csv --template valid.csv -o s.txt", 1, "valid.csv:1: expected the header"),
        ("cer-fuse choose predictions.csv", 1, "two candidates or more"),
    ],
)
def test_mistakes_are_told_in_words(run, folder, command, code, message):
    result = run(command, code=code)
    assert message in words(result.stderr)
    assert not (folder / "s.txt").exists()


def test_a_template_with_unknown_videos_or_repeated_rows_is_told_with_its_line(run, folder):
    text = (folder / "template.csv").read_text()
    (folder / "template.csv").write_text(text + "57/00001.jpg,\n")
    assert f"template.csv:{sum(LENGTHS) + 2}: the challenge has no video '57'" in run(f"{MAKE} -o s.txt", code=1).stderr
    (folder / "template.csv").write_text(text + "01/00001.jpg,\n")
    assert "01/00001.jpg stands in line 2 already" in run(f"{MAKE} -o s.txt", code=1).stderr
