from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cer_fusion.commands import fuse
from cer_fusion.featstore import Manifest, class_set
from cer_fusion.fusion import Report, Sweep, head_names, read_head_info
from cer_fusion.fusion.keeping.answers import read_predictions

SPLITS = "learning from 28 rows of train, judged on 14 rows of test"


def test_train_without_options_does_the_right_thing_and_says_what_it_chose(run, filled, tmp_path):
    result = run("cer-fuse train --head linear")
    assert "dataset: faces, the only one in features" in result.stderr
    assert "features: one, two, all there are" in result.stderr
    assert SPLITS in result.stderr
    folder = tmp_path / "runs" / "faces-linear"
    kept = {"run.json", "config.json", "environment.json", "metrics.json", "report.json"}
    assert {p.name for p in folder.iterdir()} == kept | {"head", "predictions.csv", "confusion.png"}
    assert len(read_predictions(folder / "predictions.csv").ids) == 14
    assert Report.load(folder / "report.json").columns[0].head == "LinearHead"


def test_learned_weights_are_said_and_kept(run, filled, tmp_path):
    talk = run("cer-fuse train --head weighted --weights learned").stderr
    weights = read_head_info(tmp_path / "runs" / "faces-weighted" / "head").values["weights"]
    assert list(weights) == ["one", "two"]
    assert f"learned weights: one={weights['one']:.3g}, two={weights['two']:.3g}" in talk


def test_any_classifier_of_scikit_learn_is_trained_asked_again_and_compared(run, filled, tmp_path):
    bayes = "sklearn:sklearn.naive_bayes.GaussianNB"
    run(f"cer-fuse train --head {bayes} --set var_smoothing=1e-3")
    folder = tmp_path / "runs" / "faces-GaussianNB"
    assert read_head_info(folder / "head").params["var_smoothing"] == 1e-3
    run(f"cer-fuse predict --head {folder} --split test -o answers.csv")
    assert read_predictions(tmp_path / "answers.csv").ids == read_predictions(folder / "predictions.csv").ids
    assert "GaussianNB" in run(f"cer-fuse compare --heads linear,{bayes} --set {bayes}.var_smoothing=1e-3").stdout
    told = run("cer-fuse train --head sklearn:sklearn.svm.LinearSVC", code=1).stderr
    assert "--head sklearn:sklearn.calibration.CalibratedClassifierCV" in told
    wrapped = "sklearn:sklearn.calibration.CalibratedClassifierCV --set estimator=sklearn:sklearn.svm.LinearSVC"
    run(f"cer-fuse train --head {wrapped} --set cv=2")


def votes_of(dataset: Path, path: Path, split: str = "train", *, certain: float = 0.7) -> Path:
    """Write votes for the samples of a split, every other one: `certain` for the label, the rest for the next class."""
    manifest = Manifest.read(dataset / "manifest.csv")
    names = manifest.classes.labels
    lines = [",".join(["sample_id", *names])]
    for sample in [sample for sample in manifest.samples if sample.split == split][::2]:
        own = names.index(sample.label)
        shares = {own: certain, (own + 1) % len(names): 1 - certain}
        lines.append(",".join([sample.sample_id, *(str(10 * shares.get(i, 0)) for i in range(len(names)))]))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_train_and_compare_learn_from_votes_and_say_who_did(run, filled, tmp_path):
    votes = votes_of(filled / "faces", tmp_path / "votes.csv")
    said = run(f"cer-fuse train --head linear --soft-labels {votes} -o soft").stderr
    assert "14 of 28 rows learn from votes, the others from their label" in said
    run("cer-fuse train --head linear -o hard")
    sure = [read_predictions(tmp_path / run / "predictions.csv").proba.max(axis=1).mean() for run in ("soft", "hard")]
    assert sure[0] < sure[1]
    kept = [json.loads((tmp_path / run / "config.json").read_text())["soft_labels"] for run in ("soft", "hard")]
    assert len(kept[0]) == 64
    assert kept[1] is None
    assert "soft labels, run" in run("cer-fuse compare soft hard").stdout
    for way in ("", " --cv 2"):
        table = " ".join(
            run(f"cer-fuse compare --heads linear,knn --no-singles --soft-labels {votes}{way}").stdout.split()
        )
        assert (
            "linear learned from soft labels: by them 14 of 28 rows are of several classes; knn from one label" in table
        )


