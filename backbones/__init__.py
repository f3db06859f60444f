"""Backbones: picture files in, named rows of floats out.

``create(name)`` makes one, from pretrained weights, a file, or a seed: ``create("manet", weights="manet.pth.tar")``.
``backbone.decode(data)`` opens a picture safely, ``backbone.embed(pictures)`` turns a batch into {block: (b, d)}, and
``backbone.spec()`` says exactly what made the rows. ``inspect_checkpoint(path)`` says what a weights file is without
running code from it. This package knows pixels and weights; it does not know where rows are kept.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backbones.backbone import Backbone
    from backbones.checkpoint import load_state
    from backbones.errors import (
        BackbonesError,
        CheckpointError,
        DeviceError,
        MissingExtraError,
        OptionError,
        PictureError,
        ShapeError,
        UnknownBackboneError,
        WeightsError,
    )
    from backbones.inspection import CheckpointInfo, inspect_checkpoint
    from backbones.registry import catalogue, create, names, options_of
    from backbones.transform import Transform

__all__ = [
    "Backbone",
    "BackbonesError",
    "CheckpointError",
    "CheckpointInfo",
    "DeviceError",
    "MissingExtraError",
    "OptionError",
    "PictureError",
    "ShapeError",
    "Transform",
    "UnknownBackboneError",
    "WeightsError",
    "catalogue",
    "create",
    "inspect_checkpoint",
    "load_state",
    "names",
    "options_of",
]

HOME = {
    "Backbone": "backbone",
    "CheckpointInfo": "inspection",
    "Transform": "transform",
    "catalogue": "registry",
    "create": "registry",
    "inspect_checkpoint": "inspection",
    "load_state": "checkpoint",
    "names": "registry",
    "options_of": "registry",
}
"""Where each public name lives; errors live in `backbones.errors`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'backbones' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"backbones.{HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value
