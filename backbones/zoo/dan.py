"""DAN: four attention heads on a ResNet-18 for faces in the wild.

Wen, Lin, Wang and Xu, "Distract Your Attention: Multi-head Cross Attention Network for Facial Expression Recognition",
Biomimetics 2023, section 3. Names and shapes are those of yaoing/DAN, commit 10179a53f469e03b450148fc0774eaeb4fa27d09,
``networks/dan.py``, its preprocessing that of ``demo.py`` there; the code was written anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from ..errors import OptionError
from ..picture import Transform
from ..recipes import Branches, Encoder, Recipe, Usage

HEADS = 4
"""Attention heads."""


def build(*, tag: str | None, pretrained: bool, num_classes: int = 7, replace_heads: bool = False) -> Encoder:
    """Build the network.

    Parameters
    ----------
    tag, pretrained
        Always None and False: there are no weights to download.
    num_classes : int
        Width of the classifier; the block does not depend on it.
    replace_heads : bool
        Load all else of a file whose classifier has another width, and start a new one.
    """
    if num_classes < 1:
        raise OptionError(f"num_classes must be at least 1, however: {num_classes=}")
    module = DAN(num_classes)
    return Encoder(
        architecture="dan",
        module=module,
        trunk=module,
        blocks={"attention": 512},
        transform=Transform(size_px=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        options={},
        heads=("fc", "bn"),
        branches=Branches(
            k=num_classes, shares={"dan": 1.0}, logits=lambda m, x: {"dan": m.bn(m.fc(m(x)["attention"]))}
        ),
        replace_heads=replace_heads,
        channels_last=True,
    )


def usage(heads: Mapping[str, int], card: Mapping[str, Any] | None, path: Path) -> Usage:
    """Say how `create` takes a file: with as many classes as its classifier has."""
    width = heads.get("fc", 7)
    return Usage(options={} if width == 7 else {"num_classes": width})


def again(_: Mapping[str, Any]) -> dict[str, Any]:
    """Take any classifier, as no row depends on it."""
    return {"replace_heads": True}


RECIPE = Recipe(
    name="dan",
    title="DAN",
    note="DAN; four attention heads on a ResNet-18. Public checkpoints (RAF-DB, AffectNet) load.",
    build=build,
    blocks={"attention": 512},
    size_px=224,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    parameters=19_723_733,
    usage=usage,
    again=again,
)


class DAN(nn.Module):
    """Picture -> what the classifier reads: the attention heads' outputs, each in proportion to all, summed."""

    def __init__(self, num_classes: int = 7) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *list(resnet18(weights=None).children())[:-2]
        )  # (b, 3, h, w) -> (b, 512, h/32, w/32)
        for number in range(HEADS):
            self.add_module(f"cat_head{number}", Head())
        self.fc = nn.Linear(512, num_classes)
        self.bn = nn.BatchNorm1d(num_classes)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(b, 3, 224, 224) -> {"attention": (b, 512)}."""
        maps = self.features(x)
        every = torch.stack([getattr(self, f"cat_head{number}")(maps) for number in range(HEADS)])  # (4, b, 512)
        return {"attention": every.log_softmax(0).sum(0)}  # over the heads: what one attends to, others should not


class Head(nn.Module):
    """Where to look, then which channels: (b, 512, h, w) -> (b, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.sa = Places()
        self.ca = Channels()

    def forward(self, maps: Tensor) -> Tensor:
        """Weigh places, average over them, weigh channels."""
        return self.ca(self.sa(maps).mean((2, 3)))  # type: ignore[no-any-return]


class Places(nn.Module):
    """Maps weighed by place, by the sum of three convolutions of different shape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1x1 = _normed(512, 256, (1, 1))
        self.conv_3x3 = _normed(256, 512, (3, 3))
        self.conv_1x3 = _normed(256, 512, (1, 3))
        self.conv_3x1 = _normed(256, 512, (3, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """(b, 512, h, w) -> (b, 512, h, w)."""
        narrow = self.conv1x1(maps)
        seen = (self.conv_3x3(narrow) + self.conv_1x3(narrow) + self.conv_3x1(narrow)).relu()
        return maps * seen.sum(1, keepdim=True)  # type: ignore[no-any-return]


class Channels(nn.Module):
    """Numbers weighed by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.Linear(512, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 512), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, 512) -> (b, 512)."""
        return x * self.attention(x)  # type: ignore[no-any-return]


def _normed(c: int, d: int, kernel: tuple[int, int]) -> nn.Sequential:
    around = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(nn.Conv2d(c, d, kernel, padding=around), nn.BatchNorm2d(d))
