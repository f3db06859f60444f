"""The recipe: every choice of a training run that changes its result, as one value with a JSON form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from ...kit.errors import nearest
from ..errors import RecipeError

Schedule = Literal["cosine", "step", "constant"]
Sampling = Literal["plain", "balanced"]
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. The defaults fine-tune pretrained weights on faces; `paper` and `manet` are as published.

    A field's type says within which ends it may be.
    """

    name: str = "default"
    """What the card calls it."""
    epochs: Annotated[int, 1, 100_000] = 30
    """Passes over the training part."""
    batch_size: Annotated[int, 2, 1_000_000] = 128
    """Pictures per update, over all processes and accumulated parts together."""
    accumulation: Annotated[int, 1, 100_000] = 1
    """Parts in which a batch is computed, to need less memory. Only batch norms see the difference."""
    optimizer: str = "adamw"
    """A name that timm's `create_optimizer_v2` knows; "momentum" is SGD with momentum, "sgd" is Nesterov's."""
    lr: Annotated[float, 1e-12, 100] = 5e-4
    """Highest learning rate, that of the classifier."""
    weight_decay: Annotated[float, 0, 10] = 0.05
    """Pull towards zero."""
    decay_norms: bool = False
    """Whether biases and norms are pulled as well, as a plain torch optimizer does."""
    momentum: Annotated[float, 0, 1] = 0.9
    """Used by optimizers that have one."""
    layer_decay: Annotated[float | None, 0.01, 1] = 0.8
    """Factor on the learning rate for each layer further from the classifier; None: all layers learn alike. Use None
    for random weights. timm's layer groups; a network without them learns alike, which is logged."""
    clip_norm: Annotated[float | None, 1e-6, 1e6] = 5.0
    """Longest gradient; None: as it comes."""
    schedule: Schedule = "cosine"
    """Course of the learning rate after the warm-up, per update."""
    warmup_epochs: Annotated[float, 0, 100_000] = 1.0
    """Linear rise from a hundredth of the learning rate."""
    step_epochs: Annotated[int, 1, 100_000] = 15
    """For "step": epochs between two drops."""
    step_factor: Annotated[float, 0, 1] = 0.1
    """For "step": what a drop multiplies by."""
    label_smoothing: Annotated[float, 0, 0.99] = 0.1
    """Share of a hard label that is spread over all classes; soft labels are taken as they are."""
    mixup: Annotated[float, 0, 100] = 0.0
    """timm's Mixup alpha; 0: off."""
    cutmix: Annotated[float, 0, 100] = 0.0
    """timm's CutMix alpha; 0: off."""
    focal: Annotated[float, 0, 10] = 0.0
    """Focal loss (Lin et al., ICCV 2017, eq. 4): each class's term counts (1 - p) to this power; 0: cross-entropy."""
    locality: Annotated[float, 0, 100] = 0.0
    """Factor on a loss that draws what the classifier reads of a picture to that of its nearest neighbours in the batch
    of the same class or, with soft labels, of alike ones: the terms of DLP-CNN and DBM-CNN (`cer_fusion.kit.locality`).
    A batch is what one process computes at once. 0: off."""
    neighbours: Annotated[int, 1, 1000] = 10
    """For locality: how many neighbours that are."""
    freeze: Annotated[float, 0, 1] = 0.0
    """Share of the network's layers, from the input on, that stay as they are, batch norms' statistics included; 1:
    only the classifier learns. Layers are timm's groups, or the parts that a network is made of."""
    lora_rank: Annotated[int, 0, 4096] = 0
    """Rank of what is added to a transformer's matrices, or to convolutions, which stay as they are themselves (Hu et
    al., LoRA, ICLR 2022); it is added for good in the weights that are kept. 0: off. Needs the extra [lora]."""
    lora_alpha: Annotated[float | None, 0.001, 10_000] = None
    """Scale of the additions, over the rank; None: the rank, so that the scale is 1."""
    ema: Annotated[float, 0, 0.999999] = 0.999
    """Decay of the averaged weights (timm's ModelEmaV3, warmed up); they are judged and kept. 0: off."""
    logit_adjustment: Annotated[float, 0, 10] = 0.0
    """For rare classes: this times log prior is added to the training logits (Menon et al., ICLR 2021, eq. 10; 1 aims
    at the balanced error). 0: off."""
    sync_bn: bool = False
    """Batch norms take their statistics over the parts of all processes, as if one computed the batch; without it over
    a process's own part."""
    sampling: Sampling = "plain"
    """For rare classes: "balanced" draws every class equally often instead."""
    patience: Annotated[int, 0, 100_000] = 10
    """Epochs without a better validation macro F1 after which training stops; 0: never."""
    flip: bool = True
    """Mirror half of the pictures."""
    crop_area: Annotated[Range, 0.01, 1] = (0.75, 1.0)
    """Share of the picture that a random crop keeps."""
    crop_ratio: Annotated[Range, 0.1, 10] = (0.9, 1.1)
    """Width / height of the crop."""
    rotation_deg: Annotated[float, 0, 180] = 10.0
    """Largest turn to either side."""
    brightness: Annotated[float, 0, 1] = 0.2
    """Largest relative change."""
    contrast: Annotated[float, 0, 1] = 0.2
    """Largest relative change."""
    saturation: Annotated[float, 0, 1] = 0.2
    """Largest relative change; grey pictures stay grey."""
    grey: Annotated[float, 0, 1] = 0.1
    """Share of pictures that lose their colour."""
    erasing: Annotated[float, 0, 1] = 0.25
    """Share of pictures of which a rectangle (2 to 20 %) is covered with the picture's mean colour."""

    randaugment: Annotated[int, 0, 20] = 0
    """Operations of RandAugment a picture, at timm's scales, those that leave a face a face; 0: off. Then
    `rotation_deg`, `brightness`, `contrast` and `saturation` may well be 0."""
    randaugment_magnitude: Annotated[float, 0, 10] = 9.0
    """Their strength, 0 to 10."""

    def __post_init__(self) -> None:
        for name, (kind, *ends) in _fields().items():
            value = getattr(self, name)
            if not _fits(value, kind, *ends):
                raise RecipeError(f"{name} must be {_said(kind, *ends)}, however: {name}={value!r}")
            if kind is Range:  # JSON has lists and whole numbers
                object.__setattr__(self, name, tuple(map(float, value)))
        if self.freeze and self.lora_rank:
            raise RecipeError(
                f"freeze={self.freeze:g} and lora_rank={self.lora_rank}: low-rank additions leave every layer as it is "
                f"already\n  choose one: freeze=0, or lora_rank=0"
            )
        if self.locality and (self.mixup or self.cutmix):
            raise RecipeError(
                f"locality={self.locality:g} draws pictures to those of their class, and mixup={self.mixup:g} and "
                f"cutmix={self.cutmix:g} make pictures of two\n  choose one: locality=0, or mixup=0 and cutmix=0"
            )
        if self.sampling == "balanced" and self.logit_adjustment:
            raise RecipeError(
                f"sampling='balanced' and logit_adjustment={self.logit_adjustment:g} both make up for rare classes: "
                f"together they do too much\n  choose one: logit_adjustment=0, or sampling=plain"
            )

    @classmethod
    def paper(cls, *, warmup_epochs: float = 0.0) -> Recipe:
        """Return what the paper says (section 4): Adam, cross-entropy, 5e-5, batch 128, 100 epochs.

        It speaks of a warm-up for the ViT on the union of data sets ("Unity") without its length; the recipe of that
        name, "paper-unity", takes 5 epochs as MAE's own fine-tuning does (He et al., CVPR 2022, table 9). The paper
        names no augmentation: pictures are mirrored, as everywhere, and otherwise left alone.
        """
        name = "paper-unity" if warmup_epochs else "paper"
        return replace(_PLAIN, name=name, optimizer="adam", lr=5e-5, weight_decay=0.0, warmup_epochs=warmup_epochs)

    @classmethod
    def manet(cls) -> Recipe:
        """Return the recipe of MA-Net's public code: SGD, steps, torchvision's RandomResizedCrop, mirrors."""
        return replace(
            _PLAIN, name="manet", optimizer="momentum", lr=0.01, weight_decay=1e-4, decay_norms=True, schedule="step",
            crop_area=(0.08, 1.0), crop_ratio=(3 / 4, 4 / 3),
        )  # fmt: skip

    @classmethod
    def named(cls, name: str) -> Recipe:
        """Find a recipe by its name: default, paper, paper-unity (its first stage, with the warm-up) or manet."""
        known: dict[str, Callable[[], Recipe]] = {
            "default": cls,
            "paper": cls.paper,
            "paper-unity": lambda: cls.paper(warmup_epochs=5.0),
            "manet": cls.manet,
        }
        if name not in known:
            raise RecipeError(f"there is no recipe {name!r}: {nearest(name, known)}")
        return known[name]()

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """Return this recipe with other values for some fields; unknown ones are refused."""
        known = [field.name for field in fields(self)]
        for key in changes:
            if key not in known:
                raise RecipeError(f"a recipe has no field {key!r}: {nearest(key, known)}")
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Recipe:
        """Read `to_json` back; unknown keys are refused, missing ones have their defaults."""
        return cls().changed(content)


