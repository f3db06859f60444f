"""What a fit costs on 3,165 x 3,072 real rows: the default head, its peer, and boosted trees under both presets.

Prints one JSON line. `mlp` is the default head as it comes, `joined` the same on joined blocks, the peer scikit-learn's
`MLPClassifier` with early stopping on standardised rows; macro F1 is that of the validation rows. The presets of
`xgboost` are compared by macro F1 out of three folds of the training rows, three times divided anew. Limits: 15 s for
the fast preset, at most 0.01 below the quality preset.

    python -m benchmarks.fitting [--repeats 3]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from sklearn.metrics import f1_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.compound_rows import compound_rows
from benchmarks.timing import interleaved, report
from cer_fusion.fusion import make_head
from cer_fusion.fusion.data.rows import Rows, folds_of

LIMIT_S, LIMIT_F1 = 15.0, 0.01


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    train, valid, source = compound_rows()
    models = {
        "mlp": make_head("mlp", blocks=train.widths),
        "joined": make_head("mlp", blocks=train.widths, fusion="concat"),
        "peer": make_pipeline(StandardScaler(), MLPClassifier((512,), early_stopping=True, random_state=0)),
        "fast": boosted(train, "fast"),
        "quality": boosted(train, "quality"),
    }
    x = train.x()
    fits = {name: (lambda model=model: model.fit(x, train.y)) for name, model in models.items()}
    taken = interleaved(fits, repeats)
    fast, quality = (out_of_fold_f1(train, name) for name in ("fast", "quality"))
    report(
        "fitting",
        rows=f"{train.n}x{x.shape[1]}, {source}",
        **{f"{name}_s": round(seconds, 2) for name, seconds in taken.items()},
        peer_over_mlp=round(taken["peer"] / taken["mlp"], 2),
        **{f"{name}_macro_f1": round(judged(model, valid), 4) for name, model in models.items()},
        xgboost_limit_s=LIMIT_S,
        xgboost_fast_folds_f1=round(fast, 4),
        xgboost_quality_folds_f1=round(quality, 4),
        xgboost_kept=taken["fast"] < LIMIT_S and fast >= quality - LIMIT_F1,
        repeats=repeats,
    )


def boosted(rows: Rows, preset: str) -> Any:
    """An unfitted `xgboost` head under a preset."""
    return make_head("xgboost", blocks=rows.widths, preset=preset)


def judged(model: Any, rows: Rows) -> float:
    """Macro F1 of a fitted model's answers."""
    return float(f1_score(rows.y, model.predict(rows.x()), average="macro"))


def out_of_fold_f1(rows: Rows, preset: str) -> float:
    """Mean macro F1 of answers about rows that had no part in the fit, over three divisions into folds."""
    found = []
    for seed in range(3):
        answers = np.empty(rows.n, np.int64)
        for learn, held in folds_of(rows, 3, seed):
            head = boosted(rows, preset).fit(rows.take(learn).x(), rows.y[learn])
            answers[held] = head.predict(rows.take(held).x())
        found.append(f1_score(rows.y, answers, average="macro"))
    return float(np.mean(found))


if __name__ == "__main__":
    main()
