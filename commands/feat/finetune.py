"""`cer-feat finetune`: train a backbone end to end, on one dataset or on several at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cer_fusion.commands.console import escape, out_json, progress_bar, say, show_logs
from cer_fusion.commands.forms import Form, forms, only
from cer_fusion.commands.options import (
    DEFAULT_STORE,
    Device,
    Json,
    Seed,
    StorePath,
    key_values,
    memory_budget,
    names_a_file,
)
from cer_fusion.commands.outputs import check_outputs

if TYPE_CHECKING:
    from cer_fusion.backbones import Backbone, FinetuneReport


@forms(
    always=(
        "backbone", "data", "output", "weights", "option", "recipe", "changes", "class_set", "soft_labels", "root",
        "device", "precision", "readers", "memory", "state_every", "max_errors", "tensorboard", "overwrite", "seed",
        "as_json",
    ),
    stored=Form("is for a dataset in the store, and --data names files", ("store",)),
    shared=Form("every manifest has a valid split of its own", ("valid_share",)),
    resumed=Form("--overwrite starts anew", ("resume",)),
)  # fmt: skip
def finetune(
    ctx: typer.Context,
    backbone: Annotated[str, typer.Option("--backbone", "-b", help="vit, manet, resnet50 or timm:<name>.")],
    data: Annotated[
        list[str],
        typer.Option("--data", "-d", help="A manifest CSV, or a dataset in the store; several are learnt together."),
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
        list[str] | None, typer.Option("--option", "-O", help="The backbone's own, key=value: img_size=64.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="default, paper, paper-unity or manet.")] = "default",
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="Change the recipe, key=value: epochs=10, lr=1e-4, ema=0.")
    ] = None,
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
    store: StorePath = DEFAULT_STORE,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Where the pictures' paths start.", show_default="as the manifest says"),
    ] = None,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="float32, or mixed: bfloat16, float16.")] = "float32",
    readers: Annotated[int, typer.Option(min=1, help="Threads that read and decode.")] = 2,
    memory: Annotated[
        str | None,
        typer.Option(help="What decoded pictures may take: 2GB.", show_default="half of what is available"),
    ] = None,
    state_every: Annotated[
        int, typer.Option(min=0, help="Keep the state every N updates too, not only after an epoch.")
    ] = 0,
    max_errors: Annotated[
        float, typer.Option(help="Share of unusable pictures at which to stop; up to ten never stop a run, unless 0.")
    ] = 0.01,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on where an earlier run was.")] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew, and replace what an earlier run left in --output.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write curves for TensorBoard.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a backbone end to end, keep the best epoch. Run it again after a kill. The test split is not looked at.

    Example: cer-feat finetune --backbone vit --data rafdb.csv --output vit-rafdb --recipe paper
    """
    from cer_fusion.backbones import Recipe, create
    from cer_fusion.backbones import finetune as run_finetune
    from cer_fusion.commands.learning_data import learning_data

    first = os.environ.get("RANK", "0") == "0"
    if first:
        show_logs()
    stored = not all(names_a_file(one) for one in data)
    only(ctx, stored=stored, shared=True, resumed=not (resume and overwrite))
    if first:
        _check_output(output, resume=resume, overwrite=overwrite)
    chosen = Recipe.named(recipe).changed(key_values(changes, "--set"))
    found = learning_data(
        data, store=store, root=root, class_set=class_set, soft_labels=soft_labels, valid_share=valid_share, seed=seed,
        tell=say if first else _silent,
    )  # fmt: skip
    only(ctx, stored=stored, shared=found.held_out, resumed=not (resume and overwrite))
    options = _options(backbone, len(found.classes.labels), key_values(option, "--option"))
    made = create(backbone, weights=weights, seed=seed, device=_device(device), precision=precision, **options)
    if first:
        _tell_start(made, chosen.layer_decay, weights)
    with progress_bar() as step:
        report = run_finetune(
            made, found.train, found.valid, classes=found.classes.labels, recipe=chosen, output=output,
            resume=resume and not overwrite,
            seed=seed, state_every=state_every, memory=memory_budget(memory), max_errors=max_errors, readers=readers,
            tensorboard=tensorboard, progress=step if first else None,
        )  # fmt: skip
    if first:
        _tell_result(report, backbone, options, data[0], as_json=as_json)


def _check_output(output: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to start anew over what an earlier run left, unless that is asked for."""
    from cer_fusion.backbones.finetuning.folder import FILES

    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file, and a folder is to be written", param_hint="--output")
    if not resume:
        check_outputs({"--output": [output / name for name in FILES]}, overwrite=overwrite)


def _options(name: str, k: int, given: dict[str, Any]) -> dict[str, Any]:
    """Give a backbone that has heads of its own (MA-Net) as many classes as there are."""
    from cer_fusion.backbones import options_of

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
        out_json({**_plain(report), "class_recall": best.valid_recall})


def _plain(report: FinetuneReport) -> dict[str, Any]:
    from dataclasses import asdict

    content = asdict(report)
    return {**content, "output": str(report.output), "weights": str(report.weights)}


def _written(value: Any) -> str:
    """An option's value as `--option` reads it."""
    return value if isinstance(value, str) else json.dumps(value)


def _silent(_: str) -> None:
    """Say nothing: another process does."""
