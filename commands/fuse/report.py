"""`cer-fuse report`: everything in one HTML page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options as opt
from ..console import escape, out_json, progress_bar, say, size_text
from ..data import SIDE_PX, Task, load_task, thumbnails_of
from ..heads import (
    Heads,
    build_head,
    compute,
    datasets_of,
    named_heads,
    read_runs,
    settings_of,
    store_of_run,
    targeted,
)
from ..outputs import check_outputs, put

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...fusion import Report, Sweep
    from ...fusion.page import Section

MOST_VECTORS = 300
"""Weight vectors that the page's sweep may have; its step follows from the number of blocks."""


@opt.forms(
    trained=opt.Form(
        opt.AS_KEPT,
        (
            "heads", "features", "data", "store", "setting", "singles", "sweep", "diagnose", "train_split",
            "test_split", "missing", "near", "memory",
        ),
    ),
    named=opt.Form("is for the diagnosis and --errors, and neither is on the page", ("with_ids",)),
    seen=opt.Form("is for --errors", ("thumbnails", "store")),
    swept=opt.Form("is for the sweep, which --no-sweep leaves out", ("folds",), within="trained"),
    computing=replace(opt.COMPUTING, within="trained"),
)  # fmt: skip
def report(
    ctx: typer.Context,
    runs: opt.Runs = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page to write, .html.", show_default="in runs/")
    ] = None,
    heads: Heads = None,
    features: opt.Features = None,
    data: opt.StoredData = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    setting: opt.Setting = None,
    singles: opt.Singles = True,
    baseline: opt.Baseline = None,
    metrics: opt.MoreMetrics = None,
    sweep: Annotated[bool, typer.Option(help="Sweep the weights of the decisions as well.")] = True,
    folds: Annotated[int, typer.Option(min=2, help="Inner folds that choose the weights.")] = 5,
    diagnose: Annotated[bool, typer.Option(help="Say why as well: a linear head on every subset of features.")] = True,
    errors: Annotated[
        bool, typer.Option("--errors", help="Map the rows by principal components as well, errors marked.")
    ] = False,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="With --errors: put small pictures of the errors into the page.")
    ] = False,
    with_ids: Annotated[
        bool, typer.Option("--with-ids", help="Name the hardest samples, near-duplicates and errors on the page.")
    ] = False,
    title: Annotated[str | None, typer.Option(help="The page's title.", show_default="says what it shows")] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep the comparison as JSON as well.", show_default=False)] = None,
    overwrite: opt.Overwrite = False,
    train_split: opt.TrainSplit = "train",
    test_split: opt.TestSplit = None,
    missing: opt.Missing = "error",
    near: opt.Near = None,
    memory: opt.Memory = None,
    device: opt.Device = "auto",
    as_json: opt.Json = False,
    seed: opt.Seed = 0,
) -> None:
    """Write one HTML page without server or network: tables, figures, configuration, and a weight explorer.

    The page carries what each member says about the test rows: readers move weights and see every figure change.
    Given run folders of cer-fuse train it fits nothing; runs of single backbones are then the explorer's members.

    Example: cer-fuse report --heads mlp,late -o report.html
    """
    from ...fusion.page import write_page
    from ...fusion.page.document import check_page_name

    chosen = named_heads(heads)
    opt.only(
        ctx, trained=not runs, swept=sweep, named=errors or (diagnose and not runs), seen=errors,
        computing=not runs and compute(chosen),
    )  # fmt: skip
    asked = opt.metrics_of(metrics)
    if output is not None:
        check_page_name(output)
    check_outputs({"--output": output, "--keep": keep}, overwrite=overwrite)
    mapping = {"thumbnails": thumbnails, "with_ids": with_ids}
    if runs:
        name, found, sections = _of_runs(runs, baseline, seed, asked)
        if errors:
            sections.insert(1, _errors_of_runs(runs, found, opt.store_asked_for(ctx, store), **mapping))
    else:
        budget = opt.memory_budget(memory)
        task = load_task(store, data, features, missing, train_split, test_split, budget, near=near)
        task = targeted(task, chosen)
        name, options = task.dataset, {"device": device, "seed": seed}
        found = _compared(task, chosen, setting, options, singles=singles, baseline=baseline, metrics=asked)
        mixing = _mixed(task, found, options, folds=folds if sweep else None)
        why = _why(task, seed, with_ids=with_ids) if diagnose and len(task.train.by_feature()) > 1 else []
        sections = _pieced(found, [*mixing, *why], digests={})
        if errors:
            sections.insert(1, _errors(found, task.test.blocks, store, task.dataset, **mapping))
    title = title or f"{name}: {len(found.columns)} systems compared"
    level = f"{100 * found.level:g} %"
    subtitle = f"{found.rows}, {len(found.classes)} classes; percentages with {level} intervals"
    path = put(
        lambda path, over: write_page(path, title, sections, subtitle=subtitle, overwrite=over),
        output,
        Path("runs") / f"{name}-report.html",
        overwrite=overwrite,
    )
    if keep is not None:
        say(f"kept [bold]{escape(found.save(keep, overwrite=overwrite))}[/]")
    say(f"wrote [bold]{escape(path)}[/]: open it in a browser, or send it; it is one file")
    if as_json:
        out_json({"page": str(path), "kept": keep and str(keep), "comparison": found.to_dict()})


