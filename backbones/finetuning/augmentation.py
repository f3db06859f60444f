"""Augmentation of a batch of faces on any device; each picture's numbers are drawn beforehand, by its position.

torchvision's transforms draw from the global generator, and the same for a whole batch: neither can be resumed.
"""

from __future__ import annotations

import math

import torch
from cer_fusion.backbones.finetuning.recipe import Recipe
from torch import Tensor
from torch.nn import functional as F

DRAWS = 15
"""Uniform numbers that a picture needs."""
_LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, as Pillow and torchvision turn colour into grey."""
_ERASED = (0.02, 0.2)
"""Smallest and largest share of the picture that is covered."""


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
