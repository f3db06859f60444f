"""Where one shot ends and the next begins: no face is followed across a cut."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

T = TypeVar("T")

CODE: Final = 1
"""Version of what stands here; part of the identity."""
THUMBNAIL: Final = (32, 18)
"""Width and height that frames are compared at: what moves a little changes little."""


@dataclass(frozen=True, kw_only=True)
class CutSettings:
    """When a frame begins a new shot: when it changes much, and much more than its neighbours do.

    The defaults are those of PySceneDetect's adaptive detector, whose measure is a similar one.
    """

    least_change: float = 15.0
    """Mean absolute change of a thumbnail's values since the frame before, of 255."""
    least_ratio: float = 3.0
    """That change over the median of its neighbours': a camera that pans or shakes cuts nothing."""
    reach: int = 2
    """Neighbours on either side."""

    def identity(self) -> dict[str, Any]:
        """JSON values."""
        return {"method": "thumbnails", "code": CODE, "thumbnail": list(THUMBNAIL), **vars(self)}


class Changes:
    """How much each frame, asked about in rising order, differs from the one before."""

    def __init__(self) -> None:
        self._before: NDArray[np.float32] | None = None

    def of(self, picture: NDArray[np.uint8]) -> float:
        """Return the mean absolute change of the thumbnail of a frame (h, w, 3), of 255; 0 for the first."""
        small = Image.fromarray(picture).resize(THUMBNAIL, Image.Resampling.BOX)
        now = np.asarray(small, dtype=np.float32)
        before, self._before = self._before, now
        return 0.0 if before is None else round(float(np.abs(now - before).mean()), 3)


def with_cuts(frames: Iterable[T], change_of: Callable[[T], float], settings: CutSettings) -> Iterator[tuple[T, bool]]:
    """Yield every frame, and whether it begins a new shot; only neighbours are in memory at a time.

    A flash counts as a cut, and so does its end; a dissolve does not.
    """
    reach = settings.reach
    near: deque[tuple[T, float] | None] = deque([None] * reach, maxlen=2 * reach + 1)  # None: beyond an end
    for one in chain(((frame, change_of(frame)) for frame in frames), [None] * reach):
        near.append(one)
        asked = near[reach] if len(near) == near.maxlen else None
        if asked is None:
            continue
        frame, change = asked
        others = [other[1] for other in near if other is not None and other is not asked]
        usual = median(others) if others else 0.0
        yield frame, change >= settings.least_change and change >= settings.least_ratio * usual
