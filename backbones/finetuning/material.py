"""The material of a training: both parts with their pictures opened, and the digest of it all.

Every picture is opened once before the first step: for its digest, to leave out those that cannot be used, and for its
pixels as far as they fit into memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...kit.errors import listing
from ..backbone import Backbone
from ..errors import PictureError, TooManyErrors
from ..torch_backbone import TorchBackbone
from .examples import Examples, check_parts

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
Job = TypeVar("Job")
Result = TypeVar("Result")

_OPENED_AT_A_TIME = 1024
_AHEAD = 2  # parts of a batch that are loaded while the network computes
_FEW = 10
"""Unusable pictures that never stop a training, as in extraction, unless none are allowed."""


class OpenedPictures:
    """Pictures of some examples as the backbone's own `decode` gives them; those that fit stay in memory.

    Parameters
    ----------
    examples : Examples
        Usable ones: see `gather`.
    kept : ndarray of shape (m, h, w, 3), uint8
        Pixels of the first m examples; the rest is decoded again whenever it is needed.
    """

    def __init__(
        self, backbone: Backbone, examples: Examples, kept: NDArray[np.uint8], pool: ThreadPoolExecutor
    ) -> None:
        self._backbone, self._examples, self._kept, self._pool = backbone, examples, kept, pool

    def __call__(self, positions: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return the pictures at `positions`, shape (b, h, w, 3)."""
        if len(self._kept) == len(self._examples):
            return self._kept[positions]
        return np.stack(list(self._pool.map(self._one, positions.tolist())))

    def _one(self, position: int) -> NDArray[np.uint8]:
        if position < len(self._kept):
            picture: NDArray[np.uint8] = self._kept[position]
            return picture
        return self._backbone.decode(self._examples.read(position))


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a training learns from and is judged on."""

    train: Examples
    valid: Examples
    train_pictures: OpenedPictures
    valid_pictures: OpenedPictures
    classes: tuple[str, ...]
    digest: str
    """Of ids, labels and picture files of both parts."""
    left_out: dict[str, str]
    """Id -> reason, for pictures that cannot be used."""


def gather(
    backbone: TorchBackbone,
    train: Examples,
    valid: Examples,
    classes: Sequence[str],
    *,
    pool: ThreadPoolExecutor,
    memory: float,
    max_errors: float,
    progress: Progress,
) -> Material:
    """Open all pictures and check both parts, before and after leaving out those that cannot be used.

    Raises
    ------
    ExamplesError
    TooManyErrors
        When more than the share `max_errors` cannot be used; up to ten never stop a training unless `max_errors` is 0.
    """
    check_parts(train, valid, classes)
    total = len(train) + len(valid)
    size = backbone.transform.size_px**2 * 3
    train_failed: dict[str, str] = {}
    valid_failed: dict[str, str] = {}
    # The validation part first: it is the smaller one, and read as often.
    good_valid, valid_pictures, valid_digests = _opened(
        backbone, valid, valid_failed, pool, memory, lambda n: progress("opening", n, total)
    )
    rest = memory - min(memory, len(valid) * size)
    good_train, train_pictures, train_digests = _opened(
        backbone, train, train_failed, pool, rest, lambda n: progress("opening", len(valid) + n, total)
    )
    left_out = {**train_failed, **valid_failed}
    _tell_failures(left_out, total, max_errors)
    check_parts(good_train, good_valid, classes)
    _tell_leaks(good_train, train_digests, good_valid, valid_digests)
    if total * size > memory:
        logger.info("decoded pictures do not all fit into %.1f GB: the rest is decoded again each epoch", memory / 1e9)
    return Material(
        train=good_train, valid=good_valid, train_pictures=train_pictures, valid_pictures=valid_pictures,
        classes=tuple(classes), left_out=left_out,
        digest=_digest({"train": (good_train, train_digests), "valid": (good_valid, valid_digests)}),
    )  # fmt: skip


def loaded_ahead(jobs: Iterable[Job], load: Callable[[Job], Result]) -> Iterator[Result]:
    """Yield ``load(job)`` in order, computing the next two in a thread of their own meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(load, job))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _opened(
    backbone: Backbone,
    examples: Examples,
    failed: dict[str, str],
    pool: ThreadPoolExecutor,
    memory: float,
    progress: Callable[[int], None],
) -> tuple[Examples, OpenedPictures, list[str]]:
    """Open every picture once: the usable examples, their pictures, and the sha256 of each picture file.

    Those that cannot be used are added to `failed`, id -> reason.
    """
    side = backbone.transform.size_px
    room = min(len(examples), int(memory // (side * side * 3)))
    kept = np.empty((room, side, side, 3), np.uint8)
    usable: list[int] = []
    digests: list[str] = []

    def one(i: int) -> tuple[str, NDArray[np.uint8]] | Exception:
        try:
            data = examples.read(i)
            return hashlib.sha256(data).hexdigest(), backbone.decode(data)
        except (PictureError, OSError) as error:
            return error

    for start in range(0, len(examples), _OPENED_AT_A_TIME):
        part = range(start, min(start + _OPENED_AT_A_TIME, len(examples)))
        for i, result in zip(part, pool.map(one, part), strict=True):
            if isinstance(result, Exception):
                failed[examples.ids[i]] = _reason_of(result)
                continue
            if len(usable) < room:
                kept[len(usable)] = result[1]
            usable.append(i)
            digests.append(result[0])
        progress(part.stop)
    good = examples.take(np.asarray(usable, dtype=np.intp)) if failed else examples
    return good, OpenedPictures(backbone, good, kept[: len(usable)], pool), digests


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
