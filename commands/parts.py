"""Shares of a job: which part this process does, and several processes that each do one under one progress bar."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import IO, Any

import typer

from ..kit import machine
from ..kit.machine import whole_cores
from .console import PROGRESS_LINE, PROGRESS_VARIABLE, Progress, escape, say


def part_of(part: int | None, parts: int | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """(k, n): this process does part k of n.

    Options come first. Without them, `RANK` and `WORLD_SIZE` (torchrun, most launchers) or `SLURM_ARRAY_TASK_ID`,
    `_COUNT`, `_MIN` and `_STEP` say it, and what they said is told. `--parts 1` ignores the environment.

    Raises
    ------
    typer.BadParameter
        If the options, or the environment, do not make a part.
    """
    if parts is not None or part is not None:
        if parts is None:
            raise typer.BadParameter("--part needs --parts beside it", param_hint="--parts")
        if part is None and parts > 1:
            raise typer.BadParameter("--parts needs --part beside it", param_hint="--part")
        k = part or 0
        if k >= parts:
            raise typer.BadParameter(f"must be 0 to {parts - 1}, however: {k}", param_hint="--part")
        return k, parts
    told = {"RANK": _ranks(environment), "SLURM_ARRAY": _array(environment)}
    found = {source: one for source, one in told.items() if one}
    if len(found) > 1:
        raise typer.BadParameter(
            "RANK/WORLD_SIZE and SLURM_ARRAY_TASK_ID both divide the work; say which part this is with "
            "--part and --parts",
            param_hint="--part",
        )
    for source, (k, n) in found.items():
        say(f"part [bold]{k}[/] of {n}, from {source}; --parts 1 does all of it")
        return k, n
    return 0, 1


def _ranks(environment: Mapping[str, str]) -> tuple[int, int] | None:
    n = _number(environment, "WORLD_SIZE")
    if n is None or n < 2:
        return None
    k = _number(environment, "RANK")
    return _checked(k, n, "RANK", "WORLD_SIZE")


def _array(environment: Mapping[str, str]) -> tuple[int, int] | None:
    n = _number(environment, "SLURM_ARRAY_TASK_COUNT")
    if n is None or n < 2:
        return None
    task = _number(environment, "SLURM_ARRAY_TASK_ID")
    first = _number(environment, "SLURM_ARRAY_TASK_MIN") or 0
    step = _number(environment, "SLURM_ARRAY_TASK_STEP") or 1
    k = None if task is None else (task - first) // step
    return _checked(k, n, "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal():
        raise typer.BadParameter(f"{name} must be a number, however: {text!r}", param_hint="--part")
    return int(text)


def _checked(k: int | None, n: int, index_name: str, count_name: str) -> tuple[int, int]:
    if k is None or not 0 <= k < n:
        raise typer.BadParameter(
            f"{index_name} and {count_name}={n} do not make a part (found {k}); say it with --part and "
            f"--parts, or --parts 1 for all of it",
            param_hint="--part",
        )
    return k, n


_CODE = "import sys; from cer_fusion.cli import feat_main; sys.argv[0] = 'cer-feat'; feat_main()"


class WorkerError(Exception):
    """A worker ended badly; its own message was passed on."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_workers(
    arguments: Callable[[int], Sequence[str]],
    count: int,
    progress: Progress,
    *,
    busy: MutableMapping[int, float] | None = None,
) -> list[Any]:
    """Run `cer-feat` with `arguments(j)` for j = 0 … count - 1, all at once.

    Each gets its share of the CPU's threads (unless `OMP_NUM_THREADS` says otherwise), lets them wait as this process
    does, and has its number as `LOCAL_RANK`, from which `--device auto` picks a GPU. What they say is passed on with
    their number; their progress is summed.

    Parameters
    ----------
    arguments : callable
        Number of a worker to its command line.
    count : int
    progress : callable (stage, done, total)
    busy : mapping, optional
        Filled with the share of the time, 0 to 1, in which each worker's model computed so far.

    Returns
    -------
    list
        What each printed as JSON.

    Raises
    ------
    WorkerError
        If one fails; the others are asked to stop first, and keep what they finished.
    KeyboardInterrupt
        Passed on to all of them, and raised again when they have ended.
    """
    total = _Sum(progress, {} if busy is None else busy)
    running = [_Worker(j, arguments(j), _environment(j, count), total) for j in range(count)]
    try:
        left = set(running)
        while left and not any(worker.process.returncode for worker in running):
            for worker in list(left):
                try:
                    worker.process.wait(timeout=0.05)
                    left.discard(worker)
                except subprocess.TimeoutExpired:
                    pass
    finally:  # also when one has failed, or this process was interrupted
        for worker in running:
            worker.stop()
        outputs = [worker.ended() for worker in running]
    for worker in running:
        if worker.failed:
            raise WorkerError(f"worker {worker.number} of {count} failed; what it said is above", worker.exit_code)
        if worker.unheard:
            say(f"[yellow]not all that worker {worker.number} said could be shown[/]: {escape(worker.unheard)}")
    return [_result(number, output) for number, output in enumerate(outputs)]


