"""The paper's head: concatenation, multilayer perceptron, softmax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any, ClassVar, Final

import numpy as np

from fusion.blocks import FloatArray
from fusion.heads.base import Codes, Head, Proba, expect_shape, softmax
from fusion.heads.class_weights import factors
from fusion.heads.devices import chosen_device, chosen_dtype, threads_set_to
from fusion.heads.mlp_config import MLPConfig, Standardize
from fusion.heads.mlp_training import train
from fusion.heads.scaling import BlockScaler
from fusion.heads.state import HeadState
from fusion.joined import Matrix

CHUNK: Final = 4096
"""Rows predicted at a time."""


class MLPHead(Head):
    """Multilayer perceptrons on the joined blocks, trained with PyTorch, their probabilities averaged.

    Predicts with NumPy in float64: a kept head needs no PyTorch and answers the same for one row as for a thousand.

    Rows that stay on the disk (`JoinedRows`) pass through memory in windows of `WINDOW_BYTES`, in a new order every
    epoch (`fusion.heads.mlp_batches`); beside the window, memory holds the network and its optimiser.

    Parameters
    ----------
    blocks : dict of block name to width, optional
        In column order; None is one block.
    hidden, epochs, batch_size, lr, schedule, weight_decay, dropout, standardize, label_smoothing, class_weight,
    logit_adjust, members, early_stop, patience
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
    epochs_ : int
        Epochs that the kept weights have seen.
    losses_ : list of float
        Mean training loss of each epoch.
    window_ : int
        Rows that were shuffled at a time; 0 where all of them were.
    """

    name: ClassVar[str] = "mlp"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": asdict(MLPConfig.paper())}
    learns_in_pieces: ClassVar[bool] = True

    def __init__(
        self,
        blocks: Mapping[str, int] | None = None,
        *,
        hidden: tuple[int, ...] = MLPConfig.hidden,
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
        self.hidden = hidden
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
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).fit(X)
        with threads_set_to(self.threads) as self.threads_:
            trained = train(
                X, self.scaler_.transform, codes, config, weights, seed=self.seed_, device=device, dtype=dtype
            )
        self.device_, self.precision_ = str(device), str(dtype).removeprefix("torch.")
        self.epochs_, self.losses_, self.window_ = trained.epochs, trained.losses, trained.window
        self.weights_ = [trained.first, *trained.later]
        self.biases_ = trained.biases
        self.n_iter_ = len(trained.losses)

    def _own_threads(self) -> dict[str, int]:
        return {"torch": self.threads_}

    def _proba(self, X: FloatArray) -> Proba:
        first, *later = (weight.astype(np.float64) for weight in self.weights_)
        members = len(self.biases_[1]) if later else len(first) // len(self.classes_)
        parts = []
        for start in range(0, len(X), CHUNK):
            rows = self.scaler_.transform(X[start : start + CHUNK]).astype(np.float64)
            z = rows @ first.T + self.biases_[0]
            z = z.reshape(len(rows), members, -1).transpose(1, 0, 2)  # (b, m * h) -> (m, b, h)
            for weight, bias in zip(later, self.biases_[1:], strict=True):
                z = np.maximum(z, 0) @ weight + bias
            parts.append(np.asarray(softmax(z).mean(axis=0)))
        return np.concatenate(parts)

    def _state(self) -> HeadState:
        named = [*((f"weight{i}", w) for i, w in enumerate(self.weights_))]
        named += [(f"bias{i}", b) for i, b in enumerate(self.biases_)]
        values = {
            "device": self.device_, "precision": self.precision_, "threads": self.threads_, "epochs": self.epochs_,
            "window": self.window_,
        }  # fmt: skip
        return HeadState(arrays={**dict(named), **self.scaler_.state()}, values=values)

    def _restore(self, state: HeadState) -> None:
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).restore(state.arrays)
        widths = [*self.hidden, len(self.classes_)]
        members, arrays = self.members, state.arrays
        shapes: list[tuple[int, ...]] = [(members * widths[0], self.n_features_in_)]
        shapes += [(members, a, b) for a, b in pairwise(widths)]
        self.weights_ = [expect_shape(f"weight{i}", arrays[f"weight{i}"], shape) for i, shape in enumerate(shapes)]
        outs: list[tuple[int, ...]] = [(members * widths[0],), *((members, 1, width) for width in widths[1:])]
        self.biases_ = [expect_shape(f"bias{i}", arrays[f"bias{i}"], shape) for i, shape in enumerate(outs)]
        values = state.values
        self.device_, self.precision_ = str(values["device"]), str(values["precision"])
        self.threads_, self.epochs_ = int(values["threads"]), int(values["epochs"])
        self.window_ = int(values.get("window", 0))  # heads of format version 1 knew no windows
