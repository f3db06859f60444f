"""Sweeps drawn: a line for two blocks, a triangle for three; settings as a line, or as points below each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ...kit.table import EN_DASH
from ..page.colours import BLUE, GREEN, GREY, INK, LINE, ORANGE, PAPER, PURPLE
from ..page.figures import STYLE, new_figure
from .result import Curve, Sweep, deciding, mark_text, reference_text, value_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def draw_sweep(sweep: Sweep) -> Figure:
    """Draw a sweep; the form follows from how many of its weights are free, and whether there are some a class."""
    from matplotlib import rc_context

    free = [i for i in range(len(sweep.blocks)) if np.ptp(sweep.weights[:, i]) > 0]
    spanned = sweep.weights[:, free] - sweep.weights[0, free]
    rank = int(np.linalg.matrix_rank(spanned, tol=1e-9)) if free else 0
    with rc_context(STYLE):
        if sweep.settings is not None:
            return _axis(sweep) if len(sweep.settings[0]) == 1 else _points(sweep)
        if sweep.per_class is not None:
            return _kinds(sweep)
        if rank <= 1:
            return _line(sweep, sweep.weights[:, free[0] if free else 0], _axis_words(sweep, free[0] if free else 0))
        if rank == 2 and len(free) == 2:
            return _map(sweep, free)
        if rank == 2 and len(free) == 3 and np.ptp(sweep.weights[:, free].sum(axis=1)) < 1e-9:
            return _triangle(sweep, free)
        return _profiles(sweep, free)


def _axis(sweep: Sweep) -> Figure:
    """Draw one setting: its values at even distances, in the order in which they were given."""
    assert sweep.settings is not None
    (name,) = sweep.settings[0]
    figure = _line(sweep, np.arange(len(sweep.settings), dtype=np.float64), name)
    panel = figure.axes[0]
    panel.set_xticks(range(len(sweep.settings)), [shortest(value_text(one[name])) for one in sweep.settings])
    return figure


MOST_LINES: Final = 40
"""Points of several settings that are drawn below each other."""


def _points(sweep: Sweep) -> Figure:
    """Draw the points of several settings below each other, in order: the interval of each where it is judged."""
    chosen = np.argsort(-deciding(sweep).macro_f1.value, kind="stable")[:MOST_LINES]
    special = [sweep.chosen, *([] if sweep.marked is None else [sweep.marked])]
    shown = np.unique(np.concatenate([chosen, special]).astype(np.int64))
    figure = new_figure(6.8, 1.6 + 0.24 * len(shown))
    panel: Any = figure.subplots()
    band, y = sweep.test.macro_f1, np.arange(len(shown))
    value, low, high = (100 * part[shown] for part in (band.value, band.low, band.high))
    panel.hlines(y, low, high, color=ORANGE, linewidth=1.4, alpha=0.6)
    panel.plot(value, y, "o", color=ORANGE, markersize=4, label=f"macro F1, {sweep.split}")
    if sweep.inner is not None:
        inner = 100 * sweep.inner.macro_f1.value[shown]
        panel.plot(inner, y, "|", color=BLUE, markersize=8, label="macro F1, inner folds")
    for i, marker, label in (
        (sweep.chosen, "D", _chosen(sweep)), (sweep.marked, "s", f"reference: {reference_text(sweep)}"),
    ):  # fmt: skip
        if i is not None:
            at = int(np.searchsorted(shown, i))
            panel.plot([value[at]], [at], marker, color=INK, markersize=9 if marker == "D" else 12,
                       markerfacecolor="none", label=label)  # fmt: skip
    alike = deciding(sweep).alike[shown]
    panel.plot(np.full(int(alike.sum()), 0.01), y[alike], "s", color=GREEN, markersize=5, clip_on=False,
               transform=panel.get_yaxis_transform(), label=_alike(sweep))  # fmt: skip
    panel.set_yticks(y, [mark_text(sweep.vector(i)) for i in shown.tolist()], fontsize=7)
    panel.set_ylim(len(shown) - 0.5, -0.5)
    panel.set_xlabel(f"macro F1 (%), {100 * sweep.level:g} % intervals")
    return _finished(figure, panel, sweep, lines="x", ncols=1)


def _finished(figure: Figure, panel: Any, sweep: Sweep, *, lines: str, ncols: int) -> Figure:
    """Give a panel its grid lines, legend and title."""
    panel.grid(axis=lines, color=LINE, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=ncols, frameon=False, fontsize=8)
    panel.set_title(_title(sweep), loc="left", fontsize=9)
    return figure


def shortest(text: str, most: int = 24) -> str:
    """Return a text, or its beginning where it is longer than a tick can be."""
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def _line(sweep: Sweep, x: FloatArray, label: str) -> Figure:
    figure = new_figure(6.4, 4.0)
    panel: Any = figure.subplots()
    order = np.argsort(x, kind="stable")
    for band, color, said, style in (
        (sweep.test.accuracy, BLUE, f"accuracy, {sweep.split}", "-"),
        (sweep.test.macro_f1, ORANGE, f"macro F1, {sweep.split}", "-"),
    ):
        panel.fill_between(
            x[order], 100 * band.low[order], 100 * band.high[order], color=color, alpha=0.15, linewidth=0
        )
        panel.plot(
            x[order], 100 * band.value[order], style, color=color, linewidth=1.8, marker="o", markersize=3, label=said
        )
    if sweep.inner is not None:
        inner = 100 * sweep.inner.macro_f1.value
        panel.plot(x[order], inner[order], "--", color=ORANGE, linewidth=1.2, label="macro F1, inner folds")
    if sweep.marked is not None:
        panel.axvline(
            x[sweep.marked], color=GREY, linewidth=1.2, linestyle=":", label=f"reference: {reference_text(sweep)}"
        )
    y = 100 * sweep.test.macro_f1.value[sweep.chosen]
    panel.plot(
        [x[sweep.chosen]], [y], "D", color=INK, markersize=7, markerfacecolor="none", label=_chosen(sweep), zorder=4
    )
    _strip(panel, x, deciding(sweep).alike, _alike(sweep))
    panel.set_xlabel(label)
    panel.set_ylabel(f"score (%), {100 * sweep.level:g} % bands")
    panel.margins(x=0.02)
    return _finished(figure, panel, sweep, lines="y", ncols=2)


def _kinds(sweep: Sweep) -> Figure:
    """Draw every vector where it was chosen against where it is judged: those that all classes share, and the others.

    Weights a class have too many axes to be drawn by. What reads off here is how much of what a choice among them
    promises is kept: points under the diagonal promised more than they hold.
    """
    figure = new_figure(6.0, 5.2)
    panel: Any = figure.subplots()
    x, y = 100 * deciding(sweep).macro_f1.value, 100 * sweep.test.macro_f1.value
    where = "inner folds" if sweep.inner is not None else f"the {sweep.split} rows"
    draws, shared = slice(sweep.shared, None), slice(0, sweep.shared)
    panel.plot(x[draws], y[draws], "o", color=ORANGE, markersize=2.5, alpha=0.5, label="weights a block and class")
    panel.plot(x[shared], y[shared], "s", color=BLUE, markersize=3.5, label="weights that all classes share")
    panel.plot([x[sweep.chosen]], [y[sweep.chosen]], "D", color=INK, markersize=8, markerfacecolor="none",
               label=_chosen(sweep))  # fmt: skip
    ends = [min(x.min(), y.min()), max(x.max(), y.max())]
    panel.plot(ends, ends, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    panel.set_xlabel(f"macro F1 on {where} (%)")
    panel.set_ylabel(f"macro F1 on {sweep.split} (%)")
    panel.grid(color=LINE, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=8)
    panel.set_title(_title(sweep), loc="left", fontsize=9)
    return figure


def _strip(panel: Any, x: FloatArray, alike: BoolArray, label: str) -> None:
    """Underline the weights that cannot be told from the best, along the lower edge."""
    levels = np.unique(x)
    half = np.diff(levels).min() / 2 if levels.size > 1 else 0.5
    kept = np.unique(x[alike])
    ends = np.split(kept, np.flatnonzero(np.diff(kept) > 2.01 * half) + 1)
    panel.hlines(
        [0.015] * len(ends),
        [max(part[0] - half, levels[0]) for part in ends],
        [min(part[-1] + half, levels[-1]) for part in ends],
        transform=panel.get_xaxis_transform(),
        color=GREEN,
        linewidth=5,
        label=label,
    )


def _map(sweep: Sweep, free: list[int]) -> Figure:
    figure = new_figure(6.0, 5.2)
    panel: Any = figure.subplots()
    points = sweep.weights[:, free]
    xs, ys = np.unique(points[:, 0]), np.unique(points[:, 1])
    grid = np.full((ys.size, xs.size), np.nan)
    grid[np.searchsorted(ys, points[:, 1]), np.searchsorted(xs, points[:, 0])] = 100 * sweep.test.macro_f1.value
    mesh = panel.pcolormesh(
        xs, ys, np.ma.masked_invalid(grid), cmap="viridis", shading="nearest", edgecolors=PAPER, linewidth=0.5
    )
    _finish(figure, panel, sweep, mesh, points)
    panel.set_xlabel(f"weight of {sweep.blocks[free[0]]}")
    panel.set_ylabel(f"weight of {sweep.blocks[free[1]]}")
    panel.spines[:].set_visible(False)
    return figure


def _triangle(sweep: Sweep, free: list[int]) -> Figure:
    """Draw barycentric coordinates: the first block lower left, the second lower right, the third on top."""
    figure = new_figure(6.2, 5.4)
    panel: Any = figure.subplots()
    part = sweep.weights[:, free]
    share = part / part.sum(axis=1, keepdims=True)
    points = np.stack([share[:, 1] + share[:, 2] / 2, SIDE * share[:, 2]], axis=1)
    steps = 1 / float(np.min(np.diff(np.unique(share[:, 0].round(9)))))
    dots = hexagons(panel, points, steps)
    dots.set_array(100 * sweep.test.macro_f1.value)
    _finish(figure, panel, sweep, dots, points)
    names = [sweep.blocks[i] for i in free]
    edge_shares(panel, names, 0.02 + 1 / (steps * np.sqrt(3)))
    gap = 0.06 + 1 / (steps * np.sqrt(3))  # clear of a hexagon's corner and of the shares
    below = 0.0 if max(map(len, names[:2])) < 16 else 0.07  # long names have lines of their own
    panel.text(-gap, -gap - below, f"{names[0]} only", ha="left", va="top")
    panel.text(1 + gap, -gap - 2 * below, f"{names[1]} only", ha="right", va="top")
    panel.text(0.5, SIDE + gap, f"{names[2]} only", ha="center", va="bottom")
    panel.set_xlim(-gap - 0.05, 1.05 + gap)
    panel.set_ylim(-gap - 0.07 - 2 * below, SIDE + gap + 0.05)
    panel.set_aspect("equal")
    panel.set_axis_off()
    return figure


def _profiles(sweep: Sweep, free: list[int]) -> Figure:
    """Draw, for each block, the best macro F1 that any vector with that weight of the block reaches."""
    figure = new_figure(6.4, 4.2)
    panel: Any = figure.subplots()
    colors, styles = (BLUE, ORANGE, GREEN, PURPLE, INK, GREY), ("-", "--", "-.", ":")
    f1 = 100 * sweep.test.macro_f1.value
    for j, i in enumerate(free):
        levels, which = np.unique(sweep.weights[:, i].round(9), return_inverse=True)
        top = np.full(levels.size, -np.inf)
        np.maximum.at(top, which, f1)
        color = colors[j % len(colors)]
        panel.plot(
            levels, top, styles[j % 4], color=color, marker="o", markersize=4, markerfacecolor=PAPER,
            label=sweep.blocks[i],
        )  # fmt: skip
        near = np.unique(which[deciding(sweep).alike])
        panel.plot(levels[near], top[near], "o", color=color, markersize=4.5)
        panel.plot(
            [sweep.weights[sweep.chosen, i]], [f1[sweep.chosen]], "D", color=color, markersize=6, markerfacecolor="none"
        )
    ends = sweep.chosen_macro_f1  # also keeps differences within the noise from filling the axis
    panel.axhspan(100 * ends.low, 100 * ends.high, color=GREY, alpha=0.1, linewidth=0, label=_chosen(sweep), zorder=0)
    panel.set_xlabel(
        "weight of the block\ndiamonds: the chosen vector\n"
        "filled: some vector of that weight cannot be told from the best"
    )
    panel.set_ylabel(f"best {sweep.split} macro F1 at that weight (%)")
    panel.grid(axis="y", color=LINE, linewidth=0.7)
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    panel.set_title(_title(sweep), loc="left", fontsize=9)
    return figure


def _finish(figure: Figure, panel: Any, sweep: Sweep, drawn: Any, points: FloatArray) -> None:
    low, high = colour_ends(sweep.test)
    drawn.set_clim(100 * low, 100 * high)
    bar: Any = figure.colorbar(drawn, ax=panel, shrink=0.8, pad=0.03)
    bar.set_label(f"{sweep.split} macro F1 (%)\nalike there: a quarter of the colours at most")
    bar.outline.set_visible(False)
    if low < 0:
        bar.ax.set_ylim(0, 100 * high)
    panel.plot(
        *points[deciding(sweep).alike].T,
        "o",
        markersize=3.5,
        color=PAPER,
        markeredgecolor=INK,
        markeredgewidth=0.7,
        label=_alike(sweep),
        zorder=2.5,
    )
    for i, marker, label in (
        (sweep.chosen, "D", _chosen(sweep)),
        (
            sweep.test.best,
            "o",
            f"best on {sweep.split}: {100 * sweep.test.macro_f1.value[sweep.test.best]:.1f} % (peeking)",
        ),
        (sweep.marked, "s", f"reference: {reference_text(sweep)}"),
    ):
        if i is not None:
            size = {"D": 10, "o": 15, "s": 19}[marker]
            panel.plot(
                *points[i],
                marker,
                markersize=size,
                markerfacecolor="none",
                markeredgecolor=PAPER,
                markeredgewidth=3.2,
                zorder=3,
            )
            panel.plot(
                *points[i],
                marker,
                markersize=size,
                markerfacecolor="none",
                markeredgecolor=INK,
                label=label,
                linewidth=0,
                zorder=4,
            )
    figure.legend(loc="outside lower center", ncols=1, frameon=False, fontsize=8, markerscale=0.6, labelspacing=0.7)
    figure.suptitle(_title(sweep), x=0.02, ha="left", fontsize=9)


ALIKE: Final = 0.25
"""Share of the colours that vectors which cannot be told from the best may take, as on the page (explorer.js)."""


def colour_ends(curve: Curve) -> tuple[float, float]:
    """Return the macro F1 at the ends of the colour map, so that noise is not drawn as a landscape.

    The upper end is the best vector's. The lower is the worst one's, or so far below that the vectors of the model
    confidence set lie in the upper quarter, even if that is below 0.
    """
    values = curve.macro_f1.value
    best, worst = float(values.max()), float(values.min())
    gap = best - float(values[curve.alike].min())
    return min(worst, best - gap / ALIKE), best


def _chosen(sweep: Sweep) -> str:
    where = "inner folds" if sweep.inner is not None else f"the {sweep.split} rows"
    ends = f"{100 * sweep.chosen_macro_f1.low:.1f}{EN_DASH}{100 * sweep.chosen_macro_f1.high:.1f}"
    return f"chosen on {where}: {100 * sweep.test.macro_f1.value[sweep.chosen]:.1f} % ({ends})"


def _alike(sweep: Sweep) -> str:
    where = "inner folds" if sweep.inner is not None else f"the {sweep.split} rows"
    alike = deciding(sweep).alike
    return f"cannot be told from the best on {where}: {int(alike.sum())} of {alike.size}"


def _axis_words(sweep: Sweep, axis: int) -> str:
    name = sweep.blocks[axis]
    others = [i for i in range(len(sweep.blocks)) if i != axis and np.ptp(sweep.weights[:, i]) > 0]
    total = sweep.weights.sum(axis=1)
    if len(others) == 1 and np.ptp(total) < 1e-9:
        return (
            f"weight of {name}  ({sweep.blocks[others[0]]} = {total[0] - _fixed(sweep, axis, others[0]):g} \u2212 it)"
        )
    return f"weight of {name}"


def _fixed(sweep: Sweep, axis: int, other: int) -> float:
    return float(sum(sweep.weights[0, i] for i in range(len(sweep.blocks)) if i not in (axis, other)))


def _title(sweep: Sweep) -> str:
    many = "weight vectors" if sweep.settings is None else "points"
    return f"{sweep.head}\n{len(sweep.weights)} {many}, {sweep.test.n} {sweep.split} rows"


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
