"""Saying what a weights file is, without running code from it and without knowing where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.checkpoint import open_checkpoint
from backbones.encoder import Encoder
from backbones.weights import compare, digest, under

if TYPE_CHECKING:
    from torch import Tensor

HEAD_NAMES = ("fc_1", "fc_2", "fc", "head", "head.fc", "classifier", "head_drop")
"""What classifiers are called, in timm and in the public checkpoints."""

EXTRA_LAYERS = (*HEAD_NAMES, "proj", "fc_norm", "norm")
"""Layers by which a file may differ from a backbone and still fit one of its options."""


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What `inspect_checkpoint` found."""

    path: str
    """The file."""
    form: str
    """"safetensors", "torch zip" or "torch legacy"."""
    opened_by: str
    """Which reader opened it: "safetensors", "weights_only" or "stub unpickler"."""
    entry: str | None
    """Key of the file's dictionary that held the weights."""
    prefix: str
    """What was stripped from every name."""
    tensors: int
    """How many tensors it holds."""
    parameters: int
    """How many numbers they hold."""
    dtypes: tuple[str, ...]
    """Element types."""
    heads: dict[str, int]
    """Classifier layer -> number of classes."""
    fits: str | None
    """Name of the backbone that takes it; None where none of the named ones does."""
    looks_like: str
    """The architecture in words, as far as names and shapes tell."""
    digest: str
    """Identity of the tensors."""
    extras: dict[str, str]
    """What lies beside the weights."""
    code: tuple[str, ...]
    """Code that the file names; none of it was run."""
    advice: str
    """How to use it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def inspect_checkpoint(path: str | Path) -> CheckpointInfo:
    """Open a weights file safely and say what it is.

    Raises
    ------
    CheckpointError
        If it holds no dictionary of tensors.
    """
    opened = open_checkpoint(path)
    heads = head_widths(opened.state)
    fits = fitting(opened.state)
    return CheckpointInfo(
        path=str(path),
        form=opened.form,
        opened_by=opened.opened_by,
        entry=opened.entry,
        prefix=opened.prefix,
        tensors=len(opened.state),
        parameters=sum(tensor.numel() for tensor in opened.state.values()),
        dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in opened.state.values()})),
        heads=heads,
        fits=fits,
        looks_like=looks_like(opened.state),
        digest=digest(opened.state),
        extras=opened.extras,
        code=opened.stubs,
        advice=advice(fits, heads, opened.path.name),
    )


def head_widths(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Find the classifiers: layer -> number of classes."""
    found = {}
    for key, tensor in state.items():
        layer, _, kind = key.rpartition(".")
        if kind == "weight" and layer in HEAD_NAMES and tensor.ndim == 2:
            found[layer] = int(tensor.shape[0])
    return found


def fitting(state: Mapping[str, Tensor]) -> str | None:
    """Name the backbone of ours whose names and shapes the file has, apart from its heads."""
    for name, expected in signatures().items():
        faults = [fault.split(" ")[0] for fault in compare(state, expected)]
        if all(under(key, EXTRA_LAYERS) for key in faults) and len(faults) < len(expected) / 2:
            return name
    return None


@lru_cache(maxsize=1)
def signatures() -> dict[str, dict[str, Tensor]]:
    """Build the named backbones without memory for their weights, for the names and shapes."""
    import torch

    from backbones.registry import names, recipe_of

    built = {}
    for name in names():
        with torch.device("meta"):
            encoder = recipe_of(name)[0].build(tag=None, pretrained=False)
        if isinstance(encoder, Encoder):
            built[name] = dict(encoder.trunk.state_dict())
    return built


def looks_like(state: Mapping[str, Tensor]) -> str:
    """Name the family of a network from its parameters' names, in a few words."""
    fits = fitting(state)
    if fits:
        return {"manet": "MA-Net", "vit": "ViT-B/16", "resnet50": "ResNet-50"}.get(fits, fits)
    if "patch_embed.proj.weight" in state and "pos_embed" in state:
        width, _, _, patch = state["patch_embed.proj.weight"].shape
        depth = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
        return f"a ViT of width {width}, depth {depth}, patch {patch}"
    if "layer4.0.conv1.weight" in state:
        depths = [len({k.split(".")[1] for k in state if k.startswith(f"layer{stage}.")}) for stage in range(1, 5)]
        return f"a ResNet with {depths} blocks{' (bottleneck)' if 'layer4.0.conv3.weight' in state else ''}"
    if "layer3_1_p1.0.conv1.weight" in state:
        return "an MA-Net of another size"
    if "conv_stem.weight" in state:
        return "an EfficientNet or MobileNet of timm"
    if any(key.startswith("stages.") for key in state):
        return "a ConvNeXt or another network in stages"
    return f"something unknown (first names: {', '.join(list(state)[:3])})"


def advice(fits: str | None, heads: Mapping[str, int], name: str) -> str:
    """Say how the file is used."""
    if fits is None:
        return f"none of the named backbones takes it; try create('timm:<name>', weights='{name}')"
    extra = ""
    if fits == "manet" and heads:
        width = max(heads.values())
        extra = "" if width == 7 else f", num_classes={width}" if width < 100 else ", replace_heads=True"
    return f"create({fits!r}, weights='{name}'{extra})"
