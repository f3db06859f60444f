"""Pictures of results: drawn with matplotlib's object interface, so no global state and no window."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cer_fusion.fusion.errors import MissingExtraError, ReportError
from cer_fusion.fusion.files.atomic import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")

INK, GREY, PAPER = "#1a1a1a", "#6b6b6b", "#ffffff"
"""Text, secondary text, background."""

BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
"""Of the Okabe-Ito palette, told apart with every common colour blindness."""

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
    """Write a figure as PNG, PDF or SVG by the path's suffix, whole or not at all; see `write_atomic`.

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
    return write_atomic(path, out.getvalue(), overwrite=overwrite)


def check_figure_name(path: Path) -> str:
    """Return the suffix of a figure's name, in small letters; refuse one that says no form that we draw."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ReportError(f"cannot draw to {path.name!r}: the name must end in {', '.join(SUFFIXES)}")
    return suffix
