from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import SVC

from cer_fusion.fusion import HeadConfigError, make_head
from cer_fusion.fusion.heads.svm import class_scores


@pytest.mark.parametrize("k", [2, 3, 4])
def test_decisions_are_libsvms(k, faces, more_faces):
    y = faces.y % k
    head = make_head("svm", gamma=1.0, C=3.0, standardize="none").fit(faces.X, y)
    peer = SVC(gamma=1 / 28, C=3.0, decision_function_shape="ovo", tol=1e-5).fit(faces.X, y)
    expected = peer.decision_function(more_faces.X).reshape(80, -1)
    np.testing.assert_allclose(head.pair_decisions(more_faces.X), -expected if k == 2 else expected, atol=5e-3)


def test_only_support_vectors_are_kept(faces):
    head = make_head("svm", C=100.0, gamma=0.05).fit(faces.X, faces.y)
    assert len(head.rows_) < len(faces.X)
    assert head.state().arrays["rows"].dtype == np.float32


def test_a_classs_score_is_the_mean_of_its_decisions():
    pairs = np.array([[1.0, 2.0, -4.0]])  # 0 against 1, 0 against 2, 1 against 2
    np.testing.assert_allclose(class_scores(pairs, 3), [[1.5, -2.5, 1.0]])


def test_noise_makes_the_answers_unsure(faces):
    noise = np.random.default_rng(3).normal(size=faces.X.shape).astype(np.float32)
    assert make_head("svm").fit(noise, faces.y).predict_proba(-noise).max() < 0.5


@pytest.mark.parametrize("params", [{"C": 0.0}, {"gamma": -1.0}, {"gamma": float("inf")}, {"folds": 0}])
def test_settings_that_make_no_sense_are_refused(params, faces):
    with pytest.raises(HeadConfigError, match="must be"):
        make_head("svm", **params).fit(faces.X, faces.y)
