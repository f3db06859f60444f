"""Many logistic regressions trained together, on one Gram matrix a fold."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..data.joined import divided_product, one_blas_thread_each

log = logging.getLogger(__name__)

FloatArray = NDArray[Any]
"""float32, or float64 where problems are polished."""

Scalars = NDArray[np.float64]
IntArray = NDArray[np.int64]

TOLERANCE: Final = 1e-5
"""Euclidean norm of the mean loss's gradient at which a problem is solved. scikit-learn's default stops at a largest
entry of 1e-4, which is at least ten times looser; probabilities of the two were seen to differ by 0.02."""

SUFFICIENT: Final = 1e-4
"""Share of the promised decrease that a step must keep (Nocedal and Wright, 2006, eq. 3.4)."""

ROUNDING: Final = 2.0
"""Relative error of a loss, in epsilons of its logits' type: a step is not refused for less."""

PATIENCE: Final = 25
"""Iterations without a new smallest gradient after which float32 has done what it can."""

BYTES: Final = 1_000_000_000
"""Memory that one batch may take; more problems are dealt over several."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Solved:
    """The optima of p problems."""

    coef: FloatArray
    """(p, k, D) weights on the scaled columns, as a head on the weighed blocks would have them, times the scales: that
    is, weights on the columns as given."""
    intercept: FloatArray
    """(p, k)."""
    gradient: Scalars
    """(p,) Euclidean norm of each mean loss's gradient, by the weights on scaled columns and the intercepts."""
    iterations: IntArray
    """(p,)."""


def fit_batch(
    parts: Sequence[FloatArray],
    codes: IntArray,
    scales: Scalars,
    C: Scalars,
    class_weights: Scalars,
    *,
    tol: float = TOLERANCE,
    max_iter: int = 1000,
) -> Solved:
    """Minimise, for every problem, what scikit-learn's `LogisticRegression` minimises on its scaled blocks.

    Problem p sees block b times ``scales[p, b]``: its logits are ``sum_b scales[p, b] * parts[b] @ W_b``, so all logits
    of all problems are one product of the joined blocks with the joined, scaled weights, and so are the gradients.
    L-BFGS steps (`quasi_newton`) are preconditioned by the Hessian's diagonal, which is nearly all of it if the
    blocks stand in their principal axes (`block_axes`). Solved problems leave the batch. Products are float32;
    where rounding stops them short of `tol`, the problems left go on in float64.

    Parameters
    ----------
    parts : sequence of float32 arrays of shape (n, d_b)
    codes : int64 array of shape (n,)
        Classes 0..k-1.
    scales : float64 array of shape (p, number of blocks)
        Not negative.
    C : float64 array of shape (p,)
        Inverse strengths of the penalty, as scikit-learn's.
    class_weights : float64 array of shape (k,)
        Factor on the loss of each class's rows.
    tol, max_iter
        Where to stop; stopping at `max_iter` is a `ConvergenceWarning`.
    """
    with one_blas_thread_each() as pool:
        return _fitted(Problems(parts, codes, scales, C, class_weights, divided_product(pool)), tol, max_iter)


def _fitted(problems: Problems, tol: float, max_iter: int) -> Solved:
    p, width = len(problems.scales), problems.width
    coef, gradients = np.zeros((p, problems.k * width), np.float32), np.zeros(p)
    iterations = np.zeros(p, np.int64)
    state = _State(problems)
    active = np.arange(p)
    for number in range(max_iter + 1):
        norms = np.sqrt(dots(state.gradient, state.gradient))
        leaving = norms <= tol if number < max_iter else np.ones(len(active), np.bool_)
        if np.count_nonzero(leaving) >= 0.1 * len(active):  # not for each single one: compacting copies everything
            done = active[leaving]
            coef[done], gradients[done], iterations[done] = state.coef[leaving], norms[leaving], number
            active, norms = active[~leaving], norms[~leaving]
            if not active.size:
                break
            state.keep(np.flatnonzero(~leaving))
        if state.stalled(norms):
            log.debug("batch: %d problems go on in float64", len(active))
            state.polish()
        log.debug("batch: iteration %d, %d of %d problems open, norm %.1e", number, len(active), p, norms.max())
        state.step()
    _say_if_unfinished(gradients, tol, max_iter)
    shaped = coef.reshape(p, problems.k, width) * problems.all_scales[:, None, :]
    return Solved(coef=shaped[:, :, :-1], intercept=shaped[:, :, -1].copy(), gradient=gradients, iterations=iterations)


