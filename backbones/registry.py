"""The registry: which backbones there are, and making one by its name."""

from __future__ import annotations

import importlib
import inspect
import logging
import pkgutil
from functools import lru_cache
from pathlib import Path
from typing import Any

from cer_fusion.backbones.backbone import Backbone
from cer_fusion.backbones.encoder import RESERVED, Encoder, Recipe
from cer_fusion.backbones.errors import OptionError, UnknownBackboneError, WeightsError, nearest
from cer_fusion.backbones.weights import choose_source, put

logger = logging.getLogger(__name__)


def create(
    name: str,
    *,
    weights: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "float32",
    **options: Any,
) -> Backbone:
    """Make a backbone.

    Parameters
    ----------
    name : str
        One of `names()`, ``timm:<name>`` or ``onnx:<file>``.
    weights : str or Path, optional
        A pretrained tag, "pretrained" for the default one, a file (safetensors, .pth, .pth.tar), or "random".
        Nothing stands in for what was asked.
    seed : int
        What random weights are drawn from.
    device : str
        "cpu", "cuda", "cuda:1", "mps", or "auto", which logs its choice.
    precision : "float32", "bfloat16" or "float16"
        What the network computes in; rows are float32 always.
    **options
        The backbone's own: `options_of(name)` lists them with their defaults.

    Raises
    ------
    UnknownBackboneError, OptionError, WeightsError, CheckpointError, DeviceError, MissingExtraError
    """
    recipe, target = recipe_of(name)
    check_options(recipe, name, options)
    given: dict[str, Any] = {"target": target, "device": device, "precision": precision}
    accepted = inspect.signature(recipe.build).parameters
    given = {key: value for key, value in given.items() if key in accepted}
    if "tag" not in accepted:
        if weights is not None:
            raise WeightsError(f"{name!r} is network and weights in one file; weights={str(weights)!r} is not for it")
        finished = recipe.build(**given, **options)
        assert isinstance(finished, Backbone)
        return finished

    import torch
    from cer_fusion.backbones.checkpoint import open_checkpoint
    from cer_fusion.backbones.torch_backbone import TorchBackbone, choose_device

    device = choose_device(device)
    source = choose_source(recipe, target, weights, seed)
    with torch.random.fork_rng(devices=[]):  # random weights depend on the seed alone, and leave the caller's state
        torch.manual_seed(seed)
        encoder = recipe.build(tag=source.tag, pretrained=source.kind == "pretrained", **given, **options)
    assert isinstance(encoder, Encoder)
    if source.path is not None:
        put(encoder, open_checkpoint(source.path))
    logger.info("%s: weights %s", name, source.label)
    return TorchBackbone(name, encoder, source, device=device, precision=precision)


def names() -> tuple[str, ...]:
    """List the backbones that have a name of their own.

    Besides, ``timm:<name>`` makes any timm model (``timm:vit_small_patch14_dinov2.lvd142m``), and ``onnx:<file>`` any
    ONNX model.
    """
    return tuple(sorted(name for name in recipes() if "<" not in name))


def catalogue() -> list[dict[str, Any]]:
    """Return one row a backbone, ready for JSON, without building anything.

    Keys: name, blocks, size_px, mean, std, parameters, default_weights, note, options (name -> default). What depends
    on the model is None.
    """
    rows = []
    for name in (*names(), *sorted(name for name in recipes() if "<" in name)):
        recipe = recipes()[name]
        rows.append(
            {
                "name": name,
                "blocks": dict(recipe.blocks) if recipe.blocks else None,
                "size_px": recipe.size_px,
                "mean": list(recipe.mean) if recipe.mean else None,
                "std": list(recipe.std) if recipe.std else None,
                "parameters": recipe.parameters,
                "default_weights": recipe.default_weights,
                "note": recipe.note,
                "options": options_of(name),
            }
        )
    return rows


def options_of(name: str) -> dict[str, Any]:
    """Return a backbone's own options with their defaults."""
    recipe, _ = recipe_of(name)
    parameters = inspect.signature(recipe.build).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.name not in RESERVED}


def check_options(recipe: Recipe, name: str, options: dict[str, Any]) -> None:
    """Refuse options that the backbone does not have."""
    known = options_of(recipe.name)
    for option in options:
        if option not in known:
            raise OptionError(f"{name!r} has no option {option!r}; it has {', '.join(known)}{nearest(option, known)}")


def recipe_of(name: str) -> tuple[Recipe, str]:
    """Find the recipe for a name, and what follows the name's colon."""
    kind, colon, target = name.partition(":")
    for known, recipe in recipes().items():
        if colon and target and known.startswith(f"{kind}:"):
            return recipe, target
        if name == known:
            return recipe, ""
    raise UnknownBackboneError(
        f"there is no backbone {name!r}{nearest(name, names())}\n"
        f"  there are {', '.join(names())}, any timm model as timm:<name> and any ONNX model as onnx:<file>"
    )


@lru_cache(maxsize=1)
def recipes() -> dict[str, Recipe]:
    """Read the zoo: every file in it sets a ``RECIPE``."""
    from cer_fusion.backbones import zoo

    found = [
        importlib.import_module(f"cer_fusion.backbones.zoo.{module.name}")
        for module in pkgutil.iter_modules(zoo.__path__)
    ]
    return {module.RECIPE.name: module.RECIPE for module in found}
