"""Several tasks share hidden units: compounds, basic classes, action units (AUs), affect, each row with what it has.

C-EXPR-NET (Kollias, CVPR 2023, "Multi-label compound expression recognition") learns compounds and AUs in one network
and couples their answers by distribution matching (Kollias et al., 2021, arXiv 2105.03790): a table of how often an AU
goes with a class turns the answer about classes into one about AUs, which the network's own is to match. MML (Li et
al., CVPRW 2023, on RAF-CE) counts that table in its training rows and adapts the weights of the tasks by a meta step.

The papers': the shared network, the KL divergence of a row's distribution to the answer (its gradient is that of the
cross-entropy, which all networks here have: with soft labels a row is of several classes), the matching by a table,
counted or given, the inner step on training rows and the outer one on rows held out from it. Left open, or not to be
had for cached rows, and chosen here: valence and arousal (C-EXPR-DB has them) are learned by squared distance, as a
hyperbolic tangent; AU texts are not used; a task's layer is linear on the last hidden units, without
dropout; matching goes both ways, each side once the fixed target; counts of the table begin at one; rows held out
from the inner step are half of each batch, whole groups where there are any; the outer gradient is taken before the
inner step instead of after it (first order), and its cosine with a task's gradient moves the logarithm of the task's
weight, which stays within a factor of ten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..data.blocks import FloatArray
from ..data.joined import Matrix
from ..errors import HeadConfigError, HeadDataError
from .base import Codes, HeadState, RowInfo
from .labels import SHARES_OFF, Floats
from .layers import Linear, Network, unchanged
from .mlp import MLPHead, MLPNetwork
from .settings import DU2014, not_negative

TASKS: Final = ("au", "basic", "va")
"""Tasks beside the classes: probabilities of AUs, each for itself; shares of basic classes, of unit sum; valence and
arousal, or whatever lies in [-1, 1]."""

FARTHEST: Final = 10.0
"""Factor by which the meta step may raise or lower a task's weight."""


