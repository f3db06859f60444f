"""What the store asks of anything that turns pictures into rows; `backbones` knows nothing of it and fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt


class Embedder(Protocol):
    """Turns the bytes of picture files into rows of named blocks."""

    @property
    def name(self) -> str:
        """What the feature is called unless it is given another name."""

    @property
    def blocks(self) -> Mapping[str, int]:
        """Block name to width, in order."""

    def spec(self) -> dict[str, Any]:
        """Everything that fixes the numbers, as JSON values; goes into the fingerprint."""

    def describe(self) -> dict[str, Any]:
        """What people want to know besides, as JSON values; not part of the fingerprint."""

    def decode(self, data: bytes) -> npt.NDArray[Any]:
        """One picture, ready to be stacked; called from several threads.

        Raises
        ------
        ValueError
            If the bytes are not a usable picture; the message is the reason in the quarantine.
        """

    def embed(self, pictures: npt.NDArray[Any]) -> Mapping[str, npt.NDArray[Any]]:
        """A stack of b decoded pictures to {block: (b, d) float array}."""
