"""`cer-feat extract`: embed every sample once."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .. import options as opt
from ..console import escape, out_json, per_second, progress_bar, say, show_logs
from ..data import dataset_of, manifest_by_parts, sealed_manifest, tell_change, tell_extracts, tell_frames_from_zero
from ..runners import Engine, Outcome, PartProgress, WorkerError, gpus_here, tell_submitted

if TYPE_CHECKING:
    from ...backbones import Backbone
    from ...featstore import ExtractReport, Manifest, Store
    from ...featstore.manifests.manifest import SealedManifest
    from ...frames import FrameSound


def _gone(assumed: bool) -> bool:
    if assumed:
        raise typer.BadParameter(
            "is no longer needed: pictures whose size and times of change are as they were are not read again; "
            "--check-pictures reads all"
        )
    return assumed


@opt.forms(
    here=opt.Form("is for processes on this machine, and --runner names others", ("workers", "part")),
    slurm=opt.Form("is for --runner slurm", ("slurm", "wait")),
    ray=opt.Form("is for --runner ray", ("ray_address", "num_gpus")),
    heard=opt.Form("says where the sound is that audio:<name> hears, and none is named", ("videos",)),
    aligned=opt.Form("says how faces are cut out, and that is for --align", (*opt.CROPPED, "no_face")),
)
def extract(
    ctx: typer.Context,
    backbone: Annotated[
        list[str],
        opt.several(
            "--backbone",
            "-b",
            help="vit, manet, resnet50, poster, …, timm:<name>, onnx:<file>, clip:<folder>, open-clip:<name>, "
            "audio:<name>, or your own as <file.py>:<Class>; see backbones. Several share one pass.",
        ),
    ],
    data: opt.Data = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    weights: Annotated[
        list[str] | None,
        opt.several(
            "--weights",
            "-w",
            pairs=True,
            help="pretrained, a timm tag, a file, or random; BACKBONE=… for one of several.",
            show_default="the backbone's",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        opt.several(
            "--option",
            "-O",
            pairs=True,
            help="The backbone's own, key=value: flow=legacy, tap=pool2048, img_size=112; BACKBONE=key=value for one "
            "of several.",
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        opt.several(
            "--as",
            pairs=True,
            help="What the feature is called; BACKBONE=… for one of several.",
            show_default="the backbone",
        ),
    ] = None,
    dataset: opt.DatasetName = None,
    root: opt.Root = None,
    videos: opt.Videos = None,
    batch_size: Annotated[
        str, typer.Option(help="Pictures per forward pass; auto begins large and halves when memory does not suffice.")
    ] = "auto",
    readers: opt.Readers = None,
    reader_processes: opt.ReaderProcesses = None,
    runner: opt.Runner = None,
    parts: Annotated[
        int | None,
        typer.Option(
            "--parts",
            min=1,
            help="Parts the work is divided into, about four a worker.",
            show_default="an array's or a launcher's; with --runner local four a worker",
        ),
    ] = None,
    part: Annotated[
        int | None,
        typer.Option("--part", min=0, help="Which part this is.", show_default="an array's index, or a launcher's"),
    ] = None,
    workers: opt.Workers = None,
    slurm: opt.Slurm = None,
    wait: Annotated[bool, typer.Option("--wait", help="With --runner slurm: wait until all parts are done.")] = False,
    ray_address: opt.RayAddress = None,
    num_gpus: opt.NumGpus = None,
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
    check_pictures: Annotated[
        bool,
        typer.Option("--check-pictures", help="Read all pictures for changes, not only those of another size or date."),
    ] = False,
    assume_unchanged: Annotated[bool, typer.Option("--assume-unchanged", hidden=True, callback=_gone)] = False,
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

    audio:<name> makes a row of the sound around each frame, by the times that cer-feat frames wrote down: --videos says
    where the videos are. Frames without sound are masked and counted.

    Example: cer-feat extract --backbone onnx:faces.onnx -O size_px=112 … --align --crop arcface112 --data ferplus.csv
    """
    from ...featstore import Store
    from ...featstore.extraction.plan import size_of_part
    from ...featstore.extraction.run import repeated_across_splits
    from ...featstore.manifests.manifest import SealedManifest as Sealed

    opt.only(
        ctx,
        here=runner in (None, "local"),
        slurm=runner == "slurm",
        ray=runner == "ray",
        heard=_hears(backbone),
        aligned=align,
    )
    show_logs()
    chosen = chosen_backbones(backbone, weights or [], option or [], name or [])
    _check_sound(backbone, videos, align=align)
    size = _batch_size(batch_size)
    if data is None:
        data = dataset_of(store, None)[1]
    manifest, dataset_name = manifest_by_parts(data, store, dataset=dataset, root=root)
    _check_names(dataset_name, chosen)
    engine = Engine.of_options(
        runner, parts=parts, part=part, workers=workers, slurm=slurm, ray_address=ray_address, num_gpus=num_gpus,
        gpus_wanted=device != "cpu", gpus_here=lambda: 0 if device == "cpu" else gpus_here(),
    )  # fmt: skip
    opened = Store.create(store)
    if not isinstance(manifest, Sealed):  # else it is the dataset's manifest already
        tell_frames_from_zero(manifest.ids)
        tell_change(opened, dataset_name, manifest, replace_manifest=replace_manifest)
    job = ExtractJob(
        chosen=tuple(chosen),
        data=data,
        store=store,
        dataset=dataset_name,
        root=root,
        videos=videos,
        ids_digest=manifest.ids_digest,
        faces=None if not align else (detector, points, crop, margin, no_face),
        readers=(readers, reader_processes),
        made={"seed": seed, "device": device, "precision": precision, "views": views, "compiled": compiled},
        settings={
            "batch_size": size,
            "shard_rows": shard_rows,
            "dtype": dtype,
            "max_errors": max_errors,
            "check_pictures": check_pictures,
            "retry_quarantined": retry_quarantined,
            "replace_manifest": replace_manifest,
        },
    )
    if engine.runner == "slurm" and not wait:
        if not isinstance(manifest, Sealed):
            opened.use_manifest(dataset_name, manifest, replace_manifest=replace_manifest)  # for who looks meanwhile
        submitted = engine.submit(job, name=f"extract-{dataset_name}")
        tell_submitted(submitted)
        say(f"  cer-feat parts --store {escape(store)} --data {escape(dataset_name)} --parts {engine.n}")
        if as_json:
            out_json({"job": submitted.job_id, "parts": engine.n, "folder": str(submitted.folder)})
        return
    busy: dict[int, float] = {}
    _OPENED.clear()
    if engine.runner is None:
        _OPENED[job.key] = Opened(job, manifest)
    rate = lambda stage, speed: rate_text(stage, speed, sum(busy.values()) / max(1, len(busy)))  # noqa: E731
    with progress_bar(rate, log) as step:
        outcomes = engine.run(
            job, step, name=f"extract-{dataset_name}", busy=busy,
            size_of=lambda k, n: size_of_part(len(manifest), shard_rows, (k, n)),
        )  # fmt: skip
    reports = _reports(outcomes)
    if not isinstance(manifest, Sealed):
        if engine.n > 1:  # of a large manifest each part looks at its own samples
            known = (opened.feature(report.feature, dataset_name) for report in reports)
            repeated = [repeated_across_splits(manifest, feature, {}) for feature in known]
            reports = [
                replace(report, repeated_across_splits=max(count, report.repeated_across_splits))
                for report, count in zip(reports, repeated, strict=True)
            ]
        for one, report in zip(chosen, reports, strict=True):
            _tell_learnt(one.weights, report.feature, opened, dataset_name, manifest)
    tell_extracts(reports, opened, dataset_name, as_json=as_json)


