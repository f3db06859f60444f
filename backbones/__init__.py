"""Backbones: picture files in, named rows of floats out.

``create(name)`` makes one, from pretrained weights, a file, or a seed: ``create("manet", weights="manet.pth.tar")``.
``backbone.decode(data)`` opens a picture safely, ``backbone.embed(pictures)`` turns a batch into {block: (b, d)}, and
``backbone.spec()`` says exactly what made the rows. ``inspect_checkpoint(path)`` says what a weights file is without
running code from it. ``finetune(backbone, train, valid, …)`` trains one end to end. This package knows pixels and
weights; it does not know where rows are kept.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backbone import Backbone
    from .errors import (
        BackbonesError,
        CardError,
        CheckpointError,
        DeviceError,
        DivergedError,
        ExamplesError,
        FramesError,
        MissingExtraError,
        OptionError,
        PictureError,
        RecipeError,
        ResumeError,
        ShapeError,
        TooManyErrors,
        UnknownBackboneError,
        VideoError,
        WeightsError,
    )
    from .finetuning.examples import Examples
    from .finetuning.finetune import FinetuneReport, finetune
    from .finetuning.recipe import Recipe
    from .finetuning.training import EpochScores
    from .making import create
    from .picture import Transform
    from .recipes import catalogue, names, options_of
    from .weights.checkpoint import load_state
    from .weights.fit import read_card
    from .weights.inspection import CheckpointInfo, inspect_checkpoint

__all__ = [
    "Backbone",
    "BackbonesError",
    "CardError",
    "CheckpointError",
    "CheckpointInfo",
    "DeviceError",
    "DivergedError",
    "EpochScores",
    "Examples",
    "ExamplesError",
    "FinetuneReport",
    "FramesError",
    "MissingExtraError",
    "OptionError",
    "PictureError",
    "Recipe",
    "RecipeError",
    "ResumeError",
    "ShapeError",
    "TooManyErrors",
    "Transform",
    "UnknownBackboneError",
    "VideoError",
    "WeightsError",
    "catalogue",
    "create",
    "finetune",
    "inspect_checkpoint",
    "load_state",
    "names",
    "options_of",
    "read_card",
]

HOME = {
    "Backbone": "backbone",
    "CheckpointInfo": "weights.inspection",
    "EpochScores": "finetuning.training",
    "Examples": "finetuning.examples",
    "FinetuneReport": "finetuning.finetune",
    "Recipe": "finetuning.recipe",
    "Transform": "picture",
    "catalogue": "recipes",
    "create": "making",
    "finetune": "finetuning.finetune",
    "inspect_checkpoint": "weights.inspection",
    "load_state": "weights.checkpoint",
    "names": "recipes",
    "options_of": "recipes",
    "read_card": "weights.fit",
}
"""Where each public name lives; errors live in `cer_fusion.backbones.errors`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'backbones' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"cer_fusion.backbones.{HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value
