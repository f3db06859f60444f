from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cer_fusion.challenge import Smoothing, Validation, calibrate, learned_transitions, smoothed
from cer_fusion.fusion.keeping.answers import read_predictions, write_predictions
from tests.commands.videos import write_miniature


@pytest.fixture
def folder(run, tmp_path):
    write_miniature(tmp_path)
    return tmp_path


def test_one_setting_is_applied_and_goes_to_stdout_or_a_file(run, folder):
    run("cer-fuse smooth predictions.csv --window 9 -o out.csv")
    given = read_predictions(folder / "predictions.csv")
    found = read_predictions(folder / "out.csv")
    assert found.ids == given.ids
    assert (found.proba == smoothed(given, Smoothing.parse("box:9")).proba).all()
    result = run("cer-fuse smooth predictions.csv --window 9")
    assert result.stdout == (folder / "out.csv").read_text()
    assert "frames are missing inside 3 of 3 videos" in result.stderr


def test_missing_frames_are_written_out_when_asked_for(run, folder):
    run("cer-fuse smooth predictions.csv -m none --fill -o out.csv")
    found = read_predictions(folder / "out.csv")
    assert len(found.ids) > len(read_predictions(folder / "predictions.csv").ids)
    assert found.ids == tuple(sorted(found.ids))


def test_labelled_videos_score_every_window(run, folder):
    result = run("cer-fuse smooth valid.csv --window 5:29:8 --format csv")
    assert [line.split(",")[0] for line in result.stdout.splitlines() if "low" not in line and "high" not in line] == [
        "smoothing (frames)", "none", "box:5", "box:13", "box:21", "box:29", "chosen by other videos",
    ]  # fmt: skip
    plain = json.loads(run("cer-fuse smooth valid.csv --window 5:29:8 --json").stdout)
    assert plain["setting"] == plain["sweep"]["chosen"] != "none"
    assert plain["sweep"]["videos"] == 6
    assert not (folder / "out.csv").exists()


def test_a_setting_is_chosen_on_some_videos_and_applied_to_others(run, folder):
    run("cer-fuse smooth predictions.csv --choose-on valid.csv -m viterbi --stickiness labels -o out.csv")
    moves = learned_transitions(read_predictions(folder / "valid.csv"), "labels")
    expected = smoothed(
        read_predictions(folder / "predictions.csv"), Smoothing.parse("viterbi:labels"), transitions=moves
    )
    assert (read_predictions(folder / "out.csv").proba == expected.proba).all()


def test_chains_divide_by_the_prior_that_the_head_learned(run, folder):
    valid = read_predictions(folder / "valid.csv")
    rows = Validation.of(valid)
    calibration = calibrate(rows.proba, rows.y)
    given = read_predictions(folder / "predictions.csv")
    given = replace(given, proba=calibration.apply(given.proba))
    for text in ("hmm:9", "hmm:em"):
        method, _, detail = text.partition(":")
        how = "--stickiness em" if detail == "em" else f"--window {detail}"
        result = run(f"cer-fuse smooth predictions.csv -m {method} {how} --validation valid.csv -o out.csv --overwrite")
        assert f"class prior of the head, from {len(rows.y):,} labelled rows" in result.stderr
        expected = smoothed(given, Smoothing.parse(text), prior=rows.prior)
        np.testing.assert_allclose(read_predictions(folder / "out.csv").proba, expected.proba, atol=1e-9)
    plain = json.loads(run("cer-fuse smooth valid.csv -m hmm --window 9 --validation valid.csv --json").stdout)
    assert list(plain["prior"].values()) == pytest.approx(rows.prior.tolist())


def test_choosing_may_find_that_no_smoothing_is_best(run, folder):
    valid = read_predictions(folder / "valid.csv")
    labels = tuple(valid.classes[i] for i in np.random.default_rng(0).integers(0, 7, len(valid.ids)))
    proba = 0.9 * np.eye(7)[[valid.classes.index(label) for label in labels]] + 0.1 / 7
    write_predictions(folder / "hectic.csv", replace(valid, labels=labels, proba=proba))
    result = run("cer-fuse smooth predictions.csv --choose-on hectic.csv --window 5,9 -o out.csv")
    assert "smoothing: none" in result.stderr
    assert (folder / "out.csv").read_text() == (folder / "predictions.csv").read_text()


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("predictions.csv", 1, "box needs a window"),
        ("predictions.csv --window 8", 1, "take 7 or 9"),
        ("predictions.csv --window 5:9", 1, "start:stop:step"),
        ("predictions.csv --window 5 -m boxx", 1, "did you mean 'box'"),
        ("predictions.csv --window 5,9", 2, "2 settings to choose from, but no label in predictions.csv"),
        ("predictions.csv --window 5 --choose-on predictions.csv", 2, "no label in predictions.csv"),
        ("predictions.csv --window 5 --validation valid.csv", 2, "is for hmm and viterbi"),
        ("predictions.csv -m hmm --window 5 --validation predictions.csv", 1, "no validation row has a label"),
        ("predictions.csv -m hmm --stickiness labels", 1, "labelled videos other than these"),
        ("gone.csv --window 5", 1, "cannot read gone.csv"),
        ("valid.csv --window 5 --format word", 2, "'word' is not one of 'table'"),
    ],
)
def test_mistakes_are_told_in_words(run, folder, command, code, message):
    result = run(f"cer-fuse smooth {command}", code=code)
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_predictions_of_another_head_are_no_guide(run, folder):
    valid = read_predictions(folder / "valid.csv")
    fewer = replace(valid, classes=tuple(name.upper() for name in valid.classes), labels=None)
    write_predictions(folder / "other.csv", fewer)
    result = run("cer-fuse smooth predictions.csv --choose-on other.csv --window 5", code=2)
    assert "both must be of one head" in " ".join(result.stderr.replace("│", " ").split())


def test_json_holds_the_answers_that_would_go_to_stdout(run, folder):
    run("cer-fuse smooth predictions.csv --window 9 -o out.csv")
    written = read_predictions(folder / "out.csv")
    found = json.loads(run("cer-fuse smooth predictions.csv --window 9 --json").stdout)["answers"]
    assert [answer["sample_id"] for answer in found] == list(written.ids)
    assert [list(answer["probabilities"].values()) for answer in found] == written.proba.tolist()
    assert found[0]["predicted"] == written.classes[int(written.proba[0].argmax())]
    kept = json.loads(run("cer-fuse smooth predictions.csv --window 9 --json -o again.csv").stdout)
    assert ("answers" in kept, kept["output"]) == (False, "again.csv")
