"""Answering a template: each of its frames once, from predictions of the same video."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from cer_fusion.challenge.submission.challenge import Challenge
from cer_fusion.challenge.submission.submitted import Submission
from cer_fusion.challenge.submission.template import Template
from cer_fusion.challenge.timeline.filling import at_frames
from cer_fusion.challenge.timeline.setting import Smoothing
from cer_fusion.challenge.timeline.smoothing import check_probabilities, needed_transitions, smooth_tracks
from cer_fusion.challenge.timeline.track import Timeline, Track
from cer_fusion.fusion.errors import SubmissionError, nearest
from cer_fusion.fusion.keeping.predictions import Predictions
from numpy.typing import NDArray

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
        As in `cer_fusion.challenge.timeline.smoothed`; in the challenge's class order.
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
    values = _values(ordered, timeline, smoothing, transitions)
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
    predictions: Predictions, timeline: Timeline, smoothing: Smoothing | None, transitions: FloatArray | None
) -> dict[str, tuple[IntArray, FloatArray]]:
    """Video -> frame numbers (t,) and their probabilities (t, k): as predicted, or every frame of it smoothed."""
    if smoothing is None:
        return {track.video: (track.frames, predictions.proba[track.rows]) for track in timeline.tracks}
    moves = needed_transitions(predictions, smoothing, transitions)
    smooth = smooth_tracks(predictions.proba, timeline, smoothing, moves)
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
