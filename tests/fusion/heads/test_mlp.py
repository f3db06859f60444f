from __future__ import annotations

import inspect
import logging
from dataclasses import fields

import numpy as np
import pytest
import torch

from fusion import HeadConfigError, MLPConfig, make_head
from fusion.heads.devices import chosen_device, chosen_dtype
from fusion.heads.mlp import MLPHead

from .conftest import quick_head


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
    (network,) = head.networks_
    assert [weight.shape for weight in network.weights] == [(1152, 2304), (1, 1152, 7)]
    numbers = sum(array.size for array in (*network.weights, *network.biases))
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
        assert network.losses[-1] < network.losses[0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_predictions_are_those_of_a_torch_network_with_the_same_weights(precision, faces):
    head = quick_head("mlp", standardize="none", precision=precision).fit(faces.X, faces.y)
    (network,), rows = head.networks_, torch.from_numpy(faces.X)
    proba = torch.zeros(120, 4)
    for member in range(2):
        first = torch.nn.Linear(28, 16)
        last = torch.nn.Linear(16, 4)
        with torch.no_grad():
            first.weight.copy_(torch.from_numpy(network.weights[0][16 * member : 16 * member + 16]))
            first.bias.copy_(torch.from_numpy(network.biases[0][16 * member : 16 * member + 16]))
            last.weight.copy_(torch.from_numpy(network.weights[1][member].T))
            last.bias.copy_(torch.from_numpy(network.biases[1][member, 0]))
            proba += torch.softmax(last(torch.relu(first(rows))), dim=1) / 2
    np.testing.assert_allclose(head.predict_proba(faces.X), proba.numpy(), atol=1e-5)


def test_a_pool_is_the_product_of_what_each_block_says_alone(faces, more_faces):
    head = quick_head("mlp", blocks=faces.widths).fit(faces.X, faces.y)
    assert list(head.blocks_) == list(faces.widths)
    assert (head.factors_ >= 0).all()
    total, start = np.zeros((80, 4)), 0
    for (name, width), factor in zip(faces.widths.items(), head.factors_, strict=True):
        alone = quick_head("mlp", blocks={name: width}).fit(faces.X[:, start : start + width], faces.y)
        total += factor * np.log(np.maximum(alone.predict_proba(more_faces.X[:, start : start + width]), 1e-12))
        start += width
    total -= total.max(axis=1, keepdims=True)
    expected = np.exp(total) / np.exp(total).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(head.predict_proba(more_faces.X), expected, atol=1e-9)


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
    assert network.epochs < 60
    assert len(network.losses) == network.epochs + 3 == head.n_iter_


def test_different_seeds_give_different_networks(faces):
    one, other = (quick_head("mlp", random_state=seed).fit(faces.X, faces.y) for seed in (0, 1))
    assert not np.array_equal(one.networks_[0].weights[0], other.networks_[0].weights[0])


def test_members_differ_from_one_another(faces):
    first, second = np.split(quick_head("mlp").fit(faces.X, faces.y).networks_[0].weights[0], 2)
    assert not np.allclose(first, second)


def test_divergence_is_named_with_what_to_do():
    X = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32) * 1e30
    with pytest.raises(HeadConfigError, match="lower lr or standardise"):
        quick_head("mlp", standardize="none", lr=1e30, schedule="constant").fit(X, np.arange(64) % 3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fusion": "concatenate"}, "fusion must be 'pool' or 'concat'"),
        ({"pool_folds": 1}, "pool_folds must be a whole number of at least 2"),
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
    with caplog.at_level(logging.INFO, logger="fusion.heads.devices"):
        device = chosen_device("auto")
        dtype = chosen_dtype("auto", device)
    assert str(device) in caplog.text
    assert str(dtype).removeprefix("torch.") in caplog.text
