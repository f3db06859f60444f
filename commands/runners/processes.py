"""Parts in processes on this machine. One that is lost loses its own part only, which is begun again elsewhere.

A pool of `concurrent.futures` ends all of its processes when one dies, and submitit's local executor starts a process a
part, which would load its encoder anew; so each worker is a process of `multiprocessing` that does part after part.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from ...kit import machine
from ...kit.machine import whole_cores
from ..console import INTERRUPTED, Progress, end_now, escape, logs_shown, say, show_logs, speak_into
from .job import RETRIES, Job, Outcome, WorkerError, attempted

_ENDINGS = ("SIGINT", "SIGTERM", "SIGUSR1")
_PATIENCE_S = 30.0
"""So long may a worker that was told to stop take to keep what it has."""


def run_here(
    job: Job,
    parts: Sequence[int],
    n: int,
    *,
    workers: int,
    progress: Progress,
    busy: MutableMapping[int, float] | None = None,
    sizes: Mapping[int, int] | None = None,
) -> list[Outcome]:
    """Do these parts of n in so many processes at once.

    Each gets its share of the CPU's threads (unless `OMP_NUM_THREADS` says otherwise), lets them wait as this process
    does, and has its number as `LOCAL_RANK`, from which `--device auto` picks a GPU. What they say is passed on with
    their number; their progress is summed.

    Parameters
    ----------
    job : Job
        Sent to each process once.
    parts : sequence of int
    n : int
        Parts that the whole job has.
    workers : int
    progress : callable (stage, done, total)
    busy : mapping, optional
        Filled with the share of the time, 0 to 1, in which each worker's model computed so far.
    sizes : mapping of part to int, optional
        How much of the whole each part is, from which the total is told before all have begun; by default all alike.

    Returns
    -------
    list of Outcome, in the order of `parts`

    Raises
    ------
    WorkerError
        If a part fails of itself: the others are asked to stop first, and keep what they finished. If a part's worker
        was lost `RETRIES` times more than once: when all other parts are done.
    KeyboardInterrupt
        Passed on to all of them, and raised again when they have ended.
    """
    shown = _Shown(progress, {} if busy is None else busy, dict.fromkeys(parts, 1) if sizes is None else sizes)
    todo = _Todo(parts)
    count = max(1, min(workers, len(parts)))
    running = [_Worker(number, count, job, n, todo, shown) for number in range(count)]
    done: dict[int, Outcome] = {}
    try:
        for worker in running:
            worker.thread.start()
        while len(done) + len(todo.lost) < len(parts):
            outcome = todo.results.get()
            if isinstance(outcome, BaseException):  # a fault of this module's, in a thread of it
                raise outcome
            if isinstance(outcome, Outcome):
                done[outcome.part] = outcome.checked(n)
    finally:  # also when a part has failed, or this process was interrupted
        if len(done) + len(todo.lost) < len(parts):
            for worker in running:
                worker.stop()
        todo.close()
        for worker in running:
            if worker.thread.ident is not None:
                worker.thread.join()
    for worker in running:
        if worker.unheard:
            say(f"[yellow]not all that worker {worker.number} said could be shown[/]: {escape(worker.unheard)}")
    if todo.lost:
        told = "; ".join(f"part {k}: {how}" for k, how in sorted(todo.lost.items()))
        raise WorkerError(
            f"{len(todo.lost)} of {n} parts could not be done, since their workers were lost {RETRIES + 1} times "
            f"({told})\n  if they were killed, memory may be short: take fewer --workers, or a smaller --batch-size; "
            "what is finished is kept, and the same command goes on"
        )
    return [done[k] for k in parts]


class _Todo:
    """The parts that nobody has begun, how often each was lost, and what came of them."""

    def __init__(self, parts: Sequence[int]) -> None:
        self.results: queue.Queue[Outcome | BaseException | None] = queue.Queue()
        """An outcome; None when a part is given up; an exception that this process raises."""
        self.lost: dict[int, str] = {}
        """Parts that were given up, and how their last worker ended."""
        self._left = list(reversed(parts))
        self._tries = dict.fromkeys(parts, 0)
        self._open = len(parts)
        self._changed = threading.Condition()

    def take(self) -> int | None:
        """The next part; None when there will be none any more. Waits while others' parts may come back."""
        with self._changed:
            while not self._left and self._open:
                self._changed.wait()
            return self._left.pop() if self._left and self._open else None

    def settle(self, outcome: Outcome) -> None:
        """Take note of what came of a part."""
        with self._changed:
            self._open -= 1
            self._changed.notify_all()
        self.results.put(outcome)

    def give_back(self, k: int, how: str) -> int:
        """Have a part begun again whose worker ended so, or give it up; how many tries are left."""
        with self._changed:
            self._tries[k] += 1
            left = RETRIES + 1 - self._tries[k]
            if left:
                self._left.append(k)
            else:
                self.lost[k] = how
                self._open -= 1
            self._changed.notify_all()
        if not left:
            self.results.put(None)
        return left

    def close(self) -> None:
        """Hand out no more parts."""
        with self._changed:
            self._open = 0
            self._left.clear()
            self._changed.notify_all()


