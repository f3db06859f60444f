"""`cer-feat import`: take another tool's rows into the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from cer_fusion.commands.console import escape, out_json, say
from cer_fusion.commands.forms import Form, forms, only
from cer_fusion.commands.options import (
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
    from cer_fusion.featstore.exchange.foreign_files import ForeignRows


@forms(
    always=(
        "name", "data", "store", "dataset", "root", "share_repeats", "blank", "extra", "replace_manifest", "as_json",
    ),
    listed=Form("names are in Parquet itself, and those of a folder's samples are its files'", ("names",)),
    keyed=Form("is for .npz, HDF5 and .pt files", ("rows_key", "names_key")),
    pooled=Form("is for a folder of one .npy a sample", ("frames",)),
)  # fmt: skip
def import_(
    ctx: typer.Context,
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
    blank: Annotated[
        str,
        typer.Option(help="Rows of one number throughout, as for a face not found: error, drop, or keep them."),
    ] = "error",
    extra: Annotated[str, typer.Option(help="Names that no sample has: error, or drop their rows.")] = "error",
    replace_manifest: ReplaceManifest = False,
    as_json: Json = False,
) -> None:
    """Import embeddings of another tool; they are marked foreign and identified by their content.

    Example: cer-feat import hse.npy --names file_names.txt --as hse --data ferplus.csv
    """
    from cer_fusion.featstore import Store, import_rows
    from cer_fusion.featstore.exchange.foreign_files import recognise

    if blank not in ("error", "drop", "keep"):
        raise typer.BadParameter("must be error, drop or keep", param_hint="--blank")
    if extra not in ("error", "drop"):
        raise typer.BadParameter("must be error or drop", param_hint="--extra")
    pool = _frames(frames)
    if names is not None and names_key is not None:
        raise typer.BadParameter("give the names as a file or as a key, not both", param_hint="--names-key")
    form = recognise(rows)
    only(
        ctx, listed=form not in ("parquet", "sample folder"), keyed=form in ("npz", "hdf5", "torch"),
        pooled=form == "sample folder",
    )  # fmt: skip
    found = _read(rows, names, split_list(rows_key), names_key, pool)
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
        blank=blank,  # type: ignore[arg-type]
        extra=extra,  # type: ignore[arg-type]
        replace_manifest=replace_manifest,
        need_pictures=root is not None,
    )
    say(
        f"[bold]{escape(report.feature)}[/]: {report.samples:,} samples, {report.matched:,} matched by "
        f"{report.matched_by}, {report.shared:,} shared with an identical picture"
    )
    if report.extra:
        say(f"[yellow]left out {len(report.extra):,} rows[/] of names that no sample has: {_few(report.extra)}")
    if report.blank:
        done = "left out" if blank == "drop" else "kept"
        say(f"[yellow]{done} {len(report.blank):,} rows of one number throughout[/]: {_few(report.blank)}")
    for note in report.notes:
        say(f"[yellow]note:[/] {escape(note)}")
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


def _few(names: Sequence[str]) -> str:
    return escape(", ".join(names[:3]) + (", …" if len(names) > 3 else ""))


def _read(
    path: Path, names: Path | None, rows_keys: list[str], names_key: str | None, pool: Literal["mean", "max"] | None
) -> ForeignRows:
    """Open the file by the reader that fits its content."""
    from cer_fusion.commands.foreign_torch import read_torch
    from cer_fusion.featstore.exchange.foreign_files import read_foreign, recognise

    if recognise(path) == "torch":
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
