"""Saying what a weights file is, without running code from it and without knowing where it came from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cer_fusion.backbones.candidates import Candidate, candidates
from cer_fusion.backbones.checkpoint import Checkpoint, State, open_checkpoint
from cer_fusion.backbones.errors import CardError, CheckpointError
from cer_fusion.backbones.flow import BOTH_FLOWS, flow_in
from cer_fusion.backbones.manet_blocks import Flow
from cer_fusion.backbones.recognition import looks_like, timm_names
from cer_fusion.backbones.registry import options_of
from cer_fusion.backbones.weights import digest
from cer_fusion.backbones.weights_card import card_beside

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
    """Which reader opened it: "safetensors" or "stub unpickler"."""
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
    trained: dict[str, Any] | None = None
    """What the card of fine-tuning beside the file says: backbone, options, classes in order, recipe, best epoch."""

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
    trained, flow, about_card = _card_of(opened)
    tuned = (trained["backbone"],) if trained and ":" in trained["backbone"] else ()
    found = candidates(opened.state, also=(*tuned, *timm_names(opened.state)))
    best = found[0] if found and found[0].fits else None
    prefix = best.prefix if best else ""
    state = public_names(opened.state, prefix)
    heads = head_widths(state)
    path = opened.path
    options = _options(best, heads, trained) if best else {}
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
        advice=_advice(best, options, path.name),
        commands=_commands(best, options, path, flow),
        notes=(*_notes(best, options, flow), *_alternatives(found), *about_card),
        trained=trained,
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


def _card_of(opened: Checkpoint) -> tuple[dict[str, Any] | None, Flow | None, tuple[str, ...]]:
    """Read the card beside the file: what was trained, the flow, and what there is to say about another file's card."""
    try:
        card = card_beside(opened.path, opened.state)
        if card is None:
            return None, None, ()
        return _trained(card), flow_in(card, opened.path), ()
    except (CheckpointError, CardError) as error:
        return None, None, (str(error),)
    except (KeyError, TypeError) as error:
        return None, None, (f"the card beside the weights is none of fine-tuning's: {error!r} is amiss",)


def _trained(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """Take from fine-tuning's card what a user of the weights wants to know; None for one written by hand."""
    if "format" not in card:
        return None
    return {
        **{key: card[key] for key in ("backbone", "options", "classes")},
        "recipe": card["recipe"]["name"],
        "best": {key: card["best"][key] for key in ("epoch", "valid_accuracy", "valid_macro_f1")},
    }


def _options(best: Candidate, heads: Mapping[str, int], trained: Mapping[str, Any] | None) -> dict[str, Any]:
    """Collect what `create` must be told to take the file, and what it was trained with where a card says so."""
    options = dict(best.options)
    widths = {heads[layer] for layer in ("fc_1", "fc_2") if layer in heads}
    if best.backbone == "manet" and widths != {7}:
        is_kept = len(widths) == 1 and max(widths) < FOREIGN_HEAD
        options |= {"num_classes": max(widths)} if is_kept else {"replace_heads": True}
    if trained and trained["backbone"] == best.backbone:
        usual = {**options_of(best.backbone), "flow": trained["options"].get("flow")}  # the flow is told by itself
        options |= {key: value for key, value in trained["options"].items() if usual.get(key) != value}
    return options


def _advice(best: Candidate | None, options: Mapping[str, Any], name: str) -> str:
    """Say how the file is used in Python."""
    if best is None:
        return f"none of the named backbones takes it; try create('timm:<name>', weights='{name}')"
    told = "".join(f", {key}={value!r}" for key, value in options.items())
    return f"create({best.backbone!r}, weights={name!r}{told})"


def _commands(best: Candidate | None, options: Mapping[str, Any], path: Path, flow: str | None) -> tuple[str, ...]:
    """Say how the file is used on the command line, once for each choice that it leaves."""
    if best is None:
        return ()
    words = ["cer-feat", "extract", "--backbone", best.backbone, "--weights", str(path), "--data", "MANIFEST"]
    choices: list[dict[str, str]] = [{}]
    if best.backbone == "manet":
        choices = [{"flow": each} for each in ((flow,) if flow else ("legacy", "bidirectional"))]
    told = {key: value if isinstance(value, str) else json.dumps(value) for key, value in options.items()}
    return tuple(
        shlex.join([*words, *(word for key, value in (choice | told).items() for word in ("-O", f"{key}={value}"))])
        for choice in choices
    )


def _notes(best: Candidate | None, options: Mapping[str, Any], flow: str | None) -> tuple[str, ...]:
    """Say what the file leaves open, and what loading it does."""
    if best is None:
        return ()
    notes = []
    if best.backbone == "manet":
        notes.append(f"flow={flow}, says the card.json beside the file" if flow else BOTH_FLOWS)
        if "replace_heads" in options:
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