def _tell_learnt(weights: str | None, feature: str, store: Store, dataset: str, manifest: Manifest) -> None:
    """Warn of rows of pictures that the weights were fine-tuned on, where the files beside these say which they are."""
    if weights is None or not Path(weights).is_file():
        return
    from ...backbones.finetuning.folder import pictures_behind

    learnt = pictures_behind(Path(weights))
    if not learnt:
        return
    ids = manifest.table.ids
    digests = store.feature(feature, dataset).index(only=ids).image_digests().of(ids)
    known = Counter(split for split, digest in zip(manifest.split_of_each, digests, strict=True) if digest in learnt)
    if known:
        counts = ", ".join(f"{count:,} of {split or 'no split'}" for split, count in known.items())
        say(
            f"[yellow]{escape(feature)}: these weights were fine-tuned on {known.total():,} of the pictures[/] "
            f"({escape(counts)}): such rows look better than those of new faces, and a head, or weights chosen on "
            "inner folds, trust this block too much"
        )


def _reports(outcomes: Sequence[Outcome]) -> list[ExtractReport]:
    """A report of each feature, of what all parts made of it."""
    from ...featstore import ExtractReport

    workers = [outcome.worker for outcome in outcomes]
    return [
        ExtractReport.merged([ExtractReport(**entry) for entry in of_feature], workers)
        for of_feature in zip(*(outcome.value for outcome in outcomes), strict=True)
    ]


