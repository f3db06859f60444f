"""`cer-feat demo`: the whole line on faces that the package draws itself."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import options as opt
from ..console import escape, out, out_json, progress_bar, say
from ..data import tell_extract
from ..outputs import check_outputs, print_table, save_picture

if TYPE_CHECKING:
    from ...featstore import Manifest, Store
    from ...fusion import Rows

_KIND = "cer-demo"
BACKBONES = ("vit", "manet", "resnet50")
DATASET = "faces"
RESULTS = ("faces.png", "faces.csv", "faces.json", "report.json", "confusion.png", "ablation.png")
"""Files that every run makes anew, beside the folders that it goes on with."""
MADE = "demo.json"
"""Their digests, so that a later run replaces what a demo made and nothing else."""


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where everything is left.")] = Path("demo-out"),
    weights: Annotated[
        list[str] | None,
        opt.several("--weights", "-w", pairs=True, help="BACKBONE=file or tag; random without.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures per forward pass.")] = 16,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there and are no earlier demo's.")
    ] = False,
    device: opt.Device = "auto",
    as_json: opt.Json = False,
    seed: opt.Seed = 0,
) -> None:
    """Draw schematic compound-expression faces, embed them with the paper's three backbones, compare all heads.

    Offline, about three minutes on two cores; a second run embeds nothing again.

    Example: cer-feat demo --output demo-out
    """
    from ...featstore import Store

    given = {name: str(value) for name, value in opt.key_values(weights, "--weights").items()}
    for name in given:
        if name not in BACKBONES:
            raise typer.BadParameter(
                f"expected one of {', '.join(BACKBONES)}, however: {name!r}", param_hint="--weights"
            )
    _begin(output, overwrite)
    manifest = _draw_faces(output, seed)
    store = Store.create(output / "features")
    for name in BACKBONES:
        _embed(name, given.get(name, "random"), manifest, store, batch_size, device, seed)
    train, test = _rows(store, "train"), _rows(store, "test")
    _compare(train, test, output, seed, shown=not as_json)
    _ablate(train, test, output, seed, shown=not as_json)
    _write_made(output, {name: _digest(output / name) for name in RESULTS})
    random = [name for name in BACKBONES if given.get(name, "random") == "random"]
    _close(output, random, as_json=as_json)


def _begin(output: Path, overwrite: bool) -> None:
    """Refuse files that no demo made; from here on the names of the results are this demo's, also after a kill."""
    from ...kit.documents import read_sealed
    from ...kit.errors import DocumentError

    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file, and a folder is to be written", param_hint="--output")
    made, foreign = {}, []
    if os.path.lexists(output / MADE):
        try:
            made = read_sealed(output / MADE, kind=_KIND, version=1)["files"]
        except DocumentError:
            foreign = [MADE]
    there = [name for name in RESULTS if os.path.lexists(output / name)]
    foreign += [name for name in there if name not in made or made[name] not in (None, _digest(output / name))]
    check_outputs({"--output": [output / name for name in foreign]}, overwrite=overwrite)
    _write_made(output, dict.fromkeys(RESULTS))


def _write_made(output: Path, files: dict[str, str | None]) -> None:
    from ...kit.documents import write_sealed

    write_sealed(output / MADE, {"files": files}, kind=_KIND, version=1)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _draw_faces(output: Path, seed: int) -> Manifest:
    from ...demofaces.dataset import contact_sheet, write_dataset
    from ...featstore.manifests.adapters import build

    say("[bold]1. Faces[/], drawn from the action units of the seven compounds, in RAF-DB's compound layout")
    root = output / "faces"
    with progress_bar() as step:
        write_dataset(root, seed=seed, on_picture=lambda done, total: step("drawing", done, total))
    sheet = contact_sheet(output / "faces.png", seed=seed)
    manifest = build("rafdb-compound", root).manifest
    manifest.write(output / f"{DATASET}.csv")
    counts = ", ".join(f"{len(manifest.select(split))} {split}" for split in manifest.splits)
    say(f"   {counts}; look at them: {escape(sheet)}")
    return manifest


def _embed(name: str, weights: str, manifest: Manifest, store: Store, batch_size: int, device: str, seed: int) -> None:
    from ...backbones import create
    from ...featstore import extract

    say(
        f"[bold]2. {name}[/] at full size, weights: {escape(weights)}"
        + (f", seed {seed}" if weights == "random" else "")
    )
    backbone = create(name, weights=weights, seed=seed, device=device)
    with progress_bar() as step:
        report = extract(backbone, manifest, store, dataset=DATASET, batch_size=batch_size, progress=step)
    tell_extract(report, store, DATASET)


def _rows(store: Store, split: str) -> Rows:
    from ...fusion import Rows

    return Rows.of(store.view(list(BACKBONES), dataset=DATASET, split=split))


def _compare(train: Rows, test: Rows, output: Path, seed: int, *, shown: bool) -> None:
    from ...fusion import compare, make_head
    from ...fusion.heads import USUAL
    from ...fusion.page.figures import draw_confusions

    say("[bold]3. Every head[/] on all three, and each backbone alone")
    heads = {name: make_head(name, blocks=train.widths, random_state=seed) for name in USUAL}
    with progress_bar() as step:
        progress = lambda done, total, title: step("fits", done, total, title)  # noqa: E731
        report = compare(heads, train, test, seed=seed, progress=progress)
    if shown:
        print_table(report, "table", explain=None)
    report.save(output / "report.json")
    best = max(report.columns, key=lambda column: column.scores.macro_f1)
    confusions = [(best.name, best.scores)]
    save_picture(lambda: draw_confusions(confusions), None, output / "confusion.png", overwrite=True)


def _ablate(train: Rows, test: Rows, output: Path, seed: int, *, shown: bool) -> None:
    from ...fusion import make_head, sweep
    from ...fusion.sweeps.figure import draw_sweep
    from ...fusion.sweeps.sweeping import parse_grid

    say("[bold]4. MA-Net's two branches[/], weighted from one alone to the other; the paper's 0.6/0.4 marked")
    blocks = ("manet.local", "manet.multi_scale")
    grid = parse_grid(("manet.local=0:1:0.1", "manet.multi_scale=1-"), blocks)
    with progress_bar() as step:
        found = sweep(
            make_head("late", random_state=seed), grid, train.only(blocks), test.only(blocks), seed=seed,
            progress=lambda done, total: step("steps", done, total),
        )  # fmt: skip
    if shown:
        print_table(found, "table", explain=None)
    save_picture(lambda: draw_sweep(found), None, output / "ablation.png", overwrite=True)


def _close(output: Path, random: list[str], *, as_json: bool) -> None:
    if as_json:
        out_json({"output": str(output), "files": list(RESULTS), "random_weights": random})
    elif random:
        out(
            f"\nWeights of {', '.join(random)}: RANDOM, trained on nothing.\n"
            f"These figures show that the line works, not what the backbones can do."
        )
    store = output / "features"
    say(
        f"\nEverything is in [bold]{escape(output)}[/]: faces/, faces.png, faces.csv, features/, report.json, "
        f"confusion.png, ablation.png\n"
        f"Go on from there, for instance:\n"
        f"  cer-feat ls --store {escape(store)}\n"
        f"  cer-fuse train --head mlp --store {escape(store)}\n"
        f"  cer-fuse compare --heads mlp,linear --format latex --store {escape(store)}"
    )
