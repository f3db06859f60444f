"""Training of multilayer perceptrons: one loop over batches, no autograd, no global state touched."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusion.blocks import FloatArray
from fusion.errors import HeadConfigError
from fusion.heads.base import Codes
from fusion.heads.holdout import held_out
from fusion.heads.mlp_batches import Batches, Ready, batches_of
from fusion.heads.mlp_config import MLPConfig
from fusion.heads.mlp_network import Gate, Network, Shape
from fusion.joined import JoinedRows, Matrix

logger = logging.getLogger(__name__)

WARM_UP = 0.05
"""Share of the steps over which the `cosine` schedule raises the learning rate."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training leaves behind."""

    first: FloatArray
    """First layers (members * width, inputs)."""

    later: list[FloatArray]
    """Other layers (members, width_in, width_out)."""

    biases: list[FloatArray]
    """Of the first layer (members * width,), of the others (members, 1, width_out)."""

    epochs: int
    """Epochs the kept weights have seen."""

    losses: list[float]
    """Mean training loss an epoch."""

    window: int
    """Rows shuffled at a time; 0 for all."""


def train(
    X: Matrix,
    ready: Ready,
    codes: Codes,
    config: MLPConfig,
    class_weights: NDArray[np.float64],
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Trained:
    """Train the members of `config` on rows (n, d) and class codes (n,).

    Parameters
    ----------
    X, codes : rows of shape (n, d) and array of shape (n,)
        Rows, an array or lazy ones, and classes 0..k-1.
    ready : callable
        Turns rows into what the first layer takes, each row for itself.
    class_weights : ndarray of shape (k,)
        Factor on each class's loss.
    seed : int
        Of weights, batches and dropout. With the same number of threads the result repeats to the bit.
    device, dtype
        Where to train, and the type of the first layer's products (float32 or bfloat16).
    """
    generator = torch.Generator().manual_seed(seed)
    k = len(class_weights)
    kept = held_out(codes, config.early_stop, seed=seed) if config.early_stop else np.zeros(len(codes), bool)
    rows = batches_of(_part(X, ~kept), ready, device=device, dtype=dtype)
    loss = _Loss(codes[~kept], k, config, class_weights, device)
    shape = Shape(inputs=X.shape[1], hidden=tuple(config.hidden), classes=k, members=config.members)
    network = Network(shape, generator=generator, device=device, dtype=dtype)
    batch = min(config.batch_size, rows.count)
    noise = torch.Generator(device=device).manual_seed(seed)
    gates = [
        Gate(config.members, batch, width, dropout=config.dropout, generator=noise, device=device)
        for width in shape.hidden
    ]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=device.type in ("cpu", "cuda")
    )
    watch = None
    if kept.any():
        watch = _Watch(batches_of(_part(X, kept), ready, device=device, dtype=dtype), codes[kept], device)
    steps = math.ceil(rows.count / batch) * config.epochs
    step, losses = 0, []
    for epoch in range(config.epochs):
        total = torch.zeros((), device=device)
        for taken, index in rows.shuffled(batch, generator):
            logits, inputs, passes = network.forward(taken, gates)
            value, gradient = loss(logits, index)
            network.backward(taken, gradient, inputs, passes)
            if config.schedule == "cosine":
                optimizer.param_groups[0]["lr"] = config.lr * _cosine(step, steps)
            optimizer.step()
            total += value
            step += 1
        losses.append(float(total) / rows.count)
        if not math.isfinite(losses[-1]):
            raise HeadConfigError(
                f"training diverged: the loss of epoch {epoch + 1} is not finite\n"
                f"  with lr={config.lr:g} and standardize={config.standardize!r}; lower lr or standardise the blocks"
            )
        if watch is not None and watch.stops(network, epoch, config.patience):
            break
    parameters, epochs = (watch.best, watch.best_epoch + 1) if watch else (network.parameters(), len(losses))
    arrays = [parameter.detach().cpu().numpy() for parameter in parameters]
    layers = 1 + len(network.later)
    return Trained(
        first=arrays[0],
        later=arrays[1:layers],
        biases=arrays[layers:],
        epochs=epochs,
        losses=losses,
        window=rows.window,
    )


@contextmanager
def threads_set_to(threads: int | None) -> Iterator[int]:
    """Compute with so many threads inside the block, and with as many as before after it."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


class _Loss:
    """Weighted cross-entropy with smoothed targets and adjusted logits, and its gradient."""

    def __init__(
        self, codes: Codes, k: int, config: MLPConfig, class_weights: NDArray[np.float64], device: torch.device
    ) -> None:
        counts = np.bincount(codes, minlength=k).astype(np.float64)
        weights = class_weights / class_weights[codes].mean()
        targets = np.tile(config.label_smoothing * counts / len(codes), (k, 1))  # one line a class, not one a row
        targets[np.arange(k), np.arange(k)] += 1 - config.label_smoothing
        prior = np.log(np.maximum(counts, 0.5) / len(codes))
        self.codes = torch.from_numpy(codes).to(device)
        self.targets = torch.tensor(targets, dtype=torch.float32, device=device)
        self.weights = torch.tensor(weights, dtype=torch.float32, device=device)[:, None]
        self.shift = torch.tensor(config.logit_adjust * prior, dtype=torch.float32, device=device)

    def __call__(self, logits: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return a batch's summed loss, averaged over members, and the gradient (m, b, k) of each member's mean."""
        truth = self.codes[index]
        targets, weights = self.targets[truth], self.weights[truth]
        logs = torch.log_softmax(logits + self.shift, dim=-1)
        value = -(logs * targets * weights).sum() / logits.shape[0]
        return value, logs.exp_().sub_(targets).mul_(weights / logits.shape[1])


class _Watch:
    """The rows kept aside, and the best weights seen on them."""

    def __init__(self, rows: Batches, codes: Codes, device: torch.device) -> None:
        self.rows = rows
        self.codes = torch.from_numpy(codes).to(device)
        self.best_loss = math.inf
        self.best_epoch = 0
        self.best: list[Tensor] = []

    def stops(self, network: Network, epoch: int, patience: int) -> bool:
        """Look at the log loss of the averaged members, and say whether it is time to stop."""
        proba = torch.cat([network.logits(rows).softmax(-1).mean(0) for rows in self.rows.in_order()])
        chosen = proba.gather(1, self.codes[:, None])
        loss = float(-chosen.clamp_min(1e-12).log().mean())
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.best = [parameter.detach().clone() for parameter in network.parameters()]
        return epoch - self.best_epoch >= patience


def _part(X: Matrix, where: NDArray[np.bool_]) -> Matrix:
    if where.all():
        return X
    return X.take(where) if isinstance(X, JoinedRows) else X[where]


def _cosine(step: int, steps: int) -> float:
    rise = min(1.0, (step + 1) / max(1.0, WARM_UP * steps))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))
