"""What a head is to the evaluation, and its answers over all declared classes."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from cer_fusion.fusion.errors import ReportError
from numpy.typing import NDArray


class Classifier(Protocol):
    """A scikit-learn classifier, fitted or not."""

    classes_: NDArray[Any]

    def fit(self, X: Any, y: Any) -> Any:
        """Learn from (n, D) rows and (n,) labels."""

    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Return (n, k) probabilities in the order of ``classes_``."""

    def get_params(self, deep: bool = ...) -> dict[str, Any]:
        """Return the parameters."""

    def set_params(self, **params: Any) -> Any:
        """Change parameters."""


class Truth(Protocol):
    """Rows that answers are judged on; `Rows` is one, a kept run another."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in order."""

    @property
    def y(self) -> NDArray[np.int64]:
        """(n,) positions in ``classes``."""

    @property
    def names(self) -> tuple[str, ...]:
        """Sample ids."""

    @property
    def clusters(self) -> tuple[str, ...] | None:
        """The group of each row when any two rows share one; else None."""


def aligned(proba: NDArray[Any], seen: NDArray[Any], k: int, where: str) -> NDArray[np.float64]:
    """Spread (…, n, seen) probabilities over all k declared classes: a class that was never seen gets 0."""
    table = np.asarray(proba, dtype=np.float64)
    positions = np.asarray(seen, dtype=np.int64)
    if table.shape[-1] != positions.size or not np.isfinite(table).all() or (table < 0).any():
        raise ReportError(
            f"{where} must answer {positions.size} finite probabilities a row, however: shape {table.shape}"
        )
    if not np.allclose(table.sum(axis=-1), 1.0, atol=1e-4):
        raise ReportError(f"{where} must answer probabilities that sum to 1, however: {table.sum(axis=-1).min():.4f}")
    full = np.zeros((*table.shape[:-1], k))
    full[..., positions] = table
    return full
