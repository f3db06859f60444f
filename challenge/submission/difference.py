"""Two submissions side by side: where they agree, and how much more than by chance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from cer_fusion.challenge.submission.challenge import Challenge
from cer_fusion.challenge.submission.submitted import Submission
from cer_fusion.challenge.timeline.track import Timeline
from cer_fusion.fusion.errors import SubmissionError
from cer_fusion.fusion.judging.metrics import confusion_matrix
from cer_fusion.fusion.judging.statistics.kappa import cohen_kappa
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class VideoDifference:
    """One video in both submissions."""

    video: str
    """Its name."""
    rows: int
    """Frames."""
    flips: int
    """Frames that the two answer differently."""
    changes: tuple[int, int]
    """How often the answer changes from one frame to the next, in the first and in the second."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Difference:
    """Two submissions of the same frames."""

    confusion: IntArray
    """(k, k) counts: row = class of the first, column = class of the second."""
    kappa: float | None
    """Cohen's kappa; None when both give every frame the same one class."""
    videos: tuple[VideoDifference, ...]
    """One a video, in order of first appearance."""

    @property
    def rows(self) -> int:
        """Frames."""
        return int(self.confusion.sum())

    @property
    def agreement(self) -> float:
        """Share of the frames that both answer alike, 0-1."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    def to_dict(self, challenge: Challenge) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "rows": self.rows,
            "agreement": self.agreement,
            "kappa": self.kappa,
            "classes": list(challenge.classes),
            "confusion": self.confusion.tolist(),
            "videos": [asdict(one) for one in self.videos],
        }


def difference(first: Submission, second: Submission, challenge: Challenge) -> Difference:
    """Compare two submissions frame by frame, whatever their order.

    Raises
    ------
    SubmissionError
        If they do not answer the same frames.
    """
    position = {name: row for row, name in enumerate(second.names)}
    apart = set(first.names) ^ set(position)
    if apart:
        name = min(apart)
        raise SubmissionError(
            f"the two submissions do not answer the same frames: {len(apart):,} stand in one only (first: {name}, in "
            f"the {'second' if name in position else 'first'})"
        )
    y = np.stack([first.y, second.y[[position[name] for name in first.names]]])
    videos = []
    for track in Timeline.of(first.names).tracks:
        mine = y[:, track.rows]
        changes = (np.diff(mine, axis=1) != 0).sum(axis=1).tolist()
        flips = int((mine[0] != mine[1]).sum())
        videos.append(
            VideoDifference(video=track.video, rows=track.rows.size, flips=flips, changes=(changes[0], changes[1]))
        )
    confusion = confusion_matrix(y[0], y[1], len(challenge.classes))
    return Difference(confusion=confusion, kappa=cohen_kappa(confusion), videos=tuple(videos))
