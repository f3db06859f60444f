"""Classifiers of scikit-learn as heads: its answers, kept by skops, nothing imported or made that was not asked for."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import SkipTest, estimator_checks_generator

from cer_fusion.fusion import (
    HeadConfigError,
    HeadMismatchError,
    Rows,
    SavedHeadError,
    UnknownHeadError,
    compare,
    load_head,
    make_head,
    save_head,
)
from cer_fusion.fusion.heads import head_settings
from cer_fusion.fusion.heads.estimators import FILE, estimator_head
from tests.fusion.heads.conftest import CLASSES
from tests.fusion.heads.test_every_head import is_excused
from tests.fusion.keeping.test_saved import resealed

BAYES = "sklearn:sklearn.naive_bayes.GaussianNB"
FOREST = "sklearn:sklearn.ensemble.RandomForestClassifier"
LOGISTIC = "sklearn:sklearn.linear_model.LogisticRegression"
CALIBRATED = "sklearn:sklearn.calibration.CalibratedClassifierCV"
PRINTS = {"vit": "ab", "manet": "cd"}
KEPT = {
    BAYES: {"var_smoothing": 1e-6},
    FOREST: {"n_estimators": 5},
    LOGISTIC: {"class_weight": {0: 2.0}, "standardize": "power"},
    CALIBRATED: {"estimator": "sklearn:sklearn.svm.LinearSVC"},
    "sklearn:sklearn.ensemble.HistGradientBoostingClassifier": {"max_iter": 3},
    "sklearn:sklearn.neighbors.KNeighborsClassifier": {"algorithm": "brute"},
    "sklearn:sklearn.discriminant_analysis.LinearDiscriminantAnalysis": {},
    "sklearn:sklearn.gaussian_process.GaussianProcessClassifier": {},
    "sklearn:sklearn.neural_network.MLPClassifier": {"max_iter": 400, "hidden_layer_sizes": (8,), "tol": 0.05},
    "sklearn:sklearn.ensemble.VotingClassifier": {"estimators": (("a", BAYES), ("b", LOGISTIC)), "voting": "soft"},
    "sklearn:sklearn.ensemble.StackingClassifier": {"estimators": (("a", BAYES), ("b", LOGISTIC))},
    "sklearn:sklearn.multiclass.OneVsRestClassifier": {"estimator": {LOGISTIC: {"C": 0.5}}},
}


def forged(folder: Path, data: bytes) -> None:
    """Put an estimator in the place of the kept one, with the digests that it must have."""
    (folder / FILE).write_bytes(data)
    info = json.loads((folder / "head.json").read_bytes())
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    resealed(folder, files={**info["files"], FILE: entry})


def edited(data: bytes, change) -> bytes:
    """The file with its schema changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            new.writestr(name, change(text.decode()) if name == "schema.json" else text)
    return out.getvalue()


@pytest.fixture
def kept(faces, tmp_path):
    head = make_head(BAYES, blocks=faces.widths).fit(faces.X, faces.y)
    save_head(head, tmp_path / "head", fingerprints=PRINTS, class_set=CLASSES)
    return tmp_path / "head"


def test_a_classifier_of_scikit_learn_answers_as_it_does_alone(faces):
    found = make_head(BAYES, var_smoothing=1e-3).fit(faces.X, faces.names).predict_proba(faces.X)
    np.testing.assert_array_equal(found, GaussianNB(var_smoothing=1e-3).fit(faces.X, faces.y).predict_proba(faces.X)[
        :, [CLASSES.index(name) for name in sorted(CLASSES)]
    ])  # fmt: skip
    found = make_head(FOREST, n_estimators=4, random_state=3, threads=2).fit(faces.X, faces.y).predict_proba(faces.X)
    alone = RandomForestClassifier(n_estimators=4, random_state=3).fit(faces.X, faces.y)
    np.testing.assert_array_equal(found, alone.predict_proba(faces.X))


@pytest.mark.parametrize("name", KEPT)
def test_it_is_kept_and_answers_as_before_in_equal_bytes(name, faces, tmp_path):
    for number in range(2):
        head = make_head(name, blocks=faces.widths, **KEPT[name]).fit(faces.X, faces.y)
        save_head(head, tmp_path / str(number), fingerprints=PRINTS)
    loaded = load_head(tmp_path / "0", blocks=faces.widths, fingerprints=PRINTS)
    np.testing.assert_array_equal(loaded.predict_proba(faces.X), head.predict_proba(faces.X))
    assert loaded.get_params() == {**head.get_params(), "random_state": head.seed_}
    for path in (tmp_path / "0").iterdir():
        assert path.read_bytes() == (tmp_path / "1" / path.name).read_bytes(), path.name


def test_it_is_bound_to_blocks_features_and_class_order(kept):
    for asked in ({"blocks": {"vit": 28}}, {"fingerprints": {**PRINTS, "vit": "ff"}}, {"classes": CLASSES[::-1]}):
        with pytest.raises(HeadMismatchError):
            load_head(kept, **asked)


def test_it_is_compared_with_other_heads_and_can_be_a_member_of_one(faces, more_faces, tmp_path):
    train, test = (Rows(blocks=one.blocks, y=one.y, classes=CLASSES) for one in (faces, more_faces))
    heads = {"nb": make_head(BAYES), "late": make_head("late", member=BAYES, calibrate=False)}
    report = compare(heads, train, test, singles=False, resamples=20)
    assert [column.name for column in report.columns] == ["nb", "late"]
    late = report.columns[1].fitted
    save_head(late, tmp_path / "late", fingerprints=PRINTS)
    np.testing.assert_array_equal(load_head(tmp_path / "late").predict_proba(test.x()), late.predict_proba(test.x()))


