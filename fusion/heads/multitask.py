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
dropout; matching goes both ways, each side once the fixed target, on every row of a batch, those without a label too
(its targets are the network's own answers); counts of the table begin at one, and an AU is not matched to a class that
no row has it known beside; rows held out from the inner step are half of each batch, whole groups where there are any;
the outer gradient is taken before the inner step instead of after it (first order), and its cosine with a task's
gradient moves the logarithm of the task's weight, which stays within a factor of ten.

What is not known enters no loss. A row counts in every loss as `sample_weight` says, in the counted table and in the
meta step too; a class's weight (`class_weight`) is a factor on the loss of the classes alone. The classes' loss is a
mean over the rows that have one, a task's over all rows of the batch: what few rows have weighs as little.
"""

from __future__ import annotations

import logging
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
from .basics import BasicRows
from .labels import SHARES_OFF, Floats
from .layers import Linear, Network, unchanged
from .mlp import MLPHead, MLPNetwork
from .settings import DU2014, factors, not_negative

logger = logging.getLogger(__name__)

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
    without a class has None or NaN in `y`, or a row of NaN where `y` is soft; one with neither a class nor a target is
    counted, and teaches nothing. Without targets, or with all weights 0, it is `mlp` to the bit.

    Attributes
    ----------
    tasks_ : dict of task to number of columns
        What it learned beside the classes.
    task_weights_ : dict of task to float
        Their weights at the end: as set, or as the meta step left them (the mean of its networks).
    unknown_ : dict of task to tuple of int
        Columns of its tasks that no row had known, about which it says NaN.
    untaught_ : int
        Rows with neither a class nor a target; known after a fit alone.
    """

    name: ClassVar[str] = "multitask"
    learns_targets: ClassVar[bool] = True
    learns_basic: ClassVar[bool] = False

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
        times: Any = None,
        videos: Any = None,
        basic: BasicRows | None = None,
    ) -> Self:
        """Learn as `Head.fit` does, also from rows whose label in `y` is None or NaN, which have targets alone."""
        if classes is None and targets is not None:
            y, classes = _soft_where_none(y)
        return super().fit(X, y, groups, sample_weight, classes, targets, times, videos, basic)

    def _check(self) -> None:
        super()._check()
        if self._wants_basic():
            raise HeadConfigError(
                "multitask learns basic classes as a task (targets), and no curriculum: leave curriculum and "
                "mixed_compounds out, or take mlp"
            )
        for name in ("au_weight", "basic_weight", "va_weight", "coupling", "meta_lr"):
            not_negative(name, getattr(self, name))

    def _fit(self, X: Matrix, codes: Codes, info: RowInfo) -> None:
        self._check()
        weights = {"au": self.au_weight, "basic": self.basic_weight, "va": self.va_weight}
        found = checked_targets(info.targets or {})
        self.tasks_ = {name: one.shape[1] for name, one in found.items() if self._wants(name, weights)}
        self.task_weights_ = {name: weights[name] for name in self.tasks_}
        self.unknown_ = {} if self.coupling else _never_known({name: found[name] for name in self.tasks_})
        self.untaught_ = _counted_untaught(found, info.labelled)
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
        counted = np.ones((1, len(codes))) if self._counted is None else self._counted[None] / self._counted.mean()
        counted = counted if left_out is None else counted * ~left_out
        shares = shares if info.labelled is None else shares * info.labelled[:, None]
        table = self._table(targets["au"], shares, counted) if self.coupling else None
        losses = TaskLosses(
            network, targets, shares * factors(self.class_weight, self.classes_, codes, info.soft), counts=counted,
            weights=self.task_weights_, coupling=self.coupling, table=table,
            meta_lr=self.meta_lr, groups=info.groups, seed=self.seed_, device=device,
        )  # fmt: skip
        self._pulls.append(losses)
        return losses if near is None else lambda units, index: losses(units, index) + near(units, index)

    def _table(self, aus: Floats, shares: Floats, counts: Floats) -> Floats:
        """Return the probability of each AU given each class, as set (k, a), or as each member counts it (m, k, a)."""
        if self.table is None:
            found = np.stack([counted_table(aus, shares, one) for one in counts])
            if np.isnan(found).all():
                raise HeadDataError(
                    "coupling counts its table in rows that have a class and AUs, however: none has both\n"
                    "  give a table: table='du2014' in commands and recipes, or numbers (k, a)"
                )
            return found
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
                said = np.asarray(np.mean(found, axis=0))
                said[:, list(self.unknown_.get(task, ()))] = np.nan
                return said

            return answered

        return {task: self._answered(X, asked(task), axis=0) for task in self.tasks_}

    def _state(self) -> HeadState:
        told = {"unknown": {name: list(one) for name, one in self.unknown_.items()}} if self.unknown_ else {}
        values = {"tasks": dict(self.tasks_), "task_weights": self.task_weights_, **told}
        return super()._state() | HeadState(values=values)

    def _restore(self, state: HeadState) -> None:
        tasks = state.values["tasks"]
        if not isinstance(tasks, dict) or any(
            name not in TASKS or not isinstance(width, int) or not 0 < width <= 4096 for name, width in tasks.items()
        ):
            raise ValueError(f"tasks must be columns of {' and '.join(TASKS)}, got {tasks!r}")
        self.tasks_ = dict(tasks)
        self.task_weights_ = {name: float(state.values["task_weights"][name]) for name in self.tasks_}
        unknown = state.values.get("unknown", {})
        self.unknown_ = {name: tuple(map(int, unknown[name])) for name in self.tasks_ if name in unknown}
        if any(not 0 <= one < self.tasks_[name] for name, columns in self.unknown_.items() for one in columns):
            raise ValueError(f"unknown columns must be columns of their tasks, got {unknown!r}")
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
        Share of each class in each row times the class's weight; zeros where it has none.
    counts : array of shape (1 or members, n)
        How much a row counts for a member.
    weights : dict of task to float
    coupling : float
    table : array of shape (k, a) or (1 or members, k, a), or None
        Probability of each AU given each class; NaN where nothing is known of it.
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
        self.table = None if table is None else tensor(np.nan_to_num(table))
        self.told = None if table is None or not np.isnan(table).any() else tensor(~np.isnan(table))
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
        answer = self.network.answered(units, unchanged).softmax(-1)
        implied, part = answer @ self.table, None  # (m, b, k) @ (k, a) -> (m, b, a)
        if self.told is not None:  # of the classes of which the table knows the AU, which are a part of the answer
            part = answer @ self.told
            implied = implied / part.clamp_min(1e-6)
        own, implied = own.clamp(1e-6, 1 - 1e-6), implied.clamp(1e-6, 1 - 1e-6)
        both = functional.binary_cross_entropy(own, implied.detach(), reduction="none")
        both = both + functional.binary_cross_entropy(implied, own.detach(), reduction="none")
        return (both if part is None else both * part.detach()).mean(-1) / 2

    def _step(self, units: Tensor, index: Tensor, losses: Mapping[str, Tensor]) -> None:
        """Raise the weights of tasks whose step on one half of the batch lowers the classes' loss on the other.

        Rows count as they do in the losses.
        """
        counts = self.counts[:, index]
        order = torch.randperm(self.count, generator=self.generator).to(index.device)
        held = order[self.groups[index]] % 2 == 0
        logs = self.network.answered(units, unchanged).log_softmax(-1)
        outer = -((self.shares[index] * logs).sum(-1) * counts)[:, held].sum()
        shared = [*self.network.hidden.parameters(), *self.network.norms.parameters()]
        goal = _flat(torch.autograd.grad(outer, shared, retain_graph=True))
        for name, loss in losses.items():
            inner = _flat(torch.autograd.grad((loss * counts)[:, ~held].sum(), shared, retain_graph=True))
            cosine = functional.cosine_similarity(goal, inner, dim=0).item()
            moved = self.weights[name] * float(np.exp(self.meta_lr * cosine))
            self.weights[name] = float(np.clip(moved, self.first[name] / FARTHEST, self.first[name] * FARTHEST))


