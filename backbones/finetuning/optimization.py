"""What moves the weights: timm's optimizer, schedule and averaged weights, as the recipe says."""

from __future__ import annotations

import logging
from typing import Any

import torch
from cer_fusion.backbones.errors import RecipeError
from cer_fusion.backbones.finetuning.classifier import Classifier
from cer_fusion.backbones.finetuning.recipe import Recipe
from cer_fusion.backbones.torch_backbone import TorchBackbone
from timm.optim._optim_factory import create_optimizer_v2
from timm.optim._param_groups import param_groups_layer_decay
from timm.scheduler.scheduler import Scheduler
from timm.scheduler.scheduler_factory import create_scheduler_v2
from timm.utils.model_ema import ModelEmaV3

logger = logging.getLogger(__name__)


def optimizer_of(classifier: Classifier, backbone: TorchBackbone, recipe: Recipe) -> torch.optim.Optimizer:
    """Make the recipe's optimizer; layers learn at their own rates where the network says which layers it has."""
    groups = parameter_groups(classifier, backbone, recipe)
    try:
        made: torch.optim.Optimizer = create_optimizer_v2(
            groups, opt=recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=recipe.momentum
        )
    except (ValueError, AssertionError) as error:
        raise RecipeError(f"timm cannot make the optimizer {recipe.optimizer!r}: {error}") from None
    return made


def parameter_groups(classifier: Classifier, backbone: TorchBackbone, recipe: Recipe) -> list[dict[str, Any]]:
    """Sort parameters by how far and how fast they may move."""
    trunk: Any = backbone.encoder.trunk
    inside = {id(parameter) for parameter in trunk.parameters()}
    outside = [parameter for parameter in classifier.parameters() if id(parameter) not in inside]
    if recipe.layer_decay is not None and not hasattr(trunk, "group_matcher"):
        logger.info("%s does not say which layers it has: all learn at one rate, without layer_decay", backbone.name)
    elif recipe.layer_decay is not None:
        groups: list[dict[str, Any]] = param_groups_layer_decay(
            trunk,
            weight_decay=recipe.weight_decay,
            no_weight_decay_list=_undecayed(trunk),
            weight_decay_exclude_1d=not recipe.decay_norms,
            layer_decay=recipe.layer_decay,
        )
        return [*groups, *_by_decay(outside, (), recipe)]
    spared = _undecayed(trunk)
    left = {id(parameter) for name, parameter in trunk.named_parameters() if name in spared}
    return _by_decay(list(classifier.parameters()), left, recipe)


def schedule_of(optimizer: torch.optim.Optimizer, recipe: Recipe, *, updates_per_epoch: int) -> Scheduler:
    """Make the recipe's schedule; its rates are a function of the number of updates alone: no state to keep.

    A constant rate is steps of factor one: older timm has no schedule of that name, and gives none at all for a name
    that it does not know.
    """
    constant = recipe.schedule == "constant"
    made, _ = create_scheduler_v2(
        optimizer,
        sched="step" if constant else recipe.schedule,
        num_epochs=recipe.epochs,
        decay_epochs=recipe.step_epochs,
        decay_rate=1.0 if constant else recipe.step_factor,
        warmup_lr=recipe.lr / 100,
        warmup_epochs=min(recipe.warmup_epochs, recipe.epochs),  # type: ignore[arg-type]
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    assert isinstance(made, Scheduler)
    return made


def average_of(classifier: Classifier, recipe: Recipe) -> ModelEmaV3 | None:
    """Start the averaged copy of the weights, if the recipe has one."""
    if not recipe.ema:
        return None
    return ModelEmaV3(classifier, decay=recipe.ema, use_warmup=True)


def _undecayed(trunk: Any) -> set[str]:
    """Name the parameters that the network wants no weight decay on (position embeddings, class tokens)."""
    return set(trunk.no_weight_decay()) if hasattr(trunk, "no_weight_decay") else set()


def _by_decay(parameters: list[torch.nn.Parameter], spared: Any, recipe: Recipe) -> list[dict[str, Any]]:
    free = [p for p in parameters if (p.ndim <= 1 or id(p) in spared) and not recipe.decay_norms]
    taken = {id(p) for p in free}
    pulled = [p for p in parameters if id(p) not in taken]
    groups = [{"params": free, "weight_decay": 0.0}, {"params": pulled, "weight_decay": recipe.weight_decay}]
    return [group for group in groups if group["params"]]
