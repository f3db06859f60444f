"""A new backbone, with heads of its own, is one file in the zoo: the one that CONTRIBUTING shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cer_fusion import backbones
from cer_fusion.backbones import zoo
from tests.pages import Page


def test_one_file_is_listed_made_inspected_and_loaded_with_its_heads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "two.py").write_text(Page("CONTRIBUTING.md").file("backbones/zoo/two.py"))
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
    assert repr(made) == "<Backbone two: mean 8, 16 px, cpu, float32>"
    made.name = "<b>"
    assert "<caption>Backbone &lt;b&gt;</caption>" in made._repr_html_()
    assert "<th>blocks</th><td>mean 8</td>" in made._repr_html_()
