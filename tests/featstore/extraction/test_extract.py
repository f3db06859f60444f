from __future__ import annotations

import dataclasses
import errno
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore import Manifest, Sample, Store, class_set, extract
from cer_fusion.featstore.errors import (
    CommitError,
    FeatstoreError,
    IncompleteError,
    ManifestError,
    RowsError,
    TooManyErrors,
)
from cer_fusion.featstore.extraction.plan import deal
from cer_fusion.featstore.extraction.run import ExtractReport
from cer_fusion.featstore.pictures.pictures import PictureSource
from cer_fusion.featstore.rows.shard import Rows
from tests.featstore.conftest import ToyEmbedder


def names(store, dataset="d"):
    return [p.name for f in store.features(dataset) for p in f.shard_paths()]


def test_every_sample_gets_the_row_of_its_own_picture(store, make_manifest, embedder):
    manifest = make_manifest(25)
    report = extract(embedder, manifest, store, dataset="d", batch_size=4, shard_rows=10)
    assert (report.samples, report.already, report.embedded, report.quarantined) == (25, 0, 25, {})
    view = store.view(["toy"])
    assert view.ids == manifest.ids
    for i, sample in enumerate(manifest.samples):
        data = (manifest.root / sample.path).read_bytes()
        np.testing.assert_array_equal(view.join()[i], np.frombuffer(data[:7], np.uint8).astype(np.float32) / 7)


def test_a_second_run_embeds_nothing(store, make_manifest, embedder):
    manifest = make_manifest()
    extract(embedder, manifest, store, dataset="d")
    before = names(store)
    again = ToyEmbedder()
    report = extract(again, manifest, store, dataset="d")
    assert (report.already, report.embedded, again.embedded) == (12, 0, [])
    assert names(store) == before


def test_when_a_manifest_grows_only_the_new_samples_are_embedded(store, make_manifest, embedder):
    manifest = make_manifest(20)
    extract(embedder, manifest.keep([i < 13 for i in range(20)]), store, dataset="d", shard_rows=5)
    again = ToyEmbedder()
    report = extract(again, manifest, store, dataset="d", shard_rows=5)
    assert (report.already, report.embedded) == (13, 7)
    assert store.view(["toy"]).ids == manifest.ids


def test_a_changed_label_or_split_costs_nothing(store, make_manifest, embedder):
    manifest = make_manifest()
    extract(embedder, manifest, store, dataset="d")
    relabelled = dataclasses.replace(manifest, samples=tuple(s._replace(label="Sadly Angry") for s in manifest.samples))
    assert extract(ToyEmbedder(), relabelled, store, dataset="d").embedded == 0
    assert set(store.view(["toy"]).y) == {6}


def test_a_picture_whose_bytes_changed_is_embedded_again(store, make_manifest, embedder):
    manifest = make_manifest()
    extract(embedder, manifest, store, dataset="d")
    (manifest.root / "3.png").write_bytes(b"another picture")
    assert extract(ToyEmbedder(), manifest, store, dataset="d").embedded == 1
    np.testing.assert_array_equal(
        store.view(["toy"]).join()[3], np.frombuffer(b"another", np.uint8).astype(np.float32) / 7
    )


def test_identical_pictures_are_computed_once(store, make_manifest, embedder):
    manifest = make_manifest(12, contents={3: b"same face here", 8: b"same face here", 11: b"same face here"})
    report = extract(embedder, manifest, store, dataset="d", shard_rows=5)
    assert (report.embedded, report.shared, report.repeated_across_splits) == (10, 2, 1)
    rows = store.view(["toy"]).join()
    np.testing.assert_array_equal(rows[3], rows[8])
    np.testing.assert_array_equal(rows[3], rows[11])


def test_a_row_is_taken_over_from_an_earlier_run_too(store, make_manifest, embedder):
    manifest = make_manifest(12, contents={3: b"same face here", 11: b"same face here"})
    extract(embedder, manifest.keep([i < 6 for i in range(12)]), store, dataset="d")
    report = extract(ToyEmbedder(), manifest, store, dataset="d")
    assert (report.embedded, report.shared) == (5, 1)


BAD = {2: b"BAD bytes", 5: b""}


