"""Choosing among candidates without labels: the one whose answers are spread most like the known class prior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from cer_fusion.challenge.submission.challenge import Challenge
from cer_fusion.fusion.errors import SubmissionError
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

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
