"""Weights: where they come from, what identifies them, whether they fit a network, and putting them into it.

There are three sources, and none stands in for another: a pretrained tag, a file, or the word "random" with a seed.
Loading and inspecting ask in the same way whether a file fits: `inspect_checkpoint` promises what `create` does.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...kit.documents import read_sealed, write_sealed
from ..errors import CardError, CheckpointError, WeightsError, listed, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from ..recipes import Encoder, Recipe


CARD_FILE = "card.json"
"""What fine-tuning leaves beside its weights."""
_FORMAT, _VERSION = "cer-fusion finetune card", 1

MAX_BYTES = 64 << 20
"""No card is larger."""


def write_card(path: Path, body: Mapping[str, Any]) -> None:
    """Write what was trained, from what, how, and how well, sealed with the sha256 of its content."""
    write_sealed(path, body, kind=_FORMAT, version=_VERSION)


def read_card(path: str | Path) -> dict[str, Any]:
    """Read a card of fine-tuning back, without its format and digest.

    Raises
    ------
    CardError
        If it is missing, no card, or was changed since it was written.
    """
    return read_sealed(Path(path), kind=_FORMAT, version=_VERSION, error=CardError)


def card_beside(path: Path, state: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Read the card beside a weights file; None where there is none.

    Parameters
    ----------
    path : Path
        The weights file.
    state : dict of Tensor
        What it holds. A card that names the digest of other tensors belongs to other weights; one written by hand,
        ``{"options": {"flow": "legacy"}}``, need not name any.

    Raises
    ------
    CheckpointError, CardError
        If the card cannot be read, was changed since it was sealed, or belongs to other weights.
    """
    place = path.with_name(CARD_FILE)
    if not place.is_file():
        return None
    card = _read(place)
    weights = card.get("weights")
    named = weights.get("digest") if isinstance(weights, dict) else None
    if named is not None and named != (found := digest(state)):
        raise CheckpointError(
            f"the card belongs to other weights: it names {named}, expected {found}\n"
            f"  card: {place}, weights: {path.name}\n  move the card away, or give the file that it was written for"
        )
    return card


def _read(place: Path) -> dict[str, Any]:
    """Read a card: one of fine-tuning with its seal, or any JSON object that somebody wrote down."""
    try:
        if place.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES:,} bytes")
        card = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"the card beside the weights cannot be read ({error}): {place}") from None
    if not isinstance(card, dict):
        raise CheckpointError(f"the card beside the weights holds no JSON object: {place}")
    return {"format": card["format"], **read_card(place)} if "format" in card else card


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


def under(key: str, layers: Iterable[str]) -> bool:
    """Tell whether a tensor belongs to one of the layers."""
    return any(key == layer or key.startswith(f"{layer}.") for layer in layers)


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
    entry: str | None = None
    """Which of the weights in it, where it holds several."""
    seed: int = 0
    """What random weights are drawn from."""

    @property
    def label(self) -> str:
        """Say it in a few words, without folders."""
        if self.kind == "random":
            return f"random(seed={self.seed})"
        if self.path is None:
            return f"pretrained({self.tag})"
        return self.path.name + (f"#{self.entry}" if self.entry else "")


def addressed(weights: str | Path) -> tuple[Path, str | None]:
    """Part ``file.pth#teacher`` into the file and the entry that is meant; a file that is called so has none."""
    path = Path(weights).expanduser()
    name, mark, entry = path.name.rpartition("#")
    if not mark or not name or not entry or path.exists():
        return path, None
    return path.with_name(name), entry


