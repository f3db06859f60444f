"""What 10^5, 10^6 and 10^7 samples cost: each figure in a process of its own, with its seconds and its largest memory.

Samples are made up, and their pictures are members that no file system holds: an embedder that draws 16 columns stands
for a backbone, and the pictures of a part are read from memory. All else is what users run.

The manifest: `write`, `read` and `use` it; `begin` is what one of a thousand parts does before its first row: open the
store, find its own samples, and plan them; `part` does all of it.

The rows, a thousand a shard, each from a picture of its own, but one in a hundred from another's too:

- `fill`: commit all of them, which no user does in one go, and nothing is asked of it.
- `ls`: the command, with its start and its imports.
- `ls_begun`: the same of a feature of which every tenth shard is not there yet.
- `index`: find the rows of all samples.
- `asked`: what a part of 1/1000 asks of a full store before it starts: the rows of its own samples, and rows made from
  their pictures.
- `leaks`: what `cer-fuse train` asks: pictures that stand in two splits, among the samples of `view`.
- `view`: load the rows of a million samples, from all over; `view_mapped` maps them.
- `renamed`: give samples of new names the rows of their pictures, in random order: bytes read for a byte of rows.
- `listing`: commit 10,000 shards of one row, and look for others' before and after each: ms of looking a shard. Once.

`peak_mb` is all that a process held; `added_mb` what it came to hold beside libraries, ids, manifest, and the rows that
it was asked for. Where something is wanted of a figure (`BUDGETS`), that stands beside it, and whether it is kept.
CPU seconds stand beside seconds, as the machine may be busy; `x` is how many times those of the size before they are.

Prints a table and one JSON line a size. At 10^7 it takes ten minutes or so, 4 GB of disk and 3 GB of memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.synthetic import CLASSES, NumberEmbedder, class_of
from benchmarks.timing import report, seconds_of
from cer_fusion.featstore import Feature, FeatureSpec, Manifest, Sample, Store, extract
from cer_fusion.featstore.extraction import run
from cer_fusion.featstore.extraction.stored import StoredRows
from cer_fusion.featstore.manifests.columns import Samples, Texts, Words
from cer_fusion.featstore.pictures import pictures
from cer_fusion.featstore.rows import shard as shard_module
from cer_fusion.featstore.rows.shard import Rows
from cer_fusion.featstore.rows.view import Request, build_view

PARTS = 1000
COLUMNS = 16
SHARD_ROWS = 1000
MOST_IN_VIEW = 1_000_000
SHARDS_LISTED = 10_000
LS = "import sys; sys.argv[0] = 'cer-feat'; from cer_fusion.cli import feat_main; feat_main()"
BUDGETS: dict[str, dict[str, float]] = {
    "begin": {"s": 5, "peak_mb": 500},
    "ls": {"s": 2},
    "ls_begun": {"s": 2},
    "view": {"s": 3, "added_mb": 300},
    "view_mapped": {"s": 3, "added_mb": 300},
    "listing": {"looking_ms_a_shard": 1},
}
"""At most so much of a step's figures, at 10^7 samples too."""
SHOWN = {
    "s": "s",
    "cpu_s": "s CPU",
    "peak_mb": "MB",
    "added_mb": "MB added",
    "looking_ms_a_shard": "ms a shard",
    "bytes_read_a_byte": "bytes a byte",
}
Figures = dict[str, Any]


def main() -> None:
    """Measure every size, step after step."""
    args = options()
    if args.step:
        print(json.dumps(measured(STEPS[args.step], args.samples[0], args.folder)))
        return
    before: dict[str, Figures] = {}
    for samples in args.samples:
        with tempfile.TemporaryDirectory(prefix="scale", dir=args.folder) as folder:
            found = {}
            for step in args.steps:
                if step == "listing" and before:  # it is the same for every size
                    continue
                found[step] = in_a_process(step, samples, Path(folder))
                print(line_of(step, samples, found[step], before.get(step)), file=sys.stderr, flush=True)
        report("scale", samples=samples, steps=found)
        before = found