def test_bad_pictures_go_to_quarantine_and_the_good_rows_are_those_of_a_clean_run(store, make_manifest, embedder):
    manifest = make_manifest(12, contents=BAD)
    (manifest.root / "7.png").unlink()
    report = extract(embedder, manifest, store, dataset="d")
    assert report.quarantined == {"s0002": "not a picture", "s0007": "missing"}
    listed = (store.features("d")[0].folder / "quarantine.csv").read_text()
    assert "s0002" in listed
    assert "missing" in listed
    assert len(store.view(["toy"], missing="drop")) == 10


def test_quarantined_pictures_are_tried_again_only_when_they_change(store, make_manifest, embedder):
    manifest = make_manifest(12, contents={2: b"BAD bytes"})
    extract(embedder, manifest, store, dataset="d")
    report = extract(ToyEmbedder(), manifest, store, dataset="d")
    assert (report.already, report.quarantined) == (12, {"s0002": "not a picture"})
    (manifest.root / "2.png").write_bytes(b"mended picture")
    report = extract(ToyEmbedder(), manifest, store, dataset="d")
    assert (report.embedded, report.quarantined) == (1, {})
    assert len(store.view(["toy"])) == 12


def test_a_picture_that_turns_bad_loses_its_row(store, make_manifest, embedder):
    manifest = make_manifest()
    extract(embedder, manifest, store, dataset="d")
    (manifest.root / "4.png").write_bytes(b"BAD now")
    extract(ToyEmbedder(), manifest, store, dataset="d")
    assert "s0004" not in store.view(["toy"], missing="drop").ids


def test_a_row_outlives_its_picture_and_is_not_called_quarantined(store, make_manifest, embedder):
    manifest = make_manifest(30)
    extract(embedder, manifest, store, dataset="d")
    for i in range(20):
        (manifest.root / f"{i}.png").unlink()
    report = extract(ToyEmbedder(), manifest, store, dataset="d")
    assert (report.already, report.embedded, report.quarantined) == (30, 0, {})
    assert len(store.view(["toy"])) == 30


def test_too_many_bad_pictures_stop_the_run_but_keep_what_was_done(store, make_manifest, embedder):
    manifest = make_manifest(40, contents={i: b"BAD%d" % i for i in range(20, 36)})
    with pytest.raises(TooManyErrors, match=r"11 of 40 pictures cannot be used, more than the 10 allowed"):
        extract(embedder, manifest, store, dataset="d", batch_size=4, shard_rows=10)
    assert len(store.view(["toy"], missing="drop")) >= 20
    report = extract(ToyEmbedder(), manifest, store, dataset="d", max_errors=0.5)
    assert len(report.quarantined) == 16


def test_no_bad_picture_at_all_is_a_choice(store, make_manifest, embedder):
    with pytest.raises(TooManyErrors, match="more than the 0 allowed"):
        extract(embedder, make_manifest(12, contents={2: b"BAD"}), store, dataset="d", max_errors=0)


def test_a_wrong_root_changes_nothing(store, make_manifest, embedder, tmp_path):
    manifest = make_manifest()
    extract(embedder, manifest, store, dataset="d")
    lost = dataclasses.replace(manifest, root=tmp_path / "nowhere")
    with pytest.raises(ManifestError, match=r"none of the 12 pictures(.|\n)*--root"):
        extract(embedder, lost, store, dataset="d")
    assert store.manifest("d").root == manifest.root


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_embeddings_are_refused_with_the_samples_id(store, make_manifest, embedder, value):
    def spoil(rows):
        rows[0, 5] = value
        return rows

    embedder.spoil = spoil
    with pytest.raises(RowsError, match=r"'right' of toy@\w+ is NaN or Inf for 1 of 4 samples: s0000"):
        extract(embedder, make_manifest(), store, dataset="d", batch_size=4)
    assert names(store) == []


def test_float16_overflow_is_refused(store, make_manifest, embedder):
    embedder.spoil = lambda rows: rows * 1e6
    with pytest.raises(RowsError, match="float16 ends at 65504"):
        extract(embedder, make_manifest(), store, dataset="d", dtype="float16")


def test_wrong_widths_from_an_embedder_are_refused(store, make_manifest, embedder):
    embedder.spoil = lambda rows: rows[:, :6]
    with pytest.raises(RowsError, match=r"must have shape \(12, 3\) for 12 ids, however: shape=\(12, 2\)"):
        extract(embedder, make_manifest(), store, dataset="d")


