"""`cer-fuse explore`: rows on a plane with a run's answers, as a Parquet file for viewers of embeddings."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .. import options as opt
from ..console import escape, out_json, progress_bar, say, size_text
from ..data import SIDE_PX, thumbnails_of
from ..heads import loaded_head, probabilities, store_of_run
from ..outputs import check_outputs

if TYPE_CHECKING:
    from ...fusion.judging.plane import Explored


@opt.forms(
    drawn=opt.Form("is for --map umap: principal components draw nothing", ("seed",)),
    pictured=opt.Form("is for --thumbnails", ("size",)),
)
def explore(
    ctx: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run's folder, a kept head's, or hf://USER/NAME.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .parquet file to write.", show_default=False)],
    map: Annotated[
        Literal["pca", "umap"], typer.Option("--map", help="Principal components, or UMAP (of the extra umap).")
    ] = "pca",
    split: Annotated[
        str | None, typer.Option("--split", help="A split, or all.", show_default="that the run was judged on")
    ] = None,
    thumbnails: Annotated[bool, typer.Option("--thumbnails", help="Put small pictures into the file.")] = False,
    size: Annotated[int, typer.Option("--size", min=8, max=512, help="Longer side of a thumbnail, pixels.")] = SIDE_PX,
    data: opt.StoredData = None,
    store: opt.RunStore = opt.DEFAULT_STORE,
    missing: opt.Missing = "error",
    overwrite: opt.Overwrite = False,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Write a table for Embedding Atlas, FiftyOne and notebooks: a row a sample, its place on a plane, its answer.

    Columns: sample_id, path, x, y, label, predicted, correct, confidence, loss, split, group, thumbnail on request.

    Example: cer-fuse explore runs/rafdb-mlp --output faces.parquet --thumbnails
    """
    from ...kit.errors import needed

    opt.only(ctx, drawn=map == "umap", pictured=thumbnails)
    if output.suffix.lower() != ".parquet":
        raise typer.BadParameter(f"the name must end in .parquet, however: {output}", param_hint="--output")
    check_outputs({"--output": output}, overwrite=overwrite)
    needed("pyarrow", "a Parquet file", extra="parquet")
    if map == "umap":
        needed("umap", "a map by UMAP", extra="umap")
    asked = opt.store_asked_for(ctx, store)
    found, described = _explored(run, asked, data, split, missing, map, size if thumbnails else None, seed)
    from ...fusion.judging.plane import write_explored

    write_explored(output, found, described=described, overwrite=overwrite)
    nbytes = output.stat().st_size
    say(f"wrote [bold]{escape(output)}[/]: {len(found.ids):,} samples, {size_text(nbytes)}")
    say(
        f"  look at it with: embedding-atlas {escape(shlex.quote(str(output)))} --x x --y y"
        + (" --image thumbnail" * thumbnails)
    )
    if as_json:
        out_json({"path": output, "samples": len(found.ids), "nbytes": nbytes, "map": map, "variance": found.shares})


def _explored(
    run: Path, asked: Path | None, data: str | None, split: str | None, missing: opt.Missing,
    kind: Literal["pca", "umap"],
    size: int | None, seed: int,
) -> tuple[Explored, dict[str, object]]:  # fmt: skip
    from ...featstore import Store
    from ...fusion.judging.plane import Explored, principal, umap_of

    every = split == "all"
    store = store_of_run(run, asked, data)
    info, fitted, view, _ = loaded_head(run, store, data, None if every else split, missing, default_split=not every)
    if not len(view):
        raise typer.BadParameter(f"no sample is in split {split!r}", param_hint="--split")
    opened = Store(store)
    recorded = info.extra.get("dataset")
    dataset = opened.dataset(str(recorded) if data is None and recorded in opened.datasets() else data)
    manifest = opened.manifest(dataset)
    path_of = {sample.sample_id: sample.path for sample in manifest.samples}
    paths = [path_of[name] for name in view.ids]
    with progress_bar() as step:
        step("answers", 0, None)
        proba = probabilities(fitted, view, info)
        step("map", 0, None, kind)
        if kind == "pca":
            places, shares = principal(view.blocks)
        else:
            places, shares = umap_of(view.blocks, seed=seed), ()  # type: ignore[assignment]
        pictures = None if size is None else thumbnails_of(manifest.root, paths, size, step)
    found = Explored(
        places=places, kind=kind, shares=tuple(float(one) for one in shares), ids=view.ids, y=view.y, proba=proba,
        classes=view.classes, splits=view.splits, groups=view.groups, paths=paths, thumbnails=pictures,
    )  # fmt: skip
    return found, {"head": info.head, "dataset": dataset, "features": dict(info.fingerprints)}
