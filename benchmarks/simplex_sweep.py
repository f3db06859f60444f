"""A simplex of block weights under linear heads: 231 vectors x 3 blocks x 5 folds on 3,165 x 3,072 rows, in one job.

Prints one JSON line. The peer fits the same heads one at a time with scikit-learn's `LogisticRegression` on the same
weighed float32 rows, at its default tolerance and at one that reaches our gradient; a few of the 1,155 fits are timed
and their mean is scaled up. Beside the ratio stand how far the two solutions are apart (probabilities on held-out rows,
coefficients, decisions; gradients of both in float64), and how much of the machine's sgemm peak, measured in the same
run, the sweep and its products reach.

    python -m benchmarks.simplex_sweep [--step 0.05] [--samples 4]
"""

from __future__ import annotations

import argparse
import warnings
from decimal import Decimal
from time import perf_counter
from typing import Any

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from benchmarks.compound_rows import compound_rows
from benchmarks.timing import report, seconds_of
from cer_fusion.fusion import make_head
from cer_fusion.fusion.data.blocks import Grid, simplex
from cer_fusion.fusion.data.rows import Rows, folds_of
from cer_fusion.fusion.heads.base import softmax
from cer_fusion.fusion.heads.scaling import BlockNormalizer
from cer_fusion.fusion.sweeps import ridge as block_batch

FOLDS, LIMIT, C = 5, 20.0, 10.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", default="0.05", help="of the simplex: 0.05 gives 231 vectors")
    parser.add_argument("--samples", type=int, default=4, help="scikit-learn fits that are timed")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    train, _, source = compound_rows()
    grid = Grid(tuple(train.blocks), simplex(len(train.blocks), Decimal(options.step)))
    parts = list(folds_of(train, FOLDS, 0))
    with threadpool_limits(options.threads):
        peak = peak_gflops()
        ours_s, work = swept(grid, train, parts)
        compared = peers(grid, train, parts, options.samples)
        alone = product_gflops(train, grid)
    fits = len(grid) * FOLDS
    default_s, tight_s = (fits * compared.pop(name) for name in ("fit_s", "tight_fit_s"))
    report(
        "simplex_sweep",
        rows=f"{train.n}x{sum(train.widths.values())}, {source}",
        vectors=len(grid),
        folds=FOLDS,
        heads=fits,
        sweep_s=round(ours_s, 1),
        sklearn_default_s=round(default_s),
        sklearn_tight_s=round(tight_s),
        sklearn=f"extrapolated from {options.samples} of {fits} fits",
        ratio_default=round(default_s / ours_s, 1),
        ratio=round(tight_s / ours_s, 1),
        limit=LIMIT,
        **work,
        peak_gflops=round(peak, 1),
        sweep_share_of_peak=round(work["gflop"] / ours_s / peak, 2),
        product_share_of_peak=round(alone / peak, 2),
        **compared,
        threads=options.threads,
        versions={"numpy": np.__version__, "scikit-learn": sklearn.__version__},
    )


def swept(grid: Grid, train: Rows, parts: list[tuple[Any, Any]]) -> tuple[float, dict[str, Any]]:
    """Return the seconds of the whole sweep, out-of-fold decisions included, and what it took."""
    solved: list[tuple[int, Any]] = []
    fit_batch = block_batch.fit_batch

    def counted(blocks: Any, codes: Any, *args: Any, **more: Any) -> Any:
        found = fit_batch(blocks, codes, *args, **more)
        solved.append((len(codes), found))
        return found

    block_batch.fit_batch = counted
    try:
        started = perf_counter()
        batch = block_batch.BlockBatch(make_head("weighted"), grid, (None,), train)
        for learn, held in parts:
            batch.decide(train.take(learn), train.take(held), 0, lambda: None)
        elapsed_s = perf_counter() - started
    finally:
        block_batch.fit_batch = fit_batch
    width = sum(train.widths.values()) + 1
    products = sum(4.0 * n * width * (len(train.classes) - 1) * float(found.iterations.sum()) for n, found in solved)
    return elapsed_s, {
        "gflop": round(products / 1e9),
        "iterations_median": int(np.median(np.concatenate([found.iterations for _, found in solved]))),
        "gradient_max": float(max(found.gradient.max() for _, found in solved)),
    }


