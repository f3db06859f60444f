"""What a command writes: refused before the work starts where something is there already, but for `--overwrite`.

The writers refuse once more when they give a finished file its name, so that nothing is lost to somebody who was
quicker either.
"""

from __future__ import annotations

import itertools
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer
from cer_fusion.commands.forms import Form

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that are there already.")]
NO_PICTURE = Path("none")
"""What `--figure none` asks for."""

WRITTEN = Form("replaces outputs that are there, and this writes none", ("overwrite",))
"""`--overwrite` of a command that need not write anything."""
Outputs = Mapping[str, Path | Iterable[Path | None] | None]
"""Option to the file or files that it makes a command write; None for what is not written."""


def check_outputs(outputs: Outputs, *, overwrite: bool, apart_from: Iterable[Path | None] = ()) -> None:
    """Refuse files that cannot be written as asked, all of them together and before any work is done.

    Parameters
    ----------
    outputs : dict of option to path or paths
    overwrite : bool
        Whether plain files may be replaced. Folders, devices and the like never are.
    apart_from : paths
        Inputs that must not be replaced by what is made of them.

    Raises
    ------
    typer.BadParameter
        Naming the option, every file in the way, and what to do.
    """
    inputs = [path for path in apart_from if path is not None and path.exists()]
    seen: dict[str, tuple[str, Path]] = {}
    taken: dict[str, list[Path]] = {}
    for option, paths in outputs.items():
        for path in [paths] if paths is None or isinstance(paths, Path) else paths:
            if path is None:
                continue
            _check_place(option, path, inputs)
            if (other := seen.get(_key(path))) is not None:
                raise typer.BadParameter(
                    f"{path} would be written twice, as {other[1]} of {other[0]} too: name different files",
                    param_hint=option,
                )
            seen[_key(path)] = (option, path)
            if os.path.lexists(path) and not overwrite:
                taken.setdefault(option, []).append(path)
    if taken:
        names = [str(path) for paths in taken.values() for path in paths]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
        raise typer.BadParameter(
            f"{shown} {'exists' if len(names) == 1 else 'exist'} already: name another, or replace it with --overwrite",
            param_hint=", ".join(taken),
        )


def put(write: Callable[[Path, bool], Path], asked: Path | None, default: Path, *, overwrite: bool) -> Path:
    """Write to the place asked for; where none was, to the first free one of `default`, `default-2`, `default-3`, …

    Parameters
    ----------
    write : callable (path, overwrite)
        Writes, and raises `FileExistsError` where a place is taken that is not to be overwritten.
    """
    if asked is not None or overwrite:
        return write(asked or default, overwrite)
    for place in numbered(default):
        if not os.path.lexists(place):
            try:
                return write(place, False)
            except FileExistsError:  # somebody else was quicker
                continue
    raise AssertionError("numbers do not end")


def numbered(first: Path) -> Iterable[Path]:
    """A place, and then the same with -2, -3, … at the end of its name."""
    yield first
    for number in itertools.count(2):
        yield first.with_name(f"{first.stem}-{number}{first.suffix}")


def _check_place(option: str, path: Path, inputs: Iterable[Path]) -> None:
    if str(path) == "-":
        raise typer.BadParameter(
            "there is no file called '-', and no other word for standard output: name a file", param_hint=option
        )
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a folder, and a file is to be written: name one in it", param_hint=option)
    if path.exists() and not path.is_file():
        raise typer.BadParameter(f"{path} is no plain file, and is not replaced by one", param_hint=option)
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise typer.BadParameter(f"{path} cannot be written: {above} is no folder", param_hint=option)
    if not os.access(above, os.W_OK | os.X_OK):
        raise typer.BadParameter(
            f"{path} cannot be written: {above} is read-only for you: name another place", param_hint=option
        )
    for one in inputs:
        if path.exists() and path.samefile(one):
            raise typer.BadParameter(f"{path} is what this reads ({one}): name another file", param_hint=option)


def _key(path: Path) -> str:
    """Equal for names that some file systems take for one: of other case, or of composed and decomposed accents."""
    return unicodedata.normalize("NFC", str(path.parent.resolve() / path.name)).casefold()
