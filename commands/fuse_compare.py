"""`cer-fuse compare`: heads and single backbones side by side, in the paper's layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.console import escape, progress_bar, say
from commands.fuse_train import Setting, build_head
from commands.kept_runs import Runs, dataset_of, read_runs, refuse_options
from commands.options import (
    DEFAULT_STORE,
    Data,
    Device,
    Features,
    Memory,
    Missing,
    Seed,
    StorePath,
    key_values,
    memory_budget,
    split_list,
)
from commands.render import FigurePath, ResultPath, TableFormat, check_format, print_table, save_picture
from commands.task import Task, TestSplit, TrainSplit, load_folds_task, load_task
from commands.zero_shot_rows import TITLE, Rules, ZeroShotDataset, ZeroShotHead, load_zero_shot
from fusion.heads import USUAL, head_names, installed_heads  # light: no head is imported before it is asked for

if TYPE_CHECKING:
    from fusion import Report


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
    data: Data = None,
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
    from fusion.runs.comparison import compare_runs

    check_format(format)
    if runs:
        refuse_options(ctx, {"baseline", "class_intervals", "format", "figure", "output", "seed"})
        kept = read_runs(runs)
        name, report = dataset_of(kept), compare_runs(kept, baseline=baseline, seed=seed)
    else:
        _check_runs(cv, repeats, seeds, near, test_split)
        if zero_shot is None and (rules or zero_shot_head):
            raise typer.BadParameter("says how --zero-shot DATASET answers: name the dataset", param_hint="--rules")
        chosen = named_heads(heads)
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
    _show(report, name, format, figure, output, class_intervals=class_intervals)


def _show(
    report: Report, name: str, format: str, figure: Path | None, output: Path | None, *, class_intervals: bool
) -> None:
    from fusion.confusion_figure import draw_confusions

    try:  # files first, as whoever reads the table may go away; and the table even where a file cannot be written
        if output is not None:
            say(f"kept [bold]{escape(report.save(output))}[/]")
        save_picture(
            lambda: draw_confusions([(c.name, c.scores) for c in report.columns]),
            figure,
            Path("runs") / f"{name}-compare.png",
        )
    finally:
        print_table(report, format, class_intervals=class_intervals)


def _check_runs(cv: int | None, repeats: int, seeds: int, near: float | None, test_split: str | None) -> None:
    if cv is None and repeats > 1:
        raise typer.BadParameter("repeats are of a cross-validation: give --cv 5 as well", param_hint="--repeats")
    if cv is None and near is not None:
        raise typer.BadParameter("near-duplicates are kept in one fold of --cv; see cer-fuse diagnose for a test split")
    if cv is not None and seeds > 1:
        raise typer.BadParameter("with --cv every repeat has seeds of its own: use --repeats", param_hint="--seeds")
    if cv is not None and test_split is not None:
        raise typer.BadParameter("--cv judges on the rows it learns from, fold by fold", param_hint="--test-split")


def _judged(heads: dict[str, Any], task: Task, cv: int | None, repeats: int, seeds: int, options: Any) -> Report:
    from fusion import compare as run_compare
    from fusion import cross_compare

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
