from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path

import pytest

from cer_fusion.featstore import Store, class_set, extract, import_rows
from cer_fusion.featstore.errors import FormatError, ManifestError
from cer_fusion.featstore.manifests.checking import Look, check_manifest
from tests.featstore.conftest import CLASSES, ToyEmbedder
from tests.featstore.manifests.adapters.layouts import fill


def look(data: bytes) -> Look:
    if data.startswith(b"BAD"):
        raise ValueError("not a picture")
    return Look(len(data), 1, "L")


def listed(root: Path, text: str, pictures: dict[str, bytes]) -> Path:
    return fill(root, {"m.csv": "sample_id,path,label,split,group\n" + text, **pictures}) / "m.csv"


def test_a_sound_manifest_has_no_faults(tmp_path):
    path = listed(tmp_path, "a,1.png,x,train,g\nb,2.png,x,test,h\n", {"1.png": b"one", "2.png": b"two"})
    report = check_manifest(path, looking=look)
    assert list(report.faults()) == []
    assert report.sizes == {"3 x 1": 2}
    assert report.modes == {"L": 2}
    assert list(report.notes()) == ["the largest class has 1.0 times the samples of the smallest"]


@pytest.fixture
def faulty(tmp_path) -> Path:
    text = (
        "a,1.png,x,train,g\nb,2.png,x,train,g\nc,3.png,y,test,g\nd,4.png,x,test,\ne,5.png,x,train,\nf,6.png,x,train,h\n"
    )
    pictures = {"1.png": b"one", "2.png": b"one", "3.png": b"one", "4.png": b"BAD", "6.png": b"six"}
    return listed(tmp_path, text, pictures)


def test_every_fault_is_found_and_names_samples_and_a_way_out(faulty):
    counted: list[tuple[int, int]] = []
    report = check_manifest(faulty, looking=look, progress=lambda done, total: counted.append((done, total)))
    assert report.unreadable == {"e": "missing"}
    assert report.unusable == {"d": "not a picture"}
    assert report.repeated == report.across_splits == report.two_labels == [["a", "b", "c"]]
    assert report.crossing_groups == {"g": ("train", "test")}
    assert report.unlearnt == ["y"]
    faults = list(report.faults())
    assert len(faults) == 6
    assert "1 pictures cannot be read: e (missing)" in faults[0]
    assert "a = b = c" in faults[2]
    assert "1 groups stand in more than one split: g (train, test)" in faults[4]
    assert counted[-1] == (6, 6)
    assert json.loads(json.dumps(report.to_json()))["crossing_groups"] == {"g": ["train", "test"]}


def test_without_a_look_into_pictures_only_their_bytes_count(faulty):
    report = check_manifest(faulty)
    assert report.unusable == {}
    assert report.sizes == {}


def test_another_root_is_looked_at_on_request(faulty, tmp_path):
    report = check_manifest(faulty, root=tmp_path / "none")
    assert len(report.unreadable) == 6
    assert "paths start at" in next(report.faults())


def test_a_manifest_without_groups_says_what_cannot_be_seen(tmp_path):
    path = listed(tmp_path, "a,1.png,x,,\n", {"1.png": b"one"})
    assert "whether a subject or a video stands in two splits cannot be seen" in list(check_manifest(path).notes())[-1]


def put(store, manifest, **more):
    return store.use_manifest("d", manifest, replace_manifest=False, **more)


def test_growth_and_changes_are_counted_and_logged(store, make_manifest, caplog):
    caplog.set_level("DEBUG")
    manifest = make_manifest(12)
    put(store, manifest.keep(i < 10 for i in range(12)))
    assert "dataset d" not in caplog.text
    samples = [s._replace(group=f"g{i}") for i, s in enumerate(manifest.samples)]
    samples[0] = samples[0]._replace(label=CLASSES.labels[3])
    samples[1] = samples[1]._replace(split="valid")
    change = put(store, dataclasses.replace(manifest, samples=tuple(samples)))
    assert change.counts() == {
        "added": 2, "removed": 0, "other_labels": 1, "other_splits": 1, "other_groups": 10, "other_paths": 0,
    }  # fmt: skip
    assert "dataset d: 12 samples now; 2 added, 1 other labels, 1 other splits, 10 other groups" in caplog.text
    caplog.clear()
    assert put(store, store.manifest("d")).text == ""
    assert "dataset d" not in caplog.text


