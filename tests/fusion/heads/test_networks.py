"""What all heads of networks have in common."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from cer_fusion.fusion import HeadConfigError, load_head, save_head
from cer_fusion.fusion.heads import head_class, installed_heads
from cer_fusion.fusion.heads.layers import Linear
from cer_fusion.fusion.heads.networks import NetworkHead, side_by_side, threads_set_to
from cer_fusion.fusion.heads.training import AdamW, CrossEntropy
from tests.fusion.heads.conftest import quick_head

NAMES = [name for name in installed_heads() if issubclass(head_class(name), NetworkHead)]
every_network = pytest.mark.parametrize("name", NAMES)


def test_there_are_such_heads():
    assert NAMES == ["mlp", "multitask", "sequence", "gated", "bilinear", "tokens", "tabm"]


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
        if "network." in key:
            assert not np.array_equal(array, trained[key]), key
    answers = [array for key, array in trained.items() if key.endswith("network.answer.weight")]
    assert len(answers) == (3 if name in ("mlp", "multitask") else 1)
    for first, second in answers:
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
def test_a_kept_network_of_another_form_is_refused(name, faces):
    state = quick_head(name).fit(faces.X, faces.y).state()
    renamed = {key.replace("network.", "weights."): array for key, array in state.arrays.items()}
    with pytest.raises(ValueError, match=r"there is no array 'network\..*train it again"):
        quick_head(name).restore(replace(state, arrays=renamed), classes=np.arange(4), widths={"x": 28}, seed=0)


@every_network
def test_a_kept_network_larger_than_memory_is_refused_at_once(name, faces):
    state = quick_head(name, blocks=faces.widths).fit(faces.X, faces.y).state()
    for members in (10**9, 10**18):
        with pytest.raises(ValueError, match=r"must have shape|no network of these settings"):
            quick_head(name, blocks=faces.widths, members=members).restore(
                state, classes=np.arange(4), widths=faces.widths, seed=0
            )


@every_network
def test_early_stopping_keeps_the_best_epoch(name, faces, tmp_path):
    y = np.random.default_rng(0).permutation(faces.y)  # nothing to learn: the first epochs are the best
    settings = {"early_stop": 0.25, "epochs": 60, "patience": 3, "schedule": "constant"}
    head = quick_head(name, **settings).fit(faces.X, y)
    (network,) = head.networks_
    assert network.course.epochs < 57
    assert len(network.course.losses) == head.n_iter_ == network.course.epochs + 3
    save_head(head, tmp_path / "head", fingerprints={})
    loaded = load_head(tmp_path / "head")
    assert loaded.networks_[0].course.epochs == network.course.epochs
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
        quick_head("gated", blocks=faces.widths, weight_decay=decay).fit(faces.X, faces.y).networks_[0].network
        for decay in (0.0, 20.0)
    )
    assert decayed.project.weight.norm() < 0.5 * free.project.weight.norm()
    assert decayed.answer.bias.norm() > 0.5 * free.answer.bias.norm()


@every_network
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_fit_does_not_mind_what_the_caller_does_about_gradients(name, mode, faces):
    plain = quick_head(name, blocks=faces.widths, epochs=1).fit(faces.X, faces.y)
    with mode():
        other = quick_head(name, blocks=faces.widths, epochs=1).fit(faces.X, faces.y)
        np.testing.assert_array_equal(other.predict_proba(faces.X), plain.predict_proba(faces.X))


def test_dropout_is_for_training_only(faces):
    head = quick_head("gated", blocks=faces.widths, dropout=0.9).fit(faces.X, faces.y)
    np.testing.assert_array_equal(head.predict_proba(faces.X), head.predict_proba(faces.X))


def test_divergence_is_named_with_what_to_do():
    X = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32) * 1e30
    with pytest.raises(HeadConfigError, match="lower lr or standardise"):
        quick_head("gated", standardize="none", lr=1e30, schedule="constant").fit(X, np.arange(64) % 3)


@pytest.mark.parametrize("counted", [False, True])
def test_the_gradient_of_the_loss_is_that_of_automatic_differentiation(counted):
    codes, weights = np.arange(12) % 3, np.array([1.0, 2.0, 0.5])
    loss = CrossEntropy(np.eye(3), codes, weights, 0.1, 0.7, torch.device("cpu"))
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 3, generator=random, requires_grad=True)
    counts = torch.rand(2, 12, generator=random) if counted else None
    value, gradient = loss(logits.detach(), index := torch.tensor([7, 1, 2, 11, 0]), counts)
    smoothed = 0.9 * torch.eye(3)[torch.from_numpy(codes)[index]] + 0.1 / 3
    of_rows = -((logits + loss.shift).log_softmax(-1) * smoothed).sum(-1) * loss.weights[codes[index], 0]
    of_rows = of_rows * (counts[:, index] if counted else 1)
    torch.testing.assert_close(value, of_rows.sum() / 2)
    torch.testing.assert_close(gradient, torch.autograd.grad(of_rows.sum() / 5, logits)[0])


def test_the_optimiser_is_pytorchs_with_decay_on_weights_alone():
    networks = []
    for _ in range(2):
        network = Linear(2, 4, 3)
        network.draw(torch.Generator().manual_seed(0))
        networks.append(network)
    ours, theirs = networks
    one = AdamW(ours, 0.1, torch.device("cpu"))
    groups = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}]
    other = torch.optim.AdamW(groups, fused=True)
    z = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
    for step in range(3):
        for network in networks:
            network(z).square().sum().backward()
        one.step(0.1 * (step + 1))
        for group in other.param_groups:
            group["lr"] = 0.1 * (step + 1)
        other.step()
        other.zero_grad()
        assert ours.weight.grad is None
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_training_does_not_import_pytorchs_compiler():
    """`torch.optim.AdamW`, the class, brings 900 modules when it is first made: a second and more of every command."""
    code = (
        "import sys, numpy; from cer_fusion.fusion import make_head\n"
        "make_head('mlp', hidden=(4,), epochs=1).fit(numpy.eye(6), [0, 1] * 3)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_parts_come_back_in_order_and_a_round_is_fitted_at_once():
    meet = threading.Barrier(2, timeout=60)
    found = []

    def fit(part: int) -> int:
        if part < 4:
            meet.wait()  # passed only if two parts are under way
        found.append((part, torch.get_num_threads()))
        return 10 * part

    with threads_set_to(2):
        assert side_by_side(fit, range(5), threads=2) == [0, 10, 20, 30, 40]
        assert torch.get_num_threads() == 2
    assert sorted(found) == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2)]


def test_one_thread_fits_one_part_after_the_other():
    here = threading.get_ident()
    assert side_by_side(lambda part: (part, threading.get_ident()), "ab", threads=1) == [("a", here), ("b", here)]


def test_a_part_that_fails_fails_the_fit_and_leaves_the_threads_as_they_were():
    def fit(part: int) -> int:
        raise ValueError(f"part {part}")

    with threads_set_to(2):
        with pytest.raises(ValueError, match="part 0"):
            side_by_side(fit, range(3), threads=2)
        assert torch.get_num_threads() == 2


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
        ("mlp", {"logit_adjust": -3}, "logit_adjust must"),
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
