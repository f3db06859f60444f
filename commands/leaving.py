"""What leaves the machine: said first, file by file; then asked; then sent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import agreed, escape, out, out_json, say, size_text

if TYPE_CHECKING:
    from ..kit.hub import HubPlace, Parcel

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether that may leave this machine.")]
Public = Annotated[bool, typer.Option("--public", help="Into a repository that everybody can read; else private.")]
Licence = Annotated[
    str | None,
    typer.Option("--license", "--licence", help="As the Hub writes it: mit, cc-by-nc-4.0.", show_default="none named"),
]


def ask() -> None:
    """Ask whether what was said may leave; ends with 1 where it may not."""
    if not agreed("may all that leave this machine?", "whether that may leave this machine"):
        say("nothing was sent")
        raise typer.Exit(1)


def to_hub(
    place: HubPlace, parcel: Parcel, inside: list[str], *, public: bool, yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Say what a parcel is, look at the repository, ask, and send.

    Parameters
    ----------
    inside : list of str
        Lines of markup that say what the files hold, and what they do not.
    """
    from ..kit.hub import look, send

    sizes = parcel.sizes
    whole = size_text(sum(sizes.values()))
    shown = "[bold yellow]public[/]" if public else "private"
    say(f"to [bold]{escape(place)}[/], {shown}: {len(sizes):,} files, {whole}")
    pad = max(map(len, sizes))
    for name, size in sizes.items():
        say(f"  {escape(f'{name:<{pad}}')}  {size_text(size)}")
    for line in inside:
        say(f"  {line}")
    commit = None
    if not dry_run:
        standing = look(place, parcel, public=public)
        replaced = sorted(standing.files & set(sizes))
        gone = sorted(name for name in standing.files - set(sizes) if parcel.owned(name))
        if standing.private is None:
            say("the repository is not there yet, and is made")
        else:
            say(
                f"the repository is there ({(standing.commit or '')[:12]}): of its files {len(replaced):,} are replaced"
                + (f", and {escape(', '.join(gone))} removed" if gone else "")
                + "; its history keeps what was there"
            )
        if not yes:
            ask()
        commit = send(place, parcel, standing, public=public)
    if as_json:
        out_json({
            "repository": str(place), "public": public, "files": sizes, "nbytes": sum(sizes.values()),
            "commit": commit, "dry_run": dry_run,
        })  # fmt: skip
        return
    verb = "this sends" if dry_run else "sent"
    out(f"{verb} {len(sizes):,} files, {whole}, to {place}" + ("" if commit is None else f": commit {commit[:12]}"))


def place_of(text: str, kind: str) -> HubPlace:
    """The repository that a command line names; anything else is a mistake in it."""
    from ..kit.hub import HubError, HubPlace

    try:
        return HubPlace.parse(text, "dataset" if kind == "dataset" else "model")
    except HubError as error:
        raise typer.BadParameter(str(error)) from None


def default_folder(place: HubPlace) -> Path:
    """Where a head is put that nobody named a folder for."""
    return Path("runs") / place.name.partition("/")[2]
