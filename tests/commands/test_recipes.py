from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.commands.runners.fits import digest_of
from cer_fusion.featstore import Manifest, Sample, class_set
from cer_fusion.fusion import Report, Rows, compound_proba
from cer_fusion.fusion.keeping.answers import read_predictions
from cer_fusion.fusion.keeping.runs import read_run
from tests.commands.test_zero_shot import BASIC, basic, keep, words

QUICK = """
about = "The paper's head, quickly"
system = "mine"
source = ["this test"]
theirs = []
features = ["toy"]
[head]
name = "mlp"
preset = "paper"
[head.settings]
epochs = 2
hidden = [8]
"""
BRANCHES = """
about = "Weights a class by their names"
system = "mine"
source = ["this test"]
theirs = []
[head]
name = "late"
[head.settings]
weights = { one = { CLASSES }, two = { CLASSES } }
"""


@pytest.fixture
def both(run, faces, tmp_path) -> Path:
    """A store with `faces` and `basic` in one feature, and two recipes of one's own in the working folder."""
    listed = Manifest.read(faces)
    keep(listed, "faces", [f"face {sample.sample_id}" for sample in listed.samples])
    keep(basic(*BASIC * 4), "basic", [f"picture {i}" for i in range(24)])
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "quick.toml").write_text(QUICK)
    return tmp_path


def test_the_list_names_every_system_and_those_of_the_working_folder(run, both):
    told = run("cer-fuse recipes").stdout
    assert all(name in told for name in ("paper", "hsemotion", "avcer", "quick"))
    found = {one["name"]: one for one in json.loads(run("cer-fuse recipes --json").stdout)["recipes"]}
    assert found["quick"]["fault"] is None
    assert found["avcer"]["rule"] == "likely_sum"


def test_one_recipe_says_its_source_what_was_chosen_and_how_its_head_is_trained_by_hand(run, both):
    told = run("cer-fuse recipes hsemotion").stdout
    assert "source: Savchenko, 2024, arXiv 2403.11590" in told
    assert "chosen here: " in told
    assert "smoothing over time: box:25" in told
    assert "cer-fuse train --head linear --data basic" in told
    assert "did you mean 'paper'" in words(run("cer-fuse recipes papr", code=1))


def test_smoothing_that_is_none_is_told_before_rows_are_read_and_by_the_list(run, both):
    (both / "recipes" / "odd.toml").write_text(QUICK.replace("[head]", 'smooth = "bx:25"\n[head]', 1))
    result = run("cer-fuse compare -d faces --recipes quick,odd", code=2)
    assert "recipe 'odd' cannot run here: there is no smoothing method 'bx'; did you mean 'box'" in words(result)
    assert "learning from" not in result.stderr
    assert "did you mean 'box'" in " ".join(run("cer-fuse recipes odd").stdout.split())


def test_recipes_are_columns_of_a_comparison_with_tests_against_one_of_them(run, both):
    result = run(
        "cer-fuse compare -d faces --recipes quick,hsemotion-pictures,avcer --zero-shot basic --baseline quick "
        "--figure none -o r.json"
    )
    assert "zero-shot: learning from 24 rows of basic" in result.stderr
    found = Report.load(both / "r.json")
    assert [column.name for column in found.columns] == ["quick", "hsemotion-pictures", "avcer"]
    assert found.column("quick").params["epochs"] == 2
    assert found.column("avcer").versus is not None
    assert any(note.startswith("Recipe 'quick' (mine; this test): head 'mlp', preset 'paper'") for note in found.notes)


def test_recipes_stand_beside_heads_and_plain_rules_where_these_are_named(run, both):
    run(
        "cer-fuse compare -d faces --recipes hsemotion-pictures --heads linear --zero-shot basic --rules sum --cv 2 "
        "--figure none -o r.json"
    )
    names = [column.name for column in Report.load(both / "r.json").columns]
    assert names == ["linear", "zero-shot sum", "hsemotion-pictures"]


