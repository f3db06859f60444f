"""A new backbone, with heads of its own, is one file in the zoo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cer_fusion import backbones
from cer_fusion.backbones import zoo

FILE = """
from cer_fusion.backbones.recipes import Branches, Encoder, Recipe
from cer_fusion.backbones.picture import Transform
from torch import Tensor, nn


class Two(nn.Module):
    def __init__(self, k: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3)
        self.fc = nn.Linear(8, k)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"mean": self.body(x).mean((2, 3))}


def build(*, tag: str | None, pretrained: bool, num_classes: int = 7, replace_heads: bool = False) -> Encoder:
    module = Two(num_classes)
    return Encoder(
        architecture="two", module=module, trunk=module, blocks={"mean": 8}, transform=Transform(size_px=16),
        options={}, heads=("fc",), replace_heads=replace_heads,
        branches=Branches(k=num_classes, shares={"mean": 1.0}, logits=lambda m, x: {"mean": m.fc(m(x)["mean"])}),
    )


RECIPE = Recipe(name="two", title="Two", note="An example.", build=build, blocks={"mean": 8}, size_px=16)
"""


def test_one_file_is_listed_made_inspected_and_loaded_with_its_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "two.py").write_text(FILE)
    monkeypatch.setattr(zoo, "__path__", [*zoo.__path__, str(tmp_path)])
    assert "two" in backbones.names()
    assert backbones.options_of("two") == {"num_classes": 7, "replace_heads": False}
    made = backbones.create("two", weights="random", num_classes=5)
    torch.save({"state_dict": made.state()}, tmp_path / "two.pth")
    info = backbones.inspect_checkpoint(tmp_path / "two.pth")
    assert (info.fits, info.looks_like, info.heads) == ("two", "Two", {"fc": 5})
    loaded = backbones.create("two", weights=tmp_path / "two.pth", num_classes=5)
    assert torch.equal(loaded.module.fc.weight, made.module.fc.weight)
    pictures = np.zeros((3, 16, 16, 3), np.uint8)
    np.testing.assert_array_equal(loaded.embed(pictures)["mean"], made.embed(pictures)["mean"])
    with pytest.raises(backbones.CheckpointError, match="5-way"):
        backbones.create("two", weights=tmp_path / "two.pth")
    backbones.create("two", weights=tmp_path / "two.pth", replace_heads=True)
    assert loaded.spec() == made.spec()
