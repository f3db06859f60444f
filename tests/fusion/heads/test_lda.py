from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cer_fusion.fusion import HeadConfigError, make_head
from cer_fusion.fusion.heads.weights import log_loss

PLAIN = {"standardize": "none", "calibrate": False}


@pytest.mark.parametrize("n", [120, 20])
def test_the_posteriors_are_scikit_learns(n, faces, more_faces):
    """With more rows than columns, and with fewer, by way of Woodbury's identity."""
    X, y = faces.X[:n], np.where(faces.y[:n] == 3, 0, faces.y[:n])
    peer = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(X, y)
    found = make_head("lda", shrinkage=0.3, **PLAIN).fit(X, y).predict_proba(more_faces.X)
    np.testing.assert_allclose(found, peer.predict_proba(more_faces.X), atol=1e-6)
    flat = make_head("lda", shrinkage=0.3, prior="uniform", **PLAIN).fit(X, y).predict_proba(more_faces.X)
    without = found / (np.bincount(y) / n)
    np.testing.assert_allclose(flat, without / without.sum(axis=1, keepdims=True), atol=1e-9)


def test_shrinkage_may_be_ledoit_and_wolfs(faces):
    head = make_head("lda", shrinkage="ledoit_wolf", **PLAIN).fit(faces.X, faces.y)
    means = np.stack([faces.X[faces.y == c].mean(axis=0) for c in range(4)])
    residuals = (faces.X - means[faces.y]) / np.sqrt(28)
    assert head.shrinkage_ == pytest.approx(ledoit_wolf_shrinkage(residuals, assume_centered=True), rel=1e-4)


def test_calibration_mends_the_certainty_and_leaves_the_decisions(faces, more_faces):
    wild, calm = (make_head("lda", shrinkage=0.0, calibrate=c).fit(faces.X[:40], faces.y[:40]) for c in (False, True))
    assert calm.temperature_ > 1
    np.testing.assert_array_equal(calm.predict(more_faces.X), wild.predict(more_faces.X))
    losses = [log_loss(head.predict_proba(more_faces.X), more_faces.y) for head in (wild, calm)]
    assert losses[1] < losses[0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"shrinkage": 1.5}, "shrinkage must lie"),
        ({"shrinkage": "oas"}, "'ledoit_wolf'"),
        ({"shrinkage": True}, "shrinkage"),
        ({"prior": "flat"}, "prior must be"),
        ({"folds": 1}, "folds must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(params, message, faces):
    with pytest.raises(HeadConfigError, match=message):
        make_head("lda", **params).fit(faces.X, faces.y)
