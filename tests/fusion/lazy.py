"""A block that stays where it is, as a featstore map does, and tells how it was read."""

from __future__ import annotations

from typing import Any

import numpy as np

from cer_fusion.fusion import JoinedRows


class LazyBlock:
    """Rows (n, d) handed out on request; remembers every request's row numbers."""

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows
        self.shape = rows.shape
        self.asked: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> np.ndarray:
        self.asked.append(np.atleast_1d(np.arange(len(self.rows))[key]))
        return self.rows[key].astype(np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or np.float32)

    @property
    def largest(self) -> int:
        """Rows of the largest request."""
        return max(map(len, self.asked))


def lazy_join(blocks: dict[str, np.ndarray]) -> JoinedRows:
    """The join of these blocks, each of them lazy."""
    return JoinedRows({name: LazyBlock(rows) for name, rows in blocks.items()})
