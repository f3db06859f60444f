"""What a challenge fixes: its classes and their ids, the header of its files, the class prior that is known."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from cer_fusion.fusion.errors import SubmissionError, nearest
from cer_fusion.fusion.keeping.predictions import Predictions
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """The ABAW compound-expression challenge, as data."""

    name: str
    """What it is called."""
    source: str
    """Where these facts are from."""
    classes: tuple[str, ...]
    """Class names as the header spells them; the position is the id."""
    prior_counts: tuple[int, ...]
    """Known numbers of frames a class, in the order of ``classes``."""
    first_column: str
    """Title of the column of frame names."""
    videos: int
    """Videos of the official template, named 01, 02 …"""
    rows: int
    """Frames of the official template."""

    @property
    def header(self) -> str:
        """The first line of a submission and of the template."""
        return ",".join((self.first_column, *self.classes))

    @property
    def prior(self) -> FloatArray:
        """(k,) known class prior, sums to 1."""
        counts = np.asarray(self.prior_counts, dtype=np.float64)
        shares: FloatArray = counts / counts.sum()
        return shares

    @property
    def video_names(self) -> tuple[str, ...]:
        """Names of the videos: two digits, from 01."""
        return tuple(f"{number:02d}" for number in range(1, self.videos + 1))

    def ids_of(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the challenge's id of each class name: by name, however it is spaced, underscored or capitalised.

        Raises
        ------
        SubmissionError
            If a name is no class of the challenge, or two names are the same one.
        """
        known = {_plain(name): i for i, name in enumerate(self.classes)}
        unknown = [name for name in names if _plain(name) not in known]
        if unknown:
            others = f" ({len(unknown)} such classes: {', '.join(unknown)})" if len(unknown) > 1 else ""
            raise SubmissionError(
                f"class {unknown[0]!r} is none of the challenge's{others}; {nearest(unknown[0], self.classes)}\n"
                "  predict with a head of the challenge's classes only"
            )
        found = tuple(known[_plain(name)] for name in names)
        if len(set(found)) < len(found):
            raise SubmissionError(f"two classes mean the same id of the challenge: {', '.join(names)}")
        return found

    def in_order(self, predictions: Predictions) -> Predictions:
        """Return the same predictions with the challenge's classes in its own order; a class they lack gets 0."""
        ids = self.ids_of(predictions.classes)
        proba = np.zeros((len(predictions.ids), len(self.classes)))
        proba[:, list(ids)] = predictions.proba
        spelling = {name: self.classes[i] for name, i in zip(predictions.classes, ids, strict=True)}
        labels = predictions.labels
        return Predictions(
            ids=predictions.ids,
            classes=self.classes,
            proba=proba,
            labels=None if labels is None else tuple(None if one is None else spelling[one] for one in labels),
        )

    def histogram(self, y: IntArray) -> dict[str, int]:
        """Count (n,) answers by class name, in the challenge's order."""
        return dict(zip(self.classes, np.bincount(y, minlength=len(self.classes)).tolist(), strict=True))

    def divergence(self, y: IntArray) -> float:
        """Kullback-Leibler divergence of the answers' histogram from the known prior, in nats.

        The sum over classes of p log(p / q), p the share of the answers, q the prior: 0 when they agree.
        """
        shares = np.bincount(y, minlength=len(self.classes)) / max(y.size, 1)
        there = shares > 0
        return float((shares[there] * np.log(shares[there] / self.prior[there])).sum())


@functools.cache
def abaw_ce() -> Challenge:
    """The facts of the ABAW compound-expression challenge, read from ``abaw_ce.json``."""
    plain = json.loads(
        resources.files("cer_fusion.challenge.submission").joinpath("abaw_ce.json").read_text(encoding="utf-8")
    )
    return Challenge(**plain | {"classes": tuple(plain["classes"]), "prior_counts": tuple(plain["prior_counts"])})


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name).casefold()
