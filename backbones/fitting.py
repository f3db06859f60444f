"""Whether a file's tensors fit an encoder: which of them it takes, which it has no use for, and what is amiss.

Loading and inspecting ask the same question here, so that `inspect_checkpoint` promises what `create` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cer_fusion.backbones.errors import CheckpointError, listed

if TYPE_CHECKING:
    from cer_fusion.backbones.encoder import Encoder
    from torch import Tensor

PRETRAINING = ("mask_token", "decoder_embed", "decoder_pos_embed", "decoder_blocks", "decoder_norm", "decoder_pred")
"""What a masked autoencoder's pre-training file holds beside the encoder, in the names of the public code (He et al.,
CVPR 2022)."""

PART = 1 / 3
"""A wrapper's attribute is looked into when at least this share of the names begin with it."""


CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4", "9": "fc"}
"""A ResNet's layers by their place among its children, as ``nn.Sequential(*resnet.children())`` numbers them: what has
no weights (2 and 3, 8) leaves no trace in a file. torchvision and timm have the same order."""


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
    faults: tuple[str, ...] = ()
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
            f"{listed([reading.prefix + '*' for reading in usable], count=6)}\n  save the one you mean by itself"
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


def compare(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """List how `state` differs from `expected`; a batch norm's step counter may be missing, as in old files."""
    faults = [f"{key} is missing" for key in expected if key not in state and not key.endswith("num_batches_tracked")]
    faults += [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    return faults + [f"{key} is left over" for key in state if key not in expected]


def under(key: str, layers: Iterable[str]) -> bool:
    """Tell whether a tensor belongs to one of the layers."""
    return any(key == layer or key.startswith(f"{layer}.") for layer in layers)


def in_heads(encoder: Encoder, faults: Sequence[str]) -> list[str]:
    """Keep the faults that concern the encoder's heads."""
    return [fault for fault in faults if under(fault.split(" ")[0], encoder.heads)]


def _is_usable(encoder: Encoder, reading: Fit) -> bool:
    """Tell whether nothing is amiss but, perhaps, the heads' width."""
    return reading.refusal is None and len(in_heads(encoder, reading.faults)) == len(reading.faults)


def _fit_one(encoder: Encoder, state: Mapping[str, Tensor], prefix: str, beside: tuple[str, ...]) -> Fit:
    """Compare one reading, as it is and as the encoder adapts it."""
    expected: dict[str, Tensor] = dict(encoder.trunk.state_dict())
    useless = tuple(layer for layer in PRETRAINING if not any(under(key, (layer,)) for key in expected))
    foreign = (*encoder.foreign_heads, *useless)
    named = by_name(state)
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
