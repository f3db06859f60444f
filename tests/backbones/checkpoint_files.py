"""Weights files as other people's scripts write them, a few kilobytes each whatever the network's size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cer_fusion.backbones.weights.inspection import encoder_of

State = dict[str, Tensor]


def tensor(*shape: int, value: float = 0.25) -> Tensor:
    """One number, repeated to a shape."""
    return torch.tensor(value).expand(shape)


def thin(name: str) -> State:
    """The names and shapes of a backbone's trunk; every tensor is one number, repeated."""
    encoder = encoder_of(name)
    assert encoder is not None
    shapes = {key: (t.shape, t.dtype) for key, t in encoder.trunk.state_dict().items()}
    return {
        key: torch.tensor(number + 1, dtype=dtype).expand(shape) if not dtype.is_floating_point else
        torch.tensor(1 / (number + 1), dtype=dtype).expand(shape)
        for number, (key, (shape, dtype)) in enumerate(shapes.items())
    }  # fmt: skip


def with_prefix(state: Mapping[str, Tensor], prefix: str) -> State:
    """The same tensors, each name behind `prefix`."""
    return {prefix + key: t for key, t in state.items()}


def manet(classes: int = 7) -> State:
    """MA-Net with heads of a width."""
    heads = {
        f"fc_{n}.{part}": tensor(classes, *size) for n in (1, 2) for part, size in (("weight", [512]), ("bias", []))
    }
    return thin("manet") | heads


def manet_file(path: Path, classes: int = 7) -> Path:
    """As the public code saves it on several GPUs, but for the recorder, which is pickled in `test_checkpoint`."""
    torch.save({"epoch": 40, "state_dict": with_prefix(manet(classes), "module."), "best_acc": 88.33}, path)
    return path


def mae(depth: int = 2) -> State:
    """What MAE's pre-training saves: the encoder, a mask token and a decoder."""
    state = thin("vit") | {"mask_token": tensor(1, 1, 768), "decoder_pos_embed": tensor(1, 197, 512)}
    layers: dict[str, tuple[int, ...]] = {
        "decoder_embed": (512, 768),
        "decoder_norm": (512,),
        "decoder_pred": (768, 512),
    }
    layers |= {f"decoder_blocks.{n}.attn.qkv": (1536, 512) for n in range(depth)}
    for layer, shape in layers.items():
        state |= {f"{layer}.weight": tensor(*shape), f"{layer}.bias": tensor(shape[0])}
    return state


def mae_file(path: Path) -> Path:
    """As MAE's public code saves it, with the optimizer beside."""
    torch.save({"model": mae(), "optimizer": {"state": {}, "param_groups": []}, "epoch": 799, "scaler": {}}, path)
    return path


def fer2013() -> State:
    """A ResNet-50 that tells FER2013's seven classes apart."""
    return thin("resnet50") | {"fc.weight": tensor(7, 2048), "fc.bias": tensor(7)}


def fer2013_file(path: Path, form: str) -> Path:
    """The same in the forms that training scripts give it."""
    contents: dict[str, Any] = {
        "plain": fer2013(),
        "DataParallel": with_prefix(fer2013(), "module."),
        "wrapped": with_prefix(fer2013(), "backbone."),
        "compiled": with_prefix(fer2013(), "_orig_mod.module."),
        "Lightning": {
            "state_dict": with_prefix(fer2013(), "model."),
            "pytorch-lightning_version": "2.4.0",
            "epoch": 11,
            "hyper_parameters": {"lr": 1e-3},
            "callbacks": {},
        },
        "with a loss": with_prefix(fer2013(), "model.backbone.") | {"model.criterion.weight": tensor(7)},
        "with a head beside": with_prefix(thin("resnet50"), "net.features.") | {"net.head.weight": tensor(7, 2048)},
    }
    torch.save(contents[form], path)
    return path


FER2013_FORMS = ("plain", "DataParallel", "wrapped", "compiled", "Lightning", "with a loss", "with a head beside")