def _compared(
    task: Task, names: list[str], setting: list[str] | None, options: dict[str, Any], **compared: Any
) -> Report:
    from ...fusion import compare as run_compare

    settings = settings_of(setting, names)
    built = {name: build_head(name, task, settings[name], **options) for name in names}
    with progress_bar() as step:
        return run_compare(
            built, task.train, task.test, seed=options["seed"],
            progress=lambda done, total, title: step("fits", done, total, title), **compared,
        )  # fmt: skip


def _mixed(task: Task, found: Report, options: dict[str, Any], *, folds: int | None) -> list[Section]:
    """The explorer over one member a block, and the sweep that chooses its first weights."""
    from ...fusion.heads.base import fit_part
    from ...fusion.judging.comparison import members_of_head
    from ...fusion.page.sections import explorer_section, sweep_section

    if len(task.train.blocks) < 2:
        say("one block only: there is nothing to mix, and the page has no explorer")
        return []
    late = next((column.fitted for column in found.columns if hasattr(column.fitted, "member_proba")), None)
    if late is None:
        with progress_bar() as step:
            step("members", 0, None, "late")
            late = fit_part(build_head("late", task, {}, **options), task.train.x(), task.train.y, task.train.clusters)
    swept = None if folds is None else _swept(late, task, folds, options["seed"])
    explorer = explorer_section(members_of_head(late, task.test), mix=late.mix, sweep=swept)
    return [explorer, *([] if swept is None else [sweep_section(swept)])]


def _swept(late: Any, task: Task, folds: int, seed: int) -> Sweep:
    from sklearn.base import clone

    from ...fusion import sweep as run_sweep
    from ...fusion.data.blocks import even_simplex

    members: Any = clone(late).set_params(
        calibrate=late.calibrate or isinstance(late.weights, str)
    )  # as the explorer's are
    grid = even_simplex(tuple(task.train.blocks), MOST_VECTORS)
    with progress_bar() as step:
        return run_sweep(
            members,
            grid,
            task.train,
            task.test,
            folds=folds,
            seed=seed,
            progress=lambda done, total: step("sweep", done, total),
        )


def _why(task: Task, seed: int, *, with_ids: bool) -> list[Section]:
    from ...fusion.judging.diagnosis import diagnose
    from ...fusion.page.sections import diagnosis_section

    with progress_bar() as step:
        found = diagnose(
            task.train, task.test, players="features", seed=seed, progress=lambda done, total: step("why", done, total)
        )
    return [diagnosis_section(found, with_ids=with_ids)]


