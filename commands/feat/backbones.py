"""`cer-feat backbones`, `inspect` and `prompts`: what embeds pictures, what a file of weights is, vectors of texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options as opt
from ..console import escape, out, out_json, say, size_text
from ..outputs import check_outputs
from ..tables import out_facts, out_table, out_words

if TYPE_CHECKING:
    from ...backbones import CheckpointInfo
    from ...backbones.weights.inspection import Candidate


_SHOWN = 8


def backbones(as_json: opt.Json = False) -> None:
    """List the backbones: blocks, input, parameters, default weights.

    Example: cer-feat backbones
    """
    from ...backbones import catalogue

    rows = catalogue()
    if as_json:
        out_json({"backbones": rows})
        return
    table = []
    for row in rows:
        blocks = ", ".join(f"{name} {width}" for name, width in (row["blocks"] or {}).items()) or "the model's"
        size = f"{row['size_px']} px" if row["size_px"] else "the model's"
        missing = "the model's" if "<" in row["name"] else "none: name them"
        parameters = f"{row['parameters']:,}" if row["parameters"] else "-"
        table.append([row["name"], blocks, size, parameters, row["default_weights"] or missing])
    out_table(["backbone", "blocks", "input", "parameters", "default weights"], table, left=5, words={1, 4})
    for row in rows:
        options = ", ".join(f"{name}={value}" for name, value in row["options"].items())
        out_words(f"{row['name']}: {row['note']}", indent=2)
        out_words(f"  --option {options}", indent=4)


@opt.forms(converting=opt.Form("is for the file that --convert names", ("overwrite",)))
def inspect(
    ctx: typer.Context,
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="Weights: .safetensors, .pth, .pth.tar, .ckpt, .bin, .pt, .onnx; FILE#teacher for one of several."
        ),
    ],
    convert: Annotated[
        Path | None,
        typer.Option("--convert", help="Write the weights to this .safetensors, under their public names."),
    ] = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Open a checkpoint without running code from it; say what it is, which backbone takes it, and how.

    Exit status 1 if it is no checkpoint. A file that no backbone takes is still described, and can be converted.

    Example: cer-feat inspect manet_rafdb.pth.tar --convert manet_rafdb.safetensors
    """
    opt.only(ctx, converting=convert is not None)
    if convert is None:
        from ...backbones import inspect_checkpoint

        info, converted = inspect_checkpoint(checkpoint), None
    else:
        if convert.suffix != ".safetensors" or not convert.absolute().parent.is_dir():
            raise typer.BadParameter(
                f"must be a .safetensors file in a folder that is there, however: {convert}", param_hint="--convert"
            )
        check_outputs({"--convert": convert}, overwrite=overwrite, apart_from=[checkpoint])
        info, converted = _converted(checkpoint, convert, overwrite)
    if as_json:
        out_json(info.to_dict() | {"converted": converted})
    else:
        _print_info(info)
    if converted is not None and not as_json:
        say(
            f"wrote [bold]{escape(convert)}[/]: {converted['tensors']:,} tensors, {size_text(converted['nbytes'])}; "
            f"same digest, so the same feature"
        )
        if converted["left_out"]:
            dropped = ", ".join(f"{key} ({text})" for key, text in converted["left_out"].items())
            say(f"not in it, as it is no weight: {escape(dropped)}")


