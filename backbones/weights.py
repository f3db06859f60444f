"""Weights: where they come from, putting them into a network, and the digest that identifies them.

There are three sources, and none stands in for another: a pretrained tag, a file, or the word "random" with a seed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cer_fusion.backbones.errors import CheckpointError, WeightsError, listed, nearest
from cer_fusion.backbones.fitting import compare, fit, in_heads, under

if TYPE_CHECKING:
    from cer_fusion.backbones.checkpoint import Checkpoint
    from cer_fusion.backbones.encoder import Encoder, Recipe
    from torch import Tensor

logger = logging.getLogger(__name__)

SUFFIXES = (".safetensors", ".pth", ".pt", ".tar", ".bin", ".ckpt", ".pkl", ".onnx")
"""What marks a word as a file name even when the file is missing."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Which weights were asked for."""

    kind: Literal["random", "pretrained", "file"]
    """Which of the three sources."""
    tag: str | None = None
    """Pretrained tag; also set for a file, where it only fixes the preprocessing."""
    path: Path | None = None
    """The file."""
    seed: int = 0
    """What random weights are drawn from."""

    @property
    def label(self) -> str:
        """Say it in a few words, without folders."""
        if self.kind == "random":
            return f"random(seed={self.seed})"
        return self.path.name if self.path is not None else f"pretrained({self.tag})"


def choose_source(recipe: Recipe, target: str, weights: str | Path | None, seed: int) -> Source:
    """Read what ``weights=`` says.

    Parameters
    ----------
    recipe : Recipe
        Knows the default tag and the tags there are.
    target : str
        What follows the colon in the backbone's name; "" where there is none.
    weights : str, Path or None
        "random", "pretrained", a pretrained tag, or a file. None means "pretrained", where the recipe has a tag.

    Raises
    ------
    WeightsError
        If there is no such tag or file, or nothing that None could mean.
    """
    tags = list(recipe.tags(target)) if recipe.tags else []
    default = recipe.default_weights or (tags[0] if tags else None)
    if weights == "random":
        return Source(kind="random", tag=default, seed=seed)
    if weights is None or weights == "pretrained":
        if default is None:
            raise WeightsError(no_default(recipe, target))
        return Source(kind="pretrained", tag=default)
    path = Path(weights).expanduser()
    if isinstance(weights, str) and weights in tags:
        return Source(kind="pretrained", tag=weights)
    if isinstance(weights, Path) or path.exists() or path.suffix in SUFFIXES or len(path.parts) > 1:
        if not path.is_file():
            raise WeightsError(f"there is no weights file: {path}")
        return Source(kind="file", tag=default, path=path)
    known = f"the tags {listed(map(repr, tags), count=6)}" if tags else "no pretrained tags"
    raise WeightsError(
        f"there is no weights file and no pretrained tag {weights!r}{nearest(str(weights), tags)}\n"
        f"  {recipe.name} has {known}; a file's path and the word 'random' can be given too"
    )


def no_default(recipe: Recipe, target: str) -> str:
    """Say what to pass where no weights can be downloaded."""
    name = recipe.name.split("<")[0] + target
    return (
        f"no pretrained weights can be downloaded for {name!r}, and none were named\n"
        f"  pass a file: create({name!r}, weights='checkpoint.pth.tar'), or --weights FILE\n"
        f"  or say that untrained weights are meant: create({name!r}, weights='random', seed=0), or --weights random"
    )


def put(encoder: Encoder, opened: Checkpoint) -> None:
    """Load an opened file into an encoder's trunk; every name and shape must match.

    Raises
    ------
    CheckpointError
        With the names that are missing, left over or of another shape, and what the file looks like instead.
    OptionError
        If an option was left to the file (``flow="auto"``), and nothing beside the file answers it.
    """
    name = opened.path.name
    try:
        found = fit(encoder, opened.state)
    except CheckpointError as error:
        raise CheckpointError(f"{error}\n  in file: {opened.path}") from None
    if found.refusal is not None and len(found.faults) * 2 < len(encoder.trunk.state_dict()):
        raise CheckpointError(f"{found.refusal}\n  in file: {opened.path}")
    if found.left_out:
        under_prefix = f" (took what is under {found.prefix!r})" if found.prefix else ""
        logger.info("%s: left out %s, which no block depends on%s", name, listed(found.left_out), under_prefix)
    if found.is_adapted:
        logger.info("%s: adapted to %s (names, patch and position embeddings)", name, encoder.architecture)
    expected: dict[str, Tensor] = dict(encoder.trunk.state_dict())
    state, faults = found.state, list(found.faults)
    if faults and set(in_heads(encoder, faults)) == set(faults):
        state = settle_heads(encoder, state, expected, name)
        faults = compare(state, expected)
    if faults:
        raise CheckpointError(_misfit(encoder, opened, len(state), faults))
    complete = {key: state.get(key, tensor) for key, tensor in expected.items()}
    encoder.trunk.load_state_dict(complete, strict=True)
    if encoder.options.get("flow") == "auto":
        _decide_flow(encoder, opened)


