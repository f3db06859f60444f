"""Weights that do best on rows not learned from: of members' decisions, of pooled answers, of blocks' votes."""

from __future__ import annotations

from decimal import Decimal
from math import comb
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
from cer_fusion.fusion.data.blocks import simplex
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads.base import Codes, softmax
from cer_fusion.fusion.heads.calibration import log_loss
from cer_fusion.fusion.heads.mixing import Mix, counted, decisions, mixed, probabilities, terms, totals
from cer_fusion.kit.errors import nearest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

Objective: TypeAlias = Literal["log_loss", "macro_f1"]

MOST_VECTORS: Final = 2_000
"""Weight vectors that are tried for macro F1, which has no gradient."""

SMALL: Final = 1e-3
"""Weights under this are left out unless that makes the mix worse."""

STEPS: Final = ("0.05", "0.1", "0.2", "0.25", "0.5", "1")


def learned_weights(
    planes: NDArray[np.float64], codes: Codes, *, mix: Mix, objective: str = "log_loss"
) -> NDArray[np.float64]:
    """Return weights (m,) of unit sum, none negative, under which the mix of members is best.

    - ``log_loss``: by L-BFGS from equal weights. Convex for the arithmetic and the geometric mix, whose minimum is
      found; for the others a local one is.
    - ``macro_f1``: the best vector of a grid over the simplex; of equal ones that of the least log loss.

    Parameters
    ----------
    planes : ndarray of shape (m, n, k)
        Probabilities of calibrated members, of rows none of them had seen.
    codes : int64 array of shape (n,)
        Classes of the rows.
    mix : {"arithmetic", "geometric", "harmonic", "rank"}
    objective : {"log_loss", "macro_f1"}
    """
    check_objective(objective)
    if objective == "macro_f1":
        vectors = _vectors(len(planes))
        k = planes.shape[2]
        _, macro_f1 = totals(counted(codes, decisions(planes, vectors, mix), k))
        best = vectors[macro_f1 >= macro_f1.max() - 1e-12]
        losses = [log_loss(mixed(planes, one, mix), codes) for one in best]
        return np.asarray(best[int(np.argmin(losses))])
    averaged = terms(planes, mix)

    def loss(free: NDArray[np.float64]) -> float:
        return log_loss(probabilities(np.tensordot(softmax(free), averaged, axes=1), mix), codes)

    m = len(planes)
    found = softmax(np.asarray(minimize(loss, np.zeros(m), method="L-BFGS-B", bounds=[(-8, 8)] * m).x))
    # A softmax reaches no zero: try the nearby vectors that have some.
    pruned = np.where(found < SMALL, 0, found) / found[found >= SMALL].sum()
    candidates = [*np.eye(m), pruned, found]
    return np.asarray(candidates[int(np.argmin([log_loss(mixed(planes, one, mix), codes) for one in candidates]))])


def check_objective(objective: str) -> None:
    """Refuse a word that is no objective."""
    if objective not in get_args(Objective):
        raise HeadConfigError(f"there is no objective {objective!r}; {nearest(str(objective), get_args(Objective))}")


def _vectors(m: int) -> NDArray[np.float64]:
    """Return the finest grid over the weights of m members that is not too large; equal weights are in it."""
    step = next((one for one in STEPS if comb(int(1 / Decimal(one)) + m - 1, m - 1) <= MOST_VECTORS), STEPS[-1])
    return np.vstack([np.full(m, 1 / m), simplex(m, Decimal(step))])


def likeliest_factors(
    votes: NDArray[np.float64],
    codes: Codes,
    *,
    others: NDArray[np.float64] | float = 0.0,
    about: NDArray[np.float64],
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the factors (m,), none negative, on votes that make the true classes most likely.

    A row's logits are ``others + sum of factors * votes``. The loss is convex in the factors; a normal prior of
    variance one about `about`, worth less than a row, makes it strictly so, and keeps factors finite where nobody is
    ever wrong.

    Parameters
    ----------
    votes : float64 array of shape (m, n, k)
        What each member adds to the logits of rows that it did not learn from.
    codes : int64 array of shape (n,)
        Their classes; without rows `start` is returned.
    others : float64 array of shape (n, k), optional
        Logits that no factor is on.
    about, start : float64 arrays of shape (m,)
        What the prior is about; where the search begins, there if not given.
    """
    rows, n = np.arange(len(codes)), len(codes)
    start = about if start is None else start
    if not n:
        return start

    def loss(factors: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        log_proba = log_softmax(others + np.tensordot(factors, votes, axes=1), axis=1)
        apart, slope = factors - about, np.exp(log_proba)
        slope[rows, codes] -= 1
        value = -log_proba[rows, codes].mean() + apart @ apart / (2 * n)
        return float(value), (np.einsum("mnk,nk->m", votes, slope) + apart) / n

    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start))
    return np.asarray(found.x, np.float64)
