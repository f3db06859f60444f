"""`cer-feat extract` and `cer-feat backbones`: embed every sample once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from commands.console import escape, out, out_json, out_table, progress_bar, say, show_logs
from commands.options import (
    DEFAULT_STORE,
    Data,
    DatasetName,
    Device,
    Json,
    Root,
    Seed,
    StorePath,
    key_values,
    manifest_and_dataset,
)
from commands.part import part_of
from commands.workers import arguments_again, run_workers

if TYPE_CHECKING:
    from featstore import ExtractReport, Feature, Store


def backbones(as_json: Json = False) -> None:
    """List the backbones: blocks, input, parameters, default weights.

    Example: cer-feat backbones
    """
    from backbones import catalogue

    rows = catalogue()
    if as_json:
        out_json(rows)
        return
    table = []
    for row in rows:
        blocks = ", ".join(f"{name} {width}" for name, width in (row["blocks"] or {}).items()) or "the model's"
        size = f"{row['size_px']} px" if row["size_px"] else "the model's"
        missing = "the model's" if "<" in row["name"] else "none: name them"
        parameters = f"{row['parameters']:,}" if row["parameters"] else "-"
        table.append([row["name"], blocks, size, parameters, row["default_weights"] or missing])
    out_table(["backbone", "blocks", "input", "parameters", "default weights"], table, left=5)
    for row in rows:
        options = ", ".join(f"{name}={value}" for name, value in row["options"].items())
        out(f"{row['name']}: {row['note']}\n  --option {options}")


def extract(
    ctx: typer.Context,
    backbone: Annotated[
        str, typer.Option("--backbone", "-b", help="vit, manet, resnet50, timm:<name> or onnx:<file>; see backbones.")
    ],
    data: Data = None,
    store: StorePath = DEFAULT_STORE,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", "-w", help="pretrained, a timm tag, a file, or random.", show_default="the backbone's"
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-O", help="The backbone's own, key=value: flow=legacy, tap=pool2048, img_size=112."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", help="What the feature is called.", show_default="the backbone")
    ] = None,
    dataset: DatasetName = None,
    root: Root = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per forward pass.")] = 32,
    readers: Annotated[int, typer.Option(min=1, help="Threads that read and decode.")] = 2,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine, each with its share.")] = 1,
    shard_index: Annotated[
        int | None, typer.Option("--shard-index", min=0, help="Which part this is.", show_default="RANK or Slurm's")
    ] = None,
    num_shards: Annotated[
        int | None,
        typer.Option(
            "--num-shards", min=1, help="Parts the work is divided into.", show_default="WORLD_SIZE or Slurm's"
        ),
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="What the network computes in: float32, bfloat16, float16.")
    ] = "float32",
    dtype: Annotated[str, typer.Option(help="What rows are stored in: float32 or float16.")] = "float32",
    shard_rows: Annotated[int, typer.Option(min=1, help="Samples a shard; a kill loses at most one.")] = 2048,
    max_errors: Annotated[
        float, typer.Option(help="Share of unusable pictures at which to stop; up to ten never stop a run, unless 0.")
    ] = 0.01,
    assume_unchanged: Annotated[
        bool, typer.Option("--assume-unchanged", help="Do not re-read pictures to see whether they changed.")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Embed every sample that has no row yet. Run it again after a kill, a new picture, a changed label.

    Example: cer-feat extract --backbone resnet50 --data rafdb.csv --store features
    """
    from backbones import create
    from featstore import Store
    from featstore import extract as run_extract

    show_logs()
    manifest, dataset_name = manifest_and_dataset(data, store, dataset=dataset, root=root)
    part = part_of(shard_index, num_shards, os.environ)
    opened = Store.create(store)
    if workers > 1:
        tell_extract(_extract_with(workers, part, ctx), opened, dataset_name, as_json=as_json)
        return
    embedder = create(
        backbone,
        weights=weights,
        seed=seed,
        device=_device(device),
        precision=precision,
        **key_values(option, "--option"),
    )
    if embedder.piece and batch_size % embedder.piece:
        say(
            f"note: on the CPU {escape(backbone)} computes {embedder.piece} pictures at a time and fills "
            f"up what is missing; a batch size that is a multiple of {embedder.piece} wastes nothing"
        )
    chosen: Literal["float32", "float16"] = _dtype(dtype)
    with progress_bar() as step:
        report = run_extract(
            embedder,
            manifest,
            opened,
            dataset=dataset_name,
            name=name,
            batch_size=batch_size,
            shard_rows=shard_rows,
            dtype=chosen,
            max_errors=max_errors,
            readers=readers,
            part=part,
            assume_unchanged=assume_unchanged,
            progress=step,
        )
    tell_extract(report, opened, dataset_name, as_json=as_json)


def _extract_with(workers: int, part: tuple[int, int], ctx: typer.Context) -> ExtractReport:
    """Have several processes run this very command, each with a share of this process's part."""
    from featstore import ExtractReport

    k, n = part
    with progress_bar() as step:
        found = run_workers(
            lambda j: arguments_again(ctx, workers=1, shard_index=k + n * j, num_shards=n * workers, as_json=True),
            workers,
            step,
        )
    return ExtractReport.merged([ExtractReport(**entry) for entry in found])


def tell_extract(report: ExtractReport, store: Store, dataset: str, *, as_json: bool = False) -> None:
    """Print what a run did, and what its user should know."""
    rate = f", {report.embedded / report.elapsed_s:,.1f} pictures/s" if report.embedded and report.elapsed_s else ""
    others = f"{report.by_others:,} done meanwhile by another run, " if report.by_others else ""
    say(
        f"[bold]{escape(report.feature)}[/]: {report.samples:,} samples, {report.already:,} there already, {others}"
        f"{report.embedded:,} embedded, {report.shared:,} shared with an identical picture "
        f"({report.elapsed_s:,.1f} s{rate})"
    )
    if report.quarantined:
        folder = store.path / dataset / report.feature
        say(f"[yellow]{len(report.quarantined):,} pictures in quarantine[/]: {escape(folder / 'quarantine.csv')}")
        for sample_id, reason in list(report.quarantined.items())[:3]:
            say(f"  {escape(sample_id)}: {escape(reason)}")
    if report.repeated_across_splits:
        say(f"[yellow]{report.repeated_across_splits:,} pictures are in more than one split[/], so scores flatter")
    _tell_siblings(store.feature(report.feature, dataset), store.features(dataset))
    if as_json:
        out_json(vars(report))


def _tell_siblings(feature: Feature, features: list[Feature]) -> None:
    """Name what sets this feature apart from others of its name."""
    from featstore.spec import differences

    for other in features:
        if other.name == feature.name and other.label != feature.label:
            fields = ", ".join(field for field, _, _ in differences(other.spec, feature.spec))
            say(f"note: {escape(other.label)} is there too; they differ in {escape(fields)}")


def _device(device: str) -> str:
    """For `auto` in one of several processes on a machine with several GPUs: a GPU of its own, by `LOCAL_RANK`."""
    number = os.environ.get("LOCAL_RANK", "")
    if device != "auto" or not number.isdecimal():
        return device
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{int(number) % count}" if count > 1 else device


def _dtype(text: str) -> Literal["float32", "float16"]:
    if text == "float32":
        return "float32"
    if text == "float16":
        return "float16"
    raise typer.BadParameter("must be float32 or float16", param_hint="--dtype")
