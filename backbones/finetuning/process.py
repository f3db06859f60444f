"""What a training borrows of its process, and gives back: device, random numbers, signals; what processes agree on."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..backbone import DeviceMemoryError, is_short_of_memory
from ..errors import OptionError
from ..torch_backbone import TorchBackbone
from .recipe import Recipe

_MIXED = {"float32": "no", "tf32": "no", "bfloat16": "bf16", "float16": "fp16"}
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")
_ONE_SIGNAL_S = 1.0
"""What arrives within so many seconds is the same signal again: from the terminal and from the launcher."""


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

    A second signal, a second later at the earliest, interrupts at once. Only the main thread can hold them.
    """
    came = threading.Event()
    first = 0.0
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note(number: int, frame: object) -> None:
        nonlocal first
        if came.is_set() and time.monotonic() - first > _ONE_SIGNAL_S:
            raise KeyboardInterrupt
        first = first if came.is_set() else time.monotonic()
        came.set()

    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def summed(numbers: NDArray[np.float64], accelerator: Accelerator) -> NDArray[np.float64]:
    """Sum a few numbers over all processes; each has the answer."""
    if accelerator.num_processes == 1:
        return numbers
    own = torch.tensor(numbers, dtype=torch.float32, device=accelerator.device)
    found: NDArray[np.float64] = accelerator.reduce(own, "sum").double().cpu().numpy()
    return found


@torch.no_grad()
def share_buffers(module: nn.Module) -> None:
    """Give every process the first one's buffers.

    Each process's batch norms have seen its own part of every batch, so their running statistics differ. What is judged
    must be what is kept, and that is the first process's.
    """
    if distributed.is_available() and distributed.is_initialized():
        for buffer in module.buffers():
            distributed.broadcast(buffer, 0)


class _SummedOver(torch.autograd.Function):
    """A sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


class _WholeBatch(_BatchNorm):
    """Mixed into a batch norm's class: while training, its statistics are those of all processes' parts together.

    torch's own ``SyncBatchNorm`` is another module, and for GPUs alone; this one is the same on every device, and the
    network is as it was once the class is put back.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or distributed.get_world_size() == 1:
            return super().forward(x)
        over = [0, *range(2, x.ndim)]
        wide = x.float()
        shape = [1, -1] + [1] * (x.ndim - 2)
        n = torch.full((1,), x.numel() / x.shape[1], device=x.device)
        first: Any = _SummedOver.apply(torch.cat([wide.sum(over), n]))
        mean, count = first[:-1] / first[-1], first[-1]
        centred = wide - mean.view(shape)
        var: Any = _SummedOver.apply(centred.square().sum(over)) / count
        self._follow(mean.detach(), var.detach() * count / (count - 1))
        scale = (var + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        y = centred * scale.view(shape)
        y = (y + self.bias.view(shape) if self.affine else y).to(x.dtype)
        # timm's batch norms have what follows them inside
        inside: Any = self
        return inside.act(inside.drop(y)) if hasattr(self, "act") else y  # type: ignore[no-any-return]

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var, share)


@contextmanager
def norms_of_whole_batches(module: nn.Module, *, wanted: bool) -> Iterator[None]:
    """Let batch norms see the parts of all processes, as if one computed the batch; undone at the end."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    if not wanted or not norms or not (distributed.is_available() and distributed.is_initialized()):
        yield
        return
    kinds = [type(norm) for norm in norms]
    made = {kind: type(kind.__name__, (_WholeBatch, kind), {}) for kind in set(kinds)}
    for norm, kind in zip(norms, kinds, strict=True):
        norm.__class__ = made[kind]
    try:
        yield
    finally:
        for norm, kind in zip(norms, kinds, strict=True):
            norm.__class__ = kind
