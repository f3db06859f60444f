"""`cer-feat manifest check`: what is wrong with a manifest and its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from cer_fusion.commands.console import FAILED, escape, out, out_json, progress_bar, say
from cer_fusion.commands.feat.manifest_tools.talk import File, tell_counts
from cer_fusion.commands.options import Json, Root

if TYPE_CHECKING:
    from cer_fusion.featstore.manifests.checking import Look, ManifestReport

_MOST = 6


def check(
    file: File,
    root: Root = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every picture whole, not only its header: finds those cut short.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read every picture and tell what is wrong; exit status 1 if something is.

    Faults: pictures that are missing or none, pictures in two splits or with two labels, groups in two splits, classes
    that are never in train. Told besides: repeats within a split, class balance, sizes and modes of the pictures.

    Example: cer-feat manifest check rafdb.csv
    """
    from cer_fusion.featstore.manifests.checking import check_manifest

    with progress_bar() as step:
        report = check_manifest(
            file,
            root=root,
            looking=_decode if decode else _look,
            progress=lambda done, total: step("checking", done, total),
        )
    if as_json:
        out_json(report.to_json())
    else:
        tell_counts(report.manifest, False)
        _tell(report)
    if any(report.faults()):
        raise typer.Exit(FAILED)


def _tell(report: ManifestReport) -> None:
    for what, found in (("sizes", report.sizes), ("modes", report.modes)):
        if found:
            shown = ", ".join(f"{value} ({count:,})" for value, count in list(found.items())[:_MOST])
            out(f"{what}: {shown}{f', … ({len(found):,} in all)' if len(found) > _MOST else ''}")
    for note in report.notes():
        say(f"note: {escape(note)}")
    faults = list(report.faults())
    for fault in faults:
        out(f"fault: {fault}")
    if not faults:
        out(f"{report.manifest.where}: no faults in {len(report.manifest):,} samples")


def _look(data: bytes) -> Look:
    from cer_fusion.backbones.picture import picture_header
    from cer_fusion.featstore.manifests.checking import Look

    return Look(*picture_header(data))


def _decode(data: bytes) -> Look:
    from cer_fusion.backbones.picture import open_picture

    open_picture(data)
    return _look(data)
