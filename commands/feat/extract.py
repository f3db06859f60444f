"""`cer-feat extract`: embed every sample once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .. import options as opt
from ..console import PROGRESS_VARIABLE, Progress, escape, progress_bar, say, show_logs
from ..data import manifest_and_dataset, tell_change, tell_extracts, tell_frames_from_zero
from ..parts import arguments_again, part_of, run_workers

if TYPE_CHECKING:
    from ...backbones import Backbone
    from ...featstore import ExtractReport


@opt.forms(aligned=opt.Form("says how faces are cut out, and that is for --align", (*opt.CROPPED, "no_face")))
def extract(
    ctx: typer.Context,
    backbone: Annotated[
        list[str],
        typer.Option(
            "--backbone",
            "-b",
            help="vit, manet, resnet50, poster, …, timm:<name>, onnx:<file>, or your own as <file.py>:<Class>; see "
            "backbones. Several share one pass.",
        ),
    ],
    data: opt.Data = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
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
    dataset: opt.DatasetName = None,
    root: opt.Root = None,
    batch_size: Annotated[
        str, typer.Option(help="Pictures per forward pass; auto begins large and halves when memory does not suffice.")
    ] = "auto",
    readers: opt.Readers = None,
    reader_processes: opt.ReaderProcesses = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine, each with its share.")] = 1,
    part: Annotated[
        int | None, typer.Option("--part", min=0, help="Which part this is.", show_default="RANK or Slurm's")
    ] = None,
    parts: Annotated[
        int | None,
        typer.Option("--parts", min=1, help="Parts the work is divided into.", show_default="WORLD_SIZE or Slurm's"),
    ] = None,
    device: opt.Device = "auto",
    precision: Annotated[
        opt.Precision, typer.Option(help="What the network computes in; tf32 on CUDA alone.")
    ] = "float32",
    views: Annotated[
        Literal["none", "flip", "five-crop", "five-crop+flip"], typer.Option(help="Each row is the mean over these.")
    ] = "none",
    align: Annotated[
        bool, typer.Option("--align", help="Find the face in each picture and cut it out, at the network's own size.")
    ] = False,
    crop: opt.Crop = "arcface112",
    margin: opt.Margin = None,
    detector: opt.DetectorName = "mtcnn",
    points: opt.PointsOf = None,
    no_face: Annotated[
        Literal["resize", "refuse"],
        typer.Option("--no-face", help="Pictures without a face: resized whole and counted, or put into quarantine."),
    ] = "resize",
    compiled: Annotated[bool, typer.Option("--compile", help="Translate the network with torch.compile.")] = False,
    dtype: Annotated[Literal["float32", "float16"], typer.Option(help="What rows are stored in.")] = "float32",
    shard_rows: Annotated[int, typer.Option(min=1, help="Samples a shard; a kill loses at most one.")] = 2048,
    max_errors: opt.MaxErrors = 0.01,
    assume_unchanged: Annotated[
        bool, typer.Option("--assume-unchanged", help="Do not re-read pictures to see whether they changed.")
    ] = False,
    retry_quarantined: Annotated[
        bool, typer.Option("--retry-quarantined", help="Try all pictures in quarantine again, changed or not.")
    ] = False,
    replace_manifest: opt.ReplaceManifest = False,
    log: Annotated[
        Path | None, typer.Option("--log", help="File that rate and time left are appended to, a line a minute.")
    ] = None,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Embed every sample that has no row yet. Run it again after a kill, a new picture, a changed label.

    Several backbones make one pass: each picture is read and decoded once for all of them.

    Networks for faces were trained on aligned ones; what the pictures are may be loose crops, such as FER+'s: --align
    cuts the face out of each on the way in, as the network's training pictures were. It is part of the feature.

    Example: cer-feat extract --backbone resnet50 --data rafdb.csv --store features

    Example: cer-feat extract --backbone onnx:faces.onnx -O size_px=112 … --align --crop arcface112 --data ferplus.csv
    """
    from ...featstore import Store
    from ...featstore import extract as run_extract
    from ...featstore.extraction.reading import Meter

    show_logs()
    opt.only(ctx, aligned=align)
    chosen = chosen_backbones(backbone, weights or [], option or [], name or [])
    size = _batch_size(batch_size)
    manifest, dataset_name = manifest_and_dataset(data, store, dataset=dataset, root=root)
    if PROGRESS_VARIABLE not in os.environ:  # else the process that this one works for says it
        tell_frames_from_zero(manifest.ids)
    share = part_of(part, parts, os.environ)
    opened = Store.create(store)
    tell_change(opened, dataset_name, manifest, replace_manifest=replace_manifest)
    if workers > 1:
        tell_extracts(_extract_with(workers, share, ctx, log), opened, dataset_name, as_json=as_json)
        return
    embedders = [
        one.create(seed=seed, device=_device(device, one.backbone), precision=precision, views=views, compiled=compiled)
        for one in chosen
    ]
    if align:
        _align(embedders, detector, points, crop, margin, no_face)
    for embedder in embedders:
        if size != "auto" and embedder.piece and size % embedder.piece:
            say(
                f"note: on the CPU {escape(embedder.name)} computes {embedder.piece} pictures at a time and fills "
                f"up what is missing; a batch size that is a multiple of {embedder.piece} wastes nothing"
            )
    threads, processes = opt.readers_for([one.device for one in embedders], readers, reader_processes)
    meter = Meter()
    with _bar(lambda: meter.busy, log) as step:
        reports = run_extract(
            embedders,
            manifest,
            opened,
            dataset=dataset_name,
            name=[one.feature for one in chosen],
            batch_size=size,
            shard_rows=shard_rows,
            dtype=dtype,
            max_errors=max_errors,
            readers=threads,
            reader_processes=processes,
            part=share,
            assume_unchanged=assume_unchanged,
            retry_quarantined=retry_quarantined,
            replace_manifest=replace_manifest,
            progress=step,
            meter=meter,
        )
    tell_extracts(reports, opened, dataset_name, as_json=as_json)


