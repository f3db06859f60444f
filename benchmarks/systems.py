"""Every system that the paper names, on the same cached rows, in one table: those that are recipes here, and why not.

FER+ compound7, 3,520 distinct faces, three encoders of 2304 columns together (`real_faces`), grouped and stratified
folds; intervals, and paired tests against the recipe `paper`. Prints markdown.

    python -m benchmarks.systems [--set systems|seconds|videos|per-class] [--folds 5] [--only paper,avcer] [--keep DIR]

`--keep` holds the answers of each fold, so that a run that was stopped goes on, and others join its table.

`systems`: every recipe of `cer-fuse recipes`, and a line with the reason for what cannot be measured on these rows.
Recipes that answer compounds from basic expressions learn them from the annotators' basic votes on the very faces that
are not in the judged fold (the votes as shares where the head can, else the expression with most votes, ties drawn):
there are no rows of other faces in these three encoders. Compound labels are made of the same votes, so this flatters
them: a zero-shot head of another dataset never sees faces that are chosen for two expressions at once. `…, labels`
learns from the expression with most votes alone; `…, votes` from shares of the compounds instead of their labels, and
`…, basic8 beside` has shares of the basic expressions as a second task on the same hidden units (head `multitask`).
`videos`: the same faces as made videos of ten frames, each of one compound and of ten persons, for what needs time.
That is the mechanism and no accuracy: frames of a real video err together, these do not. Intervals leave out whole
videos.
`seconds`: what each recipe takes to learn from all 3,520 rows and to answer them, once.
`per-class`: `late` with weights that all classes share and with weights a class, learned and drawn, fold by fold; and a
sweep of both, chosen on inner folds and judged on a fold kept aside.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.real_faces import faces, voted
from cer_fusion.challenge import over_time
from cer_fusion.featstore import class_set, read_soft_labels
from cer_fusion.featstore.manifests.adapters import build
from cer_fusion.featstore.manifests.adapters.ferplus import write_votes
from cer_fusion.fusion import Report, Rows, cross_compare, make_head, recipe_columns, recipes_in, sweep
from cer_fusion.fusion.data.blocks import Grid, simplex
from cer_fusion.fusion.data.rows import folds_of
from cer_fusion.fusion.heads import head_class
from cer_fusion.fusion.judging.entries import Answer, Described, Entry, answered
from cer_fusion.fusion.judging.report import report_table
from cer_fusion.fusion.judging.verdicts import judged
from cer_fusion.fusion.recipes import Recipe
from cer_fusion.fusion.sweeps.result import sweep_table
from cer_fusion.kit.table import render

BASELINES = {"systems": "paper", "videos": "hsemotion-pictures"}
Part = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows to learn from, and rows that are held out."""


def basic_rows(rows: Rows, shared: Path, seed: int) -> Rows:
    """Return the same faces with the basic expressions that annotators saw: shares, and the one with most votes."""
    data, labels = shared / "data" / "ferplus.zip", class_set("basic8").labels
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "votes.csv"
        write_votes(data, build("ferplus", data, labels="compound7").manifest, table, labels="basic8")
        votes = read_soft_labels(table, labels)
    soft = np.array([votes[name] for name in rows.names], np.float64)
    drawn = np.random.default_rng(seed).random(soft.shape)
    y = np.where(soft == soft.max(axis=1, keepdims=True), drawn, -1).argmax(axis=1)
    return replace(rows, y=y.astype(np.int64), classes=labels, soft=soft)


def variants(recipes: list[Recipe], basic: Rows) -> list[tuple[Recipe, Rows]]:
    """Return every recipe with the basic rows it learns from, and again with the other kind of labels if it can.

    The recipe of the paper stands there with a second task, too.
    """
    found = []
    for one in recipes:
        found.append((one, basic))
        if one.name == "paper" and one.head is not None:
            shared = replace(one.head, name="multitask")
            found.append((replace(one, name=f"{one.name}, basic8 beside", targets="needed", head=shared), basic))
        if one.head is None or not head_class(one.head.name).learns_soft_labels or one.smooth is not None:
            continue
        if one.rule is not None:
            found.append((replace(one, name=f"{one.name}, labels"), replace(basic, soft=None)))
        elif one.soft_labels == "never":
            found.append((replace(one, name=f"{one.name}, votes", soft_labels="if there"), basic))
    return found


def filmed(rows: Rows, parts: list[Part], seed: int, *, frames: int = 10) -> Rows:
    """Return the rows named as frames of made videos, each of one class and one fold, and grouped by them."""
    random, ids, videos = np.random.default_rng(seed), np.empty(rows.n, object), 0
    for _, held in parts:
        for code in np.unique(rows.y[held]):
            mine = random.permutation(held[rows.y[held] == code])
            for start in range(0, len(mine), frames):
                videos += 1
                for number, row in enumerate(mine[start : start + frames]):
                    ids[row] = f"{videos:04}/{number + 1:05}.jpg"
    return replace(rows, ids=tuple(ids), groups=tuple(one.partition("/")[0] for one in ids))


