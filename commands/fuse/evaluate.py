"""`cer-fuse evaluate`: use a head that was kept on samples of the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cer_fusion.commands.console import escape, out_json, out_table, say
from cer_fusion.commands.forms import forms, only
from cer_fusion.commands.options import DEFAULT_STORE, Json, Missing, StoredData, StorePath, missing_choice
from cer_fusion.commands.outputs import WRITTEN, Overwrite, check_outputs
from cer_fusion.commands.task import as_rows

if TYPE_CHECKING:
    from cer_fusion.featstore import View
    from cer_fusion.fusion import HeadInfo
    from cer_fusion.fusion.judging.metrics import Scores
    from cer_fusion.fusion.keeping.predictions import Predictions

Run = Annotated[Path, typer.Option("--head", help="A run of cer-fuse train, or the head folder in it.")]


@forms(always=("head", "data", "split", "store", "missing", "figure", "seed", "as_json"), written=WRITTEN)
def evaluate(
    ctx: typer.Context,
    head: Run,
    data: StoredData = None,
    split: Annotated[str | None, typer.Option(help="Split to judge on.", show_default="as the run's")] = None,
    store: StorePath = DEFAULT_STORE,
    missing: Missing = "error",
    figure: Annotated[
        Path | None, typer.Option(help="Draw the confusion matrix: .png, .pdf or .svg.", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    as_json: Json = False,
) -> None:
    """Judge a kept head on labelled samples; it refuses features it did not learn from.

    Example: cer-fuse evaluate --head runs/rafdb-mlp --split test
    """
    import numpy as np
    from cer_fusion.fusion import Rows, scores
    from cer_fusion.fusion.judging.resampling import accuracy_interval, bootstrap
    from cer_fusion.fusion.page.figures import check_figure_name, draw_confusion, save_figure

    only(ctx, written=figure)
    if figure is not None:
        check_figure_name(figure)
        check_outputs({"--figure": figure}, overwrite=overwrite)
    info, fitted, view, split = _loaded(head, store, data, split, missing)
    view = view.take(view.y >= 0)
    if not len(view):
        raise typer.BadParameter(f"no labelled sample in split {split!r}", param_hint="--split")
    proba = _probabilities(fitted, view)
    y_pred = proba.argmax(axis=1)
    found = scores(view.y, y_pred, view.classes)
    clusters = Rows.of(as_rows(view), load=False).clusters
    answers = np.asarray(y_pred, dtype=np.int64)[None]
    draws = bootstrap(view.y, answers, len(view.classes), groups=clusters, seed=seed)
    accuracy = accuracy_interval(int(found.correct.sum()), found.n, draws, 0, independent=clusters is None)
    macro_f1 = draws.interval("macro_f1", 0)
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
                "unsupported": list(found.unsupported),
                "confusion": found.confusion.tolist(),
                "classes": list(found.classes),
            }
        )
        return
    rows: list[list[object]] = [
        [name, int(found.supports[i]), _percent(found.recall[i]), _percent(found.f1[i])]
        for i, name in enumerate(found.classes)
    ]
    rows.append(["accuracy", found.n, _percent(found.accuracy, accuracy), ""])
    rows.append(["macro F1", found.n, "", _percent(found.macro_f1, macro_f1)])
    out_table(
        ["class", "rows", "accuracy (%)", "F1 (%)"],
        rows,
        title=f"{info.head} on split {split}",
        caption="In brackets: 95 % intervals ("
        + (
            "Wilson for accuracy, stratified bootstrap for macro F1)."
            if clusters is None
            else "bootstrap over groups)."
        )
        + _lacking(found),
    )


def _lacking(found: Scores) -> str:
    if not found.unsupported:
        return ""
    return (
        f" No row of {', '.join(found.unsupported)}: each counts as 0 in macro F1; over the classes with rows it is "
        f"{100 * found.macro_f1_supported:.2f} %."
    )


def stored_predictions(head: Path, store: Path, data: str | None, split: str | None, missing: str) -> Predictions:
    """Probabilities of samples that have rows in the store."""
    from cer_fusion.fusion.keeping.predictions import Predictions

    _, fitted, view, _ = _loaded(head, store, data, split, missing, default_split=False)
    labels = tuple(view.classes[y] if y >= 0 else None for y in view.y)
    return Predictions(ids=view.ids, classes=view.classes, proba=_probabilities(fitted, view), labels=labels)


def head_folder(run: Path) -> Path:
    """The folder of a head: in a run's, or one that is named itself."""
    from cer_fusion.kit.folders import bring_back

    bring_back(run)
    return run / "head" if (run / "head").is_dir() else run


def _loaded(
    run: Path, store: Path, data: str | None, split: str | None, missing: str, *, default_split: bool = True
) -> tuple[HeadInfo, Any, View, str | None]:
    """The kept head, and a view of exactly the features it learned from."""
    from cer_fusion.featstore import Store
    from cer_fusion.fusion import load_head, read_head_info

    folder = head_folder(run)
    info = read_head_info(folder)
    if split is None and default_split:
        split = info.extra.get("test_split")
        say(f"split: [bold]{escape(split)}[/], as the run's")
    opened = Store(store)
    if data is None and info.extra.get("dataset") in opened.datasets():
        data = str(info.extra["dataset"])
        say(f"dataset: [bold]{escape(data)}[/], as the run's")
    view = opened.view(
        [name for name, _ in info.blocks],
        dataset=opened.dataset(data),
        split=split,
        missing=missing_choice(missing),
        fingerprints=info.fingerprints,
        mapped=True,
    )
    fitted = load_head(folder, blocks=view.widths, fingerprints=view.fingerprints, classes=view.classes)
    return info, fitted, view, split


def _probabilities(fitted: Any, view: View) -> Any:
    """(n, k) in the order of the view's classes, whatever classes the head saw."""
    from cer_fusion.fusion import JoinedRows
    from cer_fusion.fusion.keeping.answers import aligned

    return aligned(fitted.predict_proba(JoinedRows(view.blocks)), fitted.classes_, len(view.classes), "the kept head")


def _percent(share: float, interval: Any = None) -> str:
    if share != share:  # a class without rows has no accuracy
        return "-"
    return f"{100 * share:.2f}" + (f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]" if interval else "")