def _misfit(encoder: Encoder, opened: Checkpoint, count: int, faults: Sequence[str]) -> str:
    """Say what is amiss, what the file looks like instead, and what to do."""
    from cer_fusion.backbones.recognition import looks_like

    expected = len(encoder.trunk.state_dict())
    wide = [fault for fault in faults if fault.startswith(("fc_1.weight is (", "fc_2.weight is ("))]
    advice = f"see which backbone takes it: cer-feat inspect {opened.path.name}"
    if wide and len(wide) * 2 == len(faults):
        width = wide[0].partition("(")[2].partition(",")[0]
        advice = f"its heads are {width}-way: num_classes={width}"
    return (
        f"the weights do not fit {encoder.architecture}: {listed(faults)}\n"
        f"  the file holds {count} tensors, expected {expected}; it looks like {looks_like(opened.state)}\n"
        f"  {advice}\n  in file: {opened.path}"
    )


def _decide_flow(encoder: Encoder, opened: Checkpoint) -> None:
    """Answer ``flow="auto"`` by the card that fine-tuning leaves beside its weights."""
    from cer_fusion.backbones.flow import flow_beside
    from cer_fusion.backbones.manet import MANet

    assert isinstance(encoder.trunk, MANet)
    flow = flow_beside(opened.path, opened.state)
    encoder.trunk.decide(flow)
    encoder.options["flow"] = flow
    logger.info("flow auto: %s, says the card beside %s", flow, opened.path.name)


def settle_heads(
    encoder: Encoder, state: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str
) -> dict[str, Tensor]:
    """Keep new heads where the file's are of another width, if that was asked for; explain it where it was not."""
    widths = sorted({state[key].shape[0] for key in state if under(key, encoder.heads)})
    wanted = sorted({tensor.shape[0] for key, tensor in expected.items() if under(key, encoder.heads)})
    found = f"{'/'.join(map(str, widths))}-way heads" if widths else "no heads"
    if not encoder.replace_heads:
        keep = f"  keep the file's heads with num_classes={widths[0]}, or\n" if len(widths) == 1 else ""
        raise CheckpointError(
            f"the file has {found}, expected {'/'.join(map(str, wanted))}: {name}\n{keep}"
            f"  load the trunk alone and start new heads with replace_heads=True"
        )
    logger.warning("%s: replaced its %s by new, untrained %s-way heads", name, found, "/".join(map(str, wanted)))
    fresh = {key: tensor for key, tensor in expected.items() if under(key, encoder.heads)}
    return {key: tensor for key, tensor in state.items() if not under(key, encoder.heads)} | fresh


def digest(state: Mapping[str, Tensor], *, leave_out: Sequence[str] = ()) -> str:
    """Identify tensors by their values, whatever file they came in.

    Parameters
    ----------
    state : dict of Tensor
        Any device, any order.
    leave_out : sequence of str
        Layers that do not count. A batch norm's step counter never does: it changes no output.

    Returns
    -------
    str
        sha256, 64 hex digits, over (name, dtype, shape, little-endian bytes), sorted by name.
    """
    import torch

    total = hashlib.sha256()
    for name in sorted(state):
        if under(name, leave_out) or name.endswith("num_batches_tracked"):
            continue
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name}|{str(tensor.dtype).removeprefix('torch.')}|{list(tensor.shape)}|".encode())
        if tensor.numel():
            flat = tensor.reshape(-1)
            if flat.stride(0) != 1:  # one element, repeated: contiguous in name only
                flat = flat.clone(memory_format=torch.contiguous_format)
            total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()