def measured(
    recipes: list[tuple[Recipe, Rows]],
    rows: Rows,
    parts: list[Part],
    *,
    baseline: str,
    seed: int,
    keep: Path | None = None,
) -> tuple[Report | None, dict[str, str]]:
    """Fit and ask every recipe fold by fold; return the report, and why those that cannot run are not in it."""
    left: dict[str, str] = {}
    kept = Kept(keep, rows, parts, seed)
    given: dict[str, list[tuple[np.ndarray, Answer]]] = {}
    about: dict[str, Described] = {}

    def leave(recipe: Recipe, reason: str) -> None:
        left[recipe.name] = reason.partition("\n")[0]

    for number, (learn, held) in enumerate(parts):
        train, test = rows.take(learn), replace(rows.take(held), soft=None)
        columns = [
            (column, taught)
            for recipe, basic in recipes
            for taught in [second_task(train, basic.take(learn)) if recipe.targets == "needed" and "," in recipe.name
                           else train]
            for column in recipe_columns(
                [recipe], taught, basic=basic.take(learn), source="faces outside the fold", smoother=over_time,
                seed=seed, leave_out=leave,
            )
        ]  # fmt: skip
        for column, taught in columns:
            if isinstance(column, Entry):
                entry = column
                answers = {entry: [kept.answer(entry.title, number, lambda: answered(entry, 0, taught, test))]}  # noqa: B023
            else:
                answers = column.answers(test, runs=1, seed=seed)
            for entry, (answer,) in answers.items():
                about[entry.title] = Described(
                    title=entry.title, kind=entry.kind, blocks=entry.blocks, head_name=entry.head_name,
                    params=entry.params,
                )  # fmt: skip
                given.setdefault(entry.title, []).append((held, replace(answer, head=None)))
            print(f"fold {number + 1}/{len(parts)}: {column.title or 'zero-shot'}", file=sys.stderr, flush=True)
    if not given:
        return None, left
    report = judged(
        {about[title]: [_joined(found)] for title, found in given.items()}, rows,
        train_supports=tuple(rows.supports.tolist()), fingerprints={}, folds=len(parts), resamples=2000, level=0.95,
        seed=seed, baseline=baseline if baseline in given else None,
    )  # fmt: skip
    return report, left


def second_task(rows: Rows, basic: Rows) -> Rows:
    """Return the rows with shares of the basic expressions as targets beside their compounds."""
    assert basic.soft is not None
    return replace(rows, targets={"basic": basic.soft})


class Kept:
    """Answers of folds in a folder, under the title of their column and what they are about; None keeps none."""

    def __init__(self, folder: Path | None, rows: Rows, parts: list[Part], seed: int) -> None:
        self.folder = folder
        told = [
            rows.y.tobytes(),
            repr(rows.widths).encode(),
            str(seed).encode(),
            *(held.tobytes() for _, held in parts),
        ]
        self.about = hashlib.sha256(b"".join(told)).hexdigest()[:12]

    def answer(self, title: str, fold: int, give: Callable[[], Answer]) -> Answer:
        """Return what is kept of a column and fold, or what is given now."""
        if self.folder is None:
            return give()
        path = self.folder / f"{title.replace(', ', '_').replace(' ', '_')}-{self.about}-{fold}.npz"
        if not path.is_file():
            found = give()
            self.folder.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(".part.npz")
            np.savez(beside, proba=found.proba, times=[found.fit_s, found.predict_s])
            beside.rename(path)
        with np.load(path) as there:
            fit_s, predict_s = there["times"].tolist()
            return Answer(proba=there["proba"], head=None, fit_s=fit_s, predict_s=predict_s)


def print_seconds(recipes: list[tuple[Recipe, Rows]], rows: Rows, seed: int) -> None:
    """Print what each recipe takes to learn from all rows and to answer them; no figure is judged."""
    print("| recipe | learning from 3,520 rows (s) | answering them (s) |\n|---|---:|---:|")
    apart = replace(rows, ids=tuple(f"again {one}" for one in rows.names), soft=None, groups=None)
    for recipe, basic in recipes:
        for column in recipe_columns(
            [recipe], rows, basic=basic, smoother=over_time, seed=seed, leave_out=lambda _, __: None
        ):
            if isinstance(column, Entry):
                answer = answered(column, 0, rows, apart)
            else:
                ((answer,),) = column.answers(apart, runs=1, seed=seed).values()
            print(f"| {column.title} | {answer.fit_s:.1f} | {answer.predict_s:.1f} |", flush=True)


