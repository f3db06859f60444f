"""Large manifests in a store: a part reads its own samples, and only what was sealed is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore import Manifest, Sample, Store, class_set, extract
from cer_fusion.featstore.errors import FormatError, ManifestError
from cer_fusion.featstore.extraction.plan import deal, deal_part, positions_of
from cer_fusion.featstore.manifests import manifest as manifests
from cer_fusion.featstore.manifests import sidecar as sidecars
from cer_fusion.featstore.manifests.class_sets import custom
from cer_fusion.featstore.manifests.manifest import SealedManifest
from cer_fusion.featstore.rows.keys import keys_of
from tests.featstore.conftest import ToyEmbedder


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(manifests, "BLOCK_ROWS", 8)
    monkeypatch.setattr(sidecars, "BLOCK_ROWS", 8)


def listed(root: Path, n: int = 50) -> Manifest:
    """Samples whose cells have what CSV must quote."""
    labels, groups = ("Sadly Angry", ""), ("", "a, b", 'said "so"')
    samples = [
        Sample(f'é"{i}', f"a, b/{i}.png", labels[i % 2], "train" if i % 3 else "", groups[i % 3]) for i in range(n)
    ]
    return Manifest(samples=samples, classes=class_set("abaw7"), root=root)


def pictured(folder: Path, n: int = 50) -> Manifest:
    """The same with a picture each."""
    manifest = listed(folder / "pictures", n)
    (folder / "pictures/a, b").mkdir(parents=True)
    for i, sample in enumerate(manifest.samples):
        (manifest.root / sample.path).write_bytes(b"x" * (i + 1))
    return manifest


def sealed_of(folder: Path, manifest: Manifest) -> tuple[Store, SealedManifest]:
    store = Store.create(folder / "store")
    store.use_manifest("d", manifest)
    sealed = store.sealed_manifest("d")
    assert sealed is not None
    return store, sealed


@pytest.mark.parametrize("n", [9, 16, 17, 50])
@pytest.mark.parametrize("parts", [1, 3, 40])
def test_the_parts_of_a_sealed_manifest_are_those_of_the_whole(tmp_path, n, parts):
    whole = listed(tmp_path, n)
    _, sealed = sealed_of(tmp_path, whole)
    assert len(sealed) == n
    assert sealed.ids_digest == whole.ids_digest
    seen = []
    for k in range(parts):
        at = positions_of(n, 3, (k, parts))
        assert at.tolist() == [i for i in range(n) if i // 3 % parts == k]
        if len(at):
            assert list(sealed.rows(at).samples) == [whole.samples[i] for i in at]
        expected = [(number, [*where]) for number, where in deal(n, 3) if number % parts == k]
        assert [
            (number, at[where.start : where.stop].tolist()) for number, where in deal_part(len(at), 3, (k, parts))
        ] == expected
        seen += at.tolist()
    assert sorted(seen) == [*range(n)]


def test_only_the_blocks_that_a_part_stands_in_are_read(tmp_path):
    whole = listed(tmp_path)
    _, sealed = sealed_of(tmp_path, whole)
    data = bytearray(sealed.path.read_bytes())
    data[sealed.blocks.starts[3] + 2] ^= 1  # the fourth block is damaged
    sealed.path.write_bytes(data)
    assert sealed.rows(np.array([0, 17, 49])).ids == tuple(whole.ids[i] for i in (0, 17, 49))
    with pytest.raises(FormatError, match="samples 24 to 31 have not the digest"):
        sealed.rows(np.array([0, 30]))


def test_a_small_manifest_is_sealed_as_before(tmp_path):
    store = Store.create(tmp_path / "store")
    store.use_manifest("d", listed(tmp_path, 8))
    assert store.sealed_manifest("d") is None
    assert "blocks" not in json.loads((tmp_path / "store/d/manifest.json").read_text())


def test_a_large_manifest_of_an_older_release_is_read_whole_until_it_is_used_again(tmp_path):
    store, sealed = sealed_of(tmp_path, listed(tmp_path))
    older = replace(sealed.sidecar, blocks=None, source="")
    sidecars.files.write_document(sealed.path.with_suffix(".json"), sidecars.FORMAT, 1, older.to_json())
    assert store.sealed_manifest("d") is None
    assert store.manifest("d") == listed(tmp_path)
    before = sealed.path.read_bytes()
    store.use_manifest("d", listed(tmp_path))
    assert store.sealed_manifest("d") is not None
    assert sealed.path.read_bytes() == before


def test_blocks_that_do_not_add_up_are_refused(tmp_path):
    store, sealed = sealed_of(tmp_path, listed(tmp_path))
    body = sealed.sidecar.to_json()
    for key, wrong in (("samples", 3), ("starts", [0]), ("sha256", [1]), ("samples", True)):
        broken = {**body, "blocks": {**body["blocks"], key: wrong}}
        sidecars.files.write_document(sealed.path.with_suffix(".json"), sidecars.FORMAT, 1, broken)
        assert store.sealed_manifest("d") is None
        with pytest.raises(FormatError, match="lacks a field"):
            Store(store.path).manifest("d")


@pytest.mark.parametrize("parts", [1, 4])
def test_extracting_by_parts_of_a_sealed_manifest_gives_the_shards_of_the_whole(tmp_path, parts):
    manifest = pictured(tmp_path)
    store, sealed = sealed_of(tmp_path, manifest)
    extract(ToyEmbedder(), manifest, Store.create(tmp_path / "whole"), dataset="d", shard_rows=3)
    for k in range(parts):
        report = extract(ToyEmbedder(), sealed, store, dataset="d", shard_rows=3, part=(k, parts))
        assert report.embedded == report.samples == len(positions_of(50, 3, (k, parts)))
        again = extract(ToyEmbedder(), sealed, store, dataset="d", shard_rows=3, part=(k, parts))
        assert again.already == again.samples
    names = [sorted(path.name for path in folder.glob("d/*@*/*.h5")) for folder in (store.path, tmp_path / "whole")]
    assert names[0] == names[1] != []


def test_a_part_that_has_no_samples_does_nothing(tmp_path):
    store, sealed = sealed_of(tmp_path, listed(tmp_path, 9))
    assert extract(ToyEmbedder(), sealed, store, dataset="d", shard_rows=9, part=(5, 6)).samples == 0


def test_a_manifest_that_was_changed_since_it_was_opened_is_told(tmp_path):
    store, sealed = sealed_of(tmp_path, listed(tmp_path))
    store.use_manifest("d", listed(tmp_path, 40))
    with pytest.raises(ManifestError, match="was changed since it was opened"):
        extract(ToyEmbedder(), sealed, store, dataset="d")


class TestWhatItWasMadeFrom:
    @pytest.fixture
    def file(self, tmp_path):
        listed(tmp_path / "pictures").write(tmp_path / "faces.csv")
        return tmp_path / "faces.csv"

    def test_the_file_and_the_root_that_it_was_read_with_are_known_again(self, tmp_path, file):
        _, sealed = sealed_of(tmp_path, Manifest.read(file))
        assert sealed.is_made_from(file, None)
        assert sealed.is_made_from(file, tmp_path / "pictures")
        assert not sealed.is_made_from(file, tmp_path)
        assert not sealed.is_made_from(tmp_path / "missing.csv", None)

    def test_a_root_that_was_named_belongs_to_it(self, tmp_path, file):
        _, sealed = sealed_of(tmp_path, Manifest.read(file).at(tmp_path))
        assert sealed.is_made_from(file, tmp_path)
        assert not sealed.is_made_from(file, None)

    def test_an_edited_file_and_edited_classes_are_others(self, tmp_path, file):
        _, sealed = sealed_of(tmp_path, Manifest.read(file))
        beside = file.with_suffix(".json").read_bytes()
        replace(listed(tmp_path / "pictures"), classes=custom(["Sadly Angry"])).write(file)
        assert not sealed.is_made_from(file, None)
        file.with_suffix(".json").write_bytes(beside)
        assert sealed.is_made_from(file, None)
        file.write_text(file.read_text().replace("train", "valid"))
        assert not sealed.is_made_from(file, None)

    def test_what_is_made_of_a_manifest_is_not_made_from_its_file(self, tmp_path, file):
        read = Manifest.read(file)
        assert read.source
        for other in (read.keep([True] * 50), replace(read, classes=class_set("abaw7")), read.rows(np.arange(50))):
            assert not other.source
        assert not Manifest.read(file, forget_splits=True).source

    def test_a_store_that_was_made_from_one_is_noted_anew_where_nothing_else_changes(self, tmp_path, file):
        store, sealed = sealed_of(tmp_path, replace(Manifest.read(file)))
        assert not sealed.is_made_from(file, None)
        store.use_manifest("d", Manifest.read(file))
        assert store.sealed_manifest("d").is_made_from(file, None)


@pytest.mark.parametrize("quoted", [True, False])
def test_hashes_of_ids_are_read_and_only_of_what_was_sealed(tmp_path, quoted):
    whole = listed(tmp_path)
    if not quoted:
        whole = replace(whole, samples=[Sample(f"é {i}", f"{i * i}.png") for i in range(50)])
    _, sealed = sealed_of(tmp_path, whole)
    for samples in (range(50), range(3, 4), range(7, 41), range(48, 50), range(5, 5)):
        assert np.array_equal(sealed.keys(samples), keys_of(whole.ids[samples.start : samples.stop]))
    data = bytearray(sealed.path.read_bytes())
    data[sealed.blocks.starts[3] + 2] ^= 1
    sealed.path.write_bytes(data)
    assert np.array_equal(sealed.keys(range(24)), keys_of(whole.ids[:24]))
    with pytest.raises(FormatError, match="samples 24 to 31 have not the digest"):
        sealed.keys(range(20, 30))
