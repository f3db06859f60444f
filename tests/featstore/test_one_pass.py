"""Several features in one pass, and what overlaps with what."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cer_fusion.featstore import FeatstoreError, Feature, Store, extract, verify
from cer_fusion.featstore.errors import CommitError, RowsError, TooManyErrors
from cer_fusion.featstore.extraction.reading import Decoder, Meter, Unusable
from cer_fusion.featstore.extraction.run import ExtractReport, bottleneck
from cer_fusion.featstore.extraction.writing import Committer
from tests.featstore import openers
from tests.featstore.conftest import ToyEmbedder
from tests.featstore.openers import OpeningEmbedder

ODD = {4: b"BAD", 7: b"the same face", 9: b"the same face", 20: b"the same face"}


def trio() -> list[ToyEmbedder]:
    """Two embedders that share what is opened, and one that only decodes."""
    return [OpeningEmbedder("a", 1), OpeningEmbedder("b", 2), ToyEmbedder("c")]


def names(store: Store) -> dict[str, list[str]]:
    return {feature.label: [path.name for path in feature.shard_paths()] for feature in store.features("d")}


@pytest.fixture
def apart(tmp_path, make_manifest):
    """A store that one run a feature filled."""
    store = Store.create(tmp_path / "apart")
    for embedder in trio():
        extract(embedder, make_manifest(23, contents=ODD), store, dataset="d", shard_rows=4, batch_size=3)
    return store


def test_one_pass_makes_what_a_run_for_each_makes(store, make_manifest, apart):
    manifest = make_manifest(23, contents=ODD)
    reports = extract(trio(), manifest, store, dataset="d", shard_rows=4, batch_size=3)
    assert names(store) == names(apart)
    assert [(r.embedded, r.shared, list(r.quarantined)) for r in reports] == [(20, 2, ["s0004"])] * 3
    assert not verify(store, images=True).problems


def test_reader_processes_make_what_threads_make_and_are_gone_afterwards(store, make_manifest, apart):
    manifest = make_manifest(23, contents=ODD)
    (manifest.root / "11.png").unlink()
    reports = extract(trio()[:2], manifest, store, dataset="d", shard_rows=4, reader_processes=2)
    assert not multiprocessing.active_children()
    assert [list(report.quarantined.items()) for report in reports] == [
        [("s0004", "not a picture"), ("s0011", "missing")]
    ] * 2
    same = names(store)
    assert all(len(set(same[label]) - set(names(apart)[label])) == 1 for label in same), "but for the missing picture"


def test_the_parts_of_one_pass_make_what_a_run_for_each_makes(store, make_manifest, apart):
    manifest = make_manifest(23, contents=ODD)
    for k in (1, 0):
        extract(trio(), manifest, store, dataset="d", shard_rows=4, part=(k, 2))
    assert names(store) == names(apart)


def test_a_picture_is_opened_once_for_all_that_open_alike(store, make_manifest):
    openers.opened.clear()
    embedders = [OpeningEmbedder("a", 1), OpeningEmbedder("b", 2)]
    extract(embedders, make_manifest(12), store, dataset="d")
    assert len(openers.opened) == 12
    others = [OpeningEmbedder("c", 1), OpeningEmbedder("d", 2, openers.open_otherwise)]
    extract(others, make_manifest(12), store, dataset="d")
    assert len(openers.opened) == 36


def test_only_what_a_feature_lacks_is_decoded_for_it(store, make_manifest):
    manifest = make_manifest(12)
    extract(OpeningEmbedder("a", 1), manifest.keep([i < 5 for i in range(12)]), store, dataset="d")
    a, b = OpeningEmbedder("a", 1), OpeningEmbedder("b", 2)
    reports = extract([a, b], manifest, store, dataset="d")
    assert [(r.already, r.embedded) for r in reports] == [(5, 7), (0, 12)]
    assert (len(a.embedded), len(b.embedded)) == (7, 12)


def test_a_picture_may_be_unusable_for_one_feature_and_not_for_another(store, make_manifest):
    reports = extract([OpeningEmbedder("a", 1), OpeningEmbedder("b", 3)], make_manifest(8), store, dataset="d")
    assert reports[0].quarantined == {}
    assert set(reports[1].quarantined.values()) == {"even pictures are too small"}
    assert len(reports[1].quarantined) == 4


def test_too_many_bad_pictures_for_one_feature_stop_the_pass_and_keep_what_is_done(store, make_manifest):
    manifest = make_manifest(40)
    with pytest.raises(TooManyErrors, match="even pictures are too small"):
        extract([OpeningEmbedder("a", 1), OpeningEmbedder("b", 3)], manifest, store, dataset="d", batch_size=2)
    assert len(store.view(["a"], dataset="d", missing="drop")) >= 10


def test_features_are_called_what_they_are_told(store, make_manifest):
    extract(trio(), make_manifest(), store, dataset="d", name=["one", None, "three"])
    assert sorted(feature.name for feature in store.features("d")) == ["b", "one", "three"]


@pytest.mark.parametrize("name", ["one", ["one"]])
def test_several_features_need_a_list_of_names(store, make_manifest, name):
    with pytest.raises(FeatstoreError, match="a list of one for each"):
        extract(trio(), make_manifest(), store, dataset="d", name=name)


def test_the_same_feature_twice_is_refused(store, make_manifest):
    with pytest.raises(FeatstoreError, match="one and the same feature, toy@"):
        extract([ToyEmbedder(), ToyEmbedder()], make_manifest(), store, dataset="d")


def test_no_embedder_at_all_is_refused(store, make_manifest):
    with pytest.raises(FeatstoreError, match="at least one embedder"):
        extract([], make_manifest(), store, dataset="d")


class Narrow(ToyEmbedder):
    """An embedder on a device that holds a few pictures at once."""

    auto_batch = 16
    holds = 3

    def embed(self, pictures):
        if len(pictures) > self.holds:
            raise MemoryError(f"{len(pictures)} pictures at once do not fit")
        return super().embed(pictures)


def test_an_automatic_batch_size_halves_until_the_pictures_fit_and_says_so(store, make_manifest, caplog):
    embedder = Narrow()
    extract(embedder, make_manifest(23), store, dataset="d", batch_size="auto")
    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == ["8", "4", "2"]
    other = Store.create(store.path.parent / "other")
    extract(ToyEmbedder(), make_manifest(23), other, dataset="d")
    assert names(store) == names(other)


def test_a_stated_batch_size_never_shrinks(store, make_manifest):
    with pytest.raises(MemoryError, match="8 pictures at once do not fit"):
        extract(Narrow(), make_manifest(23), store, dataset="d", batch_size=8)


def test_a_device_that_holds_not_one_picture_is_an_error(store, make_manifest):
    embedder = Narrow()
    embedder.holds = 0
    with pytest.raises(MemoryError, match="1 pictures at once do not fit"):
        extract(embedder, make_manifest(5), store, dataset="d", batch_size="auto")


@pytest.mark.parametrize("size", [0, -1, "large", 2.5])
def test_other_batch_sizes_are_refused(store, make_manifest, size):
    with pytest.raises(FeatstoreError, match="at least 1, or 'auto'"):
        extract(ToyEmbedder(), make_manifest(), store, dataset="d", batch_size=size)


def test_a_shard_is_written_while_pictures_of_the_next_are_read_and_the_model_waits_for_it(
    store, make_manifest, monkeypatch
):
    commit, committed = Feature.commit, []
    next_read = threading.Event()

    class Watched(ToyEmbedder):
        def decode(self, data):
            if data == b"picture 0005":
                next_read.set()
            return super().decode(data)

        def embed(self, pictures):
            assert len(committed) == len(self.embedded) // 4, "a kill now would lose two shards"
            return super().embed(pictures)

    def slow(self, rows, **place):
        assert threading.current_thread() is not threading.main_thread()
        assert next_read.wait(timeout=60), "no picture of the second shard was read meanwhile"
        path = commit(self, rows, **place)
        committed.append(place["index"])
        return path

    monkeypatch.setattr(Feature, "commit", slow)
    extract(Watched(), make_manifest(16), store, dataset="d", shard_rows=4, batch_size=4)
    assert committed == [0, 1, 2, 3]


def test_a_failed_commit_is_told_before_the_next_shard_is_done(store, make_manifest, monkeypatch):
    embedder = ToyEmbedder()
    failed = threading.Event()

    def refuse(self, rows, **place):
        failed.set()
        raise CommitError("the disk is full")

    monkeypatch.setattr(Feature, "commit", refuse)

    def spoil(rows):
        if len(embedder.embedded) > 4:
            assert failed.wait(timeout=60)
        return rows

    embedder.spoil = spoil
    with pytest.raises(CommitError, match="the disk is full"):
        extract(embedder, make_manifest(40), store, dataset="d", shard_rows=4, batch_size=2)
    assert len(embedder.embedded) <= 8


@pytest.mark.filterwarnings("ignore:unclosed scandir iterator:ResourceWarning")  # it may hit pathlib's glob anywhere
def test_an_interrupt_waits_for_the_shard_that_is_being_written(store, make_manifest, monkeypatch):
    commit = Feature.commit
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def slow(self, rows, **place):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.2)
        return commit(self, rows, **place)

    monkeypatch.setattr(Feature, "commit", slow)
    try:
        with pytest.raises(KeyboardInterrupt):
            extract(ToyEmbedder(), make_manifest(16), store, dataset="d", shard_rows=4, batch_size=4)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(store.view(["toy"], missing="drop")) == 4


class Refused:
    """Stands for a shard that the disk refuses."""

    def write(self):
        raise CommitError("the disk is full")


def test_what_failed_in_the_background_is_not_lost_behind_another_error(caplog):
    def run():
        with Committer() as committer:
            committer.submit([Refused()])
            raise RowsError("wrong rows")

    with pytest.raises(RowsError):
        run()
    assert "could not be committed: the disk is full" in caplog.text


def test_a_committer_raises_at_its_end_what_nobody_asked_for():
    with pytest.raises(CommitError), Committer() as committer:
        committer.submit([Refused()])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"CRASH", "a reader process ended with status 7 while it read 5.png"),
        (b"FAULT", "a reader process failed at 5.png: TypeError: a fault of ours"),
    ],
)
def test_a_reader_process_that_ends_or_fails_is_told_by_its_picture(store, make_manifest, data, message):
    manifest = make_manifest(12, contents={5: data})
    with pytest.raises(FeatstoreError, match=message):
        extract(OpeningEmbedder(), manifest, store, dataset="d", reader_processes=1)
    assert not multiprocessing.active_children()


def test_an_embedder_that_cannot_be_sent_to_a_process_is_refused(store, make_manifest):
    embedder = OpeningEmbedder()
    embedder.prepare = lambda picture: np.zeros(16, np.uint8)
    with pytest.raises(FeatstoreError, match="cannot be sent to a reader process"):
        extract(embedder, make_manifest(), store, dataset="d", reader_processes=1)
    assert not multiprocessing.active_children()


SCRIPT = """
import signal
import time
from pathlib import Path
from typing import Any
from cer_fusion.featstore import Manifest, Store, extract
from tests.featstore.openers import OpeningEmbedder

