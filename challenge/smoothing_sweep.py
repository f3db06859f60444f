"""Many ways to smooth, scored on labelled videos from the same probabilities; one chosen, judged on videos left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fusion.errors import TimelineError
from ..fusion.heads.weights import counted, totals
from ..fusion.judging.metrics import Scores
from ..fusion.judging.resampling import LEVEL, Bootstrap, Interval, bootstrap, thin
from ..fusion.keeping.answers import Predictions
from ..fusion.sweeps.curve import choose
from ..kit.table import EN_DASH, Cell, Table
from .smoothing import (
    Smoothing,
    check_probabilities,
    from_counts,
    learned_transitions,
    rows_of,
    smooth_tracks,
    step_counts,
)
from .timeline import Timeline

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FEW = 10
"""Below so many videos an interval over videos is only a hint."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One setting on all labelled frames."""

    setting: Smoothing
    """How it smooths."""
    scores: Scores
    """What its decisions are worth."""
    accuracy: Interval | None
    """Interval of the accuracy over videos; None with a single video."""
    macro_f1: Interval | None
    """Interval of the macro F1; None with a single video."""
    picked: int
    """How many videos would have been smoothed with it, had they been left out of the choice."""


@dataclass(frozen=True, kw_only=True)
class SmoothingSweep:
    """Settings scored on the same frames, the one that was chosen, and what choosing is worth."""

    classes: tuple[str, ...]
    """The declared classes in order."""
    settings: tuple[Scored, ...]
    """No smoothing first, then as given."""
    chosen: int
    """The setting of the highest macro F1 on all videos, then of the highest accuracy, then the first."""
    held_out: Scored | None
    """Every video smoothed with the setting that the other videos chose; its ``setting`` is the chosen one. None with a
    single video."""
    gain: Interval | None
    """Paired interval of the macro F1, held out minus no smoothing."""
    videos: int
    """Videos with a labelled frame."""
    frames: int
    """Labelled frames."""
    level: float
    """Nominal coverage of the intervals, 0-1."""
    resamples: int
    """Bootstrap resamples of whole videos."""
    seed: int
    """Seed of the bootstrap."""
    notes: tuple[str, ...]
    """What a reader must know, one sentence each."""

    @property
    def chosen_setting(self) -> Smoothing:
        """The setting that was chosen."""
        return self.settings[self.chosen].setting

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "chosen": self.chosen_setting.text,
            "settings": [_plain(one) for one in self.settings],
            "held_out": None if self.held_out is None else _plain(self.held_out),
            "gain": None if self.gain is None else asdict(self.gain),
            "videos": self.videos,
            "frames": self.frames,
            "classes": list(self.classes),
            "level": self.level,
            "resamples": self.resamples,
            "seed": self.seed,
            "notes": list(self.notes),
        }


def sweep_smoothing(
    predictions: Predictions,
    settings: Sequence[Smoothing],
    *,
    prior: FloatArray | None = None,
    resamples: int = 500,
    level: float = LEVEL,
    seed: int = 0,
) -> SmoothingSweep:
    """Score settings on labelled predictions of videos.

    Every frame is smoothed, labelled frames are scored. Where a hidden Markov model learns from ``labels``, each video
    is smoothed with the transitions of the others. One setting is chosen on all videos; what that choice is worth is
    measured by choosing anew for each video on the others alone (leave one video out). ``prior`` (k,) is the class
    prior of the probabilities, as in `cer_fusion.challenge.smoothed`.

    Raises
    ------
    PredictionsError, TimelineError
        If rows are no probabilities, ids name no frames, no frame is labelled, or there is something to choose and only
        one video.
    """
    check_probabilities(predictions)
    timeline, y = Timeline.of(predictions.ids), predictions.y_true
    labelled = np.flatnonzero(y >= 0)
    if not labelled.size:
        raise TimelineError("no frame has a label: there is nothing to score or choose by\n  give one setting")
    every = tuple(dict.fromkeys((Smoothing(), *settings)))
    k = len(predictions.classes)
    y_true, groups = y[labelled], np.asarray(timeline.groups)[labelled]
    videos, member = np.unique(groups, return_inverse=True)
    if videos.size < 2 and len(every) > 2:
        raise TimelineError(
            f"choosing among {len(every) - 1} settings takes labelled frames of 2 videos or more, however: 1 video "
            f"({videos[0]})\n  give one setting, or label more videos"
        )
    y_pred = np.stack([_answers(predictions, timeline, y, one, prior)[labelled] for one in every])
    confusions = np.stack([counted(y_true[member == v], y_pred[:, member == v], k) for v in range(videos.size)])
    whole = confusions.sum(axis=0)  # (v, h, k, k) -> (h, k, k)
    chosen, picks = _choice(whole), np.array([], dtype=np.int64)
    lines = y_pred
    if videos.size > 1:
        picks = np.array([_choice(whole - own) for own in confusions])
        lines = np.concatenate([y_pred, y_pred[picks[member], np.arange(labelled.size)][None]])
    draws = None
    if videos.size > 1:
        draws = bootstrap(y_true, lines, k, groups=groups.tolist(), resamples=resamples, seed=seed)
    tables = counted(y_true, lines, k)

    def scored(line: int, setting: Smoothing, picked: int) -> Scored:
        accuracy, macro_f1 = _intervals(draws, line, level)
        found = Scores(classes=predictions.classes, confusion=tables[line])
        return Scored(setting=setting, scores=found, accuracy=accuracy, macro_f1=macro_f1, picked=picked)

    return SmoothingSweep(
        classes=predictions.classes,
        settings=tuple(scored(i, one, int((picks == i).sum())) for i, one in enumerate(every)),
        chosen=chosen,
        held_out=None if draws is None else scored(len(every), every[chosen], int(videos.size)),
        gain=None if draws is None else draws.difference("macro_f1", len(every), 0, level),
        videos=int(videos.size),
        frames=int(labelled.size),
        level=level,
        resamples=resamples,
        seed=seed,
        notes=_notes(timeline, int(videos.size), thin(y_true, groups.tolist(), predictions.classes)),
    )


