"""Transitions between classes from frame to frame: stated, counted on labelled videos, or learned without labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from cer_fusion.challenge.timeline.filling import filled
from cer_fusion.challenge.timeline.hmm import expected_stays
from cer_fusion.challenge.timeline.track import Timeline
from cer_fusion.fusion.errors import TimelineError
from cer_fusion.fusion.keeping.predictions import Predictions
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LONGEST_STAY = 1_000_000
"""Frames a learned class stays on average at most: eleven hours at 25 frames a second."""

_LOG = logging.getLogger(__name__)
_MOST_ROUNDS, _CLOSE = 200, 1e-3


def learned_transitions(predictions: Predictions, stickiness: str) -> FloatArray:
    """Learn (k, k) transitions from predictions: from their ``labels``, or by ``em`` from the probabilities alone."""
    timeline = Timeline.of(predictions.ids)
    if stickiness == "labels":
        return from_counts(step_counts(predictions.y_true, timeline, len(predictions.classes)).sum(axis=0))
    return sticky(len(predictions.classes), em_stay(evidence_of(predictions.proba, timeline)))


def sticky(k: int, stay_frames: float) -> FloatArray:
    """Return transitions under which a class stays for so many frames on average, then gives way to any other evenly.

    Stays are geometric: the class is kept with probability ``1 - 1 / stay_frames``.
    """
    if k == 1:
        return np.ones((1, 1))
    leave = 1.0 / stay_frames
    return np.full((k, k), leave / (k - 1)) + np.eye(k) * (1.0 - leave - leave / (k - 1))


def step_counts(y: IntArray, timeline: Timeline, k: int) -> IntArray:
    """Count the steps between labelled frames that follow each other: (v, k, k), one table a video, row = from."""
    out = np.zeros((len(timeline.tracks), k, k), dtype=np.int64)
    for table, track in zip(out, timeline.tracks, strict=True):
        labels = y[track.rows]
        follow = (np.diff(track.frames) == 1) & (labels[:-1] >= 0) & (labels[1:] >= 0)
        np.add.at(table, (labels[:-1][follow], labels[1:][follow]), 1)
    return out


def from_counts(counts: IntArray) -> FloatArray:
    """Turn counted steps into transitions, with one more step a class spread evenly so that none is impossible."""
    if not counts.sum():
        raise TimelineError(
            "there are no two labelled frames that follow each other: no stickiness can be learned from them\n"
            "  give a window, or learn without labels (em)"
        )
    smooth = counts + 1.0 / counts.shape[1]
    shares: FloatArray = smooth / smooth.sum(axis=1, keepdims=True)
    return shares


def evidence_of(proba: FloatArray, timeline: Timeline) -> list[FloatArray]:
    """Return each video's evidence for `hmm`: (t, k) from its first to its last frame; a missing frame gives none."""
    return [np.where(one.observed[:, None], one.values, 1.0) for one in filled(proba, timeline)]


def em_stay(evidence: Sequence[FloatArray], start: float = 25.0) -> float:
    """Learn how many frames a class stays on average, without labels: Baum-Welch over that one number.

    Evidence stays as it is; the chance of keeping the class becomes the expected share of steps that keep it, until
    the stay changes by less than a thousandth (Rabiner 1989, section III.C, with tied transitions). Frames of a video
    err together, and EM takes errors that last for classes that last: the figure is a proposal, not a measurement.

    Raises
    ------
    TimelineError
        If no video has two frames.
    """
    if all(len(one) < 2 for one in evidence):
        raise TimelineError("no video has two frames: there is no stickiness to learn\n  give a window")
    k, stay = evidence[0].shape[1], start
    for _ in range(_MOST_ROUNDS):
        stays, steps = expected_stays(evidence, sticky(k, stay))
        found = min(max(steps / max(steps - stays, 1e-12), 1.0 + 1e-6), float(LONGEST_STAY))
        if abs(found - stay) <= _CLOSE * stay:
            return found
        stay = found
    _LOG.warning("EM has not settled after %d rounds: stays of %.1f frames", _MOST_ROUNDS, stay)
    return stay
