"""P2: after a power cut everything that was acknowledged is there, and nothing that is there is wrong."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cer_fusion.featstore import FeatstoreError, Store
from cer_fusion.featstore.rows import files
from cer_fusion.featstore.rows.shard import read_header, read_strings
from tests.reliability import toy
from tests.reliability.power import Disk, Entry, Killed, Promised, RecordingOs, instead_of_os, materialise


class Runs:
    """The runs that are cut short: a store is made and filled, then its manifest grows and it is filled again."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        chance = random.Random(seed)
        samples = chance.randrange(6, 14)
        contents = {3: b"BAD"} if seed % 2 else {3: b"picture 0001"}  # a bad picture, or one that is there twice
        grown = toy.write_manifest(folder, samples, contents=contents)
        before = chance.randrange(1, samples)
        self.folder = folder
        self.manifests = (grown.keep(i < before for i in range(samples)), grown)
        self.shard_rows = chance.randrange(2, 5)
        self.run(folder / "whole")
        self.expected = toy.rows(folder / "whole")
        paths = Store(folder / "whole").feature("toy").shard_paths()
        self.names = [path.name for path in paths]
        self.ids = {path.name: set(read_strings(read_header(path), "ids")) for path in paths}

    def run(self, store: Path) -> None:
        """Both runs; what is there already is left alone."""
        for manifest in self.manifests:
            toy.embed(manifest, store, shard_rows=self.shard_rows)

    def faults(self, folder: Path, promised: list[Promised], *, complete: bool = False) -> list[str]:
        """What is wrong with a store found after a power cut."""
        found = [f"lost: {entry.path}" for entry in _lost(folder, promised)]
        acknowledged = {Path(entry.path).name for entry in promised} & self.ids.keys()
        owed = set(self.expected) if complete else set().union(*(self.ids[name] for name in acknowledged))
        if not (folder / "store" / "store.json").exists():
            return found
        try:
            rows = toy.rows(folder / "store")
        except toy.NOT_THERE as error:
            return [*found, f"not there: {error}"] if owed else found
        except FeatstoreError as error:
            return [*found, f"unreadable: {error}"]
        found += [f"lost: row of {sample_id}" for sample_id in owed - rows.keys()]
        return found + [f"wrong: row of {sample_id}" for sample_id in toy.wrong(rows, self.expected)]


@pytest.mark.slow
@pytest.mark.parametrize("links", [True, False], ids=["with hard links", "without hard links"])
def test_whatever_a_power_cut_loses_no_row_is_wrong_and_no_acknowledged_one_is_lost(tmp_path, scaled, figure, links):
    states = 0
    distinct = set()
    wanted = scaled(5000, 250)
    seed = 0
    while states < wanted:
        runs, seed = Runs(tmp_path / str(seed), seed), seed + 1
        chance = random.Random(seed)
        for disk, promised in _prefixes(_recorded(runs, links=links)):
            for keep in (0.0, 1.0, chance.random(), chance.random()):
                tree = disk.after_power_cut(chance, keep)
                with _on_disk(tree, tmp_path) as folder:
                    assert runs.faults(folder, promised) == []
                    state = hash(tuple(sorted(tree.items())))
                    if state not in distinct:
                        distinct.add(state)
                        _rerun(folder, runs)
                states += 1
    how = "links" if links else "no links"
    text = f"{states:,} states of {seed} runs after a power cut ({len(distinct):,} distinct, {how}): 0 wrong, 0 lost"
    figure("P2", f"{text}, a resume from every distinct one completes")


