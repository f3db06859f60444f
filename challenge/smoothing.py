"""Smoothing predictions of videos over time, within a video and never across: probabilities in, probabilities out.

Windows are centred, and frames beyond the ends of a video do not count: the weights of those that are there are scaled
up to 1. Rows stay probabilities.

A hidden Markov model over the classes gives the posterior of each frame, the most likely path and learned transitions.
The head's probabilities over their class prior stand in for the emission likelihoods (the scaled likelihoods of
Bourlard & Morgan, 1994), and the first frame's class and the chain itself have that prior; it is uniform where none is
given. Forward-backward and Viterbi as in Rabiner (1989), sections
III.A-B, scaled frame by frame. Videos run side by side, so that time is the only loop.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from ..fusion.data.rows import Rows
from ..fusion.errors import PredictionsError, TimelineError
from ..fusion.heads.weights import SMALLEST
from ..fusion.keeping.answers import Predictions
from ..kit.errors import nearest
from .timeline import Timeline, filled

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


def learned_transitions(predictions: Predictions, stickiness: str, prior: FloatArray | None = None) -> FloatArray:
    """Learn (k, k) transitions from predictions: from their ``labels``, or by ``em`` from the probabilities alone, of
    which ``prior`` (k,) is the class prior (None: uniform)."""
    timeline = Timeline.of(predictions.ids)
    if stickiness == "labels":
        return from_counts(step_counts(predictions.y_true, timeline, len(predictions.classes)).sum(axis=0))
    stay = em_stay(evidence_of(predictions.proba, timeline, prior), prior=prior)
    return sticky(len(predictions.classes), stay) if prior is None else sticky_towards(prior, stay)


def sticky(k: int, stay_frames: float) -> FloatArray:
    """Return transitions under which a class stays for so many frames on average, then gives way to any other evenly.

    Stays are geometric: the class is kept with probability ``1 - 1 / stay_frames``.
    """
    if k == 1:
        return np.ones((1, 1))
    leave = 1.0 / stay_frames
    return np.full((k, k), leave / (k - 1)) + np.eye(k) * (1.0 - leave - leave / (k - 1))


def sticky_towards(prior: FloatArray, stay_frames: float) -> FloatArray:
    """Return transitions (k, k) whose classes are as frequent in the long run as the prior (k,) says.

    With the chance c the class is drawn anew from the prior: (1 - c) I + c 1 prior^T. c is such that an average frame
    stands ``stay_frames`` before the class changes, and 1 where independent frames stay longer. A uniform prior gives
    `sticky`.
    """
    changes = float(1 - (prior**2).sum())
    anew = min(1.0, 1.0 / (stay_frames * changes)) if changes > 0 else 1.0
    return (1 - anew) * np.eye(len(prior)) + anew * prior


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


def evidence_of(proba: FloatArray, timeline: Timeline, prior: FloatArray | None = None) -> list[FloatArray]:
    """Return each video's evidence for `hmm`: (t, k) from its first to its last frame; a missing frame gives none.

    With the class prior (k,) of the probabilities these are likelihoods up to a factor a frame, and the first frame
    holds its class's prior as well; without one the prior is uniform.
    """
    tracks = filled(proba, timeline)
    if prior is None:
        return [np.where(one.observed[:, None], one.values, 1.0) for one in tracks]
    found = []
    for one in tracks:
        likely = np.where(one.observed[:, None], one.values / prior, 1.0)
        likely[0] *= prior
        found.append(likely / likely.max(axis=1, keepdims=True))
    return found


def em_stay(evidence: Sequence[FloatArray], start: float = 25.0, *, prior: FloatArray | None = None) -> float:
    """Learn how many frames a class stays on average, without labels: Baum-Welch over that one number.

    Evidence stays as it is; the chance of keeping the class becomes the expected share of steps that keep it, until
    the stay changes by less than a thousandth (Rabiner 1989, section III.C, with tied transitions). Frames of a video
    err together, and EM takes errors that last for classes that last: the figure is a proposal, not a measurement.

    Parameters
    ----------
    evidence : sequence of float64 arrays of shape (t, k)
        As `evidence_of` gives them.
    start : float
        Frames of a stay to begin with.
    prior : float64 array of shape (k,), optional
        How frequent classes are in the long run, as in `sticky_towards`; None: all alike.

    Raises
    ------
    TimelineError
        If no video has two frames.
    """
    if all(len(one) < 2 for one in evidence):
        raise TimelineError("no video has two frames: there is no stickiness to learn\n  give a window")
    k, stay = evidence[0].shape[1], start
    for _ in range(_MOST_ROUNDS):
        stays, steps = expected_stays(evidence, sticky(k, stay) if prior is None else sticky_towards(prior, stay))
        found = min(max(steps / max(steps - stays, 1e-12), 1.0 + 1e-6), float(LONGEST_STAY))
        if abs(found - stay) <= _CLOSE * stay:
            return found
        stay = found
    _LOG.warning("EM has not settled after %d rounds: stays of %.1f frames", _MOST_ROUNDS, stay)
    return stay


Method: TypeAlias = Literal["none", "box", "gaussian", "median", "exponential", "hmm", "viterbi"]
Stickiness: TypeAlias = Literal["window", "labels", "em"]

METHODS: tuple[str, ...] = get_args(Method)
"""Every method, plainest first."""
CHAINS = ("hmm", "viterbi")
"""Methods whose window is how long a class stays on average."""
STICKINESS: tuple[str, ...] = get_args(Stickiness)
MOST_WINDOW, MOST_SETTINGS = 1_000_001, 1_000

_CENTRED = ("box", "gaussian", "median")


@dataclass(frozen=True)
class Smoothing:
    """One way to smooth; checked once when made."""

    method: Method = "none"
    """Mean (box, gaussian, exponential) or median over a window; a hidden Markov model's posterior (hmm) or its single
    most likely path (viterbi)."""
    window: int | None = None
    """Frames: the whole width (box, gaussian, median; odd), the span (exponential), or how long a class stays on
    average (hmm, viterbi). None where there is nothing to give."""
    stickiness: Stickiness = "window"
    """Where a hidden Markov model has its transitions from: the window, labelled videos, or EM without labels."""

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        if self.method not in METHODS:
            raise TimelineError(f"there is no smoothing method {self.method!r}; {nearest(self.method, METHODS)}")
        if self.stickiness not in STICKINESS:
            raise TimelineError(f"there is no stickiness {self.stickiness!r}; {nearest(self.stickiness, STICKINESS)}")
        if self.stickiness != "window" and self.method not in CHAINS:
            raise TimelineError(f"method {self.method!r} learns no stickiness: only {' and '.join(CHAINS)} do")
        if (self.method == "none" or self.stickiness != "window") != (self.window is None):
            given = "no window" if self.window is None else f"window {self.window}"
            raise TimelineError(f"{self.text} needs {'a' if self.window is None else 'no'} window, however: {given}")
        if self.window is not None:
            _check_window(self.method, self.window)

    @property
    def text(self) -> str:
        """The setting in its notation: ``box:51``, ``hmm:em``, ``none``."""
        detail = self.window if self.stickiness == "window" else self.stickiness
        return self.method if detail is None else f"{self.method}:{detail}"

    @classmethod
    def parse(cls, text: str) -> Smoothing:
        """Read ``METHOD:FRAMES``, ``hmm:labels``, ``hmm:em`` (viterbi likewise) or ``none``."""
        method, _, detail = text.strip().partition(":")
        if detail in STICKINESS[1:]:
            return cls(method=method, stickiness=detail)  # type: ignore[arg-type]
        if method in METHODS[1:] and not re.fullmatch("[0-9]{1,8}", detail):
            raise TimelineError(
                f"cannot read the smoothing {text!r}\n  write METHOD:FRAMES, for example box:51, or hmm:em"
            )
        return cls(method=method, window=int(detail) if detail else None)  # type: ignore[arg-type]


def parse_windows(text: str) -> tuple[int, ...]:
    """Read ``51``, ``5,25,51`` or ``5:101:8`` (both ends and the step, in frames); rising, each once.

    Raises
    ------
    TimelineError
        Quoting the part that cannot be read.
    """
    found: set[int] = set()
    for part in text.split(","):
        numbers = part.strip().split(":")
        if len(numbers) not in (1, 3) or not all(re.fullmatch("[0-9]{1,8}", number) for number in numbers):
            raise TimelineError(
                f"cannot read the window {part.strip()!r}\n  write frames (51), several (5,25,51), or start:stop:step"
            )
        start, stop, step = map(int, numbers if len(numbers) == 3 else (*numbers, *numbers, "1"))
        if step < 1 or stop < start:
            raise TimelineError(f"a range of windows needs start <= stop and a step of 1 or more, however: {part!r}")
        if (stop - start) // step + 1 + len(found) > MOST_SETTINGS:
            raise TimelineError(f"more than {MOST_SETTINGS:,} windows in {text!r}\n  take a larger step")
        found.update(range(start, stop + 1, step))
    return tuple(sorted(found))


def settings_of(
    methods: Sequence[str], windows: Sequence[int] = (), stickiness: Sequence[str] = ("window",)
) -> tuple[Smoothing, ...]:
    """Every method with every window it takes; hidden Markov models with every source of stickiness as well.

    Raises
    ------
    TimelineError
        If there is no method, or a method needs a window and none is given.
    """
    found: list[Smoothing] = []
    for method in methods:
        learned = [source for source in stickiness if source != "window"] if method in CHAINS else []
        found += [Smoothing(method=method, stickiness=source) for source in learned]  # type: ignore[arg-type]
        if method == "none":
            found.append(Smoothing())
        elif method not in CHAINS or "window" in stickiness:
            found += [Smoothing(method=method, window=window) for window in windows or (None,)]  # type: ignore[arg-type]
    if not found:
        raise TimelineError(f"no smoothing method is given; known: {', '.join(METHODS)}")
    return tuple(dict.fromkeys(found))


def _check_window(method: str, window: int) -> None:
    least = 2 if method in CHAINS else 1
    if not least <= window <= MOST_WINDOW:
        raise TimelineError(f"a window of {method} lies between {least} and {MOST_WINDOW:,} frames, however: {window}")
    if method in _CENTRED and window % 2 == 0:
        raise TimelineError(
            f"a window of {method} is centred on its frame and so an odd number of frames, however: {window}\n"
            f"  take {window - 1} or {window + 1}; in a range start with an odd number and step by an even one"
        )


def smoothed(
    predictions: Predictions,
    setting: Smoothing,
    *,
    transitions: FloatArray | None = None,
    fill: bool = False,
    prior: FloatArray | None = None,
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
    prior : float64 array of shape (k,), optional
        Class prior of the probabilities, positive, sums to 1: a hidden Markov model divides by it. None: uniform.

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
    moves = needed_transitions(predictions, setting, transitions, prior)
    tracks = smooth_tracks(predictions.proba, timeline, setting, moves, prior)
    if fill:
        return _every_frame(predictions, timeline, tracks)
    return replace(predictions, proba=rows_of(tracks, timeline))


@dataclass(frozen=True)
class OverTime:
    """Smooths a head's answers within the videos of its rows (`cer_fusion.fusion.judging.entries.After`)."""

    setting: Smoothing

    def __call__(self, proba: FloatArray, rows: Rows) -> FloatArray:
        """Return the probabilities (n, k) smoothed."""
        return smoothed(Predictions(ids=rows.names, classes=rows.classes, proba=proba), self.setting).proba

    def check(self, rows: Rows) -> None:
        """Refuse rows that are no frames of videos."""
        Timeline.of(rows.names)


