"""`cer-fuse evaluate`: use a head that was kept on samples of the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options as opt
from ..console import escape, out_json, progress_bar, say
from ..data import as_rows, near_ones_tied
from ..heads import loaded_head, probabilities
from ..outputs import check_outputs, figure_output
from ..tables import out_table

if TYPE_CHECKING:
    from ...fusion.judging.metrics import Scores


@opt.forms(written=opt.WRITTEN)
def evaluate(
    ctx: typer.Context,
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run's folder, a kept head's, or hf://USER/NAME.")
    ] = None,
    head: opt.AnyHead = None,
    data: opt.StoredData = None,
    split: Annotated[str | None, typer.Option(help="Split to judge on.", show_default="as the run's")] = None,
    store: opt.RunStore = opt.DEFAULT_STORE,
    missing: opt.Missing = "error",
    near: opt.Near = None,
    metrics: opt.MoreMetrics = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw the confusion matrix: .png, .pdf or .svg.", show_default=False)
    ] = None,
    overwrite: opt.Overwrite = False,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Judge a kept head on labelled samples; it refuses features it did not learn from.

    Example: cer-fuse evaluate runs/rafdb-mlp --split test
    """
    import numpy as np

    from ...fusion import Rows, scores
    from ...fusion.judging.resampling import Interval, accuracy_interval, bootstrap, thin
    from ...fusion.page.figures import draw_confusion, save_figure

    opt.only(ctx, written=figure)
    kept = run or head
    if kept is None or (run and head):
        raise typer.BadParameter("name one kept head, as RUN or with --head", param_hint="RUN")
    asked = opt.metrics_of(metrics)
    check_outputs({"--figure": figure_output(figure)}, overwrite=overwrite)
    info, fitted, view, split = loaded_head(kept, opt.store_asked_for(ctx, store), data, split, missing)
    view = view.take(view.y >= 0)
    if not len(view):
        raise typer.BadParameter(f"no labelled sample in split {split!r}", param_hint="--split")
    with progress_bar() as step:
        step("answering", 0, None, f"{len(view):,} rows")
        proba = probabilities(fitted, view, info)
    y_pred = proba.argmax(axis=1)
    found = scores(view.y, y_pred, view.classes)
    clusters = near_ones_tied(Rows.of(as_rows(view), load=False), near).clusters
    answers = np.asarray(y_pred, dtype=np.int64)[None]
    draws = bootstrap(view.y, answers, len(view.classes), groups=clusters, seed=seed)
    accuracy = accuracy_interval(int(found.correct.sum()), found.n, draws, 0, independent=clusters is None)
    macro_f1 = draws.interval("macro_f1", 0)
    few = thin(view.y, clusters, view.classes)
    more = {name: _figure(view.y, answers, len(view.classes), name, clusters, seed) for name in asked if name != "f1"}
    if figure is not None:
        drawn = save_figure(draw_confusion(found, info.head), figure, overwrite=overwrite)
        say(f"drew {escape(drawn)}")
    if as_json:
        out_json(
            {
                "head": info.head,
                "split": split,
                "rows": found.n,
                "accuracy": found.accuracy,
                "accuracy_interval": [accuracy.low, accuracy.high],
                "macro_f1": found.macro_f1,
                "macro_f1_interval": [macro_f1.low, macro_f1.high],
                "macro_f1_supported": found.macro_f1_supported,
                "metrics": {
                    name: {"value": value, "interval": [low, high]} for name, (value, low, high) in more.items()
                },
                "f1": found.f1.tolist(),
                "unsupported": list(found.unsupported),
                "confusion": found.confusion.tolist(),
                "classes": list(found.classes),
                "notes": [] if few is None else [few],
            }
        )
        return
    rows: list[list[object]] = [
        [name, int(found.supports[i]), _percent(found.recall[i]), _percent(found.f1[i])]
        for i, name in enumerate(found.classes)
    ]
    rows.append(["accuracy", found.n, _percent(found.accuracy, accuracy), ""])
    rows.append(["macro F1", found.n, "", _percent(found.macro_f1, macro_f1)])
    for name, (value, low, high) in more.items():
        text = _percent(value, Interval(low, high))
        rows.append(["UAR", found.n, text, ""] if name == "uar" else ["weighted F1", found.n, "", text])
    out_table(
        ["class", "rows", "accuracy (%)", "F1 (%)"],
        rows,
        title=f"{info.head} on split {split}",
        notes=(
            "In brackets: 95 % intervals ("
            + (
                "Wilson for accuracy, stratified bootstrap for macro F1)."
                if clusters is None
                else "jackknife over groups, Student's t)."
            ),
            *(() if few is None else (few,)),
            *_lacking(found),
        ),
    )


def _figure(y: Any, answers: Any, k: int, name: str, groups: Any, seed: int) -> tuple[float, float, float]:
    """A further metric of one set of answers (1, n), and the ends of its interval."""
    from ...fusion.judging.metrics import METRICS
    from ...fusion.judging.resampling import LEVEL, figure_interval, figures_on

    whole, others = figures_on(y, answers, METRICS[name], None, k, groups=groups, resamples=2000, seed=seed)
    value = float(whole[0, 0])
    ends = figure_interval(value, others[:, 0, 0], LEVEL, clustered=groups is not None, share=True)
    return value, ends.low, ends.high


def _lacking(found: Scores) -> tuple[str, ...]:
    if not found.unsupported:
        return ()
    return (
        f"No row of {', '.join(found.unsupported)}: each counts as 0 in macro F1; over the classes with rows it is "
        f"{100 * found.macro_f1_supported:.2f} %.",
    )


def _percent(share: float, interval: Any = None) -> str:
    if share != share:  # a class without rows has no accuracy
        return "-"
    return f"{100 * share:.2f}" + (f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]" if interval else "")
