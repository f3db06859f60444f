"""Multilayer perceptrons: on the joined blocks, as the paper has it, or a pool of one set a block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar, Final, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.blocks import FloatArray
from ..data.joined import Matrix, rows_at
from ..errors import HeadConfigError
from .base import Codes, HeadState, Proba, RowInfo, expect_shape, softmax
from .layers import Drop, HiddenNetwork, Joined, Linear, Network, Norm
from .locality import Locality
from .networks import NetworkHead
from .settings import Fusion, MLPConfig, Normalization, not_negative, one_of, whole
from .training import member_counts
from .weights import SMALLEST, likeliest_factors, stratified_folds

logger = logging.getLogger(__name__)

MOST_LAYERS: Final = 64

NOTHING: Final = 1e-3
"""A sum of factors under this says that no block knows anything; then all count alike."""


@dataclass(kw_only=True, eq=False, repr=False)
class MLPHead(NetworkHead):
    """Multilayer perceptrons: on each block alone, their answers pooled, or on the joined blocks.

    On the real faces that it was chosen on, the pool beats both the joined blocks and the best block alone, and
    networks on the joined blocks are no better than on the best block (`benchmarks/RESULTS.md`). The paper's head is
    ``config=MLPConfig.paper()``. Members of one shape differ in first weights and dropout, and their probabilities are
    averaged.

    `MLPConfig` explains the settings that it holds, `NetworkHead` the others and the attributes.

    Attributes
    ----------
    networks_ : list of TrainedNetwork
        One for all blocks, or one a block in the order of `blocks_`.
    factors_ : ndarray of shape (number of networks,)
        On the log probabilities of each network: what the pool learned that a block is worth.
    precision_ : str
        Type of the first layer's products.
    """

    name: ClassVar[str] = "mlp"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": asdict(MLPConfig.paper())}

    fusion: Fusion = MLPConfig.fusion
    pool_share: float = MLPConfig.pool_share
    hidden: tuple[int, ...] = MLPConfig.hidden
    norm: Normalization = MLPConfig.norm
    weight_decay: float = MLPConfig.weight_decay

    locality: float = 0.0
    """Factor on a loss that draws the last hidden units of a row to those of its nearest neighbours of the same class
    or, of soft labels, of alike ones: the term of DLP-CNN and DBM-CNN (`cer_fusion.fusion.heads.locality`)."""

    neighbours: int = 10
    """How many neighbours that are."""

    precision: str = "auto"
    """Of the first layer's products while training, `auto`, `float32` or `bfloat16`; all else, the kept weights too, is
    float32. `auto` takes bfloat16 on a CPU with instructions for it, where training is about 1.6 times as fast, and
    float32 elsewhere."""

    @property
    def config(self) -> MLPConfig:
        """The settings that `MLPConfig` holds, as one object."""
        return MLPConfig.from_dict({one.name: getattr(self, one.name) for one in fields(MLPConfig)})

    def _check(self) -> None:
        super()._check()
        one_of("fusion", self.fusion, get_args(Fusion))
        one_of("norm", self.norm, get_args(Normalization))
        not_negative("locality", self.locality)
        whole("neighbours", self.neighbours)
        if self.locality and not self.hidden:
            raise HeadConfigError("locality draws hidden units together, and hidden=[] has none")
        if not 0 <= self.pool_share <= 0.5:
            raise HeadConfigError(f"pool_share must lie in [0, 0.5], got {self.pool_share!r}")

    def _network(self, widths: Mapping[str, int], classes: int) -> Network:
        if self.hidden:
            whole("number of hidden layers", len(self.hidden), most=MOST_LAYERS)
        for width in self.hidden:
            whole("hidden", width)
        shape = (sum(widths.values()), *self.hidden, classes)
        return MLPNetwork(shape, members=self.members, normalized=self.norm == "layer")

    def _parts(self) -> list[dict[str, int]]:
        """Return all blocks, or one a network."""
        if self.fusion == "concat":
            return [self.blocks_]
        return [{name: width} for name, width in self.blocks_.items()]

    def _pull(
        self,
        network: Network,
        codes: Codes,
        info: RowInfo,
        device: torch.device,
        left_out: NDArray[np.bool_] | None = None,
    ) -> Callable[[Tensor, Tensor], Tensor] | None:
        if not self.locality:
            return None
        return Locality(
            codes, info.soft, weight=self.locality, neighbours=self.neighbours, device=device,
            counts=member_counts(info.weights, left_out),
        )  # fmt: skip

    def _products(self, device: torch.device) -> torch.dtype:
        dtype = chosen_dtype(self.precision, device)
        self.precision_ = str(dtype).removeprefix("torch.")
        return dtype

    def _fit(self, X: Matrix, codes: Codes, info: RowInfo) -> None:
        self._check()
        count, left_out = len(self._parts()), None
        if count > 1 and self.pool_share:
            left_out = left_out_rows(codes, self.members, self.pool_share, seed=self.seed_, groups=info.groups)
        self.networks_ = self._trained(X, codes, info, left_out)
        self.factors_ = np.full(count, 1 / count)
        if left_out is not None and left_out.any():
            asked = np.asarray(left_out.any(axis=0))
            answers = self._answers(rows_at(X, asked), by=left_out[:, asked])
            known, shares = info.at(asked), info.shares(codes, len(self.classes_))[asked]
            self.factors_ = learned_factors(np.stack(answers), shares, known.weights)
        elif count > 1:
            logger.info("no rows to learn the pool's factors from: all blocks count alike")

    def _keeps_aside(self) -> bool:
        return super()._keeps_aside() or (len(self._parts()) > 1 and bool(self.pool_share))

    def _proba(self, X: FloatArray) -> Proba:
        answers = self._answers(X)
        return answers[0] if len(answers) == 1 else pooled(np.stack(answers), self.factors_)

    def _state(self) -> HeadState:
        arrays = {"factors": self.factors_} if len(self.networks_) > 1 else {}
        return super()._state() | HeadState(arrays=arrays, values={"precision": self.precision_})

    def _restore(self, state: HeadState) -> None:
        super()._restore(state)
        self.precision_ = str(state.values["precision"])
        self.factors_ = np.ones(1)
        if len(self.networks_) > 1:
            self.factors_ = expect_shape("factors", state.arrays["factors"], (len(self.networks_),))
            if (self.factors_ < 0).any():
                raise ValueError(f"factors must not be negative, got {self.factors_.tolist()}")


class MLPNetwork(HiddenNetwork):
    """Hidden layers, each normalised or not, with ReLU and dropout, and a linear classifier; widths from D to k."""

    def __init__(self, widths: tuple[int, ...], *, members: int, normalized: bool) -> None:
        super().__init__()
        layers = [Joined(members, widths[0], widths[1]), *(Linear(members, a, b) for a, b in pairwise(widths[1:]))]
        self.hidden, self.answer = nn.ModuleList(layers[:-1]), layers[-1]
        self.norms = nn.ModuleList(Norm(members, width) if normalized else nn.Identity() for width in widths[1:-1])

    def forward(self, rows: Tensor, drop: Drop) -> Tensor:
        """Return logits (m, b, k) of rows (b, D)."""
        return self.answered(self.units(rows, drop), drop) if len(self.hidden) else self.answer(rows)

    def units(self, rows: Tensor, drop: Drop) -> Tensor:
        """Return the last hidden units (m, b, h) of rows (b, D), before their dropout."""
        z = rows
        for number, (layer, norm) in enumerate(zip(self.hidden, self.norms, strict=True)):
            z = norm(layer(drop(z) if number else z)).relu()
        return z

    def answered(self, units: Tensor, drop: Drop) -> Tensor:
        """Return logits (m, b, k) of hidden units (m, b, h)."""
        return self.answer(drop(units))


def chosen_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type of the first layer's products for a word: `auto`, `float32` or `bfloat16`."""
    one_of("precision", precision, ("auto", "float32", "bfloat16"))
    if precision == "auto":
        precision = "bfloat16" if device.type == "cpu" and _cpu_multiplies_bfloat16() else "float32"
        logger.info("multiplying in %s (precision='auto')", precision)
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    ask = getattr(torch.cpu, "get_capabilities", None)  # PyTorch before 2.11 does not say; it then stays at float32
    found: Mapping[str, NDArray[Any] | bool] = ask() if ask is not None else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def left_out_rows(
    codes: Codes, members: int, share: float, *, seed: int, groups: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Return which rows (members, n) each member is not to learn from: `share` of each class, other rows every time.

    Where members have more than all rows between them, they go round. A class of one row is left out by nobody: a
    member that never saw it says nothing about it; with groups, which are left out whole, so is a class of one group.
    """
    fold = stratified_folds(codes, max(2, round(1 / share)), seed=seed, groups=groups)
    folds = int(fold.max()) + 1
    if groups is None:
        fold[np.bincount(codes)[codes] == 1] = -1
    else:
        pairs = np.unique(np.stack([codes, groups]), axis=1)
        single = np.flatnonzero(np.bincount(pairs[0]) == 1)
        fold[np.isin(groups, groups[np.isin(codes, single)])] = -1
    return np.stack([fold == member % folds for member in range(members)])


def pooled(planes: NDArray[np.float64], factors: NDArray[np.float64]) -> Proba:
    """Return the logarithmic opinion pool (n, k) of probabilities (m, n, k): p proportional to prod p_i ** factor_i.

    The externally Bayesian pool (Genest and Zidek, 1986, "Combining probability distributions", §3.1), a product of
    experts (Hinton, 2002). Factors (m,) are not negative. They need not sum to one: members that err independently are
    together surer than each of them.
    """
    return softmax(np.tensordot(factors, _logs(planes), axes=1))


def learned_factors(
    planes: NDArray[np.float64], shares: NDArray[np.float64], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the factors (m,) under which the pool makes the true classes most likely.

    The problem is convex, and a normal prior of variance one about equal factors, worth less than a row, makes it
    strictly so: members that are never wrong on few rows do not get factors without bounds.

    Parameters
    ----------
    planes : float64 array of shape (m, n, k)
        Probabilities of rows that the members did not learn from.
    shares : float64 array of shape (n, k)
        Of which classes they are, each of unit sum.
    weights : float64 array of shape (n,), optional
        How much each row counts.
    """
    even = np.full(len(planes), 1 / len(planes))
    found = likeliest_factors(_logs(planes), shares, weights, about=even)
    return even if found.sum() < NOTHING else found


def _logs(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.log(np.maximum(planes, SMALLEST)))
