"""Training of networks by automatic differentiation: one loop for every head that has no gradients of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from cer_fusion.fusion.data.joined import Matrix
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import Codes
from cer_fusion.fusion.heads.cross_entropy import CrossEntropy, refuse_divergence
from cer_fusion.fusion.heads.holdout import held_out
from cer_fusion.fusion.heads.batches import Ready, batches_of, part
from cer_fusion.fusion.heads.layers import Dropout, Network
from cer_fusion.fusion.heads.ranges import not_negative, share, whole
from cer_fusion.fusion.heads.schedule import cosine
from cer_fusion.fusion.heads.watch import Watch
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network learns, whatever its shape."""

    epochs: int
    """Passes over the training rows."""

    batch_size: int
    """Rows a step; the last batch of an epoch may hold fewer."""

    lr: float
    """Peak learning rate of AdamW."""

    schedule: Literal["constant", "cosine"]
    """`cosine` warms up over a twentieth of the steps, then falls to zero along half a cosine."""

    weight_decay: float
    """Decoupled decay of weight matrices, as a factor on lr; biases, scales and embeddings do not decay."""

    dropout: float
    """Probability of leaving out a unit while training, in [0, 1)."""

    label_smoothing: float
    """Share of every target spread over the classes as often as they occur, in [0, 1)."""

    logit_adjust: float
    """Factor on the log class frequency that is added to the logits while training only."""

    early_stop: float
    """Share of each class's training rows kept aside to choose the epoch, in [0, 1); 0 trains on all rows."""

    patience: int
    """Epochs without improvement on the rows kept aside before training stops."""

    def check(self) -> None:
        """Refuse values outside their range.

        Raises
        ------
        HeadConfigError
            Naming the setting, the value and the range.
        """
        for name in ("epochs", "batch_size", "patience"):
            whole(name, getattr(self, name))
        for name in ("dropout", "label_smoothing", "early_stop"):
            share(name, getattr(self, name))
        for name in ("lr", "weight_decay", "logit_adjust"):
            not_negative(name, getattr(self, name))
        if self.schedule not in ("constant", "cosine"):
            raise HeadConfigError(f"schedule must be 'constant' or 'cosine', got {self.schedule!r}")


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a training went."""

    epochs: int
    """Epochs the kept weights have seen."""

    losses: list[float]
    """Mean training loss an epoch."""

    window: int
    """Rows shuffled at a time; 0 for all."""


def train_network(
    network: Network,
    X: Matrix,
    ready: Ready,
    codes: Codes,
    training: Training,
    class_weights: NDArray[np.float64],
    *,
    seed: int,
    device: torch.device,
) -> Course:
    """Draw the network's first weights and train it on rows (n, D) and class codes (n,); its weights are float32.

    Each member has the loss of its own answers, as if it were alone.

    Parameters
    ----------
    X, codes : rows of shape (n, D) and array of shape (n,)
        Rows, an array or lazy ones, and classes 0..k-1.
    ready : callable
        Turns rows into what the network takes, each row for itself.
    class_weights : ndarray of shape (k,)
        Factor on each class's loss.
    seed : int
        Of weights, batches and dropout. With the same number of threads, on a CPU, the result repeats to the bit.
    """
    generator = torch.Generator().manual_seed(seed)
    network.draw_all(generator)
    network.to(device)
    kept = held_out(codes, training.early_stop, seed=seed) if training.early_stop else np.zeros(len(codes), bool)
    where: dict[str, Any] = {"device": device, "dtype": torch.float32}
    rows = batches_of(part(X, ~kept), ready, **where)
    watch = Watch(batches_of(part(X, kept), ready, **where), codes[kept], device) if kept.any() else None
    loss = CrossEntropy(
        codes[~kept],
        class_weights,
        label_smoothing=training.label_smoothing,
        logit_adjust=training.logit_adjust,
        device=device,
    )
    drop = Dropout(training.dropout, torch.Generator(device=device).manual_seed(seed))
    batch = min(training.batch_size, rows.count)
    optimizer = _optimizer(network, training)
    steps, step, losses = math.ceil(rows.count / batch) * training.epochs, 0, []
    for epoch in range(training.epochs):
        total = torch.zeros((), device=device)
        for taken, index in rows.shuffled(batch, generator):
            if training.schedule == "cosine":
                for group in optimizer.param_groups:
                    group["lr"] = training.lr * cosine(step, steps)
            optimizer.zero_grad()
            logits = network(taken, drop)
            value, gradient = loss(logits.detach(), index)
            torch.autograd.backward(logits, gradient)
            optimizer.step()
            total += value
            step += 1
        losses.append(float(total) / rows.count)
        refuse_divergence(losses, lr=training.lr)
        if watch is not None and watch.stops(network, epoch, training.patience):
            break
    if watch is not None:
        with torch.no_grad():
            for parameter, best in zip(network.parameters(), watch.best, strict=True):
                parameter.copy_(best)
    epochs = watch.best_epoch + 1 if watch else len(losses)
    return Course(epochs=epochs, losses=losses, window=rows.window)


def _optimizer(network: Network, training: Training) -> torch.optim.AdamW:
    named = list(network.named_parameters())
    groups: list[dict[str, Any]] = [
        {"params": [one for name, one in named if name.endswith("weight")], "weight_decay": training.weight_decay},
        {"params": [one for name, one in named if not name.endswith("weight")], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=training.lr, fused=True)