def over_time(setting: str) -> OverTime:
    """Return what smooths by a setting such as ``box:25``; nothing that would have to learn from labels."""
    found = Smoothing.parse(setting)
    if found.stickiness == "labels":
        raise TimelineError(f"smoothing by {setting!r} learns from labelled videos, and here are none apart")
    return OverTime(found)


def smooth_tracks(
    proba: FloatArray,
    timeline: Timeline,
    setting: Smoothing,
    transitions: FloatArray | None = None,
    prior: FloatArray | None = None,
) -> list[FloatArray]:
    """Smooth (n, k) rows of a class prior (k,): for each video (t, k) from its first to its last frame, gaps closed."""
    if setting.method in CHAINS:
        stay = setting.window or 1
        if transitions is not None:
            moves = transitions
        else:
            moves = sticky(proba.shape[1], stay) if prior is None else sticky_towards(prior, stay)
        evidence = evidence_of(proba, timeline, prior)
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


def needed_transitions(
    predictions: Predictions, setting: Smoothing, given: FloatArray | None, prior: FloatArray | None = None
) -> FloatArray | None:
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
    return learned_transitions(predictions, "em", prior) if given is None else given


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


def box(values: FloatArray, window: int) -> FloatArray:
    """Mean over the ``window`` frames around each: (t, k) -> (t, k). ``window`` is odd."""
    t, half = len(values), window // 2
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    low, high = np.maximum(np.arange(t) - half, 0), np.minimum(np.arange(t) + half + 1, t)
    return _shares(sums[high] - sums[low])


