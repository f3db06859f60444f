"""Linear CKA of all pairs of blocks as a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from cer_fusion.fusion.judging.diagnosis.cka import Similarity
from cer_fusion.fusion.page.figures import INK, PAPER
from cer_fusion.fusion.page.table import MINUS


def draw_cka(panel: Any, similar: Similarity) -> None:
    """Draw the matrix with its figures; darker is more alike."""
    values = np.array(similar.cka, dtype=np.float64)
    panel.imshow(values, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*values.shape):
        panel.text(
            column,
            row,
            f"{values[row, column]:.2f}".replace("-0.00", "0.00").replace("-", MINUS),
            ha="center",
            va="center",
            fontsize=9 if len(values) < 6 else 6.5,
            color=PAPER if values[row, column] > 0.55 else INK,
        )
    places = range(len(similar.names))
    panel.set_xticks(places, similar.names, rotation=45, ha="right", rotation_mode="anchor")
    panel.set_yticks(places, similar.names)
    panel.set_title(f"How alike the blocks are\nlinear CKA, {similar.n:,} rows", pad=8)
    panel.set_xticks(np.arange(len(places) + 1) - 0.5, minor=True)
    panel.set_yticks(np.arange(len(places) + 1) - 0.5, minor=True)
    panel.grid(which="minor", color=PAPER, linewidth=1.5)
    panel.tick_params(which="both", length=0)
    panel.spines[:].set_visible(False)