@pytest.mark.parametrize("way", ["", "--cv 2"])
def test_answers_about_frames_of_videos_are_smoothed_within_them(run, both, way):
    labels = class_set("abaw7").labels
    samples = tuple(
        Sample(sample_id=f"{video:02}/{frame:05}.jpg", path=f"{video:02}/{frame:05}.jpg", label=labels[video % 7],
               split="test" if video >= 7 else "train", group=f"{video:02}")
        for video in range(14) for frame in range(1, 7)
    )  # fmt: skip
    if way:
        samples = tuple(one._replace(split="train") for one in samples)
    keep(Manifest(samples=samples, classes=class_set("abaw7"), root=Path()), "videos", [f"v{i}" for i in range(84)])
    names = "hsemotion,hsemotion-pictures"
    run(f"cer-fuse compare -d videos --recipes {names} --zero-shot basic --figure none -o r.json {way}")
    report = Report.load(both / "r.json")
    smooth, plain = (report.column(name).proba for name in names.split(","))
    of_video = [one.partition("/")[0] for one in report.ids]
    for video in dict.fromkeys(of_video):
        rows = [i for i, one in enumerate(of_video) if one == video]
        # a box of 25 frames spans all six of a video; twelve before and after stand for none
        np.testing.assert_allclose(smooth[rows], plain[rows].mean(axis=0)[None].repeat(6, axis=0), atol=1e-6)


def test_of_all_recipes_those_that_cannot_run_are_left_out_aloud(run, both):
    (both / "recipes" / "odd.toml").write_text(QUICK.replace('"mlp"', '"mpl"'))
    result = run("cer-fuse compare -d faces --recipes all --zero-shot basic --figure none -o r.json")
    told = " ".join(result.stderr.split())
    assert "recipe paper-branches is left out: it needs manet.local" in told
    assert "recipe hsemotion is left out: it smooths over time, and cannot" in told
    assert "recipe odd is left out: there is no head 'mpl'" in told
    names = {column.name for column in Report.load(both / "r.json").columns}
    assert {"paper", "avcer", "quick"} <= names
    assert not names & {"paper-branches", "hsemotion", "odd"}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--recipes papre", 1, "did you mean 'paper'"),
        ("--recipes avcer", 1, "--zero-shot DATASET"),
        ("--recipes paper-branches", 1, "cer-feat extract --backbone manet"),
        ("--recipes hsemotion --zero-shot basic", 1, "cannot: sample id"),
        ("--recipes quick --soft-labels votes.csv", 2, "no recipe uses the votes"),
        ("--recipes quick --single-head linear", 2, "--recipes without --heads"),
        ("--recipes avcer --zero-shot basic --set zero-shot.C=1", 2, "name --zero-shot-head too"),
        ("--recipe-folder elsewhere", 2, "name some with --recipes"),
        ("--recipes quick --recipe-folder elsewhere", 1, "elsewhere is no folder of recipes"),
    ],
)
def test_what_cannot_be_meant_is_refused(run, both, options, code, message):
    head = ",".join(dict.fromkeys(sample.label for sample in Manifest.read(both / "faces.csv").samples))
    first = Manifest.read(both / "faces.csv").samples[0].sample_id
    (both / "votes.csv").write_text(f"sample_id,{head}\n{first},1,0,0,0,0,0,0\n")
    assert message in words(run(f"cer-fuse compare -d faces --figure none {options}", code=code))


def test_weights_a_class_in_a_recipe_go_by_the_names_of_the_classes(run, filled, tmp_path):
    labels = Manifest.read(tmp_path / "faces.csv").classes.labels
    line = ", ".join(f'"{label}" = {i + 1}' for i, label in enumerate(labels))
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "branches.toml").write_text(BRANCHES.replace("CLASSES", line))
    run("cer-fuse compare --recipes branches --figure none -o r.json")
    run('cer-fuse compare --heads late --set late.weights={"one":1,"two":1} --no-singles --figure none -o h.json')
    mine, plain = (Report.load(tmp_path / f"{name}.json").columns[0].proba for name in "rh")
    np.testing.assert_allclose(mine, plain, atol=1e-9)


