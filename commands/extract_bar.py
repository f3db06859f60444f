"""Progress of an extraction: rate, how busy the model is, time left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from cer_fusion.commands.console import Progress, progress_bar


@contextlib.contextmanager
def extract_bar(busy: Callable[[], float]) -> Iterator[Progress]:
    """A bar on stderr, silent when that is no terminal; lines for the process that this one works for.

    Parameters
    ----------
    busy : callable
        Share of the time, 0 to 1, in which the model computed so far.
    """
    with progress_bar(
        rate=lambda stage, speed: rate_text(stage, speed, busy()), more=lambda: [round(busy(), 3)]
    ) as step:
        yield step


def rate_text(stage: str, speed: float | None, busy: float) -> str:
    """`85.3 pictures/s, model 93 % busy`; nothing while the speed is not known."""
    if not speed:
        return ""
    rate = f"{speed:,.1f} pictures/s"
    return f"{rate}, model {busy:.0%} busy" if stage == "embed" else rate
