"""The model side of a run: decoded pictures are made into rows, so many at once as suffice and fit.

What an embedder may offer beyond `reading.Embedder` is here, too: to work ahead, and to say how many pictures it likes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ...kit.errors import listing
from ..errors import RowsError
from ..rows.feature import Feature
from .reading import Embedder, Meter

Row = dict[str, npt.NDArray[Any]]
"""Block name to the (d,) numbers of one sample."""
BatchSize = int | Literal["auto"]
_USUAL_BATCH = 32
"""Where an automatic size starts for an embedder that does not say."""
log = logging.getLogger(__name__)


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
