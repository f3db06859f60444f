"""The recipe: every choice of a training run that changes its result, as one value with a JSON form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from cer_fusion.backbones.errors import RecipeError, nearest

Schedule = Literal["cosine", "step", "constant"]
Sampling = Literal["plain", "balanced"]
Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. The defaults fine-tune pretrained weights on faces; `paper` and `manet` are as published."""

    name: str = "default"
    """What the card calls it."""
    epochs: int = 30
    """Passes over the training part."""
    batch_size: int = 128
    """Pictures per update, over all processes and accumulated parts together."""
    accumulation: int = 1
    """Parts in which a batch is computed, to need less memory. Only batch norms see the difference."""
    optimizer: str = "adamw"
    """A name that timm's `create_optimizer_v2` knows; "momentum" is SGD with momentum, "sgd" is Nesterov's."""
    lr: float = 5e-4
    """Highest learning rate, that of the classifier."""
    weight_decay: float = 0.05
    """Pull towards zero."""
    decay_norms: bool = False
    """Whether biases and norms are pulled as well, as a plain torch optimizer does."""
    momentum: float = 0.9
    """Used by optimizers that have one."""
    layer_decay: float | None = 0.8
    """Factor on the learning rate for each layer further from the classifier; None: all layers learn alike. Use None
    for random weights. timm's layer groups; a network without them learns alike, which is logged."""
    clip_norm: float | None = 5.0
    """Longest gradient; None: as it comes."""
    schedule: Schedule = "cosine"
    """Course of the learning rate after the warm-up, per update."""
    warmup_epochs: float = 1.0
    """Linear rise from a hundredth of the learning rate."""
    step_epochs: int = 15
    """For "step": epochs between two drops."""
    step_factor: float = 0.1
    """For "step": what a drop multiplies by."""
    label_smoothing: float = 0.1
    """Share of a hard label that is spread over all classes; soft labels are taken as they are."""
    mixup: float = 0.0
    """timm's Mixup alpha; 0: off."""
    cutmix: float = 0.0
    """timm's CutMix alpha; 0: off."""
    ema: float = 0.999
    """Decay of the averaged weights (timm's ModelEmaV3, warmed up); they are judged and kept. 0: off."""
    logit_adjustment: float = 0.0
    """For rare classes: this times log prior is added to the training logits (Menon et al., ICLR 2021, eq. 10; 1 aims
    at the balanced error). 0: off."""
    sampling: Sampling = "plain"
    """For rare classes: "balanced" draws every class equally often instead."""
    patience: int = 10
    """Epochs without a better validation macro F1 after which training stops; 0: never."""
    flip: bool = True
    """Mirror half of the pictures."""
    crop_area: Range = (0.75, 1.0)
    """Share of the picture that a random crop keeps."""
    crop_ratio: Range = (0.9, 1.1)
    """Width / height of the crop."""
    rotation_deg: float = 10.0
    """Largest turn to either side."""
    brightness: float = 0.2
    """Largest relative change."""
    contrast: float = 0.2
    """Largest relative change."""
    saturation: float = 0.2
    """Largest relative change; grey pictures stay grey."""
    grey: float = 0.1
    """Share of pictures that lose their colour."""
    erasing: float = 0.25
    """Share of pictures of which a rectangle (2 to 20 %) is covered with the picture's mean colour."""

    randaugment: int = 0
    """Operations of RandAugment a picture, timm's, those that leave a face a face; 0: off. Then `rotation_deg`,
    `brightness`, `contrast` and `saturation` may well be 0."""
    randaugment_magnitude: float = 9.0
    """Their strength, 0 to 10."""

    def __post_init__(self) -> None:
        for name, (kind, low, high) in _NUMBERS.items():
            _check_number(name, getattr(self, name), kind, low, high)
        for name, vocabulary in (("schedule", Schedule), ("sampling", Sampling)):
            if getattr(self, name) not in get_args(vocabulary):
                allowed = ", ".join(get_args(vocabulary))
                raise RecipeError(f"{name} must be one of {allowed}, however: {name}={getattr(self, name)!r}")
        for name in ("flip", "decay_norms"):
            if not isinstance(getattr(self, name), bool):
                raise RecipeError(f"{name} must be true or false, however: {name}={getattr(self, name)!r}")
        for name in ("name", "optimizer"):
            if not isinstance(getattr(self, name), str):
                raise RecipeError(f"{name} must be text, however: {name}={getattr(self, name)!r}")
        for name, low, high in (("crop_area", 0.01, 1.0), ("crop_ratio", 0.1, 10.0)):
            object.__setattr__(self, name, _checked_range(name, getattr(self, name), low, high))
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
            raise RecipeError(f"there is no recipe {name!r}; there are {', '.join(known)}{nearest(name, known)}")
        return known[name]()

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """Return this recipe with other values for some fields; unknown ones are refused."""
        known = [field.name for field in fields(self)]
        for key in changes:
            if key not in known:
                raise RecipeError(f"a recipe has no field {key!r}{nearest(key, known)}; it has {', '.join(known)}")
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Recipe:
        """Read `to_json` back; unknown keys are refused, missing ones have their defaults."""
        return cls().changed(content)