def test_an_interrupted_run_keeps_finished_rows_and_the_next_run_completes(store, make_manifest, embedder):
    count = 0

    def interrupt(rows):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return rows

    embedder.spoil = interrupt
    manifest = make_manifest(20)
    with pytest.raises(KeyboardInterrupt):
        extract(embedder, manifest, store, dataset="d", batch_size=4)
    report = extract(ToyEmbedder(), manifest, store, dataset="d", batch_size=4)
    assert (report.already, report.embedded) == (8, 12)
    assert store.view(["toy"]).ids == manifest.ids


def test_a_full_disk_loses_nothing_written_before(store, make_manifest, embedder, monkeypatch):
    from cer_fusion.featstore.rows import files

    manifest = make_manifest(20)
    commit, calls = files.commit, []

    def full(path, data):
        calls.append(path)
        if len(calls) == 3:
            raise CommitError("could not write")
        return commit(path, data)

    monkeypatch.setattr(files, "commit", full)
    with pytest.raises(CommitError):
        extract(embedder, manifest, store, dataset="d", shard_rows=5)
    monkeypatch.undo()
    assert len(store.view(["toy"], missing="drop")) == 10
    assert extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=5).embedded == 10


def test_the_same_work_gives_the_same_shard_names(store, make_manifest, embedder, tmp_path):
    from cer_fusion.featstore import Store

    manifest = make_manifest(20)
    extract(embedder, manifest, store, dataset="d", shard_rows=6, batch_size=5)
    other = Store.create(tmp_path / "other")
    extract(ToyEmbedder(), manifest, other, dataset="d", shard_rows=6, batch_size=3)
    assert names(store) == names(other)


