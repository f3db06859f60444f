"""`cer-fuse train`: fit one head and keep it with everything about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cer_fusion.commands.console import escape, out_json, say
from cer_fusion.commands.forms import Form, forms, only
from cer_fusion.commands.options import (
    DEFAULT_STORE,
    Device,
    Features,
    Json,
    Memory,
    Missing,
    Seed,
    StoredData,
    StorePath,
    key_values,
    memory_budget,
)
from cer_fusion.commands.outputs import Overwrite, put
from cer_fusion.commands.render import print_table
from cer_fusion.commands.task import Task, TestSplit, TrainSplit, load_task
from cer_fusion.fusion.heads import head_names  # light: no head is imported before it is asked for

if TYPE_CHECKING:
    from cer_fusion.fusion import Report
    from cer_fusion.fusion.keeping.runs.config import RunConfig
    from cer_fusion.fusion.keeping.runs.folder import Run

Setting = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A setting of the head, key=value: hidden=[512], C=0.1, member=mlp.", show_default=False
    ),
]


COMPUTING = Form("says where a head computes, and none of these has a choice", ("device",))
UNSET = Form("--set device=… says that too: leave one of them out", ())
"""What `COMPUTING` is within where there is one head, so that its settings are not written HEAD.key."""


def compute(heads: Iterable[str]) -> bool:
    """Whether any of the heads can compute on a device of the user's choice."""
    from cer_fusion.fusion.heads import head_settings

    return any("device" in head_settings(name) for name in heads)


@forms(
    always=(
        "head", "features", "data", "store", "preset", "setting", "weights", "train_split", "test_split", "missing",
        "memory", "output", "overwrite", "seed", "as_json",
    ),
    unset=UNSET,
    computing=replace(COMPUTING, within="unset"),
)  # fmt: skip
def train(
    ctx: typer.Context,
    head: Annotated[str, typer.Option("--head", help=f"One of {', '.join(head_names())}.")] = "mlp",
    features: Features = None,
    data: StoredData = None,
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
    overwrite: Overwrite = False,
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Fit one head, judge it once on the held-out split, and keep it with every choice and answer in a run folder.

    Example: cer-fuse train --head mlp --features vit,manet,resnet50
    """
    from cer_fusion.fusion import compare as run_compare
    from cer_fusion.fusion.keeping.runs.folder import refuse_what_is_there

    settings = key_values(setting, "--set")
    only(ctx, unset="device" not in settings, computing=compute([head]))
    if output is not None:
        _check_folder(output, overwrite)
    task = load_task(store, data, features, missing, train_split, test_split, memory_budget(memory))
    built = build_head(head, task, settings, preset=preset, weights=weights, device=device, seed=seed)
    default = Path("runs") / f"{task.dataset}-{head}"
    if output is None and overwrite:
        refuse_what_is_there(default, overwrite=True)
    report = run_compare({head: built}, task.train, task.test, singles=False, seed=seed)
    config = _config(task, report, head=head, store=store, preset=preset, missing=missing)
    run: Run | None = None

    def keep(folder: Path, overwrite: bool) -> Path:
        nonlocal run
        run = _keep(folder, task, report, config, overwrite)
        return folder

    folder = put(keep, output, default, overwrite=overwrite)
    assert run is not None, "it was kept in the folder"
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
    from cer_fusion.fusion import make_head, parse_weights
    from cer_fusion.fusion.heads import head_presets, head_settings

    known, presets = head_settings(name), head_presets(name)
    given = dict(settings)
    for setting, why in (("random_state", "is chosen with --seed"), ("blocks", "are those of --features")):
        if setting in given:
            raise typer.BadParameter(f"{setting} {why}", param_hint="--set")
    _refuse_twice(given, weights=weights)
    if weights is not None:
        learned = name in ("late", "weighted") and weights.strip() == "learned"
        given["weights"] = "learned" if learned else parse_weights(weights, task.train.widths)
    if device is not None and "device" in known and "device" not in given:
        given["device"] = device
    if preset is not None and preset not in presets:
        offered = f"its presets: {', '.join(presets)}" if presets else "it has none"
        raise typer.BadParameter(f"the head {name!r} has no preset {preset!r}; {offered}", param_hint="--preset")
    return make_head(name, blocks=task.train.widths, preset=preset, random_state=seed, **given)


def _refuse_twice(settings: dict[str, Any], **options: object) -> None:
    """Refuse a setting that an option says as well: one of the two would be ignored."""
    for name, value in options.items():
        if value is not None and name in settings:
            raise typer.BadParameter(f"--set {name}=… says that too: leave one of them out", param_hint=f"--{name}")


def _check_folder(output: Path, overwrite: bool) -> None:
    """Refuse a folder that is in the way before hours are spent; an empty one is not."""
    from cer_fusion.fusion.keeping.runs.folder import refuse_what_is_there
    from cer_fusion.kit.folders import bring_back

    bring_back(output)
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise typer.BadParameter(
            f"{output} exists already: name another folder, or replace the run in it with --overwrite",
            param_hint="--output",
        )
    refuse_what_is_there(output, overwrite=overwrite)


def _keep(folder: Path, task: Task, report: Report, config: RunConfig, overwrite: bool) -> Run:
    from cer_fusion.fusion.keeping.runs.environment import device_of, environment
    from cer_fusion.fusion.keeping.runs.folder import write_run

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
    from cer_fusion.fusion.keeping.runs.config import RunConfig

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
