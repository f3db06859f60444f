"""`cer-feat import`: take another tool's rows into the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from commands.console import escape, out_json, say
from commands.options import (
    DEFAULT_STORE,
    Data,
    DatasetName,
    Json,
    ReplaceManifest,
    Root,
    StorePath,
    manifest_and_dataset,
    split_list,
    tell_change,
)

if TYPE_CHECKING:
    from featstore.exchange.foreign_files import ForeignRows


def import_(
    rows: Annotated[
        Path,
        typer.Argument(help=".npy, .npz, .pt, HDF5, Parquet of cer-feat export, or a folder of one .npy a sample."),
    ],
    name: Annotated[str, typer.Option("--as", help="What the feature is called.")],
    names: Annotated[
        Path | None,
        typer.Option(
            "--names",
            help="Text file, one name a row: ids, paths, file names or stems.",
            show_default="what the file itself says, or file_names.txt beside it",
        ),
    ] = None,
    rows_key: Annotated[
        str | None,
        typer.Option(
            "--rows-key",
            help="Which array of a file with several; a,b makes each a block.",
            show_default="the only 2-D float array",
        ),
    ] = None,
    names_key: Annotated[
        str | None,
        typer.Option("--names-key", help="Which array holds the names.", show_default="the only text array that fits"),
    ] = None,
    frames: Annotated[
        str | None, typer.Option("--frames", help="How to pool a folder's frame-level files: mean or max.")
    ] = None,
    data: Data = None,
    store: StorePath = DEFAULT_STORE,
    dataset: DatasetName = None,
    root: Root = None,
    share_repeats: Annotated[
        bool, typer.Option(help="Give a sample without a row the row of an identical picture.")
    ] = True,
    replace_manifest: ReplaceManifest = False,
    as_json: Json = False,
) -> None:
    """Import embeddings of another tool; they are marked foreign and identified by their content.

    Example: cer-feat import hse.npy --names file_names.txt --as hse --data ferplus.csv
    """
    from featstore import Store, import_rows

    found = _read(rows, names, split_list(rows_key), names_key, frames)
    _tell_read(rows, found)
    manifest, dataset_name = manifest_and_dataset(data, store, dataset=dataset, root=root)
    opened = Store.create(store)
    tell_change(opened, dataset_name, manifest, replace_manifest=replace_manifest)
    report = import_rows(
        found.blocks,
        found.names,
        manifest,
        opened,
        dataset=dataset_name,
        name=name,
        source=rows.name,
        described=found.described,
        share_repeats=share_repeats,
        replace_manifest=replace_manifest,
        need_pictures=root is not None,
    )
    say(
        f"[bold]{escape(report.feature)}[/]: {report.samples:,} samples, {report.matched:,} matched by "
        f"{report.matched_by}, {report.shared:,} shared with an identical picture"
    )
    if report.missing:
        say(f"[yellow]{len(report.missing):,} samples have no row[/], first: {escape(', '.join(report.missing[:3]))}")
    if report.unread:
        first, reason = next(iter(report.unread.items()))
        say(
            f"[yellow]{len(report.unread):,} of {report.samples:,} pictures could not be read[/] under "
            f"{escape(manifest.root)} (first: {escape(first)}: {escape(reason)}): whether they repeat others, and leak "
            f"from one split into another, cannot be seen for them; say where they are with --root and import again"
        )
    if as_json:
        out_json(vars(report))


def _read(
    path: Path, names: Path | None, rows_keys: list[str], names_key: str | None, frames: str | None
) -> ForeignRows:
    """Open the file by the reader that fits its content, and refuse options that this form does not have."""
    from commands.foreign_torch import read_torch
    from featstore.exchange.foreign_files import read_foreign, recognise

    pool = _frames(frames)
    if names is not None and names_key is not None:
        raise typer.BadParameter("give the names as a file or as a key, not both", param_hint="--names-key")
    form = recognise(path)
    if pool is not None and form != "sample folder":
        raise typer.BadParameter(f"is for a folder of one .npy a sample, not for {form}", param_hint="--frames")
    if (rows_keys or names_key is not None) and form not in ("npz", "hdf5", "torch"):
        raise typer.BadParameter(
            f"is for .npz, HDF5 and .pt files, not for {form}", param_hint="--rows-key/--names-key"
        )
    if form == "torch":
        return read_torch(path, names=names, rows_keys=rows_keys, names_key=names_key)
    return read_foreign(path, names=names, rows_keys=rows_keys, names_key=names_key, frames=pool)


def _tell_read(path: Path, found: ForeignRows) -> None:
    blocks = ", ".join(
        f"{block} {' x '.join(f'{size:,}' for size in rows.shape) or 'one number,'} {rows.dtype}"
        for block, rows in found.blocks.items()
    )
    say(
        f"read {escape(path)} as {escape(found.form)}: {escape(blocks)}; "
        f"{len(found.names):,} names from {escape(found.names_from)}"
    )


def _frames(text: str | None) -> Literal["mean", "max"] | None:
    if text is None:
        return None
    if text == "mean":
        return "mean"
    if text == "max":
        return "max"
    raise typer.BadParameter(f"must be 'mean' or 'max', however: {text!r}", param_hint="--frames")