def test_votes_that_nobody_learns_from_are_refused(run, filled, tmp_path):
    votes = votes_of(filled / "faces", tmp_path / "votes.csv")
    assert "knn learn from one label a row" in run(f"cer-fuse train --head knn --soft-labels {votes}", code=2).stderr
    other = votes_of(filled / "faces", tmp_path / "other.csv", split="test")
    told = run(f"cer-fuse train --head linear --soft-labels {other}", code=2).stderr
    assert "none of which is learned from" in " ".join(told.split())
    wrong = votes_of(filled / "faces", tmp_path / "wrong.csv", certain=0.2)
    said = run(f"cer-fuse train --head linear --soft-labels {wrong}").stderr
    assert "most votes of 14 are for another class than their label" in " ".join(said.split())


def test_the_help_of_train_names_every_head(run):
    told = run("cer-fuse train --help").stdout
    assert all(name in told for name in head_names())


def test_pictures_that_stand_in_train_and_test_are_announced(run, filled, tmp_path):
    assert "stand in train too" not in run("cer-fuse train --head linear").stderr
    manifest = filled / "faces" / "manifest.csv"
    names = [line.split(",")[1] for line in manifest.read_text().splitlines()[1:]]
    train, test = (next(n for n in names if kind in n) for kind in ("train_", "test_"))
    copied = tmp_path / "faces"
    copied.mkdir()
    root = Manifest.read(tmp_path / "faces.csv").root
    for name in names:
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        (copied / name).write_bytes((root / (train if name == test else name)).read_bytes())
    run("cer-feat import one.npy --names names.txt --as copy --data faces.csv --root faces --store other")
    talk = run("cer-fuse train --head linear --features copy --store other").stderr
    assert "1 pictures of test stand in train too" in talk


def test_a_second_run_gets_a_folder_of_its_own(run, filled, tmp_path):
    for _ in range(2):
        run("cer-fuse train --head linear")
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["faces-linear", "faces-linear-2"]
    assert "exists" in run("cer-fuse train --head linear -o runs/faces-linear", code=2).stderr
    run("cer-fuse train --head linear -o runs/faces-linear --overwrite")


def test_equal_runs_leave_equal_head_files(run, filled, tmp_path):
    for _ in range(2):
        run("cer-fuse train --head mlp --set epochs=2 --set threads=1")
    first, second = (tmp_path / "runs" / name / "head" for name in ("faces-mlp", "faces-mlp-2"))
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in second.iterdir()}


@pytest.mark.parametrize("head", ["linear", "histgb"])
def test_the_number_of_threads_is_a_setting_of_every_head_and_kept_with_it(head, run, filled, tmp_path):
    found = json.loads(run(f"cer-fuse train --head {head} --set threads=2 --json").stdout)
    assert found["params"]["threads"] == 2
    kept = json.loads((tmp_path / "runs" / f"faces-{head}" / "head" / "head.json").read_text())
    assert set(kept["threads"].values()) == {2}


@pytest.mark.parametrize("threads", ["0", "-1", "1.5", "many"])
def test_a_number_of_threads_that_is_none_is_told_in_words(threads, run, filled, tmp_path):
    told = run(f"cer-fuse train --head histgb --set threads={threads}", code=1).stderr
    assert "threads must be a whole number from 1 to 256" in told
    assert not (tmp_path / "runs").exists()


def test_the_papers_recipe_is_a_preset(run, filled):
    found = json.loads(run("cer-fuse train --head mlp --preset paper --set epochs=2 --json").stdout)
    assert (found["params"]["hidden"], found["params"]["lr"], found["params"]["epochs"]) == ([1152], 5e-5, 2)


