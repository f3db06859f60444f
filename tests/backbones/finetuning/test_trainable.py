"""Frozen layers, low-rank additions, and the focal loss."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from cer_fusion import backbones
from cer_fusion.backbones import MissingExtraError, Recipe, RecipeError, load_state
from cer_fusion.backbones.finetuning.classifier import classifier_of, loss_sum
from cer_fusion.backbones.finetuning.trainable import keep_still, layers_in_order, only_what_learns
from tests.backbones.finetuning.conftest import TINY, network

QUICK = TINY.changed({"epochs": 1, "ema": 0.0, "lr": 0.05, "optimizer": "sgd"})


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@pytest.mark.parametrize("kind", ["timm:test_resnet", "timm:test_vit"])
def test_frozen_layers_stay_as_they_are_with_their_running_statistics_and_the_rest_learns(kind: str, tune: Any) -> None:
    used = network(kind)
    before = {name: tensor.clone() for name, tensor in used.state().items()}
    layers = layers_in_order(used.encoder.trunk)
    report = tune(used, recipe=QUICK.changed({"freeze": 0.5}))
    moved = changed(before, load_state(report.weights))
    frozen = {name.rpartition(".")[0] for layer in layers[: round(len(layers) / 2)] for name in layer}
    assert frozen
    assert moved
    assert not {name for name in moved if name.rpartition(".")[0] in frozen}
    last = layers[-1][0].rpartition(".")[0]
    assert any(name.startswith(last) for name in moved)
    assert all(parameter.requires_grad for parameter in used.module.parameters())


def test_with_all_layers_frozen_the_classifier_alone_learns(tune: Any) -> None:
    used = network("timm:test_resnet")
    digest = used.weights_digest()
    report = tune(used, recipe=QUICK.changed({"freeze": 1.0, "layer_decay": 0.8}))
    assert report.weights_digest == digest
    assert load_state(report.weights)["fc.weight"].abs().max() > 0.01


def test_manets_own_heads_learn_though_all_its_layers_are_frozen() -> None:
    made: Any = backbones.create("manet", weights="random", num_classes=3)
    with only_what_learns(made, Recipe(freeze=1.0)):
        classifier = classifier_of(made, 3, seed=0).train()
        keep_still(classifier)
        learns = {name for name, parameter in classifier.named_parameters() if parameter.requires_grad}
        assert learns == {f"encoder.{head}.{kind}" for head in ("fc_1", "fc_2") for kind in ("weight", "bias")}
        assert not made.module.bn1.training
        assert not made.module.layer3_1_p1[0].cbam.SpatialGate.spatial.bn.training


def test_freezing_and_low_rank_additions_together_are_refused() -> None:
    with pytest.raises(RecipeError, match="choose one: freeze=0, or lora_rank=0"):
        Recipe(freeze=0.5, lora_rank=4)


def test_low_rank_additions_are_asked_for_only_where_peft_is_installed(tune: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'cer-fusion\[lora\]'"):
        tune(recipe=QUICK.changed({"lora_rank": 2}))


@pytest.mark.parametrize("kind", ["timm:test_resnet", "timm:test_vit"])
def test_low_rank_additions_are_in_the_weights_that_are_kept_and_gone_from_the_network(kind: str, tune: Any) -> None:
    pytest.importorskip("peft", reason="the extra [lora] is not installed")
    used = network(kind)
    before = {name: tensor.clone() for name, tensor in used.state().items()}
    report = tune(used, recipe=QUICK.changed({"lora_rank": 2, "lora_alpha": 4.0, "epochs": 2, "ema": 0.9}))
    kept = load_state(report.weights)
    assert set(before) <= set(kept)
    moved = changed(before, kept)
    assert moved
    assert all(name.endswith("weight") and kept[name].ndim in (2, 4) for name in moved)
    for name in moved:
        difference = (kept[name] - before[name]).flatten(1)
        assert int((torch.linalg.svdvals(difference) > 1e-3 * difference.norm()).sum()) <= 2 * kept[name][0, 0].numel()
    assert not [name for name, _ in used.module.named_modules() if "lora" in name]
    assert all(parameter.requires_grad for parameter in used.module.parameters())
    again: Any = backbones.create(kind, weights=report.weights, img_size=used.transform.size_px)
    assert again.weights_digest() == report.weights_digest == used.weights_digest()


def test_the_focal_loss_is_its_formula_and_cross_entropy_at_zero() -> None:
    logits = {"head": torch.randn(5, 3, generator=torch.Generator().manual_seed(0))}
    hard = torch.eye(3)[[0, 2, 1, 1, 0]]
    p = logits["head"].softmax(1)[torch.arange(5), [0, 2, 1, 1, 0]]
    shares, prior = {"head": 1.0}, torch.zeros(3)
    torch.testing.assert_close(loss_sum(logits, shares, hard, prior, 2.0), -((1 - p) ** 2 * p.log()).sum())
    torch.testing.assert_close(loss_sum(logits, shares, hard, prior), -p.log().sum())
    soft = torch.full((5, 3), 1 / 3)
    torch.testing.assert_close(loss_sum(logits, shares, soft, prior, 1e-9), loss_sum(logits, shares, soft, prior))
    sure = {"head": torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)}
    loss_sum(sure, shares, torch.eye(3)[[0]], prior, 0.5).backward()
    assert torch.isfinite(sure["head"].grad).all()
