"""Pictures that were read before are not read again, unless they may have changed."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest

from cer_fusion.featstore import extract
from cer_fusion.featstore.pictures import pictures, seen
from cer_fusion.featstore.pictures.seen import Seen, State


@pytest.fixture
def old(make_manifest):
    """Twelve pictures that nobody has touched for an hour, as far as can be set."""
    manifest = make_manifest(12)
    for path in manifest.root.iterdir():
        age(path)
    return manifest


@pytest.fixture(autouse=True)
def _no_grain(monkeypatch):
    """What was changed just now is not racy: nothing in a test waits two seconds."""
    monkeypatch.setattr(seen, "RACY_S", -3600)


@pytest.fixture
def reads(monkeypatch):
    """Paths of the pictures that are read."""
    found = []
    read = pictures.PictureSource.read

    def noted(self, path):
        found.append(path)
        return read(self, path)

    monkeypatch.setattr(pictures.PictureSource, "read", noted)
    return found


def age(path, seconds=3600):
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - int(seconds * 1e9)))


def test_a_finished_dataset_is_not_read_again(store, old, embedder, reads):
    extract(embedder, old, store, dataset="d")
    reads.clear()
    assert extract(embedder, old, store, dataset="d").already == 12
    assert reads == []


def test_all_pictures_are_read_where_that_is_asked_for_and_known_afterwards(store, old, embedder, reads):
    extract(embedder, old, store, dataset="d")
    reads.clear()
    extract(embedder, old, store, dataset="d", check_pictures=True)
    assert len(reads) == 12
    reads.clear()
    extract(embedder, old, store, dataset="d")
    assert reads == []


def rewritten(path):
    path.write_bytes(path.read_bytes()[::-1])


def replaced_under_the_old_date(path):
    before = path.stat()
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes()[::-1])
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)


def rewritten_in_place_and_dated_back(path):
    before = path.stat()
    rewritten(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def longer(path):
    before = path.stat()
    path.write_bytes(path.read_bytes() + b"more")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [rewritten, replaced_under_the_old_date, rewritten_in_place_and_dated_back, longer])
def test_a_changed_picture_is_embedded_again_however_it_was_changed(store, old, embedder, change):
    extract(embedder, old, store, dataset="d")
    change(old.root / "3.png")
    assert extract(embedder, old, store, dataset="d").embedded == 1


def test_a_picture_that_was_changed_just_before_it_was_read_is_read_again(store, old, embedder, reads, monkeypatch):
    monkeypatch.setattr(seen, "RACY_S", 2.0)
    (old.root / "3.png").write_bytes(b"just now")
    extract(embedder, old, store, dataset="d")
    reads.clear()
    extract(embedder, old, store, dataset="d")
    assert "3.png" in reads


def test_a_picture_that_changes_while_it_is_read_is_not_taken_for_known(old, tmp_path, monkeypatch):
    read = pictures.PictureSource.read

    def changing(self, path):
        data = read(self, path)
        with (old.root / path).open("ab") as file:
            file.write(b"!")
        return data

    monkeypatch.setattr(pictures.PictureSource, "read", changing)
    known = Seen(tmp_path, old.root)
    pictures.digests(old, seen=known)
    known.write()
    state = pictures.PictureSource(old.root).state("3.png")
    assert Seen(tmp_path, old.root).digest("3.png", state) is None


def test_a_picture_that_is_gone_or_cannot_be_read_is_told_all_the_same(store, old, embedder):
    extract(embedder, old, store, dataset="d")
    (old.root / "3.png").unlink()
    report = extract(embedder, old, store, dataset="d")
    assert (report.embedded, report.already) == (0, 12)


def test_pictures_in_an_archive_are_known_by_the_archive(store, make_manifest, embedder, reads, tmp_path):
    manifest = make_manifest(6)
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for path in sorted(manifest.root.iterdir()):
            archive.write(path, path.name)
    inside = manifest.at(tmp_path / "faces.zip")
    extract(embedder, inside, store, dataset="d")
    reads.clear()
    extract(embedder, inside, store, dataset="d")
    assert reads == []
    with zipfile.ZipFile(tmp_path / "faces.zip", "a") as archive:
        archive.writestr("more.png", b"more")
    extract(embedder, inside, store, dataset="d")
    assert len(reads) == 6


def test_the_same_path_below_another_root_is_another_picture(store, old, embedder, tmp_path):
    extract(embedder, old, store, dataset="d")
    state = pictures.PictureSource(old.root).state("3.png")
    assert Seen(store.path / "d", old.root).digest("3.png", state) is not None
    assert Seen(store.path / "d", tmp_path / "copy").digest("3.png", state) is None


def test_parts_keep_what_they_read_and_a_whole_run_joins_it(store, old, embedder, reads):
    for k in range(3):
        extract(embedder, old, store, dataset="d", shard_rows=2, part=(k, 3))
    folder = store.path / "d"
    assert len(list(folder.glob("*.seen"))) == 3
    reads.clear()
    extract(embedder, old, store, dataset="d", shard_rows=2, part=(1, 2))
    extract(embedder, old, store, dataset="d", shard_rows=2)
    assert reads == []
    assert [path.name for path in folder.glob("*.seen")] == ["pictures.seen"]


@pytest.mark.parametrize("harm", ["cut", "flipped", "emptied", "of another kind"])
def test_a_damaged_list_is_not_used(store, old, embedder, reads, harm):
    extract(embedder, old, store, dataset="d")
    path = store.path / "d" / "pictures.seen"
    data = path.read_bytes()
    flipped = data[:60] + bytes([data[60] ^ 1]) + data[61:]
    path.write_bytes({"cut": data[:-9], "flipped": flipped, "emptied": b"", "of another kind": b"x" * len(data)}[harm])
    reads.clear()
    assert extract(embedder, old, store, dataset="d").already == 12
    assert len(reads) == 12
    reads.clear()
    extract(embedder, old, store, dataset="d")
    assert reads == []


def test_a_folder_that_cannot_be_written_keeps_nothing_and_is_no_error(old, tmp_path, monkeypatch):
    def refuse(path, data):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(seen.files, "replace", refuse)
    known = Seen(tmp_path, old.root)
    pictures.digests(old, seen=known)
    known.write()
    assert list(tmp_path.glob("*.seen")) == []


def test_of_many_pictures_each_is_found_by_its_own_state(tmp_path):
    rng = np.random.default_rng(0)
    now = State(1, 10**18, 10**18)
    known = Seen(tmp_path, tmp_path)
    digests = {f"{i}.png": rng.bytes(32).hex() for i in range(500)}
    for path, digest in digests.items():
        known.note(path, now, digest)
    known.write()
    again = Seen(tmp_path, tmp_path)
    assert {path: again.digest(path, now) for path in digests} == digests
    assert again.digest("500.png", now) is None
    assert again.digest("7.png", now._replace(size=2)) is None
    assert again.digest("7.png", now._replace(mtime_ns=10**18 + 1)) is None
    assert again.digest("7.png", now._replace(ctime_ns=10**18 + 1)) is None


@pytest.mark.parametrize("piece", [3, 10_000])
def test_a_part_keeps_only_what_is_known_of_its_own_pictures(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(seen, "_PIECE", piece)
    now, digests = State(1, 10**18, 10**18), {f"{i}.png": f"{i:064x}" for i in range(100)}
    for part in ((0, 1), (1, 2), (2, 1000)):  # files of other divisions of the same dataset
        known = Seen(tmp_path, tmp_path, part)
        for path in list(digests)[part[0] :: 3]:
            known.note(path, now, digests[path])
        known.write()
    own = [*list(digests)[:20], "new.png"]
    again = Seen(tmp_path, tmp_path, (7, 9), paths=own)
    assert [again.digest(path, now) for path in own[:-1]] == [digests[path] for path in own[:-1]]
    assert again.digest("new.png", now) is None
    assert sum(len(table._entries) for table in again._tables_read) == 20
    (tmp_path / "pictures.seen").write_bytes((tmp_path / "pictures.seen").read_bytes()[:-9])
    assert Seen(tmp_path, tmp_path, (7, 9), paths=own).digest("3.png", now) is None
