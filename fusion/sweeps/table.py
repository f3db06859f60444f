"""A sweep as a table: a row a weight vector, its scores, and what is special about it."""

from __future__ import annotations

import numpy as np
from cer_fusion.fusion.page.table import EN_DASH, Cell, Table
from cer_fusion.fusion.sweeps.result import Band, Curve, Sweep


def sweep_table(sweep: Sweep, *, limit: int = 40) -> Table:
    """Lay a sweep out, in grid order; a grid of more than ``limit`` vectors shows the best ones and the special ones.

    Bold is the best of a column. Of the training rows only the figure that the choice was made by is shown.
    """
    decisive = deciding(sweep)
    shown = _shown(sweep, decisive, limit)
    header = [f"{name} (weight)" for name in sweep.blocks]
    header += ["C"] if sweep.penalty is not None else []
    header += ["inner macro F1 (%)"] if sweep.inner is not None else []
    header += ["test accuracy (%)", "test macro F1 (%)", "note"]
    rows = []
    for i in shown:
        cells = [Cell(f"{weight:.3g}", float(weight)) for weight in sweep.weights[i]]
        if sweep.penalty is not None:
            cells.append(Cell(f"{sweep.penalty[i]:g}", float(sweep.penalty[i])))
        if sweep.inner is not None:
            cells.append(_percent(sweep.inner.macro_f1, i, best=i == sweep.inner.best, interval=False))
        cells.append(_percent(sweep.test.accuracy, i, best=i == int(sweep.test.accuracy.value.argmax())))
        cells.append(_percent(sweep.test.macro_f1, i, best=i == sweep.test.best))
        rows.append((*cells, Cell(_marks(sweep, decisive, i))))
    return Table(
        title=f"Weights swept: {sweep.head}, {len(sweep.weights)} vectors over {sweep.test.n} test rows",
        header=tuple(header),
        rows=tuple(rows),
        notes=_notes(sweep, len(shown)),
    )


def deciding(sweep: Sweep) -> Curve:
    """Return the curve that the choice was made by."""
    return sweep.test if sweep.inner is None else sweep.inner


def mark_text(sweep: Sweep) -> str:
    """Return the reference in words, blocks named: ``manet.local 0.6 / manet.multi_scale 0.4``."""
    return " / ".join(f"{name} {weight:g}" for name, weight in sweep.mark.items())


def _shown(sweep: Sweep, decisive: Curve, limit: int) -> list[int]:
    if len(sweep.weights) <= limit:
        return list(range(len(sweep.weights)))
    order = np.argsort(-decisive.macro_f1.value, kind="stable")[:limit].tolist()
    special = {sweep.chosen, sweep.test.best} | ({sweep.marked} if sweep.marked is not None else set())
    return sorted(set(order) | special)


def _percent(band: Band, i: int, *, best: bool, interval: bool = True) -> Cell:
    value, low, high = (100 * float(part[i]) for part in (band.value, band.low, band.high))
    text = f"{value:.2f} [{low:.1f}, {high:.1f}]" if interval else f"{value:.2f}"
    return Cell(text, value, low if interval else None, high if interval else None, best=best)


def _marks(sweep: Sweep, decisive: Curve, i: int) -> str:
    words = [
        *(["chosen"] if i == sweep.chosen else []),
        *(["reference"] if i == sweep.marked else []),
        *(["best on test"] if i == sweep.test.best else []),
        *(["alike"] if decisive.alike[i] and i != decisive.best else []),
    ]
    return ", ".join(words) or EN_DASH


def _notes(sweep: Sweep, shown: int) -> tuple[str, ...]:
    percent = f"{100 * sweep.level:g} %"
    notes = []
    if shown < len(sweep.weights):
        notes.append(
            f"{shown} of {len(sweep.weights)} vectors are shown: the best by the deciding figure and the special ones."
        )
    if sweep.inner is not None:
        way = f"{sweep.folds} inner folds of" if sweep.folds < sweep.inner.n else "leaving out each of"
        notes.append(f"Chosen by the macro F1 of {way} the {sweep.inner.n} training rows; the test rows had no say.")
        notes.append(
            f"Choosing on the {sweep.test.n} test rows instead would have claimed "
            f"{100 * sweep.optimism:.2f} points more macro F1: that is the optimism."
        )
    notes.append(
        f"Chosen vector on the test rows: accuracy {_interval(sweep, 'accuracy')}, "
        f"macro F1 {_interval(sweep, 'macro_f1')} ({percent} intervals, seed {sweep.seeds[0]})."
    )
    if sweep.penalty is not None:
        tried = ", ".join(f"{C:g}" for C in sweep.C)
        notes.append(f"C: of {tried}, the one that the deciding rows like best for this vector.")
    if len(sweep.seeds) > 1:
        spread = [100 * value for value in sweep.chosen_by_seed]
        own = f": the chosen vector's test macro F1 was {min(spread):.2f} to {max(spread):.2f} %" if spread[1:] else ""
        notes.append(f"Seeds {sweep.seeds[0]} to {sweep.seeds[-1]} pooled, each row once a seed{own}.")
    notes.append(f"In brackets: {percent} bootstrap intervals of {sweep.resamples} resamples.")
    if sweep.marked is not None:
        notes.append(f"Reference: {mark_text(sweep)}.")
    notes.append("Alike: a paired bootstrap cannot tell its macro F1 from the best one's on the deciding rows.")
    return (*notes, f"Classes: {', '.join(sweep.classes)}.", *sweep.notes)


def _interval(sweep: Sweep, metric: str) -> str:
    scores = sweep.chosen_scores
    value = scores.accuracy if metric == "accuracy" else scores.macro_f1
    ends = sweep.chosen_accuracy if metric == "accuracy" else sweep.chosen_macro_f1
    return f"{100 * value:.2f} % [{100 * ends.low:.1f}, {100 * ends.high:.1f}]"
