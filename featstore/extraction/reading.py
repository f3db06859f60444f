"""The reader side of a run: pictures are read and decoded once for all embedders, a bounded number of them ahead.

Threads do it, or processes that a thread each attends to.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

import numpy.typing as npt

from ...kit.errors import Masked
from ..errors import FeatstoreError
from ..pictures.pictures import CHANGED, Source, reason_of
from ..pictures.seen import State

T = TypeVar("T")


class Embedder(Protocol):
    """Turns the bytes of picture files into rows of named blocks."""

    @property
    def name(self) -> str:
        """What the feature is called unless it is given another name."""

    @property
    def blocks(self) -> Mapping[str, int]:
        """Block name to width, in order."""

    def spec(self) -> dict[str, Any]:
        """Everything that fixes the numbers, as JSON values; goes into the fingerprint."""

    def describe(self) -> dict[str, Any]:
        """What people want to know besides, as JSON values; not part of the fingerprint."""

    def decode(self, data: bytes) -> npt.NDArray[Any]:
        """One picture, ready to be stacked; called from several threads.

        Raises
        ------
        ValueError
            If the bytes are not a usable picture; the message is the reason in the quarantine.
        """

    def embed(self, pictures: npt.NDArray[Any]) -> Mapping[str, npt.NDArray[Any]]:
        """A stack of b decoded pictures to {block: (b, d) float array}.

        Raises
        ------
        MemoryError
            If b pictures are too many for the device at once; fewer are tried where the batch size is automatic.
        """


@runtime_checkable
class OpensPictures(Protocol):
    """An embedder whose `decode` is `prepare` after `open`, so that several can share the opened picture.

    Embedders whose `open` is equal share it. Both are called from several threads, raise ValueError as `decode` does,
    and must be such that they can be sent to another process (which a method of the network itself should not be).
    """

    @property
    def open(self) -> Callable[[bytes], Any]:
        """Turns a file's bytes into a picture, which `prepare` must not change.

        If it has a `remark`, a text that is not empty, that is told of every sample whose row is made of it.
        """

    @property
    def prepare(self) -> Callable[[Any], npt.NDArray[Any]]:
        """Turns an opened picture into what is stacked."""


class Meter:
    """Seconds of one run of `extract`; may be looked at from outside while the run goes on."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.compute_s = 0.0
        """Seconds in which a model was at some batch."""
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


Picture = npt.NDArray[Any]
_ENDINGS = {"SIGINT", "SIGTERM", "SIGUSR1"}


@dataclass(frozen=True)
class Unusable:
    """A picture that cannot be embedded."""

    reason: str
    """One line for the quarantine."""
    unread: bool = False
    """True if its bytes could not be had, which may pass; False if they are no usable picture, which stays so."""


@dataclass(frozen=True)
class Remarked:
    """A picture of whose row something is to be told."""

    picture: Picture
    remark: str


Decoded = dict[int, Picture | Remarked | Unusable]
"""Number of an embedder to what it gets of one picture."""
Claim = Callable[[str, Sequence[int]], Sequence[int]]
"""Digest of new bytes, and numbers of embedders, to those of them for which nobody else decodes these bytes."""


class Wanted(NamedTuple):
    """A picture that is to be read."""

    position: int
    """Of its sample in the manifest."""
    path: str
    digest: str
    """sha256 of the bytes that are to be decoded; empty where they are read for the first time."""
    embedders: Sequence[int]
    """Numbers of those that are to get it."""
    settled: Mapping[int, str]
    """Number of an embedder to the sha256 of the bytes of which another run has made its row meanwhile."""


class Found(NamedTuple):
    """A picture that was read."""

    decoded: Decoded
    """What each embedder gets of it: nothing if its row is made of these bytes already (`Wanted.settled`)."""
    digest: str = ""
    """sha256 of its bytes; empty if they could not be had."""
    state: State | None = None
    """Of its file while it was read; None where that says little."""
    again: Sequence[int] = ()
    """Those that get the same bytes with another picture of the same call of `Readers.read`: decoded once for both."""


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
            ready = picture if isinstance(picture, Unusable) else _made(prepares, picture)
            remark = getattr(picture, "remark", "")
            found[number] = Remarked(ready, remark) if remark and not isinstance(ready, Unusable) else ready
        return found