def gaussian(values: FloatArray, window: int) -> FloatArray:
    """Weighted mean with a standard deviation of ``window / 6`` frames, cut at the window's ends. ``window`` is odd."""
    from scipy.ndimage import correlate1d

    offsets = np.arange(-(window // 2), window // 2 + 1)
    weights = np.exp(-0.5 * (offsets / (window / 6)) ** 2)
    return _shares(correlate1d(values, weights, axis=0, mode="constant"))


def exponential(values: FloatArray, window: int) -> FloatArray:
    """Weighted mean whose weights fall by ``(window - 1) / (window + 1)`` a frame, in both directions of time.

    One direction alone is the exponential moving average of span ``window``: its rows are as old, on average, as those
    of a one-sided box of that length, (window - 1) / 2 frames. Both together do not lag behind.
    """
    from scipy.signal import lfilter

    decay = (window - 1) / (window + 1)
    ahead = lfilter([1.0], [1.0, -decay], values, axis=0)
    behind = lfilter([1.0], [1.0, -decay], values[::-1], axis=0)[::-1]
    return _shares(ahead + behind - values)


def median(values: FloatArray, window: int) -> FloatArray:
    """Median over the ``window`` frames around each, class by class, scaled to sum to 1. ``window`` is odd.

    Near the ends an even number of frames may be there; one of the two middle ones is taken then. Where the median of
    every class is 0 (rows that are all certain, of three classes or more) the frame keeps its own row, and a warning
    says how often.
    """
    from scipy.ndimage import median_filter

    half = window // 2
    # Low and high in turn, so that those inside a window outweigh each other; the two ends start differently.
    beyond = np.where(np.arange(half) % 2 == 0, -np.inf, np.inf)
    columns = []
    for column in values.T:
        padded = np.concatenate([beyond[::-1], column, -beyond])
        columns.append(median_filter(padded, size=window, mode="nearest")[half : half + column.size])
    middle = np.stack(columns, axis=1)
    lost = ~(middle.sum(axis=1) > 0)
    if lost.any():
        _LOG.warning(
            "median over %d frames: in %d of %d frames the median of every class is 0; they keep their own row",
            window, int(lost.sum()), lost.size,
        )  # fmt: skip
    return _shares(np.where(lost[:, None], values, middle))


def _shares(values: FloatArray) -> FloatArray:
    """Scale rows to sum to 1; differences of running sums may lie a rounding error below 0."""
    positive = np.maximum(values, 0.0)
    shares: FloatArray = positive / positive.sum(axis=1, keepdims=True)
    return shares


_WINDOWS: dict[str, Callable[[FloatArray, int], FloatArray]] = {
    "box": box,
    "gaussian": gaussian,
    "exponential": exponential,
    "median": median,
}
