"""Answering a template: each of its frames once, from predictions of the same video; and choosing among candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fusion.errors import SubmissionError
from ..fusion.keeping.answers import Predictions
from ..kit.errors import nearest
from ..kit.table import EN_DASH, Cell, Table
from .checking import Difference
from .smoothing import Smoothing, check_probabilities, needed_transitions, smooth_tracks
from .task import Challenge, Submission, Template
from .timeline import Timeline, Track, at_frames

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SLACK = 1
"""Frames that a decoder may give beyond the template's last one; it happens in some of the official videos."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How one video of the template was answered."""

    video: str
    """Its name."""
    rows: int
    """Rows of the template."""
    predicted: int
    """Rows that have a prediction of their own."""
    inside: int
    """Rows without one, filled between two that have one."""
    before: int
    """Rows before the first prediction, which is held."""
    after: int
    """Rows after the last prediction, which is held."""
    longest_gap: int
    """The most rows in a row without a prediction."""
    beyond: int
    """Predicted frames that the template does not ask for after its last one: the decoder gave more."""
    unasked: int
    """Predicted frames that the template leaves out among or before those it asks for."""

    @property
    def filled(self) -> int:
        """Rows without a prediction of their own."""
        return self.rows - self.predicted


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """A submission, and how it came about."""

    submission: Submission
    """What to hand in."""
    coverage: tuple[Coverage, ...]
    """One a video, in the template's order."""
    smoothing: str | None
    """How the videos were smoothed, in the notation of `Smoothing`; None when they were not."""
    fallback_videos: tuple[str, ...]
    """Videos without any prediction, answered with the fallback class."""
    fallback: str | None
    """That class; None when none was asked for."""
    notes: tuple[str, ...]
    """What a reader must know, one sentence each."""

    def to_dict(self, challenge: Challenge) -> dict[str, Any]:
        """Return plain JSON values, the answers themselves left out."""
        y = self.submission.y
        return {
            "rows": int(y.size),
            "videos": [asdict(one) | {"filled": one.filled} for one in self.coverage],
            "histogram": challenge.histogram(y),
            "kl_to_prior": challenge.divergence(y),
            "smoothing": self.smoothing,
            "fallback": self.fallback,
            "fallback_videos": list(self.fallback_videos),
            "notes": list(self.notes),
        }


def answer(
    template: Template,
    predictions: Predictions,
    challenge: Challenge,
    *,
    smoothing: Smoothing | None = None,
    prior: FloatArray | None = None,
    transitions: FloatArray | None = None,
    fallback: str | None = None,
    slack: int = SLACK,
) -> Answers:
    """Answer every row of a template.

    A frame with a prediction gets its most probable class (the first of equals in the challenge's order). A frame
    without one is filled in time from the same video: between two predictions their probabilities are interpolated
    linearly, before the first and after the last they are held.

    Parameters
    ----------
    template : Template
        The frames asked for.
    predictions : Predictions
        Ids ``VIDEO/NNNNN.…`` with the template's videos; classes in any order and spelling, mapped by name.
    challenge : Challenge
        Classes and ids.
    smoothing : Smoothing, optional
        Smooth each video first; frames inside it that are missing are then answered as smoothed.
    transitions : float64 array of shape (k, k), optional
        As in `cer_fusion.challenge.smoothed`; in the challenge's class order.
    prior : float64 array of shape (k,), optional
        Class prior of the probabilities, as in `cer_fusion.challenge.smoothed`.
    fallback : str, optional
        Class for videos without any prediction, or "prior" for the most frequent class of the known prior. None refuses
        such videos.
    slack : int
        How many frames beyond a video's last row predictions may go.

    Raises
    ------
    SubmissionError
        If classes or videos are unknown, a video has no prediction and no fallback is named, or predictions go further
        beyond a video's end than ``slack``.
    """
    check_probabilities(predictions)
    ordered = challenge.in_order(predictions)
    timeline = Timeline.of(ordered.ids)
    tracks = {track.video: track for track in timeline.tracks}
    _check_videos(template, tracks)
    lost = tuple(track.video for track in template.timeline.tracks if track.video not in tracks)
    fixed = _fallback(lost, fallback, challenge)
    values = _values(ordered, timeline, smoothing, transitions, prior)
    y = np.empty(len(template.names), dtype=np.int64)
    coverage = []
    for asked in template.timeline.tracks:
        given = tracks.get(asked.video)
        coverage.append(_coverage(asked, given))
        if given is None:
            y[asked.rows] = fixed
        else:
            frames, proba = values[asked.video]
            y[asked.rows] = at_frames(proba, frames, asked.frames).argmax(axis=1)
    _check_ends(coverage, slack)
    return Answers(
        submission=Submission(names=template.names, y=y),
        coverage=tuple(coverage),
        smoothing=None if smoothing is None else smoothing.text,
        fallback_videos=lost,
        fallback=challenge.classes[fixed] if lost else None,
        notes=_notes(coverage, lost, challenge, fixed, ordered),
    )


