"""The `mlp` head against scikit-learn's `MLPClassifier`: same shape, batch, epochs, optimizer, data and threads.

5,000 x 2304 -> 512 -> 7, batch 128, 30 epochs, Adam 1e-3, float32. Prints one JSON line: medians over the runs, their
ratio, and held-out macro F1 of both. Each pair of runs is made back to back, so that a busy machine slows both.

    python -m benchmarks.mlp_head [--runs 3] [--threads 2] [--precision auto]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from statistics import median
from typing import Any

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import f1_score
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from cer_fusion.fusion import make_head

ROWS, WIDTH, HIDDEN, CLASSES, BATCH, EPOCHS = 5000, 2304, 512, 7, 128, 30
HELD_OUT = 2000


def faces(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return rows and unbalanced labels that a linear rule separates partly and a curved one better."""
    random = np.random.default_rng(seed)
    n = ROWS + HELD_OUT
    y = random.choice(CLASSES, size=n, p=np.array([29, 34, 4, 9, 10, 6, 8]) / 100)
    centres = np.random.default_rng(1).normal(size=(CLASSES, 2, 24))  # two clusters a class, in a small space
    hidden = centres[y, random.integers(2, size=n)] + 1.1 * random.normal(size=(n, 24))
    mixing = np.random.default_rng(2).normal(size=(24, WIDTH)) / np.sqrt(24)
    return (hidden @ mixing + random.normal(size=(n, WIDTH))).astype(np.float32), y


def measured(model: Any, X: NDArray[np.float32], y: NDArray[np.int64]) -> tuple[float, float]:
    """Return seconds of the fit, and held-out macro F1."""
    start = time.perf_counter()
    model.fit(X[:ROWS], y[:ROWS])
    elapsed_s = time.perf_counter() - start
    return elapsed_s, float(f1_score(y[ROWS:], model.predict(X[ROWS:]), average="macro"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of epochs is what is compared
    torch.set_num_threads(options.threads)
    ours, peers = [], []
    with threadpool_limits(options.threads):
        for run in range(options.runs):
            X, y = faces(run)
            peer = MLPClassifier(
                (HIDDEN,), batch_size=BATCH, max_iter=EPOCHS, n_iter_no_change=EPOCHS, random_state=run
            )
            head = make_head(
                "mlp", hidden=(HIDDEN,), batch_size=BATCH, epochs=EPOCHS, members=1, lr=1e-3, schedule="constant",
                standardize="none", dropout=0.1, label_smoothing=0.0, logit_adjust=0.0, device="cpu",
                precision=options.precision, threads=options.threads, random_state=run,
            )  # fmt: skip
            peers.append(measured(peer, X, y))
            ours.append(measured(head, X, y))
    result = {
        "benchmark": "mlp_head",
        "shape": f"{ROWS}x{WIDTH}->{HIDDEN}->{CLASSES}, batch {BATCH}, {EPOCHS} epochs",
        "runs": options.runs,
        "threads": options.threads,
        "precision": head.precision_,
        "head_s": round(median(s for s, _ in ours), 2),
        "sklearn_s": round(median(s for s, _ in peers), 2),
        "ratio": round(median(p / o for (p, _), (o, _) in zip(peers, ours, strict=True)), 2),
        "head_macro_f1": round(median(f for _, f in ours), 4),
        "sklearn_macro_f1": round(median(f for _, f in peers), 4),
        "versions": {
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "python": platform.python_version(),
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
