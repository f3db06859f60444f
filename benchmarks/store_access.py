"""Committing to the store, opening it, and reading from it, against plain files in the same run.

- Commit: encoding and committing shards of 8,192 rows; the limit is `np.save` and one fsync of the same array.
- Open: a store of many small shards; first in a process of its own, then again.
- Read: all rows, one random row, 256 random rows, each as an array of its own, against `np.memmap` of the same rows in
  one plain file, everything warm. Limits: 0.9, 0.8 and 0.8 of its speed; verified loading 0.5 of unverified. The
  mapped rows are verified too, at the first touch, which is not timed. For the record: `plain_map` is the map without
  the memmap class around it, `uncopied` a row that is still the file's memory, `whole_opened_each_time` a view that is
  opened, verified and loaded each time, against a memmap that is opened and copied each time.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import multiprocessing
import os
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.synthetic import blocks_of, empty_feature, fill, ids_of, rows_of
from benchmarks.timing import interleaved, report, seconds_of
from cer_fusion.featstore import Store

SHARD_ROWS, SMALL_SHARD_ROWS = 8192, 256
SMALL_WIDTH = 64
"""Columns of the store that is only opened: opening touches no rows."""
SINGLE_READS, GATHERS = 5000, 100
"""Single rows, and fetches of 256 rows, that make up one timing."""


def main() -> None:
    """Measure and print a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="where the files go while measuring; default: a temporary folder")
    args = parser.parse_args()
    parts = {}
    for part in ("commit", "open", "read"):
        with tempfile.TemporaryDirectory(dir=args.folder) as name:
            folder = Path(name)
            if part == "commit":
                parts[part] = committing(folder, args.width, args.repeats)
            elif part == "open":
                parts[part] = opening(folder, args.shards, args.repeats)
            else:
                parts[part] = reading(folder, args.rows, args.width, args.repeats)
    report("store_access", width=args.width, runs=args.repeats, **parts)


def committing(folder: Path, width: int, repeats: int) -> dict[str, float]:
    """Rows a second that are durable: ours, and a plain file's."""
    ids = ids_of(SHARD_ROWS)
    store, feature = empty_feature(folder, ids, width)
    [(_, block)] = blocks_of(SHARD_ROWS, width, SHARD_ROWS)
    digests = [hashlib.sha256(sample_id.encode()).hexdigest() for sample_id in ids]  # as an extraction has them
    rows = replace(rows_of(ids, block), image_digests=digests)
    number = itertools.count()

    def ours() -> None:  # the index is part of the bytes, so that each run writes a file of its own
        feature.commit(rows, index=next(number), generation=0)

    def plain() -> None:
        with (folder / f"plain-{next(number)}.npy").open("wb") as file:
            np.save(file, block)
            file.flush()
            os.fsync(file.fileno())

    ours()
    if not np.array_equal(store.view(["f"]).blocks["f"], block):
        raise SystemExit("the committed rows do not read back")
    taken = interleaved({"ours": ours, "plain": plain}, repeats)
    return {
        "shard_rows": SHARD_ROWS,
        "rows_per_s": round(SHARD_ROWS / taken["ours"]),
        "plain_rows_per_s": round(SHARD_ROWS / taken["plain"]),
        "ratio": round(taken["plain"] / taken["ours"], 3),
    }


