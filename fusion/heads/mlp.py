"""Multilayer perceptrons: on the joined blocks, as the paper has it, or a pool of one set a block."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, ClassVar

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.data.joined import Matrix, columns_of, rows_at
from cer_fusion.fusion.heads.base import Codes, Head, Proba, expect_shape
from cer_fusion.fusion.heads.class_weights import factors
from cer_fusion.fusion.heads.devices import chosen_device, chosen_dtype, side_by_side, threads_set_to
from cer_fusion.fusion.heads.holdout import left_out_rows
from cer_fusion.fusion.heads.log_pool import learned_factors, pooled
from cer_fusion.fusion.heads.mlp_config import Fusion, MLPConfig, Norm, Standardize
from cer_fusion.fusion.heads.perceptrons import Perceptrons
from cer_fusion.fusion.heads.state import HeadState
from numpy.typing import NDArray

logger = logging.getLogger(__name__)


class MLPHead(Head):
    """Multilayer perceptrons trained with PyTorch: on each block alone, their answers pooled, or on the joined blocks.

    On the real faces that it was chosen on, the pool beats both the joined blocks and the best block alone, and
    networks on the joined blocks are no better than on the best block (`benchmarks/RESULTS.md`). The paper's head is
    ``config=MLPConfig.paper()``. Members of one shape differ in first weights and dropout, and their probabilities are
    averaged.

    Predicts with NumPy in float64: a kept head needs no PyTorch and answers the same for one row as for a thousand.

    Rows that stay on the disk (`JoinedRows`) pass through memory in windows of `WINDOW_BYTES`, in a new order every
    epoch (`cer_fusion.fusion.heads.batches`); beside the window, memory holds the network and its optimiser.

    Parameters
    ----------
    blocks : dict of block name to width, optional
        In column order; None is one block.
    fusion, pool_share, hidden, norm, epochs, batch_size, lr, schedule, weight_decay, dropout, standardize,
    label_smoothing, class_weight, logit_adjust, members, early_stop, patience
        `MLPConfig` says what they mean; ``make_head("mlp", config=MLPConfig.paper())`` sets them all.
    precision : {"auto", "float32", "bfloat16"}
        Of the first layer's products while training; all else, the kept weights too, is float32. `auto` takes bfloat16
        on a CPU with instructions for it, where training is about 1.6 times as fast, and float32 elsewhere.
    device : str
        A PyTorch device, or `auto`: a GPU when there is one. The choice is logged and kept in `device_`.
    threads : int, optional
        CPU threads while training; None leaves PyTorch's number. The number used is kept in `threads_`.
    random_state : int, RandomState or None
        With an integer and equal threads, device and library versions, a fit repeats to the bit.

    Attributes
    ----------
    networks_ : list of Perceptrons
        One set for all blocks, or one a block in the order of `blocks_`; each knows its epochs and losses.
    factors_ : ndarray of shape (number of sets,)
        On the log probabilities of each set: what the pool learned that a block is worth.
    """

    name: ClassVar[str] = "mlp"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": asdict(MLPConfig.paper())}
    learns_in_pieces: ClassVar[bool] = True

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        *,
        fusion: Fusion = MLPConfig.fusion,
        pool_share: float = MLPConfig.pool_share,
        hidden: tuple[int, ...] = MLPConfig.hidden,
        norm: Norm = MLPConfig.norm,
        epochs: int = MLPConfig.epochs,
        batch_size: int = MLPConfig.batch_size,
        lr: float = MLPConfig.lr,
        schedule: str = MLPConfig.schedule,
        weight_decay: float = MLPConfig.weight_decay,
        dropout: float = MLPConfig.dropout,
        standardize: Standardize = MLPConfig.standardize,
        label_smoothing: float = MLPConfig.label_smoothing,
        class_weight: Any = MLPConfig.class_weight,
        logit_adjust: float = MLPConfig.logit_adjust,
        members: int = MLPConfig.members,
        early_stop: float = MLPConfig.early_stop,
        patience: int = MLPConfig.patience,
        precision: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        random_state: Any = 0,
    ) -> None:
        self.blocks = blocks
        self.fusion = fusion
        self.pool_share = pool_share
        self.hidden = hidden
        self.norm = norm
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.standardize = standardize
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.logit_adjust = logit_adjust
        self.members = members
        self.early_stop = early_stop
        self.patience = patience
        self.precision = precision
        self.device = device
        self.threads = threads
        self.random_state = random_state

    @property
    def config(self) -> MLPConfig:
        """The settings that `MLPConfig` holds, as one object."""
        return MLPConfig.from_dict({field.name: getattr(self, field.name) for field in fields(MLPConfig)})

    def _fit(self, X: Matrix, codes: Codes) -> None:
        config = self.config
        config.check()
        device = chosen_device(self.device)
        dtype = chosen_dtype(self.precision, device)
        weights = factors(self.class_weight, self.classes_, codes)
        parts = self._parts()
        left_out = None
        if len(parts) > 1 and self.pool_share:
            left_out = left_out_rows(codes, self.members, self.pool_share, seed=self.seed_)

        def fitted(part: Mapping[str, int]) -> Perceptrons:
            return Perceptrons.fit(
                self._columns(X, part), codes, part, config, weights,
                seed=self.seed_, device=device, dtype=dtype, left_out=left_out,
            )  # fmt: skip

        with threads_set_to(self.threads) as self.threads_:
            apart = device.type == "cpu" and isinstance(X, np.ndarray)  # rows on the disk need the memory for one part
            largest_first = sorted(range(len(parts)), key=lambda i: -sum(parts[i].values()))
            made = side_by_side(fitted, [parts[i] for i in largest_first], threads=self.threads_ if apart else 1)
            self.networks_ = [made[largest_first.index(i)] for i in range(len(parts))]
        self.factors_ = np.full(len(parts), 1 / len(parts))
        if left_out is not None and left_out.any():
            self.factors_ = self._learned_factors(X, codes, left_out)
        elif len(parts) > 1:
            logger.info("no rows to learn the pool's factors from: all blocks count alike")
        self.device_, self.precision_ = str(device), str(dtype).removeprefix("torch.")
        self.n_iter_ = max(len(one.losses) for one in self.networks_)

    def _parts(self) -> list[dict[str, int]]:
        """The blocks of each set of networks: all of them, or one a set."""
        if self.fusion == "concat":
            return [dict(self.blocks_)]
        return [{name: width} for name, width in self.blocks_.items()]

    def _columns(self, X: Matrix, part: Mapping[str, int]) -> Matrix:
        return X if len(part) == len(self.blocks_) else columns_of(X, self.blocks_, *part)

    def _learned_factors(self, X: Matrix, codes: Codes, left_out: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return a factor a block, from what members say of rows that they did not learn from."""
        asked = left_out.any(axis=0)
        rows = rows_at(X, asked)
        answers = [
            network.proba(self._columns(rows, part), by=left_out[:, asked])
            for network, part in zip(self.networks_, self._parts(), strict=True)
        ]
        return learned_factors(np.stack(answers), codes[asked])

    def _own_threads(self) -> dict[str, int]:
        return {"torch": self.threads_}

    def _proba(self, X: FloatArray) -> Proba:
        answers = [
            network.proba(self._columns(X, part)) for network, part in zip(self.networks_, self._parts(), strict=True)
        ]
        return answers[0] if len(answers) == 1 else pooled(np.stack(answers), self.factors_)

    def _state(self) -> HeadState:
        own = {"device": self.device_, "precision": self.precision_, "threads": self.threads_}
        if len(self.networks_) == 1:
            return HeadState(values=own) | self.networks_[0].state()
        state = HeadState(arrays={"factors": self.factors_}, values=own)
        for number, network in enumerate(self.networks_):
            state |= network.state().under(f"block{number}")
        return state

    def _restore(self, state: HeadState) -> None:
        config, k, parts = self.config, len(self.classes_), self._parts()
        if len(parts) == 1:
            self.networks_ = [Perceptrons.restored(state, self.blocks_, config, k)]
            self.factors_ = np.ones(1)
        else:
            self.networks_ = [
                Perceptrons.restored(state.member(f"block{number}"), part, config, k)
                for number, part in enumerate(parts)
            ]
            self.factors_ = expect_shape("factors", state.arrays["factors"], (len(parts),))
            if (self.factors_ < 0).any():
                raise ValueError(f"factors must not be negative, got {self.factors_.tolist()}")
        self.device_, self.precision_ = str(state.values["device"]), str(state.values["precision"])
        self.threads_ = int(state.values["threads"])
