"""A diagnosis laid out: its tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from ...kit.table import EN_DASH, MINUS, Cell, Table, points
from ..judging.diagnosis import Contribution, Diagnosis
from ..judging.measures import Agreement, Calibration, Similarity
from ..judging.resampling import Interval, wilson
from .colours import BLUE, GREY, INK, ORANGE, PAPER
from .figures import STYLE, new_figure, text_on

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_ROWS = 16  # subsets and pairs shown; the file has all


def diagnosis_tables(found: Diagnosis, *, with_ids: bool = True) -> tuple[Table, ...]:
    """Lay a diagnosis out as tables: what carries it, what is alike, how far to believe it, where it fails.

    Without ids samples are numbered from the hardest, and pairs from the most alike.
    """
    tables = [_contributions(found), _subsets(found)]
    if found.agreement is not None:
        tables.append(_agreement(found, found.agreement))
    if len(found.similarity.names) > 1:
        tables.append(_similarity(found))
    return (
        *tables,
        _calibration(found),
        _confused(found),
        _hardest(found, with_ids=with_ids),
        _near(found, with_ids=with_ids),
    )


def _contributions(found: Diagnosis) -> Table:
    def row(one: Contribution) -> tuple[Cell, ...]:
        return (
            Cell(one.name),
            _difference(one.shapley_macro_f1, one.shapley_interval),
            _number(one.shapley_log_loss, 3),
            _difference(one.left_out_macro_f1, one.left_out_interval),
            _number(one.left_out_log_loss, 3),
        )

    whole, none = found.whole, found.subsets[0]
    known = f"{found.split} " if found.split else "" if found.folds else "test "
    where = f"{found.n:,} {known}rows" + (f", {found.folds} folds" if found.folds else "")
    return Table(
        title=f"What each block brings to {found.head} ({where})",
        header=(
            "Block",
            "Shapley, macro F1 (points)",
            "Shapley, log-loss (nats)",
            "Loss without it (points)",
            "(nats)",
        ),
        rows=tuple(row(one) for one in found.contributions),
        notes=(
            f"All blocks: accuracy {_percent(whole.accuracy)}, macro F1 {_percent(whole.macro_f1)}, log-loss "
            f"{whole.log_loss:.3f}. No block (the classes' shares): {_percent(none.accuracy)}, "
            f"{_percent(none.macro_f1)}, {none.log_loss:.3f}. Shapley values sum to the difference; positive helps.",
            f"In brackets: {100 * found.level:g} % intervals (percentiles of {found.resamples} resamples, seed "
            f"{found.seed}); they do not cover the variation from training.",
            *found.notes,
        ),
    )


def _subsets(found: Diagnosis) -> Table:
    order = sorted(found.subsets, key=lambda one: -one.macro_f1)
    return Table(
        title="Subsets of the blocks, best first",
        header=("Blocks", "Macro F1 (%)", "Accuracy (%)", "Log-loss (nats)"),
        rows=tuple(
            (
                Cell(" + ".join(one.members) or "none"),
                _share(one.macro_f1),
                _share(one.accuracy),
                _number(one.log_loss, 3),
            )
            for one in order[:_ROWS]
        ),
        words=(0,),
        notes=(
            *([f"{_ROWS} of {len(order)} subsets; the result's file has all."] if len(order) > _ROWS else []),
            "The best of many subsets flatters: choose on folds of the training rows, judge once on others.",
        ),
    )


def _agreement(found: Diagnosis, pairs: Agreement) -> Table:
    order = list(combinations(range(len(pairs.names)), 2))
    alone = ", ".join(
        f"{name} {_percent(accuracy)}" for name, accuracy in zip(pairs.names, pairs.accuracy, strict=True)
    )
    return Table(
        title="Single backbones, two by two",
        header=("Pair", "Kappa", "One right, one wrong (%)", "Both wrong (%)"),
        rows=tuple(
            (
                Cell(f"{pairs.names[i]} / {pairs.names[j]}"),
                _number(pairs.kappa[i][j], 3),
                _share(pairs.disagreement[i][j]),
                _share(pairs.double_fault[i][j]),
            )
            for i, j in order
        ),
        words=(0,),
        notes=(
            f"Accuracy alone: {alone}; together {_percent(found.whole.accuracy)}. At least one is right on "
            f"{_percent(pairs.oracle)} of the rows, which no choice among them exceeds; all are on "
            f"{_percent(pairs.all_right)}.",
        ),
    )


def _similarity(found: Diagnosis) -> Table:
    similar = found.similarity
    return Table(
        title="How alike the blocks arrange the rows (linear CKA)",
        header=("Block", *similar.names),
        rows=tuple(
            (Cell(name), *(_number(value, 2) for value in line))
            for name, line in zip(similar.names, similar.cka, strict=True)
        ),
        notes=(f"Debiased, on {similar.n:,} training rows; 1: the same up to rotation and scale.",),
        named="Block",
    )


def _calibration(found: Diagnosis) -> Table:
    c = found.calibration
    gap = c.confidence - c.accuracy
    return Table(
        title="Calibration: rows by confidence",
        header=("Confidence (%)", "Rows", "Mean confidence (%)", "Accuracy (%)"),
        rows=tuple(
            (
                Cell(f"{100 * one.low:.1f} {EN_DASH} {100 * one.high:.1f}"),
                Cell(f"{one.n:,}", one.n),
                _share(one.confidence),
                _share(one.accuracy),
            )
            for one in c.bins
        ),
        notes=(
            f"ECE {_percent(c.ece)} (bins of equal width), {_percent(c.ece_equal_mass)} (of equally many rows); Brier "
            f"{c.brier:.3f}, log-loss {c.nll:.3f}; on average {100 * abs(gap):.1f} points "
            f"{'over' if gap > 0 else 'under'}confident.",
        ),
    )


def _confused(found: Diagnosis) -> Table:
    return Table(
        title="Most confused",
        header=("True class", "taken for", "Rows", "of the class (%)"),
        rows=tuple(
            (Cell(_words(one.truth)), Cell(_words(one.answer)), Cell(str(one.count), one.count), _share(one.share))
            for one in found.confused
        ),
        notes=(),
    )


def _hardest(found: Diagnosis, *, with_ids: bool) -> Table:
    backbones = f" of {len(found.agreement.names)}" if found.agreement else ""
    return Table(
        title="Hardest samples",
        header=("Sample", "Label", "Answer", "p(label) (%)", "p(answer) (%)", f"Backbones right{backbones}"),
        rows=tuple(
            (
                Cell(one.sample_id if with_ids else str(number)),
                Cell(_words(one.truth)),
                Cell(_words(one.answer)),
                _share(one.of_truth),
                _share(one.of_answer),
                Cell(str(one.right), one.right),
            )
            for number, one in enumerate(found.hardest, 1)
        ),
        notes=("Hard for the head, or labelled wrong: look at the pictures.",),
    )


def _near(found: Diagnosis, *, with_ids: bool) -> Table:
    near = found.near
    other = "Other row" if found.folds else "Training row"
    shown = near.pairs[:_ROWS]
    effect = (
        "no row is left without them"
        if found.clean_accuracy is None or found.clean_macro_f1 is None
        else f"without these rows accuracy is {_percent(found.clean_accuracy)} instead of "
        f"{_percent(found.whole.accuracy)}, macro F1 {_percent(found.clean_macro_f1)} instead of "
        f"{_percent(found.whole.macro_f1)}"
    )
    notes = [f"{near.found:,} pairs of cosine {near.threshold:g} or more, {near.samples:,} of {found.n:,} rows"]
    if near.found:
        notes[0] += f"; {effect}. Tie them or drop them: scores on faces that were learned flatter."
    if near.found > len(shown):
        notes.append(f"The {len(shown)} most alike are shown, the result's file lists {len(near.pairs):,}.")
    return Table(
        title="Near-duplicates " + ("among the rows" if found.folds else "in the training split"),
        header=("Pair", "Sample", other, "Cosine") if with_ids else ("Pair", "Cosine"),
        rows=tuple(
            (
                Cell(str(number)),
                *((Cell(one.sample_id), Cell(one.other_id)) if with_ids else ()),
                _number(one.cosine, 3),
            )
            for number, one in enumerate(shown, 1)
        ),
        notes=tuple(notes),
    )


def _difference(share: float, interval: Interval) -> Cell:
    return points(share, interval.low, interval.high)


def _share(share: float | None) -> Cell:
    return Cell(EN_DASH) if share is None else Cell(f"{100 * share:.2f}", 100 * share)


def _number(value: float | None, digits: int) -> Cell:
    return Cell(EN_DASH) if value is None else Cell(f"{value:.{digits}f}".replace("-", MINUS), value)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _words(name: str) -> str:
    return name.replace("_", " ")


def draw_diagnosis(found: Diagnosis) -> Figure:
    """Draw three panels side by side."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        figure = new_figure(13.2, 2.0 + 0.4 * max(len(found.similarity.names), 5))
        shapley, cka, reliability = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
        panels: Any = (shapley, cka, reliability)
        draw_shapley(panels[0], found.contributions)
        draw_cka(panels[1], found.similarity)
        draw_reliability(panels[2], found.calibration)
    return figure


