"""What the heads that automatic differentiation trains have in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cer_fusion.fusion import HeadConfigError, load_head, save_head
from cer_fusion.fusion.heads import head_class, installed_heads
from cer_fusion.fusion.heads.networks import NetworkHead

from tests.fusion.heads.conftest import quick_head

NAMES = [name for name in installed_heads() if issubclass(head_class(name), NetworkHead)]
every_network = pytest.mark.parametrize("name", NAMES)


def test_there_are_such_heads():
    assert NAMES == ["gated", "bilinear", "tokens", "tabm"]


@every_network
def test_a_row_alone_is_answered_as_among_others(name, faces):
    head = quick_head(name, blocks=faces.widths).fit(faces.X, faces.y)
    together = head.predict_proba(faces.X)
    alone = np.concatenate([head.predict_proba(row[None]) for row in faces.X[:9]])
    np.testing.assert_allclose(alone, together[:9], rtol=0, atol=1e-12)


@every_network
def test_every_weight_learns_and_members_differ(name, faces):
    never, trained = (
        quick_head(name, blocks=faces.widths, lr=lr).fit(faces.X, faces.y).state().arrays for lr in (0.0, 0.02)
    )
    for key, array in never.items():
        if key.startswith("network."):
            assert not np.array_equal(array, trained[key]), key
    first, second = trained["network.answer.weight"]
    assert not np.allclose(first, second)


@every_network
def test_one_block_is_enough(name, faces):
    assert quick_head(name).fit(faces.X, faces.y).score(faces.X, faces.y) > 0.9


@every_network
def test_a_kept_network_whose_weights_do_not_fit_is_refused(name, faces):
    state = quick_head(name, blocks=faces.widths).fit(faces.X, faces.y).state()
    widths = {"vit": 13, "manet.local": 7, "manet.multi_scale": 8} if name != "tabm" else {**faces.widths, "more": 1}
    with pytest.raises(ValueError, match="must have shape"):
        quick_head(name, blocks=widths, standardize="none", members=3).restore(
            state, classes=np.arange(4), widths=widths, seed=0
        )


@every_network
def test_a_kept_network_larger_than_memory_is_refused_at_once(name, faces):
    state = quick_head(name, blocks=faces.widths).fit(faces.X, faces.y).state()
    for members in (10**9, 10**18):
        with pytest.raises(ValueError, match=r"must have shape|no network of these settings"):
            quick_head(name, blocks=faces.widths, members=members).restore(
                state, classes=np.arange(4), widths=faces.widths, seed=0
            )


def test_early_stopping_keeps_the_best_epoch(faces, tmp_path):
    y = np.random.default_rng(0).permutation(faces.y)  # nothing to learn: the first epochs are the best
    settings = {"early_stop": 0.25, "epochs": 60, "patience": 3, "schedule": "constant"}
    head = quick_head("gated", blocks=faces.widths, **settings).fit(faces.X, y)
    assert head.epochs_ < 57
    assert len(head.losses_) == head.epochs_ + 3
    save_head(head, tmp_path / "head", fingerprints={})
    loaded = load_head(tmp_path / "head")
    assert loaded.epochs_ == head.epochs_
    np.testing.assert_array_equal(loaded.predict_proba(faces.X), head.predict_proba(faces.X))


def test_logit_adjustment_favours_the_rare_class(faces):
    rare = np.flatnonzero((faces.y != 3) | (np.arange(120) < 24))
    plain, adjusted = (
        quick_head("gated", blocks=faces.widths, logit_adjust=tau, label_smoothing=0.0)
        .fit(faces.X[rare], faces.y[rare])
        .predict_proba(faces.X)
        for tau in (0.0, 1.5)
    )
    assert adjusted[:, 3].mean() > plain[:, 3].mean()


def test_class_weights_favour_the_weighed_class(faces):
    plain, weighed = (
        quick_head("bilinear", blocks=faces.widths, class_weight=weight)
        .fit(faces.X, faces.names)
        .predict_proba(faces.X)
        for weight in (None, {"Fearfully_Surprised": 30.0})
    )
    assert weighed[:, 0].mean() > plain[:, 0].mean()


def test_weight_decay_makes_weights_small_and_leaves_biases_alone(faces):
    free, decayed = (
        quick_head("gated", blocks=faces.widths, weight_decay=decay).fit(faces.X, faces.y).network_
        for decay in (0.0, 20.0)
    )
    assert decayed.project.weight.norm() < 0.5 * free.project.weight.norm()
    assert decayed.answer.bias.norm() > 0.5 * free.answer.bias.norm()


def test_dropout_is_for_training_only(faces):
    head = quick_head("gated", blocks=faces.widths, dropout=0.9).fit(faces.X, faces.y)
    np.testing.assert_array_equal(head.predict_proba(faces.X), head.predict_proba(faces.X))


def test_divergence_is_named_with_what_to_do():
    X = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32) * 1e30
    with pytest.raises(HeadConfigError, match="lower lr or standardise"):
        quick_head("gated", standardize="none", lr=1e30, schedule="constant").fit(X, np.arange(64) % 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@every_network
def test_a_head_trained_on_a_gpu_answers_on_the_cpu(name, faces, more_faces):
    head = quick_head(name, blocks=faces.widths, device="cuda").fit(faces.X, faces.y)
    assert head.device_ == "cuda"
    assert head.score(more_faces.X, more_faces.y) > 0.8


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("gated", {"epochs": 0}, "epochs must be a whole number"),
        ("gated", {"members": 1.5}, "members must be a whole number"),
        ("gated", {"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ("gated", {"early_stop": -0.1}, "early_stop must lie in"),
        ("gated", {"lr": -1.0}, "lr must be finite and not negative"),
        ("gated", {"weight_decay": float("nan")}, "weight_decay must be finite"),
        ("gated", {"schedule": "linear"}, "schedule must be"),
        ("gated", {"standardize": "l1"}, "standardize must be a known word"),
        ("gated", {"device": "abacus"}, "cannot train on device 'abacus'"),
        ("gated", {"class_weight": {"no such label": 2.0}}, "class_weight must be"),
        ("gated", {"width": 0}, "width must be a whole number"),
        ("gated", {"gate": "hard"}, "gate must be 'softmax' or 'sigmoid'"),
        ("bilinear", {"rank": True}, "rank must be a whole number"),
        ("tokens", {"layers": 65}, "layers must be a whole number from 1 to 64"),
        ("tokens", {"width": 10, "attention_heads": 4}, "width must be a multiple of attention_heads, got 10 for 4"),
        ("tabm", {"hidden": ()}, "number of hidden layers must be a whole number"),
        ("tabm", {"hidden": (8, 0)}, "hidden must be a whole number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, params, message, faces):
    with pytest.raises(HeadConfigError, match=message):
        quick_head(name, blocks=faces.widths, **params).fit(faces.X, faces.y)