def _result(number: int, output: str) -> Any:
    """The JSON that a worker ended with; libraries may have printed something before."""
    try:
        return json.loads(output)
    except ValueError:
        shown = " ".join(output.split())[:200] or "nothing"
        raise WorkerError(
            f"worker {number} ended well, but what it printed is no result: {shown}\n"
            f"  what it finished is kept: run the same command again",
            1,
        ) from None


def arguments_again(ctx: Any, **changed: Any) -> list[str]:
    """The command line of the running command, with some parameters changed."""
    words = [ctx.info_name]
    positional = []
    for parameter in ctx.command.params:
        value = changed.get(parameter.name, ctx.params.get(parameter.name))
        if value is None:
            continue
        if parameter.param_type_name == "argument":
            positional.append(str(value))
        elif isinstance(value, bool):
            names = parameter.opts if value else parameter.secondary_opts
            words += names[:1]
        else:
            values = value if isinstance(value, list | tuple) else [value]
            words += [word for one in values for word in (parameter.opts[0], str(one))]
    return [*words, *positional]


class _Sum:
    """Progress of several workers as one."""

    def __init__(self, progress: Progress, busy: MutableMapping[int, float]) -> None:
        self._progress = progress
        self._busy = busy
        self._lock = threading.Lock()
        self._found: dict[str, dict[int, tuple[int, int]]] = {}

    def step(self, number: int, stage: str, done: int, total: int, busy: float = 0.0) -> None:
        with self._lock:
            self._busy[number] = busy
            of_stage = self._found.setdefault(stage, {})
            of_stage[number] = (done, total)
            self._progress(stage, sum(d for d, _ in of_stage.values()), sum(t for _, t in of_stage.values()))


class _Worker:
    """One process, and the threads that read what it says."""

    def __init__(self, number: int, arguments: Sequence[str], environment: Mapping[str, str], total: _Sum) -> None:
        self.number = number
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CODE, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            encoding="utf-8",
            errors="replace",
        )
        self._total = total
        self._stopped = False
        self.unheard = ""
        """Why something that it said could not be shown."""
        self._output: list[str] = []
        self._threads = [
            threading.Thread(target=self._listen, args=(self.process.stderr,), daemon=True),
            threading.Thread(target=self._collect, args=(self.process.stdout,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def failed(self) -> bool:
        """True if it ended badly of itself; one that was told to stop did not, however early it was told."""
        return not self._stopped and self.process.returncode not in (0, None)

    @property
    def exit_code(self) -> int:
        """Its exit status; 1 if a signal ended it."""
        return max(1, self.process.returncode)

    def stop(self) -> None:
        """Ask it to end, if it still runs."""
        if self.process.poll() is None:
            self._stopped = True
            self.process.terminate()

    def ended(self) -> str:
        """Wait for its end; what it wrote to stdout."""
        self.process.wait()
        for thread in self._threads:
            thread.join()
        return "".join(self._output)

    def _collect(self, stream: IO[str]) -> None:
        with stream:
            self._output.extend(stream)

    def _listen(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                said, mark, rest = line.partition(PROGRESS_LINE)  # others may have written without an end of line
                step = _progress_of(rest) if mark else None
                if step is None:
                    said = line.replace(PROGRESS_LINE, "progress ")
                try:
                    if said.strip():
                        say(f"[dim]worker {self.number}:[/] {escape(said.rstrip())}")
                    if step is not None:
                        self._total.step(self.number, *step)
                except Exception as error:  # a boundary: who stops listening blocks the worker once its pipe is full
                    self.unheard = self.unheard or f"{type(error).__name__}: {error}"


def _progress_of(text: str) -> tuple[str, int, int, float] | None:
    """What a line of progress says; None for one that is garbled."""
    try:
        stage, done, total, *busy = json.loads(text)
        if type(stage) is str and type(done) is int and type(total) is int and len(busy) < 2:
            return stage, done, total, float(busy[0]) if busy else 0.0
    except (ValueError, TypeError, RecursionError):
        pass
    return None


def _environment(number: int, count: int) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name != machine.NUMBER or name not in machine.chosen}
    share = {machine.NUMBER: str(max(1, whole_cores() // count))}
    return {**share, **own, PROGRESS_VARIABLE: "lines", "PYTHONIOENCODING": "utf-8", "LOCAL_RANK": str(number),
            "LOCAL_WORLD_SIZE": str(count)}  # fmt: skip
