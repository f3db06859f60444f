"""Saying what a weights file is, without running code from it and without knowing where it came from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbones.candidates import Candidate, candidates
from backbones.checkpoint import Checkpoint, State, open_checkpoint
from backbones.errors import CardError, CheckpointError
from backbones.flow import BOTH_FLOWS, card_beside
from backbones.recognition import looks_like, timm_names
from backbones.weights import digest

if TYPE_CHECKING:
    from torch import Tensor

HEAD_NAMES = ("fc_1", "fc_2", "fc", "head", "head.fc", "classifier", "head_drop")
"""What classifiers are called, in timm and in the public checkpoints."""

FOREIGN_HEAD = 100
"""From this width on, MA-Net's heads are those of a face recogniser (MS-Celeb-1M: 12666) and of no further use."""


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
    """What was stripped from every name, or from those of the network where a wrapper holds more."""
    tensors: int
    """How many tensors it holds."""
    parameters: int
    """How many numbers they hold."""
    dtypes: tuple[str, ...]
    """Element types."""
    heads: dict[str, int]
    """Classifier layer -> number of classes."""
    fits: str | None
    """Name of the backbone that takes it; None where none of those tried does."""
    candidates: tuple[Candidate, ...]
    """Backbones that it fits or resembles, the best first, with what each lacks."""
    looks_like: str
    """The architecture in words, as far as names and shapes tell."""
    digest: str
    """Identity of the tensors in their public names, heads included; a converted file has the same."""
    extras: dict[str, str]
    """What lies beside the weights."""
    code: tuple[str, ...]
    """Code that the file names; none of it was run."""
    advice: str
    """How to use it in Python."""
    commands: tuple[str, ...]
    """How to use it on the command line; several where the file leaves a choice."""
    notes: tuple[str, ...]
    """What to know before choosing."""

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
    return described(open_checkpoint(path))


def described(opened: Checkpoint) -> CheckpointInfo:
    """Say what an opened file is; see `inspect_checkpoint`."""
    found = candidates(opened.state, also=timm_names(opened.state))
    best = found[0] if found and found[0].fits else None
    prefix = best.prefix if best else ""
    state = public_names(opened.state, prefix)
    heads = head_widths(state)
    path = opened.path
    flow, about_card = _flow_of(path, digest(state)) if best and best.backbone == "manet" else (None, ())
    return CheckpointInfo(
        path=str(path),
        form=opened.form,
        opened_by=opened.opened_by,
        entry=opened.entry,
        prefix=opened.prefix + prefix,
        tensors=len(state),
        parameters=sum(tensor.numel() for tensor in state.values()),
        dtypes=tuple(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()})),
        heads=heads,
        fits=best.backbone if best else None,
        candidates=tuple(found),
        looks_like=looks_like(state, found),
        digest=digest(state),
        extras=opened.extras,
        code=opened.stubs,
        advice=_advice(best, heads, path.name),
        commands=_commands(best, heads, path, flow),
        notes=(*_notes(best, heads, flow), *_alternatives(found), *about_card),
    )


def public_names(state: Mapping[str, Tensor], prefix: str) -> State:
    """Strip what the network's names begin with; what lies beside keeps its name, and no tensor is dropped."""
    renamed = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return renamed if len(renamed) == len(state) else dict(state)


def head_widths(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Find the classifiers: layer -> number of classes."""
    found = {}
    for key, tensor in state.items():
        layer, _, kind = key.rpartition(".")
        if kind == "weight" and layer in HEAD_NAMES and tensor.ndim == 2:
            found[layer] = int(tensor.shape[0])
    return found


def _flow_of(path: Path, digest: str) -> tuple[str | None, tuple[str, ...]]:
    """Read the flow off the card beside the file, and what there is to say about a card that is none of this file's."""
    try:
        return card_beside(path, digest), ()
    except (CheckpointError, CardError) as error:
        return None, (str(error),)


def _options(best: Candidate, heads: Mapping[str, int]) -> dict[str, Any]:
    """Collect what `create` must be told to take the file."""
    options = dict(best.options)
    widths = {heads[layer] for layer in ("fc_1", "fc_2") if layer in heads}
    if best.backbone == "manet" and widths != {7}:
        is_kept = len(widths) == 1 and max(widths) < FOREIGN_HEAD
        options |= {"num_classes": max(widths)} if is_kept else {"replace_heads": True}
    return options


def _advice(best: Candidate | None, heads: Mapping[str, int], name: str) -> str:
    """Say how the file is used in Python."""
    if best is None:
        return f"none of the named backbones takes it; try create('timm:<name>', weights='{name}')"
    options = "".join(f", {key}={value!r}" for key, value in _options(best, heads).items())
    return f"create({best.backbone!r}, weights={name!r}{options})"


def _commands(best: Candidate | None, heads: Mapping[str, int], path: Path, flow: str | None) -> tuple[str, ...]:
    """Say how the file is used on the command line, once for each choice that it leaves."""
    if best is None:
        return ()
    options = {key: str(value).lower() for key, value in _options(best, heads).items()}
    words = ["cer-feat", "extract", "--backbone", best.backbone, "--weights", str(path), "--data", "MANIFEST"]
    choices: list[dict[str, str]] = [{}]
    if best.backbone == "manet":
        choices = [{"flow": each} for each in ((flow,) if flow else ("legacy", "bidirectional"))]
    return tuple(
        shlex.join([*words, *(word for key, value in (choice | options).items() for word in ("-O", f"{key}={value}"))])
        for choice in choices
    )


def _notes(best: Candidate | None, heads: Mapping[str, int], flow: str | None) -> tuple[str, ...]:
    """Say what the file leaves open, and what loading it does."""
    if best is None:
        return ()
    notes = []
    if best.backbone == "manet":
        notes.append(f"flow={flow}, says the card.json beside the file" if flow else BOTH_FLOWS)
        if "replace_heads" in _options(best, heads):
            notes.append(
                "its heads cannot be kept (of another task, of two widths, or none): new, untrained ones are put there"
            )
    if best.is_adapted:
        notes.append("names or position embeddings are changed while loading, as timm does")
    if best.left_out:
        notes.append(f"loading leaves out {len(best.left_out)} tensors that no block depends on")
    return tuple(notes)


def _alternatives(found: Sequence[Candidate]) -> list[str]:
    """Say with which other options, or as which other backbone, the file can be used as well."""
    others = [each for each in found[1:] if each.fits]
    return [
        " ".join(["it fits as well:", each.backbone, *(f"-O {key}={value}" for key, value in each.options.items())])
        for each in others
    ]
