"""`cer-feat inspect`: what a weights file is, how to use it, and the same weights as clean safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from cer_fusion.commands.console import escape, out, out_json, out_table, say, size_text
from cer_fusion.commands.forms import Form, forms, only
from cer_fusion.commands.options import Json
from cer_fusion.commands.outputs import Overwrite, check_outputs

if TYPE_CHECKING:
    from cer_fusion.backbones import CheckpointInfo
    from cer_fusion.backbones.weights.converting import Conversion
    from cer_fusion.backbones.weights.inspection import Candidate

_SHOWN = 8


@forms(always=("convert", "as_json"), converting=Form("is for the file that --convert names", ("overwrite",)))
def inspect(
    ctx: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="Weights: .safetensors, .pth, .pth.tar, .ckpt, .bin.")],
    convert: Annotated[
        Path | None,
        typer.Option("--convert", help="Write the weights to this .safetensors, under their public names."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Open a checkpoint without running code from it; say what it is, which backbone takes it, and how.

    Exit status 1 if it is no checkpoint. A file that no backbone takes is still described, and can be converted.

    Example: cer-feat inspect manet_rafdb.pth.tar --convert manet_rafdb.safetensors
    """
    only(ctx, converting=convert is not None)
    if convert is None:
        from cer_fusion.backbones import inspect_checkpoint

        info, conversion = inspect_checkpoint(checkpoint), None
    else:
        _check_target(checkpoint, convert, overwrite)
        from cer_fusion.backbones.weights.converting import convert_checkpoint

        conversion = convert_checkpoint(checkpoint)
        info = conversion.info
    if convert is not None and conversion is not None:
        _write(conversion, convert, overwrite)
    if as_json:
        out_json(info.to_dict() | {"converted": _converted(conversion, convert)})
        return
    _print_info(info)
    if convert is not None and conversion is not None:
        _tell_conversion(conversion, convert)


def _check_target(checkpoint: Path, target: Path, overwrite: bool) -> None:
    """Refuse early what would be refused after minutes of reading."""
    if target.suffix != ".safetensors":
        raise typer.BadParameter(f"must end in .safetensors, however: {target}", param_hint="--convert")
    if target.is_dir() or not target.parent.is_dir():
        raise typer.BadParameter(f"must be a file in a folder that is there, however: {target}", param_hint="--convert")
    if target.exists() and checkpoint.exists() and target.samefile(checkpoint):
        raise typer.BadParameter("is the checkpoint itself; name another file", param_hint="--convert")
    check_outputs({"--convert": target}, overwrite=overwrite)


def _write(conversion: Conversion, target: Path, overwrite: bool) -> None:
    """Write the new file, whole or not at all."""
    from cer_fusion.featstore.rows import files

    if overwrite:
        files.replace(target, conversion.data)
    elif not files.commit(target, conversion.data):
        raise typer.BadParameter(f"{target} was written meanwhile; --overwrite replaces it", param_hint="--convert")


def _converted(conversion: Conversion | None, target: Path | None) -> dict[str, Any] | None:
    if conversion is None:
        return None
    return {
        "path": str(target),
        "tensors": conversion.tensors,
        "nbytes": len(conversion.data),
        "digest": conversion.info.digest,
        "left_out": conversion.left_out,
    }


def _print_info(info: CheckpointInfo) -> None:
    reader = {"stub unpickler": "a reader that runs no code"}
    named = ", ".join(info.code[:_SHOWN]) + (f" and {len(info.code) - _SHOWN} more" if len(info.code) > _SHOWN else "")
    rows = [
        ("is", info.looks_like),
        ("form", f"{info.form}, opened by {reader.get(info.opened_by, info.opened_by)}"),
        ("weights in", f"entry {info.entry!r}" if info.entry else "the file itself"),
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
    for title, text in rows:
        out(f"  {title:<12} {text}")
    if info.candidates:
        _print_candidates(info.candidates)
    for note in info.notes:
        out(f"note: {note}")
    if info.commands:
        out("use it:")
        for command in info.commands:
            out(f"  {command}")
    else:
        out(f"no backbone of ours takes it as it is: {info.advice}")


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
            out(f"{row[0]}: {', '.join(each.first)}{more}")
        if each.refusal:
            out(f"{row[0]}: {each.refusal.splitlines()[0]}")
        if each.fits and each.left_out:
            more = f" and {len(each.left_out) - 3} more" if len(each.left_out) > 3 else ""
            out(f"{row[0]} leaves out: {', '.join(each.left_out[:3])}{more}")


def _tell_conversion(conversion: Conversion, target: Path) -> None:
    say(
        f"wrote [bold]{escape(target)}[/]: {conversion.tensors:,} tensors, {size_text(len(conversion.data))}; "
        f"same digest, so the same feature"
    )
    if conversion.left_out:
        dropped = ", ".join(f"{key} ({text})" for key, text in conversion.left_out.items())
        say(f"not in it, as it is no weight: {escape(dropped)}")