def slow(rows):
    print("embedding", flush=True)
    time.sleep(0.2)
    return rows

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    embedder = OpeningEmbedder()
    embedder.spoil = slow
    extract(embedder, Manifest.read("m.csv"), Store.create("store"), dataset="d", batch_size=1, reader_processes=2)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)])
def test_reader_processes_end_with_the_run_however_it_ends(tmp_path, make_manifest, number, status):
    make_manifest(200).write(tmp_path / "m.csv")
    (tmp_path / "script.py").write_text(SCRIPT)
    run = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, start_new_session=True,
    )  # fmt: skip
    assert run.stdout is not None
    assert run.stdout.readline() == "embedding\n"
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as Ctrl-C in a terminal: to all of them at once
    else:
        run.send_signal(number)
    _, said = run.communicate(timeout=60)  # returns when the last of the processes has closed its output
    assert run.returncode == status
    assert "reader process" not in said
    assert said.count("Traceback") == (number == signal.SIGINT)


def test_a_decoder_tells_each_embedder_what_it_gets():
    decoder = Decoder([OpeningEmbedder("a", 1), OpeningEmbedder("b", 3), ToyEmbedder("c")])
    found = decoder(b"picture 2", [0, 1])
    assert isinstance(found[0], np.ndarray)
    assert found[1] == Unusable("even pictures are too small")
    assert decoder(b"BAD", [0, 1, 2]) == dict.fromkeys([0, 1, 2], Unusable("not a picture"))


