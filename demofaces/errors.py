"""Errors of demofaces.

DemoFacesError
├── UnitError (ValueError)              an action unit that is not drawn, or an intensity outside 0..1
├── StyleError (ValueError)             a drawing style or size that cannot be drawn
├── UnknownCompoundError (KeyError)     a compound expression nobody defined
└── DatasetError (ValueError)           counts that make no dataset, or a folder that holds something else
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DemoFacesError(Exception):
    """Anything that demofaces refuses."""


class UnitError(DemoFacesError, ValueError):
    """An action unit that is not drawn, or an intensity outside 0..1."""


class StyleError(DemoFacesError, ValueError):
    """A drawing style or size that cannot be drawn."""


class UnknownCompoundError(DemoFacesError, KeyError):
    """A compound expression nobody defined."""

    def __str__(self) -> str:
        """Give the message without the quotes that `KeyError` adds."""
        return str(self.args[0])


class DatasetError(DemoFacesError, ValueError):
    """Counts that make no dataset, or a folder that holds something else."""


def nearest(name: str, known: Iterable[str]) -> str:
    """List the known names, nearest first, as one readable line."""
    candidates = sorted(known)
    close = difflib.get_close_matches(name, candidates, n=3, cutoff=0.4)
    return ", ".join(close or candidates)