def _values(
    predictions: Predictions,
    timeline: Timeline,
    smoothing: Smoothing | None,
    transitions: FloatArray | None,
    prior: FloatArray | None,
) -> dict[str, tuple[IntArray, FloatArray]]:
    """Video -> frame numbers (t,) and their probabilities (t, k): as predicted, or every frame of it smoothed."""
    if smoothing is None:
        return {track.video: (track.frames, predictions.proba[track.rows]) for track in timeline.tracks}
    moves = needed_transitions(predictions, smoothing, transitions, prior)
    smooth = smooth_tracks(predictions.proba, timeline, smoothing, moves, prior)
    return {track.video: (track.span, values) for track, values in zip(timeline.tracks, smooth, strict=True)}


def _check_videos(template: Template, tracks: dict[str, Track]) -> None:
    unknown = [video for video in tracks if video not in template.video_names]
    if unknown:
        raise SubmissionError(
            f"predictions have {len(unknown)} videos that the template has not (first: {unknown[0]!r}); "
            f"{nearest(unknown[0], template.video_names)}\n"
            "  ids must be VIDEO/NNNNN.jpg with the template's video names"
        )


def _fallback(lost: tuple[str, ...], fallback: str | None, challenge: Challenge) -> int:
    """The class id for videos without a prediction; refuses when there are such and no class is named."""
    if lost and fallback is None:
        raise SubmissionError(
            f"{len(lost)} videos of the template have no prediction at all: {', '.join(lost)}\n"
            "  predict them, or name a class for all their frames (--fallback-class NAME, or prior for the most "
            "frequent one)"
        )
    if fallback is None or fallback == "prior":
        return int(challenge.prior.argmax())
    return challenge.ids_of([fallback])[0]


def _coverage(asked: Track, given: Track | None) -> Coverage:
    frames = np.array([], dtype=np.int64) if given is None else given.frames
    own = np.isin(asked.frames, frames, assume_unique=True)
    first, last = (frames[0], frames[-1]) if frames.size else (0, -1)
    there = np.flatnonzero(own)
    ends = np.concatenate([[-1], there, [own.size]])
    beyond = int((frames > asked.frames[-1]).sum())
    return Coverage(
        video=asked.video,
        rows=own.size,
        predicted=there.size,
        inside=int((~own & (asked.frames > first) & (asked.frames < last)).sum()),
        before=int((asked.frames < first).sum()),
        after=int((asked.frames > last).sum()) if frames.size else 0,
        longest_gap=int(np.diff(ends).max()) - 1,
        beyond=beyond,
        unasked=int(frames.size) - there.size - beyond,
    )


def _check_ends(coverage: list[Coverage], slack: int) -> None:
    far = [one for one in coverage if one.beyond > slack]
    if far:
        worst = max(far, key=lambda one: one.beyond)
        raise SubmissionError(
            f"predictions go on after the template's last frame by more than {slack} in {len(far)} videos (most: "
            f"{worst.beyond} frames, video {worst.video})\n"
            "  that is more than decoders differ: check that the videos bear their right names, or allow it with "
            f"--slack {worst.beyond}"
        )


def _notes(
    coverage: list[Coverage], lost: tuple[str, ...], challenge: Challenge, fixed: int, ordered: Predictions
) -> tuple[str, ...]:
    rows, filled = sum(one.rows for one in coverage), sum(one.filled for one in coverage if one.predicted)
    notes = [
        f"{rows:,} rows of {len(coverage)} videos answered; {filled:,} ({filled / rows:.1%}) have no prediction of "
        "their own and are filled in time: interpolated linearly between the video's predictions, held at its ends."
    ]
    more = [one for one in coverage if one.beyond]
    if more:
        notes.append(
            f"The decoder gave more frames than the template in {len(more)} videos "
            f"({', '.join(f'{one.video}: +{one.beyond}' for one in more)}); they are not handed in."
        )
    short = [one for one in coverage if one.after]
    if short:
        notes.append(
            f"Predictions end before the template in {len(short)} videos "
            f"({', '.join(f'{one.video}: -{one.after}' for one in short)}): last frames without a face, or a decoder "
            "that gave fewer."
        )
    unasked = sum(one.unasked for one in coverage)
    if unasked:
        notes.append(f"{unasked:,} predicted frames are not asked for by the template.")
    if lost:
        notes.append(
            f"{len(lost)} videos have no prediction and are all {challenge.classes[fixed]}: {', '.join(lost)}."
        )
    lacking = [ordered.classes[i] for i in np.flatnonzero((ordered.proba > 0).sum(axis=0) == 0)]
    if lacking:
        notes.append(f"No prediction gives any chance to {', '.join(lacking)}.")
    return tuple(notes)


ASSUMES = (
    "the frames to be answered have the known prior's class frequencies, and a better model's answers come closer to "
    "them. Neither follows: a model that answers at random with the right frequencies would win over every other. "
    "Choose so only among models that are known to be about as good."
)
"""What must hold for this choice to be a good one."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One set of answers."""

    name: str
    """What it is called."""
    histogram: Mapping[str, int]
    """Class name -> answers, in the challenge's order."""
    divergence: float
    """KL divergence of its histogram from the known prior, in nats."""