def test_a_list_that_removes_samples_is_refused_before_anything_is_done(store, make_manifest):
    manifest = make_manifest(12)
    extract(ToyEmbedder(), manifest, store, dataset="d")
    debug = manifest.keep(i < 4 for i in range(12))
    embedder = ToyEmbedder("other", tap=2)
    with pytest.raises(ManifestError, match=r"12 samples, and 8 of them(.|\n)*--dataset NAME(.|\n)*--replace-manifest"):
        extract(embedder, debug, store, dataset="d", replace_manifest=False)
    assert (embedder.embedded, [f.name for f in store.features("d")], len(store.manifest("d"))) == ([], ["toy"], 12)
    extract(embedder, debug, store, dataset="d")
    assert len(store.manifest("d")) == 4


def test_two_datasets_of_one_name_and_the_same_ids_do_not_become_one(store, make_manifest):
    first = make_manifest(12)
    second = make_manifest(15, contents={i: b"another %d" % i for i in range(15)}, folder="others")
    extract(ToyEmbedder(), first, store, dataset="d")
    with pytest.raises(ManifestError, match=r"lists other pictures under the sample ids of dataset 'd': 12 of 12"):
        put(store, second)
    for i in range(12):
        (first.root / f"{i}.png").unlink()
    with pytest.raises(ManifestError, match="12 of 12 that were compared differ"):
        put(store, second)  # known from the rows, though the pictures are gone
    extract(ToyEmbedder(), second, store, dataset="d")
    assert len(store.manifest("d")) == 15


def test_pictures_that_moved_are_no_other_dataset(store, make_manifest, tmp_path):
    manifest = make_manifest(12)
    extract(ToyEmbedder(), manifest, store, dataset="d")
    moved = manifest.root.rename(tmp_path / "moved")
    change = put(store, manifest.at(moved))
    assert (change.counts()["other_paths"], change.looked_at, change.differ) == (12, 12, 0)
    assert extract(ToyEmbedder(), manifest.at(moved), store, dataset="d", replace_manifest=False).already == 12


def test_classes_in_another_order_are_refused_and_more_classes_told(store, make_manifest):
    manifest = make_manifest(7)
    put(store, manifest)
    turned = dataclasses.replace(CLASSES, labels=CLASSES.labels[::-1])
    with pytest.raises(ManifestError, match=r"stand in another order(.|\n)*alphabetical order"):
        put(store, dataclasses.replace(manifest, classes=turned))
    more = dataclasses.replace(CLASSES, labels=("Bored", *CLASSES.labels))
    assert "classes " in put(store, dataclasses.replace(manifest, classes=more)).text


def test_what_would_be_removed_from_a_damaged_manifest_is_not_guessed(store, make_manifest):
    manifest = make_manifest(7)
    put(store, manifest)
    (store.path / "d" / "manifest.json").unlink()
    with pytest.raises(ManifestError, match=r"is not known(.|\n)*manifest.json is missing"):
        put(store, manifest)
    store.use_manifest("d", manifest)
    assert store.manifest("d").classes == manifest.classes


def test_imports_are_refused_as_extracts_are(store, make_manifest):
    import numpy as np

    manifest = make_manifest(6)
    put(store, manifest)
    few = manifest.keep(i < 3 for i in range(6))
    with pytest.raises(ManifestError, match="3 of them are not"):
        import_rows(np.eye(3, dtype=np.float32), few.ids, few, store, dataset="d", name="x", replace_manifest=False)
    assert store.features("d") == []


def test_of_two_writers_with_different_lists_at_once_one_is_refused(store, make_manifest):
    """Whatever they saw before they began: the check and the write are one step."""
    manifest = make_manifest(20)
    lists = [manifest.keep(i % 4 != k for i in range(20)) for k in range(4)]
    refused, barrier = [], threading.Barrier(4)

    def write(one):
        barrier.wait()
        try:
            put(Store(store.path), one)
        except ManifestError:
            refused.append(one)

    threads = [threading.Thread(target=write, args=(one,)) for one in lists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = Store(store.path).manifest("d")
    assert len(refused) == 3
    assert [one.ids for one in lists if one not in refused] == [kept.ids]


def test_a_datasets_manifest_is_refused_without_its_json_whoever_reads_it(store, make_manifest):
    from cer_fusion.featstore import Manifest
    from cer_fusion.featstore.manifests.checking import check_manifest

    put(store, dataclasses.replace(make_manifest(7), classes=class_set("abaw7")))
    path = store.path / "d" / "manifest.csv"
    path.with_suffix(".json").unlink()
    for read in (lambda: store.manifest("d"), lambda: Manifest.read(path), lambda: check_manifest(path)):
        with pytest.raises(FormatError, match=r"manifest\.json is missing: without it the order of the classes"):
            read()
