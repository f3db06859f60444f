"""`cer-feat manifest merge` and `unity`: several manifests as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cer_fusion.commands.console import out_table
from cer_fusion.commands.feat.manifest_tools.talk import Output, check_output, read_named, tell_left_out, write
from cer_fusion.commands.options import Json
from cer_fusion.commands.outputs import Overwrite

Files = Annotated[list[Path], typer.Argument(help="Two manifests or more.", metavar="FILE")]


def merge(
    files: Files,
    output: Output,
    prefix: Annotated[
        bool, typer.Option("--prefix", help="Begin ids and groups with their manifest's name: rafdb/train_00001.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Join manifests that have the same classes.

    Example: cer-feat manifest merge first.csv second.csv -o both.csv
    """
    from cer_fusion.featstore.manifests.changes import merge as join

    check_output(output, overwrite=overwrite)
    write(join(read_named(files), prefix=prefix), output, as_json, overwrite=overwrite)


def unity(
    files: Files,
    output: Output,
    map_to: Annotated[
        str, typer.Option(help="Class set that all labels are mapped onto by what they mean.")
    ] = "unity8",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Unite manifests of different datasets on one class set: the paper's Unity is AffectNet and RAF-DB on eight.

    Ids begin with their manifest's name. Samples of other classes are left out and counted.

    Example: cer-feat manifest unity affectnet.csv rafdb_basic.csv -o unity.csv
    """
    from cer_fusion.featstore import class_set
    from cer_fusion.featstore.manifests.changes import union

    check_output(output, overwrite=overwrite)
    manifests = read_named(files)
    united = union(manifests, class_set(map_to))
    for name, left_out in united.left_out.items():
        tell_left_out(left_out, of=name)
    write(united.manifest, output, as_json, overwrite=overwrite, sources=united.counts, left_out=united.left_out)
    if not as_json:
        labels = united.manifest.classes.labels
        rows = [[label, *(counts[label] for counts in united.counts.values())] for label in labels]
        rows.append(["all", *(sum(counts.values()) for counts in united.counts.values())])
        rows.append(["left out", *(sum(left_out.values()) for left_out in united.left_out.values())])
        out_table(["class", *united.counts], rows, title="Samples by source")
