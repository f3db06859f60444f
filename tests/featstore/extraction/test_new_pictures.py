"""New pictures are read once: hashed and decoded from the same bytes."""

from __future__ import annotations

import errno
import functools
import time
import zipfile

import numpy as np
import pytest

from cer_fusion.featstore import Manifest, Sample, Store, extract
from cer_fusion.featstore.errors import ManifestError
from cer_fusion.featstore.pictures.pictures import PictureSource
from tests.featstore.conftest import CLASSES, ToyEmbedder


@pytest.fixture
def reads(monkeypatch):
    """Count the reads of each picture in this process."""
    read, counts = PictureSource.read, {}

    def counted(self, path):
        counts[path] = counts.get(path, 0) + 1
        return read(self, path)

    monkeypatch.setattr(PictureSource, "read", counted)
    return counts


REPEATED = {1: b"same face", 4: b"same face", 5: b"BAD", 9: b"same face", 10: b"BAD", 11: b"picture 0000"}


@pytest.mark.parametrize("part", [(0, 1), (1, 3)], ids=["all", "a part"])
@pytest.mark.parametrize("archive", [False, True], ids=["folder", "zip"])
def test_every_new_picture_is_read_once_for_all_features_and_not_again(store, make_manifest, reads, archive, part):
    manifest = make_manifest(12, contents=REPEATED)
    if archive:
        packed = manifest.root.parent / "pictures.zip"
        with zipfile.ZipFile(packed, "w") as file:
            for sample in manifest.samples:
                file.write(manifest.root / sample.path, sample.path)
        manifest = Manifest(samples=manifest.samples, classes=manifest.classes, root=packed)
    embedders = [ToyEmbedder("one"), ToyEmbedder("two")]
    extract(embedders, manifest, store, dataset="d", shard_rows=2, batch_size=2, part=part, max_errors=1)
    own = [s.path for i, s in enumerate(manifest.samples) if i // 2 % part[1] == part[0]]
    assert reads == dict.fromkeys(own, 1)


def test_a_finished_dataset_is_not_read_again_since_each_pictures_state_is_kept_as_it_is_read(
    store, make_manifest, reads, monkeypatch
):
    monkeypatch.setattr("cer_fusion.featstore.pictures.seen.RACY_S", -1.0)
    manifest = make_manifest(12, contents=REPEATED)
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=4)
    reads.clear()
    assert extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=4).already == 12
    assert extract(ToyEmbedder("other"), manifest, store, dataset="d").embedded == 7
    assert reads == dict.fromkeys(("0.png", "1.png", "2.png", "3.png", "5.png", "6.png", "7.png", "8.png"), 1)


def test_what_a_run_has_read_is_kept_where_it_ends_early(store, make_manifest, reads, monkeypatch):
    monkeypatch.setattr("cer_fusion.featstore.pictures.seen.RACY_S", -1.0)

    class Ended(ToyEmbedder):
        def embed(self, pictures):
            if len(self.embedded) >= 4:
                raise KeyboardInterrupt
            return super().embed(pictures)

    manifest = make_manifest(12)
    with pytest.raises(KeyboardInterrupt):
        extract(Ended(), manifest, store, dataset="d", shard_rows=4, batch_size=4, readers=1)
    done = {f"{i}.png" for i in range(4)}
    reads.clear()
    assert extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=4).already == 4
    assert reads == dict.fromkeys({s.path for s in manifest.samples} - done, 1)


def test_reader_processes_read_new_pictures_and_this_one_none(store, make_manifest, reads):
    from tests.featstore.openers import OpeningEmbedder

    report = extract(OpeningEmbedder(), make_manifest(6, contents={5: b"BAD"}), store, dataset="d", reader_processes=1)
    assert (report.embedded, list(report.quarantined), reads) == (5, ["s0005"], {})


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_new_pictures_and_known_ones_make_the_same_shards_and_counts(
    store, make_manifest, monkeypatch, tmp_path, batch_size
):
    """Of new pictures it is learnt one by one which are repeated, in the shard, before it, or in the store."""
    monkeypatch.setattr("cer_fusion.featstore.pictures.seen.RACY_S", -1.0)
    rng = np.random.default_rng(batch_size)
    contents = {i: rng.choice([b"BAD", b"same", b"face", f"own {i}".encode()]) for i in range(40)}
    contents = {i: bytes(content) for i, content in contents.items()}
    manifest = make_manifest(40, contents=contents)
    other = Store.create(tmp_path / "other")
    for one in (store, other):  # rows of four samples are there already
        extract(ToyEmbedder(), manifest.keep([i < 4 for i in range(40)]), one, dataset="d", shard_rows=4, max_errors=1)
    extract(ToyEmbedder("first"), manifest, other, dataset="d", max_errors=1)  # so that all are known there
    told = []
    for one in (store, other):
        embedder = ToyEmbedder()
        report = extract(embedder, manifest, one, dataset="d", shard_rows=7, batch_size=batch_size, max_errors=1)
        assert len(embedder.embedded) == len(set(embedder.embedded)) == report.embedded
        told.append((report.embedded, report.shared, report.already, report.quarantined, report.unread))
    assert told[0] == told[1]
    assert [p.name for p in store.feature("toy").shard_paths()] == [p.name for p in other.feature("toy").shard_paths()]


