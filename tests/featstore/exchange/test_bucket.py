"""Stores in buckets: one contract for a folder (`file://`) and for S3."""

from __future__ import annotations

import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore import Manifest, Store, compact, extract
from cer_fusion.featstore.errors import (
    BucketError,
    DamagedShardError,
    FormatError,
    ManifestError,
    NewerFormatError,
    UnknownDatasetError,
    UnknownFeatureError,
)
from cer_fusion.featstore.exchange.bucket import Bucket, last_pushed
from cer_fusion.featstore.exchange.pushing import plan_pull, plan_push, push
from tests.featstore.conftest import ToyEmbedder
from tests.featstore.exchange.conftest import half_pushed, put, same_rows, shards_in, take

pytest.importorskip("obstore", reason="no bucket without obstore: pip install 'cer-fusion[cloud]'")


def test_what_was_pushed_is_pulled_with_every_row_label_and_split(filled, place, tmp_path):
    plan = plan_push(filled, place.url)
    assert (plan.shards, plan.rows, plan.already) == (7, 60, 0)
    done = push(filled, plan)
    assert done.features == tuple(f"d/{feature.label}" for feature in filled.features("d"))
    taken = take(tmp_path / "other", place.url)
    assert (taken.shards, taken.rows, taken.already) == (7, 60, 0)
    same_rows(filled, Store(tmp_path / "other"))
    assert shards_in(tmp_path / "other") == shards_in(filled.path)


def test_a_second_push_and_a_second_pull_move_nothing(filled, place, tmp_path):
    put(filled, place.url)
    before = {name: place.get(name) for name in place.names()}
    plan = plan_push(filled, place.url)
    assert plan.is_empty
    push(filled, plan)
    assert {name: place.get(name) for name in place.names()} == before
    take(tmp_path / "other", place.url)
    again = take(tmp_path / "other", place.url)
    assert (again.shards, again.already) == (0, 7)


def test_one_feature_alone_can_be_pulled_and_later_the_other(filled, place, tmp_path):
    put(filled, place.url)
    take(tmp_path / "other", place.url, features=["toy"])
    here = Store(tmp_path / "other")
    assert [feature.name for feature in here.features("d")] == ["toy"]
    same_rows(filled, here, ["toy"])
    assert take(tmp_path / "other", place.url).shards == 3
    same_rows(filled, Store(tmp_path / "other"))


def test_one_feature_alone_can_be_pushed_and_later_the_other(filled, place, tmp_path):
    put(filled, place.url, features=["other"])
    assert not any("/toy@" in name for name in place.names())
    put(filled, place.url)
    take(tmp_path / "other", place.url)
    same_rows(filled, Store(tmp_path / "other"))


def test_a_store_that_grew_sends_what_is_new_and_readers_see_all_of_it(filled, place, make_manifest, tmp_path):
    put(filled, place.url)
    take(tmp_path / "other", place.url)
    extract(ToyEmbedder(), make_manifest(45), filled, dataset="d", shard_rows=8)
    plan = plan_push(filled, place.url)
    assert (plan.datasets[0].standing, plan.already) == ("ahead", 7)
    push(filled, plan)
    taken = take(tmp_path / "other", place.url)
    assert taken.shards == plan.shards > 0
    same_rows(filled, Store(tmp_path / "other"), ["toy"])
    assert len(Store(tmp_path / "other").manifest("d")) == 45


def test_a_store_that_is_behind_adds_its_rows_and_leaves_the_newer_manifest(filled, in_folder, make_manifest, tmp_path):
    put(filled, in_folder.url, features=["toy"])
    older = Store(shutil.copytree(filled.path, tmp_path / "older"))
    filled.use_manifest("d", make_manifest(45))
    put(filled, in_folder.url, features=["toy"])
    plan = plan_push(older, in_folder.url)
    assert plan.datasets[0].standing == "behind"
    push(older, plan)
    take(tmp_path / "new", in_folder.url)
    assert len(Store(tmp_path / "new").manifest("d")) == 45
    assert len(Store(tmp_path / "new").features("d")) == 2


