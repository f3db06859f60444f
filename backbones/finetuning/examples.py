"""Examples: what a classifier is to learn from, and everything random about them: order, and changes of pictures.

All that is random is a function of (seed, epoch, position) and nothing else, so neither the number of processes and
threads nor an interruption changes what the network sees. torchvision's transforms draw from torch's global generator,
which threads share, and timm's RandAugment from Python's: neither can be resumed. Hence the numbers are drawn here, and
torchvision's functions (`torchvision.transforms.v2.functional`) do what they say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from ...kit.errors import listing
from ..errors import ExamplesError
from .recipe import Recipe, Sampling


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Labelled pictures in order.

    Raises
    ------
    ExamplesError
        If the arrays do not fit each other, an id is repeated, or a label is missing.
    """

    ids: Sequence[str]
    """Unique names, for messages and the data's digest."""
    y: NDArray[np.int64]
    """Class index of each, shape (n,), int64, none of them negative."""
    read: Callable[[int], bytes] = field(repr=False)
    """Position -> bytes of the picture file; raises OSError where it cannot be read. Called from several threads."""
    soft: NDArray[np.float32] | None = None
    """Label distribution of each, shape (n, k), float32, rows that sum to 1; takes the place of `y` in the loss."""
    groups: Sequence[str] | None = None
    """Video or subject of each: none may stand in both parts."""

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.y.shape != (n,) or self.y.dtype != np.int64:
            raise ExamplesError(f"y must be int64 of shape ({n},) for {n} ids, however: {self.y.dtype} {self.y.shape}")
        if self.groups is not None and len(self.groups) != n:
            raise ExamplesError(f"groups must be {n} for {n} ids, however: {len(self.groups)}")
        if len(set(self.ids)) != n:
            seen: set[str] = set()
            again = [name for name in self.ids if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
            raise ExamplesError(f"ids must be unique, however: {listing(again)} stand more than once")
        if (self.y < 0).any():
            without = [self.ids[i] for i in np.flatnonzero(self.y < 0).tolist()]
            raise ExamplesError(f"{len(without)} examples have no label: {listing(without)}\n  leave them out first")
        if self.soft is not None:
            _check_soft(self.soft, self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, positions: NDArray[np.intp]) -> Examples:
        """Return some of the examples, in the order given."""
        chosen = positions.tolist()
        return replace(
            self,
            ids=[self.ids[i] for i in chosen],
            y=self.y[positions],
            read=partial(_read_at, self.read, chosen),
            soft=None if self.soft is None else self.soft[positions],
            groups=None if self.groups is None else [self.groups[i] for i in chosen],
        )


def _read_at(read: Callable[[int], bytes], positions: Sequence[int], i: int) -> bytes:
    return read(positions[i])


def check_parts(train: Examples, valid: Examples, classes: Sequence[str]) -> None:
    """Refuse a task that nothing can be learnt from, or that would be judged on what was learnt.

    Raises
    ------
    ExamplesError
        For fewer than two classes, labels outside them, a class without training examples, an empty validation part,
        and examples or groups in both parts.
    """
    k = len(classes)
    if k < 2:
        raise ExamplesError(f"a classifier needs at least 2 classes, however: {list(classes)}")
    if len(set(classes)) != k:
        raise ExamplesError(f"classes must be distinct, however: {list(classes)}")
    for part, name in ((train, "training"), (valid, "validation")):
        if not len(part):
            raise ExamplesError(f"the {name} part has no examples")
        outside = [part.ids[i] for i in np.flatnonzero(part.y >= k).tolist()]
        if outside:
            raise ExamplesError(
                f"{len(outside)} labels of the {name} part are outside 0..{k - 1}: {listing(outside)}\n"
                f"  the classes are {', '.join(classes)}"
            )
        if part.soft is not None and part.soft.shape[1] != k:
            raise ExamplesError(f"soft labels must have {k} columns for {k} classes, however: {part.soft.shape}")
    missing = [classes[c] for c in np.flatnonzero(np.bincount(train.y, minlength=k) == 0).tolist()]
    if missing:
        raise ExamplesError(
            f"{len(missing)} of {k} classes have no training example: {', '.join(missing)}\n"
            f"  add data that has them, or choose a class set without them"
        )
    both = set(train.ids) & set(valid.ids)
    if both:
        raise ExamplesError(f"{len(both)} examples stand in training and validation: {listing(sorted(both))}")
    groups = set(train.groups or ()) & set(valid.groups or ())
    if groups:
        raise ExamplesError(
            f"{len(groups)} groups stand in training and validation: {listing(sorted(groups))}\n"
            f"  a video or subject in both leaks; give all its examples one part"
        )


def _check_soft(soft: NDArray[np.float32], ids: Sequence[str]) -> None:
    if soft.ndim != 2 or len(soft) != len(ids) or soft.dtype != np.float32:
        raise ExamplesError(f"soft labels must be float32 of shape ({len(ids)}, k), however: {soft.dtype} {soft.shape}")
    good = np.isfinite(soft).all(1) & (soft >= 0).all(1) & (np.abs(soft.sum(1) - 1) < 1e-3)
    if not good.all():
        bad = [ids[i] for i in np.flatnonzero(~good).tolist()]
        raise ExamplesError(f"soft labels must be shares that sum to 1, however not for {listing(bad)}")


Picture = Any  # of Pillow, for whose pictures torchvision's functions are as fast as for tensors, on one thread

DRAWS = 15
"""Uniform numbers that a picture needs, beside those of RandAugment."""
DRAWS_EACH = 2
"""Uniform numbers that one of RandAugment's operations needs: which one, and in which direction."""
BILINEAR = InterpolationMode.BILINEAR
_ERASED = (0.02, 0.2)
"""Smallest and largest share of the picture that is covered."""
_GREY = [128, 128, 128]
"""What comes in from outside the picture in RandAugment, as in timm."""


def _affine(x: Picture, *, translate: Sequence[int] = (0, 0), shear: Sequence[float] = (0.0, 0.0)) -> Picture:
    """Move or shear from the upper left corner, as torchvision's own RandAugment does."""
    moved = {"translate": list(translate), "shear": list(shear), "scale": 1.0, "center": [0.0, 0.0]}
    return v2.affine(x, 0.0, interpolation=BILINEAR, fill=_GREY, **moved)


def _sheared(strength: float) -> float:
    return math.degrees(math.atan(0.3 * strength))


OPERATIONS: dict[str, Callable[[Picture, float], Picture]] = {
    "AutoContrast": lambda x, _: v2.autocontrast(x),
    "Equalize": lambda x, _: v2.equalize(x),
    "Rotate": lambda x, strength: v2.rotate(x, 30 * strength, interpolation=BILINEAR, fill=_GREY),  # degrees
    "Color": lambda x, strength: v2.adjust_saturation(x, 1 + 0.9 * strength),
    "Contrast": lambda x, strength: v2.adjust_contrast(x, 1 + 0.9 * strength),
    "Brightness": lambda x, strength: v2.adjust_brightness(x, 1 + 0.9 * strength),
    "Sharpness": lambda x, strength: v2.adjust_sharpness(x, 1 + 0.9 * strength),
    "ShearX": lambda x, strength: _affine(x, shear=(_sheared(strength), 0.0)),
    "ShearY": lambda x, strength: _affine(x, shear=(0.0, _sheared(strength))),
    "TranslateX": lambda x, strength: _affine(x, translate=(round(0.45 * strength * x.width), 0)),
    "TranslateY": lambda x, strength: _affine(x, translate=(0, round(0.45 * strength * x.height))),
}
"""RandAugment's operations on a picture at a strength in [-1, 1], by timm's scales. Inverting,
solarising and posterising are left out: no face looks so."""

_ORDER, _SAMPLE, _STEP = 1, 2, 3
"""Separate the streams of random numbers from each other."""


def epoch_order(y: NDArray[np.int64], *, seed: int, epoch: int, sampling: Sampling = "plain") -> NDArray[np.intp]:
    """Return positions of the n examples in the order of one epoch, shape (n,).

    "plain": every example once. "balanced": n draws, every class equally often up to one; within a class, examples
    take turns.
    """
    rng = np.random.default_rng([seed, _ORDER, epoch])
    if sampling == "plain":
        return rng.permutation(len(y))
    classes = np.unique(y)
    wanted = np.full(len(classes), len(y) // len(classes))
    wanted[rng.permutation(len(classes))[: len(y) % len(classes)]] += 1
    drawn = [_take_turns(np.flatnonzero(y == c), int(n), rng) for c, n in zip(classes, wanted, strict=True)]
    return rng.permutation(np.concatenate(drawn))


def batches(order: NDArray[np.intp], batch_size: int) -> list[NDArray[np.intp]]:
    """Cut an epoch into batches of at most `batch_size` that differ by at most one example.

    No example is left out, and no batch is so small that a batch norm has nothing to average.
    """
    return list(np.array_split(order, max(1, -(-len(order) // batch_size))))


def draws(positions: Sequence[int] | range, count: int, *, seed: int, epoch: int) -> NDArray[np.float32]:
    """Draw `count` uniform numbers in [0, 1) for each position in the epoch, shape (b, count)."""
    rows = [np.random.default_rng([seed, _SAMPLE, epoch, position]).random(count) for position in positions]
    return np.asarray(rows, dtype=np.float32).reshape(len(rows), count)


def step_seed(*, seed: int, epoch: int, step: int, process: int) -> int:
    """Return the 32-bit seed of what else is random in a step: dropout, stochastic depth, mixing."""
    return int(np.random.SeedSequence([seed, _STEP, epoch, step, process]).generate_state(1)[0])


def _take_turns(members: NDArray[np.intp], n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    rounds = [rng.permutation(members) for _ in range(-(-n // len(members)))]
    return np.concatenate(rounds)[:n] if rounds else members[:0]


def augment(picture: NDArray[np.uint8], u: NDArray[np.float32], recipe: Recipe) -> NDArray[np.uint8]:
    """Change a picture as its draws say: RandAugment, turn, crop, mirror, colour, erasing, in this order.

    Parameters
    ----------
    picture : ndarray of shape (h, h, 3), uint8
    u : ndarray of shape (15 + 2 x recipe.randaugment,), float32 in [0, 1)
        Each number has its place, whatever the recipe.
    recipe : Recipe

    Returns
    -------
    ndarray of shape (h, h, 3), uint8
    """
    x: Picture = Image.fromarray(picture)
    own = u.tolist()
    for choice, direction in u[DRAWS:].reshape(-1, DRAWS_EACH).tolist():  # (2 x operations) -> (operations, 2)
        operation = list(OPERATIONS.values())[int(choice * len(OPERATIONS))]
        x = operation(x, math.copysign(recipe.randaugment_magnitude / 10, 0.5 - direction))
    return np.array(_erase(_colour(_geometry(x, own, recipe), own, recipe), own, recipe))


def _geometry(x: Picture, u: Sequence[float], recipe: Recipe) -> Picture:
    """Turn, the edge's pixels going on beyond it, then crop to the size that it had, then mirror."""
    side, edge = x.width, 0
    if recipe.rotation_deg:
        angle = _between(u[5], -recipe.rotation_deg, recipe.rotation_deg)
        turn = math.radians(angle)
        edge = math.ceil(side * max(0.0, abs(math.cos(turn)) + abs(math.sin(turn)) - 1) / 2)
        x = v2.rotate(v2.pad(x, [edge], padding_mode="edge"), angle, interpolation=BILINEAR)
    area, ratio = _between(u[1], *recipe.crop_area), _log_between(u[2], *recipe.crop_ratio)
    height, width = _sides(area, ratio, side)
    top, left = (edge + round(share * (side - length)) for share, length in ((u[4], height), (u[3], width)))
    x = v2.crop(x, top, left, height, width)
    if (height, width) != (side, side):
        x = v2.resize(x, [side, side], interpolation=BILINEAR, antialias=True)
    return v2.horizontal_flip(x) if recipe.flip and u[0] < 0.5 else x


def _colour(x: Picture, u: Sequence[float], recipe: Recipe) -> Picture:
    """Change brightness, contrast and saturation; a grey picture stays grey."""
    for place, most, adjust in (
        (6, recipe.brightness, v2.adjust_brightness),
        (7, recipe.contrast, v2.adjust_contrast),
        (8, recipe.saturation, v2.adjust_saturation),
    ):
        if most:
            x = adjust(x, _between(u[place], 1 - most, 1 + most))
    return v2.rgb_to_grayscale(x, num_output_channels=3) if u[9] < recipe.grey else x


def _erase(x: Picture, u: Sequence[float], recipe: Recipe) -> Picture:
    """Cover a rectangle with the picture's mean colour (Zhong et al., AAAI 2020, with a constant instead of noise)."""
    if u[10] >= recipe.erasing:
        return x
    side = x.width
    height, width = _sides(_between(u[11], *_ERASED), _log_between(u[12], 0.5, 2), side)
    top, left = round(u[14] * (side - height)), round(u[13] * (side - width))
    mean = np.asarray(x).mean((0, 1)).round().astype(np.uint8)
    return v2.erase(x, top, left, height, width, torch.from_numpy(mean)[:, None, None])


def _sides(area: float, ratio: float, side: int) -> tuple[int, int]:
    """Height and width in pixels of a rectangle of that share of the picture, as far as it fits."""
    height, width = (min(side, max(1, round(side * math.sqrt(part)))) for part in (area / ratio, area * ratio))
    return height, width


def _between(u: float, low: float, high: float) -> float:
    return low + (high - low) * u


def _log_between(u: float, low: float, high: float) -> float:
    return math.exp(_between(u, math.log(low), math.log(high)))