def test_writers_side_by_side_commit_each_shard_once(store, make_manifest):
    manifest = make_manifest(60)
    threads = [
        threading.Thread(
            target=extract, args=(ToyEmbedder(), manifest, store), kwargs={"dataset": "d", "shard_rows": 7}
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(store)) == len(list(deal(60, 7)))
    assert len(store.view(["toy"])) == 60


def test_other_options_make_another_feature(store, make_manifest):
    manifest = make_manifest()
    extract(ToyEmbedder(tap="a"), manifest, store, dataset="d")
    extract(ToyEmbedder(tap="b"), manifest, store, dataset="d")
    extract(ToyEmbedder(tap="b"), manifest, store, dataset="d", dtype="float16")
    assert len({f.spec.fingerprint for f in store.features("d")}) == 3


def test_impossible_settings_are_refused(store, make_manifest, embedder):
    with pytest.raises(FeatstoreError, match="at least 1"):
        extract(embedder, make_manifest(), store, dataset="d", batch_size=0)
    with pytest.raises(FeatstoreError, match="between 0 and 1"):
        extract(embedder, make_manifest(), store, dataset="d", max_errors=3)
    with pytest.raises(FeatstoreError, match="dataset name"):
        extract(embedder, make_manifest(), store, dataset="../up")
    empty = make_manifest().keep([False] * 12)
    assert isinstance(empty, Manifest)
    with pytest.raises(ManifestError, match="nothing to embed"):
        extract(embedder, empty, store, dataset="d")


def test_progress_ends_at_the_total(store, make_manifest, embedder):
    seen = []
    extract(
        embedder,
        make_manifest(12, contents={2: b"BAD", 3: b"same same", 4: b"same same"}),
        store,
        dataset="d",
        batch_size=4,
        progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    assert ("hash", 12, 12) in seen
    assert seen[-1] == ("embed", 12, 12)


@pytest.fixture
def reading(monkeypatch):
    """Make the n-th read of a picture give something else: an error to raise, or a function of its bytes."""
    read, faults, counts = PictureSource.read, {}, {}

    def disturbed(self, path):
        counts[path] = counts.get(path, 0) + 1
        fault = faults.get((path, counts[path]))
        if isinstance(fault, BaseException):
            raise fault
        data = read(self, path)
        return fault(data) if fault is not None else data

    monkeypatch.setattr(PictureSource, "read", disturbed)

    def on(path, nth, fault):
        faults[(path, counts.get(path, 0) + nth)] = fault

    return on


@pytest.fixture
def looked_at(store, monkeypatch):
    """Have another feature made of a manifest: its pictures' digests are known, and are compared when one is read."""
    monkeypatch.setattr("cer_fusion.featstore.pictures.seen.RACY_S", -1.0)

    def look(manifest):
        extract(ToyEmbedder("other"), manifest, store, dataset="d")

    return look


BOTH = pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
CODES = [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES, errno.ENOENT, errno.ENOMEM, errno.EISDIR]


@BOTH
@pytest.mark.parametrize("code", CODES, ids=lambda code: errno.errorcode[code])
def test_a_passing_read_error_is_tried_again_by_the_next_run(store, make_manifest, reading, looked_at, code, known):
    manifest = make_manifest(12)
    if known:
        looked_at(manifest)
    reading("3.png", 1, OSError(code, os.strerror(code), "3.png"))
    report = extract(ToyEmbedder(), manifest, store, dataset="d")
    assert (list(report.quarantined), report.unread, report.embedded) == (["s0003"], ["s0003"], 11)
    assert store.feature("toy").index().quarantined["s0003"][0] == "", "no digest: its bytes were not had"
    with pytest.raises(IncompleteError, match="1 of these could not be read then: the same cer-feat extract tries"):
        store.view(["toy"])
    report = extract(ToyEmbedder(), manifest, store, dataset="d")
    assert (report.quarantined, report.unread, report.embedded) == ({}, [], 1)
    assert len(store.view(["toy"])) == 12


@BOTH
@pytest.mark.parametrize(
    "fault",
    [
        lambda data: data[:5],
        lambda data: b"",
        lambda data: b"BAD" + data,
        MemoryError(),
        OSError("cannot be read: CRC"),
    ],
    ids=["short", "empty", "changed", "memory", "archive"],
)
def test_what_is_not_the_whole_picture_is_neither_embedded_nor_kept_in_quarantine(
    store, make_manifest, reading, looked_at, fault, known
):
    manifest = make_manifest(12)
    if known:
        looked_at(manifest)
    reading("3.png", 1, fault)
    first = ToyEmbedder()
    assert extract(first, manifest, store, dataset="d").unread == ["s0003"]
    assert len(first.embedded) == 11
    assert extract(ToyEmbedder(), manifest, store, dataset="d").embedded == 1
    assert len(store.view(["toy"])) == 12


def test_reader_processes_tell_a_read_error_apart_from_no_picture(store, make_manifest, looked_at):
    """Their reads cannot be disturbed from here, but a picture can change between the look at it and its reading."""
    from tests.featstore.openers import OpeningEmbedder

    manifest = make_manifest(4, contents={1: b"BAD"})
    looked_at(manifest)

    def change(stage, done, total):
        if stage == "hash" and done == total:
            (manifest.root / "2.png").write_bytes(b"changed")

    report = extract(OpeningEmbedder(), manifest, store, dataset="d", reader_processes=1, progress=change)
    assert report.quarantined == {"s0001": "not a picture", "s0002": "its bytes changed while it was read"}
    assert report.unread == ["s0002"]


def test_memory_that_does_not_suffice_for_one_picture_is_tried_again(store, make_manifest):
    class Short(ToyEmbedder):
        def decode(self, data):
            if data == b"picture 0003":
                raise MemoryError
            return super().decode(data)

    report = extract(Short(), make_manifest(6), store, dataset="d")
    assert (report.quarantined, report.unread) == ({"s0003": "memory did not suffice"}, ["s0003"])
    assert extract(ToyEmbedder(), make_manifest(6), store, dataset="d").embedded == 1


def test_a_decoders_own_error_stays_and_the_systems_passes(store, make_manifest):
    class Odd(ToyEmbedder):
        def decode(self, data):
            if data == b"picture 0003":
                raise OSError("image file is truncated")
            if data == b"picture 0004":
                raise OSError(errno.ENOSPC, "No space left on device", "/tmp/decoded")
            return super().decode(data)

    report = extract(Odd(), make_manifest(6), store, dataset="d")
    assert (sorted(report.quarantined), report.unread) == (["s0003", "s0004"], ["s0004"])
    assert sorted(extract(ToyEmbedder(), make_manifest(6), store, dataset="d").quarantined) == ["s0003"]


def test_a_picture_that_is_none_stays_in_quarantine_until_all_are_tried_again(store, make_manifest):
    class Older(ToyEmbedder):
        def decode(self, data):
            if data.startswith(b"NEW"):
                raise ValueError("a kind of picture that this decoder does not know")
            return super().decode(data)

    manifest = make_manifest(12, contents={2: b"NEW kind", 5: b"BAD"})
    assert len(extract(Older(), manifest, store, dataset="d").quarantined) == 2
    assert extract(ToyEmbedder(), manifest, store, dataset="d").already == 12
    report = extract(ToyEmbedder(), manifest, store, dataset="d", retry_quarantined=True)
    assert (report.already, report.embedded, report.quarantined) == (10, 1, {"s0005": "not a picture"})
    assert set(store.feature("toy").index().quarantined) == {"s0005"}


@pytest.mark.parametrize(
    "reason",
    [
        "[Errno 5] Input/output error: '/data/3.png'",
        "missing",
        "permission denied",
        "a.zip/3.png cannot be read: Bad CRC",
    ],
)
def test_a_read_error_that_an_older_release_quarantined_with_its_digest_is_tried_again(
    store, make_manifest, monkeypatch, reason
):
    import hashlib

    from cer_fusion.featstore.extraction.plan import make_features

    manifest = make_manifest(4)
    (feature,) = make_features([ToyEmbedder()], [None], store, "d", "float32")
    digest = hashlib.sha256(b"picture 0003").hexdigest()
    empty = {name: np.empty((0, width), np.float32) for name, width in feature.spec.blocks.items()}
    feature.commit(
        Rows(ids=[], image_digests=[], blocks=empty, quarantined=[("s0003", digest, reason)]), index=0, generation=0
    )
    assert extract(ToyEmbedder(), manifest, store, dataset="d").embedded == 4
    assert len(store.view(["toy"])) == 4


def test_a_row_stays_when_its_changed_picture_cannot_be_read_just_now(store, make_manifest, reading):
    manifest = make_manifest(4)
    extract(ToyEmbedder(), manifest, store, dataset="d")
    before = store.view(["toy"]).join()
    reading("3.png", 1, lambda data: data[:4])  # while it is hashed
    report = extract(ToyEmbedder(), manifest, store, dataset="d")
    assert (report.already, report.quarantined, report.unread) == (4, {}, [])
    (manifest.root / "3.png").write_bytes(b"another picture")
    reading("3.png", 2, lambda data: data[:4])  # while it is read to be decoded
    report = extract(ToyEmbedder(), manifest, store, dataset="d")
    assert (report.quarantined, report.unread) == ({"s0003": "its bytes changed while it was read"}, ["s0003"])
    np.testing.assert_array_equal(store.view(["toy"]).join(), before)
    report = extract(ToyEmbedder(), manifest, store, dataset="d")
    assert (report.already, report.embedded) == (3, 1)


@BOTH
def test_a_row_that_another_run_made_meanwhile_outlives_our_read_error(store, make_manifest, reading, looked_at, known):
    manifest = make_manifest(4)
    if known:
        looked_at(manifest)
    reading("3.png", 1, OSError(errno.EACCES, "Permission denied"))
    met = []

    class Slow(ToyEmbedder):
        def embed(self, pictures):
            if not met:
                met.append(extract(ToyEmbedder(), manifest, Store(store.path), dataset="d"))
            return super().embed(pictures)

    report = extract(Slow(), manifest, store, dataset="d")
    assert (met[0].embedded, report.quarantined, report.unread) == (4, {}, [])
    assert len(store.view(["toy"])) == 4


@BOTH
def test_a_repeated_picture_whose_first_could_not_be_read_is_tried_again(
    store, make_manifest, reading, looked_at, known
):
    manifest = make_manifest(6, contents={1: b"same face", 4: b"same face"})
    if known:
        looked_at(manifest)
    reading("1.png", 1, OSError(errno.EIO, "Input/output error"))
    unread = ["s0001", "s0004"] if known else ["s0001"]  # a new one's bytes are read to know whose they are
    assert extract(ToyEmbedder(), manifest, store, dataset="d").unread == unread
    report = extract(ToyEmbedder(), manifest, store, dataset="d")
    assert (report.embedded, report.shared, report.quarantined) == (len(unread) - 1, 1, {})


def test_pictures_that_cannot_be_read_count_as_errors_too(store, make_manifest, reading):
    manifest = make_manifest(30)
    for i in range(15):
        reading(f"{i}.png", 1, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(TooManyErrors, match=r"11 of 30 pictures cannot be used(.|\n)*11 of them could not be read"):
        extract(ToyEmbedder(), manifest, store, dataset="d")
    assert extract(ToyEmbedder(), manifest, store, dataset="d").quarantined == {}


def test_the_reason_that_is_told_is_the_present_one(store, make_manifest):
    manifest = make_manifest(12)
    (manifest.root / "3.png").unlink()
    assert extract(ToyEmbedder(), manifest, store, dataset="d").quarantined == {"s0003": "missing"}
    (manifest.root / "3.png").mkdir()
    report = extract(ToyEmbedder(), manifest, store, dataset="d")
    assert (report.quarantined, report.unread) == ({"s0003": "is a folder"}, ["s0003"])


def test_a_stale_archive_is_opened_anew_for_the_next_picture(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as file:
        file.writestr("a.png", b"a picture")
    source, read, failing = PictureSource(tmp_path), zipfile.ZipFile.read, []

    def stale(self, *args):
        if not failing:
            failing.append(self)
        if self is failing[0]:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return read(self, *args)

    monkeypatch.setattr(zipfile.ZipFile, "read", stale)
    with pytest.raises(OSError, match=r"[Ss]tale"):
        source.read("faces.zip/a.png")
    assert source.read("faces.zip/a.png") == b"a picture"


def test_the_reports_of_several_runs_are_one_with_all_that_was_not_read():
    def part(*unread):
        return ExtractReport(
            feature="toy@0", samples=2, already=0, by_others=0, embedded=1, shared=0,
            quarantined=dict.fromkeys(unread, "missing"), unread=list(unread),
        )  # fmt: skip

    assert ExtractReport.merged([part("b"), part("a"), part()]).unread == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"embedder": "vit"}, r"create\('vit'\)"),
        ({"embedder": ["vit"]}, r"what embeds pictures, however: str 'vit'"),
        ({"embedder": ToyEmbedder}, "what embeds pictures, however: type"),
        ({"manifest": "faces.csv"}, r"Manifest\.read"),
        ({"manifest": Path("faces.csv")}, r"manifest must be a Manifest, however: \w*Path .*faces"),
        ({"store": "features"}, r"Store\.create"),
    ],
)
def test_paths_and_names_where_objects_are_meant_are_told_what_makes_the_objects(
    store, embedder, make_manifest, change, told
):
    given = {"embedder": embedder, "manifest": make_manifest(3), "store": store, "dataset": "d"}
    with pytest.raises(FeatstoreError, match=told):
        extract(**given | change)


