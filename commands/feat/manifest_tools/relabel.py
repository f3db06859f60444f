"""`cer-feat manifest relabel`: the labels of a manifest in another class set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cer_fusion.commands.feat.manifest_tools.talk import File, Output, check_output, tell_left_out, write
from cer_fusion.commands.options import Json
from cer_fusion.commands.outputs import Overwrite


def relabel(
    file: File,
    output: Output,
    map_to: Annotated[
        str | None,
        typer.Option(
            help="Class set: abaw7, unity8, basic7, …; labels go where they mean the same.", show_default=False
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--map", help='JSON table of your own: {"Happy": "Happiness", "Other": null}; null leaves out.'),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Give the samples labels of another class set; those without a counterpart are left out and counted.

    (`cer-feat relabel` gives a dataset in a store the labels of a manifest.)

    Example: cer-feat manifest relabel affectnet.csv --map-to unity8 -o unity.csv
    """
    from cer_fusion.featstore import Manifest, class_set
    from cer_fusion.featstore.manifests.changes import classes_of, read_renaming, renamed

    check_output(output, overwrite=overwrite)
    listed = Manifest.read(file)
    if map_to is None and table is None:
        raise typer.BadParameter("name a class set, or a table with --map", param_hint="--map-to")
    goes_to = None if table is None else read_renaming(table, listed.classes)
    named = None if map_to is None else class_set(map_to)
    target = named if goes_to is None else classes_of(goes_to, named)
    assert target is not None, "one of the two was given"
    done, left_out = renamed(listed, target, goes_to)
    tell_left_out(left_out)
    write(done, output, as_json, overwrite=overwrite, left_out=left_out)
