"""How the commands talk: results to stdout, everything else to stderr, errors without tracebacks."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import typer

from commands import later

FAILED, TOO_MANY_ERRORS, INTERRUPTED = 1, 3, 130
PROCESS = "process"
"""The context object of a command that is all that its process does."""
PROGRESS_VARIABLE, PROGRESS_LINE = "CER_PROGRESS", "\x1eprogress "
"""A process that works for another tells its progress as lines, not as a bar."""
_OURS = {"FeatstoreError", "BackbonesError", "FusionError", "DemoFacesError", "WorkerError"}

Progress = Callable[[str, int, int], None]


class Front(later.Front):
    """Ends a command with 0 done, 1 failed, 2 wrong usage, 3 too many bad pictures, 130 interrupted.

    A user's mistake is told in words; a fault of ours keeps its traceback.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and turn what goes wrong into words and an exit status."""
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        _interrupt_on_signals()
        try:
            answer = super().invoke(ctx)
            _settled(ctx)
            return answer
        except KeyboardInterrupt:
            _settled(ctx)
            say("[bold]interrupted.[/] Nothing is half-written; run the same command again to go on.")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # `cer-feat ls | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except Exception as error:  # the boundary: our own errors are told, all others are raised again
            code = _told(error)
            if code is None:
                raise
            raise typer.Exit(code) from None


def app(help_text: str, commands: Mapping[str, tuple[str, str]] | None = None) -> typer.Typer:
    """A Typer app whose errors read as `Front` says.

    `commands` are those that are imported when they run: where each is (``module:function``), and its line.
    """
    made = typer.Typer(
        cls=type("Front", (Front,), {"later": commands or {}}), help=help_text, no_args_is_help=True,
        pretty_exceptions_enable=False, rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )  # fmt: skip
    made.callback()(lambda: None)  # a Typer app without commands of its own is a group only with a callback
    return made


def say(markup: str) -> None:
    """Talk: progress, choices made, hints. Goes to stderr."""
    _stderr().print(markup, highlight=False, soft_wrap=True)


def escape(text: object) -> str:
    """Text that must not be read as markup."""
    from rich.markup import escape as escape_markup

    return escape_markup(str(text))


def size_text(nbytes: float) -> str:
    """Bytes for people, in powers of a thousand."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:,.0f} {unit}" if unit == "B" else f"{nbytes:,.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:,.1f} TB"


def out(text: str) -> None:
    """A result, as it is, to stdout."""
    typer.echo(text)


def out_json(value: Any) -> None:
    """A result for machines, to stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def out_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "", caption: str = "", left: int = 1
) -> None:
    """A table to stdout; all but the first `left` columns are right-aligned."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, caption=caption or None, title_justify="left", caption_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    if not console.is_terminal:  # a pipe has no width: never fold or cut what somebody will parse
        console = Console(width=max(80, console.measure(table, options=console.options.update(width=500)).maximum))
    console.print(table)


@contextlib.contextmanager
def progress_bar(
    rate: Callable[[str, float | None], str] | None = None, more: Callable[[], list[float]] = list
) -> Iterator[Progress]:
    """A bar with rate and time left on stderr, silent when that is no terminal; lines for a process we work for.

    Parameters
    ----------
    rate : callable (stage, steps a second or None), optional
        What the bar says of the rate.
    more : callable
        Numbers that the lines carry besides.
    """
    if os.environ.get(PROGRESS_VARIABLE) == "lines":
        yield lambda stage, done, total: _progress_line([stage, done, total, *more()])
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    told = rate or (lambda stage, speed: f"{speed:,.1f}/s" if speed else "")
    console = _stderr()
    with Bar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def step(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, rate="")
            task = bar.tasks[bar.task_ids.index(tasks[stage])]
            bar.update(tasks[stage], completed=done, total=total, rate=told(stage, task.speed))

        yield step


def _progress_line(values: list[Any]) -> None:
    print(PROGRESS_LINE + json.dumps(values), file=sys.stderr, flush=True)  # noqa: T201


def show_logs() -> None:
    """Let the packages' notes (what was chosen, what was replaced) through to stderr."""
    logging.getLogger().setLevel(logging.INFO)
    for noisy in ("timm", "httpx", "huggingface_hub", "matplotlib", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _interrupt_on_signals() -> None:
    """A scheduler's SIGTERM or SIGUSR1 ends a run as Ctrl-C does: what is finished is kept."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGUSR1"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), interrupt)


def _settled(ctx: Any) -> None:
    """Let signals no longer change how a process ends whose command has ended: with the status that it has earned."""
    if ctx.obj == PROCESS and threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)


def _told(error: Exception) -> int | None:
    """Say what went wrong if it is an error of ours or of the file system; None for anything else."""
    kinds = {base.__name__ for base in type(error).__mro__}
    if kinds & _OURS:
        say(f"[bold red]error:[/] {escape(error)}")
        return TOO_MANY_ERRORS if "TooManyErrors" in kinds else getattr(error, "exit_code", FAILED)
    if isinstance(error, OSError) and error.filename:
        say(f"[bold red]error:[/] {escape(error.strerror or error)}: {escape(error.filename)}")
        return FAILED
    return None
