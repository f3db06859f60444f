"""A sweep over ways to smooth as a table: a row a setting, then what the choice is worth on videos it did not see."""

from __future__ import annotations

from cer_fusion.challenge.timeline.sweeping import Scored, SmoothingSweep
from cer_fusion.fusion.judging.statistics.intervals import Interval
from cer_fusion.fusion.page.table import EN_DASH, Cell, Table


def smoothing_table(sweep: SmoothingSweep) -> Table:
    """Lay a sweep out in the order of its settings; bold is the best of a column."""
    best = {metric: max(getattr(one.scores, metric) for one in sweep.settings) for metric in ("accuracy", "macro_f1")}
    rows = [_row(one, one.setting.text, best, "chosen" if i == sweep.chosen else "", picked=str(one.picked))
            for i, one in enumerate(sweep.settings)]  # fmt: skip
    rules: tuple[int, ...] = ()
    if sweep.held_out is not None and len(sweep.settings) > 1:
        rules = (len(rows),)
        rows.append(_row(sweep.held_out, "chosen by other videos", {}, "the figure to report", picked=EN_DASH))
    return Table(
        title=f"Smoothing over time: {sweep.frames:,} labelled frames of {sweep.videos} videos",
        header=("smoothing (frames)", "accuracy (%)", "macro F1 (%)", "chosen without a video", "note"),
        rows=tuple(rows),
        notes=_notes(sweep),
        rules=rules,
    )


def _row(one: Scored, name: str, best: dict[str, float], note: str, *, picked: str) -> tuple[Cell, ...]:
    figures = [
        _percent(getattr(one.scores, metric), interval, best=getattr(one.scores, metric) == best.get(metric))
        for metric, interval in (("accuracy", one.accuracy), ("macro_f1", one.macro_f1))
    ]
    return (Cell(name), *figures, Cell(picked), Cell(note or EN_DASH))


def _percent(share: float, interval: Interval | None, *, best: bool) -> Cell:
    if interval is None:
        return Cell(f"{100 * share:.2f}", 100 * share, best=best)
    low, high = 100 * interval.low, 100 * interval.high
    return Cell(f"{100 * share:.2f} [{low:.1f}, {high:.1f}]", 100 * share, low, high, best=best)


def _notes(sweep: SmoothingSweep) -> tuple[str, ...]:
    notes = []
    if sweep.held_out is not None:
        percent = f"{100 * sweep.level:g} %"
        notes.append(
            f"In brackets: {percent} intervals, percentiles of {sweep.resamples} resamples of whole videos "
            f"(seed {sweep.seed})."
        )
    if sweep.held_out is not None and sweep.gain is not None and len(sweep.settings) > 1:
        claimed = sweep.settings[sweep.chosen].scores.macro_f1 - sweep.held_out.scores.macro_f1
        gained = sweep.held_out.scores.macro_f1 - sweep.settings[0].scores.macro_f1
        notes += [
            "Chosen by other videos: each video smoothed with the setting of the highest macro F1 on all others.",
            f"The chosen setting's own row claims {100 * claimed:.2f} points more macro F1: that is the optimism.",
            f"Against no smoothing: {100 * gained:+.2f} points macro F1 "
            f"[{100 * sweep.gain.low:+.1f}, {100 * sweep.gain.high:+.1f}], paired, on videos left out.",
        ]
    return (*notes, *sweep.notes, f"Classes: {', '.join(sweep.classes)}.")
