"""Heads of networks: their settings, where they are trained, their answers, and how they are kept.

A head of this kind is a subclass of `NetworkHead` that says what its network looks like.
"""

from __future__ import annotations

import copy
import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.blocks import FloatArray
from ..data.joined import Matrix, columns_of, each_piece
from ..errors import HeadConfigError, HeadDataError
from .base import Codes, Head, HeadState, Proba, RowInfo, expect_shape
from .basics import Pool, check_curriculum, pool_of, stages_of
from .layers import Joined, Linear, Network
from .scaling import BlockScaler
from .settings import Standardize, factors, not_negative, one_of, share, threads_of, whole
from .training import Course, held_out, train

A = TypeVar("A")
B = TypeVar("B")

logger = logging.getLogger(__name__)

ANSWERED: Final = 1024
"""Rows answered at a time."""


@dataclass(kw_only=True, eq=False, repr=False)
class NetworkHead(Head):
    """A head whose networks PyTorch trains; members' probabilities are averaged.

    A subclass names its network and its own settings; `MLPConfig` explains those of training, which all have. All learn
    from rows that stay on the disk (`JoinedRows`) too: they pass through memory in windows, in a new order every epoch
    (`cer_fusion.fusion.heads.training`); beside the window, memory holds the network and its optimiser. Answers are
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
    weighs_rows: ClassVar[bool] = True
    learns_soft_labels: ClassVar[bool] = True
    learns_basic: ClassVar[bool] = True
    computes_with: ClassVar[tuple[str, ...]] = ("torch",)

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

    curriculum: tuple[tuple[int, float], ...] | int = ()
    """From single to compound expressions: stages of epochs and the share of compounds among the rows that they show,
    the others being basic ones; [[5, 0], [5, 0.2], [3, 0.4], [3, 1]] are those of Netease Fuxi. In place of `epochs`;
    each stage has a schedule of its own. A whole number: so many epochs of basic expressions alone, then `epochs` of
    compounds. Needs rows of basic expressions (`cer_fusion.fusion.heads.basics`)."""

    mixed_compounds: float = 0.0
    """Rows mixed of two basic ones for every row of a compound; 0 mixes none. Needs rows of basic expressions."""

    mix_spread: float = 0.3
    """How far mixtures stray from halves: lambda lies within half of it about 0.5, in [0, 1]."""

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
        check_curriculum(self.curriculum, self.mixed_compounds, self.mix_spread)

    def _wants_basic(self) -> bool:
        return bool(self.curriculum) or self.mixed_compounds != 0

    def _parts(self) -> list[dict[str, int]]:
        """Return the blocks that each of the head's networks sees."""
        return [self.blocks_]

    def _products(self, device: torch.device) -> torch.dtype:
        """Return the type in which rows enter the network while training."""
        return torch.float32

    def _pull(
        self,
        network: Network,
        codes: Codes,
        info: RowInfo,
        device: torch.device,
        left_out: NDArray[np.bool_] | None = None,
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None:
        """Return a further loss, of hidden units and the training rows that they are of; None for none."""
        return None

    def _fit(self, X: Matrix, codes: Codes, info: RowInfo) -> None:
        self._check()
        self.networks_ = self._trained(X, codes, info)

    def _keeps_aside(self) -> bool:
        return bool(self.early_stop)

    def _trained(
        self, X: Matrix, codes: Codes, info: RowInfo, left_out: NDArray[np.bool_] | None = None
    ) -> list[TrainedNetwork]:
        """Return a trained network a part, several at a time where there are threads for them.

        `left_out` (members, n) names rows that a member does not learn from.
        """
        device = chosen_device(self.device)
        dtype = self._products(device)
        weights = factors(self.class_weight, self.classes_, codes, info.soft)
        parts, pool, windows = self._parts(), self._pool(X, codes, info), self._windows(info)

        def trained(number: int) -> TrainedNetwork:
            widths = parts[number]
            scaler = BlockScaler(self.standardize, widths).fit(columns := self._columns(X, widths))
            if pool is not None:
                return self._schooled(pool, scaler, codes, weights, info, number, device, dtype, left_out, windows)
            network = self._network(widths, len(self.classes_))
            course = train(
                network, columns, scaler.transform, codes, self, weights,
                info=info, seed=_seed_of(self.seed_, number), device=device, dtype=dtype, left_out=left_out,
                pull=self._pull(network, codes, info, device, left_out), windows=windows,
            )  # fmt: skip
            return TrainedNetwork(network, scaler, course)

        with torch.inference_mode(False), torch.enable_grad(), threads_set_to(self.threads) as self.threads_:
            apart = device.type == "cpu" and isinstance(X, np.ndarray)  # rows on the disk need the memory for one part
            largest_first = sorted(range(len(parts)), key=lambda number: -sum(parts[number].values()))
            made = side_by_side(trained, largest_first, threads=self.threads_ if apart else 1)
        self.device_ = str(device)
        self.n_iter_ = max(len(one.course.losses) for one in made)
        return [made[largest_first.index(number)] for number in range(len(parts))]

    def _windows(self, info: RowInfo) -> NDArray[np.int64] | None:
        """Return the rows (n, w) around each row, for heads over time; None for none."""
        return None

    def _pool(self, X: Matrix, codes: Codes, info: RowInfo) -> Pool | None:
        """Return the rows of a curriculum; None where the settings have none."""
        if not self._wants_basic():
            return None
        if info.basic is None:
            raise HeadDataError(
                f"curriculum={self.curriculum!r} and mixed_compounds={self.mixed_compounds!r} learn from rows of basic "
                f"expressions, however: head {self.name!r} was given none\n  give them: fit(…, basic=BasicRows(X=…, "
                "y=…, pairs=…)), or --basic DATASET"
            )
        if not isinstance(X, np.ndarray):
            raise HeadDataError("a curriculum is of rows in memory, however: these stay on the disk\n  load them")
        basic = info.basic.checked(X.shape[1], keeps_aside=self._keeps_aside())
        return pool_of(
            X, info.shares(codes, len(self.classes_)), info.weights, self.classes_, basic,
            stages=stages_of(self.curriculum, self.epochs),
            mixed=self.mixed_compounds, spread=self.mix_spread, seed=self.seed_,
        )  # fmt: skip

    def _schooled(
        self,
        pool: Pool,
        scaler: BlockScaler,
        codes: Codes,
        weights: NDArray[np.float64],
        info: RowInfo,
        number: int,
        device: torch.device,
        dtype: torch.dtype,
        left_out: NDArray[np.bool_] | None,
        windows: NDArray[np.int64] | None,
    ) -> TrainedNetwork:
        """Return a network that went through the stages of a curriculum, its answers to basic classes cut off.

        Rows are kept aside of the compounds' own, and no stage learns from them; the last one stops early by them.
        """
        n, N, k = len(codes), len(pool.X), len(self.classes_)
        extra = np.arange(n, N)
        if left_out is not None:
            left_out = np.hstack([left_out, np.zeros((len(left_out), N - n), np.bool_)])
        if windows is not None:
            alone = np.full((N - n, windows.shape[1]), -1)
            alone[:, self._own_slot()] = extra
            windows = np.vstack([windows, alone])
        aside = np.zeros(N, np.bool_)
        if self.early_stop:
            aside[:n] = held_out(codes, self.early_stop, seed=self.seed_, groups=info.groups)
        known, own = RowInfo(soft=pool.soft, weights=pool.weights), pool.soft.argmax(axis=1)
        network = self._network(scaler.widths, k + pool.basics)
        # neighbours are of a class, basic ones too, or of votes where there are any: a mixed row is of its larger part
        pull = self._pull(network, own, RowInfo() if info.soft is None else known, device, left_out)
        columns, losses = self._columns(pool.X, scaler.widths), []
        for stage, (epochs, shown) in enumerate(pool.stages):
            settings, last = copy.copy(self), stage + 1 == len(pool.stages)
            settings.epochs, settings.early_stop = epochs, self.early_stop if last else 0.0
            course = train(
                network, columns, scaler.transform, own, settings,
                np.concatenate([weights, np.ones(pool.basics)]), info=known,
                seed=_seed_of(_seed_of(self.seed_, number), stage), device=device, dtype=dtype, left_out=left_out,
                pull=pull, windows=windows, shown=shown & ~aside, aside=aside, begin=not stage, first=k,
            )  # fmt: skip
            losses += course.losses
        epochs = len(losses) - len(course.losses) + course.epochs
        return TrainedNetwork(_cut(network, k), scaler, replace(course, epochs=epochs, losses=losses))

    def _own_slot(self) -> int:
        """Return the place of a row in its own window."""
        return 0

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
        course = Course(epochs=int(state.values["epochs"]), losses=[], window=int(state.values["window"]))
        return TrainedNetwork(network, scaler, course)


class TrainedNetwork:
    """A network after its training, in float64 on the CPU, what its rows go through first, and how the training went.

    The course of one that was read back has no losses.
    """

    def __init__(self, network: Network, scaler: BlockScaler, course: Course) -> None:
        self.network = network.to("cpu", torch.float64).requires_grad_(False)
        self.scaler, self.course = scaler, course

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
            values={"epochs": self.course.epochs, "window": self.course.window},
        )


