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
    assert (paper.label_smoothing, paper.logit_adjust, paper.weight_decay, paper.class_weight) == (0.0, 0.0, 0.0, None)


def test_the_papers_head_has_the_papers_shape():
    random = np.random.default_rng(0)
    blocks = {"vit": 768, "manet.local": 512, "manet.multi_scale": 512, "resnet50": 512}
    X = random.normal(size=(14, 2304)).astype(np.float32)
    head = make_head("mlp", blocks=blocks, config=MLPConfig.paper(), epochs=1).fit(X, np.arange(14) % 7)
    assert [weight.shape for weight in head.weights_] == [(1152, 2304), (1, 1152, 7)]
    assert sum(w.size for w in head.weights_) + sum(b.size for b in head.biases_) == 2304 * 1152 + 1152 + 1152 * 7 + 7


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
    assert head.losses_[-1] < head.losses_[0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_predictions_are_those_of_a_torch_network_with_the_same_weights(precision, faces):
    head = quick_head("mlp", standardize="none", precision=precision).fit(faces.X, faces.y)
    rows = torch.from_numpy(faces.X)
    proba = torch.zeros(120, 4)
    for member in range(2):
        first = torch.nn.Linear(28, 16)
        last = torch.nn.Linear(16, 4)
        with torch.no_grad():
            first.weight.copy_(torch.from_numpy(head.weights_[0][16 * member : 16 * member + 16]))
            first.bias.copy_(torch.from_numpy(head.biases_[0][16 * member : 16 * member + 16]))
            last.weight.copy_(torch.from_numpy(head.weights_[1][member].T))
            last.bias.copy_(torch.from_numpy(head.biases_[1][member, 0]))
            proba += torch.softmax(last(torch.relu(first(rows))), dim=1) / 2
    np.testing.assert_allclose(head.predict_proba(faces.X), proba.numpy(), atol=1e-5)


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
    assert head.epochs_ < 60
    assert len(head.losses_) == head.epochs_ + 3


def test_different_seeds_give_different_networks(faces):
    one, other = (quick_head("mlp", random_state=seed).fit(faces.X, faces.y) for seed in (0, 1))
    assert not np.array_equal(one.weights_[0], other.weights_[0])


def test_members_differ_from_one_another(faces):
    first, second = np.split(quick_head("mlp").fit(faces.X, faces.y).weights_[0], 2)
    assert not np.allclose(first, second)


def test_divergence_is_named_with_what_to_do():
    X = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32) * 1e30
    with pytest.raises(HeadConfigError, match="lower lr or standardise"):
        quick_head("mlp", standardize="none", lr=1e30, schedule="constant").fit(X, np.arange(64) % 3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
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