def _errors(
    found: Report, blocks: Mapping[str, Any], store: Path, dataset: str, *, thumbnails: bool, with_ids: bool
) -> Section:
    """The map of the errors; `blocks` has the report's rows in its order."""
    import numpy as np

    from ...featstore import Store
    from ...fusion.judging.plane import principal
    from ...fusion.page.sections import errors_section

    with progress_bar() as step:
        step("map", 0, None, "principal components")
        places, shares = principal(blocks)
        pictures: dict[int, bytes] = {}
        if thumbnails:
            manifest = Store(store).manifest(dataset)
            path_of = {sample.sample_id: sample.path for sample in manifest.samples}
            wrong = np.flatnonzero(np.any([c.y_pred != found.y_true for c in found.columns], axis=0)).tolist()
            made = thumbnails_of(manifest.root, [path_of[found.ids[row]] for row in wrong], SIDE_PX, step)
            pictures = {row: one for row, one in zip(wrong, made, strict=True) if one is not None}
    if pictures:
        size = size_text(sum(map(len, pictures.values())))
        say(f"[yellow]the page holds pictures[/] of {len(pictures):,} samples ({size}): mind whom you send it to")
    return errors_section(found, places, shares.tolist(), thumbnails=pictures, with_ids=with_ids)


def _errors_of_runs(
    folders: Sequence[Path], found: Report, asked: Path | None, *, thumbnails: bool, with_ids: bool
) -> Section:
    """The same of kept runs: the features of all of them, in the store asked for, else in the first one's own."""
    from ...featstore import Store
    from ...fusion.data.joined import taken

    runs = read_runs(folders)
    first = next(iter(runs.values())).config
    store = store_of_run(folders[0], asked)
    blocks: dict[str, Any] = {}
    for run in runs.values():
        view = Store(store).view(
            [name for name, _ in run.config.blocks], dataset=first.dataset, split=first.test_split, missing="drop",
            fingerprints=run.config.fingerprints, mapped=True,
        )  # fmt: skip
        at = {name: i for i, name in enumerate(view.ids)}
        if gone := [name for name in found.ids if name not in at]:
            raise typer.BadParameter(
                f"{len(gone):,} rows that were judged are not in {store} any more (first: {gone[0]})",
                param_hint="--errors",
            )
        blocks |= taken(view.blocks, [at[name] for name in found.ids])
    return _errors(found, blocks, store, first.dataset, thumbnails=thumbnails, with_ids=with_ids)


def _of_runs(
    folders: Sequence[Path], baseline: str | None, seed: int, metrics: tuple[str, ...]
) -> tuple[str, Report, list[Section]]:
    from ...fusion.judging.comparison import members_of_report
    from ...fusion.keeping.comparison import compare_runs
    from ...fusion.page.sections import explorer_section

    runs = read_runs(folders)
    found = compare_runs(runs, baseline=baseline, seed=seed, metrics=metrics)
    first = next(iter(runs.values()))  # the comparison has its rows in its order
    members = members_of_report(found, {name: run.config.features for name, run in runs.items()}, first.groups)
    if members is None:
        say("fewer than two runs of different single backbones: the page has no explorer")
    mixing = [] if members is None else [explorer_section(members)]
    digests = {f"run {name}": run.digest for name, run in runs.items()}
    return datasets_of(runs), found, _pieced(found, mixing, digests=digests)


def _pieced(found: Report, mixing: list[Section], *, digests: dict[str, str]) -> list[Section]:
    from ...fusion.keeping.runs import platform_and_libraries
    from ...fusion.page.sections import configuration_section, provenance_section, report_sections

    results, matrices = report_sections(found)
    origin = provenance_section(found, digests=digests, environment=None if digests else platform_and_libraries())
    return [results, *mixing, matrices, configuration_section(found), origin]