def draw_cka(panel: Any, similar: Similarity) -> None:
    """Draw the matrix with its figures; darker is more alike."""
    values = np.array(similar.cka, dtype=np.float64)
    shades = panel.imshow(values, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*values.shape):
        panel.text(
            column,
            row,
            f"{values[row, column]:.2f}".replace("-0.00", "0.00").replace("-", MINUS),
            ha="center",
            va="center",
            fontsize=9 if len(values) < 6 else 6.5,
            color=text_on(shades, float(values[row, column])),
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


def draw_reliability(panel: Any, found: Calibration) -> None:
    """Draw a point a bin of equally many rows, with Wilson's interval; below the line the head is overconfident."""
    panel.plot([0, 100], [0, 100], color=GREY, linewidth=0.8, linestyle="--")
    for one in found.bins:
        spread = wilson(round(one.accuracy * one.n), one.n)
        panel.plot(
            [100 * one.confidence] * 2, [100 * spread.low, 100 * spread.high], color=BLUE, linewidth=1.2, alpha=0.6
        )
    panel.plot(
        [100 * one.confidence for one in found.bins], [100 * one.accuracy for one in found.bins], "o-", color=BLUE,
        markersize=4, linewidth=1.2, clip_on=False, zorder=3,
    )  # fmt: skip
    panel.set_xlim(0, 100)
    panel.set_ylim(0, 100)
    panel.set_aspect("equal")
    panel.set_xlabel("confidence (%)")
    panel.set_ylabel("of those, right (%)")
    panel.set_title(
        f"How far it can be believed\nECE {100 * found.ece_equal_mass:.1f} %, Brier {found.brier:.2f}, "
        f"log-loss {found.nll:.2f}",
        pad=8,
    )
    panel.spines[["top", "right"]].set_visible(False)


def draw_shapley(panel: Any, contributions: Sequence[Contribution]) -> None:
    """Draw a bar a block, the largest on top; what a block takes away is orange. The ring is the loss without it."""
    ranked = sorted(contributions, key=lambda one: one.shapley_macro_f1)
    for place, one in enumerate(ranked):
        value, spread = 100 * one.shapley_macro_f1, one.shapley_interval
        panel.barh(place, value, height=0.6, color=BLUE if value >= 0 else ORANGE, alpha=0.85)
        panel.plot([100 * spread.low, 100 * spread.high], [place, place], color=INK, linewidth=1.2)
        panel.plot(
            100 * one.left_out_macro_f1,
            place,
            "o",
            markersize=5,
            markerfacecolor="white",
            markeredgecolor=INK,
            zorder=3,
        )
    panel.set_yticks(range(len(ranked)), [one.name for one in ranked])
    panel.set_ylim(-0.6, len(ranked) - 0.4)
    panel.axvline(0, color=GREY, linewidth=0.8)
    panel.set_xlabel("macro F1 (points)")
    panel.set_title("What each block brings\nbar: Shapley value and interval; ring: loss without it", pad=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
