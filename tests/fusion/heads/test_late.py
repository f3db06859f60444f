from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from cer_fusion.fusion import HeadConfigError, concat, load_head, make_head, save_head
from cer_fusion.fusion.data.blocks import simplex
from cer_fusion.fusion.heads.base import softmax
from cer_fusion.fusion.heads.late import DRAWN_PER_CLASS, LEARNED_PER_CLASS
from cer_fusion.fusion.heads.weights import (
    MIXES,
    _slope,
    best_drawn,
    class_weights,
    dirichlet_weights,
    learned_weights,
    log_loss,
    mixed,
    probabilities,
    terms,
)


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
        ({"weights": "learnt"}, "did you mean 'learned'"),
        ({"weights": "drawn_per_clas"}, "did you mean 'drawn_per_class'"),
        ({"weights": "learned_per_class", "objective": "macro_f1"}, "weights='drawn_per_class'"),
        ({"weights": "drawn_per_class", "draws": 0}, "draws must be a whole number from 1"),
        ({"objective": "accuracy"}, "no objective 'accuracy'"),
        ({"folds": 1}, "folds must be a whole number of at least 2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(params, message, faces):
    with pytest.raises(HeadConfigError, match=message):
        make_head("late", blocks=faces.widths, **params).fit(faces.X, faces.y)


PER_CLASS = (LEARNED_PER_CLASS, DRAWN_PER_CLASS)
NO_THIRD = {"0": 1, "1": 1, "2": 1, "3": 0}


def halves(n: int, seed: int, d: int = 40) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Two encoders (n, d) of which each tells three of six classes apart, and the other three from those alone."""
    random = np.random.default_rng(seed)
    y = random.integers(6, size=n)
    blocks = {}
    for name, knows in (("low", (0, 1, 2)), ("high", (3, 4, 5))):
        seen = np.where(np.isin(y, knows), y % 3 + 1, 0)
        blocks[name] = (random.normal(size=(n, d)) + 2.5 * np.eye(4, d)[seen]).astype(np.float32)
    return y, blocks


def macro_recall(head, blocks: dict[str, np.ndarray], y: np.ndarray) -> float:
    right = head.predict(concat(blocks)) == y
    return float(np.mean([right[y == c].mean() for c in np.unique(y)]))


@pytest.mark.parametrize("way", PER_CLASS)
def test_weights_a_class_help_where_each_encoder_knows_other_classes(way):
    y, blocks = halves(300, 0)
    widths, heads = {"low": 40, "high": 40}, {}
    for weights in ("learned", way):
        heads[weights] = make_head("late", blocks=widths, weights=weights, mix="arithmetic", draws=300)
        heads[weights].fit(concat(blocks), y)
    more_y, more = halves(3000, 1)
    assert macro_recall(heads[way], more, more_y) > macro_recall(heads["learned"], more, more_y) + 0.08
    for c in range(6):  # and it is the encoder that knows the class which is listened to
        knows, other = ("low", "high") if c < 3 else ("high", "low")
        assert heads[way].weights_[knows][c] > heads[way].weights_[other][c]


@pytest.mark.parametrize("way", PER_CLASS)
@pytest.mark.parametrize("mix", MIXES)
def test_weights_a_class_cannot_matter_where_members_are_the_same(way, mix, faces):
    X = concat({"a": faces.blocks["vit"], "b": faces.blocks["vit"]})
    planes = [
        make_head("late", blocks={"a": 12, "b": 12}, member="ncm", mix=mix, weights=w, calibrate=True, draws=20)
        .fit(X, faces.y)
        .predict_proba(X)
        for w in (None, way)
    ]
    np.testing.assert_allclose(*planes, atol=1e-9)


@pytest.mark.parametrize("mix", MIXES)
def test_one_column_for_all_classes_is_the_mix_of_shared_weights(mix, faces):
    shared = {"vit": 0.5, "manet.local": 0.3, "manet.multi_scale": 0.2}
    by_class = {name: {str(c): 7 * weight for c in range(4)} for name, weight in shared.items()}
    answers = [
        make_head("late", blocks=faces.widths, mix=mix, weights=w).fit(faces.X, faces.y).predict_proba(faces.X)
        for w in (shared, by_class)
    ]
    np.testing.assert_allclose(*answers, atol=1e-12)


def test_a_given_weight_a_class_mixes_that_class_alone(faces):
    given = {"vit": {"0": 1, "1": 0, "2": 1, "3": 3}, "manet.local": {"0": 0, "1": 2, "2": 1, "3": 1},
             "manet.multi_scale": dict.fromkeys("0123", 0)}  # fmt: skip
    head = make_head("late", blocks=faces.widths, mix="arithmetic", weights=given).fit(faces.X, faces.y)
    planes = head.member_proba(faces.X)
    expected = np.stack([planes[0, :, 0], planes[1, :, 1], (planes[0] + planes[1])[:, 2] / 2,
                         (3 * planes[0] + planes[1])[:, 3] / 4], axis=1)  # fmt: skip
    np.testing.assert_allclose(head.predict_proba(faces.X), expected / expected.sum(axis=1, keepdims=True))
    assert head.weights_["vit"] == {0: 1.0, 1: 0.0, 2: 0.5, 3: 0.75}


@pytest.mark.parametrize("way", PER_CLASS)
def test_weights_a_class_come_back_with_a_kept_head(way, faces, tmp_path):
    head = make_head("late", blocks=faces.widths, member="ncm", weights=way, draws=20).fit(faces.X, faces.y)
    save_head(head, tmp_path / "head", fingerprints={})
    loaded = load_head(tmp_path / "head")
    assert loaded.weights_ == head.weights_
    np.testing.assert_array_equal(loaded.predict_proba(faces.X), head.predict_proba(faces.X))


@pytest.mark.parametrize("mix", MIXES)
def test_the_slope_of_the_loss_is_that_of_finite_differences(mix):
    random = np.random.default_rng(0)
    scores = np.sort(terms(random.dirichlet(np.ones(4), size=(2, 30)), mix))
    means, truth = scores.mean(axis=0), np.eye(4)[random.integers(4, size=30)]

    def losses(at: np.ndarray) -> np.ndarray:
        return -np.log((probabilities(at, mix) * truth).sum(axis=1))

    step = 1e-4 * np.abs(means)
    for c in range(4):
        aside = np.where(np.arange(4) == c, step, 0)
        numeric = (losses(means + aside) - losses(means - aside)) / (2 * step[:, c])
        np.testing.assert_allclose(
            _slope(means, probabilities(means, mix), truth, mix)[:, c], numeric, rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("mix", ["arithmetic", "geometric"])
def test_learned_weights_a_class_are_the_likelier_ones_and_keep_to_the_shared_ones_where_rows_are_few(mix):
    random = np.random.default_rng(0)
    codes = random.integers(3, size=300)
    planes = np.stack([softmax(scale * np.eye(4)[codes] + random.normal(size=(300, 4))) for scale in (1.0, 1.2)])
    shared = learned_weights(planes, codes, mix=mix)
    found = class_weights(planes, codes, mix=mix, about=shared)
    np.testing.assert_allclose(found.sum(axis=0), 1)
    assert log_loss(mixed(planes, found, mix), codes) <= log_loss(mixed(planes, shared, mix), codes) + 1e-9
    few = class_weights(planes[:, :2], codes[:2], mix=mix, about=shared)
    assert np.abs(few - shared[:, None]).max() < np.abs(found - shared[:, None]).max()
    np.testing.assert_allclose(found[:, 3], shared, atol=1e-9)


def test_draws_are_even_over_the_simplex_of_each_class_and_the_seeds():
    drawn = dirichlet_weights(3, 4, 4000, seed=1)
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
    np.testing.assert_allclose(drawn.mean(axis=0), 1 / 3, atol=0.02)
    np.testing.assert_allclose(drawn.var(axis=0), 1 / 18, atol=0.01)  # of Dirichlet(1, 1, 1)
    assert (dirichlet_weights(3, 4, 5, seed=1) != dirichlet_weights(3, 4, 5, seed=2)).any()


@pytest.mark.parametrize("objective", ["log_loss", "macro_f1"])
def test_the_best_draw_is_never_worse_than_equal_weights_and_leaves_classes_without_rows_alone(objective):
    random = np.random.default_rng(0)
    codes = random.integers(3, size=90)
    planes = random.dirichlet(np.ones(4), size=(2, 90))
    found = best_drawn(planes, codes, mix="arithmetic", objective=objective, draws=50, seed=0)
    assert found[:, 3].tolist() == [0.5, 0.5]
    if objective == "log_loss":
        even = log_loss(mixed(planes, np.full(2, 0.5), "arithmetic"), codes)
        assert log_loss(mixed(planes, found, "arithmetic"), codes) < even


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vitt": {}}, "no block 'vitt' to weigh"),
        ({"vit": 0.5}, "every block has, however: block 'vit' has 0.5"),
        ({"vit": {"0": 1, "1": 1, "2": 1}}, "block 'vit' has no weight for class '3'"),
        ({"vit": {"0": 1, "1": 1, "2": 1, "3": -1}}, "for class '3' must be finite and not negative, got -1"),
        ({"vit": {"0": 1, "1": 1, "2": 1, "3": "x"}}, "for class '3' must be finite and not negative, got 'x'"),
        (dict.fromkeys(("vit", "manet.local", "manet.multi_scale"), NO_THIRD), "'3' are zero"),
    ],
)
def test_weights_a_class_that_cannot_be_meant_are_refused(changes, message, faces):
    given = {name: dict.fromkeys("0123", 1.0) for name in faces.widths} | changes
    with pytest.raises(HeadConfigError, match=message):
        make_head("late", blocks=faces.widths, weights=given).fit(faces.X, faces.y)
