"""The encoder: a network with its blocks, its transform and its identity, before and after weights are put into it.

A file in `backbones/zoo` describes one kind of encoder: it sets ``RECIPE``, and that is all it takes to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cer_fusion.backbones.backbone import CPU_PIECE, Backbone
from cer_fusion.backbones.transform import Transform, Triple

if TYPE_CHECKING:
    from torch import Tensor, nn

    State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Branches:
    """A network that classifies with a head a branch."""

    k: int
    """How many classes the heads know."""
    shares: Mapping[str, float]
    """Branch -> its share in the mixed logits and in the loss; they sum to 1."""
    logits: Callable[[Any, Tensor], dict[str, Tensor]]
    """``logits(module, x)``: pictures (b, 3, h, w) -> {branch: (b, k)}."""


@dataclass(kw_only=True)
class Encoder:
    """What a recipe builds: everything a `Backbone` needs but the device."""

    architecture: str
    """Names the network's code: "manet", "timm:resnet50"."""
    module: nn.Module
    """Pictures (b, 3, h, w) float -> {block: (b, d)}."""
    trunk: nn.Module
    """The part of `module` whose names a weights file holds."""
    blocks: dict[str, int]
    """Block name -> width, in the order in which they are joined."""
    transform: Transform
    """From picture to input."""
    options: dict[str, Any]
    """The choices that change the numbers (flow, tap, pooling, input size): part of the identity."""
    heads: tuple[str, ...] = ()
    """Names of layers in `trunk` that no block depends on: loaded, but not part of the identity."""
    foreign_heads: tuple[str, ...] = ()
    """Names of layers that a weights file may hold and this encoder has no use for: dropped, and logged."""
    head_reads: tuple[int, Callable[[Any, Tensor], Tensor]] | None = None
    """What a classifier's head reads in fine-tuning where that is not the joined blocks: its width, and a function of
    `module` and pictures."""
    branches: Branches | None = None
    """Heads of its own, where fine-tuning is to train those instead of one new linear head."""
    adapt: Callable[[State], State] | None = None
    """Turns a state saved for another size or by another code base into this trunk's names and shapes."""
    replace_heads: bool = False
    """Whether heads of another width than the file's may stay as initialised."""
    channels_last: bool = False
    """Whether the CPU runs this network faster on (h, w, c) memory."""
    cpu_piece: int = CPU_PIECE
    """Pictures a forward pass on a CPU: about where two cores are fastest. Changing it raises `code`."""
    code: int = 1
    """Raised when this package's own code changes what the same weights yield."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Choices that do not change the numbers (stochastic depth): described, not part of the identity."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One row of the catalogue, and how to build it. Needs neither torch nor timm to be read."""

    name: str
    """What `create` takes; ends in a placeholder where many encoders share one recipe: "timm:<name>"."""
    note: str
    """One sentence."""
    build: Callable[..., Encoder | Backbone] = field(repr=False)
    """``build(tag=..., pretrained=..., **options)``; its keyword arguments are the options and their defaults. Returns
    an encoder, into which weights are put next, or a finished backbone where the file named is network and weights."""
    blocks: Mapping[str, int] | None = None
    """Block name -> width with default options; None where it depends on the model."""
    size_px: int | None = None
    """Side of the input picture."""
    mean: Triple | None = None
    """Channel means."""
    std: Triple | None = None
    """Channel deviations."""
    parameters: int | None = None
    """Parameters of the network as built with default options."""
    default_weights: str | None = None
    """Pretrained tag that ``weights="pretrained"`` means; None where weights must be named."""
    tags: Callable[[str], Sequence[str]] | None = field(default=None, repr=False)
    """The pretrained tags there are for what follows the colon in the name."""


RESERVED = ("target", "tag", "pretrained", "device", "precision")
"""Arguments of ``build`` that `create` fills in, as far as a recipe takes them; ``target`` follows the name's colon."""