@cache
def _fields() -> dict[str, tuple[Any, ...]]:
    """Field -> its type, and the ends of what it may be where it is a number."""
    hints = get_type_hints(Recipe, include_extras=True)
    return {name: get_args(hint) if get_origin(hint) is Annotated else (hint,) for name, hint in hints.items()}


def _fits(value: Any, kind: Any, low: float = 0, high: float = 0) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind in (bool, str):
        return isinstance(value, kind)
    if kind is Range:
        both = (
            isinstance(value, list | tuple) and len(value) == 2 and all(_fits(end, float, low, high) for end in value)
        )
        return both and value[0] <= value[1]
    if value is None:
        return type(None) in get_args(kind)
    number = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    return number and low <= value <= high  # which no NaN is


def _said(kind: Any, low: float = 0, high: float = 0) -> str:
    """What a field must be."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if kind in (bool, str):
        return "true or false" if kind is bool else "text"
    what = "two numbers, low and high," if kind is Range else "a whole number" if kind is int else "a number"
    return f"{what} within {low:g}..{high:g}"


_PLAIN = Recipe(
    epochs=100, layer_decay=None, clip_norm=None, schedule="constant", warmup_epochs=0.0, label_smoothing=0.0, ema=0.0,
    patience=0, crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), rotation_deg=0.0, brightness=0.0, contrast=0.0,
    saturation=0.0, grey=0.0, erasing=0.0,
)  # fmt: skip
"""Nothing but a network, its pictures and their mirrors: what published recipes start from."""
