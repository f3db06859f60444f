"""Every command and its parameters, for tests that go over all of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer.main

from cer_fusion.commands import feat, fuse


@cache
def commands() -> dict[str, Any]:
    """Name as it is typed (`cer-feat manifest split`) to the command."""

    def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        command = getattr(command, "real", command)
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        for word, one in (inner or {}).items():
            yield from below(f"{name} {word}", one)

    fronts = {"cer-feat": feat.app, "cer-fuse": fuse.app}
    return {name: one for front, app in fronts.items() for name, one in below(front, typer.main.get_command(app))}


def options(command: Any) -> dict[str, Any]:
    """Options of a command by the name of their parameter, without `--help`."""
    return {str(one.name): one for one in command.params if one.param_type_name == "option" and one.name != "help"}


def kinds(command: Any) -> dict[str, set[Any]]:
    """The plain types in the annotation of each parameter: `tuple[Path, Path] | None` is of Path.

    Of a closed choice, the words.
    """

    def flat(hint: Any) -> set[Any]:
        inner = get_args(hint)
        return set().union(*map(flat, inner)) if inner else {hint}

    hints = get_type_hints(inspect.unwrap(command.callback))
    plain = {Path, str, int, float, bool}
    return {name: {one for one in flat(hint) if isinstance(one, str) or one in plain} for name, hint in hints.items()}
