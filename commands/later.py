"""Commands whose modules are imported when they run.

A front door with thirty commands would otherwise read all of them, and build every option of theirs, to print one line
each or to run one. The line stands here twice, in the list and in the command's docstring; a test holds them together.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup


class Later(TyperCommand):
    """A command known by its name and one line, until somebody asks for more.

    Parameters
    ----------
    name : str
    where : str
        ``module:function``, or ``module:app`` for a group.
    line : str
        What it does, for the list of commands.
    """

    def __init__(self, name: str, where: str, line: str) -> None:
        super().__init__(name, help=line, rich_markup_mode="rich")
        self.where = where

    @cached_property
    def real(self) -> Any:
        """The command itself, its module imported."""
        module, name = self.where.split(":")
        found = getattr(import_module(module), name)
        if isinstance(found, typer.Typer):
            return typer.main.get_group(found)
        alone = typer.Typer(rich_markup_mode="rich", add_completion=False)
        alone.command(self.name)(found)
        return typer.main.get_command(alone)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse a command line as the command itself does."""
        return self.real.make_context(info_name, args, parent=parent, **extra)


class Front(TyperGroup):
    """A group of commands that are imported when they run."""

    later: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Where a command is, and its line, by name, in the order of the list."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.commands.update({name: Later(name, where, line) for name, (where, line) in self.later.items()})
