"""The pictures of a run, opened once before the first step: digests, unusable ones, and pixels as far as they fit."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from cer_fusion.backbones.backbone import Backbone
from cer_fusion.backbones.errors import PictureError, TooManyErrors
from cer_fusion.backbones.finetuning.examples import Examples
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_AHEAD = 1024
"""Pictures that are asked for at a time."""
_FEW = 10
"""Unusable pictures that never stop a run, as in extraction, unless none are allowed."""


class OpenedPictures:
    """Pictures of some examples as the backbone's own `decode` gives them; those that fit stay in memory.

    Parameters
    ----------
    examples : Examples
        Usable ones: see `open_all`.
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


def open_all(
    backbone: Backbone,
    examples: Examples,
    *,
    pool: ThreadPoolExecutor,
    memory: float,
    progress: Callable[[int], None],
) -> tuple[Examples, OpenedPictures, list[str], dict[str, str]]:
    """Open every picture once.

    Parameters
    ----------
    memory : float
        Bytes that decoded pictures may take.
    progress : callable
        Told how many are done.

    Returns
    -------
    examples, pictures
        The usable ones.
    digests : list of str
        sha256 of each usable picture file.
    failed : dict
        Id -> reason, for the others.
    """
    side = backbone.transform.size_px
    room = min(len(examples), int(memory // (side * side * 3)))
    kept = np.empty((room, side, side, 3), np.uint8)
    usable: list[int] = []
    digests: list[str] = []
    failed: dict[str, str] = {}

    def one(i: int) -> tuple[str, NDArray[np.uint8]] | Exception:
        try:
            data = examples.read(i)
            return hashlib.sha256(data).hexdigest(), backbone.decode(data)
        except (PictureError, OSError) as error:
            return error

    for start in range(0, len(examples), _AHEAD):
        part = range(start, min(start + _AHEAD, len(examples)))
        for i, result in zip(part, pool.map(one, part), strict=True):
            if isinstance(result, Exception):
                failed[examples.ids[i]] = reason_of(result)
                continue
            if len(usable) < room:
                kept[len(usable)] = result[1]
            usable.append(i)
            digests.append(result[0])
        progress(part.stop)
    good = examples.take(np.asarray(usable, dtype=np.intp)) if failed else examples
    return good, OpenedPictures(backbone, good, kept[: len(usable)], pool), digests, failed


def check_failures(failed: dict[str, str], total: int, max_errors: float) -> None:
    """List unusable pictures, and stop when they are more than allowed.

    Raises
    ------
    TooManyErrors
        When more than the share `max_errors` cannot be used; up to ten never stop a run unless `max_errors` is 0.
    """
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


def reason_of(error: Exception) -> str:
    """Say in one line, without machine paths, why a picture cannot be used."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:300] or type(error).__name__
