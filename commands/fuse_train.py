"""`cer-fuse train`: fit one head and keep it with everything about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import escape, out_json, say
from commands.options import (
    DEFAULT_STORE,
    Data,
    Device,
    Features,
    Json,
    Memory,
    Missing,
    Seed,
    StorePath,
    key_values,
    memory_budget,
)
from commands.render import print_table
from commands.task import Task, TestSplit, TrainSplit, load_task
from fusion.heads import head_names  # light: no head is imported before it is asked for

if TYPE_CHECKING:
    from fusion import Report
    from fusion.runs.config import RunConfig
    from fusion.runs.folder import Run

Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A setting of the head, key=value: hidden=[512], C=0.1, member=mlp.", show_default=False
    ),
]


def train(
    head: Annotated[str, typer.Option("--head", help=f"One of {', '.join(head_names())}.")] = "mlp",
    features: Features = None,
    data: Data = None,
    store: StorePath = DEFAULT_STORE,
    preset: Annotated[
        str | None,
        typer.Option(
            help="mlp: paper, the settings of the paper. xgboost, lightgbm, catboost: fast (the default) or quality.",
            show_default=False,
        ),
    ] = None,
    setting: Setting = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", "-w", help="weighted, late: vit=1,manet.local=0.6,manet.multi_scale=0.4, or learned."
        ),
    ] = None,
    train_split: TrainSplit = "train",
    test_split: TestSplit = None,
    missing: Missing = "error",
    memory: Memory = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The run's folder.", show_default="runs/DATASET-HEAD")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Fit one head, judge it once on the held-out split, and keep it with every choice and answer in a run folder.

    Example: cer-fuse train --head mlp --features vit,manet,resnet50
    """
    from fusion import compare as run_compare
    from fusion.runs.folder import refuse_what_is_there

    task = load_task(store, data, features, missing, train_split, test_split, memory_budget(memory))
    settings = key_values(setting, "--set")
    built = build_head(head, task, settings, preset=preset, weights=weights, device=device, seed=seed)
    folder = _folder(output, task.dataset, head, overwrite)
    refuse_what_is_there(folder, overwrite=overwrite)
    report = run_compare({head: built}, task.train, task.test, singles=False, seed=seed)
    config = _config(task, report, head=head, store=store, preset=preset, missing=missing)
    run = _keep(folder, task, report, config, overwrite)
    if as_json:
        column = report.columns[0]
        out_json(
            {
                "run": folder,
                "head": head,
                "params": column.params,
                "accuracy": column.scores.accuracy,
                "macro_f1": column.scores.macro_f1,
                "fit_s": column.fit_s,
            }
        )
    else:
        print_table(report, "table")
    fitted = report.columns[0].fitted
    if getattr(fitted, "weights", None) == "learned":
        say(f"learned weights: {', '.join(f'{escape(name)}={one:.3g}' for name, one in fitted.weights_.items())}")
    say(
        f"kept in [bold]{escape(folder)}[/]: head, configuration, predictions, metrics, environment, "
        f"confusion matrix; run {run.digest[:12]}"
    )


def build_head(
    name: str,
    task: Task,
    settings: dict[str, Any],
    *,
    preset: str | None = None,
    weights: str | None = None,
    device: str | None = None,
    seed: int,
) -> Any:
    """An unfitted head for the task's blocks."""
    from fusion import make_head, parse_weights
    from fusion.heads import head_presets, head_settings

    known, presets = head_settings(name), head_presets(name)
    given = dict(settings)
    if weights is not None:
        learned = name in ("late", "weighted") and weights.strip() == "learned"
        given["weights"] = "learned" if learned else parse_weights(weights, task.train.widths)
    if device is not None and "device" in known and "device" not in given:
        given["device"] = device
    if preset is not None and preset not in presets:
        offered = f"its presets: {', '.join(presets)}" if presets else "it has none"
        raise typer.BadParameter(f"the head {name!r} has no preset {preset!r}; {offered}", param_hint="--preset")
    return make_head(name, blocks=task.train.widths, preset=preset, random_state=seed, **given)


def _folder(output: Path | None, dataset: str, head: str, overwrite: bool) -> Path:
    """The run's folder: the one asked for, or the first free `runs/DATASET-HEAD`, `-2`, `-3`, …"""
    if output is not None:
        if output.exists() and not overwrite:
            raise typer.BadParameter(f"{output} exists; name another folder, or --overwrite", param_hint="--output")
        return output
    first = Path("runs") / f"{dataset}-{head}"
    number = 2
    folder = first
    while folder.exists() and not overwrite:
        folder = first.with_name(f"{first.name}-{number}")
        number += 1
    return folder


def _keep(folder: Path, task: Task, report: Report, config: RunConfig, overwrite: bool) -> Run:
    from fusion.runs.environment import device_of, environment
    from fusion.runs.folder import write_run

    fitted = report.columns[0].fitted
    return write_run(
        folder,
        config,
        report,
        groups=task.test.clusters,
        environment=environment(threads=fitted.fit_threads_, device=device_of(fitted)),
        overwrite=overwrite,
    )


def _config(task: Task, report: Report, *, head: str, store: Path, preset: str | None, missing: str) -> RunConfig:
    import numpy as np

    from fusion.runs.config import RunConfig

    column = report.columns[0]
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
    )
