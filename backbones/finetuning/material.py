"""The material of a training: both parts with their pictures opened, the digest of it all, and its way to the network.

Every picture is opened once before the first step, by one of the processes that train together: for its digest, to
leave out those that cannot be used, and for its pixels as far as they fit into memory. From then on a picture is an
item of a plain dataset, a function of (seed, epoch, position), that torch's `DataLoader` collates, with threads or
worker processes, and pins for a GPU.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...kit.errors import listing
from ..backbone import Backbone
from ..errors import OptionError, PictureError, TooManyErrors
from ..torch_backbone import TorchBackbone
from .examples import DRAWS, DRAWS_EACH, Examples, augment, check_parts, draws
from .process import SIGNALS
from .recipe import Recipe

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
T = TypeVar("T")

_OPENED_AT_A_TIME, _TOLD_EVERY = 1024, 256
_AHEAD = 2  # batches that are loaded while the network computes, in all or a worker process
_FEW = 10
"""Unusable pictures that never stop a training, as in extraction, unless none are allowed."""


class Place(NamedTuple):
    """Where a picture stands: what its item depends on, beside the seed."""

    part: str
    """"train" or "valid"."""
    example: int
    """Its position in that part."""
    epoch: int = 0
    place: int = 0
    """Its position in the epoch's order."""


class Item(NamedTuple):
    """One picture, or, collated, a batch of b of them."""

    example: Tensor
    """Its position in its part, int64 (); (b,)."""
    picture: Tensor
    """uint8 (h, w, 3); (b, h, w, 3)."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Pixels of a part that stay in memory."""

    pixels: NDArray[np.uint8]
    """(m, h, w, 3)."""
    slots: NDArray[np.intp]
    """Where each example's are in `pixels`, (n,); -1: they are decoded whenever they are needed."""


class Pictures(Dataset[Item]):
    """Pictures as the backbone's own `decode` gives them, changed as their draws say; an item's index is a `Place`.

    It holds no network, so that it can be sent to worker processes; the pixels that are kept stay here.

    Parameters
    ----------
    backbone : Backbone
    parts : dict of Examples
        Usable ones: see `gather`.
    kept : dict of Kept
    recipe : Recipe
    seed : int
    pool : ThreadPoolExecutor, optional
        Where a batch's items are made; without it one after the other.
    """

    def __init__(
        self,
        backbone: Backbone,
        parts: Mapping[str, Examples],
        kept: Mapping[str, Kept],
        recipe: Recipe,
        *,
        seed: int,
        pool: ThreadPoolExecutor | None,
    ) -> None:
        self._open, self._prepare = backbone.open, backbone.prepare
        self._read = {name: examples.read for name, examples in parts.items()}
        self._kept, self._pool = kept, pool
        self._recipe, self._seed = recipe, seed

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}, "_pool": None}

    def __getitem__(self, at: Place) -> Item:
        pixels = self._pixels(at)
        if at.part == "train":
            count = DRAWS + DRAWS_EACH * self._recipe.randaugment
            [numbers] = draws([at.place], count, seed=self._seed, epoch=at.epoch)
            pixels = augment(pixels, numbers, self._recipe)
        pixels = np.require(pixels, requirements=["C", "W"])
        return Item(torch.tensor(at.example), torch.from_numpy(pixels))

    def __getitems__(self, places: Sequence[Place]) -> list[Item]:
        """Make a batch's items; torch's loader asks for this one."""
        if self._pool is None:
            return [self[at] for at in places]
        return list(self._pool.map(self.__getitem__, places))

    def _pixels(self, at: Place) -> NDArray[np.uint8]:
        kept = self._kept.get(at.part)
        if kept is not None and (slot := kept.slots[at.example]) >= 0:
            pixels: NDArray[np.uint8] = kept.pixels[slot]
            return pixels
        return self._prepare(self._open(self._read[at.part](at.example)))


class Feed:
    """Gives batches of pictures in order, made ahead of the network; a context manager that leaves no process behind.

    Parameters
    ----------
    pictures : Pictures
    processes : int
        Worker processes that make batches; 0: threads of this one do.
    pin : bool
        Whether batches lie in pinned memory, from which a GPU copies beside what it computes.
    """

    def __init__(self, pictures: Pictures, *, processes: int, pin: bool) -> None:
        self._batches: Iterable[Sequence[Place]] = ()
        self._processes = processes
        check_sendable(pictures, processes)
        self._loader: DataLoader[Item] = DataLoader(
            pictures,
            batch_sampler=self,  # type: ignore[arg-type]
            pin_memory=pin,
            generator=torch.Generator(),  # else each turn draws from the generator that dropout draws from
            **worker_settings(processes),
        )

    def __iter__(self) -> Iterator[Sequence[Place]]:
        return iter(self._batches)

    def __call__(self, batches: Iterable[Sequence[Place]]) -> Iterator[Item]:
        """Yield a batch for each of these lists of places."""
        self._batches = batches
        return iter(self._loader) if self._processes else loaded_ahead(iter(self._loader))

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self._loader._iterator = None  # the processes end with it


