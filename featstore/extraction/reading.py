"""The reader side of a run: pictures are read and decoded once for all embedders, a bounded number of them ahead.

Threads do it, or processes that a thread each attends to.
"""

from __future__ import annotations

import contextlib
import logging
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
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from ...kit.errors import Masked, listing
from ..errors import FeatstoreError, RowsError
from ..pictures.pictures import CHANGED, Source, reason_of
from ..pictures.seen import State
from ..rows.feature import Feature

Row = dict[str, npt.NDArray[Any]]
"""Block name to the (d,) numbers of one sample."""
BatchSize = int | Literal["auto"]
T = TypeVar("T")
_USUAL_BATCH = 32
"""Where an automatic size starts for an embedder that does not say."""
log = logging.getLogger(__name__)


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


class Begun(Protocol):
    """A batch that an embedder is at."""

    @property
    def ready(self) -> Callable[[], bool]:
        """Tells whether `rows` would not wait."""

    @property
    def rows(self) -> Callable[[], Mapping[str, npt.NDArray[Any]]]:
        """Waits for what `Embedder.embed` returns, and raises what it raises."""


@runtime_checkable
class WorksAhead(Protocol):
    """An embedder whose device is at one batch while the next one is read, copied and begun."""

    @property
    def ahead(self) -> int:
        """How many batches may be begun before the rows of the first are asked for; 0 where nothing is gained."""

    def start(self, pictures: npt.NDArray[Any]) -> Begun:
        """Begin `embed`."""


@runtime_checkable
class SizesBatches(Protocol):
    """An embedder that knows how many pictures it likes at once."""

    @property
    def auto_batch(self) -> int:
        """What an automatic batch size starts from."""


@dataclass(eq=False)
class Batch:
    """Pictures that a model has been given."""

    ids: Sequence[str]
    stack: npt.NDArray[Any]
    parts: list[Begun | dict[str, npt.NDArray[Any]]]
    """What was begun of it, in order, or is there already."""
    started: float

    @property
    def is_ready(self) -> bool:
        """Whether its rows are there."""
        return all(isinstance(part, dict) or part.ready() for part in self.parts)


