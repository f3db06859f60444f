"""Rows of basic expressions beside compounds, and a head over time, from the command line."""

from __future__ import annotations

import json

import pytest

from cer_fusion.featstore import Manifest
from cer_fusion.fusion.keeping.answers import read_predictions
from cer_fusion.fusion.keeping.runs import read_run
from tests.commands.test_zero_shot import BASIC, basic, keep, words

QUICK = "--set epochs=4 --set members=1 --seed 1"


@pytest.fixture
def both(run, faces, tmp_path):
    """A store with `faces` and `basic` in one feature."""
    listed = Manifest.read(faces)
    keep(listed, "faces", [f"face {sample.sample_id}" for sample in listed.samples])
    keep(basic(*BASIC * 4), "basic", [f"picture {i}" for i in range(24)])
    return tmp_path


@pytest.mark.slow
def test_a_curriculum_is_trained_kept_and_told_apart_from_one_of_other_basic_rows(run, both):
    told = run(f"cer-fuse train --head mlp -d faces --basic basic --curriculum 2:0,2:1 {QUICK} -o a")
    assert "basic: learning from 24 rows" in told.stderr
    kept = read_run(both / "a").config
    assert json.loads(json.dumps(kept.params))["curriculum"] == [[2, 0.0], [2, 1.0]]
    assert len(kept.basic) == 64
    run(f"cer-fuse train --head mlp -d faces {QUICK} -o b")
    assert read_run(both / "b").config.basic is None


@pytest.mark.slow
def test_a_comparison_mixes_compounds_and_recipes_find_the_basic_rows(run, both):
    told = run(
        "cer-fuse compare -d faces --heads mlp,linear --basic basic --set mlp.mixed_compounds=1 --set mlp.epochs=3 "
        "--set mlp.members=1 --no-singles --figure none --output none"
    )
    assert "basic: learning from 24 rows" in told.stderr
    for option in ("--basic", "--zero-shot"):
        found = run(f"cer-fuse compare -d faces --recipes netease {option} basic --figure none --output none")
        assert "netease" in found.stdout


def test_a_head_over_time_is_trained_and_predicts_and_says_that_pictures_stand_alone(run, both):
    run(f"cer-fuse train --head sequence -d faces {QUICK} -o seq --explain")
    run("cer-fuse predict --head seq --split test -o p.csv")
    assert len(read_predictions(both / "p.csv").ids) == len(read_run(both / "seq").predictions.ids)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--head mlp --basic basic", "nothing here learns from basic expressions"),
        ("--head mlp --set mixed_compounds=1", "needs rows of basic expressions"),
        ("--head linear --basic basic --curriculum 1:0,1:1", "has no curriculum"),
        ("--head mlp --basic basic --curriculum 1:0,1:1 --set curriculum=[[1,1]]", "leave one of them out"),
    ],
)
def test_options_that_say_nothing_together_are_refused(run, both, line, said):
    assert said in words(run(f"cer-fuse train -d faces {line}", code=2))


def test_a_curriculum_that_cannot_be_read_names_its_stage(run, both):
    assert "cannot read the stage '1-0'" in words(run("cer-fuse train -d faces --basic basic --curriculum 1-0", code=1))
