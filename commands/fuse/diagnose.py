"""`cer-fuse diagnose`: which blocks carry a head, how alike backbones are, and where it fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from cer_fusion.commands.console import escape, out_json, progress_bar, say
from cer_fusion.commands.forms import Form, forms, only
from cer_fusion.commands.fuse.train import COMPUTING, UNSET, Setting, build_head, compute
from cer_fusion.commands.options import (
    DEFAULT_STORE,
    Device,
    Features,
    Json,
    Missing,
    Seed,
    StoredData,
    StorePath,
    key_values,
)
from cer_fusion.commands.outputs import NO_PICTURE, WRITTEN, Overwrite, check_outputs
from cer_fusion.commands.render import (
    TABLE,
    FigurePath,
    ResultPath,
    TableFormat,
    check_format,
    figure_output,
    print_tables,
    save_picture,
)
from cer_fusion.commands.task import TestSplit, TrainSplit, load_folds_task, load_task


@forms(
    always=(
        "head", "features", "data", "store", "setting", "players", "cv", "near", "most", "train_split", "missing",
        "figure", "output", "seed", "as_json",
    ),
    split=Form("--cv judges on the rows it learns from, fold by fold", ("test_split",)),
    unset=UNSET,
    computing=replace(COMPUTING, within="unset"),
    table=TABLE,
    written=WRITTEN,
)  # fmt: skip
def diagnose(
    ctx: typer.Context,
    head: Annotated[str, typer.Option("--head", help="The head that is fitted on every subset.")] = "linear",
    features: Features = None,
    data: StoredData = None,
    store: StorePath = DEFAULT_STORE,
    setting: Setting = None,
    players: Annotated[
        str, typer.Option("--of", help="Subsets of single blocks, or of whole features: blocks or features.")
    ] = "blocks",
    cv: Annotated[
        int | None,
        typer.Option("--cv", min=2, help="Judge the training rows fold by fold, no test split.", show_default=False),
    ] = None,
    near: Annotated[
        float | None,
        typer.Option("--near", min=-1, max=1, help="Cosine from which faces are near-duplicates.", show_default="0.85"),
    ] = None,
    most: Annotated[int, typer.Option("--most", min=1, help="Hard samples and confused pairs to list.")] = 10,
    train_split: TrainSplit = "train",
    test_split: TestSplit = None,
    missing: Missing = "error",
    format: TableFormat = "table",
    figure: FigurePath = None,
    output: ResultPath = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Say why a head scores as it does: blocks by Shapley value, agreement, similarity, calibration, hard samples.

    A head is fitted on every subset of the blocks, 2^p - 1 times; --of features makes fewer of many blocks.

    Example: cer-fuse diagnose --head linear --cv 5 --figure diagnosis.png
    """
    from cer_fusion.fusion.judging.diagnosis import diagnose as run_diagnose
    from cer_fusion.fusion.judging.measures import THRESHOLD
    from cer_fusion.fusion.page.diagnosis import diagnosis_tables, draw_diagnosis

    check_format(format)
    if players not in ("blocks", "features"):
        raise typer.BadParameter(f"must be blocks or features, however: {players!r}", param_hint="--of")
    settings = key_values(setting, "--set")
    only(
        ctx, split=cv is None, unset="device" not in settings, computing=compute([head]), table=not as_json,
        written=output or figure != NO_PICTURE,
    )  # fmt: skip
    check_outputs({"--output": output, "--figure": figure_output(figure)}, overwrite=overwrite)
    if cv is None:
        task = load_task(store, data, features, missing, train_split, test_split)
    else:
        task = load_folds_task(store, data, features, missing, train_split)
    built = build_head(head, task, settings, device=device, seed=seed)
    with progress_bar() as step:
        found = run_diagnose(
            task.train,
            task.test if cv is None else None,
            head=built,
            players="features" if players == "features" else "blocks",
            folds=cv or 0,
            threshold=THRESHOLD if near is None else near,
            most=most,
            seed=seed,
            progress=lambda done, total: step("fits", done, total),
        )
    default = Path("runs") / f"{task.dataset}-diagnose.png"
    try:  # files first, as whoever reads the tables may go away; and the tables even where a file cannot be written
        if output is not None:
            say(f"kept [bold]{escape(found.save(output, overwrite=overwrite))}[/]")
        save_picture(lambda: draw_diagnosis(found), figure, default, overwrite=overwrite)
    finally:
        if as_json:
            out_json(found.to_dict())
        else:
            print_tables(diagnosis_tables(found), format)