def test_renamed_samples_take_over_the_rows_of_their_pictures_and_nothing_is_embedded(store, make_manifest, reads):
    manifest = make_manifest(12)
    extract(ToyEmbedder(), manifest, store, dataset="d", shard_rows=3)
    renamed = tuple(s._replace(sample_id=f"new {s.sample_id}") for s in reversed(manifest.samples))
    manifest = Manifest(samples=renamed, classes=manifest.classes, root=manifest.root)
    reads.clear()
    embedder = ToyEmbedder()
    report = extract(embedder, manifest, store, dataset="d", shard_rows=5, batch_size=2)
    assert (report.embedded, report.shared, embedder.embedded) == (0, 12, [])
    assert set(reads.values()) == {1}
    assert len(store.view(["toy"])) == 12


def test_of_what_another_run_has_made_meanwhile_only_the_bytes_are_read(store, make_manifest, reads):
    """The other run may have read other bytes: so these are hashed, and decoded only where they differ."""
    manifest = make_manifest(12, contents=REPEATED)
    decoded = []

    class Late(ToyEmbedder):
        def decode(self, data):
            decoded.append(bytes(data))
            return super().decode(data)

        def embed(self, pictures):
            if not self.embedded:
                extract(ToyEmbedder(), manifest, Store(store.path), dataset="d", shard_rows=2, max_errors=1)
                (manifest.root / "8.png").write_bytes(b"changed since")
                reads.clear()
                decoded.clear()
            return super().embed(pictures)

    late = Late()
    report = extract(late, manifest, store, dataset="d", shard_rows=2, batch_size=1, readers=1, max_errors=1)
    assert b"changed since" in decoded
    assert not {b"picture 0006", b"picture 0007"} & set(decoded)
    assert {"6.png", "7.png"} <= reads.keys()
    assert report.by_others + report.embedded + report.shared + len(report.quarantined) >= 12
    view = store.view(["toy"], missing="drop")
    for sample_id, row in zip(view.ids, view.join(), strict=True):
        data = (manifest.root / f"{int(sample_id[1:])}.png").read_bytes()
        np.testing.assert_array_equal(row, np.frombuffer(data[:7], np.uint8).astype(np.float32) / 7)