def worker_settings(processes: int) -> dict[str, Any]:
    """Arguments of `DataLoader` for so many worker processes."""
    if not processes:
        return {"num_workers": 0}
    return {
        "num_workers": processes, "prefetch_factor": _AHEAD, "persistent_workers": True,
        "multiprocessing_context": "spawn",  # a fork would copy the network's threads in mid-air
        "worker_init_fn": _leave_signals,
    }  # fmt: skip


def check_sendable(dataset: Any, processes: int) -> None:
    """Refuse what cannot be sent to worker processes, where there are to be any."""
    if not processes:
        return
    try:
        pickle.dumps(dataset)
    except Exception as error:  # a boundary: what cannot be sent raises nearly anything, and the reason is kept
        raise OptionError(
            f"the examples cannot be sent to reader processes: {error}\n"
            f"  read in threads instead (reader_processes=0), or give a `read` that can be pickled"
        ) from None


def _leave_signals(_: int) -> None:
    """In a worker process: signals to the whole group are for the one who started it, who ends it."""
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def loaded_ahead(source: Iterator[T]) -> Iterator[T]:
    """Yield what a source yields, which is not None; a thread of its own asks for the next two meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[T | None]] = deque(pool.submit(next, source, None) for _ in range(_AHEAD))
        try:
            while (found := waiting.popleft().result()) is not None:
                waiting.append(pool.submit(next, source, None))
                yield found
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a training learns from and is judged on."""

    train: Examples
    valid: Examples
    classes: tuple[str, ...]
    digest: str
    """Of ids, labels and picture files of both parts."""
    picture_digests: Mapping[str, tuple[str, ...]]
    """sha256 of each picture file of "train" and of "valid"."""
    left_out: dict[str, str]
    """Id -> reason, for pictures that cannot be used."""
    kept: Mapping[str, Kept]
    """What stays in this process's memory, of each part."""


