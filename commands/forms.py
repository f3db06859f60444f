"""Which options say something in which form of a command: one that says nothing is refused, not ignored.

A command of several forms declares them once, with `forms`, and says with `only` which are meant. A test goes through
all commands and their options, so that a new option must be declared too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import typer

Command = TypeVar("Command", bound=Callable[..., None])


@dataclass(frozen=True)
class Form:
    """A form of a command, or a condition, and the parameters that are for it."""

    says: str
    """Why its options say nothing otherwise, for the error message."""
    options: tuple[str, ...]
    """Parameters of the command's function. One that stands in several forms is for any of them."""
    within: str | None = None
    """The form that this one is a part of."""


@dataclass(frozen=True)
class Forms:
    """All forms of a command."""

    always: tuple[str, ...]
    """Parameters that say something in every form."""
    named: Mapping[str, Form]


def forms(*, always: tuple[str, ...], **named: Form) -> Callable[[Command], Command]:
    """Declare which parameters of a command say something always, and which in some of its forms only."""

    def declare(command: Command) -> Command:
        command.forms = Forms(always, named)  # type: ignore[attr-defined]
        return command

    return declare


def only(ctx: typer.Context, **meant: object) -> None:
    """Refuse options of the command line that say nothing in the forms that are meant.

    What an environment variable says is no mistake, and is left alone.

    Parameters
    ----------
    ctx : typer.Context
        Of a command with declared forms.
    **meant
        For every form, something that is true where it is meant.

    Raises
    ------
    typer.BadParameter
        Naming the options and the reason.
    """
    declared: Forms = ctx.command.callback.forms  # type: ignore[union-attr]
    if set(meant) != set(declared.named):
        raise AssertionError(f"every form is meant or not, however: {sorted(meant)}")
    refused: dict[str, list[str]] = {}
    for parameter in ctx.command.params:
        name = str(parameter.name)
        where = [form for form, one in declared.named.items() if name in one.options]
        if where and _given(ctx, name) and all(_reason(declared, form, meant) for form in where):
            refused.setdefault(_reason(declared, where[0], meant) or "", []).append(parameter.opts[0])
    for reason, options in refused.items():
        raise typer.BadParameter(reason, param_hint=", ".join(options))


def _given(ctx: typer.Context, name: str) -> bool:
    source: Any = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _reason(declared: Forms, form: str, meant: Mapping[str, object]) -> str | None:
    """Why the options of a form say nothing; None where it is meant."""
    one = declared.named[form]
    outer = None if one.within is None else _reason(declared, one.within, meant)
    return outer or (None if meant[form] else one.says)
