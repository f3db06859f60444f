"""The order of examples and everything random about them, as functions of (seed, epoch, position) and nothing else.

So neither the number of processes and threads nor an interruption changes what the network sees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cer_fusion.backbones.finetuning.recipe import Sampling
from numpy.typing import NDArray

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
