from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from cer_fusion.fusion import HeadConfigError, make_head
from cer_fusion.fusion.heads.ridge import PENALTIES, RidgePath


def problem(n: int, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(n)
    return random.normal(size=(n, d)), np.eye(3)[np.arange(n) % 3], random.uniform(0.5, 2, size=n)


@pytest.mark.parametrize(("n", "d"), [(30, 8), (12, 40)])
@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_left_out_answers_are_those_of_fits_without_the_row(n, d, penalty):
    rows, targets, weights = problem(n, d)
    path = RidgePath(rows, targets, weights)
    expected = []
    for row in range(n):
        rest = np.arange(n) != row
        model = Ridge(alpha=penalty * path.unit).fit(rows[rest], targets[rest], sample_weight=weights[rest])
        expected.append(model.predict(rows[[row]])[0])
    np.testing.assert_allclose(path.left_out(penalty), expected, atol=1e-8)


@pytest.mark.parametrize(("n", "d"), [(30, 8), (12, 40)])
def test_the_solution_is_scikit_learns(n, d):
    rows, targets, weights = problem(n, d)
    path = RidgePath(rows, targets, weights)
    model = Ridge(alpha=0.3 * path.unit).fit(rows, targets, sample_weight=weights)
    coef, intercept = path.solution(0.3)
    np.testing.assert_allclose(coef, model.coef_, atol=1e-8)
    np.testing.assert_allclose(intercept, model.intercept_, atol=1e-8)


def test_noise_is_penalised_more_than_classes_that_can_be_told_apart(faces):
    noise = np.random.default_rng(3).normal(size=faces.X.shape).astype(np.float32)
    clear, blurred = (make_head("ridge").fit(X, faces.y) for X in (faces.X, noise))
    assert blurred.penalty_ == max(PENALTIES)
    assert clear.penalty_ < blurred.penalty_ / 100
    assert blurred.predict_proba(noise).max() < 0.35 < clear.predict_proba(faces.X).max()


def test_a_class_that_weighs_nothing_is_never_answered(faces):
    head = make_head("ridge", class_weight={3: 0.0}).fit(faces.X, faces.y)
    assert 3 not in head.predict(faces.X)


@pytest.mark.parametrize("penalty", [0.0, -1.0, float("nan")])
def test_a_penalty_that_is_none_is_refused(penalty, faces):
    with pytest.raises(HeadConfigError, match="penalty must be"):
        make_head("ridge", penalty=penalty).fit(faces.X, faces.y)