class Readers:
    """Reads and decodes pictures beside the model; a context manager that leaves no thread and no process behind.

    Parameters
    ----------
    source : Source
        What the bytes come from: a `PictureSource`, or another.
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

    def __init__(self, source: Source, decoder: Decoder, *, threads: int, processes: int = 0) -> None:
        self._source, self._decoder = source, decoder
        self._processes: list[_ReaderProcess] = []
        self._idle: queue.SimpleQueue[_ReaderProcess] = queue.SimpleQueue()
        try:
            for _ in range(processes):
                self._processes.append(_ReaderProcess(source, decoder))
                self._idle.put(self._processes[-1])
        except BaseException:
            self._end_processes()
            raise
        self._pool = ThreadPoolExecutor(processes or threads, thread_name_prefix="reader")
        self._early: dict[int, tuple[Wanted, Future[Found]]] = {}
        """Position to what is being read already for the next call of `read`."""
        self._claims: dict[tuple[str, int], int] = {}
        """Of that call: digest of new bytes and embedder to the position for which they are decoded."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_processes()  # first, so that no thread goes on waiting for one
        self._pool.shutdown(wait=True, cancel_futures=True)

    def forget(self) -> None:
        """Have what was read already for the next call of `read` read again."""
        self._early, self._claims = {}, {}

    def read(
        self, wanted: Iterable[Wanted], *, ahead: int, then: Iterable[Wanted] = ()
    ) -> Generator[tuple[int, Found], None, None]:
        """Yield position and what was read there in order; at most `ahead` pictures are decoded or wait to be.

        `then` is what the next call will probably want: it is begun as soon as there is room, so that no reader is idle
        while a shard ends. If the next call does not want some of it after all, all of it is forgotten: others may have
        been told that their bytes are decoded there.
        """
        waiting: deque[tuple[int, Future[Found]]] = deque()
        todo, later = deque(wanted), iter(then)
        asked = {one.position: one for one in todo}
        if any(asked.get(position) != one for position, (one, _) in self._early.items()):
            self.forget()
        early, claims, self._early, self._claims = self._early, self._claims, {}, {}
        try:
            while True:
                while len(waiting) < ahead and todo:
                    one = todo.popleft()
                    _, future = early.pop(one.position, (None, None))
                    waiting.append((one.position, future or self._pool.submit(self._read_one, one, claims)))
                if not waiting:
                    return
                while len(waiting) + len(self._early) < ahead and (other := next(later, None)) is not None:
                    self._early[other.position] = other, self._pool.submit(self._read_one, other, self._claims)
                position, future = waiting.popleft()
                yield position, future.result()
        finally:
            for future in (*(future for _, future in waiting), *(future for _, future in early.values())):
                future.cancel()

    def _read_one(self, wanted: Wanted, claims: dict[tuple[str, int], int]) -> Found:
        def claim(digest: str, numbers: Sequence[int]) -> Sequence[int]:  # `setdefault` is one step for all threads
            return [k for k in numbers if claims.setdefault((digest, k), wanted.position) == wanted.position]

        if not self._processes:
            return _read(self._source, self._decoder, wanted, claim)
        process = self._idle.get()
        try:
            return process.ask(wanted, claim)
        finally:
            self._idle.put(process)

    def _end_processes(self) -> None:
        for process in self._processes:
            process.end()


def _read(source: Source, decoder: Decoder, wanted: Wanted, claim: Claim) -> Found:
    """Read and decode one picture, a new one unless that is done for another; one that cannot be read is for none.

    Bytes of another digest than expected are not decoded: the file is being written, or a read fell short, and what is
    made of them would stand under the digest of others. Where none is expected, what is decoded are the very bytes that
    are hashed here.
    """
    try:
        data, digest, state = source.content(wanted.path)
    except Masked as error:
        return Found(dict.fromkeys(wanted.embedders, Unusable(str(error))), wanted.digest)
    except (OSError, MemoryError) as error:
        return Found(dict.fromkeys(wanted.embedders, Unusable(reason_of(error), unread=True)))
    if wanted.digest and digest != wanted.digest:
        return Found(dict.fromkeys(wanted.embedders, Unusable(CHANGED, unread=True)))
    lacking = [k for k in wanted.embedders if wanted.settled.get(k) != digest]
    ours = lacking if wanted.digest else claim(digest, lacking)
    return Found(decoder(data, ours), digest, state, [k for k in lacking if k not in ours])


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

    def __init__(self, source: Source, decoder: Decoder) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy the model's threads in mid-air
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, source, decoder), daemon=True)
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

    def ask(self, wanted: Wanted, claim: Claim) -> Found:
        """Have the process read one picture, and tell it for which embedders it is to decode new bytes."""
        try:
            self._connection.send(wanted)
            answer, fault = self._connection.recv()
            if isinstance(answer, str):
                self._connection.send(claim(answer, fault))
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
        found: Found = answer
        return found

    def end(self) -> None:
        """Kill the process and wait for its end; it holds nothing that would be lost."""
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
        self._connection.close()


def _serve(connection: Connection[Any, Any], source: Source, decoder: Decoder) -> None:
    """In a reader process: answer until the other side is gone."""

    def claim(digest: str, numbers: Sequence[int]) -> Sequence[int]:
        connection.send((digest, numbers))
        ours: Sequence[int] = connection.recv()
        return ours

    with contextlib.suppress(EOFError, OSError):
        while True:
            wanted = connection.recv()
            try:
                answer: tuple[Found | None, str] = _read(source, decoder, wanted, claim), ""
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