class Model:
    """One embedder at work in one run, and how many pictures it is given at once.

    Parameters
    ----------
    embedder : Embedder
    feature : Feature
        What its rows must be.
    batch_size : int or "auto"
        A number stays what it is. "auto" begins with what the embedder likes and halves when memory does not suffice.
    meter : Meter
        Told how long `embed` takes.
    """

    def __init__(self, embedder: Embedder, feature: Feature, batch_size: BatchSize, meter: Meter) -> None:
        self._embedder, self._feature, self._meter = embedder, feature, meter
        self._is_auto = batch_size == "auto"
        likes = embedder.auto_batch if isinstance(embedder, SizesBatches) else _USUAL_BATCH
        self.batch_size = max(1, likes) if batch_size == "auto" else batch_size
        self._ahead = embedder if isinstance(embedder, WorksAhead) and embedder.ahead else None
        self.ahead = self._ahead.ahead if self._ahead is not None else 0
        """How many batches may be begun before the rows of the first are asked for."""
        self.compute_s = 0.0
        """Seconds in which it was at some batch."""
        self._counted_until = 0.0

    def start(self, ids: Sequence[str], pictures: Sequence[npt.NDArray[Any]]) -> Batch:
        """Begin to embed the decoded pictures of these samples, at once unless memory does not suffice."""
        batch = Batch(ids, np.stack(pictures), [], time.monotonic())
        try:
            batch.parts = self._begun(batch.stack)
        finally:
            if not self.ahead:
                self._count(batch.started)
        return batch

    def rows(self, batch: Batch) -> list[Row]:
        """Wait for the rows of a batch.

        Raises
        ------
        RowsError
            If the embedder gives other blocks or widths than it said, or NaN/Inf for some sample.
        MemoryError
            If memory does not suffice where the batch size was stated, or for one picture.
        """
        found: list[dict[str, npt.NDArray[Any]]] | None = None
        try:
            while found is None:
                try:
                    found = [part if isinstance(part, dict) else _arrays(part.rows()) for part in batch.parts]
                except MemoryError as error:  # a device may say so only now: the whole batch again, in smaller parts
                    self._shrink(error)
                    batch.parts = self._begun(batch.stack)
        finally:
            if self.ahead:
                self._count(batch.started)
        whole = found[0] if len(found) == 1 else {name: np.concatenate([p[name] for p in found]) for name in found[0]}
        blocks = self._as_stored(batch.ids, whole)
        return [{name: array[i] for name, array in blocks.items()} for i in range(len(batch.ids))]

    def _begun(self, stack: npt.NDArray[Any]) -> list[Begun | dict[str, npt.NDArray[Any]]]:
        parts: list[Begun | dict[str, npt.NDArray[Any]]] = []
        done = 0
        while done < len(stack):
            part = stack[done : done + self.batch_size]
            try:
                parts.append(_arrays(self._embedder.embed(part)) if self._ahead is None else self._ahead.start(part))
            except MemoryError as error:
                self._shrink(error)
                continue
            done += len(part)
        return parts

    def _shrink(self, error: MemoryError) -> None:
        """Halve an automatic batch size, or let the error go on."""
        if not self._is_auto or self.batch_size == 1:
            raise error
        self.batch_size //= 2
        log.warning(
            "%s: memory does not suffice; going on with a batch size of %d", self._embedder.name, self.batch_size
        )

    def _count(self, started: float) -> None:
        """Count the time since then, of batches that overlap once."""
        now = time.monotonic()
        spent = now - max(started, self._counted_until)
        self._counted_until = now
        self.compute_s += spent
        self._meter.compute_s += spent

    def _as_stored(self, ids: Sequence[str], out: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """The blocks in the feature's dtype, once their names, shapes and values are what they must be."""
        spec, label = self._feature.spec, self._feature.label
        if list(out) != list(spec.blocks):
            raise RowsError(f"expected blocks {list(spec.blocks)}, however: {list(out)}, from {self._embedder.name}")
        stored = {}
        for name, width in spec.blocks.items():
            array = out[name]
            if array.shape != (len(ids), width):
                raise RowsError(
                    f"features must have shape ({len(ids)}, {width}) for {len(ids)} ids, however: "
                    f"shape={array.shape}\n  in block: {name}, feature: {label}"
                )
            with np.errstate(over="ignore"):  # an overflow is Inf, and is refused below by name
                stored[name] = array.astype(spec.dtype)
            bad = np.flatnonzero(~np.isfinite(stored[name]).all(axis=1))
            if len(bad):
                raise RowsError(
                    f"block {name!r} of {label} is NaN or Inf for {len(bad)} of {len(ids)} samples: "
                    f"{listing(ids[int(i)] for i in bad)}\n"
                    f"  nothing of this shard was written; check the weights, and the precision (float16 ends at 65504)"
                )
        return stored


def _arrays(rows: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {name: np.asarray(array) for name, array in rows.items()}


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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_processes()  # first, so that no thread goes on waiting for one
        self._pool.shutdown(wait=True, cancel_futures=True)

    def forget(self) -> None:
        """Have what was read already for the next call of `read` read again."""
        self._early = {}

    def read(
        self, wanted: Iterable[Wanted], *, ahead: int, then: Iterable[Wanted] = ()
    ) -> Generator[tuple[int, Found], None, None]:
        """Yield position and what was read there in order; at most `ahead` pictures are decoded or wait to be.

        `then` is what the next call will probably want: it is begun as soon as there is room, so that no reader is idle
        while a shard ends. What the next call does not want after all is forgotten.
        """
        waiting: deque[tuple[int, Future[Found]]] = deque()
        rest, later = iter(wanted), iter(then)
        early, self._early = self._early, {}
        try:
            while True:
                while len(waiting) < ahead and (one := next(rest, None)) is not None:
                    known, future = early.pop(one.position, (None, None))
                    if future is None or known != one:
                        future = self._pool.submit(self._read_one, one)
                    waiting.append((one.position, future))
                if not waiting:
                    return
                while len(waiting) + len(self._early) < ahead and (one := next(later, None)) is not None:
                    self._early[one.position] = one, self._pool.submit(self._read_one, one)
                position, future = waiting.popleft()
                yield position, future.result()
        finally:
            for future in (*(future for _, future in waiting), *(future for _, future in early.values())):
                future.cancel()

    def _read_one(self, wanted: Wanted) -> Found:
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


def _read(source: Source, decoder: Decoder, wanted: Wanted) -> Found:
    """Read and decode one picture; one that cannot be read is unusable for all.

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
    return Found(decoder(data, [k for k in wanted.embedders if wanted.settled.get(k) != digest]), digest, state)


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

    def ask(self, wanted: Wanted) -> Found:
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
    with contextlib.suppress(EOFError, OSError):
        while True:
            wanted = connection.recv()
            try:
                answer: tuple[Found | None, str] = _read(source, decoder, wanted), ""
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