def test_a_meter_may_be_watched_and_the_report_holds_what_it_says(store, make_manifest):
    meter, seen = Meter(), []
    report = extract(
        ToyEmbedder(), make_manifest(12), store, dataset="d", batch_size=4, meter=meter,
        progress=lambda *_: seen.append(meter.busy),
    )  # fmt: skip
    assert report.compute_s == meter.compute_s > 0
    assert report.waited_s == meter.waited_s > 0
    assert report.compute_s + report.waited_s <= report.elapsed_s
    assert all(0 <= share <= 1 for share in seen)


def report(**times: float) -> ExtractReport:
    return ExtractReport(feature="f", samples=1, already=0, by_others=0, embedded=1, shared=0, **times)


def test_the_bottleneck_is_named_over_all_features_of_a_pass():
    a, b = report(elapsed_s=10, compute_s=4, waited_s=3), report(elapsed_s=10, compute_s=2, waited_s=3)
    assert bottleneck([a, b]) == "the model (60% of the time)"
    assert bottleneck([b]) == "reading pictures (30% of the time)"
    assert bottleneck([report(elapsed_s=1.0)]) == ""


def test_merged_reports_keep_the_times_of_the_longest():
    merged = ExtractReport.merged(
        [report(elapsed_s=10, compute_s=4, waited_s=3), report(elapsed_s=12, compute_s=2, waited_s=9)]
    )
    assert (merged.embedded, merged.elapsed_s, merged.compute_s, merged.waited_s) == (2, 12, 2, 9)