def test_evaluate_repeats_the_runs_own_figures(run, filled):
    trained = json.loads(run("cer-fuse train --head linear --json").stdout)
    judged = json.loads(run("cer-fuse evaluate --head runs/faces-linear --json").stdout)
    assert judged["accuracy"] == trained["accuracy"]
    assert judged["macro_f1"] == pytest.approx(trained["macro_f1"])
    text = run("cer-fuse evaluate --head runs/faces-linear --split train --figure c.png").stdout
    assert "macro F1" in text


def test_evaluate_takes_the_runs_own_dataset_among_several(run, filled):
    run("cer-fuse train --head linear")
    run("cer-feat import one.npy --names names.txt --as one --data faces.csv --dataset again")
    assert "dataset: faces, as the run's" in run("cer-fuse evaluate --head runs/faces-linear").stderr


@pytest.mark.parametrize("grouped", [False, True])
def test_evaluate_gives_the_intervals_of_the_runs_own_report(run, filled, faces, tmp_path, grouped):
    if grouped:  # two test faces a video: rows are not independent, and both commands must know it
        rows = faces.read_text().splitlines()
        for number, i in enumerate(i for i, row in enumerate(rows) if ",test," in row):
            rows[i] += f"video{number // 2}"
        faces.write_text("\n".join(rows) + "\n")
        run("cer-feat use-manifest faces.csv")
    run("cer-fuse train --head linear --features one")
    column = Report.load(tmp_path / "runs" / "faces-linear" / "report.json").columns[0]
    judged = json.loads(run("cer-fuse evaluate --head runs/faces-linear --json").stdout)
    assert judged["accuracy_interval"] == pytest.approx([column.accuracy.low, column.accuracy.high])
    assert judged["macro_f1_interval"] == pytest.approx([column.macro_f1.low, column.macro_f1.high])
    assert ("jackknife over groups" in run("cer-fuse evaluate --head runs/faces-linear").stdout) == grouped


def test_predict_answers_every_sample(run, filled, tmp_path):
    run("cer-fuse train --head linear --features two")
    run("cer-fuse predict --head runs/faces-linear -o p.csv")
    found = read_predictions(tmp_path / "p.csv")
    assert found.proba.shape == (42, 7)
    assert run("cer-fuse predict --head runs/faces-linear --split test").stdout.count("\n") == 15


def test_a_head_refuses_features_it_did_not_learn_from(run, filled, tmp_path):
    import numpy as np

    run("cer-fuse train --head linear --features two")
    shutil_rows = np.load(tmp_path / "two.npy") + 1
    for folder in filled.glob("faces/two@*"):
        folder.rename(tmp_path / folder.name)
    np.save(tmp_path / "other.npy", shutil_rows)
    run("cer-feat import other.npy --names names.txt --as two --data faces.csv")
    result = run("cer-fuse evaluate --head runs/faces-linear", code=1)
    assert "has no two@" in result.stderr
    assert "it has two@" in result.stderr


@pytest.mark.parametrize("format", ["table", "markdown", "latex", "csv", "json"])
def test_compare_prints_the_papers_table_in_every_format(run, filled, format):
    text = run(f"cer-fuse compare --heads linear,late --format {format}").stdout
    for word in ("linear", "late", "one", "two", "Fearfully Surprised", "Macro F1"):
        assert word in text
    if format == "json":
        json.loads(text)
    if format == "latex":
        assert r"\toprule" in text


def test_compare_and_ablate_draw_without_being_asked_and_not_when_told_so(run, filled, tmp_path):
    run("cer-fuse compare --heads ncm --figure none --output none")
    assert not (tmp_path / "runs").exists()
    run("cer-fuse compare --heads ncm")
    run("cer-fuse ablate --simplex one,two:0.5 --folds 2")
    there = ["faces-ablate.png", "faces-compare.json", "faces-compare.png"]
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == there