@dataclass(kw_only=True, eq=False, repr=False)
class MultitaskHead(MLPHead):
    """The perceptrons of `mlp`, which learn AUs, basic classes and affect beside the classes that they are asked for.

    ``fit(X, y, targets={"au": (n, a), "basic": (n, b), "va": (n, 2)})``: AUs in [0, 1], NaN where an AU of a row is not
    known; shares of basic classes that sum to one, or a row of NaN; valence and arousal in [-1, 1], or NaN. A row
    without a class has None in `y`, or a row of NaN where `y` is soft. Without targets, or with all weights 0, it is
    `mlp` to the bit.

    Attributes
    ----------
    tasks_ : dict of task to number of columns
        What it learned beside the classes.
    task_weights_ : dict of task to float
        Their weights at the end: as set, or as the meta step left them (the mean of its networks).
    """

    name: ClassVar[str] = "multitask"
    learns_targets: ClassVar[bool] = True

    au_weight: float = 1.0
    """Factor on the mean log loss of a row's AUs."""

    basic_weight: float = 1.0
    """Factor on the cross-entropy of the basic classes."""

    va_weight: float = 1.0
    """Factor on the mean squared distance of a row's valence and arousal."""

    coupling: float = 0.0
    """Factor on the distance of the AUs' probabilities to those that the answer about classes implies (`table`)."""

    table: tuple[tuple[float, ...], ...] | Literal["du2014"] | None = None
    """Probability of each AU (column of the targets) given each class (row, in the order of `classes_`). None counts it
    in the training rows that have both. Commands and recipes take "du2014" for the one that
    `cer_fusion.fusion.judging.zero_shot.unit_table` makes for their classes and AUs."""

    meta_lr: float = 0.0
    """Step of the logarithms of the tasks' weights, every batch; 0 keeps the weights."""

    def fit(
        self,
        X: Any,
        y: Any,
        groups: Any = None,
        sample_weight: Any = None,
        classes: Any = None,
        targets: Mapping[str, Any] | None = None,
    ) -> Self:
        """Learn as `Head.fit` does, also from rows whose label in `y` is None, which have targets alone."""
        if classes is None and targets is not None:
            y, classes = _soft_where_none(y)
        return super().fit(X, y, groups, sample_weight, classes, targets)

    def _check(self) -> None:
        super()._check()
        for name in ("au_weight", "basic_weight", "va_weight", "coupling", "meta_lr"):
            not_negative(name, getattr(self, name))

    def _fit(self, X: Matrix, codes: Codes, info: RowInfo) -> None:
        self._check()
        weights = {"au": self.au_weight, "basic": self.basic_weight, "va": self.va_weight}
        found = checked_targets(info.targets or {})
        self.tasks_ = {name: one.shape[1] for name, one in found.items() if self._wants(name, weights)}
        self.task_weights_ = {name: weights[name] for name in self.tasks_}
        if self.tasks_ and not self.hidden:
            raise HeadConfigError("tasks share hidden units, and hidden=[] has none")
        if self.coupling and "au" not in self.tasks_:
            raise HeadConfigError("coupling matches AUs to classes, however: no AU targets were given")
        self._pulls: list[TaskLosses] = []
        self._counted = info.weights
        if info.labelled is not None:
            own = np.ones(len(codes)) if info.weights is None else info.weights
            info = replace(info, weights=np.where(info.labelled, own, 0.0))
        super()._fit(X, codes, info)
        if self._pulls:
            moved = [one.weights for one in self._pulls]
            self.task_weights_ = {name: math.fsum(one[name] for one in moved) / len(moved) for name in self.tasks_}
        del self._pulls, self._counted

    def _wants(self, task: str, weights: Mapping[str, float]) -> bool:
        return weights[task] > 0 or (task == "au" and self.coupling > 0)

    def _network(self, widths: Mapping[str, int], classes: int) -> Network:
        network = super()._network(widths, classes)
        if self.tasks_ and isinstance(network, MLPNetwork):
            network.tasks = nn.ModuleDict(
                {name: Linear(self.members, self.hidden[-1], width) for name, width in self.tasks_.items()}
            )
        return network

    def _pull(
        self,
        network: Network,
        codes: Codes,
        info: RowInfo,
        device: torch.device,
        left_out: NDArray[np.bool_] | None = None,
    ) -> Callable[[Tensor, Tensor], Tensor] | None:
        near = super()._pull(network, codes, info, device, left_out)
        if not self.tasks_ or not isinstance(network, MLPNetwork):
            return near
        targets = {name: one for name, one in checked_targets(info.targets or {}).items() if name in self.tasks_}
        shares = info.shares(codes, len(self.classes_))
        table = self._table(targets["au"], shares, info.labelled) if self.coupling else None
        counted = np.ones((1, len(codes))) if self._counted is None else self._counted[None] / self._counted.mean()
        losses = TaskLosses(
            network, targets, shares if info.labelled is None else shares * info.labelled[:, None],
            counts=counted if left_out is None else counted * ~left_out,
            weights=self.task_weights_, coupling=self.coupling, table=table,
            meta_lr=self.meta_lr, groups=info.groups, seed=self.seed_, device=device,
        )  # fmt: skip
        self._pulls.append(losses)
        return losses if near is None else lambda units, index: losses(units, index) + near(units, index)

    def _table(self, aus: Floats, shares: Floats, labelled: NDArray[np.bool_] | None) -> Floats:
        """Return the probability of each AU given each class (k, a), as set or counted."""
        if self.table is None:
            return counted_table(aus, shares if labelled is None else shares * labelled[:, None])
        if isinstance(self.table, str):
            raise HeadConfigError(
                f"table={self.table!r} is not numbers yet: a head knows no names of classes and AUs\n"
                "  make them first: cer_fusion.fusion.judging.zero_shot.unit_table(classes, units)"
                if self.table == DU2014
                else f"table must be numbers, or {DU2014!r} in commands and recipes, got {self.table!r}"
            )
        found = np.asarray(self.table, dtype=np.float64)
        if found.shape != (len(self.classes_), aus.shape[1]) or not ((found >= 0) & (found <= 1)).all():
            raise HeadConfigError(
                f"table must hold a probability for each of {len(self.classes_)} classes and {aus.shape[1]} AUs, "
                f"however its shape is {found.shape}"
            )
        return found

    def predict_targets(self, X: Any) -> dict[str, Floats]:
        """Return what it says of its further tasks, each (n, t): probabilities of AUs, shares of basic classes, affect.

        Answers of several networks (one a block) and of their members are averaged.
        """

        def asked(task: str) -> Callable[[FloatArray], Floats]:
            def answered(rows: FloatArray) -> Floats:
                found = []
                for trained, widths in zip(self.networks_, self._parts(), strict=True):

                    def question(part: Tensor, where: slice, network: Network = trained.network) -> Tensor:
                        logits = network.tasks[task](network.units(part, unchanged))  # type: ignore[index,operator]
                        found: Tensor = _said(task, logits).mean(0)
                        return found

                    found.append(trained.asked(self._columns(rows, widths), question))
                return np.asarray(np.mean(found, axis=0))

            return answered

        return {task: self._answered(X, asked(task), axis=0) for task in self.tasks_}

    def _state(self) -> HeadState:
        return super()._state() | HeadState(values={"tasks": dict(self.tasks_), "task_weights": self.task_weights_})

    def _restore(self, state: HeadState) -> None:
        tasks = state.values["tasks"]
        if not isinstance(tasks, dict) or any(
            name not in TASKS or not isinstance(width, int) or not 0 < width <= 4096 for name, width in tasks.items()
        ):
            raise ValueError(f"tasks must be columns of {' and '.join(TASKS)}, got {tasks!r}")
        self.tasks_ = dict(tasks)
        self.task_weights_ = {name: float(state.values["task_weights"][name]) for name in self.tasks_}
        super()._restore(state)


