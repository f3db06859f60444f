"""`cer-feat import`: take another tool's rows into the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.console import escape, out_json, say
from commands.options import DEFAULT_STORE, Data, DatasetName, Json, Root, StorePath, manifest_and_dataset


def import_(
    rows: Annotated[Path, typer.Argument(help="A .npy file, one row a picture.")],
    names: Annotated[Path, typer.Option("--names", help="Text file, one name a row: ids, paths, file names or stems.")],
    name: Annotated[str, typer.Option("--as", help="What the feature is called.")],
    data: Data = None,
    store: StorePath = DEFAULT_STORE,
    dataset: DatasetName = None,
    root: Root = None,
    share_repeats: Annotated[
        bool, typer.Option(help="Give a sample without a row the row of an identical picture.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Import embeddings of another tool; they are marked foreign and identified by their content.

    Example: cer-feat import hse.npy --names file_names.txt --as hse --data ferplus.csv
    """
    from featstore import Store, import_rows
    from featstore.foreign import read_array, read_names

    manifest, dataset_name = manifest_and_dataset(data, store, dataset=dataset, root=root)
    array, listed = read_array(rows), read_names(names)
    report = import_rows(
        array,
        listed,
        manifest,
        Store.create(store),
        dataset=dataset_name,
        name=name,
        source=rows.name,
        share_repeats=share_repeats,
    )
    say(
        f"[bold]{escape(report.feature)}[/]: {report.samples:,} samples, {report.matched:,} matched by "
        f"{report.matched_by}, {report.shared:,} shared with an identical picture"
    )
    if report.missing:
        say(f"[yellow]{len(report.missing):,} samples have no row[/], first: {escape(', '.join(report.missing[:3]))}")
    if as_json:
        out_json(vars(report))
