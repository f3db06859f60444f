from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cer_fusion.fusion import HeadConfigError, make_head


def test_the_linear_head_is_scikit_learns_logistic_regression_on_scaled_columns(faces, more_faces):
    head = make_head("linear", blocks=faces.widths, standardize="standard", C=2.8).fit(faces.X, faces.y)
    scaler = StandardScaler().fit(faces.X)
    peer = LogisticRegression(C=2.8 / 28, max_iter=1000, tol=1e-6).fit(scaler.transform(faces.X), faces.y)
    expected = peer.predict_proba(scaler.transform(more_faces.X))
    np.testing.assert_allclose(head.predict_proba(more_faces.X), expected, atol=2e-3)


def test_two_classes_give_two_columns_that_agree_with_the_sigmoid(faces):
    y = faces.y % 2
    head = make_head("linear", standardize="none", C=28.0).fit(faces.X, y)
    peer = LogisticRegression(C=1.0, max_iter=1000, tol=1e-6).fit(faces.X, y)
    np.testing.assert_allclose(head.predict_proba(faces.X), peer.predict_proba(faces.X), atol=1e-2)


def test_class_weights_move_answers_towards_the_weighed_class(faces):
    plain = make_head("linear").fit(faces.X, faces.y).predict_proba(faces.X)[:, 2].mean()
    weighed = make_head("linear", class_weight={2: 20.0}).fit(faces.X, faces.y).predict_proba(faces.X)[:, 2].mean()
    assert weighed > plain


@pytest.mark.parametrize(
    "params", [{"C": 0}, {"C": float("nan")}, {"class_weight": {9: 1.0}}, {"class_weight": "some"}]
)
def test_settings_that_make_no_sense_are_refused(params, faces):
    with pytest.raises(HeadConfigError):
        make_head("linear", **params).fit(faces.X, faces.y)
