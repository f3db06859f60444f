"""How `--help` is laid out, and what is said of a value that cannot be: no name or word is cut off at any width."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar

from typer.core import TyperCommand

_BOUNDS = {"greater_than_equal": ("ge", "at least"), "less_than_equal": ("le", "at most"),
           "greater_than": ("gt", "more than"), "less_than": ("lt", "less than")}  # fmt: skip
_RANGE = re.compile(r"(\S+) is not in the range (?:(\S+?)(<=?))?x(?:([<>]=?)(\S+?))?\.")
_NUMBER = re.compile(r"'(.*)' is not a valid (integer|float)(?: range)?\.")
"""What Click itself says, which parses for the Typers that have no pydantic."""
_KINDS = {"int": "a whole number", "float": "a number", "bool": "yes or no"}


class Whole(TyperCommand):
    """A command whose help has a line with an option's names and what it takes, and its text below.

    Typer's own layout shares the line among five columns, and cuts off what finds no room: at 80 columns names of
    options, words of a list, and half of an example.
    """

    screen: ClassVar[Callable[[], Any]]
    """What makes rich's console; `console.py` says it, which stands on this file."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print usage, what the command does, its arguments and its options."""
        from rich.containers import Renderables
        from rich.padding import Padding
        from rich.panel import Panel
        from rich.text import Text

        screen = type(self).screen()
        screen.print(Padding(Text(re.sub(r"\{(\w+)\}", r"\1", " ".join(self.get_usage(ctx).split()))), 1))
        for part in (self.help or "").split("\n\n"):
            screen.print(Padding(Text.from_markup(" ".join(part.split("\n"))), (0, 1, 1, 1)))
        panels: dict[str, list[Any]] = {"Arguments": [], "Options": []}  # and those of an option's own
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            names = Text(record[0].replace(" range>", ">"), style="bold cyan", overflow="fold")
            if param.required:
                names.append(" *", style="red")
            told = Text(record[1].strip(), overflow="fold")
            kind = "Options" if param.opts[0].startswith("-") else "Arguments"
            panel = getattr(param, "rich_help_panel", None) or kind
            panels.setdefault(panel, []).append(Renderables([names, Padding(told, (0, 0, 0, 4))]))
        for title, rows in panels.items():
            if rows:
                screen.print(Panel(Renderables(rows), title=title, title_align="left", border_style="dim"))
        screen.print()


def word(error: Any) -> None:
    """Let a usage error say what was expected and what was found, in place of the words of the library that parsed.

    Parameters
    ----------
    error : click's UsageError
        Is changed, if it tells what Click or pydantic refused.
    """
    if not hasattr(error, "message"):
        return
    details = getattr(error.__cause__, "errors", None)
    if details is None:
        error.message = _click_said(error.message)
        return
    first = details(include_url=False)[0]
    found, kind, limits = first["input"], str(first["type"]), first.get("ctx", {})
    if kind in _BOUNDS:
        name, how = _BOUNDS[kind]
        error.message = f"must be {how} {limits[name]:g}, however: {found}"
    elif kind.partition("_")[0] in _KINDS:
        error.message = f"must be {_KINDS[kind.partition('_')[0]]}, however: {found!r}"
    else:
        error.message = error.message.removeprefix("Value error, ").removesuffix(".")


def _click_said(message: str) -> str:
    if found := _NUMBER.fullmatch(message):
        return f"must be {_KINDS['int' if found[2] == 'integer' else 'float']}, however: {found[1]!r}"
    found = _RANGE.fullmatch(message)
    if found is None:
        return message
    value, low, over, beside, edge = found.groups()
    bounds = [("more than" if over == "<" else "at least", low)] if low else []
    if beside:
        words = {">": "more than", ">=": "at least", "<": "less than", "<=": "at most"}
        bounds.append((words[beside], edge))
    for how, bound in bounds:
        apart = float(value) - float(bound)
        if {"at least": apart < 0, "more than": apart <= 0, "at most": apart > 0, "less than": apart >= 0}[how]:
            return f"must be {how} {float(bound):g}, however: {value}"
    return message
