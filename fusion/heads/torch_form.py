"""A fitted head as one torch module in float32: joined rows in, probabilities out, as it can be exported to ONNX.

A head answers in NumPy and float64; what stands here computes the same in operations that every runtime knows, and
differs by float32's rounding. Heads of trees, and scikit-learn's own classifiers, have no such form.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from itertools import combinations
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import HeadConfigError
from .base import Head
from .late import HeadOfMembers, LateHead, StackingHead
from .layers import Linear, unchanged
from .lda import LDAHead
from .linear import LinearHead
from .mlp import MLPHead
from .neighbours import KNNHead, NCMHead
from .networks import NetworkHead, TrainedNetwork
from .ridge import RidgeHead
from .scaling import BlockNormalizer, BlockScaler
from .svm import SVMHead
from .weighted import WeightedHead
from .weights import SMALLEST, TIE_BREAK


def torch_form(head: Head) -> nn.Module:
    """Return a fitted head as a module: rows (b, D) float32 -> probabilities (b, k) float32, columns as `classes_`.

    Raises
    ------
    HeadConfigError
        If the head, or a member of it, has no such form; naming it.
    """
    if head.learns_in_time:
        raise HeadConfigError(
            f"the head {head.name!r} cannot be written as a graph of rows: it answers from windows of a video's rows\n"
            "  train one of mlp, linear … for that, and smooth its answers"
        )
    for kind, form in _FORMS.items():
        if isinstance(head, kind):
            return form(head)
    raise HeadConfigError(
        f"the head {head.name!r} cannot be written as a graph: trees, and classifiers of other libraries, stay in "
        "their own formats\n  train one of mlp, linear, weighted, ridge, lda, svm, knn, ncm, late, stacking, gated, "
        "bilinear, tokens, tabm for that"
    )


class Spread(nn.Module):
    """Probabilities (b, seen) spread over all k declared classes: (b, k); a class that was never seen gets 0."""

    places: Tensor

    def __init__(self, form: nn.Module, positions: Any, k: int) -> None:
        super().__init__()
        self.form = form
        self.register_buffer("places", torch.eye(k)[torch.as_tensor(np.asarray(positions, np.int64))])

    def forward(self, rows: Tensor) -> Tensor:
        """Return (b, k)."""
        found: Tensor = self.form(rows) @ self.places
        return found


def _kept(module: nn.Module, **arrays: Any) -> None:
    """Register arrays as float32 constants of a module."""
    for name, array in arrays.items():
        module.register_buffer(name, torch.tensor(np.asarray(array, np.float64), dtype=torch.float32))


def _rooted(rows: Tensor) -> Tensor:
    return rows.sign() * rows.abs().sqrt()


def _product(layer: Linear, z: Tensor) -> Tensor:
    return z @ layer.weight + layer.bias


def _log(proba: Tensor) -> Tensor:
    return proba.clamp_min(SMALLEST).log()


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(-1)


def _of_unit_sum(shares: Tensor) -> Tensor:
    return shares / shares.sum(-1, keepdim=True)


def _by_length(rows: Tensor, widths: Mapping[str, int] | None = None) -> Tensor:
    """Divide each block of every row by its length; rows of zeros stay."""
    parts = [rows] if widths is None else rows.split(list(widths.values()), 1)  # type: ignore[no-untyped-call]
    lengths = [part.square().sum(1, keepdim=True).sqrt() for part in parts]
    return torch.cat([part / torch.where(one > 0, one, 1.0) for part, one in zip(parts, lengths, strict=True)], 1)


class _Scaler(nn.Module):
    """`BlockScaler.transform`."""

    mean: Tensor
    scale: Tensor

    def __init__(self, scaler: BlockScaler) -> None:
        super().__init__()
        self.kind, self.widths = scaler.kind, dict(scaler.widths)
        _kept(self, mean=scaler.mean, scale=scaler.scale)

    def forward(self, rows: Tensor) -> Tensor:
        if self.kind == "none":
            return rows
        if self.kind == "power":
            rows = _rooted(rows)
        if self.kind in ("l2", "power"):
            rows = _by_length(rows, self.widths)
        return (rows - self.mean) / self.scale


class _Normalizer(nn.Module):
    """`BlockNormalizer.transform`, blocks joined."""

    mean: Tensor

    def __init__(self, normalizer: BlockNormalizer) -> None:
        super().__init__()
        self.kind, self.widths = normalizer.kind, dict(normalizer.widths)
        _kept(self, mean=normalizer.mean)

    def forward(self, rows: Tensor) -> Tensor:
        if self.kind == "none":
            return rows
        return _by_length((_rooted(rows) if self.kind == "power" else rows) - self.mean, self.widths)


class _Linear(nn.Module):
    """`linear`, `ridge`, `lda`: softmax of a linear map of scaled rows."""

    coef: Tensor
    intercept: Tensor

    def __init__(self, head: LinearHead | RidgeHead | LDAHead) -> None:
        super().__init__()
        self.ready = _Scaler(head.scaler_)
        temperature = head.temperature_ if isinstance(head, RidgeHead) else 1.0  # LDA's is in its weights already
        shrunk = temperature * math.sqrt(head.n_features_in_)
        _kept(self, coef=head.coef_.T / shrunk, intercept=head.intercept_ / temperature)

    def forward(self, rows: Tensor) -> Tensor:
        return _softmax(self.ready(rows) @ self.coef + self.intercept)


class _Trained(nn.Module):
    """A `TrainedNetwork`: the mean of its members' probabilities."""

    def __init__(self, trained: TrainedNetwork) -> None:
        super().__init__()
        self.ready, self.network = _Scaler(trained.scaler), copy.deepcopy(trained.network).float()
        for layer in self.network.modules():
            if isinstance(layer, Linear):  # PyTorch before 2.7 cannot export its `baddbmm` for a batch of any size
                layer.forward = MethodType(_product, layer)  # type: ignore[method-assign]

    def forward(self, rows: Tensor) -> Tensor:
        proba: Tensor = self.network(self.ready(rows), unchanged).softmax(-1).mean(0)
        return proba


