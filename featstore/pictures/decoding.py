"""Decoding: a picture's bytes are read and opened once for all embedders, a bounded number of pictures ahead."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy.typing as npt
from cer_fusion.featstore.extraction.embedder import Embedder, OpensPictures
from cer_fusion.featstore.pictures import pictures

Picture = npt.NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Unusable:
    """A picture that cannot be embedded."""

    reason: str
    """One line for the quarantine."""
    unread: bool = False
    """True if its bytes could not be had, which may pass; False if they are no usable picture, which stays so."""


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
                opened[opens] = _made(opens, data)
            picture = opened[opens]
            found[number] = picture if isinstance(picture, Unusable) else _made(prepares, picture)
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

    def __call__(self, path: str, wanted: Sequence[int], digest: str) -> Decoded:
        """Read one picture for the embedders of these numbers; one that cannot be read is unusable for all.

        Bytes of another sha256 than `digest` are not decoded: the file is being written, or a read fell short, and what
        is made of them would stand under the digest of others.
        """
        try:
            data = self._source.read(path)
        except (OSError, MemoryError) as error:
            return dict.fromkeys(wanted, Unusable(pictures.reason_of(error), unread=True))
        if hashlib.sha256(data).hexdigest() != digest:
            return dict.fromkeys(wanted, Unusable("its bytes changed while it was read", unread=True))
        return self._decoder(data, wanted)


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


def _made(step: Callable[[Any], T], given: Any) -> T | Unusable:
    """The step's result, or why there is none; what is no fault of the picture's bytes may pass. Others are raised.

    Decoders raise ValueError, and OSError of their own (without a number), for what is no picture. An OSError with a
    number is the system's, and memory may suffice another time.
    """
    try:
        return step(given)
    except (ValueError, OSError, MemoryError) as error:
        passing = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None)
        return Unusable(pictures.reason_of(error), unread=passing)


def _as_it_is(data: bytes) -> bytes:
    """Opening for an embedder that only decodes."""
    return data
