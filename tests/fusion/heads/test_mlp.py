from __future__ import annotations

import inspect
import logging
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from cer_fusion.fusion import HeadConfigError, MLPConfig, make_head
from cer_fusion.fusion.heads.base import NOTHING, softmax
from cer_fusion.fusion.heads.mlp import MLPHead, MLPNetwork, chosen_dtype, learned_factors, left_out_rows, pooled
from cer_fusion.fusion.heads.networks import _seed_of, chosen_device
from tests.fusion.heads.conftest import quick_head


def test_the_papers_recipe_is_what_the_paper_says():
    paper = MLPConfig.paper()
    assert (paper.hidden, paper.dropout, paper.lr, paper.batch_size, paper.epochs) == ((1152,), 0.1, 5e-5, 128, 100)
    assert (paper.standardize, paper.schedule, paper.members, paper.early_stop) == ("none", "constant", 1, 0.0)
    assert paper.fusion == "concat"
    assert (paper.label_smoothing, paper.logit_adjust, paper.weight_decay, paper.class_weight) == (0.0, 0.0, 0.0, None)


def test_the_papers_head_has_the_papers_shape():
    random = np.random.default_rng(0)
    blocks = {"vit": 768, "manet.local": 512, "manet.multi_scale": 512, "resnet50": 512}
    X = random.normal(size=(14, 2304)).astype(np.float32)
    head = make_head("mlp", blocks=blocks, config=MLPConfig.paper(), epochs=1).fit(X, np.arange(14) % 7)
    network = head.networks_[0].network
    assert [tuple(one.shape) for one in (network.hidden[0].weight, network.answer.weight)] == [
        (1152, 2304),
        (1, 1152, 7),
    ]
    numbers = sum(parameter.numel() for parameter in network.parameters())
    assert numbers == 2304 * 1152 + 1152 + 1152 * 7 + 7


def test_a_heads_settings_and_their_defaults_are_those_of_the_config():
    parameters = inspect.signature(MLPHead).parameters
    for field in fields(MLPConfig):
        assert parameters[field.name].default == field.default
    assert MLPHead().config == MLPConfig()
    assert make_head("mlp", config=MLPConfig.paper()).config == MLPConfig.paper()


