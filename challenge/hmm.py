"""A hidden Markov model over the classes of a video: posterior of each frame, most likely path, learned transitions.

The head's probabilities stand in for the emission likelihoods (the hybrid model of Bourlard & Morgan, 1994, with a
uniform class prior); the first frame's class is uniform. Forward-backward and Viterbi as in Rabiner (1989), sections
III.A-B, scaled frame by frame. Videos run side by side, so that time is the only loop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from cer_fusion.challenge.timeline import Timeline, filled
from cer_fusion.fusion.errors import TimelineError
from cer_fusion.fusion.heads.mixing import SMALLEST
from cer_fusion.fusion.keeping.answers import Predictions
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LONGEST_STAY = 1_000_000
"""Frames a learned class stays on average at most: eleven hours at 25 frames a second."""

_LOG = logging.getLogger(__name__)
_MOST_ROUNDS, _CLOSE = 200, 1e-3
_CELLS = 2_000_000  # probabilities held side by side, padding included: 16 MB an array


def posterior(evidence: Sequence[FloatArray], transitions: FloatArray) -> list[FloatArray]:
    """Return each frame's class probabilities given its whole video.

    Parameters
    ----------
    evidence : sequence of float64 arrays of shape (t, k)
        One a video: likelihoods up to a factor a frame. A row of equal numbers is no evidence.
    transitions : float64 array of shape (k, k)
        Row = from, column = to; positive, rows sum to 1.

    Returns
    -------
    list of float64 arrays of shape (t, k)
        In the order of ``evidence``.
    """
    out: list[FloatArray] = [np.empty(0)] * len(evidence)
    for batch in _batches(evidence):
        ahead, behind = _forward_backward(batch, transitions)
        together = ahead * behind
        together /= together.sum(axis=2, keepdims=True)
        for column, (which, length) in enumerate(zip(batch.which, batch.lengths.tolist(), strict=True)):
            out[which] = together[:length, column]
    return out


def best_path(evidence: Sequence[FloatArray], transitions: FloatArray) -> list[IntArray]:
    """Return the most likely sequence of class positions of each video (Viterbi), (t,) int64; the first of equals."""
    out: list[IntArray] = [np.empty(0, dtype=np.int64)] * len(evidence)
    with np.errstate(divide="ignore"):  # a transition of probability 0 is minus infinity, which is meant
        log_moves = np.log(transitions)
    for batch in _batches(evidence):
        log_evidence = np.log(batch.evidence)
        frames, size, k = log_evidence.shape
        came_from = np.empty((frames, size, k), dtype=np.int16)
        best = log_evidence[0]
        for t in range(1, frames):
            moved = best[:, :, None] + log_moves  # (b, from, to)
            here = t < batch.lengths
            came_from[t] = np.where(here[:, None], moved.argmax(axis=1), np.arange(k))
            best = np.where(here[:, None], moved.max(axis=1) + log_evidence[t], best)
        path = np.empty((frames, size), dtype=np.int64)
        path[-1] = best.argmax(axis=1)
        for t in range(frames - 1, 0, -1):
            path[t - 1] = came_from[t, np.arange(size), path[t]]
        for column, (which, length) in enumerate(zip(batch.which, batch.lengths.tolist(), strict=True)):
            out[which] = path[:length, column]
    return out


def expected_stays(evidence: Sequence[FloatArray], transitions: FloatArray) -> tuple[float, int]:
    """Return how many steps from frame to frame are expected to keep the class, and how many steps there are."""
    stays, steps = 0.0, 0
    for batch in _batches(evidence):
        ahead, behind = _forward_backward(batch, transitions)
        arriving = batch.evidence[1:] * behind[1:]  # (t - 1, b, k)
        kept = (ahead[:-1] * np.diagonal(transitions) * arriving).sum(axis=2)
        every = ((ahead[:-1] @ transitions) * arriving).sum(axis=2)
        inside = np.arange(1, len(batch.evidence))[:, None] < batch.lengths
        stays += float((kept[inside] / every[inside]).sum())
        steps += int(inside.sum())
    return stays, steps


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    which: tuple[int, ...]  # positions of the videos
    lengths: IntArray  # (b,) frames of each
    evidence: FloatArray  # (t, b, k), ones beyond the end of a video: no evidence


def _batches(evidence: Sequence[FloatArray]) -> Iterator[_Batch]:
    """Videos of like length together, so that little is padded."""
    order = sorted(range(len(evidence)), key=lambda i: len(evidence[i]))
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * evidence[order[stop]].size <= _CELLS:
            stop += 1
        yield _padded(evidence, order[start:stop])
        start = stop


def _padded(evidence: Sequence[FloatArray], which: Sequence[int]) -> _Batch:
    lengths = np.array([len(evidence[i]) for i in which], dtype=np.int64)
    padded = np.ones((int(lengths.max()), len(which), evidence[which[0]].shape[1]))
    for column, i in enumerate(which):
        padded[: len(evidence[i]), column] = np.maximum(evidence[i], SMALLEST)
    return _Batch(which=tuple(which), lengths=lengths, evidence=padded)


def _forward_backward(batch: _Batch, transitions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Forward and backward messages, scaled: (t, b, k) twice. Beyond its end a video's backward message is even."""
    seen = batch.evidence
    ahead, behind = np.empty_like(seen), np.empty_like(seen)
    ahead[0] = seen[0] / seen[0].sum(axis=1, keepdims=True)
    for t in range(1, len(seen)):
        message = (ahead[t - 1] @ transitions) * seen[t]
        ahead[t] = message / message.sum(axis=1, keepdims=True)
    behind[-1] = 1.0
    for t in range(len(seen) - 1, 0, -1):
        message = (seen[t] * behind[t]) @ transitions.T
        behind[t - 1] = message / message.max(axis=1, keepdims=True)
    return ahead, behind


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
