"""Errors of demofaces.

DemoFacesError
├── UnitError (ValueError)              an action unit that is not drawn, or an intensity outside 0..1
├── StyleError (ValueError)             a drawing style or size that cannot be drawn
├── UnknownCompoundError (KeyError)     a compound expression nobody defined
└── DatasetError (ValueError)           counts that make no dataset, or a folder that holds something else
"""

from __future__ import annotations

from ..kit.errors import CerError


class DemoFacesError(CerError):
    """Anything that demofaces refuses."""


class UnitError(DemoFacesError, ValueError):
    """An action unit that is not drawn, or an intensity outside 0..1."""


class StyleError(DemoFacesError, ValueError):
    """A drawing style or size that cannot be drawn."""


class UnknownCompoundError(DemoFacesError, KeyError):
    """A compound expression nobody defined."""


class DatasetError(DemoFacesError, ValueError):
    """Counts that make no dataset, or a folder that holds something else."""
