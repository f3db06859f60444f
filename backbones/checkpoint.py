"""A checkpoint: a file of weights that somebody else wrote, opened without running any code from it.

Three doors, tried in this order: safetensors (holds nothing but tensors); ``torch.load(weights_only=True)``; and for
files that this refuses, because a training script pickled its own objects beside the weights, the stub unpickler of
`backbones.unpickle`. The content decides which, not the file name: ``.pth.tar`` is no tar archive.
"""

from __future__ import annotations

import logging
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backbones.errors import CheckpointError, listed
from backbones.torch_file import read_legacy, read_zip
from backbones.unpickle import TensorRecord, Unpickled

logger = logging.getLogger(__name__)

State = dict[str, Tensor]

ENTRIES = (
    "state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "module", "net", "network", "weights",
)  # fmt: skip
"""Where training scripts put the weights, in order of preference (averaged ones first, as timm does)."""

PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "trunk.", "net.", "network.")
"""What wrappers put before every name; stripped, one after another, while all names begin with it."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An opened weights file."""

    path: Path
    """Where it lies."""
    state: State
    """Name -> tensor on the CPU, prefixes stripped."""
    form: str
    """"safetensors", "torch zip" or "torch legacy"."""
    opened_by: str
    """"safetensors", "weights_only" or "stub unpickler"."""
    entry: str | None
    """Key of the file's dictionary that held the weights; None where the file is the dictionary."""
    prefix: str
    """What was stripped from every name."""
    extras: dict[str, str]
    """What lay beside the weights, as text: epoch, scores, ..."""
    stubs: tuple[str, ...]
    """Code that the file names; none of it was run."""


def load_state(path: str | Path) -> State:
    """Read the tensors of a weights file: name -> tensor on the CPU, wrappers' prefixes stripped.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or holds no dictionary of tensors.
    """
    return open_checkpoint(path).state


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a weights file without running any code from it; see `load_state`."""
    path = Path(path)
    form = sniff(path)
    stubs: tuple[str, ...] = ()
    content: Any
    if form == "safetensors":
        content, opened_by = read_safetensors(path), "safetensors"
    elif (read := torch_weights_only(path)) is not None:
        content, opened_by = read.content, "weights_only"
    else:
        unpickled = read_stubbed(path, form)
        content, stubs, opened_by = unpickled.content, tuple(unpickled.stubs), "stub unpickler"
        if stubs:
            logger.info("%s names code, none of it was run: %s", path.name, listed(stubs))
    if not isinstance(content, Mapping):
        kind = f"a pickled object ({listed(stubs)})" if stubs else f"a {type(content).__name__}"
        raise CheckpointError(f"the file holds {kind}, not a dictionary of tensors; save model.state_dict(): {path}")
    try:
        tensors, entry, extras = pick(content, path)
    except CheckpointError as error:
        raise CheckpointError(f"{str(error).removesuffix(f': {path}')}: {path}") from None
    state, prefix = strip(tensors)
    if entry or prefix:
        logger.info("%s: took entry %r, stripped %r", path.name, entry or "", prefix)
    return Checkpoint(
        path=path, state=state, form=form, opened_by=opened_by, entry=entry, prefix=prefix, extras=extras, stubs=stubs
    )


def sniff(path: Path) -> str:
    """Tell the format from the content, or say what the file is instead of a checkpoint."""
    if not path.is_file():
        raise CheckpointError(f"there is no weights file: {path}")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise CheckpointError(f"the weights file is empty (0 bytes): {path}")
    if head.startswith(b"PK\x03\x04"):
        if is_torchscript(path):
            raise CheckpointError(f"the file is a TorchScript program, not weights; save its state_dict(): {path}")
        return "torch zip"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return "safetensors"
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"the file is a Git LFS pointer, not the weights; fetch them with 'git lfs pull': {path}")
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(f"the file is a web page, not weights; the download did not work: {path}")
    if head.startswith(b"\x89HDF"):
        raise CheckpointError(f"the file is HDF5 (Keras?), which is not read as weights: {path}")
    if tarfile.is_tarfile(path):
        raise CheckpointError(f"the file is a tar archive; unpack it and give the file within: {path}")
    if head[:1] == b"\x80":
        return "torch legacy"
    if head[:1] == b"\x08" and path.suffix == ".onnx":  # protobuf has no magic number; field 1 is ONNX's version
        raise CheckpointError(f"the file is an ONNX model, which is a backbone by itself: --backbone onnx:{path}")
    raise CheckpointError(f"the file is neither safetensors nor a PyTorch checkpoint (begins {head[:8]!r}): {path}")


def is_torchscript(path: Path) -> bool:
    """Tell a TorchScript archive, which holds code, from a checkpoint."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False  # a damaged archive; the readers say so


