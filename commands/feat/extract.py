"""`cer-feat extract` and `cer-feat backbones`: embed every sample once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from cer_fusion.commands.chosen_backbones import chosen_backbones
from cer_fusion.commands.console import PROGRESS_VARIABLE, escape, out, out_json, out_table, say, show_logs
from cer_fusion.commands.extract_bar import extract_bar
from cer_fusion.commands.feat.frames import tell_frames_from_zero
from cer_fusion.commands.options import (
    DEFAULT_STORE,
    Data,
    DatasetName,
    Device,
    Json,
    ReplaceManifest,
    Root,
    Seed,
    StorePath,
    manifest_and_dataset,
    tell_change,
)
from cer_fusion.commands.part import part_of
from cer_fusion.commands.workers import arguments_again, run_workers

if TYPE_CHECKING:
    from cer_fusion.featstore import ExtractReport, Feature, Store


def backbones(as_json: Json = False) -> None:
    """List the backbones: blocks, input, parameters, default weights.

    Example: cer-feat backbones
    """
    from cer_fusion.backbones import catalogue

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
        list[str],
        typer.Option(
            "--backbone",
            "-b",
            help="vit, manet, resnet50, timm:<name> or onnx:<file>; see backbones. Several share one pass.",
        ),
    ],
    data: Data = None,
    store: StorePath = DEFAULT_STORE,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            "-w",
            help="pretrained, a timm tag, a file, or random; BACKBONE=… for one of several.",
            show_default="the backbone's",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-O",
            help="The backbone's own, key=value: flow=legacy, tap=pool2048, img_size=112; BACKBONE=key=value for one "
            "of several.",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--as", help="What the feature is called; BACKBONE=… for one of several.", show_default="the backbone"
        ),
    ] = None,
    dataset: DatasetName = None,
    root: Root = None,
    batch_size: Annotated[
        str, typer.Option(help="Pictures per forward pass; auto begins large and halves when memory does not suffice.")
    ] = "32",
    readers: Annotated[int, typer.Option(min=1, help="Threads that read and decode.")] = 2,
    reader_processes: Annotated[
        int, typer.Option("--reader-processes", min=0, help="Processes that decode instead; 0: threads do.")
    ] = 0,
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
    views: Annotated[
        str, typer.Option(help="Each row is the mean over these: none, flip, five-crop, five-crop+flip.")
    ] = "none",
    compiled: Annotated[bool, typer.Option("--compile", help="Translate the network with torch.compile.")] = False,
    dtype: Annotated[str, typer.Option(help="What rows are stored in: float32 or float16.")] = "float32",
    shard_rows: Annotated[int, typer.Option(min=1, help="Samples a shard; a kill loses at most one.")] = 2048,
    max_errors: Annotated[
        float, typer.Option(help="Share of unusable pictures at which to stop; up to ten never stop a run, unless 0.")
    ] = 0.01,
    assume_unchanged: Annotated[
        bool, typer.Option("--assume-unchanged", help="Do not re-read pictures to see whether they changed.")
    ] = False,
    retry_quarantined: Annotated[
        bool, typer.Option("--retry-quarantined", help="Try all pictures in quarantine again, changed or not.")
    ] = False,
    replace_manifest: ReplaceManifest = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Embed every sample that has no row yet. Run it again after a kill, a new picture, a changed label.

    Several backbones make one pass: each picture is read and decoded once for all of them.

    Example: cer-feat extract --backbone resnet50 --data rafdb.csv --store features
    """
    from cer_fusion.featstore import Store
    from cer_fusion.featstore import extract as run_extract
    from cer_fusion.featstore.extraction.embedding import Meter

    show_logs()
    chosen = chosen_backbones(backbone, weights or [], option or [], name or [])
    size, stored = _batch_size(batch_size), _dtype(dtype)
    manifest, dataset_name = manifest_and_dataset(data, store, dataset=dataset, root=root)
    if PROGRESS_VARIABLE not in os.environ:  # else the process that this one works for says it
        tell_frames_from_zero(manifest.ids)
    part = part_of(shard_index, num_shards, os.environ)
    opened = Store.create(store)
    tell_change(opened, dataset_name, manifest, replace_manifest=replace_manifest)
    if workers > 1:
        tell_extracts(_extract_with(workers, part, ctx), opened, dataset_name, as_json=as_json)
        return
    embedders = [
        one.create(seed=seed, device=_device(device, one.backbone), precision=precision, views=views, compiled=compiled)
        for one in chosen
    ]
    for embedder in embedders:
        if size != "auto" and embedder.piece and size % embedder.piece:
            say(
                f"note: on the CPU {escape(embedder.name)} computes {embedder.piece} pictures at a time and fills "
                f"up what is missing; a batch size that is a multiple of {embedder.piece} wastes nothing"
            )
    meter = Meter()
    with extract_bar(lambda: meter.busy) as step:
        reports = run_extract(
            embedders,
            manifest,
            opened,
            dataset=dataset_name,
            name=[one.feature for one in chosen],
            batch_size=size,
            shard_rows=shard_rows,
            dtype=stored,
            max_errors=max_errors,
            readers=readers,
            reader_processes=reader_processes,
            part=part,
            assume_unchanged=assume_unchanged,
            retry_quarantined=retry_quarantined,
            replace_manifest=replace_manifest,
            progress=step,
            meter=meter,
        )
    tell_extracts(reports, opened, dataset_name, as_json=as_json)


