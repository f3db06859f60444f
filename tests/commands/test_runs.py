from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from cer_fusion.fusion import Report
from cer_fusion.fusion.keeping.runs import read_run
from tests.challenge.paper import PAPER
from tests.fusion.kept import kept


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two runs of one backbone each, one of both, and one that was judged on another split."""
    root = tmp_path_factory.mktemp("made")
    for name, blocks in (("vit", ["vit"]), ("manet", ["manet"]), ("both", ["vit", "manet"])):
        kept(root / name, *blocks)
    kept(root / "valid", "vit", test_split="valid")
    return root


@pytest.fixture
def runs(run, made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "runs")


def test_a_run_says_what_was_chosen_on_screen_and_in_its_configuration(run, filled, tmp_path):
    result = run("cer-fuse train --head linear --set C=0.5")
    found = read_run(tmp_path / "runs" / "faces-linear")
    assert "kept in runs/faces-linear: head, configuration, predictions, metrics, environment" in result.stderr
    assert found.digest[:12] in result.stderr
    config = found.config
    assert (config.dataset, config.store, config.class_set) == ("faces", "features", "abaw7")
    assert (config.train_split, config.test_split, config.missing) == ("train", "test", "error")
    assert (config.features, config.blocks) == (("one", "two"), (("one", 12), ("two", 12)))
    assert (config.params["C"], config.params["max_iter"], config.in_memory) == (0.5, 1000, True)
    assert str(tmp_path) not in "".join(
        path.read_text() for path in (tmp_path / "runs" / "faces-linear").glob("*.json")
    )


@pytest.mark.slow
def test_compare_reads_run_folders_and_gives_the_table_of_training_them_now(run, filled, tmp_path):
    for name in ("one", "one,two"):
        run(f"cer-fuse train --head linear --features {name} -o runs/{name.replace(',', '-')}")
    result = run("cer-fuse compare runs/one-two runs/one --baseline one-two --format csv -o kept.json")
    run("cer-fuse compare --heads linear --format csv --figure none -o fresh.json")
    found, fresh = Report.load(tmp_path / "kept.json"), Report.load(tmp_path / "fresh.json")
    for mine, its in {"one-two": "linear", "one": "one"}.items():
        assert (found.column(mine).proba == fresh.column(its).proba).all()
        assert found.column(mine).macro_f1 == fresh.column(its).macro_f1
    assert "p (McNemar, Holm)" in result.stdout
    assert (tmp_path / "runs" / "faces-compare.png").is_file()
    assert "runs exists" in run("cer-fuse train --features one --output runs", code=2).output
    strange = run("cer-fuse train --head linear --features one --output . --overwrite", code=1)
    assert "holds things that are no run's" in strange.stderr


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("cer-fuse compare runs/vit --heads mlp", 2, "--heads: runs are compared as they were kept"),
        ("cer-fuse compare runs/vit --store features --singles", 2, "--store, --singles"),
        ("cer-fuse compare runs/vit runs/vit", 2, "a run folder stands twice"),
        ("cer-fuse compare runs/none", 1, "no run folder: there is no run.json"),
        ("cer-fuse compare runs/vit runs/both --baseline three", 1, "no column 'three' to test against"),
        ("cer-fuse compare runs/vit runs/valid", 1, "judged on different splits: 'test' and 'valid'"),
        ("cer-fuse report runs/vit runs/both --no-sweep", 2, "--sweep: runs are compared as they were kept"),
        ("cer-fuse report runs/vit -o report.pdf", 1, "must end in .html"),
    ],
)
def test_mistakes_with_runs_are_told_in_words(run, runs, command, code, message):
    result = run(command, code=code)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_runs_of_one_name_are_told_apart_by_their_paths(run, runs, tmp_path):
    shutil.copytree(runs / "vit", tmp_path / "elsewhere" / "vit")
    assert "elsewhere/vit" in run("cer-fuse compare runs/vit elsewhere/vit --figure none --format csv").stdout


def test_a_report_from_runs_has_an_explorer_when_they_are_of_single_backbones(run, runs, tmp_path):
    talk = run("cer-fuse report runs/vit runs/manet runs/both -o report.html --baseline both").stderr
    html = (tmp_path / "report.html").read_text()
    data = json.loads(html.partition('id="explorer-data">')[2].partition("</script>")[0])
    assert (data["members"], data["rows"], data["start"]) == (["vit", "manet"], 21, "all alike")
    assert "open it in a browser" in talk
    assert read_run(runs / "vit").digest in html
    for word in ("faces: 3 systems compared", "Results", "Confusion matrices", "Configuration", "McNemar"):
        assert word in html
    talk = run("cer-fuse report runs/vit runs/both").stderr
    assert "fewer than two runs of different single backbones" in talk
    assert "explorer-data" not in (runs / "faces-report.html").read_text()


def test_a_report_from_the_store_compares_sweeps_and_explores(run, filled, tmp_path):
    run("cer-fuse report --heads linear -o report.html --folds 2 --keep report.json --title Faces")
    html = (tmp_path / "report.html").read_text()
    data = json.loads(html.partition('id="explorer-data">')[2].partition("</script>")[0])
    assert data["members"] == ["one", "two"]
    assert data["start"] == "chosen on inner folds"
    assert "Weights swept" in html
    assert "<h2>Why</h2>" in html
    assert "<h2>Why</h2>" not in _page(run, tmp_path, "--no-diagnose")
    assert "<h1>Faces</h1>" in html
    report = Report.load(tmp_path / "report.json")
    assert [column.name for column in report.columns] == ["linear", "one", "two"]
    assert all(fingerprint in html for fingerprint in report.fingerprints.values())


def _page(run, tmp_path, *options: str) -> str:
    run(f"cer-fuse report --heads linear --no-sweep -o other.html {' '.join(options)}")
    return (tmp_path / "other.html").read_text()


def test_a_report_of_one_block_says_that_there_is_nothing_to_mix(run, filled, tmp_path):
    talk = run("cer-fuse report --heads linear --features one -o report.html").stderr
    assert "nothing to mix" in talk
    assert "explorer-data" not in (tmp_path / "report.html").read_text()


def test_check_table_finds_the_papers_slip_and_ends_with_1(run, tmp_path):
    (tmp_path / "paper.csv").write_text(PAPER)
    result = run("cer-fuse check-table paper.csv --supports 38,35,116,135,33,22,18", code=1)
    assert "Fearfully Surprised 87.48 → 84.48" in result.stdout
    found = json.loads(run("cer-fuse check-table paper.csv --limit 140 --json", code=1).stdout)
    assert found["supports"]["Fearfully Surprised"] == 116
    assert found["columns"]["Ensemble"]["impossible"] == {"Fearfully Surprised": ["87.07", "87.93"]}
    (tmp_path / "right.csv").write_text(PAPER.replace("87.48", "84.48"))
    assert r"\toprule" in run("cer-fuse check-table right.csv --limit 140 --format latex").stdout
    message = run("cer-fuse check-table paper.csv --supports 38,35", code=1).stderr
    assert "every class needs its support" in message
    assert "whole numbers such as" in run("cer-fuse check-table paper.csv --supports a,b", code=2).output


def test_trackers_are_told_choices_and_figures_and_no_sample_and_no_place(run, filled, monkeypatch, tmp_path):
    from tests.kit.test_tracking import Fake

    library = Fake("wandb")
    monkeypatch.setitem(sys.modules, "wandb", library)
    told = run(f"cer-fuse train --head ridge --store {filled} -o runs/one --track wandb")
    kept = read_run(Path("runs/one"))
    assert "leave this machine: wandb sends them to wandb.ai" in " ".join(told.stderr.split())
    [(_, begun), (_, config), (_, (figures, _)), _] = library.calls
    assert begun == {"project": "cer-fusion", "name": "one"}
    assert (config["head"], config["dataset"], config["run"]) == ("ridge", "faces", kept.digest)
    assert figures["accuracy"] == kept.scores.accuracy
    assert figures["accuracy_low"] < figures["accuracy"] <= figures["accuracy_high"]
    assert {f"recall.{name}" for name in kept.config.classes} <= set(figures)
    assert str(tmp_path) not in repr(library.calls)
    assert not any(name in repr(library.calls) for name in kept.predictions.ids)

    library.calls.clear()
    run("cer-fuse compare --heads ridge,lda --no-singles --figure none --output none --track wandb")
    names = [value["name"] for kind, value in library.calls if kind == "init"]
    assert names == ["faces-compare/ridge", "faces-compare/lda"]
    library.calls.clear()
    run("cer-fuse compare runs/one --track wandb --figure none --output none")
    assert [value["name"] for kind, value in library.calls if kind == "init"] == ["faces-compare"]


def test_a_tracker_that_fails_after_the_fit_costs_neither_the_result_nor_another_tracker(run, filled, monkeypatch):
    from tests.kit.test_tracking import Fake, trackio_known

    trackio_known()
    told = Fake("trackio")
    monkeypatch.setitem(sys.modules, "wandb", Fake("wandb", "init"))
    monkeypatch.setitem(sys.modules, "trackio", told)
    done = run("cer-fuse train --head ridge -o runs/one --track wandb,trackio --json")
    found = json.loads(done.stdout)  # what trackers print is no part of it
    assert (found["run"], found["tracked"]) == ("runs/one", ["trackio"])
    assert [kind for kind, _ in told.calls].count("log") == 1
    said = " ".join(done.stderr.split())
    assert "tracked by trackio: one run, one" in said
    assert "not tracked by wandb, and nothing else is lost" in said
    assert "cer-fuse compare runs/one --track wandb" in said

    kept = run("cer-fuse compare --heads ridge,lda --no-singles --figure none --track wandb")
    assert "cer-fuse compare runs/faces-compare.json --track wandb" in " ".join(kept.stderr.split())
    assert "Accuracy" in kept.stdout
    again = run("cer-fuse compare runs/faces-compare.json --track wandb", code=1)  # there was nothing else to do
    assert "not tracked by wandb" in " ".join(again.stderr.split())


@pytest.mark.parametrize("command", ["cer-fuse train", "cer-fuse compare", "cer-feat finetune -b vit -d x.csv -o out"])
def test_a_tracker_that_is_not_there_is_refused_before_any_work(run, monkeypatch, command, tmp_path):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    said = " ".join(run(f"{command} --track mlflow", code=1).stderr.replace("│", " ").split())
    assert "tracking by mlflow needs the library mlflow, which is not installed pip install mlflow" in said
    assert "there is no tracker 'mlflo'; did you mean 'mlflow'?" in " ".join(
        run(f"{command} --track mlflo", code=2).stderr.replace("│", " ").split()
    )
    assert list(tmp_path.iterdir()) == []
