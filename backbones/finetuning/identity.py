"""What makes two runs the same one, and how two that are not differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cer_fusion.backbones.errors import ResumeError
from cer_fusion.backbones.finetuning.material import Material
from cer_fusion.backbones.finetuning.recipe import Recipe
from cer_fusion.backbones.torch_backbone import TorchBackbone


def identity_of(
    backbone: TorchBackbone, material: Material, recipe: Recipe, *, seed: int, processes: int
) -> dict[str, Any]:
    """Return everything that fixes a run's result, ready for JSON; taken before the first step."""
    return {
        "backbone": backbone.name,
        "architecture": backbone.architecture,
        "options": dict(backbone.options),
        "notes": dict(backbone.encoder.notes),
        "initial_weights": backbone.weights_digest(),
        "transform_probe": backbone.transform.probe(),
        "classes": list(material.classes),
        "recipe": recipe.to_json(),
        "data": {"digest": material.digest},
        "precision": backbone.precision,
        "processes": processes,
        "seed": seed,
    }


def check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on with, or to take for finished, a run that was another one.

    Raises
    ------
    ResumeError
        With every field that differs.
    """
    ours, theirs = flat(json.loads(json.dumps(wanted))), flat(found)
    lines = [
        f"  {name}: {theirs.get(name, 'nothing')!r} there, {ours.get(name, 'nothing')!r} now"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]
    if lines:
        raise ResumeError(
            "the output folder holds another run; they differ in\n" + "\n".join(lines) + f"\n  in file: {path}\n"
            "  write to another folder, or start anew here without resuming (--no-resume --overwrite)"
        )


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries: {"recipe": {"lr": 1}} -> {"recipe.lr": 1}."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
