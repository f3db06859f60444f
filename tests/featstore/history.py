"""Lives that a feature can have (runs over changing pictures and manifests, damage, repair), and what it then holds."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from hypothesis import strategies as st

from cer_fusion.featstore import Feature, Manifest, Sample, Store, extract, verify
from cer_fusion.featstore.rows.shard import read_rows
from tests.featstore.conftest import CLASSES, ToyEmbedder

SAMPLES = 7
CONTENTS = (b"first", b"second", b"BAD picture", None)
"""What a sample's file may hold; None: there is no file."""
HOUR_S = 3600.0


class Run(NamedTuple):
    """One `extract`: the order of the samples, which are listed, what their files hold, and the shards' size."""

    order: list[int]
    listed: list[bool]
    contents: list[int]
    shard_rows: int


class Damage(NamedTuple):
    """A shard loses its end, and `verify --repair` sets it aside."""

    number: int


runs = st.builds(
    Run,
    order=st.permutations(range(SAMPLES)),
    listed=st.lists(st.booleans(), min_size=SAMPLES, max_size=SAMPLES),
    contents=st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, 3]), min_size=SAMPLES, max_size=SAMPLES),
    shard_rows=st.integers(1, 4),
)
histories = st.lists(st.one_of(runs, runs, st.builds(Damage, st.integers(0, 20))), min_size=1, max_size=5)


@contextmanager
def lived(history: list[Run | Damage]) -> Iterator[Store]:
    """A store whose feature `toy` has gone through all of it."""
    with tempfile.TemporaryDirectory() as folder, mock.patch("os.fsync"):  # no power cut here: syncing only takes time
        store = Store.create(Path(folder) / "store")
        for step in [Run(list(range(SAMPLES)), [True] * SAMPLES, [0] * SAMPLES, 3), *history]:
            if isinstance(step, Run):
                _extract(store, Path(folder) / "pictures", step)
            else:
                paths = store.feature("toy").shard_paths()
                if paths:
                    path = paths[step.number % len(paths)]
                    path.write_bytes(path.read_bytes()[:-100])
                    verify(store, repair=True)
        yield store


def holdings(store: Store, *, listed_only: bool = False) -> dict[str, Any]:
    """Every sample's row and picture digest, or its quarantine entry, as a fresh reader finds them."""
    feature = Feature(store.feature("toy").folder)
    index = feature.index()
    digests = index.image_digests()
    found: dict[str, Any] = dict(index.quarantined)
    for sample_id in index.ids():
        shard, row = index.locate(index.rows_of([sample_id]))
        header = index.headers[int(shard[0])]
        values = [read_rows(header, f"blocks/{block}", row.tolist()).tobytes() for block in feature.spec.blocks]
        found[sample_id] = (digests[sample_id], *values)
    listed = set(store.manifest().ids) if listed_only else found.keys()
    return {sample_id: entry for sample_id, entry in found.items() if sample_id in listed}


def make_older(folder: Path, by_s: float = 2 * HOUR_S) -> None:
    """Set the times of everything below a folder back."""
    for path in sorted(folder.rglob("*"), reverse=True):
        stat = path.stat()
        os.utime(path, (stat.st_atime, stat.st_mtime - by_s))


def _extract(store: Store, root: Path, run: Run) -> None:
    root.mkdir(exist_ok=True)
    for i, content in enumerate(run.contents):
        (root / f"{i}.png").unlink(missing_ok=True)
        if CONTENTS[content] is not None:
            (root / f"{i}.png").write_bytes(CONTENTS[content] + (b" of %d" % i if i % 2 else b""))
    samples = [Sample(sample_id=f"s{i}", path=f"{i}.png") for i in run.order if run.listed[i]]
    if any((root / sample.path).exists() for sample in samples):
        manifest = Manifest(samples=tuple(samples), classes=CLASSES, root=root)
        extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=run.shard_rows)