def test_a_head_of_basic_expressions_answers_the_compounds_of_another_dataset_in_one_command(run, both):
    listed = basic(*BASIC * 8)
    parted = Manifest(
        samples=tuple(one._replace(split="test" if i % 4 == 3 else "train") for i, one in enumerate(listed.samples)),
        classes=listed.classes, root=listed.root,
    )  # fmt: skip
    keep(parted, "parted", [f"part {i}" for i in range(48)])
    run("cer-fuse train --head linear -d parted -o runs/basic")
    run("cer-fuse predict --head runs/basic -d faces --compounds abaw7 --rule sum -o p.csv")
    found = read_predictions(both / "p.csv")
    assert found.classes == class_set("abaw7").labels
    assert (found.y_pred == found.y_true).mean() > 0.4  # of seven, and no compound was learned
    run("cer-fuse predict --head runs/basic -d parted -o basic.csv")
    run("cer-fuse predict --head runs/basic -d parted --compounds abaw7 -o pairs.csv")
    plain, pairs = read_predictions(both / "basic.csv"), read_predictions(both / "pairs.csv")
    np.testing.assert_allclose(pairs.proba, compound_proba(plain.proba, plain.classes, pairs.classes), atol=1e-6)
    assert pairs.labels is None or set(pairs.labels) == {None}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--compounds abaw9", 1, "abaw7"),
        ("--compounds abaw7 --rule produkt", 1, "did you mean 'product'"),
        ("--compounds abaw7", 1, "no basic class means that"),
        ("--rule sum", 2, "name their class set"),
    ],
)
def test_compounds_that_a_head_cannot_answer_are_refused(run, both, options, code, message):
    run("cer-fuse train --head ncm -d faces -o runs/compound")
    told = words(run(f"cer-fuse predict --head runs/compound -d faces {options}", code=code))
    assert message in told


def test_action_units_reach_heads_and_recipes_of_several_tasks(run, filled, tmp_path):
    manifest = Manifest.read(tmp_path / "faces.csv")
    lines = [f"{sample.sample_id},{y % 2},{'' if y == 3 else y // 4}" for sample, y in
             zip(manifest.samples, manifest.y.tolist(), strict=True)]  # fmt: skip
    (tmp_path / "aus.csv").write_text("sample_id,AU1,AU12\n" + "\n".join(lines) + "\n")
    (tmp_path / "recipes").mkdir()
    quick = QUICK.replace('name = "mlp"\npreset = "paper"', 'name = "multitask"') + "coupling = 0.5\n"
    (tmp_path / "recipes" / "tasks.toml").write_text(quick.replace("[head]\n", 'targets = "needed"\n[head]\n', 1))
    quiet = "--no-singles --figure none --output none --json"
    told = json.loads(run(f"cer-fuse compare --heads linear --recipes tasks --targets aus.csv {quiet}").stdout)
    assert [column["name"] for column in told["columns"]] == ["linear", "tasks"]
    prior = "--set multitask.coupling=1 --set multitask.table=du2014"
    told = run(f"cer-fuse compare --heads multitask --set multitask.epochs=2 {prior} --cv 2 --targets aus.csv {quiet}")
    assert json.loads(told.stdout)["columns"][0]["name"] == "multitask"
    for name, table in (("with", " --targets aus.csv"), ("without", "")):
        run(f"cer-fuse train --head multitask --set epochs=2 -o {name}{table}")
    kept = [read_run(tmp_path / name).config.targets for name in ("with", "without")]
    assert (list(kept[0] or ()), kept[1]) == (["au"], None)
    assert "targets au, run" in " ".join(run("cer-fuse compare with without --explain").stdout.split())
    missing = run(f"cer-fuse compare --recipes c-expr-net {quiet}", code=1).stderr
    assert "learns action units beside the classes" in missing
    assert "cer-feat manifest raf-ce … --targets TABLE" in missing
    unused = run(f"cer-fuse compare --heads linear --targets aus.csv {quiet}", code=2).stderr
    assert "multitask" in unused