def _answers(
    predictions: Predictions, timeline: Timeline, y: IntArray, setting: Smoothing, prior: FloatArray | None
) -> IntArray:
    """(n,) decisions of one setting."""
    if setting.stickiness == "labels":
        return _from_other_videos(predictions, timeline, y, setting, prior)
    moves = learned_transitions(predictions, "em", prior) if setting.stickiness == "em" else None
    tracks = smooth_tracks(predictions.proba, timeline, setting, moves, prior)
    best: IntArray = rows_of(tracks, timeline).argmax(axis=1).astype(np.int64)
    return best


def _from_other_videos(
    predictions: Predictions, timeline: Timeline, y: IntArray, setting: Smoothing, prior: FloatArray | None
) -> IntArray:
    """(n,) decisions where each video's transitions are counted on the labels of all others."""
    counts = step_counts(y, timeline, len(predictions.classes))
    out = np.empty(timeline.n, dtype=np.int64)
    for own, track in zip(counts, timeline.tracks, strict=True):
        alone = Timeline.of([predictions.ids[row] for row in track.rows])
        moves = from_counts(counts.sum(axis=0) - own)
        values = smooth_tracks(predictions.proba[track.rows], alone, setting, moves, prior)
        out[track.rows] = rows_of(values, alone).argmax(axis=1)
    return out


def _choice(confusions: IntArray) -> int:
    accuracy, macro_f1 = totals(confusions)
    return choose(accuracy, macro_f1, np.ones((len(confusions), 1)))


def _intervals(draws: Bootstrap | None, line: int, level: float) -> tuple[Interval | None, Interval | None]:
    if draws is None:
        return None, None
    return draws.interval("accuracy", line, level), draws.interval("macro_f1", line, level)


def _notes(timeline: Timeline, videos: int, few: str | None) -> tuple[str, ...]:
    notes = [timeline.gaps_text()]
    if videos == 1:
        notes.append("One video: frames of a video err together, so there are no intervals and nothing to choose by.")
    elif videos < FEW:
        notes.append(f"{videos} videos: intervals from so few are a hint and no more.")
    if few is not None and videos > 1:
        notes.append(few)
    return tuple(notes)


def _plain(one: Scored) -> dict[str, Any]:
    return {
        "setting": one.setting.text,
        "accuracy": one.scores.accuracy,
        "accuracy_interval": None if one.accuracy is None else [one.accuracy.low, one.accuracy.high],
        "macro_f1": one.scores.macro_f1,
        "macro_f1_interval": None if one.macro_f1 is None else [one.macro_f1.low, one.macro_f1.high],
        "picked": one.picked,
    }


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
        notes=_table_notes(sweep),
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


def _table_notes(sweep: SmoothingSweep) -> tuple[str, ...]:
    notes = []
    if sweep.held_out is not None:
        percent = f"{100 * sweep.level:g} %"
        notes.append(f"In brackets: {percent} intervals (jackknife over whole videos, Student's t).")
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
