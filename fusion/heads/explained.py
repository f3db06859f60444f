"""What a head and each of its settings are, read from where they are written: the docstrings of their classes."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

from . import head_class, head_settings

_SECTION = re.compile(r"^Parameters\b.*\n-+\n((?:.*\n?)*?)(?=^\S.*\n-+\n|\Z)", re.MULTILINE)
_ENTRY = re.compile(r"^(?P<names>\w+(?:, \w+)*)(?: : .*)?\n(?P<text>(?:[ ]+.*\n?|\n)*)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting of a head, as `make_head` and ``--set`` take it."""

    name: str
    default: Any
    kind: str
    """Its type, as it is annotated."""
    text: str
    """What it does."""
    words: tuple[str, ...] = ()
    """All values that it takes, where they are words of a closed list."""


def head_line(name: str) -> str:
    """Return the first sentence about a head."""
    text = " ".join((inspect.getdoc(head_class(name)) or "").split("\n\n")[0].split())
    return text if len(text) <= 120 else text.partition(" (")[0] + "."


@cache
def measured() -> dict[str, Any]:
    """Return what `python -m benchmarks.heads --write` measured: of which rows, on which machine, and of each head.

    ``heads`` maps a head's name to its processor seconds ``fit_cpu_s``, the shares ``accuracy`` and ``macro_f1`` on
    rows kept apart, and the day, ``measured``.
    """
    found: dict[str, Any] = json.loads(files(__package__).joinpath("measured.json").read_text(encoding="utf-8"))
    return found


def explained_settings(name: str) -> list[Setting]:
    """Return the settings of a head in the order of its signature, with defaults and what they do."""
    cls = head_class(name)
    texts = _texts(cls)
    parameters = inspect.signature(cls).parameters
    return [
        Setting(
            name=setting,
            default=parameters[setting].default,
            kind=str(parameters[setting].annotation).strip("'"),
            text=" ".join(texts.get(setting, "").split()),
            words=_words_of(cls, str(parameters[setting].annotation).strip("'")),
        )
        for setting in head_settings(name)
    ]


def _words_of(cls: type, kind: str) -> tuple[str, ...]:
    """The words of an annotation that is a Literal, or the name of one where the class or a base of it is defined."""
    from . import settings

    if kind.startswith("Literal["):
        return tuple(map(str, ast.literal_eval(f"({kind.removeprefix('Literal[').removesuffix(']')},)")))
    for module in (*(sys.modules[one.__module__] for one in cls.__mro__), settings):
        found = vars(module).get(kind)
        if get_origin(found) is Literal:
            return tuple(map(str, get_args(found)))
    return ()


@cache
def _texts(cls: type) -> dict[str, str]:
    """What stands about each setting: at the class itself before its bases, `MLPConfig` behind all of them."""
    from .settings import MLPConfig

    found: dict[str, str] = {}
    for one in (*cls.__mro__, MLPConfig):
        if one.__module__.startswith(__name__.partition(".")[0]):
            for name, text in {**_from_docstring(one), **_from_fields(one)}.items():
                found.setdefault(name, text)
    return found


def _from_docstring(cls: type) -> dict[str, str]:
    """Entries of the sections ``Parameters…`` of a numpydoc docstring."""
    text = inspect.cleandoc(cls.__dict__.get("__doc__") or "") + "\n"
    return {
        name: entry["text"]
        for section in _SECTION.finditer(text)
        for entry in _ENTRY.finditer(section[1])
        for name in entry["names"].split(", ")
    }


def _from_fields(cls: type) -> dict[str, str]:
    """Strings below the fields of a class, which Python does not keep."""
    try:
        [tree] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError, ValueError):  # an installation without sources
        return {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    return {
        field.target.id: after.value.value
        for field, after in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
    }