def in_a_process(step: str, samples: int, folder: Path) -> Figures:
    """Run one step with nothing of the others in memory."""
    command = [sys.executable, "-m", "benchmarks.scale", "--step", step, "--samples", str(samples), "--folder", folder]
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, encoding="utf-8")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    wanted = BUDGETS.get(step, {})
    return {**figures, "at_most": wanted, "kept": all(figures[name] <= most for name, most in wanted.items())}


def line_of(step: str, samples: int, figures: Figures, before: Figures | None) -> str:
    """A row of the table: each figure, and what is wanted of it."""
    shown = []
    for name, unit in SHOWN.items():
        if name in figures:
            most = figures["at_most"].get(name)
            wanted = "" if most is None else f" (≤ {most:g}{'' if figures[name] <= most else ': OVER'})"
            shown.append(f"{figures[name]:,.{0 if name.endswith('mb') else 2}f} {unit}{wanted}")
    if before is not None:
        shown.append(f"x {figures['cpu_s'] / max(before['cpu_s'], 0.01):.1f}")
    return f"{samples:>12,} {step:<12} " + ", ".join(shown) + f", load {figures['load']:.1f}"


def measured(step: Callable[[int, Path], Figures | None], samples: int, folder: Path) -> Figures:
    """Seconds of a step without the imports, the most memory that the process held with them, and what else it says."""
    before_mb = peak_mb()
    started, computed = time.perf_counter(), cpu_s()
    found = step(samples, folder) or {}
    seconds, computed = time.perf_counter() - started, cpu_s() - computed
    load = os.getloadavg()[0]
    return {"s": seconds, "cpu_s": computed, "peak_mb": peak_mb(), "imports_mb": before_mb, "load": load, **found}


def cpu_s() -> float:
    """Seconds that this process and those it waited for have computed."""
    return sum(os.times()[:4])


def peak_mb() -> float:
    """The most memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def write(samples: int, folder: Path) -> None:
    """Write a manifest, as `cer-feat manifest` does."""
    numbers = np.arange(samples)
    manifest = Manifest(
        samples=Samples(
            Texts.of(f"sample_{i:08d}" for i in range(samples)),
            Texts.of(f"{i // 1000:05d}/{i:08d}.png" for i in range(samples)),
            Words(CLASSES.labels, np.fromiter(map(class_of, range(samples)), np.int32, samples)),
            Words(("train", "test"), (numbers // 100 % 20 == 0).astype(np.int32)),
            Words.of([f"video_{i // 100:06d}" for i in range(samples)]),
        ),
        classes=CLASSES,
        root=folder,
    )
    manifest.write(folder / "faces.csv")


def read(samples: int, folder: Path) -> None:
    """Read it whole."""
    assert len(Manifest.read(folder / "faces.csv")) == samples


def use(samples: int, folder: Path) -> None:
    """Make it a dataset's, which the first of all parts does."""
    Store.create(folder / "store").use_manifest("faces", Manifest.read(folder / "faces.csv"))


def begin(samples: int, folder: Path) -> None:
    """Begin a part of it, up to the first picture that is to be embedded."""

    class BegunError(Exception):
        """All is planned."""

    with mock.patch.object(run, "_fill", side_effect=BegunError), contextlib.suppress(BegunError):
        part(samples, folder, k=7)


