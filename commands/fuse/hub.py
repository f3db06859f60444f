"""`cer-fuse push` and `pull`: a run's head on the Hugging Face Hub. What is to leave the machine is said first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import leaving
from .. import options as opt
from ..console import escape, out_json, say
from ..outputs import put

Repository = Annotated[
    str, typer.Argument(metavar="USER/NAME", help="The repository: user/name or hf://user/name.", show_default=False)
]


@opt.forms(sending=opt.Form("asks nothing, as --dry-run sends nothing", ("yes",)))
def push(
    ctx: typer.Context,
    run: Annotated[Path, typer.Argument(help="A run's folder.", show_default=False)],
    repository: Repository,
    public: leaving.Public = False,
    licence: leaving.Licence = None,
    with_answers: Annotated[
        bool, typer.Option("--with-answers", help="Send the answers on the judged samples too, with ids and labels.")
    ] = False,
    with_rows: Annotated[
        bool, typer.Option("--with-rows", help="Send a head that holds rows it learned from, as knn and svm do.")
    ] = False,
    yes: leaving.Yes = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Put a run's head on the Hugging Face Hub with a model card made from the run; private unless --public.

    What leaves is said first, file by file: no sample ids, no paths, no pictures, no answers unless asked. The token is
    that of huggingface_hub: hf auth login, or HF_TOKEN.

    Example: cer-fuse push runs/rafdb-mlp user/rafdb-mlp --license cc-by-nc-4.0
    """
    from ...fusion.keeping.hub import run_parcel

    opt.only(ctx, sending=not dry_run)
    place = leaving.place_of(repository, "model")
    parcel = run_parcel(run, place, licence=licence, answers=with_answers, rows=with_rows)
    inside = [
        "the head, its settings and figures, versions of libraries; names of dataset, splits, classes and features",
        "[bold]sample ids, labels, groups and the answers to them[/], as --with-answers asks"
        if with_answers
        else "no sample ids, no labels of samples, no answers",
        "no pictures, no paths, no names of this machine or its users",
    ]
    if with_rows:
        inside.insert(1, "[bold]rows that it learned from[/], if the head holds some, as --with-rows asks")
    leaving.to_hub(place, parcel, inside, public=public, yes=yes, dry_run=dry_run, as_json=as_json)


def pull(
    repository: Repository,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The head's folder.", show_default="runs/NAME")
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="A branch, tag or commit.", show_default="main")
    ] = None,
    overwrite: opt.Overwrite = False,
    as_json: opt.Json = False,
) -> None:
    """Take a head from the Hugging Face Hub; every file is checked against its digest, and nothing is unpickled.

    Its folder is what --head takes. So is hf://user/name itself.

    Example: cer-fuse pull user/rafdb-mlp --revision 3f9c1a2b77d0 -o runs/theirs
    """
    from dataclasses import replace

    from ...fusion.keeping.hub import pull_head

    place = leaving.place_of(repository, "model")
    if revision is not None:
        if place.revision not in (None, revision):
            raise typer.BadParameter(f"{repository} names a revision too: leave one out", param_hint="--revision")
        place = replace(place, revision=revision)
    folder, (info, commit) = put(
        lambda folder, over: (folder, pull_head(place, folder, overwrite=over)), output, leaving.default_folder(place),
        overwrite=overwrite,
    )  # fmt: skip
    blocks = ", ".join(f"{name} {width:,}" for name, width in info.blocks)
    say(
        f"took [bold]{escape(info.head)}[/] on {escape(blocks)} from {escape(place)} ({escape(commit[:12])}) into "
        f"[bold]{escape(folder)}[/]"
    )
    if as_json:
        out_json({
            "head": folder, "kind": info.head, "repository": str(place), "commit": commit, "blocks": dict(info.blocks),
            "classes": info.class_set or info.classes, "fingerprints": info.fingerprints,
        })  # fmt: skip
