"""Heads of networks: their settings, the one loop that trains them all, their answers, and how they are kept.

A head of this kind is a subclass of `NetworkHead` that says what its network looks like.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

import numpy as np
import torch
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.data.joined import Matrix, columns_of, each_piece
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import Codes, Head, Proba, expect_shape
from cer_fusion.fusion.heads.batches import Batches, batches_of, part
from cer_fusion.fusion.heads.class_weights import factors
from cer_fusion.fusion.heads.devices import chosen_device, side_by_side, threads_set_to
from cer_fusion.fusion.heads.holdout import held_out
from cer_fusion.fusion.heads.layers import Dropout, Network
from cer_fusion.fusion.heads.ranges import not_negative, one_of, share, whole
from cer_fusion.fusion.heads.scaling import BlockScaler, Standardize
from cer_fusion.fusion.heads.state import HeadState
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.adamw import adamw

ANSWERED: Final = 1024
"""Rows answered at a time."""

WARM_UP: Final = 0.05
"""Share of the steps over which the schedule `cosine` raises the learning rate."""


@dataclass(kw_only=True, eq=False, repr=False)
class NetworkHead(Head):
    """A head whose networks PyTorch trains; members' probabilities are averaged.

    A subclass names its network and its own settings; `MLPConfig` explains those of training, which all have. All learn
    from rows that stay on the disk (`JoinedRows`) too: they pass through memory in windows, in a new order every epoch
    (`cer_fusion.fusion.heads.batches`); beside the window, memory holds the network and its optimiser. Answers are
    computed on the CPU in float64 by the network that was trained: the same for one row as for a thousand, up to the
    last digits.

    Attributes
    ----------
    networks_ : list of TrainedNetwork
        One for all blocks, or one a part of them; each knows its epochs and losses.
    device_, threads_ : str, int
        Where the head was trained, and with how many CPU threads.
    """

    learns_in_pieces: ClassVar[bool] = True

    blocks: Mapping[str, int] | None = field(default=None, kw_only=False)
    """Block name to width in column order; None is one block."""

    epochs: int = 15
    batch_size: int = 128
    lr: float = 1e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = 1e-2
    dropout: float = 0.5
    standardize: Standardize = "power"
    label_smoothing: float = 0.1
    class_weight: Any = None
    logit_adjust: float = 0.5
    members: int = 4
    early_stop: float = 0.0
    patience: int = 10

    device: str = "auto"
    """A PyTorch device, or `auto`: a GPU when there is one. The choice is logged and kept in `device_`."""

    threads: int | None = None
    """CPU threads while training; None leaves PyTorch's number. The number used is kept in `threads_`."""

    random_state: Any = 0
    """With an integer and equal threads, device and library versions, a fit on a CPU repeats to the bit."""

    @abstractmethod
    def _network(self, widths: Mapping[str, int], classes: int) -> Network:
        """Return the network for blocks of these widths, its weights not yet drawn; refuse settings it cannot have."""

    def _check(self) -> None:
        """Refuse settings of training outside their range."""
        for name in ("epochs", "batch_size", "patience", "members"):
            whole(name, getattr(self, name))
        for name in ("dropout", "label_smoothing", "early_stop"):
            share(name, getattr(self, name))
        for name in ("lr", "weight_decay", "logit_adjust"):
            not_negative(name, getattr(self, name))
        one_of("schedule", self.schedule, ("constant", "cosine"))

    def _parts(self) -> list[dict[str, int]]:
        """Return the blocks that each of the head's networks sees."""
        return [self.blocks_]

    def _products(self, device: torch.device) -> torch.dtype:
        """Return the type in which rows enter the network while training."""
        return torch.float32

    def _fit(self, X: Matrix, codes: Codes) -> None:
        self._check()
        self.networks_ = self._trained(X, codes)

    def _trained(self, X: Matrix, codes: Codes, left_out: NDArray[np.bool_] | None = None) -> list[TrainedNetwork]:
        """Return a trained network a part, several at a time where there are threads for them.

        `left_out` (members, n) names rows that a member does not learn from.
        """
        device = chosen_device(self.device)
        dtype = self._products(device)
        weights = factors(self.class_weight, self.classes_, codes)
        parts = self._parts()

        def trained(number: int) -> TrainedNetwork:
            widths = parts[number]
            scaler = BlockScaler(self.standardize, widths).fit(columns := self._columns(X, widths))
            network = self._network(widths, len(self.classes_))
            return train(
                network, columns, scaler, codes, self, weights,
                seed=self.seed_, device=device, dtype=dtype, left_out=left_out,
            )  # fmt: skip

        with threads_set_to(self.threads) as self.threads_:
            apart = device.type == "cpu" and isinstance(X, np.ndarray)  # rows on the disk need the memory for one part
            largest_first = sorted(range(len(parts)), key=lambda number: -sum(parts[number].values()))
            made = side_by_side(trained, largest_first, threads=self.threads_ if apart else 1)
        self.device_ = str(device)
        self.n_iter_ = max(len(one.losses) for one in made)
        return [made[largest_first.index(number)] for number in range(len(parts))]

    def _columns(self, X: Matrix, widths: Mapping[str, int]) -> Matrix:
        return X if len(widths) == len(self.blocks_) else columns_of(X, self.blocks_, *widths)

    def _answers(self, X: Matrix, by: NDArray[np.bool_] | None = None) -> list[Proba]:
        """Return each network's probabilities (n, k), of all members or of those that `by` (members, n) names."""
        parts = zip(self.networks_, self._parts(), strict=True)
        return [network.proba(self._columns(X, widths), by) for network, widths in parts]

    def _proba(self, X: FloatArray) -> Proba:
        return self._answers(X)[0]

    def _own_threads(self) -> dict[str, int]:
        return {"torch": self.threads_}

    def _state(self) -> HeadState:
        state = HeadState(values={"device": self.device_, "threads": self.threads_})
        if len(self.networks_) == 1:
            return state | self.networks_[0].state()
        for number, network in enumerate(self.networks_):
            state |= network.state().under(f"block{number}")
        return state

    def _restore(self, state: HeadState) -> None:
        parts = self._parts()
        states = [state] if len(parts) == 1 else [state.member(f"block{number}") for number in range(len(parts))]
        self.networks_ = [self._restored(one, widths) for one, widths in zip(states, parts, strict=True)]
        self.device_, self.threads_ = str(state.values["device"]), int(state.values["threads"])

    def _restored(self, state: HeadState, widths: Mapping[str, int]) -> TrainedNetwork:
        """Return the network that `state` is of; what does not fit is refused before memory is taken for it."""
        scaler = BlockScaler(self.standardize, widths).restore(state.arrays)
        try:
            with torch.device("meta"):
                network = self._network(widths, len(self.classes_))
        except (RuntimeError, TypeError) as error:  # more numbers than PyTorch can count
            raise ValueError(f"there is no network of these settings: {str(error).splitlines()[0]}") from error
        for path, module in network.named_modules():
            for name, expected in module.named_parameters(recurse=False):
                key = ".".join(one for one in ("network", path, name) if one)
                if key not in state.arrays:
                    raise ValueError(f"there is no array {key!r}: what was kept is another network; train it again")
                array = expect_shape(key, state.arrays[key], tuple(expected.shape)).astype(np.float32)
                setattr(module, name, nn.Parameter(torch.from_numpy(array)))
        return TrainedNetwork(network, scaler, epochs=int(state.values["epochs"]), window=int(state.values["window"]))


