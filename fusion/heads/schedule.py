"""How the learning rate moves."""

from __future__ import annotations

import math
from typing import Final

WARM_UP: Final = 0.05
"""Share of the steps over which `cosine` raises the learning rate."""


def cosine(step: int, steps: int) -> float:
    rise = min(1.0, (step + 1) / max(1.0, WARM_UP * steps))
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))
