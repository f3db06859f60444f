"""How the commands start, talk and end: results to stdout, everything else to stderr, errors without tracebacks.

Data (JSON, CSV, markdown, LaTeX) is UTF-8 whatever the terminal is. What is laid out for people goes out in the
stream's own encoding, with look-alikes for what that lacks, and nothing of what users wrote is read as markup.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, NoReturn, Protocol, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

FAILED, TOO_MANY_ERRORS, INTERRUPTED = 1, 3, 130
PROCESS = "process"
"""The context object of a command that is all that its process does."""
_OURS = {"CerError", "FeatstoreError", "BackbonesError", "FramesError", "FusionError", "DemoFacesError", "WorkerError"}

_PLAIN = "cer-plain"
"""The name of our error handler among Python's codecs."""
_LOOK_ALIKES = {
    "\u2212": "-", "\u2013": "-", "\u2014": "-", "×": "x", "…": "...", "→": "->", "≥": ">=", "≤": "<=", "✗": "x",
    "Δ": "d", "λ": "lambda", "α": "alpha", "β": "beta", "κ": "kappa", "±": "+-", "²": "2", "·": ".", "✓": "v",
}  # fmt: skip
"""What a terminal without these letters shows; a minus that became a question mark would turn a result around."""
_OPENING, _BACKSLASH = "\U000f005b", "\U000f005c"
"""Stand for `[` and a backslash of a user's text until markup has been read."""
_CONTROLS = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160)) if chr(n) not in "\n\t"}
"""What would steer a terminal, shown instead."""
_ESCAPES = {**{n: shown.replace("\\", _BACKSLASH) for n, shown in _CONTROLS.items()},
            ord("["): _OPENING, ord("\\"): _BACKSLASH}  # fmt: skip

_hushed: list[bool] = []
_quiet: list[bool] = []
_WARNS = ("[yellow]", "[bold yellow]", "[red]", "[bold red]")
"""How what is said begins to matter: a warning is yellow and an error red."""
_MANNERS = {"-v": "-v", "--verbose": "-v", "-q": "-q", "--quiet": "-q"}
"""Options of how much is said, which may stand anywhere in a command line."""


class Progress(Protocol):
    """What is told how far a job is."""

    def __call__(self, stage: str, done: int, total: int | None, what: str = "") -> None:
        """Tell how many steps of a stage are done, of how many if that is known, and what is at work now."""


class ReaderGone(Exception):
    """Nobody reads stdout any more, which is no fault: `cer-feat ls | head`."""


class Front(TyperGroup):
    """Ends a command with 0 done, 1 failed, 2 wrong usage, 3 too many bad pictures, 130 interrupted.

    A user's mistake is told in words; a fault of ours keeps its traceback. The commands are imported when they run: a
    list of thirty would otherwise read all of them, and build every option of theirs, to print one line each. The line
    stands twice, here and in the command's docstring; a test holds them together.
    """

    later: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Where a command is, and its line, by name, in the order of the list."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.commands.update({name: Later(name, where, line) for name, (where, line) in self.later.items()})

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Take what says how much is said from wherever it stands."""
        end = args.index("--") if "--" in args else len(args)
        manners = [_MANNERS[word] for word in args[:end] if word in _MANNERS]
        return super().parse_args(ctx, [*manners, *(word for word in args[:end] if word not in _MANNERS), *args[end:]])

    def main(self, *args: Any, **extra: Any) -> Any:
        """Parse the command line and run the command; whatever is said, every terminal can show."""
        _show_everywhere()
        try:
            return super().main(*args, **extra)
        except SystemExit as end:  # help and usage errors are written outside `invoke`, where rich and click end with 1
            gone = end.__context__
            if not isinstance(gone, BrokenPipeError):
                raise
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(BrokenPipeError):
                    stream.flush()
                    continue
                _hush(stream)
            raise SystemExit(getattr(gone.__context__, "exit_code", 0)) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and turn what goes wrong into words and an exit status."""
        log_to_stderr()
        _interrupt_on_signals()
        try:
            answer = super().invoke(ctx)
            _settled(ctx)
            with _stdout() as stdout:  # here, where it can still be told that nobody reads, or that the disk is full
                stdout.flush()
            return answer
        except KeyboardInterrupt:
            _settled(ctx)
            say("[bold yellow]interrupted.[/] Nothing is half-written; run the same command again: what is kept stays.")
            raise typer.Exit(INTERRUPTED) from None
        except ReaderGone:  # `cer-feat ls | head`
            _hush(sys.stdout)
            raise typer.Exit(0) from None
        except Exception as error:  # the boundary: our own errors are told, all others are raised again
            from .usage import word

            word(error)
            told = fault_of(error)
            if told is None:
                raise
            say(f"[bold red]error:[/] {escape(told[0])}")
            raise typer.Exit(told[1]) from None