def choose_by_prior(candidates: Mapping[str, IntArray], challenge: Challenge) -> tuple[Candidate, ...]:
    """Rank candidates by `Challenge.divergence`, least first; the first given among equals.

    Parameters
    ----------
    candidates : dict of int64 arrays of shape (n,)
        Name -> class ids of the challenge; all of one length, since they answer the same frames.
    challenge : Challenge
        The known prior.

    Raises
    ------
    SubmissionError
        If there are fewer than two, or they answer different numbers of frames.
    """
    if len(candidates) < 2:
        raise SubmissionError(f"choosing takes two candidates or more, however: {len(candidates)}")
    sizes = {name: y.size for name, y in candidates.items()}
    if len(set(sizes.values())) > 1 or not min(sizes.values()):
        raise SubmissionError(
            "candidates must answer the same frames, however: "
            + ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        )
    found = [
        Candidate(name=name, histogram=challenge.histogram(y), divergence=challenge.divergence(y))
        for name, y in candidates.items()
    ]
    return tuple(sorted(found, key=lambda one: one.divergence))


def classes_table(y: IntArray, challenge: Challenge, notes: tuple[str, ...] = ()) -> Table:
    """Lay the histogram of (n,) answers out beside the known prior."""
    rows = [
        (Cell(name), Cell(str(i), i), _count(count), _percent(count / max(y.size, 1)), _percent(challenge.prior[i]))
        for i, (name, count) in enumerate(challenge.histogram(y).items())
    ]
    return Table(
        title=f"Answers: {y.size:,} frames",
        header=("class", "id", "frames", "share (%)", "known prior (%)"),
        rows=tuple(rows),
        notes=(
            f"KL divergence of the shares from the known prior: {challenge.divergence(y):.4f} nats "
            "(0: they agree; it says nothing of whether frames are answered right).",
            *notes,
        ),
    )


def coverage_table(answers: Answers) -> Table:
    """Lay out how each video was answered."""
    header = (
        "video",
        "rows",
        "predicted",
        "filled inside",
        "held before",
        "held after",
        "longest gap",
        "beyond the end",
    )
    rows = [
        (
            Cell(one.video),
            *map(_count, (one.rows, one.predicted, one.inside, one.before, one.after, one.longest_gap, one.beyond)),
        )
        for one in answers.coverage
    ]
    return Table(title="Videos of the template, in frames", header=header, rows=tuple(rows), notes=())


def difference_table(difference: Difference, names: tuple[str, str], challenge: Challenge) -> Table:
    """Lay out where two submissions differ, video by video."""
    rows = [
        (
            Cell(one.video),
            _count(one.rows),
            _count(one.flips),
            _percent(one.flips / one.rows),
            *map(_count, one.changes),
        )
        for one in difference.videos
    ]
    kappa = EN_DASH if difference.kappa is None else f"{difference.kappa:.4f}"
    return Table(
        title=f"{names[0]} and {names[1]}: {difference.rows:,} frames",
        header=("video", "frames", "flips", "flips (%)", "changes in first", "changes in second"),
        rows=tuple(rows),
        notes=(
            f"Agreement: {difference.agreement:.2%}; Cohen's kappa: {kappa}.",
            "Flips: frames answered differently. Changes: how often an answer differs from that of the frame before.",
            *_moves(difference, challenge),
        ),
    )


def candidates_table(candidates: tuple[Candidate, ...]) -> Table:
    """Lay candidates out, the chosen one first."""
    classes = tuple(candidates[0].histogram)
    rows = [
        (
            Cell(one.name),
            Cell(f"{one.divergence:.4f}", one.divergence, best=i == 0),
            *(_percent(count / sum(one.histogram.values())) for count in one.histogram.values()),
        )
        for i, one in enumerate(candidates)
    ]
    return Table(
        title="Candidates by their class frequencies",
        header=("candidate", "KL to prior (nats)", *(f"{name.replace('_', ' ')} (%)" for name in classes)),
        rows=tuple(rows),
        notes=(f"Chosen: {candidates[0].name}.", f"What this assumes: {ASSUMES}"),
    )


def _moves(difference: Difference, challenge: Challenge, most: int = 5) -> tuple[str, ...]:
    """The commonest pairs of different answers, in words."""
    off = difference.confusion - np.diag(np.diagonal(difference.confusion))
    order = np.argsort(-off, axis=None, kind="stable")[:most]
    pairs = [divmod(int(cell), len(off)) for cell in order if off.flat[cell]]
    if not pairs:
        return ()
    words = (f"{challenge.classes[a]} to {challenge.classes[b]} {off[a, b]:,}" for a, b in pairs)
    return (f"Commonest flips, first to second: {', '.join(words)}.",)


def _count(value: int) -> Cell:
    return Cell(f"{value:,}", value)


def _percent(share: float) -> Cell:
    return Cell(f"{100 * share:.2f}", 100 * float(share))
