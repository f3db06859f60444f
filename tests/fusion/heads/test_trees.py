from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from cer_fusion.fusion import HeadConfigError, make_head
from cer_fusion.fusion.heads.scaling import BlockPCA
from cer_fusion.fusion.heads.trees import Trees


@pytest.mark.parametrize("k", [2, 4])
def test_copied_trees_answer_as_scikit_learns_own(k, faces, more_faces):
    y = faces.y % k
    model = HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=3, early_stopping=False).fit(faces.X, y)
    trees = Trees.joined([[tree.nodes for tree in one] for one in model._predictors], model._baseline_prediction)
    expected = model.decision_function(more_faces.X)
    np.testing.assert_array_equal(trees.scores(more_faces.X), expected.reshape(80, -1))


@pytest.mark.parametrize("name", ["xgboost", "histgb"])
@pytest.mark.parametrize("pca", [0, 4])
def test_scaling_blocks_is_a_no_op_for_trees(name, pca, faces):
    quick = {"xgboost": {"threads": 1}, "histgb": {"min_leaf_rows": 3}}[name]
    head = make_head(name, blocks=faces.widths, pca=pca, trees=8, **quick)
    weighed = faces.X * np.repeat([4.0, 0.25, 2.0], list(faces.widths.values())).astype(np.float32)
    plain = head.fit(faces.X, faces.y).predict_proba(faces.X)
    np.testing.assert_allclose(head.fit(weighed, faces.y).predict_proba(weighed), plain, atol=1e-6)


def test_principal_components_keep_what_varies_most_and_repeat_their_signs(faces):
    pca = BlockPCA(4, faces.widths).fit(faces.X)
    reduced = pca.transform(faces.X)
    assert reduced.shape == (120, 12)
    assert pca.outputs() == 12
    first = reduced[:, :4]
    assert (np.diff(first.var(axis=0)) <= 1e-6).all()
    covariance = np.cov(first.T)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-4)
    np.testing.assert_array_equal(BlockPCA(4, faces.widths).fit(faces.X).transform(faces.X), reduced)


def test_fewer_rows_than_columns_give_the_same_components_either_way(faces):
    few = BlockPCA(3, {"x": 28}).fit(faces.X[:20])
    centred = faces.X[:20] - faces.X[:20].mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)[:3]
    np.testing.assert_allclose(np.linalg.norm(few.transform(faces.X[:20]), axis=0), singular, rtol=1e-4)


def test_narrow_blocks_pass_as_they_are(faces):
    np.testing.assert_array_equal(BlockPCA(64, faces.widths).fit(faces.X).transform(faces.X), faces.X)


@pytest.mark.parametrize("pca", [-1, 2.5, True])
def test_a_number_of_components_that_is_none_is_refused(pca, faces):
    with pytest.raises(HeadConfigError, match="pca must be"):
        make_head("histgb", pca=pca).fit(faces.X, faces.y)


@pytest.mark.parametrize("threads", [0, -1, 10**9, "2"])
def test_a_number_of_threads_that_is_none_is_refused(threads, faces):
    with pytest.raises(HeadConfigError, match="threads must be"):
        make_head("xgboost", threads=threads).fit(faces.X, faces.y)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("left", lambda a: a * 0),
        ("right", lambda a: a + 10**6),
        ("feature", lambda a: a + 1000),
        ("feature", lambda a: a.astype(np.int64)),
        ("value", lambda a: a * np.nan),
        ("roots", lambda a: a - 5),
        ("roots", lambda a: a[:, :2]),
        ("threshold", lambda a: a[:-1]),
        ("baseline", lambda a: a[:-1]),
    ],
)
def test_arrays_that_are_no_trees_are_refused(name, change, faces):
    trees = make_head("histgb", trees=5, min_leaf_rows=3).fit(faces.X, faces.y).trees_
    arrays = trees.state()
    arrays[f"trees.{name}"] = change(arrays[f"trees.{name}"])
    with pytest.raises(ValueError, match="trees"):
        Trees.restored(arrays, columns=28, scores=4)
