from __future__ import annotations

import numpy as np
import pytest

from featstore import extract, verify

from .conftest import ToyEmbedder


@pytest.fixture
def filled(store, make_manifest):
    extract(ToyEmbedder(), make_manifest(30), store, dataset="d", shard_rows=8)
    return store


def test_an_intact_store_has_no_problems(filled):
    report = verify(filled, images=True)
    assert (report.shards, report.rows, report.pictures, report.problems) == (4, 30, 30, ())


def test_any_flipped_byte_of_a_shard_is_found(filled):
    shard = filled.feature("toy").shard_paths()[2]
    whole = shard.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(whole), size=60):
        spoilt = bytearray(whole)
        spoilt[place] ^= 0x10
        shard.write_bytes(spoilt)
        assert [p.shard for p in verify(filled).problems] == [shard]


def test_repair_sets_a_damaged_shard_aside_and_extract_brings_its_rows_back(filled, make_manifest):
    before = filled.view(["toy"]).join()
    shard = filled.feature("toy").shard_paths()[1]
    shard.write_bytes(shard.read_bytes()[:-2000])
    assert verify(filled, repair=True).set_aside == (shard.with_name(f"damaged-{shard.name}"),)
    assert extract(ToyEmbedder(), make_manifest(30), filled, dataset="d", shard_rows=8).embedded == 8
    np.testing.assert_array_equal(filled.view(["toy"]).join(), before)
    assert shard.exists()


def test_a_changed_or_missing_picture_is_found(filled):
    root = filled.manifest("d").root
    data = bytearray((root / "5.png").read_bytes())
    data[3] ^= 1
    (root / "5.png").write_bytes(data)
    (root / "6.png").unlink()
    found = [p.what for p in verify(filled, images=True).problems]
    assert len(found) == 2
    assert "s0005: its bytes changed" in found[0]
    assert "s0006: picture missing" in found[1]


def test_pictures_that_could_not_be_compared_are_said_so(filled):
    shard = filled.feature("toy").shard_paths()[1]
    shard.write_bytes(b"cer-shard 1 rubbish")
    problems = verify(filled, images=True).problems
    assert any("pictures were not compared" in p.what for p in problems)
    assert "pictures were not compared" not in str(verify(filled, images=True, repair=True).problems)


def test_files_that_are_not_the_stores_are_named(filled):
    folder = filled.feature("toy").folder
    (folder / ".tmp-123").write_bytes(b"")
    (folder / "notes.txt").write_text("mine")
    assert {p.what.split(";")[0] for p in verify(filled).problems} == {
        "what a killed run left",
        "not a file of the store",
    }


def test_a_shard_of_another_feature_is_found(filled, make_manifest):
    extract(ToyEmbedder("other", tap=2), make_manifest(30), filled, dataset="d")
    theirs = filled.feature("other").shard_paths()[0]
    (filled.feature("toy").folder / theirs.name).write_bytes(theirs.read_bytes())
    assert any("belongs to another feature" in p.what for p in verify(filled).problems)
