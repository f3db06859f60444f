"""A sweep of decision weights: 1,000 weight vectors over 4 members on 4,000 rows of 7 classes; and 100,000 of them.

Prints one JSON line. Of the 100,000, decisions, accuracy and macro F1 of each are timed (once), without bands.
The clock covers all that a user waits for once the members' probabilities are there: the decisions of every vector,
accuracy and macro F1 of each, bootstrap bands of each (500 resamples), the set that cannot be told from the best, and
the best one's own intervals (2,000 resamples). The peer is the loop most people write: mix, argmax, scikit-learn's
`accuracy_score` and `f1_score`, vector by vector, without any interval; it runs on a part of the vectors and is
scaled up.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable
from time import perf_counter

import numpy as np
from sklearn.metrics import accuracy_score, f1_score

from cer_fusion.fusion.heads.weights import counted, decisions, totals
from cer_fusion.fusion.judging.resampling import bootstrap
from cer_fusion.fusion.sweeps.curve import decision_curve

LIMIT_S, MANY, MANY_LIMIT_S = 2.0, 100_000, 10.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    w, m, n, k, sample = 1000, 4, 4000, 7, 50
    proba, y = members(m, n, k)
    weights = np.random.default_rng(1).dirichlet(np.ones(m), w)
    best = ours(proba, y, weights)
    whole = [timed(lambda: ours(proba, y, weights)) for _ in range(repeats)]
    scoring = [timed(lambda: decisions(proba, weights)) for _ in range(repeats)]
    peer = [timed(lambda: loop(proba, y, weights[:sample])) * w / sample for _ in range(repeats)]
    assert best == int(np.argmax([f1 for _, f1 in loop(proba, y, weights)]))
    many_s = timed(lambda: scored(proba, y, np.random.default_rng(2).dirichlet(np.ones(m), MANY)))
    median = statistics.median(whole)
    print(
        json.dumps(
            {
                "benchmark": "decision_sweep",
                "weight_vectors": w,
                "members": m,
                "rows": n,
                "classes": k,
                "whole_s": round(median, 3),
                "whole_min_s": round(min(whole), 3),
                "decisions_s": round(statistics.median(scoring), 3),
                "limit_s": LIMIT_S,
                "limit_over_whole": round(LIMIT_S / median, 2),
                "loop_without_intervals_s": round(statistics.median(peer), 3),
                "loop_over_whole": round(statistics.median(peer) / median, 2),
                "many_vectors": MANY,
                "many_s": round(many_s, 2),
                "many_limit_s": MANY_LIMIT_S,
                "many_limit_over_s": round(MANY_LIMIT_S / many_s, 2),
                "repeats": repeats,
                "cores": os.cpu_count(),
                "load": [round(load, 2) for load in os.getloadavg()],
                "python": platform.python_version(),
                "numpy": np.__version__,
            }
        )
    )


def members(m: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return members' probabilities (m, n, k), each right about half of the time and independent, and the truth."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, k, n)
    proba = np.exp(rng.normal(size=(m, n, k)) + 1.3 * np.eye(k)[y])
    return proba / proba.sum(axis=2, keepdims=True), y


def ours(proba: np.ndarray, y: np.ndarray, weights: np.ndarray) -> int:
    """Return the best vector, with every band and interval computed on the way."""
    found = decision_curve(proba, y, weights, resamples=500)
    draws = bootstrap(y, decisions(proba, weights[[found.best]]), proba.shape[2], resamples=2000)
    draws.interval("macro_f1", 0)
    return found.best


def scored(proba: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return macro F1 of every vector (w,), a few thousand at a time: all decisions at once would be 0.8 GB."""
    parts = np.array_split(weights, max(1, len(weights) // 5000))
    return np.concatenate([totals(counted(y, decisions(proba, part), proba.shape[2]))[1] for part in parts])


def loop(proba: np.ndarray, y: np.ndarray, weights: np.ndarray) -> list[tuple[float, float]]:
    """Score vector by vector."""
    scored = []
    for vector in weights:
        y_pred = np.tensordot(vector, proba, axes=1).argmax(axis=1)
        scored.append((accuracy_score(y, y_pred), f1_score(y, y_pred, average="macro")))
    return scored


def timed(work: Callable[[], object]) -> float:
    """Return the seconds one call takes."""
    started = perf_counter()
    work()
    return perf_counter() - started


if __name__ == "__main__":
    main()
