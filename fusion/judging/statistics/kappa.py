"""Cohen's kappa: how far two sets of answers agree beyond chance."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def cohen_kappa(confusion: NDArray[Any]) -> float | None:
    """Agreement beyond chance (Cohen 1960) of a (k, k) table: 1 full, 0 as by chance; None if chance alone is full."""
    n = confusion.sum()
    observed = np.trace(confusion) / n
    expected = float((confusion.sum(axis=0) / n) @ (confusion.sum(axis=1) / n))
    return None if expected >= 1.0 else float((observed - expected) / (1.0 - expected))
