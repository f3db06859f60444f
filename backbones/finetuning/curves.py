"""Curves for TensorBoard, for those who want them."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from cer_fusion.backbones.errors import MissingExtraError
from cer_fusion.backbones.finetuning.scores import EpochScores


class Curves:
    """Writes an epoch's scores into ``<output>/tensorboard``; does nothing unless wanted.

    Raises
    ------
    MissingExtraError
        If it is wanted and tensorboard is not installed.
    """

    def __init__(self, output: Path, *, wanted: bool) -> None:
        self._writer: Any = None
        if not wanted:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError(
                "curves for TensorBoard need the library tensorboard, which is not installed\n"
                "  pip install tensorboard, or leave it out: log.jsonl has the same numbers"
            ) from None
        self._writer = SummaryWriter(str(output / "tensorboard"))

    def add(self, scores: EpochScores) -> None:
        """Write one epoch."""
        if self._writer is None:
            return
        for name in ("loss", "lr", "train_accuracy", "valid_loss", "valid_accuracy", "valid_macro_f1"):
            self._writer.add_scalar(name, getattr(scores, name), scores.epoch)

    def __enter__(self) -> Curves:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
