"""Parts of a ternary plot: hexagons over a triangle of shares, and the shares along its edges."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from cer_fusion.fusion.page.figures import GREY
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

SIDE: Final = float(np.sqrt(3) / 2)
"""Height of a triangle of side one."""


def edge_shares(panel: Any, names: list[str], gap: float) -> None:
    """Write shares along the edges: of the second block below, of the third on the right, of the first on the left."""
    small: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7, "color": GREY}
    out, aside = gap + 0.06, gap + 0.13
    panel.text(0.5, -out, f"share of {names[1]} \u2192", **small)
    panel.text(0.75 + aside * SIDE, SIDE / 2 + aside / 2, f"\u2190 share of {names[2]}", rotation=-60, **small)
    panel.text(0.25 - aside * SIDE, SIDE / 2 + aside / 2, f"\u2190 share of {names[0]}", rotation=60, **small)
    for percent in (20, 40, 60, 80):
        t = percent / 100
        panel.text(t, -gap - 0.01, f"{percent} %", **small)
        panel.text(1 - t / 2 + gap * SIDE + 0.015, SIDE * t + gap / 2, f"{percent} %", **small)
        panel.text((1 - t) / 2 - gap * SIDE - 0.015, SIDE * (1 - t) + gap / 2, f"{percent} %", **small)


def hexagons(panel: Any, points: FloatArray, steps: float) -> Any:
    """Tile the triangle: a hexagon a vector, as wide as the vectors are apart, with a hair's gap."""
    from matplotlib.collections import PolyCollection

    angles = np.deg2rad(np.arange(6) * 60 + 30)
    corners = 0.97 / (steps * np.sqrt(3)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)  # (6, 2)
    tiles = PolyCollection(list(points[:, None, :] + corners), cmap="viridis", linewidths=0, zorder=2)
    panel.add_collection(tiles)
    return tiles
