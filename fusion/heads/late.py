"""One head a block, their answers mixed or learned from: decision fusion and stacking."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from ...kit.errors import nearest
from ..data.blocks import FloatArray, checked_weights, slices
from ..errors import HeadConfigError, HeadDataError
from . import head_class, make_head
from .base import Codes, Head, HeadState, Proba, RowInfo, expect_shape, softmax
from .settings import check_folds, factors, positive, whole
from .weights import (
    MIXES,
    SMALLEST,
    WIDEST,
    Mix,
    best_drawn,
    check_objective,
    class_weights,
    fitted_temperature,
    learned_weights,
    mixed,
    out_of_fold,
    tempered,
)

OF_MEMBERS = ("late", "stacking")
"""Heads that have members, and so cannot be one: a member sees a single block."""


@dataclass(kw_only=True, eq=False, repr=False)
class HeadOfMembers(Head):
    """A head that fits one member a block; what it makes of their answers is its own matter.

    Parameters
    ----------
    member : str, or dict of block name to str
        Name of the head that each block gets; none that has members itself.
    member_params : dict, optional
        Settings of the members beyond their defaults; by block where `member` is.
    folds : int
        Folds of rows that members are held out of; each costs one more fit of every member.

    Attributes
    ----------
    members_ : dict of block name to fitted head
    """

    weighs_rows: ClassVar[bool] = True

    member: str | Mapping[str, str] = "linear"
    member_params: Mapping[str, Any] | None = None
    folds: int = 3

    def _fit_members(self, X: FloatArray, codes: Codes, info: RowInfo) -> None:
        self.members_: dict[str, Head] = {
            name: self._new(name)._learn(np.ascontiguousarray(X[:, where]), codes, info)
            for name, where in slices(self.blocks_).items()
        }

    def _raw_proba(self, X: FloatArray) -> NDArray[np.float64]:
        """Return the members' own probabilities (members, n, k)."""
        parts = slices(self.blocks_)
        return np.stack([member.predict_proba(X[:, parts[name]]) for name, member in self.members_.items()])

    def _out_of_fold(self, X: FloatArray, codes: Codes, info: RowInfo) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return what members that had not seen them say of training rows, (members, r, k), and which rows (r,)."""
        answers = []
        for name, where in slices(self.blocks_).items():
            proba, asked = out_of_fold(
                lambda name=name: self._new(name),  # type: ignore[misc]
                np.ascontiguousarray(X[:, where]),
                codes,
                info,
                k=len(self.classes_),
                folds=self.folds,
                seed=self.seed_,
            )
            answers.append(proba)
        return np.stack(answers), asked

    def _new(self, block: str) -> Head:
        """Return the unfitted member of a block."""
        name, params = self._choice(block)
        if name in OF_MEMBERS:
            raise HeadConfigError(f"a member of {self.name!r} cannot be {name!r} itself; name another head")
        if head_class(name).learns_in_time:
            raise HeadConfigError(f"a member of {self.name!r} is asked about rows alone, and {name!r} about windows")
        shared = {"random_state": self.seed_, "threads": self.threads}
        return make_head(name, blocks={block: self.blocks_[block]}, **{**shared, **params})

    def _choice(self, block: str) -> tuple[str, Mapping[str, Any]]:
        params = self.member_params or {}
        if isinstance(self.member, str):
            return self.member, params
        for setting, named in (("member", self.member), ("member_params", params)):
            for one in named:
                if one not in self.blocks_:
                    raise HeadConfigError(
                        f"{setting} names its heads by block, and there is no block {one!r}; "
                        f"{nearest(str(one), self.blocks_)}"
                    )
        if block not in self.member:
            raise HeadConfigError(f"member names no head for block {block!r}; every block needs one")
        return self.member[block], params.get(block) or {}

    def _own_threads(self) -> dict[str, int]:
        return {name: count for member in self.members_.values() for name, count in member.fit_threads_.items()}

    def _state_of_members(self) -> HeadState:
        state = HeadState()
        for number, member in enumerate(self.members_.values()):
            state |= member.state().under(f"member{number}")
        return state

    def _restore_members(self, state: HeadState) -> None:
        self.members_ = {
            name: self._new(name).restore(
                state.member(f"member{number}"),
                classes=np.arange(len(self.classes_)),
                widths={name: width},
                seed=self.seed_,
            )
            for number, (name, width) in enumerate(self.blocks_.items())
        }


LEARNED, LEARNED_PER_CLASS, DRAWN_PER_CLASS = "learned", "learned_per_class", "drawn_per_class"
CHOSEN: Final = (LEARNED, LEARNED_PER_CLASS, DRAWN_PER_CLASS)
"""Ways to choose weights on rows that the members had not seen."""


@dataclass(kw_only=True, eq=False, repr=False)
class LateHead(HeadOfMembers):
    """Weighted mixing of the probabilities of per-block members.

    Weights mix comparable scores only if each member is calibrated: learned ones come with a temperature a member (Guo
    et al., 2017, "On calibration of modern neural networks", §4.2) that divides its logits, fitted on rows it had not
    seen, in folds of the training rows. For weights that are given, penalised logistic regression, the default member,
    is calibrated enough: a temperature changed macro F1 by 0.001 at about three times the cost
    (`benchmarks/RESULTS.md`); `calibrate` asks for it where members are over-sure.

    On real features learned weights raised macro F1 by 0.025 over equal ones (`benchmarks/heads.md`).

    A member can also weigh by class (AVCER: Ryumina et al., 2024, arXiv 2403.12687): with weights W (m, k) a class's
    score is the mean of the members' `terms` under its own column; columns that are alike are weights that all classes
    share. There are k times as many numbers to choose on the same rows, so compare such a head
    with one of shared weights on rows that neither chose by (`docs/sweeps.md`).

    Parameters
    ----------
    weights : dict of block name to weight, or to a dict of class to weight; a word; or None
        Every block named, none negative; only proportions matter, a class's own where there is a weight a class. None
        weighs all alike. Words calibrate the members and choose weights by the rows of the same folds
        (`cer_fusion.fusion.heads.weights`): `learned` one a member; `learned_per_class` one a member and class, held to
        those by a prior; `drawn_per_class` the best of `draws` Dirichlet draws. A single block has nothing to learn.
    mix : {"arithmetic", "geometric", "harmonic", "rank"}
        Weighted mean of probabilities, of log probabilities (a product of experts), of reciprocals, or of ranks
        (Borda's count, for members whose order of classes is better than their probabilities).
    calibrate : bool
        Fit a temperature a member for given weights too; costs `folds` more fits of each, as learning does.
    folds : int
        Folds for the calibration and for chosen weights.
    objective : {"log_loss", "macro_f1"}
        What chosen weights are best at; `learned_per_class` knows the log loss alone.
    draws : int
        Draws of `drawn_per_class`.
    random_state : int, RandomState or None
        Seed of members, folds and draws.

    Attributes
    ----------
    members_ : dict of block name to fitted head
    temperatures_ : ndarray of shape (number of blocks,)
    weights_ : dict of block name to weight, of unit sum; or to a dict of class to weight, of unit sum a class
    """

    name: ClassVar[str] = "late"

    weights: Mapping[str, Any] | str | None = LEARNED
    mix: Mix = "geometric"
    calibrate: bool = False
    objective: str = "log_loss"
    draws: int = 1000

    def member_proba(self, X: Any) -> NDArray[np.float64]:
        """Return each member's calibrated probabilities (members, n, k), members in the order of `blocks_`."""
        return self._answered(X, self._member_proba, axis=1)

    @property
    def by_chance(self) -> bool:
        """Where folds are drawn, for temperatures or weights, or members are not sure to draw nothing."""
        return self.calibrate or self._chooses() or self.member not in ("linear", "ridge", "knn", "ncm")

    def _fit(self, X: FloatArray, codes: Codes, info: RowInfo) -> None:
        self._check()
        self.weights_ = self._given_weights()
        self._fit_members(X, codes, info)
        self.temperatures_ = np.ones(len(self.blocks_))
        if self._keeps_aside():
            planes, asked = self._out_of_fold(X, codes, info)
            self._learn_on(planes, codes[asked], info.at(asked).weights)

    def _chooses(self) -> bool:
        return isinstance(self.weights, str)

    def _keeps_aside(self) -> bool:
        return self.calibrate or (self._chooses() and len(self.blocks_) > 1)

    def _learn_on(self, planes: NDArray[np.float64], codes: Codes, weights: NDArray[np.float64] | None) -> None:
        """Fit temperatures, and weights if they are to be chosen; with no row to tell, ones and equal weights stay."""
        if not len(codes):
            return
        for number, plane in enumerate(planes):
            logits = np.log(np.maximum(plane, SMALLEST))
            self.temperatures_[number] = fitted_temperature(logits, codes, weights, widest=WIDEST)
        if not self._chooses():
            return
        told = self._tempered(planes)
        if self.weights == DRAWN_PER_CLASS:
            found = best_drawn(
                told, codes, weights, mix=self.mix, objective=self.objective, draws=self.draws, seed=self.seed_
            )
        else:
            found = learned_weights(told, codes, weights, mix=self.mix, objective=self.objective)
            if self.weights == LEARNED_PER_CLASS and len(self.blocks_) > 1:
                found = class_weights(told, codes, weights, mix=self.mix, about=found)
        self.weights_ = self._named(found)

    def _proba(self, X: FloatArray) -> Proba:
        return mixed(self._member_proba(X), self._weight_array(), self.mix)

    def _weight_array(self) -> NDArray[np.float64]:
        """Return the weights (m,), or (m, k)."""
        return np.array([list(w.values()) if isinstance(w, dict) else w for w in self.weights_.values()])

    def _named(self, weights: NDArray[np.float64]) -> dict[str, Any]:
        """Undo `_weight_array`."""
        if weights.ndim == 1:
            return dict(zip(self.blocks_, map(float, weights), strict=True))
        labels = self.classes_.tolist()
        return {
            name: dict(zip(labels, map(float, w), strict=True)) for name, w in zip(self.blocks_, weights, strict=True)
        }

    def _member_proba(self, X: FloatArray) -> NDArray[np.float64]:
        return self._tempered(self._raw_proba(X))

    def _tempered(self, planes: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([tempered(plane, one) for plane, one in zip(planes, self.temperatures_, strict=True)])

    def _check(self) -> None:
        if self.mix not in MIXES:
            raise HeadConfigError(f"mix must be a known word, got {self.mix!r}; {nearest(str(self.mix), MIXES)}")
        check_folds(self.folds)
        check_objective(self.objective)
        whole("draws", self.draws, most=MOST_DRAWS)
        if isinstance(self.weights, str) and self.weights not in CHOSEN:
            raise HeadConfigError(
                f"weights must be a number a block, or a number a block and class, None, or a known word, got "
                f"{self.weights!r}; {nearest(self.weights, CHOSEN)}"
            )
        if self.weights == LEARNED_PER_CLASS and self.objective != "log_loss":
            raise HeadConfigError(
                f"weights={LEARNED_PER_CLASS!r} are learned by the log loss, got objective={self.objective!r}\n"
                f"  choose them by another objective among draws: weights={DRAWN_PER_CLASS!r}"
            )

    def _given_weights(self) -> dict[str, Any]:
        given = self.weights if isinstance(self.weights, Mapping) else dict.fromkeys(self.blocks_, 1.0)
        if any(isinstance(one, Mapping) for one in given.values()):
            array = checked_class_weights(given, self.blocks_, self.classes_.tolist())
        else:
            array = np.array(list(checked_weights(given, self.blocks_).values()))
        return self._named(array / array.sum(axis=0))

    def _state(self) -> HeadState:
        arrays = {"temperatures": self.temperatures_}
        if self._chooses():
            arrays["weights"] = self._weight_array()
        return HeadState(arrays=arrays) | self._state_of_members()

    def _restore(self, state: HeadState) -> None:
        self._check()
        self.weights_ = self._given_weights()
        if self._chooses():
            weights, m = state.arrays["weights"], len(self.blocks_)
            per_class = weights.ndim == 2 and self.weights != LEARNED
            weights = expect_shape("weights", weights, (m, len(self.classes_)) if per_class else (m,))
            if (weights < 0).any() or np.abs(weights.sum(axis=0) - 1).max() > 1e-6:
                raise ValueError(f"weights must not be negative, and of unit sum over the blocks, got {weights!r}")
            self.weights_ = self._named(weights)
        temperatures = state.arrays["temperatures"]
        if temperatures.shape != (len(self.blocks_),) or not ((temperatures > 0) & np.isfinite(temperatures)).all():
            raise ValueError(f"there must be a positive temperature a member, got {temperatures!r}")
        self.temperatures_ = temperatures
        self._restore_members(state)


MOST_DRAWS: Final = 100_000


def checked_class_weights(
    weights: Mapping[str, Any], blocks: Iterable[str], classes: Iterable[Any]
) -> NDArray[np.float64]:
    """Return a weight a block and class (m, k), of blocks and classes in their order.

    Parameters
    ----------
    weights : dict of block name to dict of class to weight
        Classes as texts. Those that have no rows may be named: a fold need not have all.
    blocks : iterable of str
    classes : iterable of label

    Raises
    ------
    HeadConfigError
        If a block or class has no weight, a block is not known, a weight is negative or no number, or all of a class
        are zero.
    """
    names, labels = list(blocks), [str(one) for one in classes]
    for name in weights:
        if name not in names:
            raise HeadConfigError(f"there is no block {name!r} to weigh; {nearest(str(name), names)}")
    found = np.empty((len(names), len(labels)))
    for row, name in zip(found, names, strict=True):
        given = weights.get(name)
        if not isinstance(given, Mapping):
            raise HeadConfigError(
                f"where blocks have a weight a class, every block has, however: block {name!r} has {given!r}"
            )
        of_class = {str(label): weight for label, weight in given.items()}
        for column, label in enumerate(labels):
            if label not in of_class:
                raise HeadConfigError(f"block {name!r} has no weight for class {label!r}; {nearest(label, of_class)}")
            weight = of_class[label]
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
                raise HeadConfigError(
                    f"the weight of block {name!r} for class {label!r} must be finite and not negative, got {weight!r}"
                )
            row[column] = weight
    if not (nothing := found.any(axis=0)).all():
        raise HeadConfigError(
            f"all weights of class {labels[int(nothing.argmin())]!r} are zero: nothing could answer it"
        )
    return found


def by_position(weights: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return weights a block and class by the classes' positions, which heads learn where rows have names for them.

    Weights that are no dict of classes stay as they are.

    Raises
    ------
    HeadConfigError
        If a name is no class, or as `checked_class_weights` does.
    """
    if not any(isinstance(one, Mapping) for one in weights.values()):
        return dict(weights)
    place = {name: str(i) for i, name in enumerate(classes)}
    for block, of_class in weights.items():
        for name in of_class if isinstance(of_class, Mapping) else ():
            if name not in place:
                raise HeadConfigError(
                    f"block {block!r} has a weight for class {name!r}, which is none; {nearest(str(name), place)}"
                )
    checked_class_weights(weights, weights, classes)
    return {block: {place[name]: weight for name, weight in one.items()} for block, one in weights.items()}


def settings_by_position(settings: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return settings whose factors and weights a class, by its name, go by its position (`by_position`).

    Raises
    ------
    HeadConfigError
        If a name is no class.
    """
    found = dict(settings)
    if isinstance(found.get("weights"), Mapping):
        found["weights"] = by_position(found["weights"], classes)
    if isinstance(factors_ := found.get("class_weight"), Mapping):
        place = {name: str(i) for i, name in enumerate(classes)}
        for name in factors_:
            if name not in place:
                raise HeadConfigError(
                    f"class_weight has a factor for class {name!r}, which is none; {nearest(str(name), place)}"
                )
        found["class_weight"] = {place[name]: factor for name, factor in factors_.items()}
    return found


logger = logging.getLogger(__name__)

NEVER: Final = -1e6
"""Score of a class that the meta-head never met: its probability is 0."""


@dataclass(kw_only=True, eq=False, repr=False)
class StackingHead(HeadOfMembers):
    """Multinomial logistic regression on the log probabilities of per-block members.

    It learns from answers about rows held out of the members' fits (Wolpert, 1992, "Stacked generalization"; class
    probabilities as its inputs: Ting and Witten, 1999, "Issues in stacked generalization", §3); the members that answer
    later are fitted on all rows. Unlike `late`, it can trust a member for some classes only.

    Parameters
    ----------
    C : float
        Inverse strength of the L2 penalty on the weights of the log probabilities.
    class_weight : None, "balanced" or dict
        Factor on each class's loss; the members have settings of their own.
    folds : int
        Folds that members are held out of; each costs one more fit of every member.
    random_state : int, RandomState or None
        Seed of members and folds.

    Attributes
    ----------
    members_ : dict of block name to fitted head
    coef_ : ndarray of shape (k, number of blocks, k), float64
        What a member's log probability of a class (last axis) adds to the score of a class (first axis).
    intercept_ : ndarray of shape (k,), float64
        `NEVER` for a class that no held-out row had.
    """

    name: ClassVar[str] = "stacking"

    C: float = 1.0
    class_weight: Any = None
    folds: int = 5

    def _fit(self, X: FloatArray, codes: Codes, info: RowInfo) -> None:
        check_folds(self.folds)
        positive(self, "C")
        weights = info.weighed(factors(self.class_weight, self.classes_, codes)[codes])
        planes, asked = self._out_of_fold(X, codes, info)
        self._fit_meta(_inputs(planes), codes[asked], weights[asked])
        self._fit_members(X, codes, info)

    def _keeps_aside(self) -> bool:
        return True

    def _fit_meta(self, inputs: NDArray[np.float64], codes: Codes, weights: NDArray[np.float64]) -> None:
        known, k, m = np.unique(codes), len(self.classes_), len(self.blocks_)
        if len(known) < 2:
            raise HeadDataError(
                f"stacking needs held-out rows of at least two classes, however: {len(codes)} rows of {len(known)}\n"
                "  give classes more rows, or use 'late', which needs no held-out rows"
            )
        if len(known) < k:
            lost = ", ".join(str(one) for i, one in enumerate(self.classes_) if i not in known)
            logger.warning("stacking never answers %s: too few rows to hold one out", lost)
        model = LogisticRegression(C=self.C, max_iter=1000)
        model.fit(inputs, codes, sample_weight=weights)
        coef, intercept = model.coef_, model.intercept_
        if len(known) == 2:  # two classes share one row in scikit-learn: sigmoid(z) = softmax(0, z)
            coef, intercept = np.vstack([0 * coef, coef]), np.array([0.0, intercept[0]])
        self.coef_ = np.zeros((k, m, k))
        self.coef_[known] = coef.reshape(len(known), m, k)
        self.intercept_ = np.full(k, NEVER)
        self.intercept_[known] = intercept

    def _proba(self, X: FloatArray) -> Proba:
        inputs = _inputs(self._raw_proba(X))
        return softmax(inputs @ self.coef_.reshape(len(self.coef_), -1).T + self.intercept_)

    def _state(self) -> HeadState:
        return HeadState(arrays={"coef": self.coef_, "intercept": self.intercept_}) | self._state_of_members()

    def _restore(self, state: HeadState) -> None:
        k = len(self.classes_)
        self.coef_ = expect_shape("coef", state.arrays["coef"], (k, len(self.blocks_), k))
        self.intercept_ = expect_shape("intercept", state.arrays["intercept"], (k,))
        self._restore_members(state)


def _inputs(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log probabilities side by side: (m, n, k) -> (n, m * k)."""
    m, n, k = planes.shape
    return np.log(np.maximum(planes, SMALLEST)).transpose(1, 0, 2).reshape(n, m * k)