def batch_size(n: int, width: int, k: int) -> int:
    """Return how many problems on n rows, `width` columns and k classes one batch takes within `BYTES`."""
    one = 4 * k * (width * (2 * MEMORY + 8) + 5 * n)
    return max(1, BYTES // one)


class _State:
    """Where the open problems stand; flat arrays are (p, k * (D + 1))."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        p = len(problems.scales)
        self.coef = np.zeros((p, problems.k * problems.width), np.float32)
        self.logits = np.zeros((p, problems.k, len(problems.codes)), np.float32)
        self.initial = problems.initial()
        self.curvature = Curvature()
        self.smallest, self.waited = np.inf, 0
        self._look()

    def stalled(self, norms: Scalars) -> bool:
        """Whether float32 no longer brings the largest gradient down."""
        largest = float(norms.max())
        self.waited = 0 if largest < 0.9 * self.smallest else self.waited + 1
        self.smallest = min(self.smallest, largest)
        return self.waited > PATIENCE and self.coef.dtype == np.float32

    def polish(self) -> None:
        """Go on in float64, with all that was learned about the curvature forgotten."""
        self.problems.polish()
        self.coef = self.coef.astype(np.float64)
        self.logits = self.problems.logits(self.coef.reshape(len(self.coef), self.problems.k, -1))
        self.initial = self.problems.initial()
        self.curvature.forget()
        self._look()

    def _look(self) -> None:
        """Find loss and gradient where the problems stand."""
        ridge = self.problems.ridge[:, None, :]
        shaped = self.coef.reshape(len(self.coef), self.problems.k, -1)
        losses, residuals = self.problems.losses(self.logits.copy())
        self.value = losses + 0.5 * np.einsum("pkd,pkd->p", ridge * shaped, shaped, dtype=np.float64)
        self.gradient = (self.problems.pulled(residuals) + ridge * shaped).reshape(len(self.coef), -1)
        self.smallest, self.waited = np.inf, 0

    def step(self) -> None:
        """Take one L-BFGS step each, as long as decreases its loss enough: the loss along a line needs no product."""
        flat = self.coef.shape
        direction = self.curvature.direction(self.gradient, self.initial)
        slope = dots(self.gradient, direction)
        if (slope >= 0).any():  # rounding has eaten the curvature of some problem
            self.curvature.forget()
            direction = self.initial(-self.gradient)
            slope = dots(self.gradient, direction)
        along = self.problems.logits(direction.reshape(len(direction), self.problems.k, -1))
        bent = self._penalty_slopes(direction)
        length, value, residuals = self._searched(along, slope, bent)
        taken = length.astype(self.coef.dtype)
        self.logits += taken[:, None, None] * along
        direction *= taken[:, None]
        self.coef += direction
        gradient = self.problems.pulled(residuals)
        shaped = self.coef.reshape(gradient.shape)
        gradient += self.problems.ridge[:, None, :] * shaped
        change = gradient.reshape(flat) - self.gradient
        self.curvature.learn(direction, change)
        self.gradient, self.value = gradient.reshape(flat), value

    def keep(self, which: NDArray[np.intp]) -> None:
        """Go on with these problems only."""
        self.problems.keep(which)
        self.curvature.keep(which)
        self.initial.keep(which)
        self.coef, self.gradient, self.value = self.coef[which], self.gradient[which], self.value[which]
        self.logits = self.logits[which]

    def _penalty_slopes(self, direction: FloatArray) -> tuple[Scalars, Scalars, Scalars]:
        """Return half the penalty here, its slope along the direction, and its bend."""
        ridge = self.problems.ridge[:, :1]
        coef, along = (part.reshape(len(part), self.problems.k, -1)[:, :, :-1] for part in (self.coef, direction))
        products = ((coef, coef), (coef, along), (along, along))
        pairs = [np.einsum("pkd,pkd->p", a, b, dtype=np.float64) for a, b in products]
        weight = ridge[:, 0].astype(np.float64)
        return 0.5 * weight * pairs[0], weight * pairs[1], weight * pairs[2]

    def _searched(
        self, along: FloatArray, slope: Scalars, penalty: tuple[Scalars, Scalars, Scalars]
    ) -> tuple[Scalars, Scalars, FloatArray]:
        """Return lengths (p,), mean losses with penalty there (p,), and residuals there (p, k, n)."""
        here, tilt, bend = penalty
        length = np.ones(len(slope))
        slack = ROUNDING * float(np.finfo(along.dtype).eps) * np.abs(self.value)
        losses, residuals = self.problems.losses(self.logits + along)
        value = losses + here + tilt + 0.5 * bend
        for _ in range(30):
            short = np.flatnonzero(value > self.value + SUFFICIENT * length * slope + slack)
            if not short.size:
                break
            rise = value[short] - self.value[short] - length[short] * slope[short]
            guess = -slope[short] * length[short] ** 2 / (2 * rise)  # lowest point of the parabola through both ends
            length[short] = np.clip(guess, 0.1 * length[short], 0.5 * length[short])
            some = length[short].astype(along.dtype)[:, None, None]
            losses, residuals[short] = self.problems.losses(self.logits[short] + some * along[short])
            value[short] = losses + here[short] + length[short] * (tilt[short] + 0.5 * length[short] * bend[short])
        return length, value, residuals


def _say_if_unfinished(gradients: Scalars, tol: float, max_iter: int) -> None:
    from sklearn.exceptions import ConvergenceWarning

    late = int(np.count_nonzero(gradients > tol))
    if late:
        warnings.warn(
            f"{late} of {len(gradients)} heads of the sweep did not converge within {max_iter} iterations: gradient "
            f"norm up to {gradients.max():.1e}, wanted {tol:.0e}\n  raise max_iter, lower C, or normalise the blocks",
            ConvergenceWarning,
            stacklevel=4,
        )


"""float32, or float64 where problems are polished."""


class Problems:
    """The data, and how much of each block each problem sees; weights are (p, k, D + 1) with the intercept last.

    Weights and residuals of all classes sum to zero in every column, so that products leave the last class out.

    Parameters
    ----------
    parts, codes, scales, C, class_weights
        As for `cer_fusion.fusion.sweeps.logistic.fit_batch`.
    product : callable
        Multiplies matrices.
    """

    def __init__(
        self,
        parts: Sequence[FloatArray],
        codes: IntArray,
        scales: Scalars,
        C: Scalars,
        class_weights: Scalars,
        product: Callable[[FloatArray, FloatArray], FloatArray] = np.matmul,
    ) -> None:
        self.product = product
        n, self.k = len(codes), len(class_weights)
        self.rows = np.concatenate([*parts, np.ones((n, 1), np.float32)], axis=1)  # (n, D + 1)
        self.columns = np.ascontiguousarray(self.rows.T)
        self.width = self.rows.shape[1]
        self.codes = codes
        widths = [part.shape[1] for part in parts]
        self.all_scales = np.concatenate([np.repeat(scales, widths, axis=1), np.ones((len(scales), 1))], axis=1)
        self.all_scales = self.all_scales.astype(np.float32)
        self.scales = self.all_scales
        weights = class_weights[codes]
        self.shares = (weights / weights.sum()).astype(np.float32)  # (n,) of unit sum
        self.truth = np.zeros((self.k, n), np.float32)
        self.truth[codes, np.arange(n)] = 1
        # Two classes share one row of weights in scikit-learn; two opposite rows of half its length have the same
        # logits at half its squared norm, hence twice the penalty.
        ridge = (2.0 if self.k == 2 else 1.0) / (C * weights.sum())
        self.ridge = np.repeat(ridge[:, None], self.width, axis=1).astype(np.float32)  # (p, D + 1)
        self.ridge[:, -1] = 0

    def logits(self, coef: FloatArray) -> FloatArray:
        """(p, k, D + 1) -> (p, k, n); classes sum to zero, so the last one is what is left."""
        scaled = coef[:, :-1] * self.scales[:, None, :]
        p, free, width = scaled.shape
        out = np.empty((p, self.k, len(self.codes)), coef.dtype)
        out[:, :-1] = self.product(scaled.reshape(p * free, width), self.columns).reshape(p, free, -1)
        np.negative(out[:, :-1].sum(axis=1), out=out[:, -1])
        return out

    def pulled(self, residuals: FloatArray) -> FloatArray:
        """(p, k, n) -> (p, k, D + 1): the transpose of `logits`."""
        p, _, n = residuals.shape
        out = np.empty((p, self.k, self.width), residuals.dtype)
        free = np.ascontiguousarray(residuals[:, :-1]).reshape(-1, n)
        out[:, :-1] = self.product(free, self.rows).reshape(p, self.k - 1, -1) * self.scales[:, None, :]
        np.negative(out[:, :-1].sum(axis=1), out=out[:, -1])
        return out

    def losses(self, logits: FloatArray) -> tuple[Scalars, FloatArray]:
        """Return mean losses (p,) and the residuals (p, k, n) they are driven by; (p, k, n) is overwritten."""
        top = logits.max(axis=1, keepdims=True)
        logits -= top
        right = np.take_along_axis(logits, self.codes[None, None, :], axis=1)[:, 0]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1, keepdims=True)
        losses = (np.log(total[:, 0]) - right) @ self.shares.astype(np.float64)
        logits /= total
        logits -= self.truth
        logits *= self.shares
        return losses, logits

    def initial(self) -> Initial:
        """Return the reciprocals of the Hessians' diagonals where fitted probabilities vary half as much as priors."""
        prior = np.maximum(self.truth @ self.shares, 1e-3)  # a class may count for nothing
        squares = (np.square(self.rows) * self.shares[:, None]).sum(axis=0)
        squared = np.square(self.scales) * squares  # (p, D + 1)
        bend = 0.5 * (prior * (1 - prior))[None, :, None] * squared[:, None, :] + self.ridge[:, None, :]
        return Initial((1 / np.maximum(bend, 1e-12)).astype(self.rows.dtype))

    def polish(self) -> None:
        """Go on in float64."""
        for name in ("rows", "columns", "scales", "ridge", "shares", "truth"):
            setattr(self, name, getattr(self, name).astype(np.float64))

    def keep(self, which: NDArray[np.intp]) -> None:
        """Go on with these problems only."""
        self.scales, self.ridge = self.scales[which], self.ridge[which]


"""float32, or float64 where problems are polished."""


MEMORY: Final = 8
"""Pairs remembered; more saved no iteration on the real features of `benchmarks/simplex_sweep.py`."""


class Curvature:
    """What the last steps of p problems say about their Hessians.

    The two-loop recursion of Nocedal and Wright (2006, "Numerical optimization", algorithm 7.4) around an initial
    inverse Hessian H0, whose scale follows the last pair (their eq. 7.20 in the metric of H0). Problems are the first
    axis: all arrays are (p, j).
    """

    def __init__(self) -> None:
        self._pairs: list[tuple[FloatArray, FloatArray, Scalars]] = []

    def direction(self, gradient: FloatArray, initial: Initial) -> FloatArray:
        """Return the descent direction (p, j) of each problem at its gradient (p, j)."""
        found = -gradient
        taken: list[Scalars] = []
        for step, change, inverse in reversed(self._pairs):
            share = inverse * dots(step, found)
            _add(found, -share, change)
            taken.append(share)
        found = initial(found)
        if self._pairs:
            _, change, inverse = self._pairs[-1]
            size = inverse * dots(change, initial(change))
            found *= np.where(size > 0, 1 / np.where(size > 0, size, 1.0), 1.0).astype(found.dtype)[:, None]
        for (step, change, inverse), share in zip(self._pairs, reversed(taken), strict=True):
            _add(found, share - inverse * dots(change, found), step)
        return found

    def learn(self, step: FloatArray, change: FloatArray) -> None:
        """Remember steps (p, j) and how the gradients changed along them; a pair without curvature is passed over."""
        bend = dots(step, change)
        known = bend > 1e-10 * np.sqrt(dots(step, step) * dots(change, change))
        inverse = np.where(known, 1 / np.where(known, bend, 1.0), 0.0)
        self._pairs = [*self._pairs[-MEMORY + 1 :], (step, change, inverse)]

    def keep(self, which: NDArray[np.intp]) -> None:
        """Go on with these problems only."""
        self._pairs = [(step[which], change[which], inverse[which]) for step, change, inverse in self._pairs]

    def forget(self) -> None:
        """Start anew, from the initial inverse Hessian."""
        self._pairs = []


class Initial:
    """An initial inverse Hessian for classes whose weights sum to zero: a diagonal, then less the mean over classes.

    Parameters
    ----------
    inverse : array of shape (p, k, d)
        Positive reciprocals of the Hessians' diagonals.
    """

    def __init__(self, inverse: FloatArray) -> None:
        self.inverse = inverse

    def __call__(self, vector: FloatArray) -> FloatArray:
        """Apply it to (p, k * d)."""
        shaped = vector.reshape(self.inverse.shape) * self.inverse
        shaped -= shaped.mean(axis=1, keepdims=True)
        return shaped.reshape(vector.shape)

    def keep(self, which: NDArray[np.intp]) -> None:
        """Go on with these problems only."""
        self.inverse = self.inverse[which]


def dots(a: FloatArray, b: FloatArray) -> Scalars:
    """Return the inner product of each problem's two lines: (p, j), (p, j) -> (p,)."""
    return np.array([np.dot(x, y) for x, y in zip(a, b, strict=True)], dtype=np.float64)


def _add(to: FloatArray, factors: Scalars, lines: FloatArray) -> None:
    """Add a multiple of a line to each line in place, without an array of all of them."""
    for one, factor, line in zip(to, factors.astype(to.dtype), lines, strict=True):
        one += factor * line
