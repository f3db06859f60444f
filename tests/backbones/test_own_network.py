"""Networks of the user's own: ten lines of declaration, code in the identity, made again or refused by name."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from cer_fusion import backbones
from cer_fusion.backbones import Backbone, OptionError, UnknownBackboneError
from cer_fusion.backbones.making import recreate
from tests.pages import Page

MINE = """
import torch
from torch import nn
from layers import pooled

class Mine(nn.Module):
    blocks = {"pooled": 6}
    size_px, mean, std = 16, (0.5, 0.5, 0.5), (0.5, 0.25, 0.5)
    heads = ("fc",)

    def __init__(self, stride: int = 1, kernel: tuple = (3, 3), words: str | None = "a"):
        super().__init__()
        self.backbone = nn.Conv2d(3, 6, kernel, stride)
        self.backbone.fc = nn.Linear(6, 2)

    def forward(self, x):
        return pooled(self.backbone(x))

class Two(Mine):
    blocks = {"mean": 6, "max": 6}
    resize, colour = "shorter", "BGR"

    def forward(self, x):
        x = self.backbone(x)
        return {"mean": pooled(x), "max": x.amax((2, 3))}

class Silent(nn.Module):
    size_px = 16

class Wrong(Mine):
    blocks = {"pooled": 7}

def function():
    return Mine()
