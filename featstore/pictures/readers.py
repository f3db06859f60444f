"""Who reads and decodes pictures: threads, or processes that a thread each attends to."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cer_fusion.featstore.errors import FeatstoreError
from cer_fusion.featstore.pictures.decoding import Decoded, Decoder, PictureReader

_ENDINGS = {"SIGINT", "SIGTERM", "SIGUSR1"}


class Readers:
    """Reads and decodes pictures beside the model; a context manager that leaves no thread and no process behind.

    Parameters
    ----------
    root : Path
        Where the pictures' paths start.
    decoder : Decoder
    threads : int
        How many read at once, if there are no processes.
    processes : int
        How many processes read; 0 for threads. Threads share Python's one lock with the model, processes share only the
        cores, and cost a copy of every decoded picture and half a second at the start.

    Raises
    ------
    FeatstoreError
        If the decoder cannot be sent to a process, or a process ends before its time.
    """

    def __init__(self, root: Path, decoder: Decoder, *, threads: int, processes: int = 0) -> None:
        self._read = PictureReader(root, decoder)
        self._processes: list[_ReaderProcess] = []
        self._idle: queue.SimpleQueue[_ReaderProcess] = queue.SimpleQueue()
        try:
            for _ in range(processes):
                self._processes.append(_ReaderProcess(root, decoder))
                self._idle.put(self._processes[-1])
        except BaseException:
            self._end_processes()
            raise
        self._pool = ThreadPoolExecutor(processes or threads, thread_name_prefix="reader")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_processes()  # first, so that no thread goes on waiting for one
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, path: str, wanted: Sequence[int], digest: str) -> Future[Decoded]:
        """Have one picture, of this sha256, read for the embedders of these numbers."""
        return self._pool.submit(self._ask if self._processes else self._read, path, wanted, digest)

    def _ask(self, path: str, wanted: Sequence[int], digest: str) -> Decoded:
        process = self._idle.get()
        try:
            return process.ask(path, wanted, digest)
        finally:
            self._idle.put(process)

    def _end_processes(self) -> None:
        for process in self._processes:
            process.end()


class _ReaderProcess:
    """One process that answers one request at a time; it ends when this one ends, however that is."""

    def __init__(self, root: Path, decoder: Decoder) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy the model's threads in mid-air
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, root, decoder), daemon=True)
        try:
            with _endings_held_back():
                self._process.start()
        except OSError:
            self._connection.close()
            raise
        except Exception as error:  # a boundary: what cannot be sent raises nearly anything, and the reason is kept
            self._connection.close()
            raise FeatstoreError(
                f"the decoder cannot be sent to a reader process: {error}\n"
                f"  read in threads instead (readers), or give the embedder an `open` and a `prepare` that can be sent"
            ) from error
        finally:
            theirs.close()

    def ask(self, path: str, wanted: Sequence[int], digest: str) -> Decoded:
        """Have the process read one picture."""
        try:
            self._connection.send((path, wanted, digest))
            answer, fault = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(timeout=1)
            raise FeatstoreError(
                f"a reader process ended {_how(self._process.exitcode)} while it read {path}\n"
                f"  if it was killed, memory may be short: take fewer with --reader-processes, or threads (--readers)\n"
                f"  a script of your own that reads in processes must guard its start with __name__ == '__main__'"
            ) from None
        if fault:
            raise FeatstoreError(f"a reader process failed at {path}: {fault}")
        found: Decoded = answer
        return found

    def end(self) -> None:
        """Kill the process and wait for its end; it holds nothing that would be lost."""
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
        self._connection.close()


def _serve(connection: Connection[Any, Any], root: Path, decoder: Decoder) -> None:
    """In a reader process: answer until the other side is gone."""
    read = PictureReader(root, decoder)
    with contextlib.suppress(EOFError, OSError):
        while True:
            path, wanted, digest = connection.recv()
            connection.send(_answer(read, path, wanted, digest))


def _answer(read: PictureReader, path: str, wanted: Sequence[int], digest: str) -> tuple[Decoded | None, str]:
    try:
        return read(path, wanted, digest), ""
    except Exception as error:  # the boundary of the process: a fault is told to the one who asked, and raised there
        return None, f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _endings_held_back() -> Iterator[None]:
    """Start processes that signals to the whole group do not end: the one who started them ends them.

    Signals that arrive here meanwhile are delivered afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # starting it unblocks signals, so it must not happen in between
    numbers = {getattr(signal, name) for name in _ENDINGS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _how(code: int | None) -> str:
    if code is None:
        return "its connection"
    return f"by signal {-code}" if code < 0 else f"with status {code}"