def relabelled(manifest: Manifest) -> Manifest:
    first = manifest.samples[0]._replace(label=manifest.samples[1].label)
    return replace(manifest, samples=(first, *manifest.samples[1:]))


def test_other_labels_take_the_others_place_only_if_that_is_said(filled, in_folder, make_manifest, tmp_path):
    put(filled, in_folder.url)
    take(tmp_path / "other", in_folder.url)
    filled.use_manifest("d", relabelled(make_manifest(30)))
    with pytest.raises(ManifestError, match=r"(?s)said differently.*1 other labels.*--replace-manifest"):
        plan_push(filled, in_folder.url)
    put(filled, in_folder.url, replace_manifest=True)
    other = Store(tmp_path / "other")
    assert plan_push(other, in_folder.url).is_empty, "an older list of the bucket's own history is no contradiction"
    take(tmp_path / "other", in_folder.url)
    np.testing.assert_array_equal(other.manifest("d").y, filled.manifest("d").y)
    first = other.manifest("d").samples[0]._replace(group="alone")
    other.use_manifest("d", replace(make_manifest(30), samples=(first, *make_manifest(30).samples[1:])))
    with pytest.raises(ManifestError, match=r"(?s)said differently: in store .*1 other groups.*--replace-manifest"):
        plan_pull(tmp_path / "other", in_folder.url)
    take(tmp_path / "other", in_folder.url, replace_manifest=True)
    assert other.manifest("d").samples[0].group == ""


def test_two_datasets_of_one_name_are_refused_before_anything_is_sent(filled, place, tmp_path, make_manifest):
    put(filled, place.url)
    before = place.names()
    others = {
        "other samples": replace(
            make_manifest(30), samples=tuple(s._replace(sample_id=f"x{s.sample_id}") for s in make_manifest(30).samples)
        ),
        "fewer and others": make_manifest(30, folder="elsewhere"),
    }
    others["fewer and others"] = replace(
        others["fewer and others"],
        samples=(*others["fewer and others"].samples[:20], make_manifest(31).samples[30]),
    )
    for name, manifest in others.items():
        other = Store.create(tmp_path / name.replace(" ", "-"))
        extract(ToyEmbedder(), manifest, other, dataset="d", shard_rows=8)
        with pytest.raises(ManifestError, match="dataset 'd' is said differently"):
            plan_push(other, place.url)
    assert place.names() == before


def test_rows_of_other_pictures_under_the_same_samples_are_refused(filled, place, tmp_path, make_manifest):
    put(filled, place.url)
    before = place.names()
    manifest = make_manifest(30, contents={i: f"another {i:04d}".encode() for i in range(5)}, folder="others")
    other = Store.create(tmp_path / "other")
    extract(ToyEmbedder(), manifest, other, dataset="d", shard_rows=8)
    for refused in (
        lambda: plan_push(other, place.url),
        lambda: plan_push(other, place.url, replace_manifest=True),
        lambda: plan_pull(other.path, place.url),
    ):
        with pytest.raises(FormatError, match=r"5 samples have rows here and in .*different pictures: s0000"):
            refused()
    assert place.names() == before


def test_a_picture_that_changed_since_is_a_newer_row_and_no_other_dataset(filled, in_folder, make_manifest, tmp_path):
    put(filled, in_folder.url)
    extract(ToyEmbedder(), make_manifest(30, contents={0: b"changed"}), filled, dataset="d", shard_rows=8)
    put(filled, in_folder.url)
    take(tmp_path / "other", in_folder.url)
    same_rows(filled, Store(tmp_path / "other"), ["toy"])


def test_a_compacted_store_can_be_pushed_again(filled, in_folder, tmp_path):
    put(filled, in_folder.url)
    feature = filled.feature("toy", "d")
    report = compact(feature, filled.manifest("d"), shard_rows=100)
    for path in report.replaced:
        path.unlink()
    put(filled, in_folder.url)
    take(tmp_path / "other", in_folder.url)
    same_rows(filled, Store(tmp_path / "other"))


