"""Made-up predictions of videos: classes that stay for a while, and a noisy head."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cer_fusion.fusion.keeping.answers import Predictions

CLASSES = ("a", "b", "c")


def video_predictions(
    lengths: Sequence[int],
    *,
    classes: Sequence[str] = CLASSES,
    stay: float = 30.0,
    signal: float = 1.5,
    missing: float = 0.0,
    labelled: bool = True,
    seed: int = 0,
) -> Predictions:
    """Predictions of videos 01, 02 …; a class stays for `stay` frames on average, a share of the frames is missing."""
    rng = np.random.default_rng(seed)
    ids, y = [], []
    for video, length in enumerate(lengths, start=1):
        state = rng.integers(len(classes))
        for frame in range(1, length + 1):
            state = rng.integers(len(classes)) if rng.random() < 1 / stay else state
            if rng.random() >= missing:
                ids.append(f"{video:02d}/{frame:05d}.jpg")
                y.append(int(state))
    logits = rng.normal(size=(len(ids), len(classes)))
    logits[np.arange(len(y)), y] += signal
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = tuple(classes[i] for i in y) if labelled else None
    return Predictions(ids=tuple(ids), classes=tuple(classes), proba=proba, labels=labels)
