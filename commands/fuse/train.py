"""`cer-fuse train`: fit one head and keep it with everything about it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...fusion.heads import head_names  # light: no head is imported before it is asked for
from .. import options as opt
from ..console import escape, out_json, progress_bar, say
from ..data import Task, load_task, schooled
from ..heads import (
    build_head,
    compute,
    curriculum_of,
    refuse_unused_targets,
    refuse_unused_votes,
    settings_of,
    targeted,
    weights_text,
)
from ..outputs import check_folder, print_table, put, track_report

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...fusion import Report, Rows
    from ...fusion.keeping.runs import Run, RunConfig


@opt.forms(
    unset=opt.UNSET,
    computing=replace(opt.COMPUTING, within="unset"),
    noted=opt.Form("is for the table, and --json prints none", ("explain",)),
)
def train(
    ctx: typer.Context,
    head: Annotated[
        str, typer.Option("--head", help=f"One of {', '.join(head_names())}; or sklearn:MODULE.CLASS.")
    ] = "mlp",
    features: opt.Features = None,
    data: opt.StoredData = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    preset: Annotated[
        str | None,
        typer.Option(
            help="mlp: paper, the settings of the paper. xgboost, lightgbm, catboost: fast (the default) or quality.",
            show_default=False,
        ),
    ] = None,
    setting: opt.Setting = None,
    weights: Annotated[
        list[str] | None,
        opt.several(
            "--weights",
            "-w",
            pairs=True,
            help="weighted, late: vit=1,manet.local=0.6,manet.multi_scale=0.4, or learned; late: learned_per_class, "
            "drawn_per_class as well.",
        ),
    ] = None,
    train_split: opt.TrainSplit = "train",
    test_split: opt.TestSplit = None,
    missing: opt.Missing = "error",
    near: opt.Near = None,
    soft_labels: opt.SoftLabels = None,
    targets: opt.Targets = None,
    basic: opt.Basic = None,
    curriculum: Annotated[
        list[str] | None,
        opt.several(
            "--curriculum",
            help="From single to compound expressions: epochs:share of compounds, 5:0,5:0.2,3:0.4,3:1. Needs --basic.",
            show_default=False,
        ),
    ] = None,
    memory: opt.Memory = None,
    metrics: opt.MoreMetrics = None,
    track: opt.TrackedBy = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run's folder.", show_default="runs/DATASET-HEAD")
    ] = None,
    overwrite: opt.Overwrite = False,
    explain: opt.Explain = False,
    device: opt.Device = "auto",
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Fit one head, judge it once on the held-out split, and keep it with every choice and answer in a run folder.

    Example: cer-fuse train --head mlp --features vit,manet,resnet50
    """
    from ...fusion import compare as run_compare
    from ...fusion.keeping.runs import refuse_what_is_there

    settings = settings_of(setting, [head])[head]
    opt.only(ctx, unset="device" not in settings, computing=compute([head]), noted=not as_json)
    if curriculum is not None:
        settings |= curriculum_of(",".join(curriculum), head, settings)
    refuse_unused_votes(soft_labels, [head])
    refuse_unused_targets(targets, [head])
    asked, trackers = opt.metrics_of(metrics), opt.trackers_of(track, say)
    if output is not None:
        _check_folder(output, overwrite)
    task = load_task(
        store, data, features, missing, train_split, test_split, opt.memory_budget(memory),
        near=near, soft_labels=soft_labels,
    )  # fmt: skip
    task = targeted(task, [head], targets)
    built = build_head(head, task, settings, preset=preset, weights=weights, device=device, seed=seed)
    task = schooled(task, basic, [built], store, train_split, missing, opt.memory_budget(memory))
    default = Path("runs") / f"{task.dataset}-{head.rpartition('.')[2]}"  # of sklearn:MODULE.CLASS the class
    if output is None:
        check_folder("--output", default.parent)
    if output is None and overwrite:
        refuse_what_is_there(default, overwrite=True)
    with progress_bar() as step:
        report = run_compare(
            {head: built}, task.train, task.test, singles=False, seed=seed, metrics=asked,
            progress=lambda done, total, title: step("fits", done, total, title),
        )  # fmt: skip
    config = _config(task, report, head=head, store=store, preset=preset, missing=missing)
    folder, run = put(
        lambda folder, over: (folder, _keep(folder, task, report, config, over)), output, default, overwrite=overwrite
    )
    if folder != default and output is None:
        say(f"{escape(default)} is there already, and is left as it is: this run is [bold]{escape(folder)}[/]")
    column = report.columns[0]
    told = track_report(report, trackers, run=folder.resolve().name, config=_tracked(config, run.digest), kept=folder)
    if as_json:
        out_json(
            {
                "run": folder,
                "head": head,
                "params": column.params,
                "accuracy": column.scores.accuracy,
                "macro_f1": column.scores.macro_f1,
                "metrics": [asdict(one) for one in column.figures],
                "fit_s": column.fit_s,
                "tracked": told,
            }
        )
    else:
        print_table(report, "table", explain=explain)
    fitted = column.fitted
    if isinstance(getattr(fitted, "weights", None), str) and hasattr(fitted, "weights_"):  # others have words too
        say(f"{fitted.weights.replace('_', ' ')} weights: {escape(weights_text(fitted.weights_, task.train.classes))}")
    say(
        f"kept in [bold]{escape(folder)}[/]: head, configuration, predictions, metrics, environment, "
        f"confusion matrix; run {run.digest[:12]}"
    )


