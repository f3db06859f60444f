"""How many pictures are embedded at once: a number, or as many as the device's memory lets."""

from __future__ import annotations

import logging
from typing import Literal

from cer_fusion.featstore.errors import FeatstoreError
from cer_fusion.featstore.extraction.embedder import Embedder, SizesBatches

log = logging.getLogger(__name__)
USUAL = 32
"""Where an automatic size starts for an embedder that does not say."""


class Batch:
    """The batch size of one embedder in one run.

    Parameters
    ----------
    wanted : int or "auto"
        A number stays what it is. "auto" begins with what the embedder likes and halves when memory does not suffice.
    embedder : Embedder

    Raises
    ------
    FeatstoreError
        If it is neither.
    """

    def __init__(self, wanted: int | Literal["auto"], embedder: Embedder) -> None:
        if wanted != "auto" and (not isinstance(wanted, int) or wanted < 1):
            raise FeatstoreError(f"batch_size must be at least 1, or 'auto', however: {wanted!r}")
        self._auto = wanted == "auto"
        self._name = embedder.name
        if wanted == "auto":
            self.size = max(1, embedder.auto_batch) if isinstance(embedder, SizesBatches) else USUAL
        else:
            self.size = wanted

    def halve(self, error: MemoryError) -> None:
        """Go on with half as many, and say so; where the size was stated, or is 1, the error is raised."""
        if not self._auto or self.size == 1:
            raise error
        self.size //= 2
        log.warning("%s: memory does not suffice; going on with a batch size of %d", self._name, self.size)