class TrainedNetwork:
    """A network after its training, and what its rows go through first.

    Attributes
    ----------
    network : Network
        In float64, on the CPU.
    scaler : BlockScaler
    epochs : int
        Epochs that the kept weights have seen.
    losses : list of float
        Mean training loss of each epoch; empty when read back.
    window : int
        Rows that were shuffled at a time; 0 where all of them were.
    """

    def __init__(
        self, network: Network, scaler: BlockScaler, *, epochs: int, window: int, losses: Sequence[float] = ()
    ) -> None:
        self.network = network.to("cpu", torch.float64).requires_grad_(False)
        self.scaler = scaler
        self.epochs, self.window, self.losses = epochs, window, list(losses)

    def proba(self, X: Matrix, by: NDArray[np.bool_] | None = None) -> Proba:
        """Return probabilities (n, k) of rows (n, d), lazy ones piece by piece.

        They are averaged over all members, or over those that `by` (members, n), with one a row at least, names.
        """

        def averaged(rows: Tensor, where: slice) -> Tensor:
            proba = self.network.logits(rows).softmax(-1)  # (m, b, k)
            if by is None:
                return proba.mean(0)
            named = torch.from_numpy(by[:, where])[..., None]
            return (proba * named).sum(0) / named.sum(0)

        return self.asked(X, averaged)

    def asked(self, X: Matrix, question: Callable[[Tensor, slice], Tensor]) -> NDArray[np.float64]:
        """Return what `question` says of scaled rows (b, d) float64 and their places in X; joined along its rows."""
        found = []
        for first, piece in each_piece(X, lambda first, rows: (first, rows)):
            for start in range(0, len(piece), ANSWERED):
                rows = self.scaler.transform(piece[start : start + ANSWERED]).astype(np.float64)
                where = slice(first + start, first + start + len(rows))
                with torch.no_grad():
                    found.append(question(torch.from_numpy(rows), where).numpy())
        return np.concatenate(found)

    def state(self) -> HeadState:
        """Return what must be kept: weights as they were trained, in float32."""
        weights = {f"network.{name}": one.numpy() for name, one in self.network.named_parameters()}
        return HeadState(
            arrays={**{name: one.astype(np.float32) for name, one in weights.items()}, **self.scaler.state()},
            values={"epochs": self.epochs, "window": self.window},
        )


