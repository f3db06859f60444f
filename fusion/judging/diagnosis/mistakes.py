"""Mistakes: the pairs of classes that are confused most, and the rows that every head finds hard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cer_fusion.fusion.judging.diagnosis.calibration import losses
from cer_fusion.fusion.judging.metrics import Scores
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """Rows of one class that were taken for another."""

    truth: str
    """The class they are of."""
    answer: str
    """The class they were taken for."""
    count: int
    """Rows."""
    share: float
    """Share of the true class's rows, 0-1."""


@dataclass(frozen=True, kw_only=True)
class HardSample:
    """A row whose true class the head held least likely."""

    sample_id: str
    """Which row."""
    truth: str
    """Its label; a hard sample may as well be a wrong label."""
    answer: str
    """What the head said."""
    of_truth: float
    """The probability it gave to the label, 0-1."""
    of_answer: float
    """The probability it gave to its answer, 0-1."""
    right: int
    """Single backbones that were right."""


def confused_pairs(found: Scores, most: int) -> tuple[ConfusedPair, ...]:
    """Return the most frequent mistakes, by count, then by share of the true class."""
    counts = found.confusion * ~np.eye(len(found.classes), dtype=np.bool_)
    pairs = [
        ConfusedPair(
            truth=found.classes[i],
            answer=found.classes[j],
            count=int(counts[i, j]),
            share=int(counts[i, j]) / int(found.supports[i]),
        )
        for i, j in np.argwhere(counts).tolist()
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.count, -pair.share))[:most])


def hardest(
    ids: Sequence[str],
    classes: Sequence[str],
    y: IntArray,
    proba: FloatArray,
    singles: Sequence[IntArray],
    most: int,
) -> tuple[HardSample, ...]:
    """Return the rows of the largest loss of a head's probabilities (n, k), hardest first.

    `singles` are the answers (n,) of heads on single backbones.
    """
    right = np.zeros(len(y), np.int64)
    for answers in singles:
        right += answers == y
    answer = proba.argmax(axis=1)
    order = np.argsort(-losses(y, proba), kind="stable")[:most].tolist()
    return tuple(
        HardSample(
            sample_id=ids[i],
            truth=classes[y[i]],
            answer=classes[answer[i]],
            of_truth=float(proba[i, y[i]]),
            of_answer=float(proba[i, answer[i]]),
            right=int(right[i]),
        )
        for i in order
    )
