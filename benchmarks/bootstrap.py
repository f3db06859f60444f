"""10,000 bootstrap resamples of macro F1: one job here, against the loop of scikit-learn's `f1_score` that most write.

Prints a JSON line for each number of rows and heads. Ours gives accuracy and macro F1 of every head on each stratified
resample; the peer draws rows and calls `f1_score` once a head, on a part of the resamples that is scaled up.
"""

from __future__ import annotations

import argparse

import numpy as np
from sklearn.metrics import f1_score

from benchmarks.timing import interleaved, report
from cer_fusion.fusion.judging.resampling import bootstrap

RESAMPLES, CLASSES, LIMIT = 10_000, 7, 50
CASES = ((397, 1), (397, 9), (3165, 1), (3165, 9))
"""Rows and heads: the paper's test set, and FER+'s compound faces."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sample", type=int, default=50, help="resamples of the loop that are measured")
    asked = parser.parse_args()
    for n, h in CASES:
        y, p = predictions(n, h)
        check(y, p)
        taken = interleaved(
            {"ours": lambda y=y, p=p: ours(y, p), "loop": lambda y=y, p=p: loop(y, p, asked.sample)}, asked.repeats
        )
        scaled = taken["loop"] * RESAMPLES / asked.sample
        report(
            "bootstrap",
            rows=n,
            heads=h,
            resamples=RESAMPLES,
            ours_s=round(taken["ours"], 3),
            loop_s=round(scaled, 1),
            loop_measured=asked.sample,
            loop_over_ours=round(scaled / taken["ours"], 1),
            limit=LIMIT,
        )


def predictions(n: int, h: int) -> tuple[np.ndarray, np.ndarray]:
    """Return unbalanced truths (n,), and predictions (h, n) that are right about seven times in ten."""
    rng = np.random.default_rng(0)
    y = rng.choice(CLASSES, n, p=np.arange(1, CLASSES + 1) / np.arange(1, CLASSES + 1).sum())
    return y, np.where(rng.random((h, n)) < 0.7, y, rng.integers(0, CLASSES, (h, n)))


def ours(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return macro F1 on each resample, (r, h)."""
    return bootstrap(y, p, CLASSES, resamples=RESAMPLES).macro_f1


def loop(y: np.ndarray, p: np.ndarray, resamples: int) -> np.ndarray:
    """Return macro F1 on each resample, (r, h), one call a figure."""
    rng = np.random.default_rng(1)
    scored = []
    for _ in range(resamples):
        rows = np.concatenate([rng.choice(np.flatnonzero(y == c), (y == c).sum()) for c in range(CLASSES)])
        scored.append([f1_score(y[rows], one[rows], average="macro") for one in p])
    return np.array(scored)


def check(y: np.ndarray, p: np.ndarray) -> None:
    """Both must draw from the same distribution: means within what 300 resamples of the loop allow."""
    theirs, mine = loop(y, p[:1], 300)[:, 0], ours(y, p[:1])[:, 0]
    assert abs(theirs.mean() - mine.mean()) < 4 * theirs.std() / 300**0.5
    assert 0.8 < theirs.std() / mine.std() < 1.25


if __name__ == "__main__":
    main()