class Later(TyperCommand):
    """A command known by its name and one line, until somebody asks for more.

    Parameters
    ----------
    name : str
    where : str
        ``module:function``, or ``module:app`` for a group.
    line : str
        What it does, for the list of commands.
    """

    def __init__(self, name: str, where: str, line: str) -> None:
        super().__init__(name, help=line, rich_markup_mode="rich")
        self.where = where

    @cached_property
    def real(self) -> Any:
        """The command itself, its module imported."""
        from .usage import Whole

        Whole.screen = staticmethod(console)
        module, name = self.where.split(":")
        found = getattr(import_module(module), name)
        if isinstance(found, typer.Typer):
            return typer.main.get_group(found)
        alone = typer.Typer(rich_markup_mode="rich", add_completion=False)
        alone.command(self.name, cls=Whole)(found)
        return typer.main.get_command(alone)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse a command line as the command itself does; NaN, which some Typers let pass, is no number."""
        made = self.real.make_context(info_name, args, parent=parent, **extra)
        for param in made.command.params:
            value = made.params.get(param.name)
            if isinstance(value, float) and math.isnan(value):
                raise typer.BadParameter("must be a number, however: nan", ctx=made, param=param)
        return made


def app(help_text: str, commands: Mapping[str, tuple[str, str]] | None = None) -> typer.Typer:
    """A Typer app whose errors read as `Front` says.

    `commands` are those that are imported when they run: where each is (``module:function``), and its line.
    """
    made = typer.Typer(
        cls=type("Front", (Front,), {"later": commands or {}}), help=help_text, no_args_is_help=True,
        pretty_exceptions_enable=False, rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )  # fmt: skip

    @made.callback()
    def front(
        ctx: typer.Context,
        version: Annotated[
            bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
        ] = False,
        verbose: Annotated[
            bool, typer.Option("-v", "--verbose", help="Say what was chosen and replaced on the way, too.")
        ] = False,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say results, warnings and errors only.")] = False,
    ) -> None:
        if verbose and quiet:
            raise typer.BadParameter("says the opposite of -v", param_hint="-q")
        if quiet:
            _quiet.append(True)
            ctx.call_on_close(_quiet.pop)
        if verbose:
            show_logs()

    return made


def _version(ctx: typer.Context, asked: bool) -> None:
    """Print the version and end."""
    if asked:
        from importlib.metadata import version

        out(f"{ctx.info_name} {version('cer-fusion')}")
        raise typer.Exit


def say(markup: str) -> None:
    """Talk: progress, choices made, hints. Goes to stderr."""
    from rich.text import Text

    if _hushed or (_quiet and not any(mark in markup for mark in _WARNS)):
        return
    text = Text.from_markup(markup, emoji=False)
    text.plain = text.plain.replace(_OPENING, "[").replace(_BACKSLASH, "\\")
    console(stderr=True).print(text, highlight=False, soft_wrap=True)


def agreed(question: str, what: str) -> bool:
    """Ask on stderr, and return the answer; where nobody can answer, `--yes` must say `what` is asked."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        raise typer.BadParameter(f"nobody answered {what}: say it with --yes", param_hint="--yes") from None


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Say nothing meanwhile: another process has said it already."""
    _hushed.append(True)
    try:
        yield
    finally:
        _hushed.pop()


def escape(text: object) -> str:
    """Text that is shown as it is in what `say` is given: neither markup nor codes that steer a terminal."""
    return str(text).translate(_ESCAPES)


def console(*, stderr: bool = False, width: int | None = None, soft_wrap: bool = False) -> Any:
    """rich's console for one of the two streams; it takes no word in colons for a picture.

    What is printed on it comes as `rich.text.Text` (see `plain`), not as str, which rich would read as markup.
    """
    from rich.console import Console

    class Ours(Console):
        def on_broken_pipe(self) -> None:  # rich would end the process with 1
            if not stderr:
                raise ReaderGone
            _hush(sys.stderr)  # a run is worth more than what is said of it

    return Ours(stderr=stderr, width=width, soft_wrap=soft_wrap, emoji=False, markup=False)


def plain(text: object, style: str = "") -> Any:
    """A text for a cell, a title or a line of `console`, as it is."""
    from rich.text import Text

    return Text(str(text).translate(_CONTROLS), style=style)


def shown(text: object) -> str:
    """A text as stdout shows it, so that it can be measured: with look-alikes for letters that its encoding lacks."""
    codecs.register_error(_PLAIN, _shown_plainly)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return str(text).translate(_CONTROLS).encode(encoding, _PLAIN).decode(encoding)


def size_text(nbytes: float) -> str:
    """Bytes for people, in powers of a thousand."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:,.0f} {unit}" if unit == "B" else f"{nbytes:,.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:,.1f} TB"


