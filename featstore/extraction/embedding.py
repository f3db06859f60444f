"""What the store asks of anything that turns pictures into rows, and how it has rows made.

`backbones` knows nothing of this and fits.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
from cer_fusion.featstore.errors import RowsError, listing
from cer_fusion.featstore.rows.feature import Feature

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
        """Turns a file's bytes into a picture, which `prepare` must not change."""

    @property
    def prepare(self) -> Callable[[Any], npt.NDArray[Any]]:
        """Turns an opened picture into what is stacked."""


@runtime_checkable
class SizesBatches(Protocol):
    """An embedder that knows how many pictures it likes at once."""

    @property
    def auto_batch(self) -> int:
        """What an automatic batch size starts from."""


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
        self.compute_s = 0.0
        """Seconds within `embed`."""

    def rows(self, ids: Sequence[str], pictures: Sequence[npt.NDArray[Any]]) -> list[Row]:
        """Embed the decoded pictures of these samples, at once unless memory does not suffice.

        Raises
        ------
        RowsError
            If the embedder gives other blocks or widths than it said, or NaN/Inf for some sample.
        MemoryError
            If memory does not suffice where the batch size was stated, or for one picture.
        """
        blocks = self._as_stored(ids, self._embed(np.stack(pictures)))
        return [{name: array[i] for name, array in blocks.items()} for i in range(len(ids))]

    def _embed(self, stack: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        parts: list[dict[str, npt.NDArray[Any]]] = []
        done, began = 0, time.monotonic()
        try:
            while done < len(stack):
                part = stack[done : done + self.batch_size]
                try:
                    out = self._embedder.embed(part)
                except MemoryError:
                    if not self._is_auto or self.batch_size == 1:
                        raise
                    self.batch_size //= 2
                    log.warning(
                        "%s: memory does not suffice; going on with a batch size of %d",
                        self._embedder.name, self.batch_size,
                    )  # fmt: skip
                    continue
                parts.append({name: np.asarray(array) for name, array in out.items()})
                done += len(part)
        finally:
            spent = time.monotonic() - began
            self.compute_s += spent
            self._meter.compute_s += spent
        return parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

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


class Meter:
    """Seconds of one run of `extract`; may be looked at from outside while the run goes on."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.compute_s = 0.0
        """Seconds within `embed`."""
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