class TaskLosses:
    """The weighted losses of the further tasks on batches of training rows, and the meta step of their weights.

    Parameters
    ----------
    network : MLPNetwork
        With a layer a task in `tasks`.
    targets : dict of task to array of shape (n, t)
        NaN where a row has none.
    shares : array of shape (n, k)
        Share of each class in each row; zeros where it has none.
    counts : array of shape (1 or members, n)
        How much a row counts for a member.
    weights : dict of task to float
    coupling : float
    table : array of shape (k, a) or None
        Probability of each AU given each class.
    meta_lr : float
    groups : int array of shape (n,) or None
    """

    def __init__(
        self,
        network: MLPNetwork,
        targets: Mapping[str, Floats],
        shares: Floats,
        *,
        counts: Floats,
        weights: Mapping[str, float],
        coupling: float,
        table: Floats | None,
        meta_lr: float,
        groups: NDArray[np.int64] | None,
        seed: int,
        device: torch.device,
    ) -> None:
        def tensor(one: Any) -> Tensor:
            return torch.tensor(one, dtype=torch.float32, device=device)

        self.network, self.coupling, self.meta_lr = network, coupling, meta_lr
        self.targets = {name: tensor(one) for name, one in targets.items()}
        self.shares, self.counts = tensor(shares), tensor(counts)
        self.weights, self.first = dict(weights), dict(weights)
        self.table = None if table is None else tensor(table)
        group = np.arange(len(shares)) if groups is None else groups
        self.groups = torch.from_numpy(group).to(device)
        self.count, self.generator = int(group.max()) + 1, torch.Generator().manual_seed(seed)

    def __call__(self, units: Tensor, index: Tensor) -> Tensor:
        """Return the loss of hidden units (m, b, h) of the training rows `index` (b,), a mean over rows, summed over m.

        With a meta step the weights have moved before they are used.
        """
        losses = self._losses(units, index)
        if self.meta_lr:
            self._step(units, index, losses)
        counts = self.counts[:, index]
        total = units.new_zeros(())
        for name, loss in losses.items():
            total = total + self.weights[name] * (loss * counts).sum()
        if self.table is not None:
            total = total + self.coupling * (self._apart(units) * counts).sum()
        return total / len(index)

    def _losses(self, units: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Return each task's loss a row (m, b); zero where the row has no target."""
        found = {}
        for name, targets in self.targets.items():
            wanted, logits = targets[index], self.network.tasks[name](units)  # type: ignore[index,operator]
            known = ~wanted.isnan()
            wanted = wanted.nan_to_num().expand_as(logits)
            if name == "au":
                each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
                found[name] = (each * known).sum(-1) / known.sum(-1).clamp_min(1)
            elif name == "va":
                each = (logits.tanh() - wanted).square()
                found[name] = (each * known).sum(-1) / known.sum(-1).clamp_min(1)
            else:
                found[name] = -(wanted * logits.log_softmax(-1)).sum(-1)
        return found

    def _apart(self, units: Tensor) -> Tensor:
        """Return how far the AUs are from what the classes imply, a row (m, b): the mean cross-entropy, both ways."""
        assert self.table is not None
        own = self.network.tasks["au"](units).sigmoid()  # type: ignore[index,operator]
        implied = self.network.answered(units, unchanged).softmax(-1) @ self.table
        own, implied = own.clamp(1e-6, 1 - 1e-6), implied.clamp(1e-6, 1 - 1e-6)
        both = functional.binary_cross_entropy(own, implied.detach(), reduction="none")
        both = both + functional.binary_cross_entropy(implied, own.detach(), reduction="none")
        return both.mean(-1) / 2

    def _step(self, units: Tensor, index: Tensor, losses: Mapping[str, Tensor]) -> None:
        """Raise the weights of tasks whose step on one half of the batch lowers the classes' loss on the other."""
        order = torch.randperm(self.count, generator=self.generator).to(index.device)
        held = order[self.groups[index]] % 2 == 0
        logs = self.network.answered(units, unchanged).log_softmax(-1)
        outer = -(self.shares[index] * logs).sum(-1)[:, held].sum()
        shared = [*self.network.hidden.parameters(), *self.network.norms.parameters()]
        goal = _flat(torch.autograd.grad(outer, shared, retain_graph=True))
        for name, loss in losses.items():
            inner = _flat(torch.autograd.grad(loss[:, ~held].sum(), shared, retain_graph=True))
            cosine = functional.cosine_similarity(goal, inner, dim=0).item()
            moved = self.weights[name] * float(np.exp(self.meta_lr * cosine))
            self.weights[name] = float(np.clip(moved, self.first[name] / FARTHEST, self.first[name] * FARTHEST))


def _said(task: str, logits: Tensor) -> Tensor:
    """Return what the numbers of a task's layer mean: probabilities, shares, or values in [-1, 1]."""
    return {"au": logits.sigmoid, "basic": lambda: logits.softmax(-1), "va": logits.tanh}[task]()


def _flat(gradients: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([one.flatten() for one in gradients])


def counted_table(aus: Floats, shares: Floats) -> Floats:
    """Return how likely each AU is given each class (k, a), counted in rows that have both, from one row of each kind.

    Parameters
    ----------
    aus : array of shape (n, a)
        In [0, 1], NaN where an AU is not known.
    shares : array of shape (n, k)
        Share of each class in each row; zeros where it has none.
    """
    known = ~np.isnan(aus)
    return np.asarray((shares.T @ np.where(known, aus, 0) + 1) / (shares.T @ known + 2))


def checked_targets(targets: Mapping[str, Floats]) -> Mapping[str, Floats]:
    """Return the targets, refusing unknown tasks and values that none can have.

    Raises
    ------
    HeadDataError
        If an AU lies outside [0, 1], affect outside [-1, 1], or shares do not sum to one or are known in part.
    """
    for name, one in targets.items():
        if name not in TASKS:
            raise HeadDataError(f"there is no task {name!r}: targets are of {' or '.join(TASKS)}")
        low = -1 if name == "va" else 0
        wrong = ~np.isnan(one) & ~((one >= low) & (one <= 1))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise HeadDataError(
                f"targets[{name!r}] must lie in [{low}, 1], or be NaN where nothing is known, however: {wrong.sum()} "
                f"do not (first: row {row}, column {column}: {one[row, column]:g})\n"
                + ("  divide intensities by their largest, 5" if name == "au" else "  leave unknown ones NaN, not -5")
            )
        if name == "basic":
            known = ~np.isnan(one).all(axis=1)
            bad = np.flatnonzero(known & ~(np.abs(one.sum(axis=1) - 1) < SHARES_OFF))
            if len(bad):
                raise HeadDataError(
                    f"targets['basic'] must be shares that sum to one, or a row of NaN, however: {len(bad)} rows are "
                    f"neither (first: row {bad[0]}, {one[bad[0]].round(3).tolist()})"
                )
    return targets


def _soft_where_none(y: Any) -> tuple[Any, NDArray[Any] | None]:
    """Return labels as they are or, where some are None, as shares (n, k) with rows of NaN, and their classes (k,)."""
    found = np.asarray(y)
    if found.dtype != object or found.ndim != 1:
        return y, None
    there = np.array([one is not None for one in found.tolist()])
    if there.all() or not there.any():
        return y, None
    classes, codes = np.unique(np.array(found[there].tolist()), return_inverse=True)
    shares = np.full((len(found), len(classes)), np.nan)
    shares[there] = np.eye(len(classes))[codes]
    return shares, classes