def per_second(rate: float) -> str:
    """A rate for people: one digit behind the point, none from a thousand on."""
    return f"{rate:,.1f}" if rate < 1000 else f"{rate:,.0f}"


def out(text: object) -> None:
    """A result for people, as it is, to stdout."""
    with _stdout() as stdout:
        stdout.write(f"{str(text).translate(_CONTROLS)}\n")


def out_data(text: str) -> None:
    """A result for machines to stdout, in UTF-8 whatever the stream's encoding is."""
    data = f"{text}\n".encode("utf-8", "backslashreplace")  # in JSON, what that makes of a file name is its escape
    with _stdout() as stdout:
        buffer = getattr(stdout, "buffer", None)
        if buffer is None:  # a stream of texts that a program put there
            stdout.write(data.decode("utf-8"))
            return
        stdout.flush()
        buffer.write(data)
        buffer.flush()


def out_json(value: Mapping[str, Any]) -> None:
    """A result for machines, to stdout: always an object, so that it can be added to."""
    out_data(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))


@contextlib.contextmanager
def progress_bar(
    rate: Callable[[str, float | None], str] | None = None,
    log: Path | None = None,
) -> Iterator[Progress]:
    """A bar with rate and time left on stderr; plain lines now and then where that is no terminal; see `_Lines`.

    Parameters
    ----------
    rate : callable (stage, steps a second or None), optional
        What the bar says of the rate.
    log : Path, optional
        A file that a line a minute is appended to as well, whatever stderr is.
    """
    if _AT_WORK:  # a job within a job: a terminal has room for one bar
        yield _AT_WORK[-1]
        return
    with contextlib.ExitStack() as stack:
        step = stack.enter_context(_told_somewhere(rate))
        if log is not None:
            noted = stack.enter_context(_Lines(partial(_note, log), first_s=_NOTE_S, next_s=_NOTE_S))
            step = partial(_told_to, (step, noted))
        _AT_WORK.append(step)
        try:
            yield step
        finally:
            _AT_WORK.remove(step)


_AT_WORK: list[Progress] = []


def _told_to(watchers: tuple[Progress, ...], stage: str, done: int, total: int | None, what: str = "") -> None:
    for watcher in watchers:
        watcher(stage, done, total, what)


def _note(log: Path, text: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")


@contextlib.contextmanager
def _told_somewhere(rate: Callable[[str, float | None], str] | None) -> Iterator[Progress]:
    stderr = console(stderr=True)
    if _quiet or not stderr.is_terminal:
        with _Lines(lambda text: say(escape(text)), first_s=_FIRST_LINE_S, next_s=_NEXT_LINE_S) as lines:
            yield lines
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    columns = (
        TextColumn("{task.description:>10}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn(
            "{task.fields[what]}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
        ),
    )
    told = rate or (lambda stage, speed: f"{per_second(speed)}/s" if speed else "")
    with Bar(*columns, console=stderr, transient=True, expand=True, speed_estimate_period=_REMEMBERED_S) as bar:
        tasks: dict[str, Any] = {}

        def step(stage: str, done: int, total: int | None, what: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, rate="", what=what)
            task = bar.tasks[bar.task_ids.index(tasks[stage])]
            bar.update(tasks[stage], completed=done, total=total, rate=told(stage, task.speed), what=what)

        yield step


def speak_into(fd: int) -> None:
    """In a process that works for another: send both streams there, since what libraries print is no result."""
    for number in (1, 2):
        os.dup2(fd, number)
    streams = [io.FileIO(number, "w", closefd=False) for number in (1, 2)]
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)
        for raw in streams
    )
    log_to_stderr()