def opening(folder: Path, shards: int, repeats: int) -> dict[str, float]:
    """Milliseconds until a mapped view is there, each in a new process; medians."""
    fill(folder, shards * SMALL_SHARD_ROWS, SMALL_WIDTH, SMALL_SHARD_ROWS)
    found = []
    for _ in range(max(3, repeats // 3)):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            found.append(process.submit(open_once, folder / "store").result())
    medians = {f"{name}_ms": round(1e3 * statistics.median(f[name] for f in found), 2) for name in found[0]}
    return {"shards": shards, "shard_rows": SMALL_SHARD_ROWS, **medians}


def open_once(path: Path) -> dict[str, float]:
    """Seconds of each step of opening a store in this process, and of the same view once more."""
    stores: list[Store] = []
    first = {
        "store": seconds_of(lambda: stores.append(Store(path))),
        "manifest": seconds_of(lambda: stores[0].manifest()),
        "index": seconds_of(lambda: stores[0].feature("f").index()),
        "view": seconds_of(lambda: stores[0].view(["f"], mapped=True)),
    }
    again = seconds_of(lambda: stores[0].view(["f"], mapped=True))
    reopened = seconds_of(lambda: Store(path).view(["f"], mapped=True))
    return {**first, "first_in_process": sum(first.values()), "same_store_again": again, "new_store_again": reopened}


def reading(folder: Path, n: int, width: int, repeats: int) -> dict[str, object]:
    """Seconds of each way to read, ours and `np.memmap`'s, and their ratios beside the limits."""
    store, path = fill(folder, n, width, SHARD_ROWS)
    memmap = np.memmap(path, dtype=np.float32, mode="r", shape=(n, width))
    plain_map = np.asarray(memmap)
    block = store.view(["f"], mapped=True).blocks["f"]
    rng = np.random.default_rng(1)
    ones = rng.integers(n, size=SINGLE_READS).tolist()
    many = [rng.integers(n, size=min(256, n)) for _ in range(GATHERS)]
    check(store, memmap, block, ones, many)
    taken = interleaved(
        {
            "whole_memmap": lambda: np.array(memmap),
            "whole_memmap_opened": lambda: np.array(np.memmap(path, dtype=np.float32, mode="r", shape=(n, width))),
            "whole_verified": lambda: store.view(["f"]),
            "whole_unverified": lambda: store.view(["f"], verify=False),
            "whole_mapped": lambda: np.asarray(block),
            "one_memmap": lambda: [np.array(memmap[i]) for i in ones],
            "one_plain_map": lambda: [np.array(plain_map[i]) for i in ones],
            "one_ours": lambda: [np.array(block[i]) for i in ones],
            "one_ours_uncopied": lambda: [block[i] for i in ones],
            "some_memmap": lambda: [np.asarray(memmap[at]) for at in many],
            "some_plain_map": lambda: [plain_map[at] for at in many],
            "some_ours": lambda: [block[at] for at in many],
        },
        repeats,
    )
    ratios = {
        "whole": (taken["whole_memmap"] / taken["whole_mapped"], 0.9),
        "whole_opened_each_time": (taken["whole_memmap_opened"] / taken["whole_verified"], None),
        "one_row": (taken["one_memmap"] / taken["one_ours"], 0.8),
        "256_rows": (taken["some_memmap"] / taken["some_ours"], 0.8),
        "verified_to_unverified": (taken["whole_unverified"] / taken["whole_verified"], 0.5),
    }
    calls = {"whole": 1e3, "one": 1e6 / SINGLE_READS, "some": 1e6 / GATHERS}
    units = {"whole": "ms", "one": "us", "some": "us"}
    return {
        "rows": n,
        "ratios": {name: {"ratio": round(ratio, 3), "limit": limit} for name, (ratio, limit) in ratios.items()},
        **{
            f"{name}_{units[name.partition('_')[0]]}": round(seconds * calls[name.partition("_")[0]], 2)
            for name, seconds in taken.items()
        },
    }


def check(store: Store, memmap: np.memmap, block: object, ones: list[int], many: list[np.ndarray]) -> None:
    """Both give the same rows, in every way that is timed; this also verifies what will be touched."""
    same = (
        np.array_equal(store.view(["f"]).blocks["f"], memmap)
        and np.array_equal(np.asarray(block), memmap)
        and all(np.array_equal(block[i], memmap[i]) for i in ones)
        and all(np.array_equal(block[at], memmap[at]) for at in many)
    )
    if not same:
        raise SystemExit("the store's rows do not equal the plain file")


if __name__ == "__main__":
    main()