def part(samples: int, folder: Path, k: int = 8) -> None:
    """Do a part of it, as `cer-feat extract --data faces.csv --part 8 --parts 1000` does."""
    store = Store(folder / "store")
    manifest = store.sealed_manifest("faces")
    assert manifest is not None
    assert manifest.is_made_from(folder / "faces.csv", None)
    shard_rows = min(2048, samples // PARTS)
    with drawn_pictures():
        extract(NumberEmbedder(COLUMNS), manifest, store, dataset="faces", part=(k, PARTS), shard_rows=shard_rows)


@contextlib.contextmanager
def drawn_pictures() -> Iterator[None]:
    """Every path that ends in a number's file is a picture of that number."""

    def number_of(_: object, path: str) -> bytes:
        return Path(path).stem.encode()

    with (
        mock.patch.object(pictures.PictureSource, "read", number_of),
        mock.patch.object(pictures.PictureSource, "state", return_value=None),
    ):
        yield


def fill(samples: int, folder: Path) -> Figures:
    """Commit the rows of all samples, and those of a second feature but for every tenth shard."""
    rng, shard_rows = np.random.default_rng(0), SHARD_ROWS
    features = features_of(folder)
    for index, start in enumerate(range(0, samples, shard_rows)):
        numbers = range(start, min(start + shard_rows, samples))
        rows = Rows(
            ids=ids_of(numbers),
            image_digests=[digest_of(number if number % 100 else number // 2 + 1) for number in numbers],
            blocks={"b": rng.standard_normal((len(numbers), COLUMNS), dtype=np.float32)},
        )
        with mock.patch("os.fsync"):  # no power cut here: syncing only takes time
            for feature in features[: 1 if index % 10 == 9 else 2]:
                feature.commit(rows, index=index, generation=0)
    return {"shards": len(features[0].shard_names())}


def ls(samples: int, folder: Path, feature: str = "full") -> Figures:
    """List the store, in which no other feature is."""
    others = [one for one in (folder / "store" / "faces").glob("*@*") if not one.name.startswith(f"{feature}@")]
    for other in others:
        other.rename(folder / other.name)
    started, computed = time.perf_counter(), cpu_s()
    command = [sys.executable, "-c", LS, "ls", "--store", str(folder / "store"), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    seconds, computed = time.perf_counter() - started, cpu_s() - computed
    for other in others:
        (folder / other.name).rename(other)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    (entry,) = json.loads(done.stdout)["features"]
    tenths = len(range(9, -(-samples // SHARD_ROWS), 10))
    assert entry["rows"] == samples - (0 if feature == "full" else tenths * SHARD_ROWS), entry
    return {"s": seconds, "cpu_s": computed, "peak_mb": peak, "rows": entry["rows"]}


def ls_begun(samples: int, folder: Path) -> Figures:
    """List the store, in which only the feature that is not finished is."""
    return ls(samples, folder, "begun")


def index(samples: int, folder: Path) -> Figures:
    """Find every sample's row."""
    feature, ids = features_of(folder)[0], Texts.of(ids_of(range(samples)))
    return added(lambda: {"rows": int((feature.index().rows_of(ids) >= 0).sum())})


def asked(samples: int, folder: Path) -> Figures:
    """Find a thousandth of the samples' rows, and rows that were made from as many pictures."""
    feature = features_of(folder)[0]
    own = ids_of(range(0, samples, PARTS))

    def start() -> Figures:
        stored = StoredRows(feature, only=own)
        found = stored.before.rows_made_from([digest_of(number) for number in range(1, samples, PARTS)])
        return {"rows": int((stored.before.rows_of(own) >= 0).sum()), "pictures": len(found)}

    return added(start)


def leaks(samples: int, folder: Path) -> Figures:
    """Find pictures that stand in two splits."""
    manifest = scattered(samples, folder)
    with mock.patch.object(Store, "manifest", return_value=manifest):
        store = Store(folder / "store")
        return added(lambda: {"pairs": len(store.shared_pictures("full", dataset="faces", splits=("train", "test")))})


def view(samples: int, folder: Path, *, mapped: bool = False) -> Figures:
    """Load rows."""
    manifest = scattered(samples, folder)
    request = Request(key="full", feature=features_of(folder)[0])

    def load() -> Figures:
        found = build_view(manifest, [request], drop_missing=False, mapped=mapped, verify=True, where="faces")
        loaded = 0 if mapped else sum(np.asarray(block).nbytes for block in found.blocks.values())
        return {"view_samples": len(found), "rows_mb": loaded / 1e6}

    figures = added(load)
    return {**figures, "added_mb": figures["added_mb"] - figures["rows_mb"]}


def view_mapped(samples: int, folder: Path) -> Figures:
    """Map rows."""
    return view(samples, folder, mapped=True)


def renamed(samples: int, folder: Path) -> Figures:
    """Take rows over by their pictures, in random order, as many at a time as a shard has."""
    stored = StoredRows(features_of(folder)[0])
    by_picture = stored.before.rows_made_from([digest_of(number) for number in range(1, min(samples, 200_000), 2)])
    digests = list(by_picture)
    np.random.default_rng(0).shuffle(digests)
    read = rows = 0
    real = shard_module._fill

    def counted(file: Any, out: memoryview, *where: Any) -> None:
        nonlocal read
        read += len(out)
        real(file, out, *where)

    def take_over() -> Figures:
        nonlocal rows
        for first in range(0, len(digests), SHARD_ROWS):
            rows += len(stored.of_pictures(digests[first : first + SHARD_ROWS], by_picture))
        return {"rows": rows, "bytes_read_a_byte": read / (rows * COLUMNS * 4)}

    with mock.patch.object(shard_module, "_fill", counted):
        return added(take_over)


def listing(samples: int, folder: Path) -> Figures:
    """Commit small shards, with a look before and after each."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        stored = StoredRows(features_of(Path(name))[0])
        looking = 0.0
        for number in range(SHARDS_LISTED):
            looking += seconds_of(stored.look) + seconds_of(stored.look)
            row = np.full((1, COLUMNS), number, dtype=np.float32)
            rows = Rows(ids=[f"s{number}"], image_digests=[digest_of(number)], blocks={"b": row})
            with mock.patch("os.fsync"):
                stored.commit(rows, number=number, generation=0)
    return {"looking_ms_a_shard": 1e3 * looking / SHARDS_LISTED}


def added(run: Callable[[], Figures]) -> Figures:
    """Seconds of it, and the peak of resident memory over what was resident before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak of before does not count
    before = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    started, computed = time.perf_counter(), cpu_s()
    figures = run()
    seconds, computed = time.perf_counter() - started, cpu_s() - computed
    return {"s": seconds, "cpu_s": computed, "added_mb": peak_mb() - before / 1e6, **figures}


def features_of(folder: Path) -> list[Feature]:
    """The features of the dataset in the folder's store: the full one, and the one that lacks shards."""
    store = Store.create(folder / "store")
    specs = [FeatureSpec(name=name, identity={"is": name}, blocks={"b": COLUMNS}) for name in ("full", "begun")]
    return [store.create_feature("faces", spec) for spec in specs]


def scattered(samples: int, folder: Path) -> Manifest:
    """At most a million of the samples, from all over, in two splits."""
    n = min(samples, MOST_IN_VIEW)
    chosen = np.sort(np.random.default_rng(0).choice(samples, n, replace=False)).tolist()
    listed = (Sample(f"sample_{i:08d}", f"{i}.jpg", "", "train" if i % 10 else "test") for i in chosen)
    return Manifest(samples=tuple(listed), classes=CLASSES, root=folder)


def ids_of(numbers: Iterable[int]) -> list[str]:
    """Names of samples, as `write` has them."""
    return [f"sample_{i:08d}" for i in numbers]


def digest_of(number: int) -> str:
    """What stands for the sha256 of a picture: the number, mixed."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}" * 4


STEPS: dict[str, Callable[[int, Path], Figures | None]] = {
    "write": write, "read": read, "use": use, "begin": begin, "part": part,
    "fill": fill, "ls": ls, "ls_begun": ls_begun, "index": index, "asked": asked, "leaks": leaks, "view": view,
    "view_mapped": view_mapped, "renamed": renamed, "listing": listing,
}  # fmt: skip


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)  # one step, in this process
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), metavar="STEP", help=" ".join(STEPS))
    parser.add_argument(
        "--folder", type=Path, help="where stores lie while they are measured; default: a temporary one"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
