"""`cer-fuse rm`: take kept runs and comparisons away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import options as opt
from ..console import FAILED, agreed, escape, out, out_json, say, size_text


@opt.forms(removing=opt.Form("asks nothing, as --dry-run removes nothing", ("yes",)))
def rm(
    ctx: typer.Context,
    kept: Annotated[
        list[Path], typer.Argument(metavar="RUN|KEPT", help="Run folders, and comparisons that were kept, .json.")
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether all that may go.")] = False,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
) -> None:
    """Take kept runs and comparisons away, for good, after saying what goes; nothing that is neither is touched.

    Features, pictures and the store stay. A comparison has its runs' answers in itself, and is printed without them.

    Example: cer-fuse rm runs/rafdb-mlp-2 runs/rafdb-compare-2.json
    """
    from ...fusion.keeping.runs import kept_at, remove_kept

    opt.only(ctx, removing=not dry_run)
    going = [kept_at(path) for path in {path.resolve(): path for path in kept}.values()]
    for one in going:
        say(f"[bold]{escape(one.path)}[/]: {one.kind}, {escape(one.what)}, {size_text(one.nbytes)}")
    if not (dry_run or yes) and not agreed("may all that go?", "whether all that may go"):
        say("nothing was removed")
        raise typer.Exit(FAILED)
    for one in [] if dry_run else going:
        remove_kept(one)
    nbytes = sum(one.nbytes for one in going)
    if as_json:
        removed = [{"path": one.path, "kind": one.kind, "what": one.what, "nbytes": one.nbytes} for one in going]
        out_json({"removed": removed, "nbytes": nbytes, "dry_run": dry_run})
        return
    names = ", ".join(str(one.path) for one in going)
    out(f"{'would remove' if dry_run else 'removed'} {names}: {size_text(nbytes)}")
