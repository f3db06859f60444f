from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from cer_fusion.fusion import HeadConfigError, concat, load_head, make_head, save_head
from cer_fusion.fusion.data.blocks import simplex
from cer_fusion.fusion.heads.base import softmax
from cer_fusion.fusion.heads.weights import MIXES, learned_weights, log_loss, mixed, terms


def test_members_probabilities_have_one_plane_a_block(faces):
    head = make_head("late", blocks=faces.widths).fit(faces.X, faces.y)
    planes = head.member_proba(faces.X)
    assert planes.shape == (3, 120, 4)
    np.testing.assert_allclose(planes.sum(axis=2), 1)
    assert list(head.members_) == list(faces.widths)


@pytest.mark.parametrize("mix", MIXES)
def test_the_answer_is_the_weighted_mix_of_the_members(mix, faces):
    weights = {"vit": 2.0, "manet.local": 1.0, "manet.multi_scale": 1.0}
    head = make_head("late", blocks=faces.widths, weights=weights, mix=mix).fit(faces.X, faces.y)
    planes = head.member_proba(faces.X)
    expected = 0.5 * terms(planes, mix)[0] + 0.25 * terms(planes, mix)[1] + 0.25 * terms(planes, mix)[2]
    if mix in ("geometric", "harmonic"):
        expected = np.exp(expected) if mix == "geometric" else -1 / expected
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(head.predict_proba(faces.X), expected, atol=1e-9)


def test_all_weight_on_one_block_is_that_blocks_member(faces):
    weights = {"vit": 1.0, "manet.local": 0.0, "manet.multi_scale": 0.0}
    head = make_head("late", blocks=faces.widths, weights=weights).fit(faces.X, faces.y)
    alone = make_head("linear", blocks={"vit": 12}).fit(faces.blocks["vit"], faces.y)
    np.testing.assert_allclose(head.predict_proba(faces.X), alone.predict_proba(faces.blocks["vit"]), atol=1e-9)


def test_calibration_cools_a_member_that_knows_nothing(faces):
    noise = np.random.default_rng(3).normal(size=(120, 30)).astype(np.float32)
    X = concat({"vit": faces.blocks["vit"], "noise": noise})
    head = make_head("late", blocks={"vit": 12, "noise": 30}, member_params={"C": 1000.0}, calibrate=True)
    head.fit(X, faces.y)
    assert head.temperatures_[1] > 3 * head.temperatures_[0]


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("objective", ["log_loss", "macro_f1"])
def test_learned_weights_leave_noise_out(mix, objective, faces):
    noise = np.random.default_rng(3).normal(size=(120, 30)).astype(np.float32)
    X = concat({"vit": faces.blocks["vit"], "noise": noise})
    head = make_head("late", blocks={"vit": 12, "noise": 30}, member="ncm", weights="learned", mix=mix)
    head.set_params(objective=objective).fit(X, faces.y)
    assert sum(head.weights_.values()) == pytest.approx(1)
    assert head.weights_["vit"] > 0.5 + 1e-6
    assert not (head.temperatures_ == 1).any()


def test_learned_weights_come_back_with_a_kept_head(faces, tmp_path):
    head = make_head("late", blocks=faces.widths, member="ncm", weights="learned").fit(faces.X, faces.y)
    save_head(head, tmp_path / "head", fingerprints={})
    loaded = load_head(tmp_path / "head")
    assert loaded.weights_ == head.weights_
    np.testing.assert_array_equal(loaded.predict_proba(faces.X), head.predict_proba(faces.X))


def test_learned_weights_have_the_least_log_loss_of_a_grid():
    random = np.random.default_rng(0)
    codes = random.integers(4, size=300)
    planes = np.stack([softmax(scale * np.eye(4)[codes] + random.normal(size=(300, 4))) for scale in (1.0, 2.0, 0.1)])
    for mix in ("arithmetic", "geometric"):
        found = learned_weights(planes, codes, mix=mix)
        grid = [log_loss(mixed(planes, one, mix), codes) for one in simplex(3, Decimal("0.05"))]
        assert log_loss(mixed(planes, found, mix), codes) <= min(grid) + 1e-6


def test_members_may_be_any_other_head(faces):
    params = {"trees": 5, "threads": 1}
    head = make_head("late", blocks=faces.widths, member="xgboost", member_params=params, calibrate=False)
    assert head.fit(faces.X, faces.y).score(faces.X, faces.y) > 0.8


def test_probabilities_of_zero_do_not_break_a_geometric_mix():
    proba = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    np.testing.assert_allclose(mixed(proba, np.array([0.5, 0.5]), "geometric"), [[0.5, 0.5]])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"mix": "harmonious"}, "did you mean 'harmonic'"),
        ({"member": "late"}, "cannot be 'late' itself"),
        ({"weights": "learnt"}, "'learned' or None"),
        ({"objective": "accuracy"}, "no objective 'accuracy'"),
        ({"folds": 1}, "folds must be a whole number of at least 2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(params, message, faces):
    with pytest.raises(HeadConfigError, match=message):
        make_head("late", blocks=faces.widths, **params).fit(faces.X, faces.y)