def choose_source(recipe: Recipe, target: str, weights: str | Path | None, seed: int) -> Source:
    """Read what ``weights=`` says.

    Parameters
    ----------
    recipe : Recipe
        Knows the default tag and the tags there are.
    target : str
        What follows the colon in the backbone's name; "" where there is none.
    weights : str, Path or None
        "random", "pretrained", a pretrained tag, or a file, of whose weights ``file#entry`` names one. None means
        "pretrained", where the recipe has a tag.

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
    path, entry = addressed(weights)
    if isinstance(weights, str) and weights in tags:
        return Source(kind="pretrained", tag=weights)
    if isinstance(weights, Path) or path.exists() or path.suffix in SUFFIXES or len(path.parts) > 1:
        if not path.is_file():
            raise WeightsError(
                f"{path} is a folder, and a weights file is to be named"
                if path.is_dir()
                else f"there is no weights file: {path}"
            )
        return Source(kind="file", tag=default, path=path, entry=entry)
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


PRETRAINING = ("mask_token", "decoder_embed", "decoder_pos_embed", "decoder_blocks", "decoder_norm", "decoder_pred")
"""What a masked autoencoder's pre-training file holds beside the encoder, in the names of the public code (He et al.,
CVPR 2022)."""

PART = 1 / 3
"""A wrapper's attribute is looked into when at least this share of the names begin with it."""


CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4", "9": "fc"}
"""A ResNet's layers by their place among its children, as ``nn.Sequential(*resnet.children())`` numbers them: what has
no weights (2 and 3, 8) leaves no trace in a file. torchvision and timm have the same order."""


@dataclass(frozen=True)
class Fault:
    """One tensor that keeps a file from fitting."""

    tensor: str
    """Its name."""
    found: tuple[int, ...] | None
    """The shape in the file; None where it is missing there."""
    expected: tuple[int, ...] | None
    """The shape in the encoder; None where the file has it beyond."""

    @property
    def width(self) -> int | None:
        """How many rows the file's tensor has where nothing but that number is amiss."""
        if not self.found or not self.expected or self.found[1:] != self.expected[1:]:
            return None
        return self.found[0]

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.tensor} is missing"
        if self.expected is None:
            return f"{self.tensor} is left over"
        return f"{self.tensor} is {self.found}, expected {self.expected}"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How the tensors of a file meet an encoder."""

    state: dict[str, Tensor]
    """What would be loaded, in the encoder's names."""
    left_out: tuple[str, ...] = ()
    """Names that no block depends on: classifiers, a pre-training decoder, what lies beside the network."""
    prefix: str = ""
    """What all the names that are taken begin with, where others do not."""
    is_adapted: bool = False
    """Whether names or position embeddings were changed to fit."""
    faults: tuple[Fault, ...] = ()
    """What is missing, left over or of another shape; none where it fits."""
    refusal: str | None = None
    """Why the encoder itself refuses, where it does."""


def fit(encoder: Encoder, state: Mapping[str, Tensor]) -> Fit:
    """Find the reading of `state` that the encoder takes, or else the one with the fewest faults.

    A wrapper may have put the network under an attribute beside other things (``backbone.conv1.weight`` beside
    ``loss.weight``). Every part that is large enough is tried; every name and shape must match.

    Raises
    ------
    CheckpointError
        If several parts of the file fit, as a student and its teacher do.
    """
    found = [_fit_one(encoder, state, "", ())]
    if not _is_usable(encoder, found[0]):
        for prefix, part in parts(state):
            rest = tuple(name for name in state if not name.startswith(prefix))
            found.append(_fit_one(encoder, part, prefix, rest))
    usable = [reading for reading in found if _is_usable(encoder, reading)]
    if len(usable) > 1:
        raise CheckpointError(
            f"the file holds {len(usable)} networks that fit {encoder.architecture}: "
            f"{listed([reading.prefix + '*' for reading in usable], count=6)}\n"
            f"  say which is meant: --weights FILE#{usable[0].prefix.removesuffix('.')}, or save it by itself"
        )
    return usable[0] if usable else min(found, key=lambda reading: len(reading.faults))


