"""`cer-fuse compare`: heads and single backbones side by side, in the paper's layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from commands.console import escape, say
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
from commands.task import TestSplit, TrainSplit, load_task

if TYPE_CHECKING:
    from fusion import Report


def compare(
    ctx: typer.Context,
    runs: Runs = None,
    heads: Annotated[
        str | None, typer.Option("--heads", help="Comma-separated: mlp,linear,late.", show_default="all")
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

    Settings of one head are written HEAD.key=value: --set mlp.hidden=[512] --set linear.C=0.1

    Given run folders of cer-fuse train, it fits nothing: the same table from the predictions they keep.

    Example: cer-fuse compare --heads mlp,linear,late --figure confusion.png
    """
    from fusion import compare as run_compare
    from fusion import head_names
    from fusion.run_comparison import compare_runs

    check_format(format)
    if runs:
        refuse_options(ctx, {"baseline", "format", "figure", "output", "seed"})
        kept = read_runs(runs)
        _show(compare_runs(kept, baseline=baseline, seed=seed), dataset_of(kept), format, figure, output)
        return
    chosen = split_list(heads) or list(head_names())
    settings = settings_of(setting, chosen)
    task = load_task(store, data, features, missing, train_split, test_split, memory_budget(memory))
    built = {name: build_head(name, task, settings[name], device=device, seed=seed) for name in chosen}
    report = run_compare(
        built, task.train, task.test, singles=singles, single_head=single_head, baseline=baseline, seed=seed
    )
    _show(report, task.dataset, format, figure, output)


def _show(report: Report, name: str, format: str, figure: Path | None, output: Path | None) -> None:
    from fusion.confusion_figure import draw_confusions

    print_table(report, format)
    if output is not None:
        say(f"kept [bold]{escape(report.save(output))}[/]")
    save_picture(
        lambda: draw_confusions([(c.name, c.scores) for c in report.columns]),
        figure,
        Path("runs") / f"{name}-compare.png",
    )


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