class _Pool(nn.Module):
    """`mlp` with a network a block: the logarithmic opinion pool of their answers."""

    factors: Tensor

    def __init__(self, head: MLPHead) -> None:
        super().__init__()
        self.widths = list(head.blocks_.values())
        self.members = nn.ModuleList(map(_Trained, head.networks_))
        _kept(self, factors=head.factors_[:, None, None])

    def forward(self, rows: Tensor) -> Tensor:
        parts = rows.split(self.widths, 1)  # type: ignore[no-untyped-call]
        planes = torch.stack([one(part) for one, part in zip(self.members, parts, strict=True)])
        return _softmax((_log(planes) * self.factors).sum(0))


class _Weighted(nn.Module):
    """`weighted`: blocks of unit length, weighed, joined or summed, under a head."""

    factors: Tensor

    def __init__(self, head: WeightedHead) -> None:
        super().__init__()
        self.summed, self.widths = head.mode == "sum", list(head.blocks_.values())
        self.normalized, self.top = _Normalizer(head.normalizer_), torch_form(head.head_)
        weights = [head.weights_[name] * head._unit() for name in head.blocks_]
        _kept(self, factors=np.repeat(weights, self.widths))

    def forward(self, rows: Tensor) -> Tensor:
        weighed = self.normalized(rows) * self.factors
        if self.summed:
            weighed = torch.stack(weighed.split(self.widths, 1)).sum(0)
        answer: Tensor = self.top(weighed)
        return answer


class _SVM(nn.Module):
    """`svm`: decisions of pairs by a Gaussian kernel, the mean of each class's against all others."""

    others: Tensor
    squares: Tensor
    dual: Tensor
    intercept: Tensor
    signs: Tensor

    def __init__(self, head: SVMHead) -> None:
        super().__init__()
        self.ready, self.root, self.gamma = _Scaler(head.scaler_), math.sqrt(head.n_features_in_), head.gamma
        k, rows = len(head.classes_), head.rows_.astype(np.float64)
        signs = np.zeros((len(head.intercept_), k))
        for number, (first, second) in enumerate(combinations(range(k), 2)):
            signs[number, first], signs[number, second] = 1.0, -1.0
        _kept(
            self, others=rows.T, squares=np.square(rows).sum(1), dual=head.dual_coef_, intercept=head.intercept_,
            signs=signs / ((k - 1) * head.temperature_),
        )  # fmt: skip

    def forward(self, rows: Tensor) -> Tensor:
        ready = self.ready(rows) / self.root
        apart = ready.square().sum(1, keepdim=True) + self.squares - 2 * (ready @ self.others)
        decisions = (-self.gamma * apart.clamp_min(0)).exp() @ self.dual + self.intercept
        return _softmax(decisions @ self.signs)


