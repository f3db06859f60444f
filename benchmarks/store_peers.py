"""The same work with our store and with others: write durably, open, read, and notice a damaged byte.

Rows are normal float32 numbers, which hardly compress; those of a vision transformer are no better. Everything is read
warm, from the page cache. A write counts until every file and folder is synced. Then one byte of the largest file is
turned over, at each of a few places around its middle, and all rows are read in a process of its own: either the
reader says so (`noticed`), or it hands out other rows (`wrong`), or it dies (`crash`); `harmless` is a byte that holds
no rows.

Prints a table and one JSON line. Libraries of the extra `bench` that are missing are left out, and said to be.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peer_stores import Peer, Reader, peer, peers
from benchmarks.timing import interleaved, report, seconds_of

ENOUGH_S = 0.05
"""Single reads are repeated for about so long in one timing."""
SOURCE = "expected.bin"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--flips", type=int, default=5, help="damaged bytes a store")
    parser.add_argument("--folder", type=Path, help="where the files go while measuring; default: a temporary folder")
    parser.add_argument("--read-damaged", nargs=2, metavar=("PEER", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.read_damaged:
        raise SystemExit(read_damaged(args.read_damaged[0], Path(args.read_damaged[1]), args.width))
    missing = [p.name for p in peers() if p.needs and not importlib.util.find_spec(p.needs)]
    if missing:
        print(f"left out, not installed: {'; '.join(missing)}\n  pip install 'cer-fusion[bench]'", file=sys.stderr)
    chosen = [p for p in peers() if p.name not in missing]
    rows = np.random.default_rng(0).standard_normal((args.rows, args.width), dtype=np.float32)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        figures = measure(chosen, Path(name), rows, args.repeats)
        rows.tofile(Path(name) / SOURCE)
        for p in chosen:
            figures[p.name]["flipped_byte"] = flip_bytes(p, Path(name) / figures[p.name].pop("folder"), args)
    print_table(figures)
    report(
        "store_peers",
        rows=args.rows,
        width=args.width,
        runs=args.repeats,
        writes=1 + args.repeats // 2,
        left_out=missing,
        peers=figures,
    )


def measure(chosen: list[Peer], folder: Path, rows: np.ndarray, repeats: int) -> dict[str, dict[str, Any]]:
    """Medians of every peer's seconds, over runs that take turns; half as many of the writes."""
    made: dict[str, list[Path]] = {p.name: [] for p in chosen}

    def write(p: Peer) -> None:
        target = folder / f"{len(made[p.name])}-{p.name.replace(' ', '_')}"
        target.mkdir()
        p.write(target, rows)
        sync(target)
        made[p.name].append(target)

    written = interleaved({p.name: lambda p=p: write(p) for p in chosen}, 1 + repeats // 2)
    opened = {p.name: p.open(made[p.name][-1]) for p in chosen}
    for name, reader in opened.items():
        check(name, reader, rows)
    rng = np.random.default_rng(1)
    ones, some = rng.integers(len(rows), size=20_000).tolist(), rng.integers(len(rows), size=min(256, len(rows)))
    often = {name: calls(reader, ones) for name, reader in opened.items()}
    opening = interleaved({p.name: lambda p=p: p.open(made[p.name][-1]) for p in chosen}, repeats)
    whole = interleaved({name: reader.whole for name, reader in opened.items()}, repeats)
    one = interleaved(
        {name: lambda r=r, n=often[name]: [r.one(i) for i in ones[:n]] for name, r in opened.items()}, repeats
    )
    many = interleaved({name: lambda r=r: r.some(some) for name, r in opened.items()}, repeats)
    return {
        p.name: {
            "write_s": round(written[p.name], 3),
            "open_ms": round(1e3 * opening[p.name], 2),
            "whole_ms": round(1e3 * whole[p.name], 1),
            "one_row_us": round(1e6 * one[p.name] / often[p.name], 1),
            "256_rows_ms": round(1e3 * many[p.name], 2),
            "mbytes": round(sum(f.stat().st_size for f in files_of(made[p.name][-1])) / 1e6, 1),
            "folder": made[p.name][-1].name,
        }
        for p in chosen
    }


def calls(reader: Reader, ones: list[int]) -> int:
    """How many single rows make up a timing that can be trusted."""
    return max(3, min(len(ones), int(ENOUGH_S / seconds_of(lambda: [reader.one(i) for i in ones[:3]]) * 3)))


def check(name: str, reader: Reader, rows: np.ndarray) -> None:
    """What comes back is what was written, in every way that is timed."""
    some = np.random.default_rng(2).integers(len(rows), size=256)
    right = (
        np.array_equal(reader.whole(), rows)
        and np.array_equal(reader.some(some), rows[some])
        and all(np.array_equal(reader.one(int(i)), rows[i]) for i in some[:8])
    )
    if not right:
        raise SystemExit(f"{name} does not give back the rows that were written")


def flip_bytes(p: Peer, folder: Path, args: argparse.Namespace) -> dict[str, int]:
    """What a process that reads all rows says, for each of a few damaged bytes."""
    target = max(files_of(folder), key=lambda f: f.stat().st_size)
    said: Counter[str] = Counter()
    for k in range(args.flips):
        at = target.stat().st_size * (k + 1) // (args.flips + 1)
        turn_over(target, at)
        command = [sys.executable, "-m", "benchmarks.store_peers", "--width", str(args.width)]
        done = subprocess.run(
            [*command, "--read-damaged", p.name, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=600,
        )
        said[done.stdout.decode().strip() if done.returncode == 0 else "crash"] += 1
        turn_over(target, at)
    return dict(said)


def read_damaged(name: str, folder: Path, width: int) -> int:
    """Read all rows of a damaged store and print what became of it."""
    expected = np.fromfile(folder.parent / SOURCE, dtype=np.float32).reshape(-1, width)
    try:
        found = peer(name).open(folder).whole()
    except Exception:  # whatever a library raises, it has noticed
        print("noticed")
        return 0
    print("harmless" if np.array_equal(found, expected) else "wrong")
    return 0


def turn_over(path: Path, at: int) -> None:
    """Invert one byte of a file in place; twice is the old byte."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0xFF]))


def files_of(folder: Path) -> list[Path]:
    """All files below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def sync(folder: Path) -> None:
    """Sync every file and folder; ours has done it, and finds nothing to do."""
    for path in (*folder.rglob("*"), folder, folder.parent):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def print_table(figures: dict[str, dict[str, Any]]) -> None:
    """The figures as a Markdown table."""
    print("| store | write s | open ms | whole ms | one row µs | 256 rows ms | MB | a flipped byte |")
    print("|---|---:|---:|---:|---:|---:|---:|---|")
    for name, row in figures.items():
        said = ", ".join(f"{word} {count}" for word, count in row["flipped_byte"].items())
        cells = [row[key] for key in ("write_s", "open_ms", "whole_ms", "one_row_us", "256_rows_ms", "mbytes")]
        print(f"| {name} | {' | '.join(f'{cell:,}' for cell in cells)} | {said} |")


if __name__ == "__main__":
    main()