def end_now(code: int) -> NoReturn:
    """End the process at once: taking PyTorch down in good order can take seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def logs_shown() -> bool:
    """Whether `show_logs` was called in this process."""
    return logging.getLogger().isEnabledFor(logging.INFO)


def log_to_stderr() -> None:
    """Let what the packages log be seen, warnings alone unless `show_logs` is called."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)


class _Lines:
    """Progress in plain lines: the first after some seconds, then at intervals that grow with the work.

    A thread of its own says them, so that one step that takes long is told as well.
    """

    def __init__(self, tell: Callable[[str], None], *, first_s: float, next_s: float) -> None:
        self._say, self._first_s, self._next_s = tell, first_s, next_s
        self._began = self._stage_began = time.monotonic()
        self._now: tuple[str, int, int | None, str] | None = None
        self._ended = threading.Event()
        self._teller = threading.Thread(target=self._tell, name="progress", daemon=True)

    def __enter__(self) -> _Lines:
        self._teller.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._ended.set()
        self._teller.join()

    def __call__(self, stage: str, done: int, total: int | None, what: str = "") -> None:
        if self._now is None or self._now[0] != stage:
            self._stage_began = time.monotonic()
        self._now = (stage, done, total, what)

    def _tell(self) -> None:
        wait_s = self._first_s
        while not self._ended.wait(wait_s):
            if self._now is not None:
                self._say(self._text(*self._now))
            wait_s = max(self._next_s, (time.monotonic() - self._began) / 10)

    def _text(self, stage: str, done: int, total: int | None, what: str) -> str:
        """`fits: 3 of 9 (late), 12 s, about 24 s left`; the rate too where it is one a second or more."""
        from ..kit.errors import duration

        spent_s = time.monotonic() - self._stage_began
        count = f"{done:,} of {total:,}" if total else f"{done:,}" if done else ""
        doing = f"{count} ({what})" if count and what else count or what
        rate = f"{per_second(done / spent_s)}/s" if done >= spent_s > 0 else ""
        text = ", ".join(filter(None, (doing, rate, duration(spent_s))))
        left = f", about {duration(spent_s * (total - done) / done)} left" if total and 0 < done < total else ""
        return f"{stage}: {text}{left}"


_FIRST_LINE_S, _NEXT_LINE_S, _NOTE_S = 2.0, 10.0, 60.0
_REMEMBERED_S = 600.0
"""How far back a bar looks for its rate: one fit may take minutes."""


def show_logs() -> None:
    """Let the packages' notes (what was chosen, what was replaced) through to stderr, unless -q was given."""
    if _quiet:
        return
    logging.getLogger().setLevel(logging.INFO)
    for noisy in ("timm", "httpx", "huggingface_hub", "matplotlib", "PIL"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _show_everywhere() -> None:
    """Let both streams take any text: a table of a finished run must not end in an encoding error."""
    codecs.register_error(_PLAIN, _shown_plainly)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed: `cer-feat ls >&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=_PLAIN)


def _shown_plainly(error: UnicodeError) -> tuple[str, int]:
    """Look-alikes for letters that an encoding lacks, escapes for bytes of file names that are no text, else `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = "".join(
        _LOOK_ALIKES.get(letter) or (f"\\x{ord(letter) - 0xDC00:02x}" if "\udc80" <= letter <= "\udcff" else "?")
        for letter in error.object[error.start : error.end]
    )
    return shown, error.end


@contextlib.contextmanager
def _stdout() -> Iterator[TextIO]:
    """The stream of results; whoever read it may have gone away."""
    try:
        yield sys.stdout
    except BrokenPipeError:
        raise ReaderGone from None


def _hush(stream: TextIO) -> None:
    """Send what is still to be said into nothing: whoever read it has gone away."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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


def fault_of(error: Exception) -> tuple[str, int] | None:
    """What to say of an error of ours or of the file system, and the exit status; None for anything else."""
    kinds = {base.__name__ for base in type(error).__mro__}
    if kinds & _OURS:
        return str(error), TOO_MANY_ERRORS if "TooManyErrors" in kinds else getattr(error, "exit_code", FAILED)
    if isinstance(error, OSError) and (error.filename or error.errno == errno.ENOSPC):
        return f"{error.strerror or error}: {error.filename or 'what stdout leads to'}", FAILED
    return None
