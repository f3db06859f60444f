"""Decoding: a picture's bytes are read and opened once for all embedders, a bounded number of pictures ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt

from featstore import pictures
from featstore.embedder import Embedder, OpensPictures

Picture = npt.NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Unusable:
    """A picture that cannot be embedded."""

    reason: str
    """One line for the quarantine."""


Decoded = dict[int, Picture | Unusable]
"""Number of an embedder to what it gets of one picture."""


class Decoder:
    """Bytes of one picture to what each of several embedders takes; holds no embedder that can open pictures.

    Parameters
    ----------
    embedders : sequence of Embedder
        Those of equal `open` (see `OpensPictures`) share the opened picture.
    """

    def __init__(self, embedders: Sequence[Embedder]) -> None:
        self._steps = [
            (embedder.open, embedder.prepare) if isinstance(embedder, OpensPictures) else (_as_it_is, embedder.decode)
            for embedder in embedders
        ]

    def __call__(self, data: bytes, wanted: Iterable[int]) -> Decoded:
        """Decode for the embedders of these numbers; what is no picture for one may be one for another."""
        opened: dict[Callable[[bytes], Any], Any] = {}
        found: Decoded = {}
        for number in wanted:
            opens, prepares = self._steps[number]
            if opens not in opened:
                opened[opens] = _or_reason(opens, data)
            picture = opened[opens]
            found[number] = picture if isinstance(picture, Unusable) else _or_reason(prepares, picture)
        return found


class PictureReader:
    """Reads pictures by their path and decodes them.

    Parameters
    ----------
    root : Path
        Where the paths start: a folder, a zip file or a tar file.
    decoder : Decoder
    """

    def __init__(self, root: Path, decoder: Decoder) -> None:
        self._source = pictures.PictureSource(root)
        self._decoder = decoder

    def __call__(self, path: str, wanted: Sequence[int]) -> Decoded:
        """Read one picture for the embedders of these numbers; one that cannot be read is unusable for all."""
        data = _or_reason(self._source.read, path)
        return dict.fromkeys(wanted, data) if isinstance(data, Unusable) else self._decoder(data, wanted)


def decode_ahead(
    positions: Iterable[int], submit: Callable[[int], Future[T]], *, ahead: int
) -> Generator[tuple[int, T], None, None]:
    """Yield (position, result) in order; at most `ahead` pictures are decoded or wait to be."""
    waiting: deque[tuple[int, Future[T]]] = deque()
    rest = iter(positions)
    try:
        while True:
            while len(waiting) < ahead and (position := next(rest, None)) is not None:
                waiting.append((position, submit(position)))
            if not waiting:
                return
            position, future = waiting.popleft()
            yield position, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def _or_reason(step: Callable[[Any], T], given: Any) -> T | Unusable:
    """The step's result, or why there is none: not a picture (ValueError) or not readable (OSError).

    Anything else is a fault and raised.
    """
    try:
        return step(given)
    except (ValueError, OSError) as error:
        return Unusable(pictures.reason_of(error))


def _as_it_is(data: bytes) -> bytes:
    """Opening for an embedder that only decodes."""
    return data
