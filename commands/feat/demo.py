"""`cer-feat demo`: the whole line on faces that the package draws itself."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import options as opt
from ..console import escape, out, out_json, progress_bar, say
from ..data import tell_extracts
from ..outputs import check_outputs, print_table, save_picture

if TYPE_CHECKING:
    from ...featstore import Manifest, Store
    from ...fusion import Report, Rows

_KIND = "cer-demo"
BACKBONES = ("manet", "vit", "resnet50")
DATASET = "faces"
FUSED = "fused"
"""The column of all rows side by side."""
PARTS = {"face": None, "eyes": (0.15, 0.18, 0.85, 0.60), "mouth": (0.18, 0.52, 0.82, 0.98)}
"""What MA-Net looks at, by the feature that becomes of it: a whole face, or left, top, right, bottom of a part."""
TIMES = 2
"""How often the usual number of faces is drawn: 392 to learn from and 196 to be judged on."""
RESULTS = (
    "faces.png", "faces.csv", "faces.json", "report.json", "report.html", "confusion.png", "branches.png",
    "simplex.png",
)  # fmt: skip
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
    """Draw schematic faces, let one network look at face, eyes and mouth, and show what fusing the three is worth.

    Extract once, train in seconds, sweep the weights, open the page. Offline, under three minutes on two cores; a
    second run embeds nothing again. With --weights of vit or resnet50 these look at the whole faces too.

    Example: cer-feat demo --output demo-out
    """
    from ...featstore import Store
    from ...fusion import Rows

    given = {name: str(value) for name, value in opt.key_values(weights, "--weights").items()}
    for name in given:
        if name not in BACKBONES:
            raise typer.BadParameter(
                f"expected one of {', '.join(BACKBONES)}, however: {name!r}", param_hint="--weights"
            )
    _begin(output, overwrite)
    manifest = _draw_faces(output, seed)
    store = Store.create(output / "features")
    names = _embed(given, manifest, store, batch_size, device, seed)
    train, test = (Rows.of(store.view(names, dataset=DATASET, split=split)) for split in ("train", "test"))
    report = _compare(train, test, output, seed, shown=not as_json)
    _branches(train, test, output, seed, shown=not as_json)
    _page(train, test, report, output, seed)
    _write_made(output, {name: _digest(output / name) for name in RESULTS})
    random = [name for name in BACKBONES if given.get(name, "random" if name == "manet" else "") == "random"]
    _close(output, report, random, as_json=as_json)


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
    from ...demofaces import TEST_COUNTS, TRAIN_COUNTS
    from ...demofaces.dataset import contact_sheet, write_dataset
    from ...featstore.manifests.adapters import build

    say("[bold]1. Faces[/], drawn from the action units of the seven compounds, in RAF-DB's compound layout")
    root = output / "faces"
    train, test = ({name: TIMES * count for name, count in one.items()} for one in (TRAIN_COUNTS, TEST_COUNTS))
    with progress_bar() as step:
        write_dataset(
            root, per_class_train=train, per_class_test=test, seed=seed,
            on_picture=lambda done, total: step("drawing", done, total),
        )  # fmt: skip
    sheet = contact_sheet(output / "faces.png", seed=seed)
    manifest = build("rafdb-compound", root).manifest
    manifest.write(output / f"{DATASET}.csv")
    counts = ", ".join(f"{len(manifest.select(split))} {split}" for split in manifest.splits)
    say(f"   {counts}; look at them: {escape(sheet)}")
    return manifest


def _embed(
    given: dict[str, str], manifest: Manifest, store: Store, batch_size: int, device: str, seed: int
) -> list[str]:
    """Embed the faces, in one pass; the names of the features."""
    from ...backbones import create
    from ...backbones.backbone import PicturePart
    from ...featstore import extract

    say("[bold]2. Extract once:[/] each encoder sees something else, and all of them read every picture once")
    looks: dict[str, Any] = {}
    for name, box in PARTS.items():
        weights = given.get("manet", "random")
        say(f"   {name}: MA-Net, weights {_told(weights, seed)}")
        looks[name] = create("manet", weights=weights, seed=seed, device=device)
        if box is not None:
            looks[name].take_faces(PicturePart(part=name, box=box))
    for name in given.keys() - {"manet"}:
        say(f"   {name}: the whole face, weights {_told(given[name], seed)}")
        looks[name] = create(name, weights=given[name], seed=seed, device=device)
    with progress_bar() as step:
        reports = extract(
            list(looks.values()), manifest, store, dataset=DATASET, name=list(looks), batch_size=batch_size,
            progress=step,
        )  # fmt: skip
    tell_extracts(reports, store, DATASET)
    return list(looks)


def _told(weights: str, seed: int) -> str:
    return f"[yellow]RANDOM[/], seed {seed}" if weights == "random" else escape(weights)


def _compare(train: Rows, test: Rows, output: Path, seed: int, *, shown: bool) -> Report:
    """Compare the fused rows with each encoder alone, under one head; the baseline is the best of them."""
    from ...fusion import compare, make_head
    from ...fusion.page.figures import draw_confusions

    say("[bold]3. Train in seconds:[/] one head on all rows side by side, and on those of each encoder alone")
    heads = {FUSED: make_head("lda", blocks=train.widths, random_state=seed)}
    with progress_bar() as step:
        progress = lambda done, total, title: step("fits", done, total, title)  # noqa: E731
        report = compare(heads, train, test, seed=seed, progress=progress)
        best = max(report.columns[1:], key=lambda column: column.scores.accuracy)
        report = compare(heads, train, test, baseline=best.name, seed=seed, progress=progress)
    if shown:
        print_table(report, "table", explain=None)
    report.save(output / "report.json")
    confusions = [(column.name, column.scores) for column in report.columns if column.name in (FUSED, best.name)]
    save_picture(lambda: draw_confusions(confusions), None, output / "confusion.png", overwrite=True)
    return report


def _branches(train: Rows, test: Rows, output: Path, seed: int, *, shown: bool) -> None:
    from ...fusion import make_head, sweep
    from ...fusion.sweeps.figure import draw_sweep
    from ...fusion.sweeps.sweeping import parse_grid

    say("[bold]4. Sweep[/] MA-Net's two branches, from one alone to the other; the paper's 0.6/0.4 is marked")
    blocks = ("face.local", "face.multi_scale")
    grid = parse_grid((f"{blocks[0]}=0:1:0.1", f"{blocks[1]}=1-"), blocks)
    with progress_bar() as step:
        found = sweep(
            make_head("late", random_state=seed), grid, train.only(blocks), test.only(blocks), seed=seed,
            mark=dict(zip(blocks, (0.6, 0.4), strict=True)),
            progress=lambda done, total: step("steps", done, total),
        )  # fmt: skip
    if shown:
        print_table(found, "table", explain=None)
    save_picture(lambda: draw_sweep(found), None, output / "branches.png", overwrite=True)


def _page(train: Rows, test: Rows, report: Report, output: Path, seed: int) -> None:
    """Sweep the simplex of the encoders, and write the page with its explorer."""
    from ...fusion import make_head, sweep
    from ...fusion.data.blocks import even_simplex
    from ...fusion.heads.base import fit_part
    from ...fusion.judging.comparison import members_of_head
    from ...fusion.page import write_page
    from ...fusion.page.sections import configuration_section, explorer_section, report_sections, sweep_section
    from ...fusion.sweeps.figure import draw_sweep

    names = tuple(train.by_feature())
    say(f"   and the simplex of {', '.join(names)}: every weight vector that sums to 1")
    train, test = _joined(train), _joined(test)
    late = make_head("late", blocks=train.widths, random_state=seed, member="lda")
    with progress_bar() as step:
        found = sweep(
            late, even_simplex(names, 300), train, test, folds=3, seed=seed,
            progress=lambda done, total: step("steps", done, total),
        )  # fmt: skip
    save_picture(lambda: draw_sweep(found), None, output / "simplex.png", overwrite=True)
    fitted = fit_part(late, train.x(), train.y, train.clusters)
    results, matrices = report_sections(report)
    explorer = explorer_section(members_of_head(fitted, test), mix=fitted.mix, sweep=found)
    sections = [results, explorer, sweep_section(found), matrices, configuration_section(report)]
    write_page(
        output / "report.html", f"What fusing {', '.join(names)} is worth", sections,
        subtitle=f"{report.rows} of drawn faces, {len(report.classes)} classes", overwrite=True,
    )  # fmt: skip


def _joined(rows: Rows) -> Rows:
    """The same rows with one block an encoder."""
    import numpy as np

    owned = rows.by_feature()
    blocks = {name: np.concatenate([rows.blocks[block] for block in owned[name]], axis=1) for name in owned}
    return replace(rows, blocks=blocks, features=None)


def _gain(report: Report) -> str:
    """What fusing is worth on the faces kept apart, in words, with its interval."""
    fused = report.columns[0]
    best = next(column for column in report.columns if column.name == report.baseline)
    versus = fused.versus
    assert versus is not None, "the report has a baseline"
    points = 100 * (fused.scores.accuracy - best.scores.accuracy)
    low, high = (100 * end for end in (versus.accuracy_interval.low, versus.accuracy_interval.high))
    return (
        f"Fused: {fused.scores.accuracy:.1%} of {len(report.ids)} faces kept apart, best encoder alone ({best.name}): "
        f"{best.scores.accuracy:.1%}; the difference is {points:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}."
    )


def _close(output: Path, report: Report, random: list[str], *, as_json: bool) -> None:
    if as_json:
        out_json({
            "output": str(output), "files": list(RESULTS), "random_weights": random, "gain": _gain(report),
            "comparison": report.to_dict(),
        })  # fmt: skip
    else:
        out(f"\n{_gain(report)}")
        if random:
            out(
                f"Weights of {', '.join(random)}: RANDOM, trained on nothing: the gain comes from looking at different "
                f"parts,\nand says nothing of what trained encoders can do."
            )
    store = output / "features"
    page = (output / "report.html").absolute()
    say(
        f"\nEverything is in [bold]{escape(output)}[/]. Open the page, and move the weights yourself:\n"
        f"  {escape(page.as_uri())}\n"
        f"Go on from there, for instance:\n"
        f"  cer-feat ls --store {escape(store)}\n"
        f"  cer-fuse compare --heads lda,late --store {escape(store)}"
    )
