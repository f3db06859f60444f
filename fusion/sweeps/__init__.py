"""Many points at once: whole grids of block or decision weights, or of a head's settings, scored as one job.

`sweep` is the front door and `Sweep` its result. Linear heads of all points are trained together (`block_batch`,
`logistic_batch`), ridge comes from Gram matrices (`ridge_batch`, `gram`), decisions from members mixed once
(`deciders`); `block_axes` says which sweeps cannot matter before one is run. Settings are `Axes`, one fit a point.
"""

from __future__ import annotations

from .axes import Axes
from .result import Sweep
from .sweeping import sweep

__all__ = ["Axes", "Sweep", "sweep"]