def test_where_no_picture_can_be_opened_nothing_is_changed(store, make_manifest, monkeypatch):
    manifest = make_manifest(5)

    def refused(self, path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(PictureSource, "check", refused)
    with pytest.raises(ManifestError, match=r"none of the 5 pictures (.|\n)*0.png: permission denied"):
        extract(ToyEmbedder(), manifest, store, dataset="d")
    assert not (store.path / "d" / "manifest.json").exists()


class Decoding(ToyEmbedder):
    """Notes what it decodes, and takes its time over it: so that equal pictures are at work at once."""

    def __init__(self, name: str = "toy", wait_s: float = 0.002) -> None:
        super().__init__(name)
        self.decoded: list[bytes] = []
        self._wait_s = wait_s

    def decode(self, data):
        self.decoded.append(bytes(data))
        time.sleep(self._wait_s)
        return super().decode(data)


def repeating(folder, n=24, *, same_path=False):
    """A manifest whose samples have four pictures, one of them none, by paths of their own or the same."""
    contents = [b"picture 0000", b"BAD", b"picture 0002", b"same face"]
    for i in range(n):
        (folder / f"{i}.png").write_bytes(contents[i % 4])
    paths = [f"{i % 4 if same_path else i}.png" for i in range(n)]
    samples = [
        Sample(sample_id=f"s{i:03d}", path=path, label=CLASSES.labels[0], split="train") for i, path in enumerate(paths)
    ]
    return Manifest(samples=tuple(samples), classes=CLASSES, root=folder), contents


@pytest.mark.parametrize("same_path", [False, True], ids=["paths of their own", "one path"])
@pytest.mark.parametrize("readers", [1, 4])
def test_a_repeated_new_picture_is_decoded_and_embedded_once_a_shard(store, tmp_path, same_path, readers):
    manifest, contents = repeating(tmp_path, same_path=same_path)
    steps = []
    made = [Decoding("one"), Decoding("two")]
    reports = extract(
        made, manifest, store, dataset="d", readers=readers, batch_size=2, max_errors=1.0,
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    for one, report in zip(made, reports, strict=True):
        assert sorted(one.decoded) == sorted(contents)
        assert (report.embedded, report.shared, len(report.quarantined)) == (3, 15, 6)
    assert steps[-1] == ("embed", 48, 48)
    plain = Store.create(tmp_path / "plain")
    for i in range(0, 24, 4):  # a shard at a time, in which nothing is repeated
        extract(Decoding("one"), manifest, plain, dataset="d", shard_rows=4, part=(i // 4, 6), max_errors=1.0)
    rows, alone = (s.view(["one"], missing="drop") for s in (store, plain))
    assert rows.ids == alone.ids
    assert all(np.array_equal(rows.blocks[name], alone.blocks[name]) for name in rows.blocks)
    kept = [s.feature("one", "d").quarantined() for s in (store, plain)]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 6


def test_what_is_read_ahead_for_the_next_shard_is_decoded_once_there_too(store, tmp_path):
    manifest, contents = repeating(tmp_path)
    made = Decoding(wait_s=0.0)
    report = extract(made, manifest, store, dataset="d", readers=4, shard_rows=8, max_errors=1.0)
    assert sorted(made.decoded) == sorted(contents * 3)
    assert (report.embedded, report.shared) == (3, 15)


@pytest.mark.slow
def test_reader_processes_decode_a_repeated_new_picture_once(store, tmp_path):
    from tests.featstore.openers import OpeningEmbedder, open_noting

    manifest, contents = repeating(tmp_path)
    noted = tmp_path / "noted.txt"
    embedder = OpeningEmbedder(open=functools.partial(open_noting, str(noted)))
    report = extract(embedder, manifest, store, dataset="d", reader_processes=2, max_errors=1.0)
    assert sorted(noted.read_bytes().splitlines()) == sorted(contents)
    assert (report.embedded, report.shared, len(report.quarantined)) == (3, 15, 6)


def test_pictures_read_ahead_for_samples_that_another_run_settles_are_decoded_for_those_that_wait_for_them(
    store, tmp_path
):
    manifest, _ = repeating(tmp_path)

    class Overtaken(Decoding):
        def embed(self, pictures):
            if not self.embedded:  # another run settles the next shard but for its last sample
                others = Manifest(samples=manifest.samples[:15], classes=CLASSES, root=tmp_path)
                extract(
                    ToyEmbedder(), others, Store(store.path), dataset="d", shard_rows=8, part=(1, 2), max_errors=1.0
                )
            return super().embed(pictures)

    report = extract(Overtaken(wait_s=0.0), manifest, store, dataset="d", readers=4, shard_rows=8, max_errors=1.0)
    assert len(report.quarantined) == 6
    assert (report.by_others, len(report.quarantined)) == (7, 6)
    store.use_manifest("d", manifest)
    assert len(store.view(["toy"], missing="drop")) == 18


@pytest.mark.parametrize("part", [(0, 1), (0, 2), (3, 4)], ids=str)
@pytest.mark.parametrize("before", ["nothing", "another part", "one of two features", "all", "changed", "refused"])
def test_progress_ends_at_exactly_what_there_is_to_do(store, tmp_path, before, part):
    manifest, _ = repeating(tmp_path)
    (tmp_path / "7.png").unlink()
    options = {"dataset": "d", "shard_rows": 4, "max_errors": 1.0, "readers": 3}
    if before == "another part":
        extract(ToyEmbedder("one"), manifest, store, part=(1, 3), **options)
    elif before != "nothing":
        extract(ToyEmbedder("one"), manifest, store, **options)
        if before != "one of two features":
            extract(ToyEmbedder("two"), manifest, store, **options)
    if before == "changed":
        for i in (0, 5, 6, 20):
            (tmp_path / f"{i}.png").write_bytes(b"changed 000" if i < 20 else b"BAD too")
    steps, retry = [], before == "refused"
    reports = extract(
        [ToyEmbedder("one"), ToyEmbedder("two")], manifest, store, part=part, retry_quarantined=retry,
        progress=lambda *step: steps.append(step), **options,
    )  # fmt: skip
    own = [i for i in range(24) if i // 4 % part[1] == part[0]]
    for stage, total in (("hash", len(own)), ("embed", sum(report.samples - report.already for report in reports))):
        told = [step[1:] for step in steps if step[0] == stage]
        assert {of for _, of in told} <= {total}
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        assert (told[-1][0] if told else 0) == total
