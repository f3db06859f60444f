"""Fine-tuning with the losses of DLP-CNN and DBM-CNN: the loss of the heads; rows of a class come closer."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from cer_fusion import backbones
from cer_fusion.backbones import OptionError, RecipeError
from cer_fusion.backbones.finetuning.classifier import locality_sum
from cer_fusion.fusion.heads.locality import Locality
from tests.backbones.finetuning.conftest import TINY, examples, network

FREE = TINY.changed({"ema": 0.0, "epochs": 4, "lr": 5e-3, "label_smoothing": 0.0})


@pytest.mark.parametrize("voted", [False, True])
def test_the_loss_and_its_gradient_are_those_of_heads_on_cached_rows(voted):
    rng = np.random.default_rng(0)
    codes = np.arange(12) % 3
    soft = rng.dirichlet(np.ones(3), size=12) if voted else None
    recipe = TINY.changed({"locality": 0.4, "neighbours": 2})
    found = []
    for sides in (True, False):
        units = torch.tensor(rng.normal(size=(12, 5)) if sides else found[0][2], dtype=torch.float32)
        units.requires_grad_()
        if sides:
            votes = None if soft is None else torch.tensor(soft, dtype=torch.float32)
            loss = locality_sum(units, torch.from_numpy(codes), votes, recipe) / 12
        else:
            near = Locality(codes, soft, weight=0.4, neighbours=2, device=torch.device("cpu"))
            loss = near(units[None], torch.arange(12))
        loss.backward()
        found.append((loss.item(), units.grad.numpy(), units.detach().numpy()))
    assert found[0][0] > 0
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-7)


def tinted(label: int, number: int) -> bytes:
    """Draw a picture of a class under a light of its own, which says nothing of the class."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 60, (32, 32, 3)) + rng.integers(0, 100, 3)
    pixels[..., label] += 60
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def spread(backbone) -> float:
    """Share of the variance of rows that is within classes, of pictures that were not learnt from."""
    pictures = np.stack([backbone.decode(tinted(i % 3, 300 + i)) for i in range(90)])
    rows = backbone.embed(pictures)["pooled"].astype(np.float64)
    return float(np.mean([rows[k::3].var(0).sum() for k in range(3)]) / rows.var(0).sum())


def test_pictures_of_a_class_come_closer_and_their_class_is_found_as_before(tune):
    """On the mean of three runs: a single one may go either way, by its seed and by PyTorch's version."""
    train = examples(180, contents={i: tinted(i % 3, i) for i in range(180)})
    valid = examples(18, first=1000, contents={i: tinted(i % 3, 1000 + i) for i in range(18)})
    found, right = {}, {}
    for weight in (0.0, 1.0):
        recipe = FREE.changed({"locality": weight, "batch_size": 30})
        used = [network("timm:test_resnet", seed=seed) for seed in range(3)]
        reports = [
            tune(one, train, valid, recipe=recipe, output=f"w{weight:g}-{seed}", seed=seed)
            for seed, one in enumerate(used)
        ]
        found[weight] = np.mean([spread(one) for one in used])
        right[weight] = np.mean([report.best.valid_accuracy for report in reports])
    assert found[1.0] < 0.95 * found[0.0]
    assert right[1.0] >= right[0.0] - 1 / 18


def test_a_weight_of_nothing_changes_no_weight_and_a_run_repeats(tune):
    digests = [
        tune(output=name, recipe=FREE.changed({"epochs": 1, **changes})).weights_digest
        for name, changes in (
            ("plain", {}),
            ("off", {"neighbours": 3}),
            ("on", {"locality": 0.5}),
            ("again", {"locality": 0.5}),
        )
    ]
    assert digests[0] == digests[1] != digests[2] == digests[3]


def test_soft_labels_choose_neighbours_by_votes(tune):
    shares = np.full((25, 3), 0.1, np.float32)
    shares[np.arange(25), np.arange(25) % 3] = 0.8
    other = shares[np.random.default_rng(0).permutation(25)]
    recipe = FREE.changed({"epochs": 1, "locality": 1.0})
    train = examples(25)
    kept = [
        tune(output=name, train=replace(train, soft=soft), recipe=recipe).weights_digest
        for name, soft in (("own", shares), ("other", other))
    ]
    assert kept[0] != kept[1]


@pytest.mark.parametrize("changes", [{"mixup": 0.2}, {"cutmix": 1.0}])
def test_mixed_pictures_are_of_no_one_class(changes):
    with pytest.raises(RecipeError, match="make pictures of two"):
        TINY.changed({"locality": 0.1, **changes})


@pytest.mark.parametrize(("field", "value"), [("locality", -1), ("neighbours", 0), ("neighbours", 2.5)])
def test_a_weight_or_number_that_cannot_be_is_refused(field, value):
    with pytest.raises(RecipeError, match=f"{field} must be"):
        TINY.changed({field: value})


def test_a_network_with_heads_of_its_own_reads_no_one_vector(tune):
    own = backbones.create("manet", weights="random", num_classes=3)
    with pytest.raises(OptionError, match="locality draws what one linear head reads"):
        tune(own, recipe=FREE.changed({"locality": 0.1, "epochs": 1}))
