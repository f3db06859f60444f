"""What the store asks of anything that turns pictures into rows; `backbones` knows nothing of it and fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

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
        """A stack of b decoded pictures to {block: (b, d) float array}.

        Raises
        ------
        MemoryError
            If b pictures are too many for the device at once; fewer are tried where the batch size is automatic.
        """


@runtime_checkable
class OpensPictures(Protocol):
    """An embedder whose `decode` is `prepare` after `open`, so that several can share the opened picture.

    Embedders whose `open` is equal share it. Both are called from several threads, raise ValueError as `decode` does,
    and must be such that they can be sent to another process (which a method of the network itself should not be).
    """

    @property
    def open(self) -> Callable[[bytes], Any]:
        """Turns a file's bytes into a picture, which `prepare` must not change."""

    @property
    def prepare(self) -> Callable[[Any], npt.NDArray[Any]]:
        """Turns an opened picture into what is stacked."""


@runtime_checkable
class SizesBatches(Protocol):
    """An embedder that knows how many pictures it likes at once."""

    @property
    def auto_batch(self) -> int:
        """What an automatic batch size starts from."""
