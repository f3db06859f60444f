"""Which of a network's numbers learn: all of them, those of its last layers, or low-rank additions to its matrices."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from timm.models import group_parameters
from torch import Tensor, nn

from ..errors import MissingExtraError, OptionError
from ..torch_backbone import TorchBackbone
from ..weights.fit import under
from .recipe import Recipe

logger = logging.getLogger(__name__)

_ADAPTER = "default"
"""peft's name of the only adapter there is."""


@contextmanager
def only_what_learns(backbone: TorchBackbone, recipe: Recipe) -> Iterator[None]:
    """Freeze layers and add low-rank matrices as the recipe says; at the end the network is as it was.

    Raises
    ------
    MissingExtraError
        If low-rank additions are asked for, and peft is not installed.
    OptionError
        If the network has no layers that could take them.
    """
    trunk, heads = backbone.encoder.trunk, backbone.encoder.heads
    learnt = [parameter for parameter in trunk.parameters() if parameter.requires_grad]
    try:
        if recipe.freeze:
            _freeze(trunk, recipe.freeze, heads)
        if recipe.lora_rank:
            _add_low_rank(trunk, recipe, heads, backbone.name)
        yield
    finally:
        _take_out(trunk)
        for parameter in learnt:
            parameter.requires_grad_(True)


def keep_still(module: nn.Module) -> None:
    """Put parts whose every parameter is frozen into evaluation: no running statistics move there, nothing drops out.

    Parts that are trained stay as they are.
    """
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()


def merged_state(trunk: nn.Module) -> dict[str, Tensor]:
    """Return the trunk's tensors in its own names, low-rank additions added to the matrices they belong to."""
    state = {
        key.replace(".base_layer.", "."): tensor
        for key, tensor in trunk.state_dict().items()
        if ".lora_" not in key or not _additions(trunk)
    }
    for name, layer in _additions(trunk).items():
        state[f"{name}.weight"] = layer.base_layer.weight + layer.get_delta_weight(_ADAPTER)
    return state


def layers_in_order(trunk: Any) -> list[list[str]]:
    """Names of parameters, layer by layer from the input on: timm's groups, or else the parts that it is made of."""
    if hasattr(trunk, "group_matcher"):
        groups: dict[Any, list[str]] = group_parameters(trunk, trunk.group_matcher())
        return [groups[key] for key in sorted(groups)]
    found: dict[str, list[str]] = {}
    for name, _ in trunk.named_parameters():
        found.setdefault(name.partition(".")[0], []).append(name)
    return list(found.values())


def _freeze(trunk: nn.Module, share: float, heads: Sequence[str]) -> None:
    """Freeze this share of the layers from the input on; heads of the network's own always learn."""
    named = dict(trunk.named_parameters())
    layers = [[name for name in layer if not under(name, heads)] for layer in layers_in_order(trunk)]
    layers = [layer for layer in layers if layer]
    frozen = [name for layer in layers[: round(share * len(layers))] for name in layer]
    for name in frozen:
        named[name].requires_grad_(False)
    count = sum(named[name].numel() for name in frozen)
    logger.info("frozen: %d of %d layers, %s parameters", round(share * len(layers)), len(layers), f"{count:,}")


def _add_low_rank(trunk: nn.Module, recipe: Recipe, heads: Sequence[str], name: str) -> None:
    """Have peft add low-rank matrices (Hu et al., LoRA, ICLR 2022) to a transformer's matrices, or to convolutions."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtraError(
            "low-rank additions need peft, which is not installed\n"
            "  install it with: pip install 'cer-fusion[lora]', or say lora_rank=0"
        ) from error
    targets = _targets(trunk, heads)
    if not targets:
        raise OptionError(f"{name} has neither matrices nor convolutions for low-rank additions; say lora_rank=0")
    alpha: Any = recipe.lora_rank if recipe.lora_alpha is None else recipe.lora_alpha
    inject_adapter_in_model(LoraConfig(r=recipe.lora_rank, lora_alpha=alpha, target_modules=targets), trunk)
    added = sum(parameter.numel() for parameter in trunk.parameters() if parameter.requires_grad)
    for key, parameter in trunk.named_parameters():
        if under(key, heads):
            parameter.requires_grad_(True)
    logger.info(
        "low-rank additions to %d layers: %s parameters learn, beside the classifier", len(targets), f"{added:,}"
    )


def _targets(trunk: nn.Module, heads: Sequence[str]) -> list[str]:
    """Names of the layers that take additions: linear ones where they hold most of the parameters, else all kinds."""
    inside = [(name, part) for name, part in trunk.named_modules() if name and not under(f"{name}.weight", heads)]
    linear = {name: part for name, part in inside if isinstance(part, nn.Linear)}
    convolutions = {name: part for name, part in inside if isinstance(part, nn.Conv2d) and part.groups == 1}

    def size(layers: dict[str, Any]) -> int:
        return sum(layer.weight.numel() for layer in layers.values())

    return [*linear] if size(linear) >= size(convolutions) else [*linear, *convolutions]


def _additions(trunk: nn.Module) -> dict[str, Any]:
    return {name: part for name, part in trunk.named_modules() if hasattr(part, "get_delta_weight")}


def _take_out(trunk: nn.Module) -> None:
    """Put the layers back that additions stand around."""
    for name, layer in _additions(trunk).items():
        parent, _, own = name.rpartition(".")
        setattr(trunk.get_submodule(parent), own, layer.base_layer)
