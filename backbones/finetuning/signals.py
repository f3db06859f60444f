"""Ctrl-C and a scheduler's signals, held back until the step in progress is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")


class Held:
    """Whether a signal came."""

    def __init__(self) -> None:
        self.came = False


@contextmanager
def held_signals() -> Iterator[Held]:
    """Note a signal instead of raising it; a second one interrupts at once. Only the main thread can do so."""
    held = Held()
    if threading.current_thread() is not threading.main_thread():
        yield held
        return

    def note(number: int, frame: object) -> None:
        if held.came:
            raise KeyboardInterrupt
        held.came = True

    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield held
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