def _extract_with(workers: int, part: tuple[int, int], ctx: typer.Context, log: Path | None) -> list[ExtractReport]:
    """Have several processes run this very command, each with a share of this process's part."""
    from ...featstore import ExtractReport

    k, n = part
    busy: dict[int, float] = {}
    with _bar(lambda: sum(busy.values()) / max(1, len(busy)), log) as step:
        found = run_workers(
            lambda j: arguments_again(ctx, workers=1, part=k + n * j, parts=n * workers, as_json=True),
            workers,
            step,
            busy=busy,
        )
    of_workers = [entries if isinstance(entries, list) else [entries] for entries in found]
    return [
        ExtractReport.merged([ExtractReport(**entry) for entry in of_feature])
        for of_feature in zip(*of_workers, strict=True)
    ]


def _align(
    embedders: Sequence[Backbone], detector: str, points: str | None, crop: Any, margin: float | None, no_face: str
) -> None:
    """Have all of them cut faces out in one way, so that each is looked for once."""
    from ...frames import LooseCrops, detector_for_crops

    faces = LooseCrops(detector=detector_for_crops(detector, points=points), convention=crop, margin=margin)
    for embedder in embedders:
        embedder.take_faces(faces, missing=no_face)


def _device(device: str, backbone: str) -> str:
    """For `auto` in one of several processes on a machine with several GPUs: a GPU of its own, by `LOCAL_RANK`."""
    number = os.environ.get("LOCAL_RANK", "")
    if device != "auto" or not number.isdecimal():
        return device
    if backbone.startswith("onnx:"):
        from ...backbones.zoo.onnx_model import build_has_cuda

        if not build_has_cuda():  # torch's GPUs are none of an onnxruntime that knows only the CPU
            return device
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{int(number) % count}" if count > 1 else device


