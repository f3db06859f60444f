"""The meter: how long the model computed, and how long it waited for pictures."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Meter:
    """Seconds of one run of `extract`; may be looked at from outside while the run goes on."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.compute_s = 0.0
        """Seconds within `embed`."""
        self.waited_s = 0.0
        """Seconds in which the model had to wait for pictures: to be hashed, read, decoded."""

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def busy(self) -> float:
        """Share of the time, 0 to 1, in which the model computed."""
        return min(1.0, self.compute_s / self.elapsed_s) if self.elapsed_s else 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what happens within as waiting for pictures."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.waited_s += time.monotonic() - began

    def waiting_for(self, items: Iterable[T]) -> Iterator[T]:
        """Pass items through, and count as waiting the time until each is there."""
        source = iter(items)
        while True:
            with self.waiting():
                try:
                    item = next(source)
                except StopIteration:
                    return
            yield item