def test_every_comparison_is_kept_and_printed_again_without_a_fit(run, filled, tmp_path, monkeypatch):
    command = "cer-fuse compare --heads ncm,ridge --baseline ncm --metrics uar"
    first = run(command)
    assert "kept runs/faces-compare.json" in first.stderr
    run(command.replace("ridge", "lda"))
    files = {path.name: path.read_bytes() for path in (tmp_path / "runs").iterdir()}
    assert sorted(files) == [f"faces-compare{number}{end}" for number in ("-2", "") for end in (".json", ".png")]

    def fitted(*_: object, **__: object) -> None:
        raise AssertionError("nothing is fitted")

    monkeypatch.setattr("cer_fusion.fusion.compare", fitted)
    assert run("cer-fuse compare runs/faces-compare.json").stdout == first.stdout
    assert r"\toprule" in run("cer-fuse compare runs/faces-compare.json --format latex").stdout
    assert {path.name: path.read_bytes() for path in (tmp_path / "runs").iterdir()} == files
    run("cer-fuse compare runs/faces-compare.json --figure again.pdf")
    assert (tmp_path / "again.pdf").exists()
    refused = run("cer-fuse compare runs/faces-compare.json --baseline ridge", code=2).stderr
    assert "as it was judged" in " ".join(refused.replace("│", " ").split())
    assert "runs/none.json is missing" in run("cer-fuse compare runs/none.json", code=1).stderr


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_fitted(run, filled, tmp_path, monkeypatch):
    (tmp_path / "runs").write_text("a file stands where results would be kept")
    for command in ("compare --heads ncm", "ablate --simplex one,two:0.5", "diagnose"):
        refused = run(f"cer-fuse {command}", code=2)
        assert "is no folder" in " ".join(refused.stderr.replace("│", " ").split())
        assert "learning from" not in refused.stderr


def test_compare_keeps_the_report_and_draws_the_matrices(run, filled, tmp_path):
    run("cer-fuse compare --heads linear --no-singles --set linear.C=0.1 --figure c.pdf -o r.json --baseline linear")
    assert Report.load(tmp_path / "r.json").columns[0].params["C"] == 0.1
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")


def test_ablate_sweeps_decision_weights_and_draws_them(run, filled, tmp_path):
    result = run("cer-fuse ablate --weights one=0:1:0.25,two=1- --figure s.png -o s.json --folds 3")
    assert "5 weight vectors" in result.stderr
    assert "chosen" in result.stdout
    assert (tmp_path / "s.png").stat().st_size > 10_000
    run("cer-fuse ablate --simplex one,two:0.5 --folds 2")


def test_ablate_draws_weights_a_class_beside_the_grid_and_judges_the_choice_by_the_held_out_rows(run, filled, tmp_path):
    result = run("cer-fuse ablate --simplex one,two:1 --per-class 40 --figure s.png -o s.json --folds 2 --explain")
    talk = " ".join(result.stdout.split())
    assert "a weight a block and class, 40 drawn" in talk
    assert "against the best vector that all classes share" in talk
    assert "42 weight vectors" in result.stderr
    found = Sweep.load(tmp_path / "s.json")
    assert found.chosen >= found.shared == 2
    first = found.vector(found.chosen)["one"][found.classes[0]]
    assert f"{found.classes[0]}: one={first:.3g}" in result.stderr
    assert (tmp_path / "s.png").stat().st_size > 1000