def parts(state: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Give what lies under each attribute that many names begin with, and under attributes of that; deepest last."""
    counts = Counter(name.partition(".")[0] for name in state if "." in name)
    for attribute, count in counts.items():
        if count >= len(state) * PART:
            prefix = f"{attribute}."
            part = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
            yield prefix, part
            yield from ((prefix + inner, deeper) for inner, deeper in parts(part))


def by_name(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the layers of a ResNet kept as a ``Sequential`` their names back; other networks stay as they are."""
    stem, norm = state.get("0.weight"), state.get("1.running_mean")
    if stem is None or stem.ndim != 4 or norm is None or not {"4.0.conv1.weight", "7.0.conv1.weight"} <= state.keys():
        return dict(state)
    renamed = {}
    for key, tensor in state.items():
        place, dot, rest = key.partition(".")
        renamed[CHILDREN.get(place, place) + dot + rest] = tensor
    return renamed if len(renamed) == len(state) else dict(state)


def by_place(state: Mapping[str, Tensor], encoder: Encoder) -> dict[str, Tensor]:
    """Give names to what is numbered: layers by their place among the network's children, tensors by their order.

    ``nn.Sequential(*network.children())`` numbers layers; a list of a ``state_dict``'s values, or a dictionary made of
    one, numbers tensors. Whether the names are right, their shapes say.
    """
    if not state or not all(key.partition(".")[0].isdecimal() for key in state):
        return dict(state)
    if all("." in key for key in state):
        children = [name for name, _ in encoder.trunk.named_children()]
        renamed = {}
        for key, tensor in state.items():
            place, dot, rest = key.partition(".")
            renamed[(children[int(place)] if int(place) < len(children) else place) + dot + rest] = tensor
        return renamed
    expected, ordered = encoder.trunk.state_dict(), sorted(state, key=lambda key: (len(key), key))
    if not all(key.isdecimal() for key in state) or len(state) < len(expected):
        return dict(state)
    beyond = [f"{(*encoder.foreign_heads, 'head')[0]}.{number}" for number in range(len(state) - len(expected))]
    return {name: state[key] for name, key in zip([*expected, *beyond], ordered, strict=True)}


def compare(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[Fault]:
    """List how `state` differs from `expected`; a batch norm's step counter may be missing, as in old files."""
    missing = [key for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    faults = [Fault(key, None, tuple(expected[key].shape)) for key in missing]
    for key, tensor in expected.items():
        if key in state and state[key].shape != tensor.shape:
            faults.append(Fault(key, tuple(state[key].shape), tuple(tensor.shape)))
    return faults + [Fault(key, tuple(tensor.shape), None) for key, tensor in state.items() if key not in expected]


def in_heads(encoder: Encoder, faults: Sequence[Fault]) -> list[Fault]:
    """Keep the faults that concern the encoder's heads."""
    return [fault for fault in faults if under(fault.tensor, encoder.heads)]


def _is_usable(encoder: Encoder, reading: Fit) -> bool:
    """Tell whether nothing is amiss but, perhaps, the heads' width."""
    return reading.refusal is None and len(in_heads(encoder, reading.faults)) == len(reading.faults)


def _fit_one(encoder: Encoder, state: Mapping[str, Tensor], prefix: str, beside: tuple[str, ...]) -> Fit:
    """Compare one reading, as it is and as the encoder adapts it."""
    expected: dict[str, Tensor] = dict(encoder.trunk.state_dict())
    useless = tuple(layer for layer in PRETRAINING if not any(under(key, (layer,)) for key in expected))
    foreign = (*encoder.foreign_heads, *useless)
    named = by_place(by_name(state), encoder)
    taken, dropped = _without(named, foreign)
    faults, is_adapted, refusal = compare(taken, expected), named.keys() != state.keys(), None
    if faults and encoder.adapt is not None:
        try:
            adapted, dropped_then = _without(encoder.adapt(dict(taken)), foreign)
            if not compare(adapted, expected):
                taken, faults, is_adapted = adapted, [], True
                dropped += tuple(name for name in dropped_then if name not in dropped)
        except CheckpointError as error:
            refusal = str(error)
    return Fit(
        state=taken,
        left_out=(*(prefix + name for name in dropped), *beside),
        prefix=prefix,
        is_adapted=is_adapted,
        faults=tuple(faults),
        refusal=refusal,
    )


def _without(state: Mapping[str, Tensor], layers: Sequence[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Part the tensors into those outside `layers` and the names of those within."""
    dropped = tuple(key for key in state if under(key, layers))
    return {key: tensor for key, tensor in state.items() if not under(key, layers)}, dropped