def _cut(network: Network, k: int) -> Network:
    """Cut off the answers of a network after the first k."""
    answer = network.answer
    if isinstance(answer, Joined):  # (m * outputs, inputs)
        members, inputs = len(answer.bias), answer.weight.shape[1]
        answer.weight = nn.Parameter(
            answer.weight.detach().view(members, -1, inputs)[:, :k].reshape(-1, inputs).clone()
        )
    else:
        assert isinstance(answer, Linear)
        answer.weight = nn.Parameter(answer.weight.detach()[:, :, :k].clone())
    answer.bias = nn.Parameter(answer.bias.detach()[:, :, :k].clone())
    return network


def _seed_of(seed: int, number: int) -> int:
    """Return the seed of a head's network: of the first the head's own, of others one that follows from it."""
    return seed if number == 0 else int(np.random.SeedSequence((abs(seed), number)).generate_state(1)[0])


def chosen_device(device: str) -> torch.device:
    """Return the PyTorch device that a word names, refusing one that is not there.

    Raises
    ------
    HeadConfigError
        If PyTorch knows no such device, or cannot use it here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        logger.info("training on %s (device='auto')", device)
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:  # CPU builds assert; what has no kernels raises a RuntimeError
        raise HeadConfigError(
            f"cannot train on device {device!r}: {error}\n  the device may be cpu, or auto, which takes what there is"
        ) from error
    return found


@contextmanager
def threads_set_to(threads: int | None) -> Iterator[int]:
    """Compute with so many threads inside the block, and with as many as before after it.

    None leaves PyTorch's number, unless this process may use fewer cores.
    """
    before = torch.get_num_threads()
    if threads_of(threads, before) != before:
        torch.set_num_threads(threads_of(threads, before))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def side_by_side(fit: Callable[[A], B], parts: Sequence[A], *, threads: int) -> list[B]:
    """Return what `fit` makes of each part: rounds of as many parts as there are threads, then the rest share them.

    Threads that share every product wait for each other thousands of times a fit, and beside other work on the machine
    for whichever the system holds up; threads with a part of their own wait once. Parts of a round should be of a size.
    """
    made: list[B] = []
    while len(made) < len(parts):
        together = parts[len(made) : len(made) + threads]
        made += _at_once(fit, together, threads // len(together)) if len(together) > 1 else [fit(together[0])]
    return made


def _at_once(fit: Callable[[A], B], parts: Sequence[A], threads: int) -> list[B]:
    """Fit all of these parts at the same time, each with so many of PyTorch's threads."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(len(parts), initializer=torch.set_num_threads, initargs=(threads,))
    try:
        return list(pool.map(fit, parts))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # who interrupts does not wait for the fits under way
        torch.set_num_threads(before)  # what a thread sets for itself, threads to come begin with too