def test_weights_a_class_are_given_by_the_names_of_the_classes_or_chosen_and_said(run, filled):
    labels = class_set("abaw7").labels
    given = json.dumps({"one": dict.fromkeys(labels, 1), "two": dict.fromkeys(labels, 3)})
    train = ["train", "--head", "late", "--set"]
    by_class = CliRunner().invoke(fuse.app, [*train, f"weights={given}", "--json"])
    shared = run("cer-fuse train --head late --weights one=1,two=3 --json")
    assert json.loads(by_class.stdout)["macro_f1"] == json.loads(shared.stdout)["macro_f1"]
    talk = " ".join(run("cer-fuse train --head late --weights learned_per_class").stderr.split())
    assert "learned per class weights" in talk
    assert all(f"{label}: one=" in talk for label in labels)
    refused = CliRunner().invoke(fuse.app, [*train, f"weights={given.replace(labels[0], 'Fearfuly Surprised', 1)}"])
    assert refused.exit_code == 1
    few = given.replace(f', "{labels[-1]}": 1', "", 1)
    short = CliRunner().invoke(fuse.app, [*train, f"weights={few}"])
    assert f"block 'one' has no weight for class '{labels[-1]}'" in " ".join(short.stderr.split())
    assert "did you mean 'Fearfully Surprised'" in " ".join(refused.stderr.replace("│", " ").split())


def test_ablate_sweeps_block_weights_too(run, filled):
    text = run(
        "cer-fuse ablate --head weighted --set mode=sum --weights one=0:1:0.5,two=1- --folds 2 --format csv"
    ).stdout
    assert len(text.splitlines()) >= 4


@pytest.mark.parametrize("top", ["linear", "ridge"])
def test_ablate_crosses_weights_with_penalties_and_seeds_in_one_job(run, filled, tmp_path, top):
    command = (
        f"cer-fuse ablate --head weighted --set head={top} --simplex one,two:0.25 --C 0.1,1,10 --seeds 2 --folds 2"
    )
    result = run(f"{command} --figure none -o s.json")
    assert "5 weight vectors" in result.stderr
    kept = Sweep.load(tmp_path / "s.json")
    assert kept.C == (0.1, 1.0, 10.0)
    assert kept.penalty_macro_f1.shape == (3, 5)
    assert kept.seeds == (0, 1)


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("cer-fuse train --head mpl", 1, "did you mean 'mlp'"),
        ("cer-fuse train --features three", 1, "no feature 'three'"),
        ("cer-fuse train --set hiden=[3]", 1, "did you mean 'hidden'"),
        ("cer-fuse train --test-split holdout", 2, "no labelled sample in split 'holdout'"),
        ("cer-fuse train --preset best", 2, "its presets: paper"),
        ("cer-fuse train --head linear --preset fast", 2, "it has none"),
        ("cer-fuse train --head late --weights 0.6/0.4", 1, "0.6/0.4"),
        ("cer-fuse compare --format word", 2, "'word' is not one of"),
        ("cer-fuse compare --heads linear,lda --set C=1", 2, "HEAD.key=value"),
        ("cer-fuse ablate", 2, "either --weights or --simplex"),
        ("cer-fuse ablate --simplex one,two:0.5 --folds 40", 1, "40"),
        ("cer-fuse ablate --head weighted --simplex one,two:0.5 --per-class 9", 1, "sweep them with head 'late'"),
        ("cer-fuse ablate --head xgboost --weights one=0:1:0.5,two=1-", 1, "weights"),
        ("cer-fuse ablate --weights one=0:1:0.5,three=1-", 1, "three"),
        ("cer-fuse ablate --simplex one,two:0.5 --C 1,x", 2, "expected numbers"),
        ("cer-fuse ablate --simplex one,two:0.5 --C 0", 1, "finite, positive"),
        ("cer-fuse evaluate --head runs/none", 1, "runs/none"),
        ("cer-fuse train --missing sometimes", 2, "'sometimes' is not one of"),
    ],
)
def test_mistakes_are_told_in_words_with_an_exit_status(run, filled, command, code, message):
    result = run(command, code=code)
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_a_dataset_without_a_test_split_is_told_how_to_get_one(run, filled, faces):
    faces.write_text(faces.read_text().replace(",test,", ",train,"))
    run("cer-feat use-manifest faces.csv")
    assert "--hold-out 0.2" in " ".join(run("cer-fuse train", code=2).stderr.replace("│", " ").split())