class _Shown:
    """Progress of parts as one; what is not begun yet counts as much as what is, for its size."""

    def __init__(self, progress: Progress, busy: MutableMapping[int, float], sizes: Mapping[int, int]) -> None:
        self._progress, self._busy, self._sizes = progress, busy, sizes
        self._whole = sum(sizes.values())
        self._ended: set[int] = set()
        self._lock = threading.Lock()
        self._found: dict[str, dict[int, tuple[int, int]]] = {}

    def step(self, worker: int, k: int, stage: str, done: int, total: int, busy: float) -> None:
        with self._lock:
            self._busy[worker] = busy
            of_stage = self._found.setdefault(stage, {})
            of_stage[k] = (done, total)
            self._tell(stage)

    def finished(self, k: int) -> None:
        """A part that told nothing had nothing to do."""
        with self._lock:
            self._ended.add(k)
            for stage, of_stage in self._found.items():
                if k not in of_stage:
                    self._tell(stage)

    def _tell(self, stage: str) -> None:
        of_stage = self._found[stage]
        begun = sum(self._sizes[k] for k in self._ended.union(of_stage))
        known = sum(total for _, total in of_stage.values())
        self._progress(
            stage, sum(done for done, _ in of_stage.values()), round(known * self._whole / begun) if begun else known
        )


@dataclass(frozen=True)
class _Start:
    """What a worker's process begins with."""

    job: Job
    """Whose parts it does."""
    number: int
    """Of the worker, from 0."""
    environment: dict[str, str]
    """Variables that it sets for itself: threads, and which GPU."""
    logs: bool = field(default_factory=logs_shown)
    """Whether notes of the packages are let through, as here."""


