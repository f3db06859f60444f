"""What a training borrows of its process, and gives back: the device, random numbers, signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from ..backbone import DeviceMemoryError, is_short_of_memory
from ..errors import OptionError
from ..torch_backbone import TorchBackbone
from .recipe import Recipe

_MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")


def accelerator_of(backbone: TorchBackbone, recipe: Recipe) -> Accelerator:
    """Make the accelerator for the backbone's device and precision.

    accelerate keeps one state a process and refuses another precision later: each training starts a new one.
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


@contextmanager
def memory_errors(recipe: Recipe) -> Iterator[None]:
    """Say what to do when a device's memory is short."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_short_of_memory(error):
            raise
        raise DeviceMemoryError(
            f"out of memory with batch_size={recipe.batch_size} in {recipe.accumulation} parts: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}\n"
            f"  compute each batch in more parts, which changes little: accumulation={recipe.accumulation * 2}\n"
            f"  or take a smaller batch_size, a smaller input, or precision bfloat16"
        ) from error


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Draw from `seed` inside, on every device; outside, the caller's random numbers go on as if nothing had been."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def numpy_drawn_from(seed: int) -> Iterator[None]:
    """Do the same for NumPy's global generator, which timm's Mixup draws from."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


@contextmanager
def held_signals() -> Iterator[threading.Event]:
    """Hold Ctrl-C and a scheduler's signals back until the step in progress is whole: the event says that one came.

    A second signal interrupts at once. Only the main thread can hold them.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note(number: int, frame: object) -> None:
        if came.is_set():
            raise KeyboardInterrupt
        came.set()

    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