def test_samples_without_a_label_are_left_out_aloud(run, filled, faces):
    faces.write_text(faces.read_text().replace("Sadly Angry,test", ",test"))
    run("cer-feat use-manifest faces.csv")
    result = run("cer-fuse train --head linear")
    assert "2 samples of split test have no label and are left out" in result.stderr


def test_a_half_finished_feature_is_refused_unless_dropping_is_asked_for(run, filled, tmp_path):
    import numpy as np

    np.save(tmp_path / "part.npy", np.load(tmp_path / "one.npy")[:30])
    names = (tmp_path / "names.txt").read_text().splitlines()[:30]
    (tmp_path / "few.txt").write_text("\n".join(names))
    run("cer-feat import part.npy --names few.txt --as part --data faces.csv")
    assert "12 of 42 samples have no row" in run("cer-fuse train --head linear --features part", code=1).stderr
    run("cer-fuse train --head linear --features part --missing drop")


def test_help_lists_every_head(run):
    from cer_fusion.fusion import head_names

    words = run("cer-fuse train --help").stdout.replace("│", " ").split()
    assert {f"{name}," for name in head_names()[:-1]} <= set(words)


def test_a_preset_is_advice_that_settings_go_before(run, filled):
    found = json.loads(run("cer-fuse train --head xgboost --preset quality --set trees=3 --json").stdout)
    assert (found["params"]["trees"], found["params"]["lr"]) == (3, 0.05)


def test_decision_weights_may_be_learned(run, filled):
    params = [json.loads(run(f"cer-fuse train --head late {way} --json").stdout)["params"] for way in WAYS]
    assert params[0]["weights"] == params[1]["weights"] == "learned"


WAYS = ("--weights learned", "--set weights=learned --set member=ncm")


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_rows_beyond_the_memory_allowed_are_read_piece_by_piece(run, filled, tmp_path, head):
    result = run(f"cer-fuse train --head {head} --memory 1kB --json -o pieces")
    assert "rows are read from the store piece by piece" in result.stderr
    evaluated = json.loads(run("cer-fuse evaluate --head pieces --json").stdout)
    assert evaluated["accuracy"] == json.loads(result.stdout)["accuracy"]
    assert "piece by piece" not in run(f"cer-fuse train --head {head} -o whole").stderr
    pieces, whole = (read_predictions(tmp_path / name / "predictions.csv").proba for name in ("pieces", "whole"))
    assert abs(pieces - whole).max() < (0.01 if head == "linear" else 0.3)


def test_a_head_that_needs_all_rows_at_once_says_so(run, filled):
    result = run("cer-fuse train --head xgboost --memory 1kB", code=1)
    assert "linear" in result.stderr
    assert "mlp" in result.stderr


@pytest.mark.parametrize("size", ["lots", "-1GB", "1 EB", ""])
def test_a_size_that_is_none_is_refused(run, filled, size):
    assert "expected a size such as 2GB" in run(f"cer-fuse train --memory={size.replace(' ', '')}", code=2).output


def test_compare_cross_validates_the_training_split_and_says_so(run, filled, tmp_path):
    result = run("cer-fuse compare --heads linear --cv 3 --repeats 2 --figure none -o cv.json")
    assert "cross-validating on 28 rows of train, of 'train', 'test'" in result.stderr
    assert "Heads compared on 28 train rows, 3 folds" in result.stdout
    report = Report.load(tmp_path / "cv.json")
    assert (report.folds, len(report.ids)) == (3, 28)
    assert [len(column.other_runs) for column in report.columns] == [1, 1, 1]