@pytest.mark.parametrize("progress", ["auto", None])
@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_drawn_where_somebody_looks(
    store, embedder, make_manifest, monkeypatch, capsys, terminal, progress
):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    extract(embedder, make_manifest(5), store, dataset="d", progress=progress)
    drawn = capsys.readouterr()
    assert drawn.out == ""
    assert ("embed: 100%" in drawn.err and "5/5" in drawn.err) == (terminal and progress == "auto")
    assert bool(drawn.err) == (terminal and progress == "auto")


def test_a_part_counts_the_unusable_pictures_that_it_read_in_two_splits(tmp_path, store, embedder):
    contents = [b"a", b"b", b"BAD", b"BAD", b"c"]
    for i, data in enumerate(contents):
        (tmp_path / f"{i}.png").write_bytes(data)
    samples = [Sample(f"s{i}", f"{i}.png", split="train" if i % 2 else "test") for i in range(5)]
    manifest = Manifest(samples=samples, classes=class_set("abaw7"), root=tmp_path)
    report = extract(embedder, manifest, store, dataset="d", shard_rows=2, part=(1, 2))
    assert (report.samples, len(report.quarantined), report.repeated_across_splits) == (2, 2, 1)
    report = extract(embedder, manifest, store, dataset="d", shard_rows=2, part=(0, 2))
    assert (report.samples, report.embedded) == (3, 3)
