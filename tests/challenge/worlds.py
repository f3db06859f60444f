"""Made-up rows of a world in which label shift is all that changes, and the probabilities are the right ones."""

from __future__ import annotations

import numpy as np

CENTRES = np.array([[0.0, 0.0], [2.0, 0.5], [0.5, 2.5]])


def world(prior: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2) of three Gaussian classes that are as frequent as the prior says, and their classes (n,)."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, size=n, p=prior)
    return CENTRES[y] + rng.normal(size=(n, 2)), y


def calibrated(points: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The exact class probabilities (n, 3) of points under a prior."""
    distances = ((points[:, None] - CENTRES) ** 2).sum(axis=2)
    likely = np.exp(-0.5 * distances) * prior
    return likely / likely.sum(axis=1, keepdims=True)
