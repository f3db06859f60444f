"""Figures of results: confusion matrices, and saving."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...kit.errors import MissingExtraError
from ...kit.files import write_whole
from ..errors import ReportError
from ..judging.metrics import Scores
from .colours import GREY, INK, PAPER, readable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SUFFIXES = (".png", ".pdf", ".svg")

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10.0,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "fusion",
    "pdf.fonttype": 42,
}
"""Font that ships with matplotlib; text stays text in PDF and SVG, and a dollar sign in a name is no formula."""


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure of this size in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing needs matplotlib\n  install it with: pip install matplotlib") from error
    return Figure(figsize=(width_in, height_in), facecolor=PAPER, layout="constrained")


def save_figure(figure: Figure, path: Path, *, dpi: int = 200, overwrite: bool = True) -> Path:
    """Write a figure as PNG, PDF or SVG by the path's suffix, whole or not at all; see `write_whole`.

    No date goes inside, so equal figures are equal files.

    Raises
    ------
    ReportError
        If the suffix is none of these.
    """
    from matplotlib import rc_context

    path = Path(path)
    suffix = check_figure_name(path)
    dated = {".pdf": "CreationDate", ".svg": "Date"}
    out = BytesIO()
    with rc_context(STYLE):
        figure.savefig(
            out, format=suffix[1:], dpi=dpi, metadata={dated[suffix]: None} if suffix in dated else {"Software": None}
        )
    return write_whole(path, out.getvalue(), overwrite=overwrite)


def check_figure_name(path: Path) -> str:
    """Return the suffix of a figure's name, in small letters; refuse one that says no form that we draw."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ReportError(f"cannot draw to {path.name!r}: the name must end in {', '.join(SUFFIXES)}")
    return suffix


def draw_confusions(named: Sequence[tuple[str, Scores]], *, columns: int = 2) -> Figure:
    """Draw one or several confusion matrices over the same classes, each titled with its accuracy and macro F1.

    Cells give the share of the true class in percent and, below, the count; the colour is the share. A class without
    rows is left blank. Blues run from light to dark, so the picture survives colour blindness and grey printing.
    """
    from matplotlib import rc_context
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    across = min(columns, len(named))
    down = -(-len(named) // across)
    k = len(named[0][1].classes)
    side = 1.1 + 0.56 * max(k, 5)
    titled = [(in_lines(title, int(LETTERS * side)), scores) for title, scores in named]
    tall = side + 0.17 * max(title.count("\n") for title, _ in titled)
    with rc_context(STYLE):
        figure = new_figure(across * side + 1.2, down * tall + 1.0)
        panels: Any = figure.subplots(down, across, squeeze=False).ravel()
        for i, (title, scores) in enumerate(titled):
            _draw(panels[i], title, scores, first=i % across == 0, last=i + across >= len(named))
        for panel in panels[len(named) :]:
            panel.set_visible(False)
        bar: Any = figure.colorbar(
            ScalarMappable(Normalize(0, 100), "Blues"), ax=panels.tolist(), shrink=0.75, pad=0.02, aspect=30
        )
        bar.set_label("share of the true class (%)")
        bar.outline.set_visible(False)
    return figure


def draw_confusion(scores: Scores, title: str) -> Figure:
    """Draw one confusion matrix."""
    return draw_confusions([(title, scores)])


LETTERS = 11
"""Letters of a title that an inch has room for."""


def in_lines(text: str, most: int) -> str:
    """Break a text into lines of at most so many letters, between words or after a dot, underscore or hyphen."""
    lines = [""]
    for part in re.findall(r".+?(?:[\s._/+@:=-]+|$)", text):
        if lines[-1] and len(lines[-1] + part.rstrip()) > most:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _draw(panel: Any, title: str, scores: Scores, *, first: bool, last: bool) -> None:
    k = len(scores.classes)
    supports = scores.supports[:, None]
    share = 100 * np.divide(scores.confusion, supports, out=np.full((k, k), np.nan), where=supports > 0)
    shades = panel.imshow(np.nan_to_num(share), cmap="Blues", vmin=0, vmax=100)
    panel.set_title(
        f"{title}\naccuracy {100 * scores.accuracy:.1f} %, macro F1 {100 * scores.macro_f1:.1f} %, n = {scores.n}",
        pad=8,
    )
    for row, column in np.ndindex(k, k):
        _write(panel, row, column, share[row, column], int(scores.confusion[row, column]), shades)
    names = [_two_lines(name) for name in scores.classes]
    panel.set_xticks(range(k), names, rotation=45, ha="right", rotation_mode="anchor")
    panel.set_yticks(range(k), [f"{name}  ({n})" for name, n in zip(names, scores.supports.tolist(), strict=True)])
    panel.tick_params(length=0)
    panel.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    panel.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    panel.grid(which="minor", color=PAPER, linewidth=1.5)
    panel.tick_params(which="minor", length=0)
    panel.spines[:].set_visible(False)
    if first:
        panel.set_ylabel("true class (number of rows)")
    if last:
        panel.set_xlabel("predicted class\nin the cells: share of the true class (%), rows")


def _write(panel: Any, row: int, column: int, share: float, count: int, shades: Any) -> None:
    color = text_on(shades, np.nan_to_num(share))
    if np.isnan(share):
        panel.text(column, row, "\u2013", ha="center", va="center", color=color)
        return
    strong = "bold" if row == column else "normal"
    panel.text(column, row - 0.12, f"{share:.0f}", ha="center", va="center", color=color, fontsize=9, fontweight=strong)
    panel.text(column, row + 0.26, f"{count}", ha="center", va="center", color=color, fontsize=6.5)


def text_on(shades: Any, value: float) -> str:
    """Return the colour of text on a heat map's cell of this value."""
    red, green, blue, _ = shades.to_rgba(float(value))
    return readable((red, green, blue))


def _two_lines(name: str) -> str:
    return name.replace("_", " ").replace(" ", "\n", 1)
