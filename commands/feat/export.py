"""`cer-feat export`: features for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from cer_fusion.commands.console import escape, out, out_json, progress_bar, say
from cer_fusion.commands.forms import Form, forms, only
from cer_fusion.commands.options import DEFAULT_STORE, Json, Missing, StoredData, StorePath, features_of, missing_choice
from cer_fusion.commands.outputs import Overwrite

if TYPE_CHECKING:
    from cer_fusion.featstore import Store, View
    from cer_fusion.featstore.exchange.exporting import ExportReport


@forms(
    always=("to", "data", "store", "split", "form", "join", "missing", "overwrite", "as_json"),
    npy=Form("is for --format npy; the other forms hold the sample ids", ("names",)),
)
def export(
    ctx: typer.Context,
    to: Annotated[
        Path, typer.Option("--to", "--output", "-o", help="File (.npz, .parquet, .csv), or folder (npy, projector).")
    ],
    features: Annotated[
        list[str] | None,
        typer.Argument(help="Features or blocks: vit manet.local.", show_default="all of the dataset"),
    ] = None,
    data: StoredData = None,
    store: StorePath = DEFAULT_STORE,
    split: Annotated[str | None, typer.Option("--split", help="Only samples of this split.")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="npz, npy, parquet, csv or projector.", show_default="by the ending of --to"),
    ] = None,
    names: Annotated[str, typer.Option("--names", help="What names the rows of npy: id or path.")] = "id",
    join: Annotated[bool, typer.Option("--join", help="All blocks side by side, as one called features.")] = False,
    missing: Missing = "error",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write features for other tools: NumPy (npz, npy), Parquet, CSV, TensorBoard's embedding projector.

    npy is a folder as thingsvision writes it: features.npy and file_names.txt; of several blocks each gets its own
    <block>.npy, unless --join puts them side by side. cer-feat import takes npz, npy and Parquet back.

    Example: cer-feat export manet vit --data faces --split train --to train.npz
    """
    from cer_fusion.featstore import Store
    from cer_fusion.featstore.exchange import exporting

    chosen_form = exporting.form_of(to, form)
    only(ctx, npy=chosen_form == "npy")
    chosen_names = _names(names)
    opened = Store(store)
    dataset = opened.dataset(data)
    if data is None:
        say(f"dataset: [bold]{escape(dataset)}[/], the only one in {escape(store)}")
    chosen = features or features_of(opened, dataset, None)
    view = opened.view(chosen, dataset=dataset, split=split, missing=missing_choice(missing), mapped=True)
    with progress_bar() as step:
        report = exporting.export(
            view,
            to,
            form=chosen_form,
            paths=_paths(opened, dataset, view) if chosen_form == "npy" else None,
            names=chosen_names,
            join=join,
            overwrite=overwrite,
            described={"dataset": dataset, "split": split},
            progress=step,
        )
    _tell(report, as_json=as_json)


def _paths(store: Store, dataset: str, view: View) -> list[str]:
    path_of = {sample.sample_id: sample.path for sample in store.manifest(dataset).samples}
    return [path_of[sample_id] for sample_id in view.ids]


def _names(text: str) -> Literal["id", "path"]:
    if text == "id":
        return "id"
    if text == "path":
        return "path"
    raise typer.BadParameter(f"must be 'id' or 'path', however: {text!r}", param_hint="--names")


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
