"""`cer-fuse ablate --axis`: settings of a head swept on stored rows, the choice, and mistakes told early."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.commands.heads import axes_of
from cer_fusion.featstore import Manifest, class_set
from cer_fusion.fusion import Sweep
from tests.commands.test_zero_shot import BASIC, basic, keep, words

QUICK = "--set epochs=2 --set hidden=[8] --set members=1 --folds 2"


@pytest.fixture
def both(run, faces, tmp_path) -> Path:
    """A store with `faces` and `basic` in one feature, and tables of votes and of action units about the faces."""
    listed = Manifest.read(faces)
    keep(listed, "faces", [f"face {sample.sample_id}" for sample in listed.samples])
    keep(basic(*BASIC * 4), "basic", [f"picture {i}" for i in range(24)])
    labels, random = class_set("abaw7").labels, np.random.default_rng(0)
    votes = [
        f"{one.sample_id},{','.join(str(1 + 9 * (one.label == label)) for label in labels)}" for one in listed.samples
    ]
    (tmp_path / "votes.csv").write_text(f"sample_id,{','.join(labels)}\n" + "\n".join(votes) + "\n")
    units = [f"{one.sample_id},{random.integers(2)},{random.integers(2)}" for one in listed.samples]
    (tmp_path / "aus.csv").write_text("sample_id,AU1,AU12\n" + "\n".join(units) + "\n")
    return tmp_path


def test_settings_are_swept_drawn_kept_and_the_choice_is_told_with_its_test(run, both):
    result = run(
        f"cer-fuse ablate -d faces {QUICK} --axis locality=0,0.5 --axis lr=0.001,0.01 -o s.json --figure s.png"
    )
    told = " ".join(result.stderr.split())
    assert "4 points in" in told
    assert "chosen on inner folds: locality=" in told
    assert "learning from 28 rows of train, judged on 14 rows of test" in told
    assert (both / "s.png").stat().st_size > 1000
    found = Sweep.load(both / "s.json")
    assert [tuple(one.values()) for one in found.settings] == [(0, 0.001), (0, 0.01), (0.5, 0.001), (0.5, 0.01)]
    assert found.params["hidden"] == [8]
    assert "Δ macro F1 (points)" in run(f"cer-fuse ablate -d faces {QUICK} --axis lr=0.01,0.1 --format markdown").stdout


@pytest.mark.parametrize(
    ("line", "points"),
    [
        ("--basic basic --axis curriculum=0,2 --axis mixed_compounds=0,1", 4),
        ("--soft-labels votes.csv --axis locality=0:0.2:0.1", 3),
        ("--head multitask --targets aus.csv --axis coupling=0,1", 2),
        ("--preset paper --axis locality=0,0.1", 2),
        ("--axis hidden=[8],[8,4] --seeds 2 --select test", 2),
    ],
)
def test_the_weights_that_systems_leave_open_are_axes_with_what_they_need(run, both, line, points):
    quick = QUICK.replace("--set hidden=[8]", "") if "hidden" in line else QUICK
    quick = quick.replace("--folds 2", "") if "--select test" in line else quick
    found = json.loads(run(f"cer-fuse ablate -d faces {quick} {line} --json --figure none").stdout)
    assert len(found["settings"]) == len(found["versus"]) == points
    assert found["chosen_settings"] in found["settings"]
    assert found["kind"] == "setting"


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("--axis localty=0,1", 1, "did you mean 'locality'"),
        ("--axis locality=0,-1", 1, "cannot be set to locality=-1: locality must be finite and not negative"),
        ("--axis locality=1", 1, "one is no axis"),
        ("--axis locality", 2, "expected a setting and its values"),
        ("--axis locality=0,1 --axis locality=2,3", 2, "locality is given twice"),
        ("--axis locality=1:0:0.1", 2, "start <= stop"),
        ("--axis curriculum=0,10", 2, "needs rows of basic expressions: name their dataset"),
        ("--axis curriculum=5:0,10:1 --basic basic", 1, "curriculum must be a list, [256] or a whole number"),
        ("--head multitask --axis coupling=0,1", 1, "there are none give them"),
        ("--axis locality=0,1 --set locality=1", 2, "--set locality=… says that too"),
        ("--axis locality=0,1 --weights one=1", 2, "either --weights or --simplex, or settings: --axis"),
        ("--axis locality=0,1 --C 1,2", 2, "of settings C is an axis"),
        ("--axis locality=0,1 --per-class 3", 2, "goes with --weights or --simplex"),
        ("--axis locality=0,1 --targets aus.csv", 2, "take multitask"),
        ("--head ridge --axis alpha=1,2 --soft-labels votes.csv", 2, "heads that learn from votes"),
        ("--axis locality=0,1 --head late", 1, "head 'late' has no setting 'locality'"),
        ("--axis random_state=0,1", 1, "give several seeds"),
        ("--axis dropout=0,0.5 --basic basic", 2, "nothing here learns from basic expressions"),
    ],
)
def test_mistakes_are_told_before_anything_is_fitted(run, both, monkeypatch, line, code, said):
    monkeypatch.setattr("cer_fusion.fusion.sweeps.axes.fit_part", None)
    result = run(f"cer-fuse ablate -d faces {line}", code=code)
    assert said in words(result)
    assert "Traceback" not in result.output


def test_values_are_read_as_settings_are_and_ranges_have_both_ends():
    found = axes_of(["a=0,0.1,1", "b=null,balanced", "c=[8],[16, 8]", "d=0:0.3:0.1", "e=1:3:1", 'f={"x": 1, "y": 2},1'])
    assert found == {
        "a": [0, 0.1, 1], "b": [None, "balanced"], "c": [[8], [16, 8]], "d": [0.0, 0.1, 0.2, 0.3], "e": [1, 2, 3],
        "f": [{"x": 1, "y": 2}, 1],
    }  # fmt: skip
    assert [type(one) for one in found["e"]] == [int] * 3