class _KNN(nn.Module):
    """`knn`: votes of the nearest rows by cosine, and one for how classes are distributed."""

    known: Tensor
    own: Tensor
    share: Tensor

    def __init__(self, head: KNNHead) -> None:
        super().__init__()
        self.normalized, self.temperature = _Normalizer(head.normalizer_), head.temperature
        self.count = min(head.neighbours, len(head.rows_))
        own = np.eye(len(head.classes_))[head.codes_]
        _kept(self, known=head.rows_.T, own=own, share=own.mean(0))

    def forward(self, rows: Tensor) -> Tensor:
        near, places = (_by_length(self.normalized(rows)) @ self.known).topk(self.count, dim=1)
        votes = ((near - near[:, :1]) / self.temperature).exp()  # (b, count), nearest first
        total = (self.own[places] * votes[..., None]).sum(1) + votes[:, -1:] * self.share
        return _of_unit_sum(total)


class _NCM(nn.Module):
    """`ncm`: softmax of the cosines to the classes' means."""

    means: Tensor

    def __init__(self, head: NCMHead) -> None:
        super().__init__()
        self.normalized = _Normalizer(head.normalizer_)
        _kept(self, means=head.means_.T / head.temperature_)

    def forward(self, rows: Tensor) -> Tensor:
        return _softmax(_by_length(self.normalized(rows)) @ self.means)


class _Members(nn.Module):
    """One head a block: their probabilities (members, b, k)."""

    def __init__(self, head: HeadOfMembers) -> None:
        super().__init__()
        self.widths = list(head.blocks_.values())
        self.members = nn.ModuleList(torch_form(member) for member in head.members_.values())

    def forward(self, rows: Tensor) -> Tensor:
        parts = rows.split(self.widths, 1)  # type: ignore[no-untyped-call]
        return torch.stack([one(part) for one, part in zip(self.members, parts, strict=True)])


class _Late(nn.Module):
    """`late`: the members' tempered probabilities, mixed."""

    temperatures: Tensor
    weights: Tensor

    def __init__(self, head: LateHead) -> None:
        super().__init__()
        self.asked, self.mix, self.tempered = _Members(head), head.mix, bool((head.temperatures_ != 1).any())
        _kept(
            self,
            temperatures=head.temperatures_[:, None, None],
            weights=np.array(list(head.weights_.values()))[:, None, None],
        )

    def forward(self, rows: Tensor) -> Tensor:
        planes = self.asked(rows)
        if self.tempered:
            planes = _softmax(_log(planes) / self.temperatures)
        if self.mix == "geometric":
            return _softmax((_log(planes) * self.weights).sum(0))
        if self.mix == "harmonic":
            means = 1 / (self.weights / planes.clamp_min(SMALLEST)).sum(0)
        elif self.mix == "rank":
            k = planes.shape[-1]
            ahead = (planes[..., None] > planes[..., None, :]).float() + 0.5 * (
                planes[..., None] == planes[..., None, :]
            ).float()
            wins = (ahead.sum(-1) - 0.5) / (k * (k - 1) / 2)
            means = ((wins + TIE_BREAK * planes) * self.weights).sum(0)
        else:
            means = (planes * self.weights).sum(0)
        return _of_unit_sum(means)


class _Stacking(nn.Module):
    """`stacking`: logistic regression on the members' log probabilities."""

    coef: Tensor
    intercept: Tensor

    def __init__(self, head: StackingHead) -> None:
        super().__init__()
        self.asked = _Members(head)
        _kept(self, coef=head.coef_.reshape(len(head.coef_), -1).T, intercept=head.intercept_)

    def forward(self, rows: Tensor) -> Tensor:
        logs = _log(self.asked(rows)).permute(1, 0, 2).flatten(1)  # (m, b, k) -> (b, m * k)
        return _softmax(logs @ self.coef + self.intercept)


def _network(head: NetworkHead) -> nn.Module:
    return _Trained(head.networks_[0])


def _mlp(head: MLPHead) -> nn.Module:
    return _Pool(head) if len(head.networks_) > 1 else _network(head)


_FORMS: Mapping[type, Callable[[Any], nn.Module]] = {
    MLPHead: _mlp,
    NetworkHead: _network,
    LinearHead: _Linear,
    RidgeHead: _Linear,
    LDAHead: _Linear,
    WeightedHead: _Weighted,
    SVMHead: _SVM,
    KNNHead: _KNN,
    NCMHead: _NCM,
    LateHead: _Late,
    StackingHead: _Stacking,
}