_NUMBERS: dict[str, tuple[type, float, float]] = {
    "epochs": (int, 1, 100_000),
    "batch_size": (int, 2, 1_000_000),
    "accumulation": (int, 1, 100_000),
    "lr": (float, 1e-12, 100),
    "weight_decay": (float, 0, 10),
    "momentum": (float, 0, 1),
    "layer_decay": (float, 0.01, 1),
    "clip_norm": (float, 1e-6, 1e6),
    "warmup_epochs": (float, 0, 100_000),
    "step_epochs": (int, 1, 100_000),
    "step_factor": (float, 0, 1),
    "label_smoothing": (float, 0, 0.99),
    "mixup": (float, 0, 100),
    "cutmix": (float, 0, 100),
    "ema": (float, 0, 0.999999),
    "logit_adjustment": (float, 0, 10),
    "patience": (int, 0, 100_000),
    "rotation_deg": (float, 0, 180),
    "brightness": (float, 0, 1),
    "contrast": (float, 0, 1),
    "saturation": (float, 0, 1),
    "grey": (float, 0, 1),
    "erasing": (float, 0, 1),
    "randaugment": (int, 0, 20),
    "randaugment_magnitude": (float, 0, 10),
}
_MAY_BE_NONE = ("layer_decay", "clip_norm")


def _check_number(name: str, value: object, kind: type, low: float, high: float) -> None:
    if value is None and name in _MAY_BE_NONE:
        return
    number = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:  # type: ignore[operator, arg-type]
        what = "a whole number" if kind is int else "a number"
        raise RecipeError(f"{name} must be {what} within {low:g}..{high:g}, however: {name}={value!r}")


def _checked_range(name: str, value: object, low: float, high: float) -> Range:
    if isinstance(value, list | tuple) and len(value) == 2:
        numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in value)
        if numbers and low <= value[0] <= value[1] <= high:
            return float(value[0]), float(value[1])
    raise RecipeError(f"{name} must be two numbers, low and high, within {low:g}..{high:g}, however: {name}={value!r}")


_PLAIN = Recipe(
    epochs=100, layer_decay=None, clip_norm=None, schedule="constant", warmup_epochs=0.0, label_smoothing=0.0, ema=0.0,
    patience=0, crop_area=(1.0, 1.0), crop_ratio=(1.0, 1.0), rotation_deg=0.0, brightness=0.0, contrast=0.0,
    saturation=0.0, grey=0.0, erasing=0.0,
)  # fmt: skip
"""Nothing but a network, its pictures and their mirrors: what published recipes start from."""
