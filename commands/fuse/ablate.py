"""`cer-fuse ablate`: what the weights of blocks or decisions do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cer_fusion.commands.console import escape, progress_bar, say
from cer_fusion.commands.forms import Form, forms, only
from cer_fusion.commands.fuse.train import Setting, build_head
from cer_fusion.commands.options import (
    DEFAULT_STORE,
    Features,
    Missing,
    Seed,
    StoredData,
    StorePath,
    key_values,
    numbers,
    split_list,
)
from cer_fusion.commands.outputs import NO_PICTURE, WRITTEN, Overwrite, check_outputs
from cer_fusion.commands.render import (
    FigurePath,
    ResultPath,
    TableFormat,
    check_format,
    figure_output,
    print_table,
    save_picture,
)
from cer_fusion.commands.task import TestSplit, TrainSplit, load_task


@forms(
    always=(
        "head", "weights", "simplex", "setting", "features", "data", "store", "select", "C", "seeds", "train_split",
        "test_split", "missing", "format", "figure", "output", "seed",
    ),
    inner=Form("is for --select inner: the test rows choose without folds", ("folds",)),
    written=WRITTEN,
)  # fmt: skip
def ablate(
    ctx: typer.Context,
    head: Annotated[str, typer.Option("--head", help="late (mixes decisions) or weighted (weighs blocks).")] = "late",
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            "-w",
            help="BLOCK=start:stop:step, BLOCK=value, or BLOCK=1- (what is left of 1); comma-separated or repeated.",
            show_default=False,
        ),
    ] = None,
    simplex: Annotated[
        str | None,
        typer.Option(help="All weights that sum to 1: vit,manet,resnet50:0.1.", show_default=False),
    ] = None,
    setting: Setting = None,
    features: Features = None,
    data: StoredData = None,
    store: StorePath = DEFAULT_STORE,
    select: Annotated[
        str,
        typer.Option(help="Choose on inner folds of the training rows (inner), or on the test rows (test, biased)."),
    ] = "inner",
    folds: Annotated[int, typer.Option(min=2, help="Inner folds.")] = 5,
    C: Annotated[
        str | None,
        typer.Option(
            "--C",
            help="Inverse strengths of the penalty to cross with the weights, chosen by the same rows: 0.1,1,10.",
            show_default="the head's own",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Seeds of folds and heads, from --seed on; rows count once each.")
    ] = 1,
    train_split: TrainSplit = "train",
    test_split: TestSplit = None,
    missing: Missing = "error",
    format: TableFormat = "table",
    figure: FigurePath = None,
    output: ResultPath = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
) -> None:
    """Sweep block or decision weights in one job; choose on inner folds, judge once on the held-out split.

    Linear heads on weighed blocks (`--head weighted`) are trained together, whole simplex, penalties and all.

    Example: cer-fuse ablate --weights manet.local=0:1:0.1,manet.multi_scale=1- --figure sweep.png
    """
    from cer_fusion.fusion import sweep as run_sweep
    from cer_fusion.fusion.sweeps.figure import draw_sweep
    from cer_fusion.fusion.sweeps.sweeping import parse_grid, parse_simplex

    check_format(format)
    if select not in ("inner", "test"):
        raise typer.BadParameter("must be inner or test", param_hint="--select")
    only(ctx, inner=select == "inner", written=output or figure != NO_PICTURE)
    check_outputs({"--output": output, "--figure": figure_output(figure)}, overwrite=overwrite)
    specs = [spec for entry in weights or [] for spec in split_list(entry)]
    if bool(specs) == bool(simplex):
        raise typer.BadParameter("give either --weights or --simplex", param_hint="--weights")
    penalties = numbers(C, "--C")
    names = [spec.partition("=")[0].strip() for spec in specs] or split_list((simplex or "").rpartition(":")[0])
    task = load_task(store, data, features or ",".join(dict.fromkeys(names)), missing, train_split, test_split)
    grid = parse_grid(specs, task.train.widths) if specs else parse_simplex(simplex or "", task.train.by_feature())
    built = build_head(head, task, key_values(setting, "--set"), seed=seed)
    with progress_bar() as step:
        found = run_sweep(
            built,
            grid,
            task.train,
            task.test,
            select="inner" if select == "inner" else "test",
            folds=folds,
            C=penalties,
            seeds=seeds,
            seed=seed,
            progress=lambda done, total: step("steps", done, total),
        )
    say(f"{len(grid):,} weight vectors in {found.elapsed_s:,.1f} s")
    default = Path("runs") / f"{task.dataset}-ablate.png"
    try:  # files first, as whoever reads the table may go away; and the table even where a file cannot be written
        if output is not None:
            say(f"kept [bold]{escape(found.save(output, overwrite=overwrite))}[/]")
        save_picture(lambda: draw_sweep(found), figure, default, overwrite=overwrite)
    finally:
        print_table(found, format)