def read_safetensors(path: Path) -> State:
    """Read a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"the safetensors file is damaged ({error}): {path}") from None


@dataclass(frozen=True)
class Opened:
    """What ``weights_only`` read."""

    content: Any


def torch_weights_only(path: Path) -> Opened | None:
    """Try PyTorch's own safe reader; None where it refuses or fails, which the stub unpickler then explains."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of pickle protocols before it refuses them
            return Opened(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a boundary: damaged files raise nearly anything; the next reader says what is wrong
        logger.debug("torch.load(weights_only=True) refused %s: %s", path.name, error)
        return None


def read_stubbed(path: Path, form: str) -> Unpickled:
    """Read with the stub unpickler."""
    try:
        if form == "torch zip":
            return read_zip(path)
        return read_legacy(path)
    except CheckpointError as error:
        raise CheckpointError(f"{str(error).removesuffix(f': {path}')}: {path}") from None
    except (zipfile.BadZipFile, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"the file is damaged or cut short ({error}): {path}") from None


def pick(content: Mapping[Any, Any], path: Path) -> tuple[State, str | None, dict[str, str]]:
    """Find the dictionary of tensors: one of the well-known entries, or the content itself."""
    texts = {key: described(value) for key, value in content.items() if isinstance(key, str)}
    for entry in ENTRIES:
        if tensors := tensors_of(content.get(entry)):
            texts.pop(entry)
            return tensors, entry, texts | beside(content[entry], tensors, f"{entry}.")
    if tensors := tensors_of(content):
        return tensors, None, beside(content, tensors)
    held = listed([repr(key) for key in texts], count=6)
    raise CheckpointError(f"no dictionary of tensors in the file; it holds {held or 'nothing'}: {path}")


def tensors_of(candidate: Any) -> State:
    """Keep what has a string name and is a tensor; nothing at all where most entries are something else."""
    if not isinstance(candidate, Mapping):
        return {}
    found: State = {}
    for name, value in candidate.items():
        if isinstance(name, str) and isinstance(value, Tensor | TensorRecord):
            found[name] = _plain(name, (value.tensor() if isinstance(value, TensorRecord) else value).detach())
    return found if len(found) * 2 > len(candidate) else {}


def _plain(name: str, tensor: Tensor) -> Tensor:
    """Refuse tensors that are not an array of numbers, which no backbone has."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        kind = "quantized" if tensor.is_quantized else f"{tensor.layout} on {tensor.device}".removeprefix("torch.")
        raise CheckpointError(f"{name} is no plain tensor ({kind}); save it as model.float().cpu().state_dict()")
    return tensor


def beside(content: Mapping[Any, Any], tensors: State, where: str = "") -> dict[str, str]:
    """Describe what lies among the tensors and is none, so that nothing goes missing without a word."""
    return {f"{where}{key}": described(value) for key, value in content.items() if key not in tensors}


def described(value: Any) -> str:
    """Say in a word or two what lay beside the weights; scores and epochs in full."""
    if isinstance(value, TensorRecord):
        value = value.tensor()
    if isinstance(value, Tensor):
        return str(value.item()) if value.numel() == 1 else f"tensor {tuple(value.shape)}"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a large integer"
    if isinstance(value, bool | int | float | str) or value is None:
        return str(value)[:80]
    if isinstance(value, Mapping | list | tuple):
        return "1 entry" if len(value) == 1 else f"{len(value)} entries"
    return "an object"


def strip(state: State) -> tuple[State, str]:
    """Remove the prefixes that all names share, one after another."""
    stripped = ""
    while True:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) and name != p for name in state)), None)
        if prefix is None or not state:
            return state, stripped
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        stripped += prefix