@pytest.mark.parametrize("left_out", ["fsync of files", "fsync of folders"])
def test_leaving_out_a_sync_is_noticed(tmp_path, figure, left_out):
    runs = Runs(tmp_path)
    chance = random.Random(0)
    found: set[str] = set()
    for disk, promised in _prefixes(_recorded(runs, without=left_out)):
        for keep in (0.0, 0.5, 0.8):
            with _on_disk(disk.after_power_cut(chance, keep), tmp_path) as folder:
                found |= {fault.partition(":")[0] for fault in runs.faults(folder, promised)}
    assert found & {"lost", "unreadable", "wrong"}, "the simulation cannot fail, so it proves nothing"
    figure("P2", f"without {left_out} the same check finds rows and files {', '.join(sorted(found))}")


def test_what_a_killed_run_left_unsynced_is_durable_once_the_next_run_has_ended(tmp_path, scaled, figure):
    kills = 0
    for seed in range(scaled(10, 1)):
        runs = Runs(tmp_path / str(seed), seed)
        length = len(_recorded(runs))
        last_commit = range(length - 10, length)  # nobody comes after it whose sync would make its name durable too
        for at in {*random.Random(seed).sample(range(1, length), scaled(length - 1, 15)), *last_commit}:
            shutil.rmtree(runs.folder / "disk")
            with _recording(runs.folder) as recorder:
                recorder.dies_after = at
                with pytest.raises(Killed):
                    runs.run(runs.folder / "disk" / "store")
                recorder.dies_after = None
                runs.run(runs.folder / "disk" / "store")
            *_, (disk, promised) = _prefixes(recorder.log)
            with _on_disk(disk.after_power_cut(random.Random(at), 0.0), tmp_path) as folder:
                assert runs.faults(folder, promised, complete=True) == [], f"run {seed} killed after operation {at}"
            kills += 1
    figure("P2", f"{kills} runs killed, resumed to the end, then cut from power: 0 rows lost")


@contextmanager
def _recording(folder: Path, **options: object) -> Iterator[RecordingOs]:
    """Everything `files` does under `disk` is written down, and what its callers are promised."""
    (folder / "disk").mkdir(exist_ok=True)
    recorder = RecordingOs(folder / "disk", **options)  # type: ignore[arg-type]
    commit, replace = files.commit, files.replace

    def promising(write: Callable[[Path, bytes], object]) -> Callable[[Path, bytes], object]:
        def wrapped(path: Path, data: bytes) -> object:
            result = write(path, data)
            recorder.promise(path, data)
            return result

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        instead_of_os(patch, recorder)
        patch.setattr(files, "commit", promising(commit))
        patch.setattr(files, "replace", promising(replace))
        yield recorder


def _recorded(runs: Runs, **options: object) -> list[Entry]:
    with _recording(runs.folder, **options) as recorder:
        runs.run(runs.folder / "disk" / "store")
    return recorder.log


def _prefixes(log: list[Entry]) -> Iterator[tuple[Disk, list[Promised]]]:
    """The disk after every operation, and what was promised until then (of one file, the last)."""
    disk, promised = Disk(), dict[str, Promised]()
    for entry in log:
        disk.do(entry)
        if isinstance(entry, Promised):
            promised[entry.path] = entry
        yield disk, list(promised.values())


def _lost(folder: Path, promised: list[Promised]) -> Iterator[Promised]:
    """Promises that are not kept; a document may also have been replaced since, if what is there is whole."""
    for entry in promised:
        path = folder / entry.path
        if not path.exists() or (path.suffix == ".h5" and path.read_bytes() != entry.data):
            yield entry


@contextmanager
def _on_disk(tree: dict[str, bytes | None], tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "found"
    folder.mkdir()
    materialise(tree, folder)
    yield folder
    shutil.rmtree(folder)


def _rerun(folder: Path, runs: Runs) -> None:
    """The same commands again, on what the power cut left, must end as an unbroken run does."""
    with pytest.MonkeyPatch.context() as patch:
        instead_of_os(patch, RecordingOs(folder))  # its fsync is free
        runs.run(folder / "store")
    assert toy.names(folder / "store") == runs.names
    assert toy.rows(folder / "store").keys() == runs.expected.keys()