def peers(grid: Grid, train: Rows, parts: list[tuple[Any, Any]], samples: int) -> dict[str, float]:
    """Return the mean seconds of a fit by scikit-learn, and how far its tight solutions are from ours."""
    taken = np.linspace(0, len(grid) - 1, samples + 2).astype(int)[1:-1]
    some = Grid(grid.blocks, grid.weights[taken])
    learn, held = (train.take(where) for where in parts[0])
    batch = block_batch.BlockBatch(make_head("weighted"), some, (None,), train)
    ours = batch.solve(learn)
    default_s, tight_s, apart = [], [], []
    for i in range(samples):
        x, asked = weighed(batch.scales[i], learn, learn), weighed(batch.scales[i], learn, held)
        loose, tight = (LogisticRegression(C=C, tol=tol, max_iter=5000) for tol in (1e-4, 1e-6))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # float32 may end the tight search early: see gradient
            default_s.append(seconds_of(lambda loose=loose, x=x: loose.fit(x, learn.y)))
            tight_s.append(seconds_of(lambda tight=tight, x=x: tight.fit(x, learn.y)))
        columns = np.repeat(batch.scales[i], list(train.widths.values()))
        # Ours are weights on unweighed columns: a solution on weighed ones times the scales, of which some are zero.
        own = np.divide(ours.coef[i], columns, out=np.zeros_like(ours.coef[i]), where=columns > 0)
        mine = softmax(asked.astype(np.float64) @ own.T + ours.intercept[i])
        theirs = tight.predict_proba(asked)
        theirs_coef = tight.coef_ * columns
        apart.append(
            (
                np.abs(mine - theirs).max(),
                np.count_nonzero(mine.argmax(axis=1) != theirs.argmax(axis=1)),
                np.linalg.norm(ours.coef[i] - theirs_coef) / np.linalg.norm(theirs_coef),
                gradient(x, learn.y, own, ours.intercept[i]),
                gradient(x, learn.y, tight.coef_, tight.intercept_),
                gradient(x, learn.y, loose.coef_, loose.intercept_),
                np.abs(loose.predict_proba(asked) - theirs).max(),
            )
        )
    probability, decisions, coef, own_norm, tight_norm, loose_norm, loose_probability = np.max(apart, axis=0)
    return {
        "fit_s": float(np.mean(default_s)),
        "tight_fit_s": float(np.mean(tight_s)),
        "probability_apart": float(probability),
        "decisions_apart": int(decisions),
        "coef_apart": float(coef),
        "gradient_norm": float(own_norm),
        "sklearn_tight_gradient_norm": float(tight_norm),
        "sklearn_default_gradient_norm": float(loose_norm),
        "sklearn_default_probability_apart": float(loose_probability),
    }


def weighed(scales: np.ndarray, learn: Rows, rows: Rows) -> np.ndarray:
    """Return rows (n, D) as the linear head under the `weighted` head sees them."""
    parts = BlockNormalizer("power", learn.widths).fit(learn.x()).transform(rows.x())
    return np.concatenate([np.float32(s) * part for s, part in zip(scales, parts.values(), strict=True)], axis=1)


def gradient(x: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: np.ndarray) -> float:
    """Return the Euclidean norm of the mean loss's gradient, in float64."""
    rows, weights = x.astype(np.float64), coef.astype(np.float64)
    residuals = softmax(rows @ weights.T + intercept)
    residuals[np.arange(len(y)), y] -= 1
    by_coef = residuals.T @ rows / len(y) + weights / (C * len(y))
    return float(np.sqrt((by_coef**2).sum() + (residuals.mean(axis=0) ** 2).sum()))


def peak_gflops(size: int = 3072) -> float:
    """Return the best of a few large square sgemms."""
    random = np.random.default_rng(0)
    a, b = (random.normal(size=(size, size)).astype(np.float32) for _ in range(2))
    return 2e-9 * size**3 / min(seconds_of(lambda: a @ b) for _ in range(5))


def product_gflops(train: Rows, grid: Grid) -> float:
    """Return the rate of one product of the sweep's own shape."""
    random = np.random.default_rng(0)
    lines, width, n = len(grid) * (len(train.classes) - 1), sum(train.widths.values()) + 1, train.n * 4 // 5
    a, b = (random.normal(size=shape).astype(np.float32) for shape in ((lines, width), (width, n)))
    return 2e-9 * lines * width * n / min(seconds_of(lambda: a @ b) for _ in range(5))


if __name__ == "__main__":
    main()