def prompts(
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            "-b",
            help="clip:<folder>: a CLIP or SigLIP as transformers keeps it; open-clip:<folder> or <model>.<tag>.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="What to write: .safetensors or .npz.")],
    prompts: Annotated[
        str,
        typer.Option("--prompts", help="TOML or JSON of class -> texts; or a set of this package: compounds, basic."),
    ] = "compounds",
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "-w",
            help="Of a fine-tuned image half, or of open-clip:<model>.<tag>: a file.",
            show_default="those in the folder",
        ),
    ] = None,
    device: opt.Device = "auto",
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Make vectors of texts with an image-text encoder: they stand for classes that no head learns.

    The vectors say which image half they belong to: cer-fuse compare and predict --prompts refuse rows of another one.

    Example: cer-feat prompts --backbone clip:models/clip-vit-base-patch32 -o prompts.safetensors
    """
    import numpy as np

    from ...backbones import create
    from ...backbones.recipes import recipe_of
    from ...fusion.judging.prompts import TextVectors, read_prompts, shipped_prompts, write_text_vectors
    from ...kit.errors import nearest

    recipe, target = recipe_of(backbone)
    if recipe.texts is None:
        raise typer.BadParameter(
            f"texts are embedded by clip:<folder> or open-clip:<name>, however: {backbone!r} has no text half"
            f"{_instead_of_timm(backbone)}; vectors of another encoder can be given as .npz or .csv where these are "
            "read",
            param_hint="--backbone",
        )
    if output.suffix.lower() not in (".safetensors", ".npz"):
        raise typer.BadParameter(f"must end in .safetensors or .npz, however: {output}", param_hint="--output")
    check_outputs({"--output": output}, overwrite=overwrite)
    shipped = shipped_prompts()
    if prompts not in shipped and not Path(prompts).is_file():
        raise typer.BadParameter(
            f"no such file, and no set of this package; {nearest(prompts, shipped)}", param_hint="--prompts"
        )
    asked = shipped[prompts] if prompts in shipped else read_prompts(Path(prompts))
    made = create(backbone, weights=weights, device=device)
    texts = [text for listed in asked.prompts.values() for text in listed]
    embedded = recipe.texts(target, texts, weights=weights, device=made.device)
    parts = np.split(embedded.vectors, np.cumsum([len(listed) for listed in asked.prompts.values()])[:-1])
    found = TextVectors(
        vectors=dict(zip(asked.classes, parts, strict=True)), prompts=asked.prompts, encoder=made.name,
        weights=made.weights_digest(), options=made.spec()["options"], temperature=embedded.temperature,
        source=asked.source,
    )  # fmt: skip
    write_text_vectors(output, found, overwrite=overwrite)
    say(
        f"wrote [bold]{escape(output)}[/]: {len(texts)} vectors of {found.width} columns for {len(found.classes)} "
        f"classes, by {escape(made.name)}, temperature {embedded.temperature:.3g}"
    )
    if as_json:
        out_json(
            {
                "path": str(output), "classes": {name: len(one) for name, one in found.vectors.items()},
                "width": found.width, "encoder": found.encoder, "weights": found.weights,
                "temperature": found.temperature, "source": found.source,
            }
        )  # fmt: skip


def _instead_of_timm(backbone: str) -> str:
    """Say whose text vectors go with rows of a timm network."""
    if not backbone.startswith("timm:"):
        return ""
    if "siglip" in backbone:
        return ": with the same weights, open-clip:<folder> has one for its rows"
    return ": timm has image towers alone, of CLIP without the projection into the space of texts"


def _converted(checkpoint: Path, target: Path, overwrite: bool) -> tuple[CheckpointInfo, dict[str, Any]]:
    """Write the same weights as clean safetensors; what the checkpoint is, and what was written."""
    from ...backbones.weights.inspection import convert_checkpoint
    from ...featstore.rows.files import write_output

    made = convert_checkpoint(checkpoint)
    write_output(target, made.data, overwrite=overwrite)
    return made.info, {
        "path": str(target),
        "tensors": made.tensors,
        "nbytes": len(made.data),
        "digest": made.info.digest,
        "left_out": made.left_out,
    }


def _print_info(info: CheckpointInfo) -> None:
    reader = {"stub unpickler": "a reader that runs no code"}
    named = ", ".join(info.code[:_SHOWN]) + (f" and {len(info.code) - _SHOWN} more" if len(info.code) > _SHOWN else "")
    where = f"entry {info.entry!r}" if info.entry else "the file itself"
    rows = [
        ("is", info.looks_like),
        ("form", f"{info.form}, opened by {reader.get(info.opened_by, info.opened_by)}"),
        ("weights in", where + (", a whole network that was pickled" if info.is_module else "")),
        ("names begin", f"{info.prefix!r}, stripped" if info.prefix else "as the network's"),
        ("holds", f"{info.tensors:,} tensors, {info.parameters:,} numbers, {', '.join(info.dtypes)}"),
        ("heads", ", ".join(f"{layer} {width}-way" for layer, width in info.heads.items()) or "none"),
        ("digest", info.digest),
        ("beside them", ", ".join(f"{key}: {text}" for key, text in info.extras.items()) or "nothing"),
        ("code", f"names {named}; none of it was run" if info.code else "names none"),
    ]
    if info.trained:
        rows.insert(1, ("card says", _trained_text(info.trained)))
    out(info.path)
    out_facts(rows, pad=12, indent=2)
    if info.candidates:
        _print_candidates(info.candidates)
    for note in info.notes:
        out_words(f"note: {note}", indent=2)
    if info.commands:
        out("use it:")
        for command in info.commands:
            out(f"  {command}")
    else:
        out_words(f"no backbone of ours takes it as it is: {info.advice}", indent=2)


def _trained_text(trained: dict[str, Any]) -> str:
    """`timm:resnet18, fine-tuned by recipe default; 7 classes: A, B, …; epoch 3: validation accuracy 0.61, …`."""
    best = trained["best"]
    return (
        f"{trained['backbone']}, fine-tuned by recipe {trained['recipe']}; {len(trained['classes'])} classes: "
        f"{', '.join(trained['classes'])}; epoch {best['epoch']}: validation accuracy {best['valid_accuracy']:.4f}, "
        f"macro F1 {best['valid_macro_f1']:.4f}"
    )


def _print_candidates(candidates: tuple[Candidate, ...]) -> None:
    """One row a backbone, then the first names of what is amiss or left out."""
    table = [
        [
            " ".join([each.backbone, *(f"{key}={value}" for key, value in each.options.items())]),
            "yes" if each.fits else "no",
            f"{each.share:.0%}",
            each.missing,
            each.unexpected,
            each.misshapen,
            len(each.left_out),
        ]
        for each in candidates
    ]
    columns = ["backbone", "takes it", "has of it", "missing", "unexpected", "misshapen", "left out"]
    out_table(columns, table, left=2)
    for each, row in zip(candidates, table, strict=True):
        if each.first:
            count = each.missing + each.unexpected + each.misshapen
            more = f" and {count - len(each.first)} more" if count > len(each.first) else ""
            out_words(f"{row[0]}: {', '.join(each.first)}{more}", indent=2)
        if each.refusal:
            out_words(f"{row[0]}: {each.refusal.splitlines()[0]}", indent=2)
        if each.fits and each.left_out:
            more = f" and {len(each.left_out) - 3} more" if len(each.left_out) > 3 else ""
            out_words(f"{row[0]} leaves out: {', '.join(each.left_out[:3])}{more}", indent=2)
