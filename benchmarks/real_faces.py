"""Heads on real faces: the fused default head against single blocks and against what people fit with scikit-learn.

FER+ compound7, 3,520 distinct faces, three cached encoders (`../shared/features`) that are 2304 wide together, as in
the paper; grouped and stratified cross-validation. Faces whose mean cosine over the encoders, centred, is at least 0.85
(crops of one photograph) stay on one side of every fold. Prints tables as markdown.

    python -m benchmarks.real_faces [--set encoders|weights|peers|heads|votes] [--folds 5] [--repeats 1]

`encoders` (the default): each encoder alone and the fusion, per class, under the default head and the paper's recipe
(the paper's Tables 2 and 3 in open form). `weights`: fixed weights such as 0.6/0.4 and the whole simplex of decision
weights, chosen on inner folds and judged on one fold kept aside; Shapley values of the encoders. `peers`: the default
head, the paper's recipe, and the peers, each on the same concatenation, standardised, with settings of its usual use.
`heads`: every head that `make_head` knows. `votes`: heads that learn from annotators' votes (a compound's votes are
the product of its two emotions', `write_votes`) against the same from labels; both are judged by the labels.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from decimal import Decimal
from itertools import combinations
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

from cer_fusion.featstore import read_soft_labels
from cer_fusion.featstore.manifests.adapters import build
from cer_fusion.featstore.manifests.adapters.ferplus import write_votes
from cer_fusion.fusion import MLPConfig, Rows, cross_compare, diagnose, head_names, make_head, sweep
from cer_fusion.fusion.data.blocks import Grid, simplex
from cer_fusion.fusion.data.rows import folds_of, tied
from cer_fusion.fusion.heads.base import fit_part
from cer_fusion.fusion.judging.measures import near_duplicates
from cer_fusion.fusion.judging.report import report_table
from cer_fusion.fusion.page.diagnosis import diagnosis_tables
from cer_fusion.fusion.sweeps.result import sweep_table
from cer_fusion.kit.table import render

FILES = {"hse": "hse_faceres_1024", "dinov2": "dinov2_vits14_768", "mobile": "fer_mobilefacenet_512"}
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


def voted(rows: Rows, shared: Path) -> Rows:
    """Return the faces with shares of the compounds by the annotators' votes."""
    data = shared / "data" / "ferplus.zip"
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "votes.csv"
        write_votes(data, build("ferplus", data, labels="compound7").manifest, table, labels="compound7")
        votes = read_soft_labels(table, rows.classes)
    return replace(rows, soft=np.array([votes[name] for name in rows.names], np.float64))


class Labels(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A head that is told labels, and nothing of votes."""

    def __init__(self, head: Any) -> None:
        self.head = head

    def fit(self, X: Any, y: Any, groups: Any = None) -> Labels:
        """Fit the head itself."""
        self.classes_ = fit_part(self.head, X, y, groups).classes_
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the head's answers."""
        return np.asarray(self.head.predict_proba(X))


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


def print_weights(rows: Rows, folds: int, seed: int) -> None:
    """Print weighed decisions of the encoders, every vector in steps of a twentieth, and what each encoder brings."""
    learn, held = next(folds_of(rows, folds, seed))
    train, test = rows.take(learn), rows.take(held)
    grid = Grid(tuple(rows.blocks), simplex(len(rows.blocks), Decimal("0.05")))
    found = sweep(make_head("late", blocks=rows.widths, random_state=seed), grid, train, test, folds=folds, seed=seed)
    print(render(sweep_table(found, limit=12), "markdown"))
    for pair in combinations(rows.blocks, 2):
        two = Grid(pair, np.array([[w, 1 - w] for w in np.linspace(0, 1, 11)]))
        mark = dict(zip(pair, (0.6, 0.4), strict=True))
        late = make_head("late", random_state=seed)
        print(render(sweep_table(sweep(late, two, train, test, folds=folds, seed=seed, mark=mark)), "markdown"))
    carried = diagnose(rows, head=make_head("linear", random_state=seed), folds=folds, seed=seed)
    for table in diagnosis_tables(carried, with_ids=False)[:2]:
        print(render(table, "markdown"))
    print(f"Load of the machine at the end: {os.getloadavg()[0]:.1f}")


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--set", choices=("encoders", "weights", "peers", "heads", "votes"), default="encoders")
    parser.add_argument("--only", help="titles, comma-separated")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.shared / "features").is_dir():
        sys.exit(f"no cached features at {options.shared / 'features'}: name their folder with --shared")
    rows = faces(options.shared)
    if options.set == "weights":
        print_weights(rows, options.folds, options.seed)
        return
    if options.set == "votes":
        for name in (options.only or "mlp,linear,tabm,xgboost").split(","):
            head = make_head(name, blocks=rows.widths, random_state=options.seed)
            report = cross_compare(
                {f"{name}, votes": head, f"{name}, labels": Labels(head)}, voted(rows, options.shared), singles=False,
                folds=options.folds, repeats=options.repeats, seed=options.seed, baseline=f"{name}, labels",
            )  # fmt: skip
            print(render(report_table(report), "markdown"), flush=True)
        return
    if options.set == "peers":
        chosen = peers(rows.widths, options.seed)
    elif options.set == "encoders":
        known = peers(rows.widths, options.seed)
        chosen = {title: known[title] for title in ("mlp", "paper's mlp")}
    else:
        chosen = {name: make_head(name, blocks=rows.widths, random_state=options.seed) for name in head_names()}
    if options.only:
        chosen = {title: chosen[title] for title in options.only.split(",")}
    report = cross_compare(
        chosen, rows, folds=options.folds, repeats=options.repeats, singles=True, seed=options.seed,
        baseline="mlp" if "mlp" in chosen else None,
        progress=lambda done, total, _: print(f"{done}/{total}", end="\r", file=sys.stderr, flush=True),
    )  # fmt: skip
    print(render(report_table(report), "markdown"))
    print(f"Load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