class _Worker:
    """A thread that has one process do part after part, and starts another when that is lost."""

    def __init__(self, number: int, count: int, job: Job, n: int, todo: _Todo, shown: _Shown) -> None:
        self.number = number
        self.thread = threading.Thread(target=self._run, daemon=True, name=f"worker {number}")
        self.unheard = ""
        """Why something that it said could not be shown."""
        self._start_with = _Start(job, number, _environment(number, count))
        self._n, self._todo, self._shown = n, todo, shown
        self._process: Any = None
        self._stopped = False

    def stop(self) -> None:
        """Ask the process to end, if it still runs, and see that it does."""
        self._stopped = True
        process = self._process
        if process is not None and process.is_alive():
            process.terminate()
            threading.Thread(target=self._see_to_the_end, args=(process,), daemon=True).start()

    @staticmethod
    def _see_to_the_end(process: Any) -> None:
        process.join(_PATIENCE_S)
        if process.is_alive():
            process.kill()

    def _run(self) -> None:
        """Do parts until there are none."""
        try:
            part = self._todo.take()
            while part is not None and not self._stopped:
                part = self._with_a_process(part)
        except BaseException as error:  # the boundary of a thread: the main one raises it
            self._todo.results.put(error)

    def _with_a_process(self, part: int | None) -> int | None:
        """Have a new process do this part and those that follow; gives the next one if the process was lost."""
        with self._new_process() as connection:
            while part is not None and not self._stopped:
                try:
                    connection.send((part, self._n))
                    outcome = self._heard(part, connection)
                except (EOFError, OSError):
                    self._lost(part)
                    return self._todo.take()
                self._shown.finished(part)
                self._todo.settle(outcome)
                part = self._todo.take()
        return None

    def _lost(self, part: int) -> None:
        if self._stopped:
            return
        self._process.join()
        code = self._process.exitcode
        how = f"ended by signal {-code}" if code < 0 else f"ended with status {code}"
        left = self._todo.give_back(part, how)
        again = f"it is begun again ({left} more {'try' if left == 1 else 'tries'})" if left else "it is given up"
        say(f"[yellow]worker {self.number} was lost[/] amid part {part} of {self._n}, {how}: {again}")

    def _heard(self, part: int, connection: Connection[Any, Any]) -> Outcome:
        """Listen to a process until its part is done."""
        while True:
            message = connection.recv()
            if isinstance(message, Outcome):
                return message
            try:
                self._shown.step(self.number, part, *message)
            except Exception as error:  # a boundary: a bar that cannot be drawn must not end the work
                self.unheard = self.unheard or f"{type(error).__name__}: {error}"

    @contextlib.contextmanager
    def _new_process(self) -> Iterator[Connection[Any, Any]]:
        context = multiprocessing.get_context("spawn")  # a fork would copy threads in mid-air
        connection, theirs = context.Pipe()
        listening, saying = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(theirs, saying, self._start_with), name=self.thread.name)
        self._process.start()
        theirs.close()
        saying.close()
        listener = threading.Thread(target=self._listen, args=(listening,), daemon=True)
        listener.start()
        if self._stopped:
            self._process.terminate()
        try:
            yield connection
        finally:
            connection.close()  # which ends the process, if it waits for a part
            self._process.join()
            listener.join(_PATIENCE_S)  # a process of its own may live on, and hold the other end

    def _listen(self, listening: Connection[Any, Any]) -> None:
        """Pass on what the process says."""
        with open(os.dup(listening.fileno()), encoding="utf-8", errors="replace") as stream:
            listening.close()
            for line in stream:
                try:
                    if line.strip():
                        say(f"[dim]worker {self.number}:[/] {escape(line.rstrip())}")
                except Exception as error:  # a boundary: who stops listening blocks the worker once its pipe is full
                    self.unheard = self.unheard or f"{type(error).__name__}: {error}"


def _serve(connection: Connection[Any, Any], saying: Connection[Any, Any], start: _Start) -> None:
    """In a worker's process: do what comes, until the other side is gone."""
    os.environ.update(start.environment)
    speak_into(saying.fileno())
    saying.close()
    _interrupt_once()
    if start.logs:
        show_logs()

    def tell(stage: str, done: int, total: int, busy: float) -> None:
        try:
            connection.send((stage, done, total, busy))
        except OSError:  # who started this is gone: keep what is finished, and end
            raise KeyboardInterrupt from None

    try:
        while True:
            k, n = connection.recv()
            connection.send(attempted(start.job, k, n, str(start.number), tell))
    except (EOFError, OSError):
        code = 0
    except KeyboardInterrupt:
        code = INTERRUPTED
    end_now(code)


def _interrupt_once() -> None:
    """SIGTERM and SIGUSR1 end a part as Ctrl-C does, what is finished is kept; further signals do not break that off.

    Ctrl-C itself, which a terminal sends to all processes, is left to the one who started this.
    """

    def interrupt(number: int, frame: object) -> None:
        for name in _ENDINGS:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        raise KeyboardInterrupt

    for name in _ENDINGS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN if name == "SIGINT" else interrupt)


def _environment(number: int, count: int) -> dict[str, str]:
    own = os.environ.get(machine.NUMBER) if machine.NUMBER not in machine.chosen else None
    threads = own or str(max(1, whole_cores() // count))
    return {machine.NUMBER: threads, "LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": str(count)}