def test_a_config_survives_json_and_refuses_unknown_keys():
    config = MLPConfig(hidden=(8, 4), dropout=0.2)
    assert MLPConfig.from_dict(config.as_dict()) == config
    with pytest.raises(HeadConfigError, match="did you mean 'dropout'"):
        MLPConfig.from_dict({"dropuot": 0.1})


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
def test_any_number_of_hidden_layers_learns(hidden, faces):
    head = quick_head("mlp", blocks=faces.widths, hidden=hidden, dropout=0.1).fit(faces.X, faces.y)
    assert head.score(faces.X, faces.y) > 0.9
    for network in head.networks_:
        assert network.course.losses[-1] < network.course.losses[0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_predictions_are_those_of_a_torch_network_with_the_same_weights(precision, faces):
    head = quick_head("mlp", standardize="none", precision=precision).fit(faces.X, faces.y)
    arrays, rows = head.state().arrays, torch.from_numpy(faces.X)
    first_weight, first_bias, last_weight, last_bias = (
        torch.from_numpy(arrays[f"network.{name}"])
        for name in ("hidden.0.weight", "hidden.0.bias", "answer.weight", "answer.bias")
    )
    proba = torch.zeros(120, 4)
    for member in range(2):
        first = torch.nn.Linear(28, 16)
        last = torch.nn.Linear(16, 4)
        with torch.no_grad():
            first.weight.copy_(first_weight[16 * member : 16 * member + 16])
            first.bias.copy_(first_bias[member, 0])
            last.weight.copy_(last_weight[member].T)
            last.bias.copy_(last_bias[member, 0])
            proba += torch.softmax(last(torch.relu(first(rows))), dim=1) / 2
    np.testing.assert_allclose(head.predict_proba(faces.X), proba.numpy(), atol=1e-5)


def test_a_pool_is_the_product_of_what_each_block_says(faces, more_faces):
    head = quick_head("mlp", blocks=faces.widths).fit(faces.X, faces.y)
    assert list(head.blocks_) == list(faces.widths)
    assert (head.factors_ >= 0).all()
    total, start = np.zeros((80, 4)), 0
    for network, width, factor in zip(head.networks_, faces.widths.values(), head.factors_, strict=True):
        total += factor * np.log(np.maximum(network.proba(more_faces.X[:, start : start + width]), 1e-12))
        start += width
    total -= total.max(axis=1, keepdims=True)
    expected = np.exp(total) / np.exp(total).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(head.predict_proba(more_faces.X), expected, atol=1e-9)


def test_a_pool_without_left_out_rows_is_each_block_trained_alone(faces, more_faces):
    head = quick_head("mlp", blocks=faces.widths, pool_share=0.0).fit(faces.X, faces.y)
    np.testing.assert_array_equal(head.factors_, np.full(len(faces.widths), 1 / len(faces.widths)))
    start = 0
    for number, (network, (name, width)) in enumerate(zip(head.networks_, faces.widths.items(), strict=True)):
        columns = slice(start, start + width)
        alone = quick_head("mlp", blocks={name: width}, random_state=_seed_of(head.seed_, number))
        alone = alone.fit(faces.X[:, columns], faces.y)
        answers = alone.predict_proba(more_faces.X[:, columns])
        np.testing.assert_array_equal(network.proba(more_faces.X[:, columns]), answers)
        start += width


def test_equal_blocks_give_networks_that_differ(faces):
    """With one seed for all they would err alike, and the pool would take them for two opinions."""
    twice = {"one": faces.X[:, :12], "same": faces.X[:, :12]}
    head = quick_head("mlp", blocks={"one": 12, "same": 12}, members=1).fit(np.hstack(list(twice.values())), faces.y)
    first, second = (network.network.hidden[0].weight for network in head.networks_)
    assert not torch.equal(first, second)


def test_a_member_learns_nothing_from_the_rows_it_leaves_out(faces):
    """Other labels on the rows that a member leaves out change the other members and not it."""
    left_out = left_out_rows(faces.y, 2, 0.2, seed=0)
    networks = [fitted_network(faces, y, left_out) for y in (faces.y, np.where(left_out[0], 3, faces.y))]
    first, second = zip(*(one.network.hidden[0].weight.chunk(2) for one in networks), strict=True)
    assert torch.equal(first[0], first[1])
    assert not torch.equal(second[0], second[1])


def fitted_network(faces, y, left_out=None, **params):
    settings = {"hidden": (8,), "epochs": 2, "members": 2, "label_smoothing": 0.0, "logit_adjust": 0.0, **params}
    head = quick_head("mlp", blocks=faces.widths, fusion="concat", **settings).fit(faces.X, faces.y)
    (network,) = head._trained(faces.X, y, NOTHING, left_out)
    return network


def test_left_out_rows_are_answered_by_the_members_that_left_them_out(faces):
    network = fitted_network(faces, faces.y, members=3)
    by = np.zeros((3, 120), bool)
    by[0, :50] = by[1, 40:] = True
    each = [network.proba(faces.X, by=np.arange(3)[:, None] == np.full(120, member)) for member in range(3)]
    found = network.proba(faces.X, by=by)
    np.testing.assert_allclose(found[:40], each[0][:40], atol=1e-15)
    np.testing.assert_allclose(found[40:50], (each[0][40:50] + each[1][40:50]) / 2, atol=1e-15)
    np.testing.assert_allclose(found[50:], each[1][50:], atol=1e-15)
    np.testing.assert_allclose(network.proba(faces.X), np.mean(each, axis=0), atol=1e-15)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
def test_a_member_is_a_stack_of_pytorchs_layers(hidden, normalized):
    network = MLPNetwork((6, *hidden, 3), members=2, normalized=normalized)
    network.draw_all(torch.Generator().manual_seed(0))
    assert len(list(network.parameters())) == 2 * (len(hidden) + 1) + 2 * len(hidden) * normalized
    with torch.no_grad():
        for parameter in network.norms.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    rows = torch.randn(7, 6, generator=torch.Generator().manual_seed(2))
    first, *later = [*network.hidden, network.answer]
    for member, weight in enumerate(first.weight.chunk(2)):
        z = F.linear(rows, weight, first.bias[member, 0])
        for norm, layer in zip(network.norms, later, strict=True):
            if normalized:
                z = F.layer_norm(z, z.shape[-1:], norm.scale[member, 0], norm.shift[member, 0])
            z = F.linear(z.relu(), layer.weight[member].T, layer.bias[member, 0])
        torch.testing.assert_close(network.logits(rows)[member], z)


@pytest.mark.parametrize("hidden", [(8,), (8, 6)])
def test_normalised_layers_answer_as_they_were_trained(hidden, faces):
    head = quick_head("mlp", hidden=hidden, norm="layer", standardize="none").fit(faces.X, faces.y)
    assert head.score(faces.X, faces.y) > 0.9
    network = head.networks_[0].network.float()
    proba = network.logits(torch.from_numpy(faces.X)).softmax(-1).mean(0)
    np.testing.assert_allclose(head.predict_proba(faces.X.astype(np.float32)), proba.numpy(), atol=1e-5)


def test_a_block_of_noise_counts_little_in_a_pool(faces):
    noise = np.random.default_rng(0).normal(size=(120, 12)).astype(np.float32)
    widths = {"face": faces.X.shape[1], "noise": 12}
    head = quick_head("mlp", blocks=widths).fit(np.hstack([faces.X, noise]), faces.y)
    assert head.factors_[1] < 0.2 * head.factors_[0]


def test_one_block_is_the_same_pooled_and_joined(faces):
    one, other = (quick_head("mlp", fusion=fusion).fit(faces.X, faces.y) for fusion in ("pool", "concat"))
    np.testing.assert_array_equal(one.predict_proba(faces.X), other.predict_proba(faces.X))


def test_a_pool_of_rows_too_few_to_hold_any_out_counts_all_blocks_alike(faces):
    few = np.flatnonzero(np.isin(np.arange(120), [0, 1, 2, 3]))
    y = np.arange(len(few))
    head = quick_head("mlp", blocks=faces.widths).fit(faces.X[few], y)
    np.testing.assert_array_equal(head.factors_, np.full(len(faces.widths), 1 / len(faces.widths)))


def test_a_row_alone_is_answered_as_among_others(faces):
    head = quick_head("mlp").fit(faces.X, faces.y)
    together = head.predict_proba(faces.X)
    alone = np.concatenate([head.predict_proba(row[None]) for row in faces.X[:9]])
    np.testing.assert_allclose(alone, together[:9], rtol=0, atol=1e-12)


def test_logit_adjustment_favours_the_rare_class(faces):
    rare = np.flatnonzero((faces.y != 3) | (np.arange(120) < 24))
    shares = [
        quick_head("mlp", logit_adjust=tau, label_smoothing=0.0)
        .fit(faces.X[rare], faces.y[rare])
        .predict_proba(faces.X)
        for tau in (0.0, 1.5)
    ]
    assert shares[1][:, 3].mean() > shares[0][:, 3].mean()


def test_class_weights_favour_the_weighed_class(faces):
    shares = [
        quick_head("mlp", class_weight=weight).fit(faces.X, faces.names).predict_proba(faces.X)[:, 0].mean()
        for weight in (None, {"Fearfully_Surprised": 30.0})
    ]
    assert shares[1] > shares[0]


def test_early_stopping_keeps_the_best_epoch(faces):
    y = np.random.default_rng(0).permutation(faces.y)  # nothing to learn: the first epochs are the best
    head = quick_head("mlp", early_stop=0.25, epochs=60, patience=3, schedule="constant").fit(faces.X, y)
    (network,) = head.networks_
    assert network.course.epochs < 60
    assert len(network.course.losses) == network.course.epochs + 3 == head.n_iter_


def test_different_seeds_give_different_networks(faces):
    one, other = (quick_head("mlp", random_state=seed).fit(faces.X, faces.y) for seed in (0, 1))
    assert not torch.equal(one.networks_[0].network.hidden[0].weight, other.networks_[0].network.hidden[0].weight)


def test_members_differ_from_one_another(faces):
    first, second = quick_head("mlp").fit(faces.X, faces.y).networks_[0].network.hidden[0].weight.chunk(2)
    assert not torch.allclose(first, second)


def test_divergence_is_named_with_what_to_do():
    X = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32) * 1e30
    with pytest.raises(HeadConfigError, match="lower lr or standardise"):
        quick_head("mlp", standardize="none", lr=1e30, schedule="constant").fit(X, np.arange(64) % 3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fusion": "concatenate"}, "fusion must be 'pool' or 'concat'"),
        ({"pool_share": 0.6}, r"pool_share must lie in \[0, 0.5\]"),
        ({"norm": "batch"}, "norm must be 'none' or 'layer'"),
        ({"hidden": (4,) * 65}, "number of hidden layers must be a whole number from 1 to 64"),
        ({"hidden": (0,)}, "hidden must be a whole number"),
        ({"epochs": 0}, "epochs must be a whole number"),
        ({"members": 1.5}, "members must be a whole number"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"label_smoothing": -0.1}, "label_smoothing must lie in"),
        ({"lr": -1.0}, "lr must be finite and not negative"),
        ({"schedule": "linear"}, "schedule must be"),
        ({"standardize": "l1"}, "standardize must be a known word"),
        ({"precision": "float16"}, "precision must be"),
        ({"device": "abacus"}, "cannot train on device 'abacus'"),
        ({"class_weight": {"no such label": 2.0}}, "class_weight must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(params, message, faces):
    with pytest.raises(HeadConfigError, match=message):
        quick_head("mlp", **params).fit(faces.X, faces.y)


def test_choices_made_for_the_user_are_logged(caplog):
    with caplog.at_level(logging.INFO, logger="cer_fusion.fusion.heads"):
        device = chosen_device("auto")
        dtype = chosen_dtype("auto", device)
    assert str(device) in caplog.text
    assert str(dtype).removeprefix("torch.") in caplog.text


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(1, 8), st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.5]))
def test_members_leave_out_their_share_of_every_class_and_other_rows_than_their_neighbours(seed, members, share):
    codes = np.random.default_rng(seed).choice(3, 200, p=[0.6, 0.3, 0.1])
    codes[0] = 3  # the only one of its class
    found = left_out_rows(codes, members, share, seed=seed)
    assert found.shape == (members, 200)
    assert not found[:, 0].any()
    folds = round(1 / share)
    for code in range(3):
        assert np.ptp(found[:, codes == code].sum(axis=1)) <= 1
        assert abs(found[0, codes == code].sum() - (codes == code).sum() / folds) <= 1
    assert (found[:folds].sum(axis=0) <= 1).all()
    assert (found[folds:] == found[: max(0, members - folds)]).all()


