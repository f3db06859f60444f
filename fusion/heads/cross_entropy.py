"""What networks are trained to make small, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import Codes
from numpy.typing import NDArray
from torch import Tensor


class CrossEntropy:
    """Weighted cross-entropy with smoothed targets and adjusted logits, and its gradient.

    Parameters
    ----------
    codes : int64 array of shape (n,)
        Classes 0..k-1 of the training rows.
    class_weights : ndarray of shape (k,)
        Factor on each class's loss; brought to a mean of one over the rows.
    label_smoothing : float
        Share of every target spread over the classes as often as they occur.
    logit_adjust : float
        Factor on the log class frequency that is added to the logits (Menon et al., 2021, eq. 10).
    device : torch.device
    """

    def __init__(
        self,
        codes: Codes,
        class_weights: NDArray[np.float64],
        *,
        label_smoothing: float,
        logit_adjust: float,
        device: torch.device,
    ) -> None:
        k = len(class_weights)
        counts = np.bincount(codes, minlength=k).astype(np.float64)
        weights = class_weights / class_weights[codes].mean()
        targets = np.tile(label_smoothing * counts / len(codes), (k, 1))  # one line a class, not one a row
        targets[np.arange(k), np.arange(k)] += 1 - label_smoothing
        prior = np.log(np.maximum(counts, 0.5) / len(codes))
        self.codes = torch.from_numpy(codes).to(device)
        self.targets = torch.tensor(targets, dtype=torch.float32, device=device)
        self.weights = torch.tensor(weights, dtype=torch.float32, device=device)[:, None]
        self.shift = torch.tensor(logit_adjust * prior, dtype=torch.float32, device=device)

    def __call__(self, logits: Tensor, index: Tensor, counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return a batch's summed loss, averaged over members, and the gradient (m, b, k) of each member's mean.

        `counts` (m, n) says how much every row counts for every member; None is one each.
        """
        truth = self.codes[index]
        targets, weights = self.targets[truth], self.weights[truth]
        if counts is not None:
            weights = weights * counts[:, index, None]
        logs = torch.log_softmax(logits + self.shift, dim=-1)
        value = -(logs * targets * weights).sum() / logits.shape[0]
        return value, logs.exp_().sub_(targets).mul_(weights / logits.shape[1])


def refuse_divergence(losses: Sequence[float], **settings: object) -> None:
    """Refuse to go on after an epoch whose loss, the last of `losses`, is not finite.

    Raises
    ------
    HeadConfigError
        Naming the epoch and the settings that made it so.
    """
    if not math.isfinite(losses[-1]):
        named = " and ".join(f"{name}={value!r}" for name, value in settings.items())
        raise HeadConfigError(
            f"training diverged: the loss of epoch {len(losses)} is not finite\n"
            f"  with {named}; lower lr or standardise the blocks"
        )
