"""Compound classes learned beside action units and basic classes: where it must help, and where it must not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.fusion import make_head
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.errors import HeadConfigError, HeadDataError
from cer_fusion.fusion.heads.base import fit_part
from cer_fusion.fusion.heads.mlp import MLPNetwork
from cer_fusion.fusion.heads.multitask import TaskLosses, counted_table
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


def losses_of(targets, counts, *, shares=None, table=None, coupling=0.0, meta_lr=0.0, members=1):
    """The further losses on twelve rows of a small network, and its units."""
    n, generator = 12, torch.Generator().manual_seed(0)
    network = MLPNetwork((5, 4, 3), members=members, normalized=True)
    network.tasks = torch.nn.ModuleDict({name: make_linear(members, one.shape[1]) for name, one in targets.items()})
    network.draw_all(generator)
    units = network.units(torch.randn(n, 5, generator=generator), lambda z: z)
    made = TaskLosses(
        network, targets, np.eye(3)[np.arange(n) % 3] if shares is None else shares, counts=np.atleast_2d(counts),
        weights=dict.fromkeys(targets, 1.0), coupling=coupling, table=table, meta_lr=meta_lr, groups=None, seed=0,
        device=torch.device("cpu"),
    )  # fmt: skip
    return made, units


def make_linear(members, width):
    from cer_fusion.fusion.heads.layers import Linear

    return Linear(members, 4, width)


def told(found, units):
    """A loss, the gradient that reaches the units, and the weights that the meta step leaves."""
    units.retain_grad()
    loss = found(units, torch.arange(units.shape[1]))
    loss.backward()
    return loss.item(), units.grad.numpy(), dict(found.weights)


@settings(max_examples=25, deadline=None)
@given(
    hidden=st.lists(st.booleans(), min_size=12, max_size=12).filter(lambda one: not all(one)),
    task=st.sampled_from(["au", "basic", "va"]),
    meta=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 99),
)
def test_whatever_is_stored_of_rows_that_count_nothing_and_of_targets_that_are_masked_enters_no_loss(
    hidden, task, meta, seed
):
    rng, hidden = np.random.default_rng(seed), np.array(hidden)
    low = -1 if task == "va" else 0
    first = rng.uniform(low, 1, (12, 3))
    first = first / first.sum(1, keepdims=True) if task == "basic" else first
    other = first.copy()
    other[hidden] = np.eye(3)[rng.integers(3, size=hidden.sum())]
    counts = np.where(hidden, 0.0, rng.uniform(0.5, 2, 12))
    table = {"coupling": 0.7, "table": rng.uniform(size=(3, 3))} if task == "au" else {}
    one, two = (told(*losses_of({task: each}, counts, meta_lr=meta, **table)) for each in (first, other))
    assert one[0] == two[0]
    np.testing.assert_array_equal(one[1], two[1])
    assert one[2] == two[2]
    masked = first.copy()
    masked[hidden] = np.nan
    loss, gradient, _ = told(*losses_of({task: masked}, np.ones(12)))
    assert np.isfinite(loss)
    assert not gradient[:, hidden].any()
    assert gradient[:, ~hidden].any()


def test_a_row_that_counts_twice_is_two_rows_in_losses_table_and_meta_step():
    _, y, aus = faces(60, 2)
    aus[::5, 2] = np.nan
    twice = np.where(np.arange(60) < 20, 2.0, 1.0)
    shares = np.eye(4)[y]
    rows = np.repeat(np.arange(60), twice.astype(int))
    np.testing.assert_allclose(counted_table(aus, shares, twice), counted_table(aus[rows], shares[rows]))
    again = np.nan_to_num(aus[:12])
    weighed, plain = (
        told(*losses_of({"au": again}, counts, coupling=0.5, table=np.full((3, 6), 0.3), meta_lr=0.5))[0]
        for counts in (np.full(12, 2.0), np.ones(12))
    )
    assert weighed == pytest.approx(2 * plain, rel=1e-5)


def test_weights_of_classes_are_of_their_loss_alone_and_equal_ones_change_nothing():
    X, y, aus = faces(120, 2)
    settings = {"epochs": 6, "meta_lr": 0.1, "coupling": 0.2}
    alike, even, rare = (
        fitted(X, y, {"au": aus}, class_weight=one, **settings)
        for one in (None, dict.fromkeys(range(4), 3.0), {0: 8.0, 1: 0.2, 2: 0.2, 3: 0.2})
    )
    np.testing.assert_allclose(even.predict_proba(X), alike.predict_proba(X), atol=1e-5)
    np.testing.assert_allclose(even.predict_targets(X)["au"], alike.predict_targets(X)["au"], atol=1e-5)
    assert rare.predict_proba(X)[:, 0].mean() > alike.predict_proba(X)[:, 0].mean() + 0.05
    right = [((one.predict_targets(X)["au"] > 0.5) == aus).mean() for one in (alike, rare)]
    assert abs(right[0] - right[1]) < 0.05


def test_an_action_unit_that_is_known_beside_no_row_of_a_class_is_not_matched_to_that_class():
    table = np.array([[0.9, 0.2], [np.nan, 0.4], [0.1, np.nan]])
    assert np.isnan(counted_table(np.array([[1.0], [np.nan]]), np.eye(2))).tolist() == [[False], [True]]
    targets = {"au": np.full((12, 2), np.nan)}
    found, units = losses_of(targets, np.ones(12), table=table, coupling=1.0)
    answer = found.network.answered(units, lambda z: z).softmax(-1)
    own = found.network.tasks["au"](units).sigmoid().detach().numpy()[0]
    p = answer.detach().numpy()[0]
    wanted = 0.0
    for a, classes in enumerate([[0, 2], [0, 1]]):  # those of which the table knows it
        part = p[:, classes].sum(1)
        said = p[:, classes] @ table[classes, a] / part
        both = -(said * np.log(own[:, a]) + (1 - said) * np.log(1 - own[:, a]))
        both -= own[:, a] * np.log(said) + (1 - own[:, a]) * np.log(1 - said)
        wanted += (both * part / 2 / 2).mean()
    assert found(units, torch.arange(12)).item() == pytest.approx(wanted, rel=1e-4)


def test_a_member_counts_no_table_in_rows_that_it_leaves_out():
    _, y, aus = faces(80, 2)
    shares, counts = np.eye(4)[y], np.stack([np.arange(80) < 40, np.arange(80) >= 40]).astype(float)
    found = make_head("multitask")._table(aus, shares, counts)
    np.testing.assert_allclose(found[0], counted_table(aus[:40], shares[:40]))
    np.testing.assert_allclose(found[1], counted_table(aus[40:], shares[40:]))


def test_a_rows_label_may_be_missing_as_none_or_nan_and_is_never_a_class_of_its_own():
    X, y, aus = faces(60, 2)
    named = np.array(list("abcd"), dtype=object)[y]
    missing = named.copy()
    missing[30:45], missing[45:] = None, float("nan")
    head = fitted(X, missing, {"au": aus}, epochs=2)
    assert head.classes_.tolist() == list("abcd")
    missing[45:] = None
    np.testing.assert_array_equal(head.predict_proba(X), fitted(X, missing, {"au": aus}, epochs=2).predict_proba(X))


def test_rows_of_which_nothing_is_known_are_counted_told_and_teach_nothing(caplog):
    X, y, aus = faces(60, 2)
    half = aus.copy()
    half[40:] = np.nan
    still = {"standardize": "none", "batch_size": 60, "dropout": 0.0, "meta_lr": 0.3}
    head = fitted(X, without(y, 40), {"au": half}, epochs=3, **still)
    assert head.untaught_ == 20
    assert "20 of 60 rows have neither a class nor a target, and teach nothing (first: row 40)" in caplog.text
    moved = np.concatenate([X[:40], 5 - X[40:]])
    again = fitted(moved, without(y, 40), {"au": half}, epochs=3, **still)
    np.testing.assert_allclose(head.predict_proba(X), again.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(head.predict_targets(X)["au"], again.predict_targets(X)["au"], atol=1e-6)


def test_tasks_of_which_nothing_is_known_are_refused_and_of_a_column_nothing_is_said(tmp_path):
    X, y, aus = faces(60, 2)
    with pytest.raises(HeadDataError, match=r"targets\['va'\] are NaN in all 60 rows"):
        fitted(X, y, {"au": aus, "va": np.full((60, 2), np.nan)})
    with pytest.raises(HeadDataError, match="none has both"):
        fitted(X, without(y, 40), {"au": np.where(np.arange(60)[:, None] < 40, np.nan, aus)}, coupling=1.0)
    aus[:, 3] = np.nan
    head = fitted(X, y, {"au": aus}, epochs=2)
    said = head.predict_targets(X)["au"]
    assert np.isnan(said).all(0).tolist() == [False, False, False, True, False, False]
    assert head.unknown_ == {"au": (3,)}
    save_head(head, tmp_path / "head", fingerprints={"x": "0" * 12})
    np.testing.assert_array_equal(load_head(tmp_path / "head").predict_targets(X)["au"], said)


def test_votes_action_units_affect_and_basic_classes_go_together_each_row_with_what_it_has():
    X, y, aus = faces(160, 2)
    votes = 0.7 * np.eye(4)[y] + 0.075
    votes[100:] = np.nan
    va = np.array([[0.8, 0.8], [0.8, -0.8], [-0.8, 0.8], [-0.8, -0.8]])[y]
    va[::3] = np.nan
    aus[::4] = np.nan
    basic = np.eye(2)[y % 2]
    basic[:50] = np.nan
    head = make_head("multitask", random_state=0, coupling=0.3, locality=0.1, **SHAPE)
    head.fit(X, votes, classes=np.array(list("wxyz")), targets={"au": aus, "va": va, "basic": basic})
    assert head.tasks_ == {"au": 6, "va": 2, "basic": 2}
    said = head.predict_targets(X)
    assert (head.predict(X) == np.array(list("wxyz"))[y]).mean() > 0.6
    assert ((said["au"] > 0.5) == faces(160, 2)[2]).mean() > 0.7
    assert (said["basic"].argmax(1) == y % 2).mean() > 0.7
    assert np.corrcoef(said["va"][:, 0], np.where(y < 2, 1, -1))[0, 1] > 0.5


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