def _check_names(dataset: str, chosen: Sequence[Chosen]) -> None:
    """Refuse names that the store would refuse, before a network is loaded."""
    from ...featstore.rows.feature import valid_name

    for option, name in (("--dataset", dataset), *(("--as", one.feature) for one in chosen)):
        if name is not None and not valid_name(name):
            raise typer.BadParameter(
                f"a name is letters, digits, '_' or '-', and begins with a letter or digit, however: {name!r}",
                param_hint=option,
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class ExtractJob:
    """What `cer-feat extract` was asked for; each process that does parts of it opens manifest and backbones once."""

    chosen: tuple[Chosen, ...]
    data: str
    store: Path
    dataset: str
    root: Path | None
    videos: Path | None
    """Where the videos are whose sound is heard; None for backbones that look at pictures."""
    ids_digest: str
    """Of the samples' ids in order, by which they are dealt into parts."""
    faces: tuple[str, str | None, Any, float | None, str] | None
    """How faces are cut out, as `_align` takes it; None for not at all."""
    readers: tuple[int | None, int | None]
    """Threads and processes that read, as far as they were asked for."""
    made: dict[str, Any]
    """How backbones are made, see `Chosen.create`."""
    settings: dict[str, Any]
    """Of `featstore.extract`."""
    key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def run_part(self, k: int, n: int, progress: PartProgress) -> list[dict[str, Any]]:
        """Embed what part k of n lacks; the report of each feature, as JSON values."""
        from ...featstore import extract as run_extract
        from ...featstore.extraction.reading import Meter

        if self.key not in _OPENED:
            _OPENED.clear()  # of another job: its encoders would stay in memory
            _OPENED[self.key] = Opened(self)
        opened, meter = _OPENED[self.key], Meter()
        opened.read_by_parts()
        threads, processes = opt.readers_for([one.device for one in opened.embedders], *self.readers)
        reports = run_extract(
            opened.embedders,
            opened.manifest,
            opened.store,
            dataset=self.dataset,
            name=[one.feature for one in self.chosen],
            part=(k, n),
            readers=threads,
            reader_processes=processes,
            progress=lambda stage, done, total: progress(stage, done, total, meter.busy),
            meter=meter,
            source=opened.sound,
            **self.settings,
        )
        return [vars(report) for report in reports]


class Opened:
    """What a process loads once for all parts of a job that it does.

    Parameters
    ----------
    job : ExtractJob
    manifest : Manifest or SealedManifest, optional
        Where it has been read already.
    """

    def __init__(self, job: ExtractJob, manifest: Manifest | SealedManifest | None = None) -> None:
        self._job = job
        if manifest is None:
            manifest, _ = manifest_by_parts(job.data, job.store, dataset=job.dataset, root=job.root)
        if manifest.ids_digest != job.ids_digest:
            raise WorkerError(
                f"{manifest.where} lists other samples than when this was started, so that its parts are others: "
                "start it again"
            )
        self.manifest = manifest
        self._begun = False

    def read_by_parts(self) -> None:
        """Before each part: of a large manifest, which the first one made the dataset's, others read what is theirs."""
        from ...featstore.manifests.manifest import SealedManifest as Sealed

        if self._begun and not isinstance(self.manifest, Sealed):
            sealed = sealed_manifest(self._job.data, self._job.store, dataset=self._job.dataset, root=self._job.root)
            if sealed is not None and sealed[0].ids_digest == self._job.ids_digest:
                self.manifest = sealed[0]
        self._begun = True

    @cached_property
    def store(self) -> Store:
        """The store, whose shards are looked at once for all parts, but for new ones."""
        from ...featstore import Store

        return Store(self._job.store)

    @cached_property
    def embedders(self) -> list[Backbone]:
        """The backbones."""
        made = [
            one.create(**{**self._job.made, "device": _device(self._job.made["device"], one.backbone)})
            for one in self._job.chosen
        ]
        if self._job.faces is not None:
            _align(made, *self._job.faces)
        size = self._job.settings["batch_size"]
        for embedder in made:
            if size != "auto" and embedder.piece and size % embedder.piece:
                say(
                    f"note: on the CPU {escape(embedder.name)} computes {embedder.piece} pictures at a time and fills "
                    f"up what is missing; a batch size that is a multiple of {embedder.piece} wastes nothing"
                )
        return made

    @cached_property
    def sound(self) -> FrameSound | None:
        """What the backbones hear, which each of them is told; None where they look at pictures."""
        return None if self._job.videos is None else _heard(self.embedders, self.manifest.root, self._job.videos)


_OPENED: dict[str, Opened] = {}
"""Of the job that this process did a part of last."""


def _align(
    embedders: Sequence[Backbone], detector: str, points: str | None, crop: Any, margin: float | None, no_face: str
) -> None:
    """Have all of them cut faces out in one way, so that each is looked for once."""
    from ...frames import LooseCrops, detector_for_crops

    faces = LooseCrops(detector=detector_for_crops(detector, points=points), convention=crop, margin=margin)
    for embedder in embedders:
        embedder.take_faces(faces, missing=no_face)


def _hears(backbones: Sequence[str]) -> bool:
    return any(name.startswith("audio:") for name in backbones)


def _check_sound(backbones: Sequence[str], videos: Path | None, *, align: bool) -> None:
    """Refuse sound without videos, and beside pictures."""
    if not _hears(backbones):
        return
    if looking := [name for name in backbones if not _hears([name])]:
        raise typer.BadParameter(
            f"{', '.join(looking)} look at pictures and the others hear sound, which is read otherwise: run them apart",
            param_hint="--backbone",
        )
    if videos is None:
        raise typer.BadParameter(
            f"is needed by {', '.join(backbones)}: the folder of the videos that the frames were made of",
            param_hint="--videos",
        )
    if align:
        raise typer.BadParameter("is for pictures, and sound is heard: there is no face in it", param_hint="--align")


def _heard(embedders: Sequence[Backbone], root: Path, videos: Path) -> FrameSound:
    """What all of them hear, and tell each of it."""
    from ...backbones.zoo.audio import SoundBackbone
    from ...frames import FrameSound

    hearing = [one for one in embedders if isinstance(one, SoundBackbone)]
    sound = FrameSound(root, videos, window_s=hearing[0].window_s, causal=hearing[0].causal)
    for one in hearing:
        one.take_sound(sound)
    return sound


def _device(device: str, backbone: str) -> str:
    """For `auto` in one of several processes on a machine with several GPUs: a GPU of its own, by `LOCAL_RANK`."""
    number = os.environ.get("LOCAL_RANK", "")
    if device != "auto" or not number.isdecimal() or backbone == "audio:egemaps":
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


def rate_text(stage: str, speed: float | None, busy: float) -> str:
    """`85.3 pictures/s, model 93 % busy`; nothing while the speed is not known."""
    if not speed:
        return ""
    rate = f"{per_second(speed)} pictures/s"
    return f"{rate}, model {busy:.0%} busy" if stage == "embed" else rate
