"""From decisions of several seeds and penalties to the curves of a sweep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cer_fusion.fusion.data.rows import Rows
from cer_fusion.fusion.heads.mixing import counted, totals
from cer_fusion.fusion.judging.statistics.intervals import Bootstrap, bootstrap
from cer_fusion.fusion.sweeps.curve import curve
from cer_fusion.fusion.sweeps.deciders import Decisions
from cer_fusion.fusion.sweeps.result import Curve
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Scoring:
    """Scores decisions of s seeds; a row counts once a seed, and its repeats stay together in every resample."""

    weights: NDArray[np.float64]
    """(w, m) weight vectors."""
    k: int
    """Declared classes."""
    resamples: int
    """Of the bootstrap."""
    level: float
    """Nominal coverage of the intervals, 0-1."""
    seed: int
    """Of the bootstrap."""

    def penalised(self, rows: Rows, y_pred: Decisions) -> Penalised:
        """Take for each vector the penalty of the best macro F1: (c, w, s, n); of equal ones the strongest first."""
        flat = y_pred.reshape(*y_pred.shape[:2], -1)
        truth = np.tile(rows.y, y_pred.shape[2])
        macro_f1 = np.stack([totals(counted(truth, lines, self.k))[1] for lines in flat])  # (c, w)
        penalty = macro_f1.argmax(axis=0)
        best = np.take_along_axis(y_pred, penalty[None, :, None, None], axis=0)[0]
        return Penalised(penalty, macro_f1, self.curve(rows, best))

    def curve(self, rows: Rows, y_pred: Decisions) -> Curve:
        """Score (w, s, n)."""
        s, flat = y_pred.shape[1], y_pred.reshape(len(y_pred), -1)
        options: dict[str, Any] = {"resamples": self.resamples, "level": self.level, "seed": self.seed}
        found = curve(np.tile(rows.y, s), flat, self.k, self.weights, groups=_repeated(rows, s), **options)
        return replace(found, n=rows.n)

    def draws(self, rows: Rows, y_pred: Decisions) -> tuple[Bootstrap, bool]:
        """Resample (h, s, n) for the chosen vector's own intervals; also whether all rows are independent."""
        s, flat, groups = y_pred.shape[1], y_pred.reshape(len(y_pred), -1), _repeated(rows, y_pred.shape[1])
        found = bootstrap(np.tile(rows.y, s), flat, self.k, groups=groups, resamples=4 * self.resamples, seed=self.seed)
        return found, groups is None


@dataclass(frozen=True, eq=False)
class Penalised:
    """Each vector under the penalty that the deciding rows like best."""

    penalty: NDArray[np.intp]
    """(w,) which one that is."""
    macro_f1: NDArray[np.float64]
    """(c, w) macro F1 under each."""
    curve: Curve
    """Scores under the best."""


def _repeated(rows: Rows, s: int) -> tuple[str, ...] | None:
    if s == 1:
        return rows.clusters
    return (rows.clusters or tuple(str(i) for i in range(rows.n))) * s
