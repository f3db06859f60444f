"""Templates and predictions in the challenge's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cer_fusion.challenge import Template, abaw_ce, read_template
from cer_fusion.fusion.keeping.answers import Predictions

CHALLENGE = abaw_ce()


def names_of(lengths: Mapping[str, int]) -> list[str]:
    return [f"{video}/{frame:05d}.jpg" for video, count in lengths.items() for frame in range(1, count + 1)]


def template_of(folder: Path, lengths: Mapping[str, int]) -> Template:
    path = folder / "template.csv"
    path.write_text("\n".join([CHALLENGE.header, *(f"{name}," for name in names_of(lengths))]) + "\n")
    return read_template(path, CHALLENGE)


def certain(ids: Sequence[str], y: Sequence[int], classes: Sequence[str] = CHALLENGE.classes) -> Predictions:
    """Predictions that are sure of these class positions."""
    return Predictions(ids=tuple(ids), classes=tuple(classes), proba=np.eye(len(classes))[list(y)])