def _batch_size(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise typer.BadParameter(f"must be a number from 1, or auto, however: {text!r}", param_hint="--batch-size")


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """One backbone as the command line describes it."""

    backbone: str
    """What `cer_fusion.backbones.create` is asked for."""
    weights: str | None
    options: dict[str, Any]
    feature: str | None
    """What the feature is called; None for the backbone's own name."""

    def create(
        self, *, seed: int, device: str, precision: str, views: str = "none", compiled: bool = False
    ) -> Backbone:
        """Make the backbone."""
        from ...backbones import create

        made = create(
            self.backbone, weights=self.weights, seed=seed, device=device, precision=precision, **self.options
        )
        made.take_views(views)
        if compiled:
            from ...backbones.torch_backbone import TorchBackbone

            if not isinstance(made, TorchBackbone):
                raise typer.BadParameter(
                    f"{self.backbone} is no torch network: there is nothing to compile", param_hint="--compile"
                )
            made.compile_network()
        return made


def chosen_backbones(
    backbones: Sequence[str], weights: Sequence[str], options: Sequence[str], features: Sequence[str]
) -> list[Chosen]:
    """Deal `--weights`, `--option` and `--as` to the backbones: plainly for one, as NAME=… for several.

    Raises
    ------
    typer.BadParameter
        If a backbone is named twice, or a value is for none of them, or twice for one.
    """
    for name in backbones:
        if backbones.count(name) > 1:
            raise typer.BadParameter(
                f"{name} is named twice; run it once for each set of options", param_hint="--backbone"
            )
    one_of_each = (_dealt(weights, backbones, "--weights"), _dealt(features, backbones, "--as"))
    for found, option in zip(one_of_each, ("--weights", "--as"), strict=True):
        for name, values in found.items():
            if len(values) > 1:
                raise typer.BadParameter(f"given {len(values)} times for {name}: {values}", param_hint=option)
    dealt_options = _dealt(options, backbones, "--option")
    return [
        Chosen(
            backbone=name,
            weights=next(iter(one_of_each[0][name]), None),
            options=opt.key_values(dealt_options[name], "--option"),
            feature=next(iter(one_of_each[1][name]), None),
        )
        for name in backbones
    ]


def _dealt(entries: Sequence[str], backbones: Sequence[str], option: str) -> dict[str, list[str]]:
    """Values of one option by backbone; a value without a backbone's name before it is for the only one."""
    found: dict[str, list[str]] = {name: [] for name in backbones}
    for entry in entries:
        named = [name for name in backbones if entry.startswith(f"{name}=")]
        if named:
            name = max(named, key=len)
            found[name].append(entry[len(name) + 1 :])
        elif len(backbones) == 1:
            found[backbones[0]].append(entry)
        else:
            raise typer.BadParameter(
                f"there are several backbones ({', '.join(backbones)}): say whose it is, as {backbones[0]}=…, "
                f"however: {entry!r}",
                param_hint=option,
            )
    return found


@contextlib.contextmanager
def _bar(busy: Callable[[], float], log: Path | None) -> Iterator[Progress]:
    """A bar on stderr, a line a minute when that is no terminal; lines for the process that this one works for.

    Parameters
    ----------
    busy : callable
        Share of the time, 0 to 1, in which the model computed so far.
    """
    with progress_bar(
        rate=lambda stage, speed: rate_text(stage, speed, busy()), more=lambda: [round(busy(), 3)], log=log
    ) as step:
        yield step


def rate_text(stage: str, speed: float | None, busy: float) -> str:
    """`85.3 pictures/s, model 93 % busy`; nothing while the speed is not known."""
    if not speed:
        return ""
    rate = f"{speed:,.1f} pictures/s"
    return f"{rate}, model {busy:.0%} busy" if stage == "embed" else rate