def gather(
    backbone: TorchBackbone,
    train: Examples,
    valid: Examples,
    classes: Sequence[str],
    *,
    accelerator: Accelerator,
    pool: ThreadPoolExecutor,
    processes: int,
    memory: float,
    max_errors: float,
    progress: Progress,
) -> Material:
    """Open all pictures and check both parts, before and after leaving out those that cannot be used.

    Processes that train together open a share each and tell the others. `memory` is for all of them on this machine,
    and for pixels that threads keep: worker processes decode each time.

    Raises
    ------
    ExamplesError
    TooManyErrors
        When more than the share `max_errors` cannot be used; up to ten never stop a training unless `max_errors` is 0.
    """
    check_parts(train, valid, classes)
    total = len(train) + len(valid)
    here = int(os.environ.get("LOCAL_WORLD_SIZE") or accelerator.num_processes)
    room = 0 if processes else int(memory / here // (backbone.transform.size_px**2 * 3))
    parts = {"valid": valid, "train": train}  # the smaller one first: it is read as often
    own = {name: range(accelerator.process_index, len(each), accelerator.num_processes) for name, each in parts.items()}
    opening = _Opening(backbone, parts, keep=bool(room))
    results = _results(opening, [(name, i) for name in parts for i in own[name]], pool, processes)
    opened: dict[str, _Opened] = {}
    done = 0
    for name, examples in parts.items():
        opened[name] = _opened(
            examples, islice(results, len(own[name])), accelerator, side=backbone.transform.size_px,
            room=min(room, len(own[name])),
            progress=lambda n, before=done: progress("opening", before + n, total),  # type: ignore[misc]
        )  # fmt: skip
        room -= len(opened[name].kept.pixels)
        done += len(examples)
    left_out = {**opened["train"].failed, **opened["valid"].failed}
    _tell_failures(left_out, total, max_errors)
    good = {name: each.examples for name, each in opened.items()}
    digests = {name: tuple(opened[name].digests) for name in ("train", "valid")}
    check_parts(good["train"], good["valid"], classes)
    _tell_leaks(good["train"], digests["train"], good["valid"], digests["valid"])
    if not room and not processes:
        logger.info("decoded pictures do not all fit into %.1f GB: the rest is decoded again each epoch", memory / 1e9)
    return Material(
        train=good["train"], valid=good["valid"], classes=tuple(classes), left_out=left_out, picture_digests=digests,
        kept={name: each.kept for name, each in opened.items()},
        digest=_digest({name: (good[name], digests[name]) for name in ("train", "valid")}),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """One part once all its pictures were opened."""

    examples: Examples
    """The usable ones."""
    digests: list[str]
    """sha256 of the picture file of each."""
    failed: dict[str, str]
    """Id -> reason, for the others."""
    kept: Kept


Found = tuple[int, str, str, "NDArray[np.uint8] | None"]
"""Position, sha256 of the file, why it is not usable if it is not, and the pixels."""


class _Opening(Dataset[Found]):
    """(part, position) -> what is found there; without pixels unless they are to be kept."""

    def __init__(self, backbone: Backbone, parts: Mapping[str, Examples], *, keep: bool) -> None:
        self._open, self._prepare, self._keep = backbone.open, backbone.prepare, keep
        self._read = {name: examples.read for name, examples in parts.items()}

    def __getitem__(self, at: tuple[str, int]) -> Found:
        part, i = at
        try:
            data = self._read[part](i)
            pixels = self._prepare(self._open(data))
        except (PictureError, OSError) as error:
            return i, "", _reason_of(error), None
        return i, hashlib.sha256(data).hexdigest(), "", pixels if self._keep else None


def _results(
    opening: _Opening, own: Sequence[tuple[str, int]], pool: ThreadPoolExecutor, processes: int
) -> Iterator[Found]:
    """Open what is this process's share, in order, with worker processes or threads."""
    if processes:
        check_sendable(opening, processes)
        loader = DataLoader(opening, batch_size=64, sampler=own, collate_fn=_as_they_are, **worker_settings(processes))
        for several in loader:
            yield from several
        return
    for start in range(0, len(own), _OPENED_AT_A_TIME):
        yield from pool.map(opening.__getitem__, own[start : start + _OPENED_AT_A_TIME])


def _opened(
    examples: Examples,
    results: Iterable[Found],
    accelerator: Accelerator,
    *,
    side: int,
    room: int,
    progress: Callable[[int], None],
) -> _Opened:
    """Note this process's share of a part, keep the pixels of as many as there is room for, and learn of the others."""
    pixels = np.empty((room, side, side, 3), np.uint8)
    slots = np.full(len(examples), -1, np.intp)
    found: list[tuple[int, str, str]] = []
    filled = 0
    for number, (i, digest, reason, picture) in enumerate(results, 1):
        found.append((i, digest, reason))
        if picture is not None and filled < room:
            pixels[filled], slots[i] = picture, filled
            filled += 1
        if number % _TOLD_EVERY == 0:
            progress(min(number * accelerator.num_processes, len(examples)))
    progress(len(examples))
    every = sorted(gather_object(found)) if accelerator.num_processes > 1 else found
    usable = np.asarray([i for i, digest, _ in every if digest], dtype=np.intp)
    failed = {examples.ids[i]: reason for i, digest, reason in every if not digest}
    return _Opened(
        examples=examples.take(usable) if failed else examples,
        digests=[digest for _, digest, _ in every if digest],
        failed=failed,
        kept=Kept(pixels=pixels[:filled], slots=slots[usable]),
    )


def _as_they_are(items: list[T]) -> list[T]:
    return items


def _tell_failures(failed: dict[str, str], total: int, max_errors: float) -> None:
    """List unusable pictures, and stop when they are more than allowed."""
    if not failed:
        return
    allowed = max(_FEW, int(max_errors * total)) if max_errors else 0
    lines = "\n".join(f"  {name}: {reason}" for name, reason in list(failed.items())[:_FEW])
    more = f"\n  and {len(failed) - _FEW:,} more" if len(failed) > _FEW else ""
    if len(failed) > allowed:
        raise TooManyErrors(
            f"{len(failed):,} of {total:,} pictures cannot be used, more than the {allowed:,} allowed\n{lines}{more}\n"
            f"  mend or remove them, or allow a larger share with max_errors"
        )
    logger.warning("%d of %d pictures cannot be used and are left out:\n%s%s", len(failed), total, lines, more)


def _reason_of(error: Exception) -> str:
    """Say in one line, without machine paths, why a picture cannot be used."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:300] or type(error).__name__


def _tell_leaks(train: Examples, train_digests: Sequence[str], valid: Examples, valid_digests: Sequence[str]) -> None:
    known = dict(zip(train_digests, train.ids, strict=True))
    pairs = [f"{name} = {known[d]}" for name, d in zip(valid.ids, valid_digests, strict=True) if d in known]
    if pairs:
        logger.warning(
            "%d validation pictures are in the training part too: %s; the validation scores flatter",
            len(pairs), listing(pairs),
        )  # fmt: skip


def _digest(parts: Mapping[str, tuple[Examples, Sequence[str]]]) -> str:
    """Identify the data: sha256 over each part's ids, labels, pictures' digests and soft labels, in order."""
    total = hashlib.sha256()
    for name, (examples, pictures) in parts.items():
        for sample_id, label, picture in zip(examples.ids, examples.y.tolist(), pictures, strict=True):
            total.update(json.dumps([name, sample_id, label, picture]).encode())
        if examples.soft is not None:
            total.update(examples.soft.tobytes())
    return total.hexdigest()
