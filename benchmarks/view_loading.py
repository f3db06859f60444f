"""Loading a view of 50,000 x 2304 float32 against `np.fromfile` of the same bytes, both warm.

Limit: 0.8 of its speed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.synthetic import fill
from benchmarks.timing import interleaved, report
from cer_fusion.featstore import Store


def main() -> None:
    """Measure and print a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=2304)
    parser.add_argument("--shard-rows", type=int, default=8192)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store, plain = fill(Path(folder), args.rows, args.width, args.shard_rows)
        expected = np.fromfile(plain, dtype=np.float32).reshape(args.rows, args.width)
        if not np.array_equal(store.view(["f"]).blocks["f"], expected):
            raise SystemExit("the view does not equal the plain file")
        del expected
        taken = interleaved(
            {
                "fromfile": lambda: np.fromfile(plain, dtype=np.float32),
                "verified": lambda: store.view(["f"]),
                "unverified": lambda: store.view(["f"], verify=False),
                "mapped_open": lambda: store.view(["f"], mapped=True),
                "mapped_first_open": lambda: Store(store.path).view(["f"], mapped=True),
            },
            repeats=7,
        )
    report(
        "view_loading",
        rows=args.rows,
        width=args.width,
        fromfile_s=round(taken["fromfile"], 4),
        verified_s=round(taken["verified"], 4),
        unverified_s=round(taken["unverified"], 4),
        mapped_open_ms=round(1e3 * taken["mapped_open"], 1),
        mapped_first_open_ms=round(1e3 * taken["mapped_first_open"], 1),
        ratio=round(taken["fromfile"] / taken["verified"], 3),
        ratio_unverified=round(taken["fromfile"] / taken["unverified"], 3),
        limit=0.8,
    )


if __name__ == "__main__":
    main()