def _tracked(config: RunConfig, digest: str) -> dict[str, Any]:
    """What trackers are told of a run's choices."""
    kept = (
        "head",
        "preset",
        "seed",
        "dataset",
        "class_set",
        "train_split",
        "test_split",
        "fingerprints",
        "data_digest",
    )
    return {**{name: getattr(config, name) for name in kept}, "rows": sum(config.train_supports), "run": digest}


def _check_folder(output: Path, overwrite: bool) -> None:
    """Refuse a folder that is in the way before hours are spent; an empty one is not."""
    from ...fusion.keeping.runs import refuse_what_is_there
    from ...kit.folders import bring_back

    bring_back(output)
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise typer.BadParameter(
            f"{output} exists already: name another folder, or replace the run in it with --overwrite",
            param_hint="--output",
        )
    refuse_what_is_there(output, overwrite=overwrite)
    check_folder("--output", output)


def _keep(folder: Path, task: Task, report: Report, config: RunConfig, overwrite: bool) -> Run:
    from ...fusion.keeping.runs import device_of, environment, write_run

    fitted = report.columns[0].fitted
    return write_run(
        folder,
        config,
        report,
        groups=task.test.clusters,
        environment=environment(threads=fitted.fit_threads_, device=device_of(fitted)),
        overwrite=overwrite,
    )


def _rows_digest(rows: Rows) -> str:
    """What tells rows of basic expressions from others: their ids and labels."""
    labels = (rows.classes[y] for y in rows.y)
    return hashlib.sha256("\n".join((*rows.names, *labels)).encode()).hexdigest()


def _config(task: Task, report: Report, *, head: str, store: Path, preset: str | None, missing: str) -> RunConfig:
    import numpy as np

    from ...fusion.heads import head_class
    from ...fusion.keeping.runs import RunConfig, data_digest

    column, classes = report.columns[0], task.train.classes
    parts = {
        split: (rows.names, [classes[y] for y in rows.y.tolist()])
        for split, rows in ((task.train_split, task.train), (task.test_split, task.test))
    }
    return RunConfig(
        head=head,
        estimator=column.head,
        params=column.params,
        preset=preset,
        seed=report.seed,
        blocks=tuple(task.train.widths.items()),
        features=tuple(task.train.by_feature()),
        fingerprints=dict(task.train.fingerprints or {}),
        classes=task.train.classes,
        class_set=task.class_set,
        dataset=task.dataset,
        store=str(store),
        train_split=task.train_split,
        train_supports=tuple(task.train.supports.tolist()),
        test_split=task.test_split,
        missing=missing,
        in_memory=all(isinstance(block, np.ndarray) for block in task.train.blocks.values()),
        basic=None if (basic := task.train.basic) is None else _rows_digest(basic),
        soft_labels=None if (soft := task.train.soft) is None else _array_digest(soft),
        targets=None
        if task.train.targets is None
        else {name: _array_digest(one) for name, one in task.train.targets.items()},
        units=task.train.units,
        targets_from=task.targets_from,
        in_seconds=task.train.time_s is not None and head_class(head).learns_in_time,
        data_digest=data_digest(parts),
    )


def _array_digest(values: NDArray[Any]) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()
