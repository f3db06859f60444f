"""A backbone that runs on torch: an encoder with its weights, on a device."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import nn

from .backbone import PRECISIONS, Backbone, Begun, crops_of, or_does_not_fit
from .errors import DeviceError, OptionError
from .picture import LUMA
from .recipes import Encoder, is_own
from .weights.fit import Source, digest

logger = logging.getLogger(__name__)


class TorchBackbone(Backbone):
    """An encoder on a device; `module` is the ``torch.nn.Module``, pictures (b, 3, h, w) float -> {block: (b, d)}."""

    def __init__(self, name: str, encoder: Encoder, source: Source, *, device: str, precision: str) -> None:
        if precision not in PRECISIONS:
            raise OptionError(f"precision must be one of {', '.join(PRECISIONS)}, however: precision={precision!r}")
        self.name = name
        self.encoder = encoder
        self.source = source
        self.blocks = encoder.blocks
        self.transform = encoder.transform
        self.architecture = encoder.architecture
        self.options = encoder.options
        self.code = encoder.code
        self.precision = precision
        self.device = choose_device(device)
        if precision == "tf32" and torch.device(self.device).type != "cuda":
            raise OptionError(f"precision tf32 needs a CUDA device, however: {self.device}; say precision='float32'")
        self.piece = encoder.cpu_piece if self.device == "cpu" else 0
        order = torch.channels_last if encoder.channels_last else torch.contiguous_format
        self.module: nn.Module = encoder.module.to(self.device).to(memory_format=order).eval()
        self.network: Callable[[torch.Tensor], dict[str, torch.Tensor]] = self.module
        """What computes: the module itself, or what `compile_network` made of it."""
        self._copies: _Copies | None = None

    def compile_network(self, *, backend: str = "inductor") -> None:
        """Have torch.compile translate the network, and try it at once; it becomes part of the identity.

        Compiled code may add in another order than the network's own, so its rows may differ in their last bits.

        Raises
        ------
        DeviceError
            If it cannot be compiled here; the backbone stays as it was.
        """
        before = self.network
        self.network = torch.compile(self.module, backend=backend)
        side = self.transform.size_px
        try:
            self.compute(np.zeros((self.piece or 1, side, side, 3), np.uint8))
        except MemoryError:
            self.network = before
            raise
        except Exception as error:  # a boundary: compilers raise nearly anything, and the reason is kept
            self.network = before
            raise DeviceError(
                f"torch.compile cannot translate {self.name} on this machine: {type(error).__name__}: "
                f"{str(error).strip().partition(chr(10))[0][:300]}\n"
                f"  leave it uncompiled (no --compile); on a CPU the compiler needs a C++ compiler such as g++"
            ) from error
        self.options = {**self.options, "compile": backend}

    @property
    def device_kind(self) -> str:
        """The kind of device that it computes on; torch calls AMD's "cuda" too."""
        kind = torch.device(self.device).type
        return "rocm" if kind == "cuda" and torch.version.hip else kind

    @property
    def ahead(self) -> int:
        """One on a GPU: while it is at a batch, the next one is copied and queued."""
        return int(torch.device(self.device).type == "cuda")

    def compute(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Embed a batch that has been checked; in evaluation mode, without gradients.

        Raises
        ------
        DeviceMemoryError
            If it does not fit on the device.
        """
        return self.begin(pictures).rows()

    def begin(self, pictures: NDArray[np.uint8]) -> Begun:
        """Begin to embed a batch that has been checked; on a GPU the rows come later."""
        if self.module.training:
            self.module.eval()
        told: Any = {"pictures": len(pictures), "name": self.name, "device": self.device}
        begun = or_does_not_fit(lambda: self.forward(pictures), **told)
        return Begun(ready=begun.ready, rows=lambda: or_does_not_fit(begun.rows, **told))

    @property
    def at_once(self) -> int:
        """How many pieces are computed side by side: one a thread, unless the code is compiled and may not bear it."""
        return torch.get_num_threads() if self.device == "cpu" and self.network is self.module else 1

    def compute_each(self, pieces: Sequence[NDArray[np.uint8]]) -> list[dict[str, NDArray[np.float32]]]:
        """Embed pieces side by side, each in a thread that shares its layers with no other.

        Threads that share every layer wait for each other hundreds of times a picture, and beside other work on the
        machine for whichever the system holds up. A piece that is alone has one thread too: the order of additions may
        follow the number of threads, and a picture's row must not follow the size of its batch.
        """
        threads = torch.get_num_threads()
        if self.at_once == 1:
            return super().compute_each(pieces)
        with ThreadPoolExecutor(min(threads, len(pieces)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                return list(pool.map(self.compute, pieces))
            finally:
                torch.set_num_threads(threads)  # what a thread sets for itself, threads to come begin with too

    def forward(self, pictures: NDArray[np.uint8]) -> Begun:
        """Copy to the device, scale, run the network, and have the rows copied back."""
        batch = torch.from_numpy(np.require(pictures, requirements=["C", "W"]))
        kind = torch.device(self.device).type
        if kind == "cuda" and self._copies is None:
            self._copies = _Copies(self.device)
        batch = batch.to(self.device) if self._copies is None else self._copies.there(batch)
        with torch.inference_mode(), float32_as(self.precision), torch.autocast(kind, **self.autocast()):
            out = self.network(self.transform.to_tensor(batch, channels_last=self.encoder.channels_last))
            rows = {block: out[block].float() for block in self.blocks}
        if self._copies is None:
            return Begun.done({block: tensor.cpu().numpy() for block, tensor in rows.items()})
        return self._copies.back(rows)

    def autocast(self) -> dict[str, Any]:
        """Return autocast's arguments for this precision."""
        if self.precision in ("float32", "tf32"):
            return {"enabled": False}
        return {"dtype": getattr(torch, self.precision)}

    def state(self) -> dict[str, torch.Tensor]:
        """Return what a weights file of this backbone holds: contiguous tensors on the CPU, in the public names."""
        return {name: tensor.detach().cpu().contiguous() for name, tensor in self.encoder.trunk.state_dict().items()}

    def weights_digest(self) -> str:
        """Digest the tensors the blocks depend on, as they are now: training changes the answer."""
        return digest(self.encoder.trunk.state_dict(), leave_out=self.encoder.heads)

    def describe(self) -> dict[str, Any]:
        """Return weights' source, versions, size, device; no part of the identity."""
        import timm
        import torchvision

        return {
            "name": self.name,
            "blocks": dict(self.blocks),
            "weights_source": self.source.label,
            "parameters": sum(parameter.numel() for parameter in self.module.parameters()),
            "device": self.device,
            "compiled": self.network is not self.module,
            **self.encoder.notes,
            "versions": {
                "torch": str(torch.__version__),
                "timm": str(timm.__version__),
                "torchvision": str(torchvision.__version__),
                "pillow": str(PIL.__version__),
                "numpy": str(np.__version__),
            },
        }


class PictureGraph(nn.Module):
    """What a backbone does to pictures of its size, in float32 and as one module that can be exported.

    uint8 RGB (b, h, w, 3) -> {block: (b, d)} float32: scaling, the network, and its views' mean. It is made on the CPU,
    of a copy of the network.

    Raises
    ------
    OptionError
        If the backbone's rows are not those of a float32 network of torch on whole pictures; naming it.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        if not isinstance(backbone, TorchBackbone) or is_own(backbone.name):
            kind = "runs code of your own" if isinstance(backbone, TorchBackbone) else "is no network of torch"
            raise OptionError(f"{backbone.name!r} cannot be written as a graph: it {kind}, which stays in its own file")
        if backbone.rounds and backbone.precision != "tf32":
            raise OptionError(
                f"{backbone.name!r} cannot be written as a graph: its rows are computed in {backbone.precision}, and a "
                "graph computes in float32\n  extract the feature in float32 and train a head on that"
            )
        if crops_of(backbone.views) != 1:
            raise OptionError(
                f"{backbone.name!r} cannot be written as a graph: its views are {backbone.views}, five crops of a "
                "larger picture\n  extract the feature with --views none or flip"
            )
        transform = backbone.transform
        self.network = copy.deepcopy(backbone.module).cpu().eval().requires_grad_(False)
        self.blocks, self.colour = tuple(backbone.blocks), transform.colour
        self.by, self.flipped = (255.0 if transform.scale == "0-1" else 1.0), backbone.views.endswith("flip")
        self.register_buffer("mean", torch.tensor(transform.mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(transform.std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, faces: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the blocks; what is done before the network is `Transform.to_tensor`."""
        if self.colour == "BGR":
            faces = faces.flip(-1)
        pixels = faces.permute(0, 3, 1, 2).to(torch.float32)  # (b, h, w, c) -> (b, c, h, w)
        if self.colour == "L":
            red, green, blue = (pixels[:, i : i + 1] * weight for i, weight in enumerate(LUMA))
            pixels = ((red + green + blue + 0x8000) / 0x10000).floor()  # whole numbers below 2^24: exact
        pixels = (pixels / self.by - self.mean) / self.std
        found = [self.network(view) for view in ((pixels, pixels.flip(-1)) if self.flipped else (pixels,))]
        if len(found) == 1:
            return {block: found[0][block] for block in self.blocks}
        return {block: (found[0][block] + found[1][block]) / 2 for block in self.blocks}


class _Copies:
    """Copies to and from a CUDA device that run beside what it computes: from pinned memory, on a stream of their own.

    Parameters
    ----------
    device : str
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def there(self, batch: torch.Tensor) -> torch.Tensor:
        """Have a batch copied; what is computed with it from now on waits for it, and nothing else does."""
        with torch.cuda.stream(self._stream):
            copied = batch.pin_memory().to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        copied.record_stream(computing)  # else its memory could be another's as soon as nobody here holds it
        return copied

    def back(self, rows: dict[str, torch.Tensor]) -> Begun:
        """Have rows copied into pinned memory, behind what computes them."""
        here = {block: tensor.to("cpu", non_blocking=True) for block, tensor in rows.items()}
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(self._device))

        def wait() -> dict[str, NDArray[np.float32]]:
            copied.synchronize()
            return {block: tensor.numpy() for block, tensor in here.items()}

        return Begun(ready=copied.query, rows=wait)


Float32 = Literal["ieee", "tf32"]
"""What PyTorch may compute float32 in, in the words of its newer settings."""

_settled = threading.Condition()
_computing, _computing_in = 0, "ieee"
"""Computations under way that rely on the settings, which are the process's; and what they compute float32 in."""
_settings = ExitStack()
"""Puts the settings back as the first of them found them."""


@contextmanager
def float32_as(precision: str) -> Iterator[None]:
    """Have float32 computed in TF32 where `precision` is "tf32", and else in float32 itself.

    PyTorch lets convolutions round to TF32 unless told not to, and users let matrices. The settings are the process's:
    the first of several threads makes them, the last puts them back, and who wants the others waits for that.
    """
    global _computing, _computing_in
    wanted: Float32 = "tf32" if precision == "tf32" else "ieee"
    with _settled:
        _settled.wait_for(lambda: not _computing or _computing_in == wanted)
        if not _computing:
            _settings.enter_context(_set_float32(wanted))
            _computing_in = wanted
        _computing += 1
    try:
        yield
    finally:
        with _settled:
            _computing -= 1
            if not _computing:
                _settings.close()
                _settled.notify_all()


@contextmanager
def _set_float32(wanted: Float32) -> Iterator[None]:
    """Set what float32 is computed in, and put the settings back.

    PyTorch has an old set of settings for that and, from 2.9, a new one; read while the two disagree, the old one
    raises an error. So the new one is set first, then the old one is read and set too, for whoever reads it while the
    network runs. Afterwards both are as before, and so is what follows the setting above it.
    """
    cudnn, levels = torch.backends.cudnn, _precision_levels()
    shown = [level.fp32_precision for level, _ in levels]
    before = [(level, _stated(level, above)) for level, above in levels]
    ours = [(level, str(wanted)) for level, _ in levels]
    _state([(level, "ieee") for level, _ in levels])
    matrices = torch.get_float32_matmul_precision()
    try:
        convolutions = cudnn.allow_tf32
    except RuntimeError:  # "a mix of the legacy and new APIs": the new one says no, so the old one says yes
        convolutions = True
    try:
        torch.set_float32_matmul_precision("high" if wanted == "tf32" else "highest")
        cudnn.allow_tf32 = wanted == "tf32"
        _state(ours)
        yield
    finally:
        torch.set_float32_matmul_precision(matrices)
        cudnn.allow_tf32 = convolutions
        _state(before)
        for (level, _), value in zip(before, shown, strict=True):
            if level.fp32_precision != value:  # cuDNN's are "tf32" until something is said
                level.fp32_precision = value


def _precision_levels() -> list[tuple[Any, Any]]:
    """Every setting of PyTorch's newer kind with the one that it follows, general ones first; none before 2.9."""
    every: Any = torch.backends
    if not hasattr(every.cudnn, "conv"):
        return []
    cuda, mkldnn = every.cudnn, every.mkldnn
    under = {cuda: (every.cuda.matmul, cuda.conv, cuda.rnn), mkldnn: (mkldnn.matmul, mkldnn.conv, mkldnn.rnn)}
    backends = [(every, None), *((backend, every) for backend in under)]
    return backends + [(level, backend) for backend, levels in under.items() for level in levels]


def _stated(level: Any, above: Any) -> str:
    """What was said of a setting itself, "none" where nothing was: it moves with the one above, which is left moved."""
    if above is None:
        return str(level.fp32_precision)
    shown = []
    for moved in ("ieee", "tf32"):
        above.fp32_precision = moved
        shown.append(level.fp32_precision)
    return "none" if shown == ["ieee", "tf32"] else str(shown[0])


def _state(wanted: list[tuple[Any, str]]) -> None:
    for level, precision in wanted:
        level.fp32_precision = precision


def choose_device(device: str) -> str:
    """Check that a device is there; "auto" takes the first CUDA device or else the CPU, and logs which.

    Raises
    ------
    DeviceError
        If the device is unknown or missing. It is never replaced by another.
    """
    if device == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
        logger.info("device auto: %s", chosen)
        return chosen
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise DeviceError(f"there is no device called {device!r}; say auto, cpu, cuda, cuda:1 or mps") from None
    if wanted.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (wanted.index or 0) >= count:
            raise DeviceError(
                f"device {device!r} was asked for, and this machine has {count} CUDA devices that torch "
                f"{torch.__version__} can use\n  the device may be cpu, or auto, which takes what there is"
            )
    elif wanted.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("device 'mps' was asked for, and torch finds no Apple GPU; the device may be cpu")
    elif wanted.type != "cpu":
        raise DeviceError(f"device {device!r} is not supported; say auto, cpu, cuda, cuda:1 or mps")
    return str(wanted)
