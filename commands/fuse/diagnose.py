"""`cer-fuse diagnose`: which blocks carry a head, how alike backbones are, and where it fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from .. import options as opt
from ..console import out_json, progress_bar
from ..data import load_folds_task, load_task
from ..heads import build_head, compute, settings_of, targeted
from ..outputs import check_outputs, figure_output, keep_and_show, print_tables


@opt.forms(
    split=opt.Form("--cv judges on the rows it learns from, fold by fold", ("test_split",)),
    unset=opt.UNSET,
    computing=replace(opt.COMPUTING, within="unset"),
    table=opt.TABLE,
    noted=replace(opt.NOTED, within="table"),
    written=opt.WRITTEN,
)
def diagnose(
    ctx: typer.Context,
    head: Annotated[str, typer.Option("--head", help="The head that is fitted on every subset.")] = "linear",
    features: opt.Features = None,
    data: opt.StoredData = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    setting: opt.Setting = None,
    players: Annotated[
        Literal["blocks", "features"], typer.Option("--of", help="Subsets of single blocks, or of whole features.")
    ] = "blocks",
    cv: Annotated[
        int | None,
        typer.Option("--cv", min=2, help="Judge the training rows fold by fold, no test split.", show_default=False),
    ] = None,
    near: Annotated[
        float | None,
        typer.Option(
            "--near",
            min=-1,
            max=1,
            help="Cosine from which faces are near-duplicates: they are listed and, where the option is given, one "
            "group; without it those from 0.85 on are listed.",
            show_default=False,
        ),
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Hard samples and confused pairs to list.")] = 10,
    train_split: opt.TrainSplit = "train",
    test_split: opt.TestSplit = None,
    missing: opt.Missing = "error",
    format: opt.TableFormat = "table",
    explain: opt.Explain = False,
    figure: opt.FigurePath = None,
    output: opt.ResultPath = None,
    overwrite: opt.Overwrite = False,
    device: opt.Device = "auto",
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Say why a head scores as it does: blocks by Shapley value, agreement, similarity, calibration, hard samples.

    A head is fitted on every subset of the blocks, 2^p - 1 times; --of features makes fewer of many blocks.

    Example: cer-fuse diagnose --head linear --cv 5 --figure diagnosis.png
    """
    from ...fusion.judging.diagnosis import diagnose as run_diagnose
    from ...fusion.judging.measures import THRESHOLD
    from ...fusion.page.diagnosis import diagnosis_tables, draw_diagnosis

    settings = settings_of(setting, [head])[head]
    opt.only(
        ctx, split=cv is None, unset="device" not in settings, computing=compute([head]), table=not as_json,
        noted=format == "table", written=output or figure != opt.NO_PICTURE,
    )  # fmt: skip
    check_outputs(
        {"--output": output, "--figure": figure_output(figure)}, overwrite=overwrite,
        unasked={} if figure else {"--figure": Path("runs") / "figure.png"},
    )  # fmt: skip
    if cv is None:
        task = load_task(store, data, features, missing, train_split, test_split, near=near)
    else:
        task = load_folds_task(store, data, features, missing, train_split, near=near)
    task = targeted(task, [head])
    built = build_head(head, task, settings, device=device, seed=seed)
    with progress_bar() as step:
        found = run_diagnose(
            task.train,
            task.test if cv is None else None,
            head=built,
            players=players,
            folds=cv or 0,
            threshold=THRESHOLD if near is None else near,
            most=most,
            seed=seed,
            progress=lambda done, total: step("fits", done, total),
        )

    def show() -> None:
        if as_json:
            out_json(found.to_dict())
        else:
            print_tables(diagnosis_tables(found), format, explain=explain)

    keep_and_show(
        found,
        show,
        lambda: draw_diagnosis(found),
        output=output,
        figure=figure,
        default=Path("runs") / f"{task.dataset}-diagnose.png",
        overwrite=overwrite,
    )
