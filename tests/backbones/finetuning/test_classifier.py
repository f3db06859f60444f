from __future__ import annotations

import pytest
import torch

from cer_fusion import backbones
from cer_fusion.backbones import OptionError
from cer_fusion.backbones.finetuning.classifier import classifier_of, loss_sum, state_for_loader


def test_manets_branches_are_mixed_as_the_public_code_does():
    made = backbones.create("manet", weights="random", num_classes=3)
    classifier = classifier_of(made, 3, seed=0)
    assert classifier.shares == {"local": 0.6, "multi_scale": 0.4}
    logits = {"local": torch.tensor([[1.0, 0.0, 0.0]]), "multi_scale": torch.tensor([[0.0, 1.0, 0.0]])}
    assert torch.allclose(classifier.mixed(logits), torch.tensor([[0.6, 0.4, 0.0]]))
    y = torch.tensor([0])
    expected = 0.6 * torch.nn.functional.cross_entropy(logits["local"], y)
    expected += 0.4 * torch.nn.functional.cross_entropy(logits["multi_scale"], y)
    found = loss_sum(logits, classifier.shares, torch.eye(3)[y], torch.zeros(3))
    assert torch.allclose(found, expected)
    state = state_for_loader(made, classifier)
    assert set(state) == set(made.state())
    with pytest.raises(OptionError, match="num_classes=8"):
        classifier_of(made, 8, seed=0)


@pytest.mark.parametrize(("tap", "width"), [("bottleneck512", 2048), ("pool2048", 2048), ("proj512", 512)])
def test_resnet50_is_trained_through_its_usual_pool_unless_the_projection_is_learnt(tap, width):
    made = backbones.create("resnet50", weights="random", tap=tap, img_size=32)
    classifier = classifier_of(made, 3, seed=0)
    assert classifier.head.weight.shape == (3, width)
    classifier.train()
    classifier.mixed(classifier(torch.rand(2, 3, 32, 32))).sum().backward()
    without = [name for name, parameter in classifier.named_parameters() if parameter.grad is None]
    assert without == []


def test_a_new_head_depends_on_the_seed_alone():
    made = backbones.create("timm:test_vit", weights="random", img_size=48)
    first, again, other = (classifier_of(made, 3, seed=seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