def test_a_dataset_of_one_split_is_cross_validated_whole_and_repeated_pictures_stay_together(run, filled, faces):
    from PIL import Image

    root = faces.parent / "one" / "faces"
    for label in ("happy", "sad"):
        (root / label).mkdir(parents=True)
        for i in range(6):
            shade = 20 * (i - i % 2) + (label == "sad")  # each picture stands there twice
            Image.new("L", (8, 8), shade).save(root / label / f"{i}.png")
    run(f"cer-feat manifest folder {root} -o few.csv --repeats ignore")
    ids = Manifest.read("few.csv").ids
    Path("few.txt").write_text("\n".join(ids))
    np.save("few.npy", np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32))
    run("cer-feat import few.npy --names few.txt --as few --data few.csv")
    result = run("cer-fuse compare --heads linear --data few --cv 2 --figure none")
    assert "cross-validating on 12 rows of" in result.stderr
    assert "the only split" in result.stderr
    assert "6 rows repeat a picture" in result.stderr
    assert "12 rows in 6 groups, none of them cut" in result.stdout


def test_compare_keeps_near_duplicates_in_one_fold(run, filled, tmp_path):
    names = Manifest.read("faces.csv").ids
    rows = np.eye(7)[np.arange(len(names)) % 7] @ np.ones((7, 12)) + np.random.default_rng(1).normal(
        size=(len(names), 12)
    )
    train = [i for i, sample in enumerate(Manifest.read("faces.csv").samples) if sample.split == "train"]
    rows[train[1]] = rows[train[0]]  # one pair of twins
    np.save("twins.npy", rows.astype(np.float32))
    run("cer-feat import twins.npy --names names.txt --as twins --data faces.csv")
    result = run("cer-fuse compare --heads linear --features twins --cv 2 --near 0.999 --figure none")
    assert "2 rows have a near-duplicate (cosine 0.999 or more)" in result.stderr
    assert "28 rows in 27 groups, none of them cut" in result.stdout


@pytest.mark.parametrize(
    "command",
    [
        "compare --heads linear --features twins --figure none",
        "compare --heads linear --features twins --cv 2 --figure none",
        "ablate --head late --simplex twins,two:0.5 --folds 2 --figure none",
        "diagnose --head linear --features twins --figure none",
        "diagnose --head linear --features twins --cv 2 --figure none",
        "report --heads linear --features twins --no-diagnose -o page.html",
        "train --head linear --features twins",
        "evaluate --head runs/faces-linear --split train",
    ],
)
def test_near_ties_faces_into_groups_in_every_command_that_folds_or_judges(run, filled, tmp_path, command):
    manifest = Manifest.read("faces.csv")
    rows = np.random.default_rng(1).normal(size=(len(manifest), 40)) + 0.3 * np.eye(7)[manifest.y] @ np.ones((7, 40))
    for split in ("train", "test"):
        first, second, *_ = [i for i, sample in enumerate(manifest.samples) if sample.split == split]
        rows[second] = rows[first]
    np.save("twins.npy", rows.astype(np.float32))
    run("cer-feat import twins.npy --names names.txt --as twins --data faces.csv")
    near = "--near 0.9"
    if command.startswith("evaluate"):
        run("cer-fuse train --head linear --features twins")
    if command.startswith("ablate"):
        np.save("two.npy", np.load("twins.npy"))
        command = command.replace("twins,two", "twins,again")
        run("cer-feat import twins.npy --names names.txt --as again --data faces.csv")
    told = run(f"cer-fuse {command} {near}").stderr
    assert told.count("2 rows have a near-duplicate (cosine 0.9 or more): they are one group") >= 1
    if "--cv" not in command and not command.startswith("evaluate"):
        assert told.count("they are one group") == 2  # a pair among the training rows, and one among the test rows


