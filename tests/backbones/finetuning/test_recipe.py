from __future__ import annotations

import json

import pytest

from cer_fusion.backbones import Recipe, RecipeError


@pytest.mark.parametrize("recipe", [Recipe(), Recipe.paper(), Recipe.paper(warmup_epochs=5), Recipe.manet()])
def test_a_recipe_survives_json(recipe):
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_unknown_keys_are_refused_with_the_nearest():
    with pytest.raises(RecipeError, match="no field 'learning_rate'"):
        Recipe.from_json({"learning_rate": 1})
    with pytest.raises(RecipeError, match="did you mean 'epochs'"):
        Recipe().changed({"epoch": 1})
    with pytest.raises(RecipeError, match="did you mean 'paper'"):
        Recipe.named("papers")


def test_the_papers_recipe_is_what_the_paper_says():
    paper = Recipe.named("paper")
    assert (paper.optimizer, paper.lr, paper.batch_size, paper.epochs) == ("adam", 5e-5, 128, 100)
    assert (paper.label_smoothing, paper.mixup, paper.ema, paper.schedule) == (0, 0, 0, "constant")
    assert (paper.warmup_epochs, paper.patience) == (0, 0)
    unity = Recipe.named("paper-unity")
    assert unity == paper.changed({"name": "paper-unity", "warmup_epochs": 5.0})


def test_the_default_recipe_is_a_modern_one():
    recipe = Recipe.named("default")
    assert (recipe.optimizer, recipe.schedule, recipe.layer_decay) == ("adamw", "cosine", 0.8)
    assert recipe.warmup_epochs > 0
    assert recipe.ema > 0.99
    assert 0 < recipe.patience < recipe.epochs


def test_rare_classes_are_made_up_for_once():
    with pytest.raises(RecipeError, match=r"together they do too much\n  choose one"):
        Recipe().changed({"sampling": "balanced", "logit_adjustment": 1.0})


def test_manets_recipe_is_what_its_public_code_does():
    manet = Recipe.named("manet")
    assert (manet.optimizer, manet.lr, manet.momentum, manet.weight_decay) == ("momentum", 0.01, 0.9, 1e-4)
    assert (manet.schedule, manet.step_epochs, manet.step_factor) == ("step", 15, 0.1)
    assert (manet.crop_area, manet.crop_ratio) == ((0.08, 1.0), (0.75, 4 / 3))


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0}, {"epochs": 1.5}, {"epochs": True}, {"lr": float("nan")}, {"lr": "fast"}, {"batch_size": 1},
        {"schedule": "linear"}, {"sampling": "odd"}, {"flip": 1}, {"crop_area": 0.5}, {"crop_area": [0.9, 0.5]},
        {"crop_ratio": ["a", "b"]}, {"ema": 1.0}, {"epochs": None}, {"optimizer": 3},
    ],
)  # fmt: skip
def test_impossible_values_are_refused_by_name(changes):
    with pytest.raises(RecipeError, match=next(iter(changes))):
        Recipe().changed(changes)


def test_what_may_be_switched_off_can_be_none():
    assert Recipe().changed({"layer_decay": None, "clip_norm": None}).layer_decay is None
