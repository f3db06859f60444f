"""Compound classes learned beside action units and basic classes: where it must help, and where it must not matter."""

from __future__ import annotations

import numpy as np
import pytest

from cer_fusion.fusion import make_head
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import HeadConfigError, HeadDataError
from cer_fusion.fusion.heads.base import fit_part
from cer_fusion.fusion.heads.multitask import counted_table
from cer_fusion.fusion.keeping.head import load_head, save_head

SHAPE = {"fusion": "concat", "hidden": [24], "epochs": 20, "members": 1, "lr": 5e-3, "dropout": 0.2, "batch_size": 64}
ON = np.array([[1, 1, 0, 0, 1, 0], [0, 1, 1, 0, 0, 1], [1, 0, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1]], dtype=float)


def faces(n, seed):
    """Rows that show six AUs in a hundred columns of noise, and the class of which these are typical."""
    rng = np.random.default_rng(seed)
    y = rng.integers(4, size=n)
    aus = (rng.random((n, 6)) < np.where(ON[y] > 0, 0.9, 0.1)).astype(float)
    shown = np.random.default_rng(99).normal(size=(6, 100))
    return ((2 * aus - 1) @ shown * 0.15 + rng.normal(size=(n, 100))).astype(np.float32), y, aus


def fitted(X, y, targets=None, **settings):
    return make_head("multitask", random_state=0, **{**SHAPE, **settings}).fit(X, y, targets=targets)


def without(y, few):
    """The labels of the first `few` rows; None for the others."""
    return np.array([int(one) if i < few else None for i, one in enumerate(y)], dtype=object)


def test_few_classes_and_many_action_units_of_one_cause_beat_the_few_classes_alone():
    test, truth, _ = faces(600, 1)
    gains = []
    for seed in (2, 3):
        X, y, aus = faces(400, seed)
        alone = fitted(X[:24], y[:24], epochs=40).predict(test)
        both = fitted(X, without(y, 24), {"au": aus}).predict(test)
        gains.append((both == truth).mean() - (alone == truth).mean())
    assert np.mean(gains) > 0.05
    assert min(gains) > 0


@pytest.mark.parametrize(("table", "least", "most"), [
    (np.where(ON > 0, 0.9, 0.1), 0.02, 1.0),
    (np.full(ON.shape, 0.5), -0.02, 0.02),
])  # fmt: skip
def test_matching_by_a_table_lets_action_units_teach_few_classes_and_changes_little_where_the_table_says_nothing(
    table, least, most
):
    test, truth, _ = faces(600, 1)
    gains = []
    for seed in (2, 3, 4):
        X, y, aus = faces(400, seed)
        apart, matched = (
            fitted(X, without(y, 12), {"au": aus}, coupling=weight, table=tuple(map(tuple, table)), epochs=15)
            for weight in (0, 3.0)
        )
        gains.append((matched.predict(test) == truth).mean() - (apart.predict(test) == truth).mean())
    assert least < np.mean(gains) < most


def test_action_units_of_noise_do_not_hurt():
    test, truth, _ = faces(600, 1)
    X, y, _ = faces(200, 2)
    noise = np.random.default_rng(0).integers(2, size=(200, 6)).astype(float)
    alone, both = fitted(X, y), fitted(X, y, {"au": noise})
    assert (both.predict(test) == truth).mean() > (alone.predict(test) == truth).mean() - 0.04


def test_the_meta_step_trusts_action_units_of_the_same_cause_and_leaves_noise_where_it_was():
    """It moves weights; with them within a factor of ten it moves no answer here, for good or bad."""
    test, truth, _ = faces(600, 1)
    weights, moved = [], []
    for seed in (2, 3, 4):
        X, y, aus = faces(300, seed)
        noise = np.random.default_rng(seed).integers(2, size=aus.shape).astype(float)
        heads = [fitted(X, y, {"au": one}, meta_lr=0.2, epochs=15) for one in (aus, noise)]
        still = fitted(X, y, {"au": noise}, epochs=15)
        weights.append([head.task_weights_["au"] for head in heads])
        moved.append((heads[1].predict(test) == truth).mean() - (still.predict(test) == truth).mean())
    useful, useless = np.mean(weights, axis=0)
    assert np.max(weights) <= 10
    assert useful > 1.5 * useless
    assert 0.7 < useless < 1.4
    assert abs(np.mean(moved)) < 0.02


@pytest.mark.parametrize("targets", [None, {"au": "weightless", "basic": "weightless"}])
def test_without_targets_or_with_weights_of_nothing_it_is_mlp_to_the_bit(targets):
    X, y, aus = faces(80, 2)
    if targets:
        targets = {"au": aus, "basic": np.eye(4)[y]}
    head = fitted(X, y, targets, au_weight=0.0, basic_weight=0.0)
    plain = make_head("mlp", random_state=0, **SHAPE).fit(X, y)
    np.testing.assert_array_equal(head.predict_proba(X), plain.predict_proba(X))


def test_the_table_is_counted_in_rows_that_have_both():
    aus = np.array([[1.0, np.nan], [1, 0], [0, 1], [1, 1]])
    shares = np.array([[1.0, 0], [1, 0], [0, 1], [0, 0]])  # the last row has no class
    np.testing.assert_allclose(counted_table(aus, shares), [[3 / 4, 1 / 3], [1 / 3, 2 / 3]])