def world(seed: int, n: int = 3000, scale: tuple[float, ...] = (1.0, 1.0)) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated members that err independently, made too sure or too unsure by `scale`, and the truth."""
    random = np.random.default_rng(seed)
    codes = random.integers(4, size=n)
    logits = [1.5 * np.eye(4)[codes] + random.normal(size=(n, 4)) * np.sqrt(1.5) for _ in scale]
    return np.stack([softmax(s * one) for s, one in zip(scale, logits, strict=True)]), codes


def test_independent_calibrated_members_count_once_each():
    planes, codes = world(0, n=20_000)
    assert learned_factors(planes, np.eye(planes.shape[2])[codes]) == pytest.approx([1, 1], abs=0.08)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.3, 3))
def test_a_member_that_is_too_sure_by_a_factor_counts_so_much_less(factor):
    plain, codes = world(1)
    sure, _ = world(1, scale=(1.0, factor))
    expected = learned_factors(plain, np.eye(plain.shape[2])[codes]) / [1, factor]
    np.testing.assert_allclose(learned_factors(sure, np.eye(sure.shape[2])[codes]), expected, rtol=0.02, atol=0.01)


def test_factors_are_where_likelihood_times_prior_is_largest():
    planes, codes = world(2, n=400, scale=(0.5, 2.0))

    def loss(factors: np.ndarray) -> float:
        likelihood = np.log(pooled(planes, factors)[np.arange(400), codes]).sum()
        return float(((factors - 0.5) ** 2).sum() / 2 - likelihood)

    best = learned_factors(planes, np.eye(planes.shape[2])[codes])
    for step in ([0.02, 0], [-0.02, 0], [0, 0.02], [0, -0.02]):
        assert loss(best) <= loss(np.maximum(best + step, 0))


def test_members_that_are_never_wrong_on_few_rows_get_no_boundless_factors():
    planes = np.stack([softmax(2 * np.eye(3)[np.arange(6) % 3])] * 2)
    factors = learned_factors(planes, np.eye(3)[np.arange(6) % 3])
    assert factors[0] == pytest.approx(factors[1])
    assert 0.5 < factors[0] < 4


def test_members_that_know_nothing_count_alike():
    planes = np.full((3, 30, 2), 0.5)
    factors = learned_factors(planes, np.eye(2)[np.arange(30) % 2])
    assert len(set(factors)) == 1
    np.testing.assert_allclose(pooled(planes, factors), 0.5)
    against = np.stack([softmax(5 * np.eye(2)[1 - np.arange(30) % 2])] * 2)
    assert learned_factors(against, np.eye(2)[np.arange(30) % 2]) == pytest.approx([0.5, 0.5])


def test_an_impossible_answer_of_one_member_does_not_silence_the_others():
    planes = np.array([[[1.0, 0.0]], [[0.4, 0.6]]])
    assert np.isfinite(pooled(planes, np.ones(2))).all()


@pytest.mark.parametrize("hidden", [8, "8", "(8,)"])
def test_widths_that_are_no_list_are_told(hidden):
    X = np.eye(4, dtype=np.float32)
    with pytest.raises(HeadConfigError, match=r"hidden must be a list, \[256\], got"):
        make_head("mlp", hidden=hidden).fit(X, [0, 1, 0, 1])
