"""Embedders that open pictures before they prepare them, from functions that a reader process can import."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import numpy as np

from tests.featstore.conftest import ToyEmbedder

opened: list[bytes] = []
"""What `open_toy` was given, in this process."""


def open_toy(data: bytes) -> bytes:
    """Open a toy picture: its bytes, unless they say that it is none."""
    opened.append(data)
    if data.startswith(b"BAD"):
        raise ValueError("not a picture")
    if data.startswith(b"CRASH"):
        os._exit(7)
    if data.startswith(b"FAULT"):
        raise TypeError("a fault of ours")
    return data


def open_otherwise(data: bytes) -> bytes:
    """Open as another decoder would, which is not shared."""
    return open_toy(data)


def open_noting(notes: str, data: bytes) -> bytes:
    """Open, and write down what was opened: for what other processes do."""
    with open(notes, "ab", buffering=0) as file:
        file.write(data + b"\n")
    return open_toy(data)


def prepare(step: int, picture: bytes) -> np.ndarray:
    """Prepare as one of several embedders: each sees other values; step 3 takes no even picture."""
    if step == 3 and picture[-1:] in b"02468":
        raise ValueError("even pictures are too small")
    return np.frombuffer(picture[:16].ljust(16, b"\0"), dtype=np.uint8) * np.uint8(step)


class OpeningEmbedder(ToyEmbedder):
    """A toy that shares its opened pictures with all that have the same `open`."""

    def __init__(
        self, name: str = "toy", step: int = 1, open: Callable[[bytes], bytes] = open_toy, **options: object
    ) -> None:
        super().__init__(name, step=step, **options)
        self.open = open
        self.prepare = functools.partial(prepare, step)

    def decode(self, data: bytes) -> np.ndarray:
        return self.prepare(self.open(data))
