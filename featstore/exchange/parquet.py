"""Where pyarrow comes in: an optional library, imported when a Parquet file is written or read."""

from __future__ import annotations

import importlib
from typing import Any

from cer_fusion.featstore.errors import FeatstoreError


def pyarrow() -> tuple[Any, Any]:
    """`pyarrow` and `pyarrow.parquet`.

    Raises
    ------
    FeatstoreError
        If it is not installed.
    """
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise FeatstoreError(
            f"Parquet files need the library pyarrow, which cannot be imported: {error}\n"
            f"  install it with: pip install 'cer-fusion[parquet]'"
        ) from None
