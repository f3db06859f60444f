"""A store's manifest is two files that are always read as one whole pair."""

from __future__ import annotations

import dataclasses

import pytest

from featstore import Manifest, Store, class_set, files
from featstore.errors import CommitError, FormatError


@pytest.fixture
def kept(store, make_manifest):
    """A store with a manifest, the path of its CSV, and another manifest with other classes."""
    manifest = make_manifest(6)
    store.put_manifest("d", manifest)
    other = dataclasses.replace(
        manifest,
        samples=tuple(s._replace(label=class_set("rafdb_compound11").labels[0]) for s in manifest.samples[:3]),
        classes=class_set("rafdb_compound11"),
    )
    return store, store.path / "d" / "manifest.csv", other


def test_a_changed_csv_in_a_store_is_refused_and_one_outside_is_not(kept, tmp_path):
    store, path, _ = kept
    manifest = store.manifest("d")
    path.write_text(path.read_text().replace("s0001", "s9999"))
    with pytest.raises(FormatError, match=r"changed or damaged after it was written(.|\n)*cer-feat relabel"):
        store.manifest("d")
    manifest.write(tmp_path / "mine.csv")
    text = (tmp_path / "mine.csv").read_text()
    (tmp_path / "mine.csv").write_text(text.replace("s0001", "s9999"))
    assert "s9999" in Manifest.read(tmp_path / "mine.csv").ids


def test_a_refused_manifest_can_be_replaced(kept):
    store, path, other = kept
    path.write_bytes(path.read_bytes()[:-5])
    assert store.readable_manifest("d") is None
    store.put_manifest("d", other)
    assert Store(store.path).manifest("d").ids == other.ids


def test_between_the_two_writes_the_old_pair_is_read_whole(kept, monkeypatch):
    store, _, other = kept
    before = store.manifest("d")
    replace = files.replace

    def refuse_csv(to, data):
        if to.suffix == ".csv":
            raise CommitError("the power went")
        replace(to, data)

    monkeypatch.setattr(files, "replace", refuse_csv)
    with pytest.raises(CommitError):
        store.put_manifest("d", other)
    monkeypatch.undo()
    found = Store(store.path).manifest("d")
    assert (found.samples, found.classes) == (before.samples, before.classes)
    store.put_manifest("d", other)
    assert Store(store.path).manifest("d").classes == other.classes


def test_a_writer_whose_json_was_overtaken_writes_again(kept, monkeypatch):
    store, _, other = kept
    first = store.manifest("d")
    replace, met = files.replace, []

    def meet(to, data):
        if to.suffix == ".csv" and not met:
            met.append(True)
            Store(store.path).put_manifest("d", first)
            Store(store.path).put_manifest("d", first)
        replace(to, data)

    monkeypatch.setattr(files, "replace", meet)
    store.put_manifest("d", other)
    assert Store(store.path).manifest("d").ids == other.ids


def test_a_damaged_json_is_refused_and_can_be_replaced_but_not_one_of_a_newer_release(kept):
    store, path, _ = kept
    manifest = store.manifest("d")
    beside = path.with_suffix(".json")
    text = beside.read_text()
    beside.write_text(text.replace("csv_sha256", "csv_sha257"))
    with pytest.raises(FormatError, match="digest does not match"):
        Manifest.read(path)
    store.put_manifest("d", manifest)
    assert Manifest.read(path).ids == store.manifest("d").ids
    beside.write_text(text.replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(FormatError, match="newer"):
        store.put_manifest("d", manifest)
