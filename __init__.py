"""Compound expression recognition by feature fusion: faces are embedded once, kept, and small heads learn in seconds.

`cer_fusion.featstore` keeps rows under the name of exactly what made them, `cer_fusion.backbones` makes them from
pictures, `cer_fusion.fusion` learns from them. What is used most can be had from here; nothing is loaded before it is.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backbones import create, inspect_checkpoint
    from .featstore import Manifest, Store, View, extract
    from .fusion import (
        Axes,
        Blocks,
        Report,
        Rows,
        compare,
        load_head,
        make_head,
        parse_grid,
        parse_simplex,
        save_head,
        sweep,
    )

_HOMES = {
    "Axes": "fusion",
    "Blocks": "fusion",
    "Manifest": "featstore",
    "Report": "fusion",
    "Rows": "fusion",
    "Store": "featstore",
    "View": "featstore",
    "compare": "fusion",
    "create": "backbones",
    "extract": "featstore",
    "inspect_checkpoint": "backbones",
    "load_head": "fusion",
    "make_head": "fusion",
    "parse_grid": "fusion",
    "parse_simplex": "fusion",
    "save_head": "fusion",
    "sweep": "fusion",
}

__all__ = [
    "Axes",
    "Blocks",
    "Manifest",
    "Report",
    "Rows",
    "Store",
    "View",
    "compare",
    "create",
    "extract",
    "inspect_checkpoint",
    "load_head",
    "make_head",
    "parse_grid",
    "parse_simplex",
    "save_head",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("cer-fusion")
    if name in _HOMES:
        value = getattr(import_module(f"cer_fusion.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
