"""`cer-feat finetune`: train a backbone end to end, on one dataset or on several at once."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .. import options as opt
from ..console import escape, out_json, progress_bar, say, show_logs
from ..data import manifest_and_dataset
from ..outputs import check_folder, check_outputs

if TYPE_CHECKING:
    import numpy as np

    from ...backbones import Backbone, Examples, FinetuneReport
    from ...featstore import ClassSet, Manifest, Sample
    from ...featstore.pictures.pictures import PictureSource


@opt.forms(
    stored=opt.Form("is for a dataset in the store, and --data names files", ("store",)),
    shared=opt.Form("every manifest has a valid split of its own", ("valid_share",)),
    resumed=opt.Form("--overwrite starts anew", ("resume",)),
)  # fmt: skip
def finetune(
    ctx: typer.Context,
    backbone: Annotated[str, typer.Option("--backbone", "-b", help="vit, manet, resnet50 or timm:<name>.")],
    data: Annotated[
        list[str],
        opt.several("--data", "-d", help="A manifest CSV, or a dataset in the store; several are learnt together."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for weights, card and log.")],
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "-w",
            help="To start from: pretrained, a tag, a file, or random.",
            show_default="the backbone's",
        ),
    ] = None,
    option: Annotated[
        list[str] | None, opt.several("--option", "-O", pairs=True, help="The backbone's own, key=value: img_size=64.")
    ] = None,
    recipe: Annotated[
        Literal["default", "paper", "paper-unity", "manet"], typer.Option(help="Named settings of the training.")
    ] = "default",
    changes: Annotated[
        list[str] | None,
        opt.several("--set", pairs=True, help="Change the recipe, key=value: epochs=10, lr=1e-4, ema=0."),
    ] = None,
    sync_bn: Annotated[
        bool, typer.Option("--sync-bn", help="Batch norms see the parts of all processes: --set sync_bn=true.")
    ] = False,
    class_set: Annotated[
        str | None,
        typer.Option("--class-set", help="Classes to learn, by name: basic8.", show_default="the manifest's"),
    ] = None,
    soft_labels: Annotated[
        Path | None, typer.Option(help="CSV of votes: sample_id,<class>,…; they take the labels' place.")
    ] = None,
    valid_share: Annotated[
        float, typer.Option(help="Part of the training groups to choose the epoch on, where there is no valid split.")
    ] = 0.1,
    store: opt.StorePath = opt.DEFAULT_STORE,
    root: opt.Root = None,
    device: opt.Device = "auto",
    precision: Annotated[
        opt.Precision, typer.Option(help="bfloat16 and float16 are mixed with float32; tf32 on CUDA.")
    ] = "float32",
    readers: opt.Readers = None,
    reader_processes: opt.ReaderProcesses = None,
    memory: Annotated[
        str | None,
        typer.Option(help="What decoded pictures may take: 2GB.", show_default="half of what is available"),
    ] = None,
    state_every: Annotated[
        int, typer.Option(min=0, help="Keep the state every N updates too, not only after an epoch.")
    ] = 0,
    state_minutes: Annotated[
        float, typer.Option(min=0, help="Keep the state after an epoch where the last one is as old; 0: after each.")
    ] = 10.0,
    max_errors: opt.MaxErrors = 0.01,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on where an earlier run was.")] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew, and replace what an earlier run left in --output.")
    ] = False,
    track: opt.TrackedBy = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="The same as --track tensorboard.")] = False,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Train a backbone end to end, keep the best epoch. Run it again after a kill. No test picture is learnt from.

    Example: cer-feat finetune --backbone vit --data rafdb.csv --output vit-rafdb --recipe paper
    """
    from ...backbones import Recipe, create
    from ...backbones import finetune as run_finetune

    first = os.environ.get("RANK", "0") == "0"
    if first:
        show_logs()
    stored = not all(opt.names_a_file(one) for one in data)
    opt.only(ctx, stored=stored, shared=True, resumed=not (resume and overwrite))
    trackers = opt.trackers_of(track, say if first else lambda _: None)
    if first:
        _check_output(output, resume=resume, overwrite=overwrite)
    chosen = Recipe.named(recipe).changed(opt.key_values(changes, "--set"))
    chosen = chosen.changed({"sync_bn": True}) if sync_bn else chosen
    found = _learning_data(
        data,
        store=store,
        root=root,
        class_set=class_set,
        soft_labels=soft_labels,
        valid_share=valid_share,
        seed=seed,
        tell=say if first else lambda _: None,  # another process tells it
    )
    opt.only(ctx, stored=stored, shared=found.held_out, resumed=not (resume and overwrite))
    options = _options(backbone, len(found.classes.labels), opt.key_values(option, "--option"))
    made = create(backbone, weights=weights, seed=seed, device=_device(device), precision=precision, **options)
    if first:
        _tell_start(made, chosen.layer_decay, weights)
    threads, processes = opt.readers_for([made.device], readers, reader_processes)
    with progress_bar(log=output / "progress.log") as step:
        report = run_finetune(
            made,
            found.train,
            found.valid,
            classes=found.classes.labels,
            recipe=chosen,
            output=output,
            resume=resume and not overwrite,
            seed=seed,
            state_every=state_every,
            state_minutes=state_minutes,
            held_out=found.test,
            memory=opt.memory_budget(memory),
            max_errors=max_errors,
            readers=threads,
            reader_processes=processes,
            track=trackers,
            tensorboard=tensorboard,
            progress=step if first else None,
        )
    if first:
        _tell_result(report, backbone, options, data[0], as_json=as_json)


