"""Smoothing predictions over time, each video for itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from cer_fusion.challenge.timeline.filling import filled
from cer_fusion.challenge.timeline.hmm import best_path, posterior
from cer_fusion.challenge.timeline.kernels import box, exponential, gaussian, median
from cer_fusion.challenge.timeline.learned import evidence_of, learned_transitions, sticky
from cer_fusion.challenge.timeline.setting import CHAINS, Smoothing
from cer_fusion.challenge.timeline.track import Timeline
from cer_fusion.fusion.errors import PredictionsError, TimelineError
from cer_fusion.fusion.keeping.predictions import Predictions
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_WINDOWS: dict[str, Callable[[FloatArray, int], FloatArray]] = {
    "box": box,
    "gaussian": gaussian,
    "exponential": exponential,
    "median": median,
}


def smoothed(
    predictions: Predictions, setting: Smoothing, *, transitions: FloatArray | None = None, fill: bool = False
) -> Predictions:
    """Smooth predictions within each video.

    Parameters
    ----------
    predictions : Predictions
        Ids as `parse_frame` reads them, in any order; rows must be probabilities. Frames missing inside a video are
        interpolated before a window slides over it (a hidden Markov model takes them as no evidence).
    setting : Smoothing
        Method and window. "viterbi" answers with a path: rows of one 1 and zeros.
    transitions : float64 array of shape (k, k), optional
        Of a hidden Markov model whose stickiness is learned; None learns by EM from these rows, and refuses
        ``labels``, which must be learned on other videos (`learned_transitions`).
    fill : bool
        Answer for the missing frames as well; rows then stand video by video in time order. False answers the rows as
        they came.

    Raises
    ------
    PredictionsError
        If rows are no probabilities.
    TimelineError
        If an id names no frame, or transitions are needed and not given.
    """
    check_probabilities(predictions)
    timeline = Timeline.of(predictions.ids)
    if not timeline.tracks:
        return predictions
    tracks = smooth_tracks(predictions.proba, timeline, setting, needed_transitions(predictions, setting, transitions))
    if fill:
        return _every_frame(predictions, timeline, tracks)
    return replace(predictions, proba=rows_of(tracks, timeline))


def smooth_tracks(
    proba: FloatArray, timeline: Timeline, setting: Smoothing, transitions: FloatArray | None = None
) -> list[FloatArray]:
    """Smooth (n, k) rows: for each video (t, k) from its first to its last frame, gaps closed."""
    if setting.method in CHAINS:
        moves = sticky(proba.shape[1], setting.window or 1) if transitions is None else transitions
        evidence = evidence_of(proba, timeline)
        if setting.method == "hmm":
            return posterior(evidence, moves)
        return [np.eye(proba.shape[1])[path] for path in best_path(evidence, moves)]
    tracks = [one.values for one in filled(proba, timeline)]
    if setting.method == "none":
        return tracks
    return [_WINDOWS[setting.method](track, setting.window or 1) for track in tracks]


def rows_of(tracks: list[FloatArray], timeline: Timeline) -> FloatArray:
    """Take the frames that have a row back out of whole videos: (n, k) in the order of the rows."""
    out = np.empty((timeline.n, tracks[0].shape[1]))
    for values, track in zip(tracks, timeline.tracks, strict=True):
        out[track.rows] = values[track.frames - track.frames[0]]
    return out


def check_probabilities(predictions: Predictions) -> None:
    """Refuse rows that are no probabilities, naming the first."""
    proba = predictions.proba
    wrong = np.flatnonzero((proba < 0).any(axis=1) | (np.abs(proba.sum(axis=1) - 1) > 1e-3))
    if wrong.size:
        first = int(wrong[0])
        raise PredictionsError(
            f"{wrong.size:,} of {len(proba):,} rows are no probabilities: they must be 0 or more and sum to 1\n"
            f"  first: {predictions.ids[first]} with the sum {proba[first].sum():.4f} and the least "
            f"{proba[first].min():.4f}"
        )


def needed_transitions(predictions: Predictions, setting: Smoothing, given: FloatArray | None) -> FloatArray | None:
    """Return the (k, k) transitions that a setting needs, learned by EM if not given; None when its window says all."""
    if setting.stickiness == "window":
        return None
    k = len(predictions.classes)
    if given is None and setting.stickiness == "labels":
        raise TimelineError(
            f"{setting.text} needs transitions learned on labelled videos other than these\n"
            "  give labelled predictions to learn from, or use em, which needs no labels"
        )
    if given is not None and given.shape != (k, k):
        raise TimelineError(f"transitions between {k} classes must have shape {(k, k)}, however: {given.shape}")
    return learned_transitions(predictions, "em") if given is None else given


def _every_frame(predictions: Predictions, timeline: Timeline, tracks: list[FloatArray]) -> Predictions:
    labels = predictions.labels or (None,) * len(predictions.ids)
    ids: list[str] = []
    known: list[str | None] = []
    for track in timeline.tracks:
        own = dict(zip(track.frames.tolist(), track.rows.tolist(), strict=True))
        for frame in track.span.tolist():
            row = own.get(frame)
            ids.append(track.sample_id(frame) if row is None else predictions.ids[row])
            known.append(None if row is None else labels[row])
    return Predictions(
        ids=tuple(ids),
        classes=predictions.classes,
        proba=np.concatenate(tracks),
        labels=None if predictions.labels is None else tuple(known),
    )
