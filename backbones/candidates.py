"""Which backbones a file of tensors fits, and what each of the others lacks.

The networks are built without memory for their weights, for their names and shapes alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cer_fusion.backbones.encoder import Encoder
from cer_fusion.backbones.errors import CheckpointError, OptionError
from cer_fusion.backbones.fitting import Fit, fit, in_heads

if TYPE_CHECKING:
    from torch import Tensor

VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "vit": ({}, {"pooling": "mean_norm"}),
    "resnet50": ({}, {"tap": "proj512"}),
}
"""Options that change which tensors a backbone needs; the first that fits is the one to use."""

RESEMBLES = 0.3
"""A backbone is worth naming when the file has at least this share of its tensors."""

SHOWN = 3
"""How many of the names that are amiss a candidate keeps."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One backbone, and how the file meets it."""

    backbone: str
    """What `create` takes."""
    options: dict[str, Any]
    """Options under which it was tried, where they are not the defaults."""
    fits: bool
    """Whether `create` takes the file (classifiers of another width aside)."""
    expected: int
    """How many tensors the backbone has."""
    missing: int
    """How many of them the file lacks."""
    unexpected: int
    """How many the file has and the backbone does not."""
    misshapen: int
    """How many have another shape."""
    first: tuple[str, ...]
    """The first few of all these, in words."""
    left_out: tuple[str, ...]
    """Names in the file that no block of this backbone depends on."""
    prefix: str
    """What the names that are taken begin with, where others do not."""
    is_adapted: bool
    """Whether names or position embeddings are changed to fit."""
    refusal: str | None
    """What the backbone says against the file, beyond names and shapes."""

    @property
    def share(self) -> float:
        """Share of the backbone's tensors that the file has in the right shape."""
        return 1 - (self.missing + self.misshapen) / self.expected

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


def candidates(state: Mapping[str, Tensor], also: tuple[str, ...] = ()) -> list[Candidate]:
    """Try the backbones that have names of their own, then those in `also` until one fits; what fits comes first.

    Backbones that the file hardly resembles are not listed.
    """
    from cer_fusion.backbones.registry import names

    found = [candidate(state, name, number) for name in names() for number in range(len(VARIANTS.get(name, ({},))))]
    for name in also:
        if any(each.fits for each in found):
            break
        if encoder_of(name) is not None:
            found.append(candidate(state, name))
    worth = [each for each in found if each.fits or each.share >= RESEMBLES]
    return sorted(worth, key=lambda each: (not each.fits, each.missing + each.unexpected + each.misshapen))


def candidate(state: Mapping[str, Tensor], name: str, variant: int = 0) -> Candidate:
    """Try one backbone, under one of its `VARIANTS`."""
    encoder = encoder_of(name, variant)
    assert encoder is not None
    refusal = None
    try:
        reading = fit(encoder, state)
    except CheckpointError as error:  # several parts fit
        reading, refusal = Fit(state={}, faults=()), str(error)
    amiss = [fault for fault in reading.faults if fault not in in_heads(encoder, reading.faults)]
    missing = sum(fault.endswith(" is missing") for fault in amiss)
    unexpected = sum(fault.endswith(" is left over") for fault in amiss)
    refusal = refusal or (reading.refusal if amiss else None)
    return Candidate(
        backbone=name,
        options=VARIANTS.get(name, ({},))[variant],
        fits=not amiss and refusal is None,
        expected=len(encoder.trunk.state_dict()),
        missing=missing,
        unexpected=unexpected,
        misshapen=len(amiss) - missing - unexpected,
        first=tuple(amiss[:SHOWN]),
        left_out=reading.left_out,
        prefix=reading.prefix,
        is_adapted=reading.is_adapted,
        refusal=refusal,
    )


@lru_cache(maxsize=32)
def encoder_of(name: str, variant: int = 0) -> Encoder | None:
    """Build a backbone's network on no device; None where the library cannot do that."""
    import timm  # noqa: F401  # out of the context below: importing it computes, which old PyTorch cannot in there
    import torch
    from cer_fusion.backbones.registry import recipe_of

    recipe, target = recipe_of(name)
    given = {"target": target} if target else {}
    try:
        with torch.device("meta"):
            built = recipe.build(tag=None, pretrained=False, **given, **VARIANTS.get(name, ({},))[variant])
    except OptionError:
        return None
    return built if isinstance(built, Encoder) else None
