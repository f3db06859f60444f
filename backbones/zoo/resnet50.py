"""ResNet-50, tapped where the feature is 512 wide, or at its usual pool."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..errors import CheckpointError, OptionError, WeightsError, nearest
from ..recipes import Encoder, Recipe
from . import timm_model as t

MODEL = "resnet50"
TAPS = {"bottleneck512": 512, "pool2048": 2048, "proj512": 512}


def build(
    *,
    tag: str | None,
    pretrained: bool,
    tap: str = "bottleneck512",
    img_size: int = 224,
    crop_pct: float = 1.0,
) -> Encoder:
    """Build the network.

    Parameters
    ----------
    tag, pretrained
        timm's pretrained tag, and whether to download it.
    tap : "bottleneck512", "pool2048" or "proj512"
        "bottleneck512": the 3x3 convolution of the last bottleneck after its activation, pooled (timm's
        ``layer4[2].act2``); "pool2048": the usual pooled output; "proj512": a learned linear layer on top of that,
        which only a fine-tuned file has (``proj.weight``, ``proj.bias``).
    img_size : int
        Side of the input in pixels.
    crop_pct : float
        Share of the picture's centre that is used; faces come cropped already.
    """
    if tap not in TAPS:
        raise OptionError(f"tap must be one of {', '.join(TAPS)}, however: {tap=}{nearest(tap, TAPS)}")
    if tap == "proj512" and pretrained:
        raise WeightsError(
            "tap='proj512' is a learned layer that no pretrained tag has; it exists after fine-tuning only\n"
            "  give the fine-tuned file, or take tap='bottleneck512' (512-d) or tap='pool2048'"
        )
    trunk: Any = t.build_trunk(MODEL, tag=tag or "tv_in1k", pretrained=pretrained)
    if tap == "proj512":
        trunk.proj = nn.Linear(2048, 512)

    class Tapped(nn.Module):
        """The network, read at its tap."""

        def __init__(self) -> None:
            super().__init__()
            self.trunk = trunk

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            """(b, 3, h, w) -> {tap: (b, d)}."""
            if tap == "bottleneck512":
                return {tap: last_bottleneck(self.trunk, x)}
            pooled = self.trunk(x)  # (b, 2048)
            return {tap: self.trunk.proj(pooled) if tap == "proj512" else pooled}

    def adapt(state: dict[str, Tensor]) -> dict[str, Tensor]:
        if tap == "proj512" and "proj.weight" not in state:
            raise CheckpointError(
                "the weights have no projection (proj.weight), which tap='proj512' reads; it exists after fine-tuning\n"
                "  take tap='bottleneck512' (512-d) or tap='pool2048' with this file"
            )
        return state

    return Encoder(
        architecture=f"timm:{MODEL}",
        module=Tapped(),
        trunk=trunk,
        blocks={tap: TAPS[tap]},
        transform=t.data_config(trunk, img_size=img_size, crop_pct=crop_pct),
        options={"img_size": img_size, "tap": tap},
        foreign_heads=(*t.classifiers(trunk), *(() if tap == "proj512" else ("proj",))),
        # The public 512-d tap was taken from a network trained through its usual pool. A head on the tap itself would
        # leave the last 1x1 convolution as it was, and `pool2048` of the resulting file would be half trained.
        head_reads=(2048, lambda module, x: module.trunk(x)) if tap == "bottleneck512" else None,
        adapt=adapt,
        channels_last=True,
        cpu_piece=4,
    )


def last_bottleneck(trunk: Any, x: Tensor) -> Tensor:
    """Run up to the activation after the last 3x3 convolution, and pool: (b, 3, h, w) -> (b, 512)."""
    x = trunk.maxpool(trunk.act1(trunk.bn1(trunk.conv1(x))))
    x = trunk.layer3(trunk.layer2(trunk.layer1(x)))
    x = trunk.layer4[1](trunk.layer4[0](x))
    last = trunk.layer4[2]
    x = last.act1(last.bn1(last.conv1(x)))
    x = last.act2(last.drop_block(last.bn2(last.conv2(x))))  # (b, 512, h / 32, w / 32)
    return x.mean((2, 3))


def tags(_: str) -> list[str]:
    """List timm's pretrained tags of ResNet-50."""
    return list(t.tags_of(MODEL))


RECIPE = Recipe(
    name="resnet50",
    title="ResNet-50",
    variants=({}, {"tap": "proj512"}),
    note="ResNet-50; 512-d at its last 3x3 convolution. Default weights: torchvision's first ImageNet-1K ones, BSD-3.",
    build=build,
    blocks={"bottleneck512": 512},
    size_px=224,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    parameters=23_508_032,
    default_weights="tv_in1k",
    tags=tags,
)
