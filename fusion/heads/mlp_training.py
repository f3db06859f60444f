"""Training of multilayer perceptrons: one loop over batches, no autograd, no global state touched."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import torch
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.data.joined import Matrix
from cer_fusion.fusion.heads.base import Codes
from cer_fusion.fusion.heads.cross_entropy import CrossEntropy, refuse_divergence
from cer_fusion.fusion.heads.holdout import held_out
from cer_fusion.fusion.heads.batches import Ready, batches_of, part
from cer_fusion.fusion.heads.mlp_config import MLPConfig
from cer_fusion.fusion.heads.mlp_network import Gate, Network, Shape
from cer_fusion.fusion.heads.schedule import cosine
from cer_fusion.fusion.heads.watch import Watch
from numpy.typing import NDArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training leaves behind."""

    first: FloatArray
    """First layers (members * width, inputs)."""

    later: list[FloatArray]
    """Other layers (members, width_in, width_out)."""

    biases: list[FloatArray]
    """Of the first layer (members * width,), of the others (members, 1, width_out)."""

    scales: list[FloatArray]
    """Of the normalised hidden layers (members, 1, width); none where they are not normalised."""

    shifts: list[FloatArray]
    """As the scales."""

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
    left_out: NDArray[np.bool_] | None = None,
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
    left_out : bool array of shape (members, n), optional
        Rows that a member does not learn from.
    """
    generator = torch.Generator().manual_seed(seed)
    k = len(class_weights)
    kept = held_out(codes, config.early_stop, seed=seed) if config.early_stop else np.zeros(len(codes), bool)
    rows = batches_of(part(X, ~kept), ready, device=device, dtype=dtype)
    loss = CrossEntropy(
        codes[~kept],
        class_weights,
        label_smoothing=config.label_smoothing,
        logit_adjust=config.logit_adjust,
        device=device,
    )
    counts = None
    if left_out is not None:
        learned = torch.from_numpy(~left_out[:, ~kept]).to(device=device, dtype=torch.float32)
        counts = learned / learned.mean(1, keepdim=True)
    shape = Shape(
        inputs=X.shape[1],
        hidden=tuple(config.hidden),
        classes=k,
        members=config.members,
        normalized=config.norm == "layer",
    )
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
        watch = Watch(batches_of(part(X, kept), ready, device=device, dtype=dtype), codes[kept], device)
    steps = math.ceil(rows.count / batch) * config.epochs
    step, losses = 0, []
    for epoch in range(config.epochs):
        total = torch.zeros((), device=device)
        for taken, index in rows.shuffled(batch, generator):
            logits, inputs, passes = network.forward(taken, gates)
            value, gradient = loss(logits, index, counts)
            network.backward(taken, gradient, inputs, passes)
            if config.schedule == "cosine":
                optimizer.param_groups[0]["lr"] = config.lr * cosine(step, steps)
            optimizer.step()
            total += value
            step += 1
        losses.append(float(total) / rows.count)
        refuse_divergence(losses, lr=config.lr, standardize=config.standardize)
        if watch is not None and watch.stops(network, epoch, config.patience):
            break
    parameters, epochs = (watch.best, watch.best_epoch + 1) if watch else (network.parameters(), len(losses))
    arrays = [parameter.detach().cpu().numpy() for parameter in parameters]
    layers, norms = 1 + len(network.later), len(network.norms)
    return Trained(
        first=arrays[0],
        later=arrays[1:layers],
        biases=arrays[layers : 2 * layers],
        scales=arrays[2 * layers : 2 * layers + norms],
        shifts=arrays[2 * layers + norms :],
        epochs=epochs,
        losses=losses,
        window=rows.window,
    )
