"""Many weights at once: whole grids of block or decision weights, scored as one job.

`sweep` is the front door and `Sweep` its result. Linear heads of all points are trained together (`block_batch`,
`logistic_batch`), ridge comes from Gram matrices (`ridge_batch`, `gram`), decisions from members mixed once
(`deciders`); `identifiability` says which sweeps cannot matter before one is run.
"""

from __future__ import annotations

from .result import Sweep
from .sweeping import sweep

__all__ = ["Sweep", "sweep"]
