"""Progress of an extraction: rate, how busy the model is, time left."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from commands.console import PROGRESS_LINE, PROGRESS_VARIABLE, Progress


@contextlib.contextmanager
def extract_bar(busy: Callable[[], float]) -> Iterator[Progress]:
    """A bar on stderr, silent when that is no terminal; lines for the process that this one works for.

    Parameters
    ----------
    busy : callable
        Share of the time, 0 to 1, in which the model computed so far.
    """
    if os.environ.get(PROGRESS_VARIABLE) == "lines":
        yield lambda stage, done, total: _line(stage, done, total, busy())
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Bar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def step(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, rate="")
            task = bar.tasks[bar.task_ids.index(tasks[stage])]
            bar.update(tasks[stage], completed=done, total=total, rate=rate_text(stage, task.speed, busy()))

        yield step


def rate_text(stage: str, speed: float | None, busy: float) -> str:
    """`85.3 pictures/s, model 93 % busy`; nothing while the speed is not known."""
    if not speed:
        return ""
    rate = f"{speed:,.1f} pictures/s"
    return f"{rate}, model {busy:.0%} busy" if stage == "embed" else rate


def _line(stage: str, done: int, total: int, busy: float) -> None:
    text = json.dumps([stage, done, total, round(busy, 3)])
    print(PROGRESS_LINE + text, file=sys.stderr, flush=True)  # noqa: T201
