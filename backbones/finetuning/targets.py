"""Targets and the loss: label distributions, rare classes, mixed pictures, branches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from cer_fusion.backbones.finetuning.examples import Examples
from cer_fusion.backbones.finetuning.recipe import Recipe
from cer_fusion.backbones.finetuning.seeding import numpy_drawn_from
from numpy.typing import NDArray
from timm.data.mixup import Mixup
from torch import Tensor
from torch.nn import functional as F


def targets_of(examples: Examples, k: int, recipe: Recipe) -> NDArray[np.float32]:
    """Return each example's label distribution, (n, k): the soft one where given, else the smoothed hard one."""
    if examples.soft is not None:
        return examples.soft
    hard = np.eye(k, dtype=np.float32)[examples.y]
    return hard * np.float32(1 - recipe.label_smoothing) + np.float32(recipe.label_smoothing / k)


def log_prior(y: NDArray[np.int64], k: int, recipe: Recipe) -> NDArray[np.float32]:
    """Return what is added to training logits, (k,): ``logit_adjustment`` times log share of each class."""
    share = np.bincount(y, minlength=k) / len(y)
    return (recipe.logit_adjustment * np.log(share)).astype(np.float32)


def loss_sum(logits: Mapping[str, Tensor], shares: Mapping[str, float], targets: Tensor, prior: Tensor) -> Tensor:
    """Sum the cross-entropies over a batch, branches mixed by their shares.

    Parameters
    ----------
    logits : dict of Tensor of shape (b, k)
    targets : Tensor of shape (b, k)
        Distributions.
    prior : Tensor of shape (k,)
        Added to the logits; see `log_prior`.
    """
    each = [
        share * F.cross_entropy(logits[branch].float() + prior, targets, reduction="sum")
        for branch, share in shares.items()
    ]
    return torch.stack(each).sum()


def mix(x: Tensor, targets: Tensor, recipe: Recipe, *, seed: int) -> tuple[Tensor, Tensor]:
    """Mix pictures of a batch and their targets with timm's Mixup, if the recipe wants it.

    timm mixes labels that are class numbers. Given each picture's place in the batch as its class, it answers with the
    matrix that mixed them, and that mixes distributions. It needs an even number: an odd last picture stays as it is.
    """
    if not (recipe.mixup or recipe.cutmix) or len(x) < 2:
        return x, targets
    even = len(x) // 2 * 2
    mixup = Mixup(mixup_alpha=recipe.mixup, cutmix_alpha=recipe.cutmix, label_smoothing=0.0, num_classes=even)  # type: ignore[no-untyped-call]
    with numpy_drawn_from(seed):
        mixed, matrix = mixup(x[:even].clone(), torch.arange(even, device=x.device))
    return torch.cat([mixed, x[even:]]), torch.cat([matrix.to(targets.dtype) @ targets[:even], targets[even:]])
