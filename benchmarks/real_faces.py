"""Heads on real faces: the fused default head against single blocks and against what people fit with scikit-learn.

FER+ compound7, 3,520 distinct faces, three cached encoders (`../shared/features`), grouped and stratified
cross-validation. Faces whose mean cosine over the encoders, centred, is at least 0.85 (crops of one photograph) stay on
one side of every fold. Prints the table as markdown.

    python -m benchmarks.real_faces [--shared ../shared] [--set peers|heads] [--folds 5] [--repeats 1] [--seed 0]

`peers` (the default): the default head, each block alone under the same head, the paper's recipe, and the peers, each
on the same concatenation, standardised, with settings of its usual use. `heads`: every head that `make_head` knows.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from xgboost import XGBClassifier

from cer_fusion.featstore.manifests.adapters import build
from cer_fusion.fusion import MLPConfig, Rows, cross_compare, head_names, make_head
from cer_fusion.fusion.data.rows import tied
from cer_fusion.fusion.judging.measures import near_duplicates
from cer_fusion.fusion.page.table import render, report_table

FILES = {"hse": "hse_faceres_1024", "dinov2": "dinov2_vits14_768", "lite0": "efficientnet_lite0_1280"}
ALIKE = 0.85
"""Mean cosine from which two faces are crops of one photograph (docs/statistics.md)."""


def faces(shared: Path) -> Rows:
    """Return the 3,520 faces with their labels; crops of one photograph form a group."""
    manifest = build("ferplus", shared / "data" / "ferplus.zip", labels="compound7").manifest
    of_path = {sample.path: sample for sample in manifest.samples}
    names = (shared / "features" / "file_names.txt").read_text(encoding="utf-8").split()
    blocks = {name: np.load(shared / "features" / f"{file}.npy").astype(np.float32) for name, file in FILES.items()}
    rows = Rows(
        blocks=blocks,
        y=np.array([manifest.classes.labels.index(of_path[name].label) for name in names]),
        classes=manifest.classes.labels,
        ids=tuple(of_path[name].sample_id for name in names),
    )
    near, _ = near_duplicates(rows, threshold=ALIKE)
    return tied(rows, [(pair.sample_id, pair.other_id) for pair in near.pairs])


class Decided(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier without probabilities: all of it on the class it decides for."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: Any, y: Any) -> Decided:
        """Fit the classifier itself."""
        self.classes_ = self.estimator.fit(X, y).classes_
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return one-hot rows."""
        return (self.estimator.predict(X)[:, None] == self.classes_).astype(np.float64)


def peers(widths: dict[str, int], seed: int) -> dict[str, Any]:
    """Return the default head, the paper's recipe and the peers, by title."""
    ends = np.cumsum(list(widths.values()))
    columns = {name: slice(int(end - width), int(end)) for (name, width), end in zip(widths.items(), ends, strict=True)}

    def logistic(C: float = 1e-3) -> Any:
        return LogisticRegression(C=C, max_iter=300, tol=1e-3)

    def alone(name: str) -> Any:
        return make_pipeline(ColumnTransformer([(name, StandardScaler(), columns[name])]), logistic())

    return {
        "mlp": make_head("mlp", blocks=widths, random_state=seed),
        "mlp, joined": make_head("mlp", blocks=widths, fusion="concat", random_state=seed),
        "paper's mlp": make_head("mlp", blocks=widths, config=MLPConfig.paper(), random_state=seed),
        "LogReg, CV C": GridSearchCV(
            make_pipeline(StandardScaler(), logistic()), {"logisticregression__C": [1e-4, 1e-3, 1e-2, 1e-1]}, cv=3
        ),
        "SVM-RBF": Decided(make_pipeline(StandardScaler(), SVC(C=10, cache_size=1000))),
        "LDA, shrinkage": make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5)),
        "MLPClassifier": make_pipeline(StandardScaler(), MLPClassifier((512,), early_stopping=True, random_state=seed)),
        "XGBoost on PCA": make_pipeline(
            StandardScaler(),
            PCA(128, random_state=seed),
            XGBClassifier(n_estimators=200, max_depth=4, random_state=seed),
        ),
        "soft voting": VotingClassifier([(name, alone(name)) for name in columns], voting="soft"),
    }


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--set", choices=("peers", "heads"), default="peers")
    parser.add_argument("--only", help="titles, comma-separated")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.shared / "features").is_dir():
        sys.exit(f"no cached features at {options.shared / 'features'}: name their folder with --shared")
    rows = faces(options.shared)
    if options.set == "peers":
        chosen = peers(rows.widths, options.seed)
    else:
        chosen = {name: make_head(name, blocks=rows.widths, random_state=options.seed) for name in head_names()}
    if options.only:
        chosen = {title: chosen[title] for title in options.only.split(",")}
    report = cross_compare(
        chosen, rows, folds=options.folds, repeats=options.repeats, singles=True, single_head="mlp", seed=options.seed,
        baseline="mlp" if "mlp" in chosen else None,
        progress=lambda done, total: print(f"{done}/{total}", end="\r", file=sys.stderr, flush=True),
    )  # fmt: skip
    print(render(report_table(report), "markdown"))
    print(f"Load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
