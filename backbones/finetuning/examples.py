"""Examples: what a classifier is to learn from, and everything random about them: order, and changes of pictures.

All that is random is a function of (seed, epoch, position) and nothing else, so neither the number of processes and
threads nor an interruption changes what the network sees. torchvision's transforms draw from the global generator, and
the same for a whole batch, and timm's RandAugment from Python's: neither can be resumed.
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
from timm.data.auto_augment import NAME_TO_OP
from torch import Tensor
from torch.nn import functional as F

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


DRAWS = 15
"""Uniform numbers that a picture needs."""
_LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, as Pillow and torchvision turn colour into grey."""
_ERASED = (0.02, 0.2)
"""Smallest and largest share of the picture that is covered."""
DRAWS_EACH = 2
"""Uniform numbers that one operation needs: which one, and in which direction."""

OPERATIONS: dict[str, Callable[[float], tuple[float, ...]]] = {
    "AutoContrast": lambda _: (),
    "Equalize": lambda _: (),
    "Rotate": lambda strength: (30 * strength,),  # degrees
    "Color": lambda strength: (1 + 0.9 * strength,),
    "Contrast": lambda strength: (1 + 0.9 * strength,),
    "Brightness": lambda strength: (1 + 0.9 * strength,),
    "Sharpness": lambda strength: (1 + 0.9 * strength,),
    "ShearX": lambda strength: (0.3 * strength,),
    "ShearY": lambda strength: (0.3 * strength,),
    "TranslateXRel": lambda strength: (0.45 * strength,),  # share of the width
    "TranslateYRel": lambda strength: (0.45 * strength,),
}
"""timm's name -> what it takes at a strength in [-1, 1], by timm's own scales. Inverting, solarising and posterising
are left out: no face looks so."""

_GREY = (128, 128, 128)
"""What comes in from outside the picture, as in timm."""
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


def augment(pictures: Tensor, u: Tensor, recipe: Recipe) -> Tensor:
    """Change each picture of a batch as its draws say.

    Parameters
    ----------
    pictures : Tensor of shape (b, h, h, 3), uint8
    u : Tensor of shape (b, 15), float32 in [0, 1)
        On the same device. Every picture uses all of its draws in the same places, whatever the recipe.

    Returns
    -------
    Tensor of shape (b, h, h, 3), uint8
    """
    x = pictures.permute(0, 3, 1, 2).to(torch.float32)  # (b, h, w, 3) -> (b, 3, h, w)
    x = _geometry(x, u, recipe)
    x = _colour(x, u, recipe)
    x = _erase(x, u, recipe)
    return x.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _geometry(x: Tensor, u: Tensor, recipe: Recipe) -> Tensor:
    """Crop, turn and mirror in one resampling."""
    mirror = torch.where((u[:, 0] < 0.5) & recipe.flip, -1.0, 1.0)
    if recipe.crop_area == recipe.crop_ratio == (1.0, 1.0) and not recipe.rotation_deg:
        return torch.where(mirror.view(-1, 1, 1, 1) < 0, x.flip(-1), x)
    area = _between(u[:, 1], *recipe.crop_area)
    ratio = torch.exp(_between(u[:, 2], *(math.log(end) for end in recipe.crop_ratio)))
    width = (area * ratio).sqrt().clamp(max=1)
    height = (area / ratio).sqrt().clamp(max=1)
    angle = torch.deg2rad(_between(u[:, 5], -recipe.rotation_deg, recipe.rotation_deg))
    left, top = _between(u[:, 3], -1, 1) * (1 - width), _between(u[:, 4], -1, 1) * (1 - height)
    rows = (
        torch.stack([mirror * width * angle.cos(), -height * angle.sin(), left], dim=1),
        torch.stack([mirror * width * angle.sin(), height * angle.cos(), top], dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _colour(x: Tensor, u: Tensor, recipe: Recipe) -> Tensor:
    """Change brightness, contrast and saturation; a grey picture stays grey."""

    def factor(column: int, most: float) -> Tensor:
        return _between(u[:, column], 1 - most, 1 + most).view(-1, 1, 1, 1)

    if recipe.brightness:
        x = x * factor(6, recipe.brightness)
    if recipe.contrast:
        mean = _grey(x).mean((1, 2, 3), keepdim=True)
        x = mean + (x - mean) * factor(7, recipe.contrast)
    if recipe.saturation or recipe.grey:
        keep = factor(8, recipe.saturation) * (u[:, 9] >= recipe.grey).view(-1, 1, 1, 1)
        grey = _grey(x)
        x = grey + (x - grey) * keep
    return x


def _erase(x: Tensor, u: Tensor, recipe: Recipe) -> Tensor:
    """Cover a rectangle with the picture's mean colour (Zhong et al., AAAI 2020, with a constant instead of noise)."""
    if not recipe.erasing:
        return x
    side = x.shape[-1]
    area, ratio = _between(u[:, 11], *_ERASED), torch.exp(_between(u[:, 12], math.log(0.5), math.log(2)))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    left, top = u[:, 13] * (1 - width), u[:, 14] * (1 - height)
    place = (torch.arange(side, device=x.device) + 0.5) / side
    across = (place >= left.view(-1, 1)) & (place < (left + width).view(-1, 1))  # (b, w)
    down = (place >= top.view(-1, 1)) & (place < (top + height).view(-1, 1))  # (b, h)
    covered = down[:, None, :, None] & across[:, None, None, :] & (u[:, 10] < recipe.erasing).view(-1, 1, 1, 1)
    return torch.where(covered, x.mean((2, 3), keepdim=True), x)


def _grey(x: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, device=x.device).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)


def _between(u: Tensor, low: float, high: float) -> Tensor:
    return low + (high - low) * u


def randaugment(
    pictures: NDArray[np.uint8], u: NDArray[np.float32], *, operations: int, magnitude: float
) -> NDArray[np.uint8]:
    """Apply some of timm's operations to each picture, one after another: RandAugment (Cubuk et al., CVPRW 2020).

    Parameters
    ----------
    pictures : ndarray of shape (b, h, w, 3), uint8
    u : ndarray of shape (b, 2 x operations), float32 in [0, 1)
    operations : int
        How many a picture; the same one may come twice.
    magnitude : float
        Strength of all of them, 0 to 10.

    Returns
    -------
    ndarray of shape (b, h, w, 3), uint8
    """
    if not operations:
        return pictures
    return np.stack([_changed(picture, own, magnitude / 10) for picture, own in zip(pictures, u, strict=True)])


def _changed(picture: NDArray[np.uint8], u: NDArray[np.float32], strength: float) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    names = list(OPERATIONS)
    for choice, direction in u.reshape(-1, DRAWS_EACH).tolist():  # (2 x operations) -> (operations, 2)
        name = names[int(choice * len(names))]
        given = OPERATIONS[name](strength if direction < 0.5 else -strength)
        operation: Any = NAME_TO_OP[name]
        image = operation(image, *given, fillcolor=_GREY, resample=Image.Resampling.BILINEAR)
    return np.asarray(image)
