"""`cer-feat export`: features for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .. import options as opt
from ..console import escape, out, out_json, progress_bar, say
from ..data import load_view

if TYPE_CHECKING:
    from ...featstore import Store, View
    from ...featstore.exchange.exporting import ExportReport


@opt.forms(npy=opt.Form("is for --format npy; the other forms hold the sample ids", ("names",)))
def export(
    ctx: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File (.npz, .parquet, .csv), or folder (npy, projector).")
    ],
    features: Annotated[
        list[str] | None,
        typer.Argument(
            help="Features or blocks: vit manet.local.", show_default="all of the dataset", callback=opt.each
        ),
    ] = None,
    data: opt.StoredData = None,
    store: opt.StorePath = opt.DEFAULT_STORE,
    split: Annotated[str | None, typer.Option("--split", help="Only samples of this split.")] = None,
    form: Annotated[
        Literal["npz", "npy", "parquet", "csv", "projector"] | None,
        typer.Option("--format", help="What is written.", show_default="by the ending of --output"),
    ] = None,
    names: Annotated[Literal["id", "path"], typer.Option("--names", help="What names the rows of npy.")] = "id",
    join: Annotated[bool, typer.Option("--join", help="All blocks side by side, as one called features.")] = False,
    missing: opt.Missing = "error",
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Write features for other tools: NumPy (npz, npy), Parquet, CSV, TensorBoard's embedding projector.

    npy is a folder as thingsvision writes it: features.npy and file_names.txt; of several blocks each gets its own
    <block>.npy, unless --join puts them side by side. cer-feat import takes npz, npy and Parquet back.

    Example: cer-feat export manet vit --data faces --split train --output train.npz
    """
    from ...featstore.exchange import exporting

    chosen_form = exporting.form_of(output, form)
    opt.only(ctx, npy=chosen_form == "npy")
    view, dataset, opened = load_view(store, data, features or [], missing, split)
    with progress_bar() as step:
        report = exporting.export(
            view,
            output,
            form=chosen_form,
            paths=_paths(opened, dataset, view) if chosen_form in ("npy", "parquet") else None,
            names=names,
            join=join,
            overwrite=overwrite,
            described={"dataset": dataset, "split": split},
            progress=step,
        )
    _tell(report, as_json=as_json)


def _paths(store: Store, dataset: str, view: View) -> list[str]:
    path_of = {sample.sample_id: sample.path for sample in store.manifest(dataset).samples}
    return [path_of[sample_id] for sample_id in view.ids]


def _tell(report: ExportReport, *, as_json: bool) -> None:
    blocks = ", ".join(f"{name} {width}" for name, width in report.blocks.items())
    say(
        f"wrote [bold]{escape(report.path)}[/]: {report.form}, {report.samples:,} samples, {escape(blocks)}, "
        f"{report.nbytes / 1e6:,.1f} MB"
    )
    if as_json:
        out_json(vars(report))
    else:
        out(report.path)
