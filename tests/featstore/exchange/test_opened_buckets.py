"""Stores that are opened in a bucket, the cache of their shards, and places that are no place for a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore import Store, extract
from cer_fusion.featstore.errors import (
    BucketError,
    DamagedShardError,
    FeatstoreError,
    FormatError,
)
from cer_fusion.featstore.exchange import bucket as module
from cer_fusion.featstore.exchange.bucket import Bucket
from cer_fusion.featstore.exchange.cached import cached_stores
from cer_fusion.featstore.exchange.pushing import plan_pull, plan_push
from tests.featstore.conftest import ToyEmbedder
from tests.featstore.exchange.conftest import half_pushed, put, same_rows, shards_in

pytest.importorskip("obstore", reason="no bucket without obstore: pip install 'cer-fusion[cloud]'")


def test_opening_a_store_in_a_bucket_fetches_shards_when_they_are_read(filled, place, tmp_path, caplog):
    put(filled, place.url)
    cache = tmp_path / "cache"
    opened = Store.open(place.url, cache=cache)
    assert opened.datasets() == ["d"]
    assert [feature.name for feature in opened.features()] == ["other", "toy"]
    assert shards_in(cache) == set()
    same_rows(filled, opened, ["toy"])
    assert str(opened.path) in caplog.text
    assert {name.partition("@")[0] for name in shards_in(cache)} == {"toy"}
    caplog.clear()
    again = Store.open(place.url, cache=cache)
    np.testing.assert_array_equal(again.view(["toy"], mapped=True).join(), filled.view(["toy"]).join())
    assert "fetching" not in caplog.text
    [kept] = cached_stores(cache)
    assert (kept.url, kept.shards, kept.folder) == (place.url, 4, opened.path)


def test_a_store_opened_from_a_bucket_is_not_written_to(filled, in_folder, tmp_path, make_manifest):
    put(filled, in_folder.url)
    opened = Store.open(in_folder.url, cache=tmp_path / "cache")
    with pytest.raises(FeatstoreError, match="nothing is written to it"):
        opened.use_manifest("d", make_manifest(30))
    with pytest.raises(FeatstoreError, match="nothing is written to it"):
        extract(ToyEmbedder(), make_manifest(30), opened, dataset="new")


def test_an_opened_store_sees_what_was_pushed_since_when_it_is_opened_again(filled, in_folder, tmp_path, make_manifest):
    put(filled, in_folder.url)
    cache = tmp_path / "cache"
    old = Store.open(in_folder.url, cache=cache)
    old.view(["toy"])
    extract(ToyEmbedder(), make_manifest(45), filled, dataset="d", shard_rows=8)
    put(filled, in_folder.url)
    same_rows(filled, Store.open(in_folder.url, cache=cache), ["toy"])


def test_a_damaged_shard_in_the_cache_is_never_handed_out(filled, in_folder, tmp_path):
    put(filled, in_folder.url)
    cache = tmp_path / "cache"
    Store.open(in_folder.url, cache=cache).view(["toy"])
    path = next(cache.rglob("toy@*/shard-*.h5"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    same_rows(filled, Store.open(in_folder.url, cache=cache), ["toy"])
    assert path.read_bytes() == whole
    header = Store.open(in_folder.url, cache=cache).feature("toy").headers()[0]
    at = header.segments["blocks/left"].offset
    header.path.write_bytes(header.path.read_bytes()[:at] + b"\xff" + header.path.read_bytes()[at + 1 :])
    with pytest.raises(DamagedShardError):
        Store.open(in_folder.url, cache=cache).view(["toy"])


def test_the_cache_is_where_it_is_said_to_be(filled, in_folder, tmp_path, monkeypatch):
    put(filled, in_folder.url)
    monkeypatch.setenv("CER_CACHE", str(tmp_path / "named"))
    assert Store.open(in_folder.url).path.parent == tmp_path / "named"
    monkeypatch.delenv("CER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert Store.open(in_folder.url).path.is_relative_to(tmp_path / "xdg" / "cer-fusion")
    assert Store.open(filled.path).path == filled.path


def test_a_shard_that_a_power_cut_tore_is_not_named_by_a_document(filled, in_folder, monkeypatch):
    half_pushed(filled, in_folder.url, monkeypatch)
    name = in_folder.find("shard-")
    in_folder.overwrite(name, bytes(len(in_folder.get(name))))
    with pytest.raises(DamagedShardError, match=f"{name} is not what was pushed"):
        plan_push(filled, in_folder.url)
    in_folder.remove(name)
    assert plan_push(filled, in_folder.url).shards == 1


def test_a_push_to_a_folder_waits_for_the_disk(filled, in_folder, monkeypatch):
    synced: list[Path] = []
    monkeypatch.setattr("cer_fusion.kit.files.sync_file", lambda path: synced.append(path))
    put(filled, in_folder.url)
    assert {str(path.relative_to(in_folder.folder)) for path in synced} == set(in_folder.names())


def test_a_place_that_replaces_what_is_only_to_be_made_is_no_place_for_a_store(
    filled, in_folder, tmp_path, monkeypatch
):
    """As servers do that ignore the condition."""
    real = module.importlib.import_module("obstore").put
    monkeypatch.setattr("obstore.put", lambda *args, mode, **options: real(*args, **options))
    with pytest.raises(BucketError, match="ignores If-None-Match"):
        put(filled, in_folder.url)
    with pytest.raises(FormatError, match="half pushed"):
        plan_pull(tmp_path / "other", in_folder.url)


def test_a_url_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for make in (Store, Store.create):
        with pytest.raises(FormatError, match=r"is a bucket, and no folder: read it with Store.open"):
            make("s3://bucket/faces")
    assert not list(tmp_path.iterdir())


def test_without_obstore_it_is_said_what_to_install(monkeypatch):
    from cer_fusion.kit.errors import MissingExtraError

    def none(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(module.importlib, "import_module", none)
    with pytest.raises(MissingExtraError, match=r"pip install 'cer-fusion\[cloud\]'"):
        Bucket("s3://bucket/faces")
