"""What the boosted heads share: presets, libraries that are extras, trees copied out of them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from cer_fusion.fusion import HeadConfigError, head_names, make_head
from cer_fusion.fusion.heads import head_presets, installed_heads
from cer_fusion.fusion.heads.trees import SymmetricTrees
from cer_fusion.kit.errors import MissingExtraError

BOOSTED = ["xgboost", "lightgbm", "catboost"]
with_catboost = pytest.mark.skipif("catboost" not in installed_heads(), reason="catboost is not installed")


def head_of(name: str, **params):
    if name not in installed_heads():
        pytest.skip(f"the library of the head {name!r} is not installed")
    return make_head(name, **params)


@pytest.mark.parametrize("name", BOOSTED)
def test_presets_are_settings_and_the_fast_one_is_the_default(name):
    plain, fast, quality = head_of(name), head_of(name, preset="fast"), head_of(name, preset="quality")
    assert fast.get_params() == plain.get_params()
    assert quality.trees > fast.trees
    assert make_head(name, preset="quality", trees=7).trees == 7
    assert set(head_presets(name)) == {"fast", "quality"}


def test_the_papers_settings_are_a_preset_of_the_mlp():
    assert make_head("mlp", preset="paper").hidden == (1152,)
    with pytest.raises(HeadConfigError, match="no preset 'papers'; did you mean 'paper'"):
        make_head("mlp", preset="papers")
    with pytest.raises(HeadConfigError, match="no preset 'fast'; there are none yet"):
        make_head("linear", preset="fast")


@pytest.mark.parametrize("name", ["lightgbm", "catboost"])
def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(name, faces, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "cer_fusion.fusion.heads.boosted", raising=False)
    with pytest.raises(MissingExtraError, match=rf"pip install 'cer-fusion\[{name}\]'"):
        make_head(name).fit(faces.X, faces.y)


def test_all_heads_but_those_of_extras_are_always_there():
    assert set(head_names()) - set(installed_heads()) <= {"lightgbm", "catboost"}


@pytest.mark.parametrize("name", ["lightgbm", "catboost"])
@pytest.mark.parametrize("threads", [0, -1, 10**9, "2"])
def test_a_number_of_threads_that_is_none_is_refused(name, threads, faces):
    with pytest.raises(HeadConfigError, match="threads must be"):
        head_of(name, threads=threads).fit(faces.X, faces.y)


@with_catboost
@pytest.mark.parametrize("k", [2, 4])
def test_copied_trees_answer_as_catboosts_own(k, faces, more_faces):
    import catboost

    from cer_fusion.fusion.heads.boosted import as_json

    settings = {"loss_function": "MultiClass", "iterations": 12, "depth": 3, "thread_count": 1}
    model = catboost.CatBoost({**settings, "allow_writing_files": False})
    model.fit(catboost.Pool(faces.X, label=faces.y % k), silent=True)
    document = as_json(model)
    scale, bias = document["scale_and_bias"]
    scores = scale * SymmetricTrees.of(document, k).scores(more_faces.X) + np.array(bias)
    expected = model.predict(more_faces.X, prediction_type="RawFormulaVal")
    np.testing.assert_allclose(scores, expected, atol=1e-12)


def small_trees() -> SymmetricTrees:
    """Two trees over three columns, the second of one level only."""
    return SymmetricTrees(
        feature=np.array([[0, 2], [1, 0]], np.int32),
        border=np.array([[0.5, 0.0], [1.0, np.inf]], np.float32),
        value=np.arange(16, dtype=np.float64).reshape(2, 4, 2),
    )


def test_a_rows_leaf_is_read_off_its_answers():
    scores = small_trees().scores(np.array([[1, 0, 1], [0, 2, 1], [0, 0, 0]], np.float32))
    np.testing.assert_array_equal(scores, [[6 + 8, 7 + 9], [4 + 10, 5 + 11], [0 + 8, 1 + 9]])


def test_trees_come_back_as_they_were():
    again = SymmetricTrees.restored(small_trees().state(), columns=3, k=2)
    np.testing.assert_array_equal(again.border, small_trees().border)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("feature", lambda a: a + 1),
        ("feature", lambda a: -a),
        ("feature", lambda a: a.astype(np.int64)),
        ("border", lambda a: a[:, :1]),
        ("border", lambda a: a * np.nan),
        ("value", lambda a: a[:, :3]),
        ("value", lambda a: a * np.inf),
        ("levels", lambda a: a[:1]),
    ],
)
def test_arrays_that_are_no_trees_are_refused(name, change):
    arrays = small_trees().state()
    with np.errstate(invalid="ignore"):
        arrays[f"trees.{name}"] = change(arrays[f"trees.{name}"])
    with pytest.raises(ValueError, match="trees"):
        SymmetricTrees.restored(arrays, columns=3, k=2)
