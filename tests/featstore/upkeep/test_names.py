"""Features and datasets renamed, and put away: one step, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore import FeatstoreError, Manifest, Sample, Store, class_set, find_garbage, import_rows, verify
from cer_fusion.featstore.errors import CommitError, UnknownDatasetError, UnknownFeatureError
from cer_fusion.featstore.upkeep import names
from cer_fusion.featstore.upkeep.garbage import GRACE_S, remove_garbage

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    labels = class_set("abaw7").labels
    samples = tuple(Sample(sample_id=f"s{i}", path=f"{i}.jpg", label=labels[i], split="train") for i in range(4))
    manifest = Manifest(samples=samples, classes=class_set("abaw7"), root=tmp_path)
    opened = Store.create(tmp_path / "features")
    for dataset in ("faces", "others"):
        for number, name in enumerate(("vit", "manet")):
            import_rows(ROWS + number, manifest.ids, manifest, opened, dataset=dataset, name=name)
    return opened


def rows(store: Store, feature: str, dataset: str) -> list[list[float]]:
    return next(iter(store.view([feature], dataset=dataset).blocks.values())).tolist()


def test_a_renamed_feature_keeps_rows_and_fingerprint_and_is_found_by_both(store):
    before = store.feature("manet", "faces").spec
    done = names.rename(store, names.named(store, "faces/manet"), "manet_unity")
    assert done.label == f"faces/manet_unity@{before.fingerprint[:12]}"
    assert rows(store, "manet_unity", "faces") == (ROWS + 1).tolist()
    again = Store(store.path)
    assert again.feature("manet_unity", "faces").spec.name == "manet_unity"
    assert again.feature("manet_unity", "faces").spec.fingerprint == before.fingerprint
    kept = again.view(["manet"], dataset="faces", fingerprints={"manet": before.fingerprint})  # as a kept head asks
    assert list(kept.blocks) == ["manet"]
    with pytest.raises(UnknownFeatureError):
        again.feature("manet", "faces")
    assert verify(again).problems == ()
    assert rows(again, "manet", "others") == (ROWS + 1).tolist()


def test_a_renamed_dataset_has_manifest_and_features_of_before(store):
    before = store.manifest("faces").ids
    assert names.rename(store, names.named(store, "faces/"), "rafdb").label == "rafdb/"
    assert store.datasets() == ["others", "rafdb"]
    assert store.manifest("rafdb").ids == before
    assert [one.name for one in store.features("rafdb")] == ["manet", "vit"]
    assert verify(Store(store.path)).problems == ()


def test_what_is_put_away_is_in_no_list_and_stays_readable_where_it_is_open(store):
    view = store.view(["manet"], dataset="faces", mapped=True)
    aside = names.put_away(names.named(store, "manet", "faces"))
    assert [one.name for one in Store(store.path).features("faces")] == ["vit"]
    assert np.asarray(view.blocks["manet"]).tolist() == (ROWS + 1).tolist()
    names.put_away(names.named(store, "others/"))
    assert Store(store.path).datasets() == ["faces"]
    assert verify(Store(store.path)).problems == ()
    assert find_garbage(store) == []
    assert {one.path for one in find_garbage(store, now=True)} >= {aside}


def test_what_was_put_away_becomes_garbage_after_an_hour_and_frees_its_room(store):
    asides = [names.put_away(names.named(store, text)) for text in ("faces/manet", "others/")]
    for path in asides:
        os.utime(path, (0, path.stat().st_mtime - GRACE_S - 60))
    found = find_garbage(store)
    assert {one.path for one in found} == set(asides)
    assert remove_garbage(found) == sum(one.nbytes for one in found) > 0
    assert not any(path.exists() for path in asides)
    assert rows(store, "vit", "faces") == ROWS.tolist()


@pytest.mark.parametrize("call", ["utime", "rename"])
def test_a_kill_leaves_the_old_name_or_the_new_one(store, monkeypatch, call):
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, call, killed)
        with pytest.raises(KeyboardInterrupt):
            names.put_away(names.named(store, "faces/manet"))
    assert rows(Store(store.path), "manet", "faces") == (ROWS + 1).tolist()


def test_a_file_system_that_refuses_changes_nothing(store, monkeypatch):
    def refused(*args: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refused)
        for change in (lambda one: names.put_away(one), lambda one: names.rename(store, one, "other")):
            with pytest.raises(CommitError, match="Read-only"):
                change(names.named(store, "faces/manet"))
    assert rows(store, "manet", "faces") == (ROWS + 1).tolist()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("faces/manet", "vit@3f9c", "a fingerprint stays as it is"),
        ("faces/manet", "a b", "is no name"),
        ("faces/", "others", "is there already"),
        ("faces/manet", "manet", "is there already"),
    ],
)
def test_a_name_that_is_none_or_is_taken_is_refused(store, old, new, said):
    with pytest.raises(FeatstoreError, match=said):
        names.rename(store, names.named(store, old), new)


def test_a_name_stands_for_one_thing_or_is_refused(store):
    assert names.named(store, "manet", "faces").label.startswith("faces/manet@")
    with pytest.raises(UnknownDatasetError, match="name one with --data"):
        names.named(store, "manet")
    with pytest.raises(FeatstoreError, match="leave one of them out"):
        names.named(store, "faces/manet", "others")
