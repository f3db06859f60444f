"""Fitted perceptrons on one set of columns: a scaler, the layers of all members, and their averaged answer in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import numpy as np
import torch
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.data.joined import Matrix, each_piece
from cer_fusion.fusion.heads.base import Codes, Proba, expect_shape, softmax
from cer_fusion.fusion.heads.mlp_config import MLPConfig
from cer_fusion.fusion.heads.mlp_network import NORM_FLOOR
from cer_fusion.fusion.heads.mlp_training import train
from cer_fusion.fusion.heads.scaling import BlockScaler
from cer_fusion.fusion.heads.state import HeadState
from numpy.typing import NDArray

CHUNK: Final = 4096
"""Rows answered at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Perceptrons:
    """Members of one shape, fitted on the same columns."""

    scaler: BlockScaler
    """What the columns go through first."""
    members: int
    """Networks side by side."""
    weights: list[FloatArray]
    """First layers (members * width, inputs), then the other layers (members, width_in, width_out)."""
    biases: list[FloatArray]
    """Of the first layers (members * width,), then of the others (members, 1, width_out)."""
    scales: list[FloatArray]
    """Of the normalised hidden layers (members, 1, width); none where they are not normalised."""
    shifts: list[FloatArray]
    """As the scales."""
    epochs: int
    """Epochs that the kept weights have seen."""
    window: int
    """Rows that were shuffled at a time; 0 where all of them were."""
    losses: tuple[float, ...] = ()
    """Mean training loss of each epoch; empty when read back."""

    @classmethod
    def fit(
        cls,
        X: Matrix,
        codes: Codes,
        widths: Mapping[str, int],
        config: MLPConfig,
        class_weights: NDArray[np.float64],
        *,
        seed: int,
        device: torch.device,
        dtype: torch.dtype,
        left_out: NDArray[np.bool_] | None = None,
    ) -> Self:
        """Train on rows (n, d) of blocks of these widths and class codes (n,); `mlp_training.train` says the rest."""
        scaler = BlockScaler(config.standardize, widths).fit(X)
        trained = train(
            X, scaler.transform, codes, config, class_weights, seed=seed, device=device, dtype=dtype, left_out=left_out
        )
        return cls(
            scaler=scaler,
            members=config.members,
            weights=[trained.first, *trained.later],
            biases=trained.biases,
            scales=trained.scales,
            shifts=trained.shifts,
            epochs=trained.epochs,
            window=trained.window,
            losses=tuple(trained.losses),
        )

    def proba(self, X: Matrix, by: NDArray[np.bool_] | None = None) -> Proba:
        """Return probabilities (n, k) of rows (n, d), lazy ones piece by piece.

        They are averaged over all members, or over those that `by` (members, n), with one a row at least, names.
        """

        def averaged(start: int, rows: FloatArray) -> Proba:
            answers = self._answered(rows)
            if by is None:
                return np.asarray(answers.mean(axis=0))
            named = by[:, start : start + len(rows), None]
            return np.asarray(answers.sum(axis=0, where=named) / named.sum(axis=0))

        return np.concatenate(
            [
                averaged(first + start, piece[start : start + CHUNK])
                for first, piece in each_piece(X, lambda first, rows: (first, rows))
                for start in range(0, len(piece), CHUNK)
            ]
        )

    def state(self) -> HeadState:
        """Return what must be kept."""
        named = [*((f"weight{i}", w) for i, w in enumerate(self.weights))]
        named += [(f"bias{i}", b) for i, b in enumerate(self.biases)]
        named += [(f"scale{i}", s) for i, s in enumerate(self.scales)]
        named += [(f"shift{i}", s) for i, s in enumerate(self.shifts)]
        return HeadState(
            arrays={**dict(named), **self.scaler.state()}, values={"epochs": self.epochs, "window": self.window}
        )

    @classmethod
    def restored(cls, state: HeadState, widths: Mapping[str, int], config: MLPConfig, k: int) -> Self:
        """Take back what `state` returned, refusing shapes that do not belong to the settings."""
        arrays, values, members = state.arrays, state.values, config.members
        outs = [*config.hidden, k]
        shapes: list[tuple[int, ...]] = [(members * outs[0], sum(widths.values()))]
        shapes += [(members, a, b) for a, b in pairwise(outs)]
        of_biases: list[tuple[int, ...]] = [(members * outs[0],), *((members, 1, width) for width in outs[1:])]
        of_norms: list[tuple[int, ...]] = [(members, 1, width) for width in config.hidden if config.norm == "layer"]
        return cls(
            scaler=BlockScaler(config.standardize, widths).restore(arrays),
            members=members,
            weights=[expect_shape(f"weight{i}", arrays[f"weight{i}"], shape) for i, shape in enumerate(shapes)],
            biases=[expect_shape(f"bias{i}", arrays[f"bias{i}"], shape) for i, shape in enumerate(of_biases)],
            scales=[expect_shape(f"scale{i}", arrays[f"scale{i}"], shape) for i, shape in enumerate(of_norms)],
            shifts=[expect_shape(f"shift{i}", arrays[f"shift{i}"], shape) for i, shape in enumerate(of_norms)],
            epochs=int(values["epochs"]),
            window=int(values.get("window", 0)),  # heads of format version 1 knew no windows
        )

    def _answered(self, X: FloatArray) -> NDArray[np.float64]:
        """Return each member's probabilities (members, b, k) of rows (b, d)."""
        first, *later = (weight.astype(np.float64) for weight in self.weights)
        rows = self.scaler.transform(X).astype(np.float64)
        z = rows @ first.T + self.biases[0]
        z = z.reshape(len(rows), self.members, -1).transpose(1, 0, 2)  # (b, m * h) -> (m, b, h)
        for number, (weight, bias) in enumerate(zip(later, self.biases[1:], strict=True)):
            if self.scales:
                z = normalized(z) * self.scales[number] + self.shifts[number]
            z = np.maximum(z, 0) @ weight + bias
        return softmax(z)


def normalized(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows (..., d) with mean 0 and variance 1, as the networks were trained with them."""
    apart = z - z.mean(axis=-1, keepdims=True)
    return np.asarray(apart / np.sqrt(np.square(apart).mean(axis=-1, keepdims=True) + NORM_FLOOR))