def _said(task: str, logits: Tensor) -> Tensor:
    """Return what the numbers of a task's layer mean: probabilities, shares, or values in [-1, 1]."""
    return {"au": logits.sigmoid, "basic": lambda: logits.softmax(-1), "va": logits.tanh}[task]()


def _flat(gradients: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([one.flatten() for one in gradients])


def counted_table(aus: Floats, shares: Floats, counts: Floats | None = None) -> Floats:
    """Return how likely each AU is given each class (k, a), counted in rows that have both, from one row of each kind.

    NaN where no row of the class has the AU known.

    Parameters
    ----------
    aus : array of shape (n, a)
        In [0, 1], NaN where an AU is not known.
    shares : array of shape (n, k)
        Share of each class in each row; zeros where it has none.
    counts : array of shape (n,), optional
        How often each row counts; once if left out.
    """
    known = ~np.isnan(aus)
    shares = shares if counts is None else shares * counts[:, None]
    rows = shares.T @ known
    return np.where(rows > 0, (shares.T @ np.where(known, aus, 0) + 1) / (rows + 2), np.nan)


def _never_known(targets: Mapping[str, Floats]) -> dict[str, tuple[int, ...]]:
    """Return the columns of each task that no row has known, refusing a task of which no row knows anything."""
    found = {name: tuple(np.flatnonzero(np.isnan(one).all(axis=0)).tolist()) for name, one in targets.items()}
    for name, columns in found.items():
        if len(columns) == targets[name].shape[1]:
            raise HeadDataError(
                f"targets[{name!r}] are NaN in all {len(targets[name])} rows: there is nothing to learn\n"
                "  leave the task out, or look at the ids that its table was read by"
            )
    return {name: columns for name, columns in found.items() if columns}


def _counted_untaught(targets: Mapping[str, Floats], labelled: NDArray[np.bool_] | None) -> int:
    """Return how many rows have neither a class nor a target, and say so."""
    if labelled is None:
        return 0
    empty = ~labelled
    for one in targets.values():
        empty = empty & np.isnan(one).all(axis=1)
    if empty.any():
        logger.warning(
            "%d of %d rows have neither a class nor a target, and teach nothing (first: row %d)",
            empty.sum(), len(empty), np.flatnonzero(empty)[0],
        )  # fmt: skip
    return int(empty.sum())


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
    """Return labels as they are or, where some are None or NaN, as shares (n, k), NaN there, and their classes (k,)."""
    found = np.asarray(y)
    if found.dtype != object or found.ndim != 1:
        return y, None
    there = np.array([one is not None and one == one for one in found.tolist()])
    if there.all() or not there.any():
        return y, None
    classes, codes = np.unique(np.array(found[there].tolist()), return_inverse=True)
    shares = np.full((len(found), len(classes)), np.nan)
    shares[there] = np.eye(len(classes))[codes]
    return shares, classes
