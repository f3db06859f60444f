"""How a network learns: the one loop of all heads, its batches, loss, optimiser and early stopping.

Rows come from memory, or pass through it in windows where they do not fit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.adamw import adamw

from ..data.blocks import FloatArray
from ..data.joined import CHUNK, JoinedRows, Matrix, each_piece, rows_at
from ..errors import HeadConfigError
from .base import EPOCHS, NOTHING, Codes, RowInfo
from .layers import Dropout, HiddenNetwork, Network, Taken, Windows
from .weights import stratified_folds

WARM_UP: Final = 0.05
"""Share of the steps over which the schedule `cosine` raises the learning rate."""

WINDOW_BYTES: Final = 2**28
"""Rows of a window, counted as float32. The order of streamed batches, and so the trained weights, depend on it."""

Ready: TypeAlias = Callable[[FloatArray], FloatArray]
"""Turns rows (m, D) into what the first layer takes, each row for itself."""


class Recipe(Protocol):
    """Settings of training, as `MLPConfig` explains them."""

    epochs: int
    batch_size: int
    lr: float
    schedule: Literal["constant", "cosine"]
    weight_decay: float
    dropout: float
    standardize: Literal["none", "standard", "l2", "power"]
    label_smoothing: float
    logit_adjust: float
    early_stop: float
    patience: int


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a training went."""

    epochs: int
    """Epochs that the kept weights have seen."""

    losses: list[float]
    """Mean training loss of each epoch."""

    window: int
    """Rows that were shuffled at a time; 0 where all of them were."""


