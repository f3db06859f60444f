"""Submissions as tables: the classes answered, how each video was covered, two submissions side by side, candidates."""

from __future__ import annotations

import numpy as np
from cer_fusion.challenge.submission.answering import Answers
from cer_fusion.challenge.submission.challenge import Challenge
from cer_fusion.challenge.submission.choosing import ASSUMES, Candidate
from cer_fusion.challenge.submission.difference import Difference
from cer_fusion.fusion.page.table import EN_DASH, Cell, Table
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


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
