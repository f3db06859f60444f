"""What a fitted head is made of, in forms that need no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from numpy.typing import NDArray

JSON: TypeAlias = Any
"""Text, numbers, truth values, None, and lists and dicts of them."""


@dataclass(frozen=True, kw_only=True)
class HeadState:
    """Everything beyond its parameters that a fitted head needs to predict."""

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Named arrays; names may hold dots and slashes."""

    values: Mapping[str, JSON] = field(default_factory=dict)
    """Small facts: temperatures, numbers of trees, seeds of members."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    """Whole files in a library's own format, by file name."""

    def under(self, prefix: str) -> HeadState:
        """Return the same state with `prefix` before every name, as a head keeps one of its members."""
        return HeadState(
            arrays={f"{prefix}/{name}": array for name, array in self.arrays.items()},
            values={prefix: dict(self.values)},
            files={f"{prefix}-{name}": data for name, data in self.files.items()},
        )

    def member(self, prefix: str) -> HeadState:
        """Undo `under`: the part of this state kept for one member."""
        return HeadState(
            arrays={n[len(prefix) + 1 :]: a for n, a in self.arrays.items() if n.startswith(f"{prefix}/")},
            values=self.values[prefix],
            files={n[len(prefix) + 1 :]: d for n, d in self.files.items() if n.startswith(f"{prefix}-")},
        )

    def __or__(self, other: HeadState) -> HeadState:
        """Join two states whose names differ."""
        return HeadState(
            arrays={**self.arrays, **other.arrays},
            values={**self.values, **other.values},
            files={**self.files, **other.files},
        )