@pytest.mark.parametrize("apart", [False, True])
def test_eight_pushers_at_once_leave_one_store_with_all_rows(place, tmp_path, make_manifest, apart):
    """Each with all of it, or each with its part of the rows."""
    manifest = make_manifest(32)
    stores = [Store.create(tmp_path / f"store{k}") for k in range(8)]
    for k, one in enumerate(stores):
        extract(ToyEmbedder(), manifest, one, dataset="d", shard_rows=4, part=(k, 8) if apart else (0, 1))
    barrier = threading.Barrier(8)

    def at_once(one: Store) -> None:
        plan = plan_push(one, place.url)
        barrier.wait(60)
        push(one, plan)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(at_once, stores))
    numbers = [name for name in place.names() if "pushed-" in name]
    assert len(numbers) == (8 if apart else 1)
    take(tmp_path / "all", place.url)
    view = Store(tmp_path / "all").view(["toy"])
    assert len(view) == 32
    assert len(shards_in(tmp_path / "all")) == 8
    whole = Store.create(tmp_path / "whole")
    extract(ToyEmbedder(), manifest, whole, dataset="d", shard_rows=4)
    same_rows(whole, Store(tmp_path / "all"), ["toy"])


def test_of_two_datasets_of_one_name_pushed_at_once_one_is_refused(place, tmp_path, make_manifest, filled):
    """Neither saw the other while it planned."""
    other = Store.create(tmp_path / "other")
    extract(ToyEmbedder(), make_manifest(12), other, dataset="d", shard_rows=8)
    other.use_manifest("d", relabelled(make_manifest(12)))
    plans = [(store, plan_push(store, place.url)) for store in (filled, other)]
    push(*plans[0])
    with pytest.raises(ManifestError, match="said differently"):
        push(*plans[1])
    take(tmp_path / "taken", place.url)
    same_rows(filled, Store(tmp_path / "taken"))


def test_a_half_pushed_store_is_refused_by_name_until_the_push_is_finished(filled, place, tmp_path, monkeypatch):
    half_pushed(filled, place.url, monkeypatch)
    for refused in (
        lambda: plan_pull(tmp_path / "other", place.url),
        lambda: Store.open(place.url, cache=tmp_path / "c"),
    ):
        with pytest.raises(
            FormatError, match=r"(?s)is half pushed: dataset 'd' has no pushed-.*run the same cer-feat push"
        ):
            refused()
    assert not (tmp_path / "other").exists()
    plan = plan_push(filled, place.url)
    assert (plan.shards, plan.already, plan.documents) == (0, 7, ("d/pushed-000001.json",))
    push(filled, plan)
    take(tmp_path / "other", place.url)
    same_rows(filled, Store(tmp_path / "other"))


def test_a_push_that_died_amid_the_growth_of_a_store_leaves_what_was_there(
    filled, place, tmp_path, monkeypatch, make_manifest
):
    put(filled, place.url)
    extract(ToyEmbedder(), make_manifest(45), filled, dataset="d", shard_rows=8)
    half_pushed(filled, place.url, monkeypatch)
    take(tmp_path / "other", place.url)
    assert len(Store(tmp_path / "other").view(["toy", "other"])) == 30
    put(filled, place.url)
    take(tmp_path / "other", place.url)
    same_rows(filled, Store(tmp_path / "other"), ["toy"])


def test_a_whole_dataset_beside_a_half_pushed_one_can_be_read(filled, in_folder, tmp_path, monkeypatch, caplog):
    put(filled, in_folder.url)
    extract(ToyEmbedder(), filled.manifest("d"), filled, dataset="e", shard_rows=8)
    half_pushed(filled, in_folder.url, monkeypatch)
    with pytest.raises(FormatError, match="half pushed: dataset 'e'"):
        plan_pull(tmp_path / "other", in_folder.url)
    take(tmp_path / "other", in_folder.url, dataset="d")
    opened = Store.open(in_folder.url, cache=tmp_path / "cache")
    assert opened.datasets() == ["d"]
    assert "half pushed: dataset 'e'" in caplog.text