@pytest.mark.slow
def test_heads_of_several_tasks_learn_the_columns_of_the_manifest_and_a_table_wins(run, filled, tmp_path):
    manifest = Manifest.read(tmp_path / "faces.csv")
    units = {"au.1": manifest.y % 2, "au.12": np.where(manifest.y == 3, np.nan, manifest.y // 4)}
    table = Manifest.read(tmp_path / "faces.csv").with_further(units)
    rows = zip(manifest.ids, *units.values(), strict=True)
    cells = (f"{name},{one:g},{two:g}".replace("nan", "") for name, one, two in rows)
    (tmp_path / "aus.csv").write_text("\n".join(["sample_id,AU1,AU12", *cells]) + "\n")

    def trained(name, options="", head="multitask --set epochs=1,members=1"):
        told = words(run(f"cer-fuse train --head {head} -o {name} {options}"))
        return told, read_run(tmp_path / name)

    with_table = trained("by-table", "--targets aus.csv")[1]
    table.write(tmp_path / "faces.csv")
    run("cer-feat use-manifest faces.csv")
    told, by_manifest = trained("by-manifest")
    assert "2 action units of 28 of 28 rows are learned beside the classes: columns of the manifest of faces" in told
    assert (by_manifest.config.targets, by_manifest.config.units) == (with_table.config.targets, (1, 12))
    digest = hashlib.sha256((filled / "faces" / "manifest.csv").read_bytes()).hexdigest()
    assert by_manifest.config.targets_from == {"file": "faces/manifest.csv", "sha256": digest}
    digest = hashlib.sha256((tmp_path / "aus.csv").read_bytes()).hexdigest()
    assert with_table.config.targets_from == {"file": "aus.csv", "sha256": digest}
    np.testing.assert_array_equal(by_manifest.predictions.proba, with_table.predictions.proba)
    told, wins = trained("wins", "--targets aus.csv")
    assert "in aus.csv" in told
    assert "what the manifest says of them is not used" in told
    assert wins.config.targets_from == with_table.config.targets_from
    plain = trained("plain", head="linear")
    assert "beside the classes" not in plain[0]
    assert (plain[1].config.targets, plain[1].config.units, plain[1].config.targets_from) == (None, None, None)
    table.with_further({**table.further, "au.1": 1 - units["au.1"]}).write(tmp_path / "faces.csv")
    run("cer-feat use-manifest faces.csv")
    other = trained("other")[1]
    assert other.config.targets != by_manifest.config.targets
    assert (other.digest != by_manifest.digest, other.config.data_digest) == (True, by_manifest.config.data_digest)


def test_fits_elsewhere_are_of_the_same_targets_and_times():
    rows = Rows(
        blocks={"x": np.eye(4, dtype=np.float32)}, y=np.arange(4) % 2, classes=("a", "b"),
        targets={"au": np.eye(4)}, units=(1, 2, 4, 5),
    )  # fmt: skip
    others = (
        replace(rows, targets={"au": 1 - np.eye(4)}), replace(rows, units=(1, 2, 4, 6)),
        replace(rows, targets=None, units=None), replace(rows, time_s=np.arange(4.0)),
    )  # fmt: skip
    found = {digest_of(_Planned(train=one, test=rows)) for one in (rows, *others)}
    assert len(found) == 1 + len(others)


@dataclass(frozen=True)
class _Planned:
    train: Rows
    test: Rows

    def __len__(self) -> int:
        return 1


@pytest.mark.slow
def test_a_head_over_time_is_asked_in_the_unit_that_it_learned_in(run, filled, tmp_path):
    manifest = Manifest.read(tmp_path / "faces.csv")
    samples = [one._replace(group=f"{one.split} {i // 7}") for i, one in enumerate(manifest.samples)]
    numbered = replace(manifest, samples=samples)
    numbered.with_further({"time_s": np.arange(len(samples)) % 7 / 25}).write(tmp_path / "faces.csv")
    run("cer-feat use-manifest faces.csv")
    run("cer-fuse train --head sequence --features one --set epochs=1,members=1,window=3 -o runs/timed")
    assert read_run(tmp_path / "runs" / "timed").config.in_seconds
    run("cer-fuse predict --head runs/timed --split test -o p.csv")
    found, judged = read_predictions(tmp_path / "p.csv"), read_run(tmp_path / "runs" / "timed").predictions
    assert found.ids == judged.ids
    np.testing.assert_allclose(found.proba, judged.proba, atol=1e-6)
    numbered.write(tmp_path / "faces.csv")
    run("cer-feat use-manifest faces.csv")
    told = words(run("cer-fuse predict --head runs/timed --split test -o q.csv", code=2))
    assert "no column time_s" in told
    run("cer-fuse train --head sequence --features one --set epochs=1,members=1,window=3 -o runs/counted")
    assert not read_run(tmp_path / "runs" / "counted").config.in_seconds
