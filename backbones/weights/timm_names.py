"""What timm may call a network, from its parameters' names and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .fit import by_name

if TYPE_CHECKING:
    from torch import Tensor

VIT_SIZES = {192: "tiny", 384: "small", 768: "base", 1024: "large", 1280: "huge", 1408: "giant"}
"""Width of the tokens -> the word in timm's names."""

RESNETS = {
    ("2, 2, 2, 2", False): "resnet18",
    ("3, 4, 6, 3", False): "resnet34",
    ("2, 2, 2, 2", True): "resnet26",
    ("3, 4, 6, 3", True): "resnet50",
    ("3, 4, 23, 3", True): "resnet101",
    ("3, 8, 36, 3", True): "resnet152",
}
"""Blocks in the four stages, and whether they are bottlenecks -> timm's name."""

CONVNEXTS = {40: "atto", 48: "femto", 64: "pico", 80: "nano", 96: "tiny", 128: "base", 192: "large"}
"""Channels of the stem -> the word in timm's names; "small" has tiny's stem and more blocks."""

MOBILE = {
    16: ("mobilenetv3_small_100", "mobilenetv3_large_100"),
    24: ("tf_efficientnetv2_s",),
    32: (
        "efficientnet_b0",
        "efficientnet_lite0",
        "efficientnet_b1",
        "efficientnet_b2",
        "mobilenetv2_100",
        "tf_efficientnetv2_b0",
    ),
    40: ("efficientnet_b3",),
    48: ("efficientnet_b4",),
}
"""Channels of the stem -> networks that faces are often embedded with."""

TRIED = 6
"""How many ViTs of one size are worth trying."""


def timm_names(state: Mapping[str, Tensor], code: Sequence[str] = ()) -> tuple[str, ...]:
    """List what timm may call the network: ``timm:resnet18``; the likeliest first, none where nothing is known.

    `code` is what a whole network that was pickled names: of an EfficientNet, whose padding it has.
    """
    state = by_name(state)
    if is_vit(state):
        found = _vits(state)
    elif "layer4.0.conv1.weight" in state:
        found = _resnets(state)
    elif "conv_stem.weight" in state:
        found = list(MOBILE.get(state["conv_stem.weight"].shape[:1].numel(), ()))
        if any(name.endswith(".Conv2dSame") for name in code):
            found = [*(f"tf_{name}" for name in found), *found]
    elif "stages.0.blocks.0.conv_dw.weight" in state and "stem.0.weight" in state and state["stem.0.weight"].ndim:
        size = CONVNEXTS.get(int(state["stem.0.weight"].shape[0]))
        found = [f"convnext_{size}", *(["convnext_small"] if size == "tiny" else [])] if size else []
    else:
        found = []
    return tuple(f"timm:{name}" for name in found if _is_known(name))


def count_of(state: Mapping[str, Tensor], layer: str) -> int:
    """Count the numbered blocks of a layer."""
    depth = layer.count(".") + 1
    return len({key.split(".")[depth] for key in state if key.startswith(f"{layer}.")})


def is_vit(state: Mapping[str, Tensor]) -> bool:
    return "pos_embed" in state and "patch_embed.proj.weight" in state and state["patch_embed.proj.weight"].ndim == 4


def _vits(state: Mapping[str, Tensor]) -> list[str]:
    """List the ViTs of the file's width and patch, those with its kind of layer scale and registers first."""
    import timm

    weight = state["patch_embed.proj.weight"]
    size = VIT_SIZES.get(int(weight.shape[0]))
    if size is None:
        return []
    has_scale, has_registers = "blocks.0.ls1.gamma" in state, "reg_token" in state or "register_tokens" in state
    known = [name for kind in ("vit", "deit") for name in timm.list_models(f"{kind}_{size}_patch{weight.shape[-1]}_*")]

    def unlike(name: str) -> tuple[bool, bool, int]:
        return ("dino" in name) != has_scale, ("reg" in name) != has_registers, len(name)

    return sorted(known, key=unlike)[:TRIED]


def _resnets(state: Mapping[str, Tensor]) -> list[str]:
    """Name the ResNet of these depths, with the plain stem or the deep one."""
    depths = ", ".join(str(count_of(state, f"layer{stage}")) for stage in range(1, 5))
    name = RESNETS.get((depths, "layer4.0.conv3.weight" in state))
    if name is None:
        return []
    return [f"{name}d"] if "conv1.0.weight" in state else [name, f"{name}d"]


def _is_known(name: str) -> bool:
    import timm

    return bool(timm.is_model(name))


STEMS = ("conv1.weight", "conv1.0.weight", "conv_stem.weight", "stem.0.weight", "patch_embed.proj.weight")
"""What the first convolution is called."""


def sees_grey(state: Mapping[str, Tensor]) -> bool:
    """Tell whether the first convolution takes one channel."""
    state = by_name(state)
    return any(key in state and state[key].ndim == 4 and state[key].shape[1] == 1 for key in STEMS)
