"""`cer-feat manifest split`: train, valid and test parts that are alike in their classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from cer_fusion.commands.console import escape, say
from cer_fusion.commands.feat.manifest_tools.talk import File, Output, check_output, counting, write
from cer_fusion.commands.options import Json, Root, Seed, split_list
from cer_fusion.commands.outputs import Overwrite

if TYPE_CHECKING:
    from cer_fusion.featstore import Manifest


def split(
    file: File,
    output: Output,
    shares: Annotated[str, typer.Option(help="Each split and its share.")] = "train=0.8,valid=0.1,test=0.1",
    again: Annotated[bool, typer.Option("--again", help="Forget the splits that are there.")] = False,
    repeats: Annotated[
        str,
        typer.Option(help="Samples of the same picture: together (in one split), or ignore (do not look)."),
    ] = "together",
    root: Root = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Split a manifest: the same share of every class, whole groups, no picture on two sides.

    Example: cer-feat manifest split faces.csv --shares train=0.8,test=0.2 -o split.csv
    """
    from cer_fusion.featstore import Manifest
    from cer_fusion.featstore.errors import ManifestError
    from cer_fusion.featstore.manifests.splitting import split_by_shares

    if repeats not in ("together", "ignore"):
        raise typer.BadParameter("must be together or ignore", param_hint="--repeats")
    check_output(output, overwrite=overwrite)
    listed = Manifest.read(file, root=root, forget_splits=again)
    if listed.splits != ("",):
        raise ManifestError(
            f"{file} is split already: {', '.join(filter(None, listed.splits))}\n  forget these splits with --again"
        )
    together = _repeats(listed) if repeats == "together" else []
    done = split_by_shares(listed, _shares(shares), together=together, seed=seed)
    write(done, output, as_json, overwrite=overwrite)
    for part in done.splits:
        empty = [label for label, count in done.select(part).counts().items() if not count and done.counts()[label]]
        if empty:
            told = f"split {escape(part)} has no sample of {escape(', '.join(empty))}"
            say(f"[yellow]note: {told}[/]: too few groups for its share")


def _shares(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in split_list(text):
        name, _, share = part.partition("=")
        try:
            if name.strip() in found:
                raise ValueError
            found[name.strip()] = float(share)
        except ValueError:
            raise typer.BadParameter(
                f"expected such as train=0.8,test=0.2, however: {text!r}", param_hint="--shares"
            ) from None
    return found


def _repeats(listed: Manifest) -> list[list[int]]:
    from cer_fusion.featstore.pictures import pictures

    with counting("hashing", len(listed)) as count:
        digests, failed = pictures.digests(listed, progress=count)
    if failed:
        say(
            f"[yellow]{len(failed):,} pictures cannot be read[/]: whether they repeat others is not known "
            f"(--repeats ignore does not look)"
        )
    groups = pictures.repeats(listed, digests)
    if groups:
        say(f"{len(groups):,} pictures occur more than once: the samples of each stay together")
    return groups
