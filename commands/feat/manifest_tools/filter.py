"""`cer-feat manifest filter`: the samples that fulfil conditions."""

from __future__ import annotations

from typing import Annotated

import typer
from cer_fusion.commands.console import escape, say
from cer_fusion.commands.feat.manifest_tools.talk import File, Output, check_output, counting, write
from cer_fusion.commands.options import Json, Root
from cer_fusion.commands.outputs import Overwrite


def filter_(
    file: File,
    conditions: Annotated[
        list[str],
        typer.Argument(
            help="split=train, label!=Neutral, group=01,02, path=*.png; has-label, no-label (also -split, -group); "
            "readable; distinct (the first of each picture).",
            metavar="CONDITION",
        ),
    ],
    output: Output,
    classes: Annotated[
        str,
        typer.Option(
            help="Classes that stay declared: asked (all but those that a label condition removed), all, or present "
            "(those with samples)."
        ),
    ] = "asked",
    root: Root = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Keep the samples that fulfil every condition.

    A declared class without samples counts as 0 in macro F1: it is told whether such classes stay.

    Example: cer-feat manifest filter faces.csv split=train,valid label!=Neutral distinct -o part.csv
    """
    from cer_fusion.featstore import Manifest
    from cer_fusion.featstore.manifests.changes import keep_where

    if classes not in ("asked", "all", "present"):
        raise typer.BadParameter("must be asked, all or present", param_hint="--classes")
    check_output(output, overwrite=overwrite)
    listed = Manifest.read(file, root=root)
    with counting("hashing", len(listed)) as count:
        kept = keep_where(listed, conditions, classes=classes, progress=count)  # type: ignore[arg-type]
    say(f"kept {len(kept):,} of {len(listed):,} samples")
    gone = [label for label in listed.classes.labels if label not in kept.classes.labels]
    if gone:
        say(f"no class any more: {escape(', '.join(gone))}; {len(kept.classes.labels)} classes are left")
    remedy = "leave such classes out with --classes present"
    write(kept, output, as_json, overwrite=overwrite, remedy=remedy, no_class_any_more=gone)
