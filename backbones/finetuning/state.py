"""The state of a run: everything that its next step depends on, in one safetensors file with its JSON in the header.

Order of examples, augmentation, dropout and mixing are functions of (seed, epoch, step), and the schedule is one of the
number of updates: none of them has a state. What is left are tensors and a few numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from cer_fusion.backbones.errors import ResumeError
from cer_fusion.backbones.finetuning.atomic import make_whole
from cer_fusion.backbones.finetuning.identity import check_same
from cer_fusion.backbones.weights import digest
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

STATE_FILE = "state.safetensors"
_FORMAT = "cer-fusion finetune state 1"


@dataclass(kw_only=True)
class Position:
    """Where a run is, and what it knows so far."""

    epoch: int = 0
    """Epochs that are complete."""
    step: int = 0
    """Updates done in the epoch that is not."""
    loss: float = 0.0
    """Sum of its losses so far."""
    correct: int = 0
    """Training pictures found right so far."""
    seen: int = 0
    """Training pictures seen so far."""
    seconds: float = 0.0
    """Time spent in it so far."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """`EpochScores` of the complete epochs."""
    best: int = 0
    """Number of the best epoch, from 1; 0: none yet."""
    best_digest: str = ""
    """Digest of all tensors of its weights file."""
    best_identity: str = ""
    """Digest of those that features depend on, as in a feature's identity."""
    stopped: bool = False
    """Whether patience ended the run."""

    def begin_epoch(self) -> None:
        """Count the epoch as complete and forget its sums."""
        self.epoch += 1
        self.step, self.loss, self.correct, self.seen, self.seconds = 0, 0.0, 0, 0, 0.0


def save_state(
    path: Path,
    parts: Mapping[str, Mapping[str, Tensor]],
    optimizer: Mapping[str, Any],
    *,
    scaler: Mapping[str, Any] | None,
    position: Position,
    identity: Mapping[str, Any],
) -> None:
    """Write a state in one step.

    Parameters
    ----------
    parts : dict of dict of Tensor
        "model" and "ema" -> their states.
    optimizer
        Its `state_dict()`.
    scaler
        The gradient scaler's, for float16.
    identity
        What `load_state` compares.
    """
    tensors = {f"{part}.{name}": _plain(value) for part, state in parts.items() for name, value in state.items()}
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in optimizer["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = _plain(value)
            else:
                numbers.setdefault(str(index), {})[name] = value
    content = {
        "optimizer": numbers, "scaler": dict(scaler) if scaler else None, "position": asdict(position),
        "identity": identity, "tensors": digest(tensors),
    }  # fmt: skip
    metadata = {"format": _FORMAT, "run": json.dumps(content, allow_nan=False)}
    make_whole(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


@dataclass(frozen=True, kw_only=True)
class State:
    """A state as read back."""

    tensors: dict[str, Tensor]
    """All parts, names with the part in front."""
    numbers: dict[str, dict[str, Any]]
    """What the optimizer keeps besides tensors."""
    scaler: dict[str, Any] | None
    """The gradient scaler's state."""
    position: Position
    """Where the run was."""

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the state of "model" or "ema"."""
        return {key.removeprefix(f"{name}."): t for key, t in self.tensors.items() if key.startswith(f"{name}.")}

    def optimizer(self, fresh: Mapping[str, Any]) -> dict[str, Any]:
        """Return a `state_dict` for an optimizer just made, whose own is `fresh`."""
        state: dict[int, dict[str, Any]] = {}
        for key, tensor in self.part("optimizer").items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = tensor
        for index, values in self.numbers.items():
            state.setdefault(int(index), {}).update(values)
        return {**fresh, "state": state}


def load_state(path: Path, identity: Mapping[str, Any]) -> State | None:
    """Read a state back; None if there is none.

    Raises
    ------
    ResumeError
        If the file is damaged, or belongs to a run with another recipe, other data or anything else in `identity`.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content = json.loads(metadata["run"]) if metadata.get("format") == _FORMAT else None
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ResumeError(f"the state cannot be read: {error}\n  in file: {path}\n{_START_ANEW}") from None
    if content is None or content["tensors"] != digest(tensors):
        raise ResumeError(f"the state is damaged, or none of this release's\n  in file: {path}\n{_START_ANEW}")
    check_same(content["identity"], identity, path)
    position = Position(**content["position"])
    return State(tensors=tensors, numbers=content["optimizer"], scaler=content["scaler"], position=position)


_START_ANEW = "  start anew without resuming (--no-resume --overwrite)"


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous(memory_format=torch.contiguous_format)
