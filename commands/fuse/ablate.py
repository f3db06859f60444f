"""`cer-fuse ablate`: what the weights of blocks or decisions do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .. import options as opt
from ..console import escape, out_json, progress_bar, say
from ..data import load_task
from ..heads import build_head, settings_of, targeted, weights_text
from ..outputs import check_outputs, figure_output, keep_and_show, print_table
from ..runners import fitted

if TYPE_CHECKING:
    from ...fusion.sweeps.sweeping import SweepPlan


@opt.forms(
    inner=opt.Form("is for --select inner: the test rows choose without folds", ("folds",)),
    divided=opt.DIVIDED,
    here=opt.HERE,
    slurm=opt.ON_SLURM,
    ray=opt.ON_RAY,
    table=opt.TABLE,
    noted=replace(opt.NOTED, within="table"),
    written=opt.WRITTEN,
)
def ablate(
    ctx: typer.Context,
    head: Annotated[str, typer.Option("--head", help="late (mixes decisions) or weighted (weighs blocks).")] = "late",
    weights: Annotated[
        list[str] | None,
        opt.several(
            "--weights",
            "-w",
            pairs=True,
            help="BLOCK=start:stop:step, BLOCK=value, or BLOCK=1- (what is left of 1).",
            show_default=False,
        ),
    ] = None,
    simplex: Annotated[
        list[str] | None,
        opt.several("--simplex", help="All weights that sum to 1: vit,manet,resnet50:0.1.", show_default=False),
    ] = None,
    per_class: Annotated[
        int,
        typer.Option(
            "--per-class",
            min=0,
            help="So many weights a block and class beside the grid, drawn from a Dirichlet distribution: of late.",
        ),
    ] = 0,
    setting: opt.Setting = None,
    features: opt.Features = None,
    data: opt.StoredData = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    select: Annotated[
        Literal["inner", "test"],
        typer.Option(help="Choose on inner folds of the training rows, or on the test rows, which is biased."),
    ] = "inner",
    folds: Annotated[int, typer.Option(min=2, help="Inner folds.")] = 5,
    C: Annotated[
        list[str] | None,
        opt.several(
            "--C",
            help="Inverse strengths of the penalty to cross with the weights, chosen by the same rows: 0.1,1,10.",
            show_default="the head's own",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Seeds of folds and heads, from --seed on; rows count once each.")
    ] = 1,
    train_split: opt.TrainSplit = "train",
    test_split: opt.TestSplit = None,
    missing: opt.Missing = "error",
    near: opt.Near = None,
    runner: opt.Runner = None,
    parts: opt.FitParts = None,
    workers: opt.Workers = None,
    slurm: opt.Slurm = None,
    ray_address: opt.RayAddress = None,
    num_gpus: opt.NumGpus = None,
    format: opt.TableFormat = "table",
    explain: opt.Explain = False,
    as_json: opt.Json = False,
    figure: opt.FigurePath = None,
    output: opt.ResultPath = None,
    overwrite: opt.Overwrite = False,
    seed: opt.Seed = 0,
) -> None:
    """Sweep block or decision weights in one job; choose on inner folds, judge once on the held-out split.

    Linear heads on weighed blocks (`--head weighted`) are trained together, whole simplex, penalties and all.

    Example: cer-fuse ablate --weights manet.local=0:1:0.1,manet.multi_scale=1- --figure sweep.png

    Example: cer-fuse ablate --simplex vit,manet,resnet50:0.1 --per-class 1000
    """
    from ...fusion.sweeps.figure import draw_sweep

    opt.only(
        ctx, inner=select == "inner", table=not as_json, noted=format == "table",
        written=output or figure != opt.NO_PICTURE, **opt.runs(runner, workers),
    )  # fmt: skip
    check_outputs(
        {"--output": output, "--figure": figure_output(figure)}, overwrite=overwrite,
        unasked={} if figure else {"--figure": Path("runs") / "figure.png"},
    )  # fmt: skip
    plan = SweepOptions(
        head=head, weights=weights or [], simplex=",".join(simplex or ()), settings=settings_of(setting, [head])[head],
        features=features, data=data, store=store, missing=missing, splits=(train_split, test_split), near=near,
        seed=seed,
        options={"select": select, "folds": folds, "C": opt.numbers(C, "--C"), "seeds": seeds, "seed": seed,
                 "per_class": per_class},
    )  # fmt: skip
    with progress_bar() as step:
        found = fitted(
            plan, runner=runner, parts=parts, workers=workers, slurm=slurm, ray_address=ray_address,
            num_gpus=num_gpus, progress=step, name="ablate",
        )  # fmt: skip
    say(f"{len(found.weights):,} weight vectors in {found.elapsed_s:,.1f} s")
    if found.chosen >= found.shared:
        say(f"chosen weights: {escape(weights_text(found.vector(found.chosen)))}")
    keep_and_show(
        found,
        lambda: out_json(found.to_dict()) if as_json else print_table(found, format, explain=explain),
        lambda: draw_sweep(found),
        output=output,
        figure=figure,
        default=Path("runs") / f"{plan.dataset}-ablate.png",
        overwrite=overwrite,
    )


@dataclass(kw_only=True)
class SweepOptions:
    """What `cer-fuse ablate` was asked for; any process makes the same fits of it."""

    head: str
    weights: list[str]
    simplex: str
    settings: dict[str, Any]
    features: list[str] | None
    data: str | None
    store: Path
    missing: opt.Missing
    splits: tuple[str, str | None]
    near: float | None
    seed: int
    options: dict[str, Any]
    """Of `fusion.sweep`."""
    dataset: str = field(default="", repr=False)
    """The dataset's name, once it is known."""

    def planned(self, pieces: int) -> SweepPlan:
        """Open the rows and plan the fits."""
        from ...fusion.sweeps.sweeping import parse_grid, parse_simplex, sweep_plan

        specs, simplex = self.weights, self.simplex
        if bool(specs) == bool(simplex):
            raise typer.BadParameter("give either --weights or --simplex", param_hint="--weights")
        names = [spec.partition("=")[0] for spec in specs] or simplex.rpartition(":")[0].split(",")
        named = self.features or [name for name in dict.fromkeys(map(str.strip, names)) if name]
        task = load_task(self.store, self.data, named, self.missing, *self.splits, near=self.near)
        task = targeted(task, [self.head])
        self.dataset = task.dataset
        grid = parse_grid(specs, task.train.widths) if specs else parse_simplex(simplex, task.train.by_feature())
        built = build_head(self.head, task, self.settings, seed=self.seed)
        return sweep_plan(built, grid, task.train, task.test, pieces=pieces, **self.options)
