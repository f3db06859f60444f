"""`cer-fuse ablate`: what the weights of blocks or decisions do, or settings of a head."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .. import options as opt
from ..console import escape, out_json, progress_bar, say
from ..data import load_task, schooled
from ..heads import (
    axes_of,
    build_head,
    compute,
    refuse_unused_targets,
    refuse_unused_votes,
    settings_of,
    targeted,
    weights_text,
)
from ..outputs import check_outputs, figure_output, keep_and_show, print_table
from ..runners import fitted

if TYPE_CHECKING:
    from ...fusion.data.blocks import Grid
    from ...fusion.sweeps import Axes, Sweep
    from ...fusion.sweeps.sweeping import SweepPlan
    from ..data import Task


@opt.forms(
    inner=opt.Form("is for --select inner: the test rows choose without folds", ("folds",)),
    weighed=opt.Form(
        "goes with --weights or --simplex: of settings C is an axis, --axis C=0.1,1,10", ("per_class", "C")
    ),
    computing=opt.COMPUTING,
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
    head: Annotated[
        str | None,
        typer.Option(
            "--head",
            help="late (mixes decisions) or weighted (weighs blocks); with --axis any head.",
            show_default="late; with --axis mlp",
        ),
    ] = None,
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
    axis: Annotated[
        list[str] | None,
        opt.several(
            "--axis",
            pairs=True,
            help="A setting of the head and its values, locality=0,0.1,1 or dropout=0:0.6:0.2; several cross.",
            show_default=False,
        ),
    ] = None,
    setting: opt.Setting = None,
    preset: Annotated[
        str | None, typer.Option(help="Named settings of the head, as of train: mlp has paper.", show_default=False)
    ] = None,
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
    soft_labels: opt.SoftLabels = None,
    targets: opt.Targets = None,
    basic: opt.Basic = None,
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
    device: opt.Device = "auto",
    seed: opt.Seed = 0,
) -> None:
    """Sweep block or decision weights, or settings of a head; choose on inner folds, judge once on the held-out split.

    Linear heads on weighed blocks (`--head weighted`) are trained together, whole simplex, penalties and all.

    Example: cer-fuse ablate --weights manet.local=0:1:0.1,manet.multi_scale=1- --figure sweep.png

    Settings are fitted point by point, and each point is tested in pairs against where the head stands itself.

    Example: cer-fuse ablate --simplex vit,manet,resnet50:0.1 --per-class 1000

    Example: cer-fuse ablate --head mlp --preset paper --axis locality=0,0.1,1

    Example: cer-fuse ablate --head mlp --basic basic --axis curriculum=0,5,10 --axis mixed_compounds=0,1
    """
    from ...fusion.sweeps.figure import draw_sweep

    head = head or ("mlp" if axis else "late")
    settings, values = settings_of(setting, [head])[head], axes_of(axis)
    opt.only(
        ctx, weighed=not axis, computing=compute([head]), inner=select == "inner", table=not as_json,
        noted=format == "table",
        written=output or figure != opt.NO_PICTURE, **opt.runs(runner, workers),
    )  # fmt: skip
    check_outputs(
        {"--output": output, "--figure": figure_output(figure)}, overwrite=overwrite,
        unasked={} if figure else {"--figure": Path("runs") / "figure.png"},
    )  # fmt: skip
    refuse_unused_votes(soft_labels, [head])
    refuse_unused_targets(targets, [head])
    plan = SweepOptions(
        head=head, weights=weights or [], simplex=",".join(simplex or ()), axes=values, settings=settings,
        preset=preset, features=features, data=data, store=store, missing=missing, splits=(train_split, test_split),
        near=near, soft_labels=soft_labels, targets=targets, basic=basic, device=device, seed=seed,
        options={"select": select, "folds": folds, "C": opt.numbers(C, "--C"), "seeds": seeds, "seed": seed,
                 "per_class": per_class},
    )  # fmt: skip
    plan.check()
    with progress_bar() as step:
        found = fitted(
            plan, runner=runner, parts=parts, workers=workers, slurm=slurm, ray_address=ray_address,
            num_gpus=num_gpus, progress=step, name="ablate",
        )  # fmt: skip
    say(f"{len(found.weights):,} {'points' if found.settings else 'weight vectors'} in {found.elapsed_s:,.1f} s")
    if found.settings:
        _tell_choice(found)
    elif found.chosen >= found.shared:
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


def _tell_choice(found: Sweep) -> None:
    """Say which point was chosen, and what it is worth against where the head stands."""
    from ...fusion.judging.report import p_text
    from ...fusion.sweeps.axes import point_text

    chosen, where = found.vector(found.chosen), "inner folds" if found.inner is not None else f"{found.split} rows"
    said = f"chosen on {where}: [bold]{escape(point_text(chosen))}[/]"
    versus = None if found.versus is None else found.versus[found.chosen]
    if versus is None:
        say(f"{said}, the reference itself")
        return
    ends, base = versus.macro_f1_interval, point_text(found.vector(found.marked or 0))
    say(
        f"{said}; on {escape(found.split)} {100 * versus.macro_f1:+.2f} points macro F1 [{100 * ends.low:+.1f}, "
        f"{100 * ends.high:+.1f}] against {escape(base)}, p {p_text(versus.p_macro_f1_holm, bound=versus.p_is_bound)}"
    )


@dataclass(kw_only=True)
class SweepOptions:
    """What `cer-fuse ablate` was asked for; any process makes the same fits of it."""

    head: str
    weights: list[str]
    simplex: str
    axes: dict[str, list[Any]]
    settings: dict[str, Any]
    preset: str | None
    features: list[str] | None
    data: str | None
    store: Path
    missing: opt.Missing
    splits: tuple[str, str | None]
    near: float | None
    soft_labels: Path | None
    targets: Path | None
    basic: str | None
    device: str
    seed: int
    options: dict[str, Any]
    """Of `fusion.sweep`."""
    dataset: str = field(default="", repr=False)
    """The dataset's name, once it is known."""

    def check(self) -> None:
        """Refuse what can be told without rows.

        Raises
        ------
        typer.BadParameter
            If it is not one of weights, a simplex and axes, or a setting is given twice.
        SweepError
            If axes are none, or none of the head.
        """
        if (bool(self.weights), bool(self.simplex), bool(self.axes)).count(True) != 1:
            raise typer.BadParameter(
                "give either --weights or --simplex, or settings: --axis", param_hint="--weights, --simplex, --axis"
            )
        if not self.axes:
            return
        from ...fusion import Axes, make_head

        for name in self.axes:
            if name in self.settings:
                raise typer.BadParameter(f"--set {name}=… says that too: leave one of them out", param_hint="--axis")
        Axes(self.axes).check(make_head(self.head, preset=self.preset, **self.settings))

    def planned(self, pieces: int) -> SweepPlan:
        """Open the rows and plan the fits."""
        from ...fusion.sweeps.axes import Axes, set_to
        from ...fusion.sweeps.sweeping import sweep_plan

        names = [spec.partition("=")[0] for spec in self.weights] or self.simplex.rpartition(":")[0].split(",")
        named = self.features or [name for name in dict.fromkeys(map(str.strip, names)) if name]
        task = load_task(
            self.store, self.data, named, self.missing, *self.splits, near=self.near, soft_labels=self.soft_labels
        )
        task = targeted(task, [self.head], self.targets)
        self.dataset = task.dataset
        grid = self._grid(task)
        built = build_head(
            self.head, task, self.settings, preset=self.preset, device=self.device, seed=self.seed
        )  # fmt: skip
        set_so = [set_to(built, point) for point in grid.points] if isinstance(grid, Axes) else [built]
        task = schooled(task, self.basic, set_so, self.store, self.splits[0], self.missing, math.inf)
        return sweep_plan(built, grid, task.train, task.test, pieces=pieces, **self.options)

    def _grid(self, task: Task) -> Grid | Axes:
        from ...fusion.sweeps.axes import Axes
        from ...fusion.sweeps.sweeping import parse_grid, parse_simplex

        if self.axes:
            return Axes(self.axes)
        if self.weights:
            return parse_grid(self.weights, task.train.widths)
        return parse_simplex(self.simplex, task.train.by_feature())