def test_a_missing_target_says_nothing_whatever_stands_in_the_others():
    """A row of NaN teaches no AU: as if its row had none, not as if they were absent."""
    X, y, aus = faces(200, 2)
    half = aus.copy()
    half[100:] = np.nan
    zeros = np.nan_to_num(half)
    found = [fitted(X, y, {"au": one}).predict_targets(X)["au"].mean() for one in (aus, half, zeros)]
    assert abs(found[1] - found[0]) < 0.05
    assert found[2] < found[0] - 0.1


def test_it_learns_basic_classes_beside_and_pools_blocks_with_groups_weights_and_rows_kept_aside():
    X, y, aus = faces(240, 2)
    settings = {"blocks": {"a": 60, "b": 40}, "fusion": "pool", "early_stop": 0.2, "coupling": 0.5, "meta_lr": 0.01}
    basic = np.full((240, 2), np.nan)
    basic[:200] = np.eye(2)[y[:200] % 2]
    heads = [
        make_head("multitask", random_state=0, **{**SHAPE, **settings}).fit(
            X, without(y, 150), groups=np.arange(240) // 3, sample_weight=1 + y, targets={"au": aus, "basic": basic}
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(heads[0].predict_proba(X), heads[1].predict_proba(X))
    said = heads[0].predict_targets(X)
    assert (said["basic"].argmax(1) == y % 2).mean() > 0.7
    np.testing.assert_allclose(said["basic"].sum(1), 1)
    assert ((said["au"] > 0.5) == aus).mean() > 0.7


def affective(n, seed):
    """Classes at the corners of a plane of valence and arousal, which a hundred columns of noise show."""
    y = faces(n, seed)[1]
    corners = np.array([[0.8, 0.8], [0.8, -0.8], [-0.8, 0.8], [-0.8, -0.8]])
    rng = np.random.default_rng(seed)
    va = np.clip(corners[y] + 0.1 * rng.normal(size=(n, 2)), -1, 1)
    shown = np.random.default_rng(98).normal(size=(2, 100))
    return (0.2 * va @ shown + rng.normal(size=(n, 100))).astype(np.float32), y, va


def test_valence_and_arousal_help_few_classes_whose_plane_they_are_and_are_answered_themselves():
    test, truth, wanted = affective(600, 1)
    gains = []
    for seed in (2, 3):
        X, y, va = affective(400, seed)
        va[::3] = np.nan  # a row says what it has
        alone = fitted(X[:24], y[:24], epochs=40).predict(test)
        head = fitted(X, without(y, 24), {"va": va})
        gains.append((head.predict(test) == truth).mean() - (alone == truth).mean())
        said = head.predict_targets(test)["va"]
        assert np.abs(said).max() <= 1
        assert min(np.corrcoef(said[:, i], wanted[:, i])[0, 1] for i in (0, 1)) > 0.6
    assert min(gains) > 0.02


def test_a_kept_head_says_the_same_of_every_task(tmp_path):
    X, y, aus = faces(80, 2)
    head = fitted(X, y, {"au": aus}, epochs=3)
    save_head(head, tmp_path / "head", fingerprints={"x": "0" * 12})
    again = load_head(tmp_path / "head")
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
    np.testing.assert_array_equal(again.predict_targets(X)["au"], head.predict_targets(X)["au"])
    assert again.task_weights_ == head.task_weights_


def test_a_comparison_hands_targets_to_heads_that_learn_them_and_to_no_others():
    X, y, aus = faces(60, 2)
    rows = Rows(blocks={"x": X}, y=y, classes=tuple("abcd"), targets={"au": aus}).take(np.arange(50))
    head = fit_part(make_head("multitask", epochs=2), rows.x(), rows.y, None, None, rows.targets)
    assert head.tasks_ == {"au": 6}
    fit_part(make_head("linear"), rows.x(), rows.y, None, None, rows.targets)


@pytest.mark.parametrize(
    ("targets", "settings", "error", "said"),
    [
        ({"au": np.full((40, 2), 3.0)}, {}, HeadDataError, "divide intensities"),
        ({"au": np.full((40, 2), -1.0)}, {}, HeadDataError, "must lie in"),
        ({"basic": np.full((40, 2), 0.3)}, {}, HeadDataError, "sum to one"),
        ({"basic": np.tile([1.0, np.nan], (40, 1))}, {}, HeadDataError, "row of NaN"),
        ({"gaze": np.zeros((40, 2))}, {}, HeadDataError, "no task 'gaze'"),
        ({"va": np.full((40, 2), -5.0)}, {}, HeadDataError, r"must lie in \[-1, 1\][\s\S]*NaN, not -5"),
        ({"au": np.zeros((39, 2))}, {}, HeadDataError, "its shape is"),
        ({"au": np.zeros((40, 2))}, {"hidden": []}, HeadConfigError, "hidden"),
        ({"au": np.zeros((40, 2))}, {"coupling": 1.0, "table": ((0.5, 0.5),)}, HeadConfigError, "each of 4 classes"),
        ({"basic": np.tile([1.0, 0], (40, 1))}, {"coupling": 1.0}, HeadConfigError, "no AU targets"),
        ({"au": np.zeros((40, 2))}, {"au_weight": -1.0}, HeadConfigError, "au_weight"),
    ],
)
def test_targets_and_settings_that_cannot_be_are_refused(targets, settings, error, said):
    X, y, _ = faces(40, 2)
    with pytest.raises(error, match=said):
        fitted(X, y, targets, **settings)


def test_a_head_of_classes_alone_refuses_targets():
    X, y, aus = faces(40, 2)
    with pytest.raises(HeadDataError, match="multitask"):
        make_head("mlp").fit(X, y, targets={"au": aus})