def _check_output(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to start anew over what an earlier run left, unless that is asked for."""
    from ...backbones.finetuning.folder import FILES

    check_folder("--output", output)
    if not resume:
        check_outputs({"--output": [output / name for name in FILES]}, overwrite=overwrite)


def _options(name: str, k: int, given: dict[str, Any]) -> dict[str, Any]:
    """Give a backbone that has heads of its own (MA-Net) as many classes as there are."""
    from ...backbones import options_of

    if "num_classes" not in options_of(name):
        return given
    return {"num_classes": k, "replace_heads": True, **given}


def _device(device: str) -> str:
    """For `auto` in one of several processes: the CPU, or the GPU that `accelerate` will take, by `LOCAL_RANK`."""
    number = os.environ.get("LOCAL_RANK", "")
    if device != "auto" or not number.isdecimal():
        return device
    import torch

    return f"cuda:{int(number) % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"


def _tell_start(made: Backbone, layer_decay: float | None, weights: str | None) -> None:
    if weights == "random" and layer_decay is not None and layer_decay < 1:
        say(
            "[yellow]random weights with layer-wise learning rates[/]: the first layers will hardly learn; "
            "say --set layer_decay=null"
        )
    say(f"training [bold]{escape(made.name)}[/] at {made.transform.size_px} px on {escape(made.device)}")


def _tell_result(report: FinetuneReport, backbone: str, options: dict[str, Any], data: str, *, as_json: bool) -> None:
    best = report.best
    say(
        f"kept epoch {best.epoch} of {len(report.epochs)}: validation accuracy {best.valid_accuracy:.4f}, "
        f"macro F1 {best.valid_macro_f1:.4f}, in [bold]{escape(report.weights)}[/]"
    )
    given = "".join(f" -O {key}={_written(value)}" for key, value in options.items() if key != "replace_heads")
    say(
        "extract with it: "
        + escape(f"cer-feat extract --backbone {backbone} --weights {report.weights}{given} --data {data}")
    )
    if as_json:
        plain = {**asdict(report), "output": str(report.output), "weights": str(report.weights)}
        out_json({**plain, "class_recall": best.valid_recall})


def _written(value: Any) -> str:
    """An option's value as `--option` reads it."""
    return value if isinstance(value, str) else json.dumps(value)


Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class _LearningData:
    """Both parts, and the classes that their labels point into."""

    train: Examples
    valid: Examples
    classes: ClassSet
    test: dict[str, str]
    """Id -> sha256, of the test splits' pictures, which are compared and never shown to the network."""
    held_out: bool
    """Whether a manifest had no validation part, so that a share of its training groups became it."""


def _learning_data(
    data: Sequence[str],
    *,
    store: Path,
    root: Path | None,
    class_set: str | None,
    soft_labels: Path | None,
    valid_share: float,
    seed: int,
    tell: Tell,
) -> _LearningData:
    """Read the manifests, map their labels by name, and choose what to learn from and what to choose the epoch on.

    The validation part of a manifest is its `valid` split, else a share of its `train` split: whole groups, and all
    occurrences of a picture, stand on one side. Of its `test` split only digests are
    taken, for whether its pictures are learnt from. Sample ids are made unique by the
    manifest's name where there are several.
    """
    if not 0 < valid_share < 1:
        raise typer.BadParameter(f"must lie between 0 and 1, however: {valid_share}", param_hint="--valid-share")
    found = [manifest_and_dataset(one, store, dataset=None, root=root) for one in data]
    names = [name for _, name in found]
    if len(set(names)) != len(names):
        raise typer.BadParameter(
            f"manifests must have different names, however: {', '.join(names)}", param_hint="--data"
        )
    classes = _classes([manifest for manifest, _ in found], class_set)
    parts: dict[str, list[tuple[str, Sample, Path]]] = {"train": [], "valid": []}
    held_out = False
    test: dict[str, str] = {}
    for manifest, name in found:
        usable = _mapped(manifest, classes, name, tell)
        held_out |= "valid" not in usable.splits
        for split, samples in _split(usable, name, valid_share, seed, tell).items():
            prefix = f"{name}/" if len(found) > 1 else ""
            parts[split] += [(prefix, sample, manifest.root) for sample in samples]
        test |= _test_digests(manifest, f"{name}/" if len(found) > 1 else "", name, tell)
    votes = _votes(soft_labels, classes)
    tell(
        f"learning {len(classes.labels)} classes ({escape(classes.name)}) from {len(parts['train']):,} samples, "
        f"choosing the epoch on {len(parts['valid']):,}"
    )
    train = _examples(parts["train"], classes, votes, tell)
    return _LearningData(
        train=train,
        valid=_examples(parts["valid"], classes, None, tell),
        classes=classes,
        test=test,
        held_out=held_out,
    )


def _test_digests(manifest: Manifest, prefix: str, name: str, tell: Tell) -> dict[str, str]:
    """Id -> sha256 of the test split's pictures, as far as they can be read."""
    from ...featstore.pictures import pictures

    part = manifest.keep([sample.split == "test" for sample in manifest.samples])
    if not len(part):
        return {}
    digests, unread = pictures.digests(part)
    if unread:
        tell(f"{len(unread):,} test pictures of {escape(name)} cannot be read: whether they are learnt from is open")
    return {prefix + sample_id: digest for sample_id, digest in zip(part.ids, digests, strict=True) if digest}


def _classes(manifests: Sequence[Manifest], wanted: str | None) -> ClassSet:
    from ...featstore import class_set

    if wanted is not None:
        return class_set(wanted)
    sets = {manifest.classes.labels: manifest.classes for manifest in manifests}
    if len(sets) > 1:
        names = ", ".join(found.name for found in sets.values())
        raise typer.BadParameter(
            f"the manifests have different classes ({names}): name one set", param_hint="--class-set"
        )
    return manifests[0].classes


def _mapped(manifest: Manifest, classes: ClassSet, name: str, tell: Tell) -> Manifest:
    """Give the training and validation samples the class set's labels; say which are left out."""
    from ...featstore.manifests.class_sets import renaming

    counterpart = renaming(manifest.classes, classes)
    usable = [sample.split in ("train", "valid", "") for sample in manifest.samples]
    part = manifest.keep(usable)
    unknown = Counter(sample.label for sample in part.samples if counterpart.get(sample.label) is None)
    for label, count in unknown.items():
        reason = f"label {label!r} is not in {classes.name}" if label else "no label"
        tell(f"left out of {escape(name)}: {count:,} × {escape(reason)}")
    kept = part.keep([counterpart.get(sample.label) is not None for sample in part.samples]).with_further({})
    samples = tuple(sample._replace(label=counterpart[sample.label] or "") for sample in kept.samples)
    return replace(kept, samples=samples, classes=classes)


def _split(manifest: Manifest, name: str, share: float, seed: int, tell: Tell) -> dict[str, tuple[Sample, ...]]:
    """Cut a manifest into its training and its validation part."""
    from ...featstore.errors import ManifestError
    from ...featstore.manifests.splitting import hold_out
    from ...featstore.pictures import pictures

    if not len(manifest):
        raise ManifestError(
            f"no labelled sample of {name} is in split train or valid, or without a split\n"
            f"  see what it has with: cer-feat manifest, or choose another --class-set"
        )
    if "" in manifest.splits:
        if len(manifest.splits) > 1:
            raise ManifestError(f"some samples of {name} have a split and some have none: give every one a split")
        tell(f"{escape(name)} has no splits: all of it is learnt from")
    if "valid" not in manifest.splits:
        unsplit = replace(manifest, samples=tuple(sample._replace(split="") for sample in manifest.samples))
        digests, unread = pictures.digests(unsplit)
        if unread:
            first, reason = next(iter(unread.items()))
            tell(
                f"[yellow]{len(unread):,} pictures of {escape(name)} cannot be read[/] (first: {escape(first)}: "
                f"{escape(reason)}): whether they repeat others across the two parts is not known"
            )
        repeated = pictures.repeats(unsplit, digests)
        manifest = hold_out(unsplit, share, seed=seed, split="valid", together=repeated)
        tell(f"{escape(name)} has no valid split: {share:.0%} of its training groups choose the epoch")
    return {
        split: tuple(sample for sample in manifest.samples if sample.split == split) for split in ("train", "valid")
    }


def _votes(path: Path | None, classes: ClassSet) -> dict[str, np.ndarray] | None:
    from ...featstore import read_soft_labels

    return None if path is None else read_soft_labels(path, classes.labels)


def _examples(
    rows: Sequence[tuple[str, Sample, Path]], classes: ClassSet, votes: dict[str, np.ndarray] | None, tell: Tell
) -> Examples:
    import numpy as np

    from ...backbones import Examples

    position = {label: i for i, label in enumerate(classes.labels)}
    ids = [prefix + sample.sample_id for prefix, sample, _ in rows]
    y = np.array([position[sample.label] for _, sample, _ in rows], dtype=np.int64)
    soft = None
    if votes is not None:
        soft = np.eye(len(position), dtype=np.float32)[y]
        with_votes = [i for i, sample_id in enumerate(ids) if sample_id in votes]
        soft[with_votes] = np.array([votes[ids[i]] for i in with_votes], dtype=np.float32).reshape(-1, len(position))
        tell(f"{len(with_votes):,} of {len(ids):,} samples learn from votes, the others from their label")
    return Examples(
        ids=ids,
        y=y,
        read=_Reading([(root, sample.path) for _, sample, root in rows]),
        soft=soft,
        groups=[prefix + (sample.group or sample.sample_id) for prefix, sample, _ in rows],
    )


class _Reading:
    """Position to the bytes of its picture; can be sent to reader processes, which open archives of their own."""

    def __init__(self, places: Sequence[tuple[Path, str]]) -> None:
        self._places = places
        self._sources: dict[Path, PictureSource] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_places": self._places, "_sources": {}}

    def __call__(self, i: int) -> bytes:
        from ...featstore.pictures.pictures import PictureSource

        root, path = self._places[i]
        if root not in self._sources:
            self._sources[root] = PictureSource(root)
        return self._sources[root].read(path)