class Seen(str):
    """An opened picture of which something is to be told."""

    @property
    def remark(self) -> str:
        return "it is odd" if self.encode()[-1:] in b"13579" else ""


def open_seen(data: bytes) -> Seen:
    return Seen(data.decode())


def prepare_seen(picture: Seen) -> np.ndarray:
    return openers.prepare(1, picture.encode())


class RemarkingEmbedder(ToyEmbedder):
    """Remarks on every picture whose name is odd."""

    open, prepare = staticmethod(open_seen), staticmethod(prepare_seen)


@pytest.mark.parametrize("processes", [0, 1])
def test_what_an_embedder_remarks_of_a_picture_is_told_of_every_sample_that_shows_it(store, make_manifest, processes):
    contents = {i: f"a face, {i}".encode() for i in range(9)} | {7: b"a face, 3"}
    manifest = make_manifest(9, contents=contents)
    report = extract(RemarkingEmbedder(), manifest, store, dataset="d", shard_rows=4, reader_processes=processes)
    assert report.remarks == dict.fromkeys(("s0001", "s0003", "s0005", "s0007"), "it is odd")
    assert report.embedded + report.shared == 9
    assert extract(RemarkingEmbedder(), manifest, store, dataset="d", shard_rows=4).remarks == {}
    assert ExtractReport.merged([report, replace(report, remarks={"x": "y"})]).remarks == {**report.remarks, "x": "y"}