@pytest.mark.filterwarnings("ignore:Skipping check:sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize("name", [BAYES, LOGISTIC])
def test_scikit_learns_own_checks_pass(name):
    """But for weights (`is_excused`): columns are float32 here."""
    for estimator, check in estimator_checks_generator(make_head(name)):
        if not is_excused(estimator, check.func.__name__):
            with contextlib.suppress(SkipTest):
                check(estimator)


def test_its_settings_are_those_of_the_classifier_and_of_all_heads():
    assert head_settings(BAYES) == ("priors", "var_smoothing", "standardize", "threads", "random_state")
    with pytest.raises(HeadConfigError, match=r"no setting 'var_smoothin'; did you mean 'var_smoothing'"):
        make_head(BAYES, var_smoothin=1)
    with pytest.raises(HeadConfigError, match="out of its range"):
        make_head(BAYES, var_smoothing=-1).fit(np.eye(4), [0, 1, 0, 1])


@pytest.mark.parametrize(
    "name", ["svm.LinearSVC", "linear_model.RidgeClassifier", "svm.SVC", "linear_model.SGDClassifier"]
)
def test_a_classifier_without_probabilities_is_refused_with_advice(name, faces):
    with pytest.raises(HeadConfigError, match=rf"no probabilities(.|\n)*CalibratedClassifierCV.*estimator=.*{name}"):
        make_head(f"sklearn:sklearn.{name}").fit(faces.X, faces.y)


def test_the_advice_is_followed_by_naming_the_classifier(faces):
    advised = make_head(CALIBRATED, estimator={"sklearn:sklearn.svm.LinearSVC": {"C": 0.3}}).fit(faces.X, faces.y)
    alone = CalibratedClassifierCV(LinearSVC(C=0.3, random_state=0)).fit(faces.X, faces.y)
    np.testing.assert_array_equal(advised.predict_proba(faces.X), alone.predict_proba(faces.X))


@pytest.mark.parametrize(
    "name",
    [
        "sklearn:os.system", "sklearn:sklearn.os.System", "sklearn:sklearn.tests.Nasty", "sklearn:evil.Head",
        "sklearn:", "sklearn:sklearn.svm.LinearSVR", "sklearn:sklearn.naive_bayes._BaseNB",
        "sklearn:sklearn.utils._bunch.Bunch",
        "sklearn:sklearn.naive_bayes.GaussianBN",
    ],
)  # fmt: skip
def test_what_is_no_classifier_of_scikit_learn_is_refused_and_not_imported(name, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownHeadError):
        make_head(name)
    assert "evil" not in sys.modules


def test_a_kept_file_imports_nothing_and_makes_nothing_that_is_not_trusted(kept, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    resealed(kept, head="sklearn:evil.Head")
    with pytest.raises(SavedHeadError):
        load_head(kept)
    resealed(kept, head=BAYES)
    data = (kept / FILE).read_bytes()
    for module, word in (("evil", "evil.GaussianNB"), ("os", "os.GaussianNB"), ("sklearn.utils", "GaussianNB")):
        forged(kept, edited(data, lambda text, m=module: text.replace('"sklearn.naive_bayes"', f'"{m}"')))
        with pytest.raises(SavedHeadError, match=word):
            load_head(kept)
    for command in (os.system, subprocess.Popen, eval):
        forged(kept, skops.io.dumps({"run": command}))
        with pytest.raises(SavedHeadError, match="not trusted"):
            load_head(kept)
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    "what", ["other estimator", "other classes", "other columns", "bomb", "deep", "no zip", "loop"]
)
def test_a_forged_estimator_is_refused_even_with_a_matching_digest(what, kept, faces):
    out = io.BytesIO()
    if what == "other estimator":
        data = skops.io.dumps(LinearSVC().fit(faces.X, faces.y))
    elif what == "other classes":
        data = skops.io.dumps(GaussianNB().fit(faces.X, faces.y + 1))
    elif what == "other columns":
        data = skops.io.dumps(GaussianNB().fit(faces.X[:, :3], faces.y))
    elif what == "loop":
        forest = RandomForestClassifier(n_estimators=1).fit(faces.X, faces.y)
        with zipfile.ZipFile(io.BytesIO(skops.io.dumps(forest))) as old, zipfile.ZipFile(out, "w") as new:
            for name in old.namelist():
                part = old.read(name)
                if name.endswith(".npy") and "left_child" in (np.load(io.BytesIO(part)).dtype.names or ()):
                    nodes = np.load(io.BytesIO(part))
                    nodes["left_child"][0] = 10**6
                    np.save(again := io.BytesIO(), nodes)
                    part = again.getvalue()
                new.writestr(name, part)
        data = out.getvalue()
    elif what in ("bomb", "deep"):
        text = b"[" * 100_000 if what == "deep" else b" " * 10**8
        kind = zipfile.ZIP_STORED if what == "deep" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(out, "w", kind) as whole:
            whole.writestr("schema.json", text)
        data = out.getvalue()
    else:
        data = b"PK\x03\x04" + b"\xff" * 100
    forged(kept, data)
    with pytest.raises(SavedHeadError):
        load_head(kept)


def test_a_class_is_made_once_a_name():
    assert estimator_head(BAYES) is estimator_head(BAYES)
    assert estimator_head(BAYES).name == BAYES
