"""P13: rows meet their samples by id, never by position, however ids look and in whatever order they come."""

from __future__ import annotations

import dataclasses
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from cer_fusion.featstore import FeatstoreError, Manifest, Store, View, extract, import_rows
from cer_fusion.featstore.errors import IncompleteError, ManifestError
from tests.featstore.conftest import ToyEmbedder
from tests.reliability.samples import listed

NFC, NFD = "größe", unicodedata.normalize("NFD", "größe")
LOOKALIKES = (
    NFC, NFD, NFC.upper(), "A", "a", "А", "1", "01", "1.0", "１", "s 1", "s  1", "s/1", "s\\1", "./s/1", "s.png",
    "S.PNG", "😀", "😁", "ﬁ", "fi", "ſ", "s", "ß", "ss", "İ", "i", "é", "e\u0301", "nan", "None", "null", "-1", "+1",
    "1e3", "1000", "=1+1", "#1", "a,b", 'a"b', "'a'", "`a`", "a;b", "%s", "{0}", "*", "?", "..", "~", "x" * 5000,
    "y" * 4999 + "z",
)  # fmt: skip
"""Ids that some program, somewhere, takes for one another; each is its own sample here."""


def test_any_order_of_samples_gives_the_same_rows_by_id(tmp_path, scaled, figure):
    """Two features of one dataset, each embedded in an order of its own, read under a third."""
    cases, n = scaled(100, 8), 30
    for case in range(cases):
        draw = random.Random(case)
        ids = [*draw.sample(LOOKALIKES, 20), *(f"s{i}" for i in range(2, n - 18))]
        manifest = listed(tmp_path / "pictures", n, ids=ids)
        store = Store.create(tmp_path / f"store{case}")
        for tap in (1, 2):
            extract(
                ToyEmbedder(f"toy{tap}", tap=tap),
                shuffled(manifest, draw),
                store,
                dataset="d",
                shard_rows=draw.randrange(1, 40),
            )
        names = shuffled(manifest, draw)
        outside = np.array([fingered(s.path) for s in names.samples], dtype=np.float32)
        import_rows(outside, names.ids, shuffled(manifest, draw), store, dataset="d", name="hse", blank="keep")
        store.use_manifest("d", shuffled(manifest, draw))
        for mapped in (False, True):
            view = Store(store.path).view(["toy2", "hse", "toy1"], dataset="d", mapped=mapped)
            assert sorted(view.ids) == sorted(ids)
            check_rows(view, manifest)
    figure("P13", f"{cases} random orders of samples with {len(LOOKALIKES)} ids that look alike: 0 rows astray")


def test_dropped_samples_are_listed_or_left_out_when_asked(tmp_path, scaled, figure):
    cases, n = scaled(100, 8), 30
    for case in range(cases):
        draw = random.Random(case)
        ids = [*draw.sample(LOOKALIKES, 20), *(f"s{i}" for i in range(2, n - 18))]
        manifest = listed(tmp_path / "pictures", n, ids=ids)
        store = Store.create(tmp_path / f"store{case}")
        absent = {1: set(draw.sample(ids, draw.randrange(1, 5))), 2: set(draw.sample(ids, draw.randrange(5)))}
        for tap, gone in absent.items():
            kept = shuffled(manifest, draw).keep([True] * n)
            extract(
                ToyEmbedder(f"toy{tap}", tap=tap),
                kept.keep(i not in gone for i in kept.ids),
                store,
                dataset="d",
                shard_rows=7,
            )
        store.use_manifest("d", shuffled(manifest, draw))
        with pytest.raises(IncompleteError, match=f"{len(absent[1])} of {n} samples have no row in 'toy1@") as caught:
            store.view(["toy1", "toy2"], dataset="d")
        listed_first = [i for i in store.manifest("d").ids if i in absent[1]][:3]
        assert ", ".join(listed_first) in str(caught.value)
        view = store.view(["toy1", "toy2"], dataset="d", missing="drop")
        assert set(view.ids) == set(ids) - absent[1] - absent[2]
        check_rows(view, manifest)
    figure("P13", f"{cases} random sets of samples without rows: each an error that lists them; left out only by name")


@pytest.mark.parametrize(
    ("stored", "asked"),
    [(NFC, NFD), (NFD, NFC), ("A", "a"), ("1", "01"), ("s/1", "s\\1"), ("fi", "ﬁ"), ("x" * 5000, "x" * 4999)],
    ids=["NFC-NFD", "NFD-NFC", "case", "zero", "slash", "ligature", "long"],
)
def test_an_id_that_only_looks_like_another_has_no_row(tmp_path, stored, asked):
    manifest = listed(tmp_path / "pictures", 3, ids=["b", stored, "c"])
    store = Store.create(tmp_path / "store")
    extract(ToyEmbedder(), manifest, store, dataset="d")
    renamed = listed(tmp_path / "pictures", 3, ids=["b", asked, "c"])
    store.use_manifest("d", renamed)
    with pytest.raises(IncompleteError, match="1 of 3 samples have no row") as caught:
        store.view(["toy"])
    assert asked in str(caught.value)
    with pytest.raises(ManifestError, match="1 of 3 names are no sample_id") as caught:
        import_rows(np.eye(3, dtype=np.float32), ["c", stored, "b"], renamed, store, dataset="d", name="hse")
    assert stored in str(caught.value)


@pytest.mark.parametrize(
    "odd", ["a ", " a", "a\t", "a\n", "a\0", "a\u2028", "a\u200db", "a\u200e", "a\ud800", ""], ids=ascii
)
def test_an_id_that_no_file_could_bring_back_is_refused_before_anything_is_written(tmp_path, odd):
    """Blanks at the ends are stripped when a manifest is read, and control characters show nowhere."""
    store = Store.create(tmp_path / "store")
    with pytest.raises(FeatstoreError, match="sample 1: sample_id"):
        extract(ToyEmbedder(), listed(tmp_path / "pictures", 3, ids=["a", odd, "c"]), store, dataset="d")
    assert store.datasets() == []


def shuffled(manifest: Manifest, draw: random.Random) -> Manifest:
    """The same samples in another order."""
    return dataclasses.replace(manifest, samples=tuple(draw.sample(manifest.samples, len(manifest))))


def fingered(path: str) -> list[float]:
    """Two numbers that tell a picture from all others."""
    number = int(Path(path).stem)
    return [number, -number]


def check_rows(view: View, manifest: Manifest) -> None:
    """Each row of each block is the one of its sample's own picture, and so are label, split and group."""
    samples = {sample.sample_id: sample for sample in manifest.samples}
    toy = ToyEmbedder()
    for i, sample_id in enumerate(view.ids):
        sample = samples[sample_id]
        assert (view.classes[view.y[i]], view.splits[i], view.groups[i]) == (sample.label, sample.split, sample.group)
        row = toy.embed(toy.decode((manifest.root / sample.path).read_bytes())[None])
        expected = {"left": row["left"][0], "right": row["right"][0], "hse": fingered(sample.path)}
        for name, block in view.blocks.items():
            np.testing.assert_array_equal(block[i], expected[name.rpartition(".")[2]])
