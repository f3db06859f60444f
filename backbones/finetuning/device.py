"""What a run computes on: accelerate's device and precision, and memory in the order that convolutions like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from cer_fusion.backbones.errors import OptionError
from cer_fusion.backbones.finetuning.recipe import Recipe
from cer_fusion.backbones.torch_backbone import TorchBackbone

_MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def accelerator_of(backbone: TorchBackbone, recipe: Recipe) -> Accelerator:
    """Make the accelerator for the backbone's device and precision.

    accelerate keeps one state a process and refuses another precision later: a run of its own starts a new one.
    """
    device = torch.device(backbone.device)
    if backbone.precision == "float16" and device.type != "cuda":
        raise OptionError(f"training in float16 needs a CUDA device, however: {device}; say precision='bfloat16'")
    if not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    made = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=_MIXED[backbone.precision],
        gradient_accumulation_steps=recipe.accumulation,
    )
    if made.device.type != device.type:
        raise OptionError(f"the backbone is on {device}, and accelerate was set up for {PartialState().device}")
    return made


@contextmanager
def trained_in(backbone: TorchBackbone) -> Iterator[None]:
    """Train in (h, w, c) memory, in which convolutions are faster, and leave the network as it was found."""
    module = backbone.module
    order = torch.channels_last if backbone.encoder.channels_last else torch.contiguous_format
    try:
        module.to(memory_format=torch.channels_last)
        yield
    finally:
        module.to(memory_format=order).eval()
