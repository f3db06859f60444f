"""Turning any weights file into clean safetensors: the same tensors under their public names, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cer_fusion.backbones.errors import CheckpointError
from cer_fusion.backbones.weights.checkpoint import open_checkpoint
from cer_fusion.backbones.weights.fit import digest
from cer_fusion.backbones.weights.inspection import CheckpointInfo, described, public_names

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A weights file as safetensors, ready to be written."""

    info: CheckpointInfo
    """What the original is."""
    data: bytes
    """The new file's content."""
    tensors: int
    """How many tensors it holds: all that the original's weights hold."""
    left_out: dict[str, str]
    """What lay beside the weights and is not kept: entry -> what it was."""


def convert_checkpoint(path: str | Path) -> Conversion:
    """Read a weights file and lay its tensors out as safetensors; the caller writes the bytes.

    Every tensor is kept, in its element type, contiguous, heads and a pre-training decoder included; wrappers'
    prefixes go, and so does what lay beside the weights, which is listed. The digest stays the same, and with it the
    fingerprint of the features that the weights make.

    Raises
    ------
    CheckpointError
        If the file holds no dictionary of tensors, or one that safetensors cannot hold.
    """
    opened = open_checkpoint(path)
    info = described(opened)
    state = public_names(opened.state, info.prefix.removeprefix(opened.prefix))
    data = _laid_out(state, opened.path)
    return Conversion(info=info, data=data, tensors=len(state), left_out=dict(opened.extras))


def _laid_out(state: Mapping[str, Tensor], path: Path) -> bytes:
    """Write the tensors to bytes, and read those back to see that nothing was lost."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load, save

    own = {  # safetensors refuses tensors that share memory
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    try:
        data = save(own, metadata={"format": "pt"})
        back = load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"safetensors cannot hold these tensors ({error}): {path}") from None
    if set(back) != set(state) or digest(back) != digest(state):
        raise CheckpointError(f"safetensors does not give the tensors back as they were; nothing is written: {path}")
    return data