def train(
    network: Network,
    X: Matrix,
    ready: Ready,
    codes: Codes,
    settings: Recipe,
    class_weights: NDArray[np.float64],
    *,
    info: RowInfo = NOTHING,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    left_out: NDArray[np.bool_] | None = None,
    pull: Callable[[Tensor, Tensor], Tensor] | None = None,
    windows: NDArray[np.int64] | None = None,
    shown: NDArray[np.bool_] | None = None,
    aside: NDArray[np.bool_] | None = None,
    begin: bool = True,
    first: int | None = None,
) -> Course:
    """Draw a network's first weights and train it; each member has the loss of its own answers, as if it were alone.

    Parameters
    ----------
    network : Network
        Is changed.
    X, codes : rows of shape (n, d) and array of shape (n,)
        Rows, an array or lazy ones, and classes 0..k-1.
    ready : callable
        Turns rows into what the network takes, each row for itself.
    settings : Recipe
    class_weights : ndarray of shape (k,)
        Factor on each class's loss.
    info : RowInfo
        Groups are kept aside whole for early stopping; weights are factors on the rows' losses, their mean one; each
        share of a soft label has the loss of its class.
    seed : int
        Of weights, batches and dropout. With the same number of threads, on a CPU, the result repeats to the bit.
    device, dtype
        Where to train, and the type in which rows enter the network; weights are float32.
    left_out : bool array of shape (members, n), optional
        Rows that a member does not learn from.
    pull : callable (units, index), optional
        A further loss, of the last hidden units (m, b, h) of the rows `index` (b,) of a `HiddenNetwork`.
    windows : int array of shape (n, w), optional
        The rows around each row, -1 for none, for networks over time.
    shown : bool array of shape (n,), optional
        Rows that are learned from, of those that are not kept aside; None: all.
    aside : bool array of shape (n,), optional
        Rows kept aside for early stopping, where they were chosen before.
    begin : bool
        Draw first weights; else the network goes on with those it has.
    first : int, optional
        So many classes come first, and the others are another kind of label: each kind is a softmax of its own, and
        early stopping looks at the first kind.

    Raises
    ------
    HeadConfigError
        If the loss of an epoch is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    if begin:
        network.draw_all(generator)
    network.to(device)
    kept = np.zeros(len(codes), np.bool_)
    lines, line = (np.eye(len(class_weights)), codes) if info.soft is None else (info.soft, np.arange(len(codes)))
    if settings.early_stop:
        kept = aside if aside is not None else held_out(codes, settings.early_stop, seed=seed, groups=info.groups)
        kept = (
            kept & (info.weights > 0) if info.weights is not None else kept
        )  # rows without a class have nothing to look at
        if not kept.any():
            what = "rows" if info.groups is None else "groups"
            raise HeadConfigError(
                f"early_stop={settings.early_stop!r} keeps no row aside to look at: the largest class has "
                f"{np.bincount(codes).max()} rows, and whole {what} are kept aside\n"
                "  raise early_stop, or set it to 0 to train for all epochs"
            )
    learn = ~kept if shown is None else shown & ~kept
    rows = batches_of(X, ready, learn, windows, device=device, dtype=dtype)
    watch = None
    if kept.any():
        watch = Watch(
            batches_of(X, ready, kept, windows, device=device, dtype=dtype), lines[line[kept], :first], device
        )
    loss = CrossEntropy(
        lines, line[learn], class_weights, settings.label_smoothing, settings.logit_adjust, device, first
    )
    counts = None
    if left_out is not None or info.weights is not None:
        counted = np.ones((1, len(codes))) if left_out is None else (~left_out).astype(np.float64)
        learned = torch.from_numpy(info.weighed(counted)[:, learn]).to(device=device, dtype=torch.float32)
        counts = learned / learned.mean(1, keepdim=True)
    learned_rows = torch.from_numpy(np.flatnonzero(learn)).to(device)
    drop = Dropout(settings.dropout, torch.Generator(device=device).manual_seed(seed))
    optimizer = AdamW(network, settings.weight_decay, device)
    batch = min(settings.batch_size, rows.count)
    steps, step, losses = math.ceil(rows.count / batch) * settings.epochs, 0, []
    for epoch in range(settings.epochs):
        total = torch.zeros((), device=device)
        for taken, index in rows.shuffled(batch, generator):
            if pull is None:
                logits = network(taken, drop)
                value, gradient = loss(logits.detach(), index, counts)
                torch.autograd.backward(logits, gradient)
            else:
                assert isinstance(network, HiddenNetwork), "a further loss is of hidden units"
                units = network.units(taken, drop)
                logits = network.answered(units, drop)
                value, gradient = loss(logits.detach(), index, counts)
                torch.autograd.backward([logits, pull(units, learned_rows[index])], [gradient, None])
            optimizer.step(settings.lr * (_cosine(step, steps) if settings.schedule == "cosine" else 1))
            total += value
            step += 1
        losses.append(float(total) / rows.count)
        if not math.isfinite(losses[-1]):
            with_ = f"lr={settings.lr!r} and standardize={settings.standardize!r}"
            raise HeadConfigError(
                f"training diverged: the loss of epoch {len(losses)} is not finite\n"
                f"  with {with_}; lower lr or standardise the blocks"
            )
        if (tell := EPOCHS.get()) is not None:
            tell(epoch + 1, settings.epochs)
        if watch is not None and watch.stops(network, epoch, settings.patience):
            break
    if watch is not None:
        network.load_state_dict(watch.best)
    epochs = watch.best_epoch + 1 if watch else len(losses)
    return Course(epochs=epochs, losses=losses, window=rows.window)


def member_counts(
    weights: NDArray[np.float64] | None, left_out: NDArray[np.bool_] | None
) -> NDArray[np.float64] | None:
    """Return how much each of n rows counts for each member (1 or members, n), their mean one; None: one each.

    `left_out` (members, n) names rows that a member does not learn from.
    """
    if left_out is None:
        return None if weights is None else weights[None] / weights.mean()
    found = ~left_out * (1.0 if weights is None else weights)
    return np.asarray(found / found.mean(axis=1, keepdims=True))


class CrossEntropy:
    """Weighted cross-entropy with smoothed targets and adjusted logits, and its gradient.

    `MLPConfig` explains smoothing and adjustment. Row i is of the classes that `lines[line[i]]` says, (k,) of unit sum:
    there is one line a class or, of soft labels, one a row. `class_weights` (k,) multiply the loss of each share, and
    are brought to a mean of one over the rows.
    """

    def __init__(
        self,
        lines: NDArray[np.float64],
        line: Codes,
        class_weights: NDArray[np.float64],
        label_smoothing: float,
        logit_adjust: float,
        device: torch.device,
        first: int | None = None,
    ) -> None:
        self.first = first
        times = np.bincount(line, minlength=len(lines))
        counted, counts = lines * class_weights, times @ lines
        weights = counted.sum(axis=1, keepdims=True)
        own = counted / np.where(weights > 0, weights, 1)
        targets = label_smoothing * counts / len(line) + (1 - label_smoothing) * own
        weights = weights / np.average(weights[:, 0], weights=times)
        prior = np.log(np.maximum(counts, 0.5) / len(line))
        self.line = torch.from_numpy(line).to(device)
        self.targets = torch.tensor(targets, dtype=torch.float32, device=device)
        self.weights = torch.tensor(weights, dtype=torch.float32, device=device)
        self.shift = torch.tensor(logit_adjust * prior, dtype=torch.float32, device=device)

    def __call__(self, logits: Tensor, index: Tensor, counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return a batch's summed loss, averaged over members, and the gradient (m, b, k) of each member's mean.

        `counts` (m, n) says how much every row counts for every member; None is one each.
        """
        at = self.line[index]
        targets, weights = self.targets[at], self.weights[at]
        if counts is not None:
            weights = weights * counts[:, index, None]
        if self.first is not None:
            return self._of_two(logits + self.shift, targets, weights)
        logs = torch.log_softmax(logits + self.shift, dim=-1)
        value = -(logs * targets * weights).sum() / logits.shape[0]
        return value, logs.exp_().sub_(targets).mul_(weights / logits.shape[1])

    def _of_two(self, logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same where two kinds of labels have a softmax each: a row counts in each by its share of it."""
        value, gradients = logits.new_zeros(()), []
        for where in (slice(None, self.first), slice(self.first, None)):
            wanted = targets[..., where]
            logs = torch.log_softmax(logits[..., where], dim=-1)
            value = value - (logs * wanted * weights).sum() / logits.shape[0]
            gradients.append(logs.exp_().mul_(wanted.sum(-1, keepdim=True)).sub_(wanted))
        return value, torch.cat(gradients, -1).mul_(weights / logits.shape[1])


class Watch:
    """Early stopping: rows kept aside, the best weights seen on them, and the epoch, from 0, that these are of."""

    def __init__(self, rows: Batches, shares: NDArray[np.float64], device: torch.device) -> None:
        self.rows = rows
        self.shares = torch.tensor(shares, dtype=torch.float32, device=device)
        self.best_loss, self.best_epoch = math.inf, 0
        self.best: dict[str, Tensor] = {}

    def stops(self, network: Network, epoch: int, patience: int) -> bool:
        """Look at the log loss of the averaged members, and say whether it is time to stop."""
        proba = torch.cat(
            [network.logits(rows)[..., : self.shares.shape[1]].softmax(-1).mean(0) for rows in self.rows.in_order()]
        )
        loss = float(-(proba.clamp_min(1e-12).log() * self.shares).sum(1).mean())
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.best = {name: one.clone() for name, one in network.state_dict().items()}
        return epoch - self.best_epoch >= patience


class AdamW:
    """PyTorch's AdamW as a function, without its class, whose first use imports 900 modules (a second or more).

    Decays weight matrices alone: not biases, scales and embeddings.
    """

    def __init__(self, network: Network, weight_decay: float, device: torch.device) -> None:
        self.fused = device.type in ("cpu", "cuda")
        self.groups: dict[float, list[Tensor]] = defaultdict(list)  # by decay
        for name, one in network.named_parameters():
            self.groups[weight_decay if name.endswith("weight") else 0.0].append(one)
        self.means, self.squares = (
            {decay: [torch.zeros_like(one) for one in group] for decay, group in self.groups.items()} for _ in range(2)
        )
        self.steps = {decay: [torch.zeros((), device=device) for _ in group] for decay, group in self.groups.items()}

    def step(self, lr: float) -> None:
        """Change the parameters by their gradients, and forget these."""
        for decay, group in self.groups.items():
            gradients = [one.grad for one in group if one.grad is not None]
            with torch.no_grad():
                adamw(
                    group, gradients, self.means[decay], self.squares[decay], [], self.steps[decay],
                    fused=self.fused, amsgrad=False, maximize=False,
                    beta1=0.9, beta2=0.999, eps=1e-8, lr=lr, weight_decay=decay,
                )  # fmt: skip
            for one in group:
                one.grad = None


PARTS: Final = 20
"""Folds of whole groups, of which a share is kept aside."""


def held_out(codes: Codes, share: float, *, seed: int, groups: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
    """Return which rows (n,) to keep aside: `share` of each class, rounded down, so a single row stays in training.

    With groups it is about that share in whole groups, but for those that alone have rows of some class.
    """
    if groups is not None:
        parts = min(PARTS, len(np.unique(groups)))
        fold = stratified_folds(codes, parts, seed=seed, groups=groups)
        found = fold < max(1, round(share * parts))
        lost = np.setdiff1d(codes, codes[~found])
        return np.asarray(found & ~np.isin(groups, groups[np.isin(codes, lost)]))
    random = np.random.default_rng(seed)
    found = np.zeros(len(codes), bool)
    for code in np.unique(codes):
        rows = random.permutation(np.flatnonzero(codes == code))
        found[rows[: int(share * len(rows))]] = True
    return found


def _cosine(step: int, steps: int) -> float:
    rise = min(1.0, (step + 1) / max(1.0, WARM_UP * steps))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


class Batches(Protocol):
    """Rows (n, D) ready for the first layer, on the device."""

    count: int
    """Number of rows n."""

    window: int
    """Rows shuffled at a time; 0 for all."""

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[tuple[Taken, Tensor]]:
        """Yield every row once, in batches of `size` (the last may be smaller): rows (b, D) and their numbers (b,)."""

    def in_order(self) -> Iterator[Taken]:
        """Yield all rows in order, in one or more parts."""


def batches_of(
    X: Matrix,
    ready: Ready,
    where: NDArray[np.bool_] | None = None,
    windows: NDArray[np.int64] | None = None,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Batches:
    """Return the batches of the rows (n, D), or those that a mask names: an array's from memory, lazy ones streamed.

    With windows (n, w) a batch has the rows around each row too, whether the mask names these or not.
    """
    if windows is not None:
        assert not isinstance(X, JoinedRows), "windows are of rows in memory"
        return WindowedBatches(ready(X), windows if where is None else windows[where], device=device, dtype=dtype)
    X = X if where is None else part(X, where)
    if isinstance(X, JoinedRows):
        return StreamedBatches(X, ready, device=device, dtype=dtype, window_bytes=WINDOW_BYTES)
    return HeldBatches(ready(X), device=device, dtype=dtype)


def part(X: Matrix, where: NDArray[np.bool_]) -> Matrix:
    """Return the rows (m, D) of rows (n, D) that a mask (n,) names: lazy ones stay lazy."""
    return X if where.all() else rows_at(X, where)


class HeldBatches:
    """Batches of rows that stand in memory whole; an epoch is one permutation of them."""

    def __init__(self, X: FloatArray, *, device: torch.device, dtype: torch.dtype) -> None:
        self.rows = torch.from_numpy(np.require(X, requirements=["C", "W"])).to(device=device, dtype=dtype)
        self.count, self.window = len(X), 0

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches`."""
        order = torch.randperm(self.count, generator=generator).to(self.rows.device)
        for index in order.split(size):  # type: ignore[no-untyped-call]
            yield torch.index_select(self.rows, 0, index), index

    def in_order(self) -> Iterator[Tensor]:
        """See `Batches`."""
        yield self.rows


class WindowedBatches:
    """Batches of windows (n, w) over rows (u, D) that stand in memory; each batch holds a row once, however often it is
    in its windows."""

    def __init__(self, X: FloatArray, windows: NDArray[np.int64], *, device: torch.device, dtype: torch.dtype) -> None:
        self.rows = HeldBatches(X, device=device, dtype=dtype).rows
        self.windows = torch.from_numpy(windows).to(device)
        self.count, self.window = len(windows), 0

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[tuple[Windows, Tensor]]:
        """See `Batches`."""
        order = torch.randperm(self.count, generator=generator).to(self.rows.device)
        for index in order.split(size):  # type: ignore[no-untyped-call]
            yield self._of(self.windows[index]), index

    def in_order(self) -> Iterator[Windows]:
        """See `Batches`."""
        for part_ in self.windows.split(1024):  # type: ignore[no-untyped-call]
            yield self._of(part_)

    def _of(self, windows: Tensor) -> Windows:
        needed, where = torch.unique(windows, return_inverse=True)
        none = int(needed[0] < 0)
        return Windows(torch.index_select(self.rows, 0, needed[none:]), where - none)


class StreamedBatches:
    """Batches of rows that do not fit in memory.

    An epoch shuffles chunks of `CHUNK` neighbouring rows, fills a window with as many chunks as it holds, shuffles its
    rows and hands them out; what is left of a batch goes into the next window, so no row is dropped and none comes
    twice. Rows are read and made ready anew in every epoch.

    Parameters
    ----------
    X : JoinedRows of shape (n, D)
    ready : callable
    device, dtype
        Of the batches, and of the window.
    window_bytes : int
        Rows of a window, counted as float32; a window holds a chunk at least.
    """

    def __init__(
        self, X: JoinedRows, ready: Ready, *, device: torch.device, dtype: torch.dtype, window_bytes: int
    ) -> None:
        self.X, self.ready = X, ready
        self.device, self.dtype = device, dtype
        self.count = len(X)
        self.window = max(window_bytes // (4 * X.shape[1]) // CHUNK, 1) * CHUNK

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Batches`."""
        room = min(self.window, self.count) + size
        rows = torch.empty((room, self.X.shape[1]), dtype=self.dtype, device=self.device)
        numbers = torch.empty(room, dtype=torch.int64, device=self.device)
        chunks = torch.randperm(math.ceil(self.count / CHUNK), generator=generator)
        left = 0
        for first in range(0, len(chunks), self.window // CHUNK):
            chosen = self._rows_of(chunks[first : first + self.window // CHUNK])
            filled = left + len(chosen)
            numbers[left:filled] = torch.from_numpy(chosen)
            self._fill(rows[left:filled], chosen)
            order = torch.randperm(filled, generator=generator).to(self.device)
            last = first + self.window // CHUNK >= len(chunks)
            given = filled if last else filled - filled % size
            for start in range(0, given, size):
                index = order[start : min(start + size, given)]
                yield torch.index_select(rows, 0, index), numbers[index]
            rest = order[given:]
            left = len(rest)
            rows[:left], numbers[:left] = rows[rest], numbers[rest]

    def in_order(self) -> Iterator[Tensor]:
        """See `Batches`."""
        for piece in each_piece(self.X, lambda _, rows: self.ready(rows)):
            yield torch.from_numpy(piece).to(device=self.device, dtype=self.dtype)

    def _rows_of(self, chunks: Tensor) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return the numbers of the rows of some chunks, rising, as a disk likes them."""
        starts = np.sort(chunks.numpy()) * CHUNK
        found = (starts[:, None] + np.arange(CHUNK)).ravel()
        return found[found < self.count]

    def _fill(self, target: Tensor, chosen: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        start = 0
        for piece in each_piece(self.X.take(chosen), lambda _, rows: self.ready(rows)):
            target[start : start + len(piece)] = torch.from_numpy(piece)
            start += len(piece)
