"""`cer-fuse heads`, and what each setting is said to do."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cer_fusion.commands import fuse
from cer_fusion.fusion.heads import head_names, installed_heads
from cer_fusion.fusion.heads.explained import explained_settings, head_line, measured
from cer_fusion.fusion.keeping.answers import read_predictions


@pytest.mark.parametrize("name", head_names())
def test_every_head_and_every_setting_says_what_it_is(name):
    if name not in installed_heads():
        pytest.skip(f"{name} needs a library that is not installed")
    assert 20 < len(head_line(name)) <= 121
    for setting in explained_settings(name):
        assert len(setting.text) > 10, setting.name


def test_a_setting_is_explained_where_it_is_written_last():
    threads = {name: next(s.text for s in explained_settings(name) if s.name == "threads") for name in ("mlp", "lda")}
    assert "PyTorch" in threads["mlp"]
    assert "PyTorch" not in threads["lda"]


def test_the_heads_are_listed(run):
    told = run("cer-fuse heads").stdout
    assert all(name in told for name in head_names())
    assert {entry["head"] for entry in json.loads(run("cer-fuse heads --json").stdout)["heads"]} == set(head_names())


def test_one_head_tells_its_settings_with_defaults_and_presets(run):
    found = json.loads(run("cer-fuse heads xgboost --json").stdout)
    assert {"name": "depth", "default": 3, "type": "int", "text": "Levels a tree.", "words": []} in found["settings"]
    assert {"fast", "quality"} == set(found["presets"])
    assert "--preset quality" in run("cer-fuse heads xgboost").stdout
    assert "var_smoothing" in run("cer-fuse heads sklearn:sklearn.naive_bayes.GaussianNB").stdout


def test_a_head_that_is_not_there_is_told_with_the_nearest(run):
    assert "did you mean 'mlp'" in run("cer-fuse heads mpl", code=1).stderr


def test_the_list_says_what_was_measured_of_each_head_on_which_rows_and_when(run):
    figures = measured()
    assert set(figures["heads"]) <= set(head_names())
    assert {"mlp", "linear", "late", "xgboost"} <= set(figures["heads"])
    found = json.loads(run("cer-fuse heads --json").stdout)
    assert found["measured_on"]["train_rows"] == 3165
    for entry in found["heads"]:
        once = entry["measured"]
        assert once == figures["heads"].get(entry["head"])
        assert once is None or (0 < once["macro_f1"] < once["accuracy"] < 1 and once["fit_cpu_s"] > 0)
    told = " ".join(run("cer-fuse heads mlp").stdout.split())
    assert f"accuracy {100 * figures['heads']['mlp']['accuracy']:.2f} %" in told
    assert figures["machine"] in told
    assert figures["heads"]["mlp"]["measured"] in told
    assert "Measured" not in run("cer-fuse heads sklearn:sklearn.naive_bayes.GaussianNB").stdout


def trained(head: str, *settings: str, code: int = 0) -> str:
    """Train on `one`; what was said. Settings may hold blanks."""
    words = ["train", "--head", head, "--features", "one", *(word for one in settings for word in ("--set", one))]
    result = CliRunner().invoke(fuse.app, [*words, "-o", f"runs/{head}", "--overwrite"])
    assert result.exit_code == code, result.output
    return " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.parametrize("head", ["linear", "mlp", "ridge", "svm", "stacking"])
def test_a_factor_a_class_goes_by_its_name_and_moves_answers_towards_it(filled, tmp_path, head):
    quick = ["epochs=3", "members=1"] if head == "mlp" else []
    shares = []
    for factor in (0.01, 50):
        trained(head, f'class_weight={{"Sadly Angry": {factor}}}', *quick)
        found = read_predictions(tmp_path / "runs" / head / "predictions.csv")
        shares.append(found.proba[:, found.classes.index("Sadly Angry")].mean())
    assert shares[0] < shares[1]


def test_a_factor_of_what_is_no_class_is_refused_with_the_nearest(filled):
    told = trained("linear", 'class_weight={"Sadly Angri": 2}', code=1)
    assert "class_weight has a factor for class 'Sadly Angri', which is none; did you mean 'Sadly Angry'" in told


def test_defaults_are_shown_as_set_takes_them_and_closed_lists_with_all_their_words(run, filled):
    from cer_fusion.fusion.heads import head_names
    from cer_fusion.fusion.heads.explained import explained_settings

    told = " ".join(run("cer-fuse heads mlp").stdout.replace("│", " ").split())
    assert "One of none, standard, l2, power." in told
    assert not any(python in told for python in ("None", "(256,)", "()", "True", "False"))
    for name in head_names():
        for setting in explained_settings(name):
            assert not setting.words or setting.default is None or setting.default in setting.words, (
                name,
                setting.name,
            )
    for setting in ("hidden=[256]", "threads=null", "curriculum=[]"):
        run(f"cer-fuse train --head mlp --set epochs=1 --set {setting} -o runs/{setting[:5]}")


def test_every_head_for_pictures_has_measured_figures():
    from cer_fusion.fusion.heads import head_names
    from cer_fusion.fusion.heads.explained import measured

    assert set(head_names()) - set(measured()["heads"]) == {"sequence"}
