"""`cer-fuse compare`: heads and single backbones side by side, in the paper's layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cer_fusion.commands.console import escape, progress_bar, say
from cer_fusion.commands.forms import Form, forms, only
from cer_fusion.commands.fuse.train import COMPUTING, Setting, build_head, compute
from cer_fusion.commands.kept_runs import AS_KEPT, Runs, dataset_of, read_runs
from cer_fusion.commands.options import (
    DEFAULT_STORE,
    Device,
    Features,
    Memory,
    Missing,
    Seed,
    StoredData,
    StorePath,
    key_values,
    memory_budget,
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
from cer_fusion.commands.task import Task, TestSplit, TrainSplit, load_folds_task, load_task
from cer_fusion.commands.zero_shot_rows import TITLE, Rules, ZeroShotDataset, ZeroShotHead, load_zero_shot
from cer_fusion.fusion.heads import (  # light: no head is imported before it is asked for
    USUAL,
    head_names,
    installed_heads,
)

if TYPE_CHECKING:
    from cer_fusion.fusion import Report


@forms(
    always=("baseline", "class_intervals", "format", "figure", "output", "seed"),
    trained=Form(
        AS_KEPT,
        (
            "heads", "features", "data", "store", "setting", "singles", "cv", "zero_shot", "train_split", "missing",
            "memory",
        ),
    ),
    alone=Form("is for the columns of single backbones, which --no-singles leaves out", ("single_head",), "trained"),
    split=Form("--cv judges on the rows it learns from, fold by fold", ("test_split",), "trained"),
    seeded=Form("with --cv every repeat has seeds of its own: use --repeats", ("seeds",), "trained"),
    repeated=Form("repeats are of a cross-validation: give --cv 5 as well", ("repeats",), "trained"),
    folded=Form(
        "near-duplicates are kept in one fold of --cv; see cer-fuse diagnose for a test split", ("near",), "trained"
    ),
    elsewhere=Form(
        "says how --zero-shot DATASET answers: name the dataset", ("zero_shot_head", "rules"), within="trained"
    ),
    computing=replace(COMPUTING, within="trained"),
    written=WRITTEN,
)  # fmt: skip
def compare(
    ctx: typer.Context,
    runs: Runs = None,
    heads: Annotated[
        str | None,
        typer.Option(
            "--heads", help=f"Comma-separated, of {', '.join(head_names())}.", show_default=f"{','.join(USUAL)}; or all"
        ),
    ] = None,
    features: Features = None,
    data: StoredData = None,
    store: StorePath = DEFAULT_STORE,
    setting: Setting = None,
    singles: Annotated[bool, typer.Option(help="A column for each single backbone as well.")] = True,
    single_head: Annotated[str, typer.Option(help="The head that learns from a single backbone.")] = "linear",
    baseline: Annotated[
        str | None, typer.Option(help="Column the others are tested against, paired.", show_default=False)
    ] = None,
    cv: Annotated[
        int | None,
        typer.Option("--cv", min=2, help="Folds to cross-validate in, instead of a test split.", show_default=False),
    ] = None,
    near: Annotated[
        float | None,
        typer.Option(
            "--near", min=-1, max=1, help="With --cv: keep faces of this cosine in one fold, 0.85.", show_default=False
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="With --cv: cut the rows into folds so often.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="Without --cv: fit each head with so many seeds.")] = 1,
    zero_shot: ZeroShotDataset = None,
    zero_shot_head: ZeroShotHead = None,
    rules: Rules = None,
    class_intervals: Annotated[
        bool, typer.Option("--class-intervals", help="Write the intervals of every class into the table.")
    ] = False,
    train_split: TrainSplit = "train",
    test_split: TestSplit = None,
    missing: Missing = "error",
    memory: Memory = None,
    format: TableFormat = "table",
    figure: FigurePath = None,
    output: ResultPath = None,
    overwrite: Overwrite = False,
    device: Device = "auto",
    seed: Seed = 0,
) -> None:
    """Compare heads: a column a head and a single backbone, a row a class, accuracy and F1 with intervals, seconds.

    Settings of one head are written HEAD.key=value: --set mlp.hidden=[512] --set linear.C=0.1; zero-shot is a HEAD too.

    Given run folders of cer-fuse train, it fits nothing: the same table from the predictions they keep.

    Example: cer-fuse compare --heads mlp,linear,late --figure confusion.png

    Example: cer-fuse compare --heads linear,late --baseline linear --cv 5 --repeats 2

    Example: cer-fuse compare --data compound --heads linear --zero-shot basic --rules sum,product
    """
    from cer_fusion.fusion.keeping.comparison import compare_runs

    check_format(format)
    chosen = named_heads(heads)
    only(
        ctx, trained=not runs, alone=singles, split=cv is None, seeded=cv is None, repeated=cv is not None,
        folded=cv is not None, elsewhere=zero_shot is not None,
        computing=not runs and compute([*chosen, *([zero_shot_head] if zero_shot and zero_shot_head else [])]),
        written=output or figure != NO_PICTURE,
    )  # fmt: skip
    check_outputs({"--output": output, "--figure": figure_output(figure)}, overwrite=overwrite)
    if runs:
        kept = read_runs(runs)
        name, report = dataset_of(kept), compare_runs(kept, baseline=baseline, seed=seed)
    else:
        settings = settings_of(setting, chosen if zero_shot is None else [*chosen, TITLE])
        budget = memory_budget(memory)
        if cv is None:
            task = load_task(store, data, features, missing, train_split, test_split, budget)
        else:
            task = load_folds_task(store, data, features, missing, train_split, budget, near=near)
        built = {name: build_head(name, task, settings[name], device=device, seed=seed) for name in chosen}
        options: dict[str, Any] = {"singles": singles, "single_head": single_head, "baseline": baseline, "seed": seed}
        if zero_shot is not None:
            head = build_head(zero_shot_head or "linear", task, settings[TITLE], device=device, seed=seed)
            options["zero_shot"] = load_zero_shot(
                store, zero_shot, head, rules, task=task, train_split=train_split, missing=missing, budget=budget
            )
        name, report = task.dataset, _judged(built, task, cv, repeats, seeds, options)
    _show(report, name, format, figure, output, class_intervals=class_intervals, overwrite=overwrite)


def _show(
    report: Report, name: str, format: str, figure: Path | None, output: Path | None, *, class_intervals: bool,
    overwrite: bool,
) -> None:  # fmt: skip
    from cer_fusion.fusion.page.figures import draw_confusions

    try:  # files first, as whoever reads the table may go away; and the table even where a file cannot be written
        if output is not None:
            say(f"kept [bold]{escape(report.save(output, overwrite=overwrite))}[/]")
        save_picture(
            lambda: draw_confusions([(c.name, c.scores) for c in report.columns]),
            figure,
            Path("runs") / f"{name}-compare.png",
            overwrite=overwrite,
        )
    finally:
        print_table(report, format, class_intervals=class_intervals)


def _judged(heads: dict[str, Any], task: Task, cv: int | None, repeats: int, seeds: int, options: Any) -> Report:
    from cer_fusion.fusion import compare as run_compare
    from cer_fusion.fusion import cross_compare

    if cv is None:
        return run_compare(heads, task.train, task.test, seeds=seeds, **options)
    with progress_bar() as step:
        return cross_compare(
            heads,
            task.train,
            folds=cv,
            repeats=repeats,
            progress=lambda done, total: step("fits", done, total),
            **options,
        )


def named_heads(text: str | None) -> list[str]:
    """The heads that `--heads` names: the usual ones when it is not given, every one that is installed for `all`."""
    return list(installed_heads()) if text == "all" else split_list(text) or list(USUAL)


def settings_of(entries: list[str] | None, heads: list[str]) -> dict[str, dict[str, object]]:
    """`--set HEAD.key=value` options, by head."""
    found: dict[str, dict[str, object]] = {name: {} for name in heads}
    for key, value in key_values(entries, "--set").items():
        head, dot, name = key.partition(".")
        if not dot or head not in found:
            raise typer.BadParameter(
                f"expected HEAD.key=value with HEAD one of {', '.join(heads)}, however: {key!r}", param_hint="--set"
            )
        found[head][name] = value
    return found