class OnADevice(ToyEmbedder):
    """An embedder whose device is at a batch until its rows are asked for, or until it is told to be ready."""

    ahead, auto_batch = 1, 8
    late: Exception | None = None

    def __init__(self, name: str = "toy") -> None:
        super().__init__(name)
        self.log: list[str] = []
        self.is_ready = False

    def start(self, pictures):
        number = sum(entry.startswith("start") for entry in self.log)
        self.log.append(f"start {number}")
        fails = self.late if len(pictures) > 2 else None

        def rows():
            if fails is not None:
                raise fails
            self.log.append(f"rows {number}")
            return ToyEmbedder.embed(self, pictures)

        return Begun(lambda: self.is_ready, rows)


@dataclass
class Begun:
    ready: Callable[[], bool]
    rows: Callable[[], Any]


@pytest.mark.parametrize("is_ready", [False, True])
def test_a_device_begins_a_batch_while_it_is_at_the_one_before_and_the_rows_are_the_same(
    is_ready, tmp_path, store, make_manifest
):
    embedder, manifest = OnADevice(), make_manifest(23, contents=ODD)
    embedder.is_ready = is_ready
    report = extract(embedder, manifest, store, dataset="d", shard_rows=10, batch_size=4)
    other = Store.create(tmp_path / "other")
    extract(ToyEmbedder(), manifest, other, dataset="d", shard_rows=10, batch_size=4)
    assert names(store) == names(other)
    assert report.embedded == 20
    assert embedder.log[:4] == (
        ["start 0", "rows 0", "start 1", "rows 1"] if is_ready else ["start 0", "start 1", "rows 0", "rows 1"]
    )
    starts = [int(entry[6:]) for entry in embedder.log if entry.startswith("start")]
    assert [int(entry[5:]) for entry in embedder.log if entry.startswith("rows")] == starts


def test_memory_that_is_short_only_when_the_rows_are_asked_for_halves_the_batch_too(store, make_manifest, tmp_path):
    embedder = OnADevice()
    embedder.late = MemoryError("8 pictures at once do not fit")
    extract(embedder, make_manifest(23), store, dataset="d", batch_size="auto")
    other = Store.create(tmp_path / "other")
    extract(ToyEmbedder(), make_manifest(23), other, dataset="d")
    assert names(store) == names(other)
    with pytest.raises(MemoryError, match="8 pictures"):
        extract(embedder, make_manifest(23), Store.create(tmp_path / "third"), dataset="d", batch_size=8)


def test_the_time_of_batches_that_overlap_counts_once(store, make_manifest, monkeypatch):
    class Slow(OnADevice):
        def start(self, pictures):
            begun = super().start(pictures)
            return Begun(begun.ready, lambda: (time.sleep(0.02), begun.rows())[1])

    meter = Meter()
    report = extract(Slow(), make_manifest(23), store, dataset="d", batch_size=4, meter=meter)
    assert 0 < report.compute_s == pytest.approx(meter.compute_s)
    assert meter.compute_s <= meter.elapsed_s


def test_readers_go_on_to_the_next_shard_while_one_ends_and_read_each_picture_once(store, make_manifest, tmp_path):
    seen, held = [], threading.Event()

    class Held(ToyEmbedder):
        def decode(self, data):
            seen.append(bytes(data))
            if len(set(seen)) >= 7:
                held.set()
            return super().decode(data)

        def embed(self, pictures):
            assert held.wait(20), "the second shard is not read beside the first"
            return super().embed(pictures)

    report = extract(Held(), make_manifest(16, contents=ODD), store, dataset="d", shard_rows=4, batch_size=4)
    assert report.embedded == 14
    assert sorted(seen) == sorted(path.read_bytes() for path in (tmp_path / "pictures").iterdir())
