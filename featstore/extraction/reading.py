"""The reader side of a run: pictures are read and decoded once for all embedders, a bounded number of them ahead.

Threads do it, or processes that a thread each attends to.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import queue
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy.typing as npt
from cer_fusion.featstore.errors import FeatstoreError
from cer_fusion.featstore.extraction.embedding import Embedder, OpensPictures
from cer_fusion.featstore.pictures.pictures import PictureSource, reason_of

Picture = npt.NDArray[Any]
T = TypeVar("T")
_ENDINGS = {"SIGINT", "SIGTERM", "SIGUSR1"}


@dataclass(frozen=True)
class Unusable:
    """A picture that cannot be embedded."""

    reason: str
    """One line for the quarantine."""
    unread: bool = False
    """True if its bytes could not be had, which may pass; False if they are no usable picture, which stays so."""


Decoded = dict[int, Picture | Unusable]
"""Number of an embedder to what it gets of one picture."""


class Wanted(NamedTuple):
    """A picture that is to be read."""

    position: int
    """Of its sample in the manifest."""
    path: str
    digest: str
    """sha256 of the bytes that are to be decoded."""
    embedders: Sequence[int]
    """Numbers of those that are to get it."""


class Decoder:
    """Bytes of one picture to what each of several embedders takes; holds no embedder that can open pictures.

    Parameters
    ----------
    embedders : sequence of Embedder
        Those of equal `open` (see `OpensPictures`) share the opened picture.
    """

    def __init__(self, embedders: Sequence[Embedder]) -> None:
        self._steps = [
            (embedder.open, embedder.prepare) if isinstance(embedder, OpensPictures) else (_as_it_is, embedder.decode)
            for embedder in embedders
        ]

    def __call__(self, data: bytes, wanted: Iterable[int]) -> Decoded:
        """Decode for the embedders of these numbers; what is no picture for one may be one for another."""
        opened: dict[Callable[[bytes], Any], Any] = {}
        found: Decoded = {}
        for number in wanted:
            opens, prepares = self._steps[number]
            if opens not in opened:
                opened[opens] = _made(opens, data)
            picture = opened[opens]
            found[number] = picture if isinstance(picture, Unusable) else _made(prepares, picture)
        return found


class Readers:
    """Reads and decodes pictures beside the model; a context manager that leaves no thread and no process behind.

    Parameters
    ----------
    root : Path
        Where the pictures' paths start: a folder, a zip file or a tar file.
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
        self._source, self._decoder = PictureSource(root), decoder
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

    def read(self, wanted: Iterable[Wanted], *, ahead: int) -> Generator[tuple[int, Decoded], None, None]:
        """Yield position and what is decoded in order; at most `ahead` pictures are decoded or wait to be."""
        waiting: deque[tuple[int, Future[Decoded]]] = deque()
        rest = iter(wanted)
        try:
            while True:
                while len(waiting) < ahead and (one := next(rest, None)) is not None:
                    waiting.append((one.position, self._pool.submit(self._read_one, one)))
                if not waiting:
                    return
                position, future = waiting.popleft()
                yield position, future.result()
        finally:
            for _, future in waiting:
                future.cancel()

    def _read_one(self, wanted: Wanted) -> Decoded:
        if not self._processes:
            return _read(self._source, self._decoder, wanted)
        process = self._idle.get()
        try:
            return process.ask(wanted)
        finally:
            self._idle.put(process)

    def _end_processes(self) -> None:
        for process in self._processes:
            process.end()


def _read(source: PictureSource, decoder: Decoder, wanted: Wanted) -> Decoded:
    """Read and decode one picture; one that cannot be read is unusable for all.

    Bytes of another sha256 are not decoded: the file is being written, or a read fell short, and what is made of them
    would stand under the digest of others.
    """
    try:
        data = source.read(wanted.path)
    except (OSError, MemoryError) as error:
        return dict.fromkeys(wanted.embedders, Unusable(reason_of(error), unread=True))
    if hashlib.sha256(data).hexdigest() != wanted.digest:
        return dict.fromkeys(wanted.embedders, Unusable("its bytes changed while it was read", unread=True))
    return decoder(data, wanted.embedders)


def _made(step: Callable[[Any], T], given: Any) -> T | Unusable:
    """The step's result, or why there is none; what is no fault of the picture's bytes may pass. Others are raised.

    Decoders raise ValueError, and OSError of their own (without a number), for what is no picture. An OSError with a
    number is the system's, and memory may suffice another time.
    """
    try:
        return step(given)
    except (ValueError, OSError, MemoryError) as error:
        passing = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None)
        return Unusable(reason_of(error), unread=passing)


def _as_it_is(data: bytes) -> bytes:
    """Opening for an embedder that only decodes."""
    return data


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

    def ask(self, wanted: Wanted) -> Decoded:
        """Have the process read one picture."""
        try:
            self._connection.send(wanted)
            answer, fault = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(timeout=1)
            raise FeatstoreError(
                f"a reader process ended {_how(self._process.exitcode)} while it read {wanted.path}\n"
                f"  if it was killed, memory may be short: take fewer with --reader-processes, or threads (--readers)\n"
                f"  a script of your own that reads in processes must guard its start with __name__ == '__main__'"
            ) from None
        if fault:
            raise FeatstoreError(f"a reader process failed at {wanted.path}: {fault}")
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
    source = PictureSource(root)
    with contextlib.suppress(EOFError, OSError):
        while True:
            wanted = connection.recv()
            try:
                answer: tuple[Decoded | None, str] = _read(source, decoder, wanted), ""
            except Exception as error:  # the boundary of the process: a fault is told to the one who asked
                answer = None, f"{type(error).__name__}: {error}"
            connection.send(answer)


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
