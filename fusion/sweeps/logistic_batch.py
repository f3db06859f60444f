"""Many penalised logistic regressions on one matrix, trained together: every product with the data is one large one."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from cer_fusion.fusion.data.products import divided_product, one_blas_thread_each
from cer_fusion.fusion.sweeps.logistic_problems import Problems
from cer_fusion.fusion.sweeps.quasi_newton import MEMORY, Curvature, dots
from numpy.typing import NDArray

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
