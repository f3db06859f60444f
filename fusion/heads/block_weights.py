"""Weights of blocks learned from labels: each block by what it adds to answers about rows not seen."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray, slices
from cer_fusion.fusion.heads.base import Codes, softmax
from cer_fusion.fusion.heads.linear import LinearHead
from cer_fusion.fusion.heads.out_of_fold import stratified_folds
from numpy.typing import NDArray
from scipy.optimize import minimize

logger = logging.getLogger(__name__)

FOLDS: Final = 3
NEVER: Final = -20.0
"""Logit of a class that the rows of a fold do not have."""


def learned_block_weights(
    X: FloatArray, codes: Codes, widths: Mapping[str, int], *, summed: bool, seed: int
) -> dict[str, float]:
    """Return one weight a block, none negative, of unit sum; a block that only disturbs gets none.

    In folds of the training rows a linear head learns from equally weighed blocks and says about the rows kept aside
    what each block votes for: its part of the logits. The weights are the factors on these votes, found by gradient,
    that make the labels of all rows likeliest (stacking: Breiman, 1996, "Stacked regressions", §2, with the log loss).
    The loss is convex in the factors, so there is one optimum. Weights learned on the same rows as the linear head
    itself would not do: it fits noise as readily as signal once there are as many columns as rows.

    Parameters
    ----------
    X : float32 array of shape (n, D)
        Joined blocks, equally weighed, whose columns have a mean square of about one.
    codes : int64 array of shape (n,)
        Classes 0..k-1.
    widths : dict of block name to width
        In column order; all equal where `summed`.
    summed : bool
        Whether the blocks will be added up, or joined.
    seed : int
        Of the folds.
    """
    votes, others = _votes(X, codes, widths, summed=summed, seed=seed)
    known = others[np.arange(len(codes)), codes] > NEVER  # a class that only one fold has says nothing about blocks
    found = _factors(votes[known], others[known], codes[known])
    if not found.any():
        logger.warning("no block says anything about rows not seen: all weigh alike")
        found = np.ones_like(found)
    weights = dict(zip(widths, (found / found.sum()).tolist(), strict=True))
    logger.info("learned weights: %s", ", ".join(f"{name}={weight:.3f}" for name, weight in weights.items()))
    return weights


def _votes(
    X: FloatArray, codes: Codes, widths: Mapping[str, int], *, summed: bool, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each block's part of the logits of rows not seen (n, blocks, k), and the part of none (n, k)."""
    k, parts = int(codes.max()) + 1, slices(widths)
    votes, others = np.zeros((len(X), len(widths), k)), np.full((len(X), k), NEVER)
    joined = np.mean([X[:, where] for where in parts.values()], axis=0) if summed else X
    fold = stratified_folds(codes, FOLDS, seed=seed)
    for number in range(FOLDS):
        seen = fold != number
        classes = np.unique(codes[seen])
        if len(classes) < 2 or seen.all():
            continue
        head = LinearHead(standardize="none").fit(joined[seen], codes[seen])
        cells = np.ix_(~seen, classes)
        others[cells] = head.intercept_
        for place, where in enumerate(parts.values()):
            coef = head.coef_ / len(parts) if summed else head.coef_[:, where]
            votes[:, place][cells] = X[~seen, where].astype(np.float64) @ coef.T / np.sqrt(joined.shape[1])
    return votes, others


def _factors(votes: NDArray[np.float64], others: NDArray[np.float64], codes: Codes) -> NDArray[np.float64]:
    """Return the factors (blocks,), none negative, on votes that make the codes likeliest.

    A penalty of one row's weight draws them to zero: a block whose votes change nothing gets no weight.
    """
    here, n = np.arange(len(codes)), len(codes)

    def loss(factors: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        proba = softmax(others + np.tensordot(votes, factors, axes=(1, 0)))
        value = -np.log(np.maximum(proba[here, codes], 1e-300)).sum() + 0.5 * np.square(factors).sum()
        proba[here, codes] -= 1
        return value / n, (np.einsum("nbk,nk->b", votes, proba) + factors) / n

    start = np.ones(votes.shape[1])
    if not n:
        return start
    found = minimize(loss, start, method="L-BFGS-B", jac=True, bounds=[(0.0, None)] * len(start))
    return np.asarray(found.x, np.float64)
