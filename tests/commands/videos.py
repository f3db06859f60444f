"""A miniature of the challenge: a template of three videos, predictions of its frames, labelled ones of others."""

from __future__ import annotations

from pathlib import Path

from cer_fusion.challenge import abaw_ce
from cer_fusion.fusion.keeping.answers import write_predictions
from tests.challenge.templates import template_of
from tests.challenge.videos import video_predictions

LENGTHS = (60, 45, 52)


def write_miniature(folder: Path) -> None:
    """Write `template.csv`, `predictions.csv` (frames missing, one video a frame longer) and `valid.csv`."""
    names = tuple(name.replace("_", " ") for name in sorted(abaw_ce().classes))  # another order and spelling
    template_of(folder, {f"{i:02d}": count for i, count in enumerate(LENGTHS, start=1)})
    longer = (LENGTHS[0] + 1, *LENGTHS[1:])
    found = video_predictions(longer, classes=names, missing=0.13, labelled=False, signal=2.0, seed=8)
    write_predictions(folder / "predictions.csv", found)
    write_predictions(folder / "valid.csv", video_predictions([90] * 6, classes=names, signal=2.0, seed=7))