def _joined(found: list[tuple[np.ndarray, Answer]]) -> Answer:
    order = np.argsort(np.concatenate([held for held, _ in found]))
    proba = np.concatenate([answer.proba for _, answer in found])[order]
    return Answer(
        proba=proba, head=None, fit_s=float(np.mean([one.fit_s for _, one in found])),
        predict_s=sum(one.predict_s for _, one in found),
    )  # fmt: skip


def systems_table(report: Report | None, recipes: Mapping[str, Recipe], left: Mapping[str, str], baseline: str) -> str:
    """Return a markdown line a system: figures with intervals, or why there are none."""
    lines = [
        f"| recipe | system | accuracy (%) | macro F1 (%) | against `{baseline}` (points) | p, Holm | fit (s) |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for column in report.columns if report else ():
        versus = column.versus
        against = "–" if versus is None else _points(versus.macro_f1, versus.macro_f1_interval, sign="+")
        bound = "" if versus is None or not versus.p_is_bound else "< "
        p = "–" if versus is None else f"{bound}{versus.p_macro_f1_holm:.3f}"
        system = recipes[column.name.partition(",")[0]].system
        lines.append(
            f"| {column.name} | {system} | {_points(column.scores.accuracy, column.accuracy)} | "
            f"{_points(column.scores.macro_f1, column.macro_f1)} | {against} | {p} | {column.fit_s:.1f} |"
        )
    lines += [f"| {name} | {recipes[name].system} | not measured: {why} | | | | |" for name, why in left.items()]
    return "\n".join(lines)


def _points(value: float, ends: object, *, sign: str = "") -> str:
    low, high = ends.low, ends.high  # type: ignore[attr-defined]
    return f"{100 * value:{sign}.1f} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def print_per_class(rows: Rows, folds: int, seed: int) -> None:
    """Print weights a class beside shared ones: fold by fold, and as a sweep."""
    ways = {"equal": None, "shared, learned": "learned", "per class, learned": "learned_per_class",
            "per class, drawn": "drawn_per_class"}  # fmt: skip
    heads = {
        f"{title} ({mix})": make_head("late", weights=way, mix=mix, calibrate=True, random_state=seed)
        for mix in ("geometric", "arithmetic") for title, way in ways.items()
    }  # fmt: skip
    report = cross_compare(
        heads, rows, folds=folds, seed=seed, singles=False, baseline="shared, learned (geometric)",
        progress=lambda done, total, _: print(f"{done}/{total}", end="\r", file=sys.stderr, flush=True),
    )  # fmt: skip
    print(render(report_table(report), "markdown"), flush=True)
    learn, held = next(folds_of(rows, folds, seed))
    grid = Grid(tuple(rows.blocks), simplex(len(rows.blocks), Decimal("0.05")))
    found = sweep(
        make_head("late", calibrate=True, random_state=seed), grid, rows.take(learn), rows.take(held), folds=folds,
        seed=seed, per_class=1000,
    )  # fmt: skip
    print(render(sweep_table(found, limit=4), "markdown"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--set", choices=("systems", "seconds", "videos", "per-class"), default="systems")
    parser.add_argument("--keep", type=Path, help="folder of answers, to go on with a run that was stopped")
    parser.add_argument("--only", help="recipes, comma-separated, with the labels they are made for alone")
    parser.add_argument("--variants", action="store_true", help="with --only: with the other kinds of labels, too")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.shared / "features").is_dir():
        sys.exit(f"no cached features at {options.shared / 'features'}: name their folder with --shared")
    rows = faces(options.shared)
    if options.set == "per-class":
        print_per_class(rows, options.folds, options.seed)
    else:
        known = recipes_in(None)
        chosen = list(known.values()) if options.only is None else [known[one] for one in options.only.split(",")]
        left = {one.name: one.fault for one in chosen if one.fault}
        basic = basic_rows(rows, options.shared, options.seed)
        able = [(one, basic) for one in chosen if one.name not in left]
        able = variants([one for one, _ in able], basic) if options.only is None or options.variants else able
        if options.set == "seconds":
            print_seconds(
                [(one, basic) for one in chosen if one.name not in left], voted(rows, options.shared), options.seed
            )
            print(f"\nLoad of the machine at the end: {os.getloadavg()[0]:.1f}")
            return
        parts, asked = list(folds_of(rows, options.folds, options.seed)), voted(rows, options.shared)
        asked = filmed(asked, parts, options.seed) if options.set == "videos" else asked
        report, lacking = measured(able, asked, parts, baseline=BASELINES[options.set], seed=options.seed,
                                  keep=options.keep)  # fmt: skip
        print(systems_table(report, known, left | lacking, BASELINES[options.set]))
        for note in report.notes if report else ():
            print(f"\n{note}")
    print(f"\nLoad of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