@pytest.mark.parametrize("what", ["shard-", "manifest.csv", "manifest.json", "feature.json", "pushed-", "store.json"])
def test_a_wrong_byte_in_the_bucket_is_refused_and_nothing_of_it_is_taken(filled, place, tmp_path, what):
    put(filled, place.url)
    name = place.find(what)
    data = bytearray(place.get(name))
    data[len(data) // 2] ^= 1
    place.overwrite(name, bytes(data))
    with pytest.raises(FormatError, match=re.escape(name)):
        take(tmp_path / "other", place.url)
    assert not (tmp_path / "other" / name).exists() or name == "store.json"
    with pytest.raises(FormatError, match=re.escape(name)):
        Store.open(place.url, cache=tmp_path / "cache").view(["toy", "other"])


def test_a_shard_cut_short_is_refused_by_push_and_pull(filled, place, tmp_path):
    put(filled, place.url)
    name = place.find("shard-")
    place.overwrite(name, place.get(name)[:-100])
    with pytest.raises(DamagedShardError, match="is not what was pushed"):
        take(tmp_path / "other", place.url)
    with pytest.raises(FormatError, match=r"it is damaged\n  remove that object by hand"):
        plan_push(filled, place.url)
    place.remove(name)
    with pytest.raises(BucketError, match=r"it is not in .*\n.*push again from a store that has it"):
        take(tmp_path / "other", place.url)
    put(filled, place.url)
    take(tmp_path / "other", place.url)
    same_rows(filled, Store(tmp_path / "other"))


@pytest.mark.parametrize(("version", "said"), [(0, "no usable format_version"), (9, "made by a newer cer-fusion")])
@pytest.mark.parametrize("what", ["store.json", "pushed-"])
def test_a_document_of_another_version_is_refused_by_name(
    filled, in_folder, tmp_path, what, version, said, monkeypatch
):
    put(filled, in_folder.url)
    name = in_folder.find(what)
    text = in_folder.get(name).decode().replace('"format_version": 1', f'"format_version": {version}')
    in_folder.overwrite(name, text.encode())
    for refused in (
        lambda: plan_pull(tmp_path / "other", in_folder.url),
        lambda: plan_push(filled, in_folder.url),
        lambda: Store.open(in_folder.url, cache=tmp_path / "cache"),
    ):
        with pytest.raises(NewerFormatError if version == 9 else FormatError, match=said) as caught:
            refused()
        assert name in str(caught.value)


def test_a_document_of_an_older_version_is_refused_by_name(filled, in_folder, tmp_path, monkeypatch):
    put(filled, in_folder.url)
    monkeypatch.setattr("cer_fusion.featstore.exchange.bucket.FORMAT_VERSION", 2)
    with pytest.raises(
        FormatError, match="cer-push version 1, made by an older cer-fusion; this release reads version 2"
    ):
        plan_pull(tmp_path / "other", in_folder.url)


def test_a_damaged_shard_is_not_sent(filled, in_folder):
    path = next((filled.path / "d").glob("toy@*/shard-*.h5"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedShardError, match="was not sent"):
        put(filled, in_folder.url)
    assert not any(path.name in name or "pushed-" in name for name in in_folder.names())


def test_a_folder_with_something_else_in_it_is_no_place_for_a_store(filled, in_folder):
    in_folder.folder.mkdir(parents=True)
    (in_folder.folder / "thesis.tex").write_text("")
    with pytest.raises(FormatError, match=r"something else than a feature store \(thesis.tex\)"):
        plan_push(filled, in_folder.url)


def test_nothing_of_this_machines_folders_is_in_the_documents(filled, in_folder, tmp_path):
    put(filled, in_folder.url)
    for name in in_folder.names():
        assert str(tmp_path).encode() not in in_folder.get(name), name


def test_paths_from_the_root_on_are_told_before_they_leave(filled, in_folder, make_manifest):
    manifest = make_manifest(30)
    assert plan_push(filled, in_folder.url).datasets[0].tells_of == ()
    samples = tuple(s._replace(path=str(manifest.root / s.path)) for s in manifest.samples)
    filled.use_manifest("d", replace(manifest, samples=samples))
    assert plan_push(filled, in_folder.url).datasets[0].tells_of == (str(manifest.root),)


def test_a_manifest_of_fewer_samples_takes_the_others_place_only_if_that_is_said(filled, in_folder, make_manifest):
    put(filled, in_folder.url)
    names = set(in_folder.names())
    filled.use_manifest("d", make_manifest(24))
    plan = plan_push(filled, in_folder.url)
    assert plan.is_empty
    assert plan.datasets[0].standing == "behind"
    put(filled, in_folder.url, replace_manifest=True)
    assert {name.partition("-")[0] for name in set(in_folder.names()) - names} == {"d/manifest", "d/pushed"}
    filled.use_manifest("d", make_manifest(30))
    take(filled.path, in_folder.url)
    assert len(filled.manifest("d")) == 24, "the bucket's history has the one of thirty: it was replaced on purpose"


def test_a_pulled_dataset_keeps_the_place_of_its_pictures(filled, in_folder, tmp_path, make_manifest):
    put(filled, in_folder.url)
    root = make_manifest(3).root
    take(tmp_path / "other", in_folder.url, root=root)
    assert Store(tmp_path / "other").manifest("d").root.resolve() == root.resolve()
    filled.use_manifest("d", make_manifest(45))
    put(filled, in_folder.url)
    take(tmp_path / "other", in_folder.url)
    assert Store(tmp_path / "other").manifest("d").root.resolve() == root.resolve()


def test_a_store_that_has_more_than_the_bucket_keeps_it_when_pulling(filled, in_folder, make_manifest):
    put(filled, in_folder.url)
    filled.use_manifest("d", make_manifest(45))
    for root in (None, make_manifest(3).root):
        take(filled.path, in_folder.url, root=root)
        assert len(filled.manifest("d")) == 45


def test_names_that_are_not_there_are_told_with_those_that_are(filled, in_folder, tmp_path):
    with pytest.raises(FormatError, match=r"(?s)there is no store at .*cer-feat push"):
        plan_pull(tmp_path / "other", in_folder.url)
    put(filled, in_folder.url)
    with pytest.raises(UnknownDatasetError, match=r"no dataset 'x' in file://.*known: d"):
        plan_pull(tmp_path / "other", in_folder.url, dataset="x")
    with pytest.raises(UnknownFeatureError, match="did you mean 'toy'"):
        plan_pull(tmp_path / "other", in_folder.url, features=["tay"])
    with pytest.raises(UnknownFeatureError, match="leave the block out"):
        plan_pull(tmp_path / "other", in_folder.url, features=["toy.left"])
    with pytest.raises(UnknownDatasetError, match="nothing to push"):
        plan_push(Store.create(tmp_path / "empty"), in_folder.url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/faces", "is no place for a store"),
        ("s3://", "is no place for a store"),
        ("file://faces", "must name a folder from the root on"),
        ("file:///", "must name a folder from the root on"),
        ("s3://key:secret@bucket/faces", "without credentials"),
        ("s3://bucket/faces?X-Amz-Signature=1", "without credentials"),
    ],
)
def test_a_url_that_cannot_be_is_refused_and_no_credential_is_repeated(url, said):
    with pytest.raises(BucketError, match=said) as caught:
        Bucket(url)
    assert "secret" not in str(caught.value)
    assert "Signature" not in str(caught.value)


def test_a_hostile_document_names_no_file_outside(filled, in_folder, tmp_path):
    put(filled, in_folder.url)
    name = in_folder.find("pushed-")
    sound = last_pushed(Bucket(in_folder.url), "d", {Path(name).name: len(in_folder.get(name))})
    label, shards = next(iter(sound.features.items()))
    for hostile in (
        replace(sound, features={"../../up@0123456789ab": shards}),
        replace(sound, features={label: {"../../../etc/passwd": (1, 1)}}),
        replace(sound, manifests=("../../x",)),
        replace(sound, files={"../evil.csv": (1, "00")}),
        replace(sound, files={"manifest.csv": (-1, "00")}),
        replace(sound, manifests=()),
    ):
        in_folder.overwrite(name, hostile.to_bytes("x"))
        with pytest.raises(FormatError, match="does not hold what a cer-push does"):
            take(tmp_path / "other", in_folder.url)
    assert not (tmp_path / "other").exists()
