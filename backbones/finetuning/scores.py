"""Scores of an epoch on the validation part, and what a run reports in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class EpochScores:
    """One line of ``log.jsonl``."""

    epoch: int
    """From 1."""
    loss: float
    """Mean training loss."""
    lr: float
    """Learning rate of the classifier at the epoch's last update."""
    train_accuracy: float
    """Share of augmented training pictures whose label was found, while the weights were changing."""
    valid_loss: float
    """Mean cross-entropy with the hard labels, of the weights that would be kept."""
    valid_accuracy: float
    """Likewise."""
    valid_macro_f1: float
    """Mean F1 over the classes that the validation part has; the best epoch is the first with the highest."""
    valid_recall: dict[str, float]
    """Class -> share found, for those classes."""
    seconds: float
    """Training and validation."""
    pictures_per_s: float
    """Training pictures over the seconds of training alone, on this process's device times processes."""

    def line(self, epochs: int) -> str:
        """Say it in one line."""
        return (
            f"epoch {self.epoch}/{epochs}: loss {self.loss:.4f}, train accuracy {self.train_accuracy:.4f}; valid: loss "
            f"{self.valid_loss:.4f}, accuracy {self.valid_accuracy:.4f}, macro F1 {self.valid_macro_f1:.4f}; "
            f"lr {self.lr:.2e}, {self.pictures_per_s:,.1f} pictures/s"
        )


@dataclass(frozen=True, kw_only=True)
class FinetuneReport:
    """What a run did."""

    output: Path
    """Folder with ``weights.safetensors``, ``card.json`` and ``log.jsonl``."""
    weights: Path
    """The best epoch's weights, for ``create(name, weights=…)``."""
    weights_digest: str
    """Their digest, as in the identity of features made with them."""
    best: EpochScores
    """Scores of that epoch."""
    epochs: tuple[EpochScores, ...]
    """Scores of every epoch."""
    stopped_early: bool
    """Whether patience ended it."""
    resumed: bool
    """Whether it went on from a state, or was finished already."""
    left_out: dict[str, str]
    """Id -> reason, for pictures that cannot be used."""


def judge(logits: NDArray[np.float32], y: NDArray[np.int64], classes: Sequence[str]) -> dict[str, Any]:
    """Score logits (n, k) against labels (n,); keys as in `EpochScores`."""
    from sklearn.metrics import f1_score, log_loss, recall_score

    guessed = logits.argmax(1)
    there = np.unique(y)
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    shares = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    recall = recall_score(y, guessed, labels=there, average=None, zero_division=0)
    return {
        "valid_loss": float(log_loss(y, shares, labels=np.arange(len(classes)))),
        "valid_accuracy": float((guessed == y).mean()),
        "valid_macro_f1": float(f1_score(y, guessed, labels=there, average="macro", zero_division=0)),
        "valid_recall": {classes[c]: float(share) for c, share in zip(there, recall, strict=True)},
    }