def _extract_with(workers: int, part: tuple[int, int], ctx: typer.Context) -> list[ExtractReport]:
    """Have several processes run this very command, each with a share of this process's part."""
    from cer_fusion.featstore import ExtractReport

    k, n = part
    busy: dict[int, float] = {}
    with extract_bar(lambda: sum(busy.values()) / max(1, len(busy))) as step:
        found = run_workers(
            lambda j: arguments_again(ctx, workers=1, shard_index=k + n * j, num_shards=n * workers, as_json=True),
            workers,
            step,
            busy=busy,
        )
    of_workers = [entries if isinstance(entries, list) else [entries] for entries in found]
    return [
        ExtractReport.merged([ExtractReport(**entry) for entry in of_feature])
        for of_feature in zip(*of_workers, strict=True)
    ]


def tell_extracts(reports: list[ExtractReport], store: Store, dataset: str, *, as_json: bool = False) -> None:
    """Print what a run made of each of its features, and what bounded it."""
    from cer_fusion.featstore.extraction.run import bottleneck

    for report in reports:
        tell_extract(report, store, dataset, bound=len(reports) == 1)
    if len(reports) > 1:
        elapsed, bound = max(report.elapsed_s for report in reports), bottleneck(reports)
        say(f"{len(reports)} features in one pass: {elapsed:,.1f} s" + (f", bound by {bound}" if bound else ""))
    if as_json:
        out_json([vars(report) for report in reports] if len(reports) > 1 else vars(reports[0]))


def tell_extract(report: ExtractReport, store: Store, dataset: str, *, bound: bool = True) -> None:
    """Print what a run did, and what its user should know; with `bound`, what kept it from being faster."""
    from cer_fusion.featstore.extraction.run import bottleneck

    rate = f", {report.embedded / report.elapsed_s:,.1f} pictures/s" if report.embedded and report.elapsed_s else ""
    others = f"{report.by_others:,} done meanwhile by another run, " if report.by_others else ""
    limit = f", bound by {bottleneck([report])}" if bound and report.embedded and bottleneck([report]) else ""
    say(
        f"[bold]{escape(report.feature)}[/]: {report.samples:,} samples, {report.already:,} there already, {others}"
        f"{report.embedded:,} embedded, {report.shared:,} shared with an identical picture "
        f"({report.elapsed_s:,.1f} s{rate}{limit})"
    )
    if report.quarantined:
        folder = store.path / dataset / report.feature
        say(f"[yellow]{len(report.quarantined):,} pictures in quarantine[/]: {escape(folder / 'quarantine.csv')}")
        for sample_id, reason in list(report.quarantined.items())[:3]:
            say(f"  {escape(sample_id)}: {escape(reason)}")
    if report.unread:
        say(
            f"[yellow]{len(report.unread):,} of them could not be read[/], first: {escape(report.unread[0])}; run the "
            f"same command again to try them again"
        )
    if report.repeated_across_splits:
        say(f"[yellow]{report.repeated_across_splits:,} pictures are in more than one split[/], so scores flatter")
    _tell_siblings(store.feature(report.feature, dataset), store.usable_features(dataset))


def _tell_siblings(feature: Feature, features: list[Feature]) -> None:
    """Name what sets this feature apart from others of its name."""
    from cer_fusion.featstore.rows.spec import differences

    for other in features:
        if other.name == feature.name and other.label != feature.label:
            fields = ", ".join(field for field, _, _ in differences(other.spec, feature.spec))
            say(f"note: {escape(other.label)} is there too; they differ in {escape(fields)}")


def _device(device: str, backbone: str) -> str:
    """For `auto` in one of several processes on a machine with several GPUs: a GPU of its own, by `LOCAL_RANK`."""
    number = os.environ.get("LOCAL_RANK", "")
    if device != "auto" or not number.isdecimal():
        return device
    if backbone.startswith("onnx:"):
        from cer_fusion.backbones.onnx_session import build_has_cuda

        if not build_has_cuda():  # torch's GPUs are none of an onnxruntime that knows only the CPU
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


def _batch_size(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise typer.BadParameter(f"must be a number from 1, or auto, however: {text!r}", param_hint="--batch-size")