def test_compare_tells_the_spread_over_seeds_and_writes_the_intervals_of_classes(run, filled):
    text = run(
        "cer-fuse compare --heads histgb --no-singles --seeds 2 --class-intervals --explain --figure none"
    ).stdout
    assert "Macro F1, ± (points)" in text
    assert "with Wilson's intervals" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--repeats 2", "give --cv 5 as well"),
        ("--near -1", "more than the 10 that are told apart"),
        ("--cv 3 --near -1", "more than the 10 that are told apart"),
        ("--cv 3 --seeds 2", "use --repeats"),
        ("--cv 3 --test-split test", "fold by fold"),
        ("--cv 3 --train-split nowhere", "no labelled sample in split 'nowhere'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, filled, options, message, monkeypatch):
    monkeypatch.setattr("cer_fusion.fusion.judging.measures.MOST_PAIRS", 10)
    assert message in " ".join(
        run(f"cer-fuse compare --heads linear {options}", code=2).stderr.replace("│", "").split()
    )


def test_the_notes_are_short_unless_they_are_to_explain(run, filled):
    command = "cer-fuse compare --heads ncm,ridge --no-singles --figure none"
    brief, full = (run(f"{command}{more}").stdout for more in ("", " --explain"))
    assert "--explain says how these figures are made." in brief
    assert "Judge it on rows that had no part in the choice." not in brief
    assert "Judge it on rows that had no part in the choice." in full
    assert "--explain" not in full
    assert "--explain" in run(f"{command} --format csv --explain", code=2).stderr


def test_further_metrics_are_rows_of_every_table_of_heads(run, filled, tmp_path):
    asked = "--metrics uar,weighted-f1,f1"
    text = run(f"cer-fuse train --head ncm --features one -o kept {asked}").stdout
    again = run(f"cer-fuse compare kept --figure none {asked}").stdout
    for row in ("UAR (%)", "Weighted F1 (%)", "F1 Fearfully Surprised (%)"):
        assert [line for line in text.splitlines() if row in line] == [
            line for line in again.splitlines() if row in line
        ]
        assert row in text
    judged = json.loads(run(f"cer-fuse evaluate --head kept {asked} --json").stdout)
    assert f"{100 * judged['metrics']['uar']['value']:.2f} [" in text
    shown = run(f"cer-fuse evaluate --head kept {asked}").stdout
    assert "weighted F1" in shown
    assert "UAR" in shown
    refused = run("cer-fuse compare --heads ncm --metrics uars --figure none", code=2).stderr
    assert "did you mean 'uar'" in " ".join(refused.replace("│", " ").split())


def test_evaluate_names_the_classes_that_it_could_not_judge():
    from cer_fusion.commands.fuse.evaluate import _lacking
    from cer_fusion.fusion import scores

    assert _lacking(scores([0, 1], [0, 1], ("a", "b"))) == ()
    [told] = _lacking(scores([0, 1], [0, 1], ("a", "b", "c")))
    assert told == "No row of c: each counts as 0 in macro F1; over the classes with rows it is 100.00 %."


@pytest.mark.parametrize(
    ("head", "setting", "code", "message"),
    [
        ("linear", "C=abc", 1, "C must be a number, got 'abc'"),
        ("linear", "max_iter=-1", 1, "max_iter must be a whole number of at least 1, got -1"),
        ("linear", "C=true", 1, "C must be a number, got True"),
        ("linear", "random_state=1", 2, "random_state is chosen with --seed"),
        ("linear", "blocks=one", 2, "blocks are those of --features"),
        ("lda", "calibrate=abc", 1, "calibrate must be true or false, got 'abc'"),
        ("late", "member=-1", 1, "member must be a name or settings"),
        ("weighted", "head_params=abc", 1, "head_params must be settings"),
        ("histgb", "leaves=abc", 1, "leaves must be a whole number, got 'abc'"),
        ("histgb", "l2=-1", 1, "a setting of head 'histgb' is out of its range"),
        ("mlp", "lr=abc", 1, "lr must be a number, got 'abc'"),
        ("gated", "dropout=abc", 1, "dropout must be a number, got 'abc'"),
    ],
)
def test_a_setting_of_another_kind_is_told_in_a_line(run, filled, head, setting, code, message):
    result = run(f"cer-fuse train -f one,two --head {head} --set {setting}", code=code)
    assert message in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("setting", ["trees=-1", "depth=-1", "row_share=-1", "trees=abc"])
def test_what_xgboost_refuses_is_told_in_a_line(run, filled, setting):
    pytest.importorskip("xgboost")
    assert "error: " in run(f"cer-fuse train -f one,two --head xgboost --set {setting}", code=1).stderr