def train(
    network: Network,
    X: Matrix,
    scaler: BlockScaler,
    codes: Codes,
    settings: NetworkHead,
    class_weights: NDArray[np.float64],
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    left_out: NDArray[np.bool_] | None = None,
) -> TrainedNetwork:
    """Draw a network's first weights and train it; each member has the loss of its own answers, as if it were alone.

    Parameters
    ----------
    network : Network
        Is changed.
    X, codes : rows of shape (n, d) and array of shape (n,)
        Rows, an array or lazy ones, and classes 0..k-1.
    scaler : BlockScaler
        Fitted on X.
    settings : NetworkHead
        Its settings of training.
    class_weights : ndarray of shape (k,)
        Factor on each class's loss.
    seed : int
        Of weights, batches and dropout. With the same number of threads, on a CPU, the result repeats to the bit.
    device, dtype
        Where to train, and the type in which rows enter the network; weights are float32.
    left_out : bool array of shape (members, n), optional
        Rows that a member does not learn from.

    Raises
    ------
    HeadConfigError
        If the loss of an epoch is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    network.draw_all(generator)
    network.to(device)
    kept = held_out(codes, settings.early_stop, seed=seed) if settings.early_stop else np.zeros(len(codes), bool)
    rows = batches_of(part(X, ~kept), scaler.transform, device=device, dtype=dtype)
    watch = None
    if kept.any():
        watch = Watch(batches_of(part(X, kept), scaler.transform, device=device, dtype=dtype), codes[kept], device)
    loss = CrossEntropy(codes[~kept], class_weights, settings.label_smoothing, settings.logit_adjust, device)
    counts = None
    if left_out is not None:
        learned = torch.from_numpy(~left_out[:, ~kept]).to(device=device, dtype=torch.float32)
        counts = learned / learned.mean(1, keepdim=True)
    drop = Dropout(settings.dropout, torch.Generator(device=device).manual_seed(seed))
    optimizer = AdamW(network, settings.weight_decay, device)
    batch = min(settings.batch_size, rows.count)
    steps, step, losses = math.ceil(rows.count / batch) * settings.epochs, 0, []
    for epoch in range(settings.epochs):
        total = torch.zeros((), device=device)
        for taken, index in rows.shuffled(batch, generator):
            logits = network(taken, drop)
            value, gradient = loss(logits.detach(), index, counts)
            torch.autograd.backward(logits, gradient)
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
        if watch is not None and watch.stops(network, epoch, settings.patience):
            break
    if watch is not None:
        network.load_state_dict(watch.best)
    epochs = watch.best_epoch + 1 if watch else len(losses)
    return TrainedNetwork(network, scaler, epochs=epochs, window=rows.window, losses=losses)


class CrossEntropy:
    """Weighted cross-entropy with smoothed targets and adjusted logits, and its gradient.

    `MLPConfig` explains smoothing and adjustment; `class_weights` (k,) are brought to a mean of one over the training
    rows, whose classes 0..k-1 are `codes` (n,).
    """

    def __init__(
        self,
        codes: Codes,
        class_weights: NDArray[np.float64],
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


class Watch:
    """Early stopping: rows kept aside, the best weights seen on them, and the epoch, from 0, that these are of."""

    def __init__(self, rows: Batches, codes: Codes, device: torch.device) -> None:
        self.rows = rows
        self.codes = torch.from_numpy(codes).to(device)
        self.best_loss, self.best_epoch = math.inf, 0
        self.best: dict[str, Tensor] = {}

    def stops(self, network: Network, epoch: int, patience: int) -> bool:
        """Look at the log loss of the averaged members, and say whether it is time to stop."""
        proba = torch.cat([network.logits(rows).softmax(-1).mean(0) for rows in self.rows.in_order()])
        chosen = proba.gather(1, self.codes[:, None])
        loss = float(-chosen.clamp_min(1e-12).log().mean())
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


def _cosine(step: int, steps: int) -> float:
    rise = min(1.0, (step + 1) / max(1.0, WARM_UP * steps))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))
