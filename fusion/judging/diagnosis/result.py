"""The result of a diagnosis, and its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cer_fusion.fusion.files.sealed import read_sealed, write_sealed
from cer_fusion.fusion.judging.diagnosis.agreement import Agreement
from cer_fusion.fusion.judging.diagnosis.calibration import Calibration
from cer_fusion.fusion.judging.diagnosis.cka import Similarity
from cer_fusion.fusion.judging.diagnosis.mistakes import ConfusedPair, HardSample
from cer_fusion.fusion.judging.diagnosis.near_duplicates import NearDuplicates
from cer_fusion.fusion.judging.diagnosis.rebuilding import rebuilt
from cer_fusion.fusion.judging.statistics.intervals import Interval

FORMAT, FORMAT_VERSION = "cer-diagnosis", 1


@dataclass(frozen=True, kw_only=True)
class SubsetValue:
    """What the head is worth on one subset of the players."""

    members: tuple[str, ...]
    """The players it learned from; none answers the classes' shares."""
    accuracy: float
    """0-1."""
    macro_f1: float
    """0-1."""
    log_loss: float
    """Mean negative log-probability of the truth, nats."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What one player (a block, or a feature) brings to the head."""

    name: str
    """The player."""
    shapley_macro_f1: float
    """Its share of v(all) - v(none), macro F1, 0-1."""
    shapley_interval: Interval
    """Percentile interval of it over resampled rows."""
    shapley_log_loss: float
    """Its share of the fall of the log-loss, nats: positive where it helps."""
    left_out_macro_f1: float
    """What all players lose without it, macro F1, 0-1."""
    left_out_interval: Interval
    """Percentile interval of it over resampled rows."""
    left_out_log_loss: float
    """By how much the log-loss rises without it, nats."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Why a head scores as it does."""

    classes: tuple[str, ...]
    """The declared classes in order."""
    n: int
    """Rows that were answered."""
    head: str
    """The estimator's class name."""
    params: Mapping[str, Any]
    """Its parameters, as JSON values."""
    folds: int
    """0: it learned from the training rows and answered the test rows. Else it answered the former fold by fold."""
    players: Mapping[str, tuple[str, ...]]
    """Player -> its blocks."""
    subsets: tuple[SubsetValue, ...]
    """All subsets; player i is in subset m where bit i of m is set."""
    contributions: tuple[Contribution, ...]
    """One a player, in order."""
    agreement: Agreement | None
    """Of heads on single backbones; None where there is one backbone only."""
    similarity: Similarity
    """Of the blocks."""
    calibration: Calibration
    """Of the head on all blocks."""
    confused: tuple[ConfusedPair, ...]
    """The most frequent mistakes of the head on all blocks."""
    hardest: tuple[HardSample, ...]
    """The rows it gave the least probability to their label."""
    near: NearDuplicates
    """Rows that nearly stand on both sides."""
    clean_accuracy: float | None
    """Accuracy on the rows that are in no such pair, 0-1; None where no row is left."""
    clean_macro_f1: float | None
    """Macro F1 on them."""
    level: float
    """Nominal coverage of the intervals, 0-1."""
    resamples: int
    """Bootstrap resamples."""
    seed: int
    """Seed of folds, heads and bootstrap."""
    fingerprints: Mapping[str, str]
    """Feature -> fingerprint, where known."""
    notes: tuple[str, ...]
    """What a reader must know, one sentence each."""

    @property
    def whole(self) -> SubsetValue:
        """What the head is worth on all players."""
        return self.subsets[-1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        plain: dict[str, Any] = _listed(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Diagnosis:
        """Rebuild a diagnosis; unknown keys and values of the wrong kind are refused."""
        return rebuilt(cls, plain, "the diagnosis")

    def save(self, path: Path, *, overwrite: bool = True) -> Path:
        """Write the diagnosis as JSON that carries its own digest, whole or not at all; see `write_atomic`."""
        return write_sealed(path, self.to_dict(), kind=FORMAT, version=FORMAT_VERSION, overwrite=overwrite)

    @classmethod
    def load(cls, path: Path) -> Diagnosis:
        """Read a diagnosis written by `save`."""
        return cls.from_dict(read_sealed(path, kind=FORMAT, version=FORMAT_VERSION))


def _listed(value: Any) -> Any:
    """Tuples as lists, as JSON gives them back."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value