"""


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "layers.py").write_text("def pooled(x):\n    return x.mean((2, 3))\n")
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path / "mine.py"
    assert sys.path == path
    for name in set(sys.modules) - modules:
        if name in ("layers", "lab", "lab.nets", "lab.layers") or name.startswith("cer_fusion_own"):
            del sys.modules[name]


def made_again(made: Backbone, **rest: Any) -> Backbone:
    identity, described = json.loads(json.dumps([made.spec(), made.describe()]))
    return recreate("f", identity, described, **rest)


def rows(backbone: Backbone) -> dict[str, np.ndarray]:
    crops = (5,) if backbone.views.startswith("five") else ()
    pictures = np.random.default_rng(0).integers(0, 256, (3, *crops, 16, 16, 3)).astype(np.uint8)
    return backbone.embed(pictures)


def test_a_file_beside_the_work_is_a_backbone_with_what_it_says(mine: Path) -> None:
    assert backbones.options_of(f"{mine}:Mine") == {"stride": 1, "kernel": (3, 3), "words": "a"}
    made = backbones.create(f"{mine}:Mine", weights="random", stride=2)
    assert (made.name, dict(made.blocks)) == ("mine.py:Mine", {"pooled": 6})
    assert (made.transform.size_px, made.transform.std) == (16, (0.5, 0.25, 0.5))
    spec = made.spec()
    assert spec["architecture"] == "own:Mine"
    assert {k: v for k, v in spec["options"].items() if k != "code_digest"} == {
        "stride": 2, "kernel": [3, 3], "words": "a",
    }  # fmt: skip
    assert rows(made)["pooled"].shape == (3, 6)
    two = backbones.create(f"{mine}:Two", weights="random")
    assert {block: found.shape for block, found in rows(two).items()} == {"mean": (3, 6), "max": (3, 6)}
    assert (two.transform.resize, two.transform.colour) == ("shorter", "BGR")


def test_a_module_is_found_from_the_working_folder(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine.parent / "lab").mkdir()
    (mine.parent / "lab/__init__.py").write_text("")
    (mine.parent / "lab/layers.py").write_text((mine.parent / "layers.py").read_text())
    (mine.parent / "lab/nets.py").write_text(MINE.replace("from layers", "from .layers"))
    monkeypatch.chdir(mine.parent)
    made = backbones.create("lab.nets:Mine", weights="random")
    assert made.name == "lab.nets:Mine"
    before = rows(made)["pooled"]
    np.testing.assert_array_equal(rows(made_again(made))["pooled"], before)
    (mine.parent / "lab/layers.py").write_text("def pooled(x):\n    return x.amax((2, 3))\n")
    other = backbones.create("lab.nets:Mine", weights="random")
    assert other.spec() != made.spec()
    assert not np.allclose(rows(other)["pooled"], before)


def test_every_feature_of_an_own_network_is_made_again(mine: Path, tmp_path: Path) -> None:
    wanted = itertools.product(("float32", "bfloat16"), ("none", "five-crop+flip"), (False, True), ("random", "file"))
    for number, (precision, views, compiled, source) in enumerate(wanted):
        which = ("Mine", "Two")[number // 2 % 2]
        options = ({}, {"stride": 2, "kernel": [3, 1]}, {"words": None})[number % 3]
        name, weights = f"{mine}:{which}", tmp_path / f"{number}.safetensors"
        made = backbones.create(name, weights="random", seed=4, precision=precision, **options)
        if source == "file":
            save_file(made.state(), weights)  # type: ignore[attr-defined]
            made = backbones.create(name, weights=weights, precision=precision, **options)
        made.take_views(views)
        if compiled:
            made.compile_network(backend="eager")  # type: ignore[attr-defined]
        found = made_again(made, code=mine, weights=weights if source == "file" else None)
        assert found.spec() == made.spec()
        before, now = rows(made), rows(found)
        assert all(np.array_equal(before[block], now[block]) for block in before)


@pytest.mark.parametrize(
    "change",
    [
        lambda mine: mine.write_text(MINE + "\n# another line\n"),
        lambda mine: (mine.parent / "layers.py").write_text("def pooled(x):\n    return x.amax((2, 3))\n"),
    ],
    ids=["the file", "what it imports"],
)
def test_other_code_is_another_feature_and_is_not_run_to_make_rows_again(
    mine: Path, change: Callable[[Path], object]
) -> None:
    made = backbones.create(f"{mine}:Mine", weights="random")
    change(mine)
    with pytest.raises(OptionError, match=r"the code of 'f' is another.*was not run(?s:.*)--code f=FILE\.py"):
        made_again(made, code=mine)
    other = backbones.create(f"{mine}:Mine", weights="random")
    assert other.spec() != made.spec()
    if "layers" in sys.modules and "amax" in (mine.parent / "layers.py").read_text():
        assert not np.allclose(rows(other)["pooled"], rows(made)["pooled"])


def test_code_that_is_elsewhere_is_asked_for(mine: Path) -> None:
    made = backbones.create(f"{mine}:Mine", weights="random")
    assert str(mine.parent) not in json.dumps([made.spec(), made.describe()])
    with pytest.raises(OptionError, match=r"the code of 'f' was mine\.py, and is not there(?s:.*)--code f=FILE\.py"):
        made_again(made)


def test_windows_line_ends_are_the_same_code(mine: Path) -> None:
    made = backbones.create(f"{mine}:Mine", weights="random")
    mine.write_bytes(mine.read_bytes().replace(b"\n", b"\r\n"))
    assert backbones.create(f"{mine}:Mine", weights="random").spec() == made.spec()


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("{}:Mien", UnknownBackboneError, "mine.py has no 'Mien'; nearest: 'Mine'"),
        ("{}x.py:Mine", UnknownBackboneError, "no file"),
        ("no_such_module_here:Mine", UnknownBackboneError, "nor a module 'no_such_module_here'"),
        ("{}:function", OptionError, "must be a class of torch.nn.Module"),
        ("{}:Silent", OptionError, "does not say its blocks, mean, std"),
        ("json:dumps", OptionError, "must be a class"),
        ("torch.nn:Identity", OptionError, "does not say its blocks, size_px, mean, std"),
        ("torch.nn:Identiy", UnknownBackboneError, "nearest: 'Identity'"),
    ],
)
def test_what_is_no_network_is_refused(mine: Path, name: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error) as caught:
        backbones.create(name.format(mine), weights="random")
    assert said in str(caught.value)


def test_rows_of_another_width_than_was_said_are_refused(mine: Path) -> None:
    made = backbones.create(f"{mine}:Wrong", weights="random")
    with pytest.raises(OptionError, match=r"says blocks \{'pooled': 7\}"):
        rows(made)


def test_code_that_fails_says_so_in_its_own_words(mine: Path) -> None:
    mine.write_text("import torch\nraise RuntimeError('no such luck')\n")
    with pytest.raises(OptionError, match=r"mine\.py:Mine cannot be run: RuntimeError: no such luck"):
        backbones.create(f"{mine}:Mine", weights="random")
    mine.write_text("def broken(:\n")
    with pytest.raises(OptionError, match=r"cannot be read"):
        backbones.create(f"{mine}:Mine", weights="random")


def test_weights_must_be_said(mine: Path) -> None:
    with pytest.raises(backbones.WeightsError, match="no pretrained weights"):
        backbones.create(f"{mine}:Mine")
    with pytest.raises(OptionError, match="nearest: 'stride'"):
        backbones.create(f"{mine}:Mine", weights="random", strid=2)


def test_the_ten_lines_that_contributing_shows_are_a_backbone(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(Page("CONTRIBUTING.md").file("mine.py"))
    made = backbones.create(f"{tmp_path / 'mine.py'}:Mine", weights="random", width=8)
    assert made.embed(np.zeros((2, 48, 48, 3), np.uint8))["pooled"].shape == (2, 8)
    wider = backbones.create(f"{tmp_path / 'mine.py'}:Mine", weights="random", width=8, k=3)
    assert wider.spec()["options"]["k"] == 3
